"""Answers as the rows of a table: the user's own columns as they were read, and the answers beside them.

For a target T the columns are called ``predicted_T``, ``T_confidence`` and as its task adds (``Task.answer_columns``);
``T_abstained`` where answers are withheld; at the end ``warnings`` and ``error``. The user's columns keep their names,
one called T among them: where a name is taken, the answers' column has ``_2`` after it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from polydetr.core.predictions import Prediction, is_withheld
from polydetr.core.tables import AnswerColumn, TableColumn, distinct_names
from polydetr.engine.outputs import Answer
from polydetr.tasks.base import Task
from polydetr.tasks.capabilities import WritesFiles


class AnswerTable:
    """What the answers of these tasks fill of a table.

    probabilities: also a column per class. withheld: the targets whose answers may be withheld. files: the folder for
    answers that are files.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        *,
        probabilities: bool = False,
        withheld: Collection[str] = (),
        files: Path | None = None,
    ) -> None:
        self._files = files
        self._columns: list[tuple[str, AnswerColumn]] = []
        self._writing = [target for target, task in tasks.items() if isinstance(task, WritesFiles)]
        for target, task in tasks.items():
            own = task.answer_columns(probabilities=probabilities)
            if target in withheld:
                own.insert(2, AnswerColumn(f"{target}_abstained", "truth", _is_withheld))
            self._columns += [(target, column) for column in own]

    def columns(self, own: Collection[str]) -> list[TableColumn]:
        """All columns, in their order; own: the user's."""
        wanted = self._wanted
        names = distinct_names([column.name for column in wanted], list(own))
        return [*map(TableColumn, own), *(replace(c, name=name) for c, name in zip(wanted, names, strict=True))]

    def renamed(self, own: Collection[str]) -> dict[str, str]:
        """Columns of the answers whose name the user's have already → what they are called instead."""
        wanted = [column.name for column in self._wanted]
        return {old: new for old, new in zip(wanted, distinct_names(wanted, list(own)), strict=True) if old in own}

    def cells(self, answer: Answer) -> list[Any]:
        """Those beside the user's own, all empty but the error where the row was rejected.

        Raises:
            SaveError: a file of the answer cannot be written.
        """
        if answer.error is not None:
            return [*[None] * (len(self._columns) + 1), str(answer.error)]
        predictions = dict(answer.predictions)
        if self._writing:
            values = answer.json_values(files=self._files)
            predictions |= {target: replace(predictions[target], value=values[target]) for target in self._writing}
        found = [column.cell(predictions[target]) for target, column in self._columns]
        return [*found, "; ".join(map(str, answer.warnings)) or None, None]

    @property
    def _wanted(self) -> list[TableColumn]:
        """Those of the answers, as they are called where no name is taken."""
        own = [TableColumn(column.name, column.kind) for _, column in self._columns]
        return [*own, TableColumn("warnings", "text"), TableColumn("error", "text")]


def own_row(answer: Answer) -> Mapping[str, Any]:
    """The user's row as it was read; of one that could not even be read, what names it."""
    record = answer.record
    return answer.about if record is None else record.row if record.read is None else record.read


def _is_withheld(prediction: Prediction) -> bool:
    """Whether the answer is, or one in its list."""
    return prediction.abstained or any(map(is_withheld, prediction.items))
