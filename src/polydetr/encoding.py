"""The one path from rows to what the model reads. Training, evaluation, prediction, export and serving all call
``RowEncoder.encode``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polydetr.batch import Example
from polydetr.data.records import Record
from polydetr.errors import Location, RowError
from polydetr.layout import FieldText, Layout, Row
from polydetr.modalities.base import Modality
from polydetr.tasks.base import Task, WindowView

MAX_DOCUMENT_ROWS = 64
"""Rows of one document that are read together at most: bounds memory however long the document is."""


@dataclass(frozen=True)
class EncodedDocument:
    """One document, encoded: ``examples[i]`` is window i; ``layouts`` and ``texts`` tell a task where its tokens came
    from.
    """

    records: Sequence[Record]
    examples: Sequence[Example]
    layouts: Sequence[Layout | None]
    texts: Sequence[FieldText]
    warnings: Sequence[str]

    @property
    def rows(self) -> list[Row]:
        return [record.row for record in self.records]


class RowEncoder:
    """Joins the modalities' tokens and the tasks' targets into examples."""

    def __init__(self, modalities: Mapping[str, Modality], tasks: Mapping[str, Task], *, context: bool) -> None:
        self.modalities = dict(modalities)
        self.tasks = dict(tasks)
        one_field = all(len(modality.fields) == 1 for modality in self.modalities.values())
        self.context = context and one_field and all(task.reads_document for task in self.tasks.values())

    def documents(self, records: Iterable[Record]) -> Iterator[list[Record]]:
        """Neighbouring rows of one document together, where tasks profit from it; otherwise each row alone."""
        group: list[Record] = []
        for record in records:
            together = self.context and group and record.document is not None and record.document == group[-1].document
            if group and (not together or len(group) >= MAX_DOCUMENT_ROWS):
                yield group
                group = []
            group.append(record)
        if group:
            yield group

    def encode(self, records: Sequence[Record], *, with_targets: bool) -> EncodedDocument:
        """One document's windows.

        Raises:
            RowError: a value cannot be read; its location names file, row and column.
        """
        try:
            return self._encode(records, with_targets=with_targets)
        except RowError as error:
            if len(records) > 1:  # find out which row it was
                for record in records:
                    self.encode([record], with_targets=with_targets)
            raise _relocate(error, records[0]) from None

    def _encode(self, records: Sequence[Record], *, with_targets: bool) -> EncodedDocument:
        rows = [record.row for record in records]
        groups = {name: modality.encode(rows) for name, modality in self.modalities.items()}
        warnings = [warning for g in groups.values() for warning in g.warnings]
        windowed = next((g for g in groups.values() if g.texts), None)
        count = max(len(g.windows) for g in groups.values())
        texts = windowed.texts if windowed else ()
        golds = self._golds(records, texts, warnings) if with_targets else {}
        examples, layouts = [], []
        for i in range(count):
            windows = {name: g.windows[i if len(g.windows) > 1 else 0] for name, g in groups.items()}
            layout = next((w.layout for w in windows.values() if w.layout is not None), None)
            targets = {t: self.tasks[t].encode_target(WindowView(layout, texts, found)) for t, found in golds.items()}
            examples.append(Example({n: w.arrays for n, w in windows.items()}, targets, weight=1.0 / count))
            layouts.append(layout)
        return EncodedDocument(records, examples, layouts, texts, warnings)

    def _golds(
        self, records: Sequence[Record], texts: Sequence[FieldText], warnings: list[str]
    ) -> dict[str, list[Any]]:
        """Target → every row's label, read once however many windows there are; what cannot be learned is told."""
        golds: dict[str, list[Any]] = {target: [] for target in self.tasks}
        for i, record in enumerate(records):
            for target, task in self.tasks.items():
                gold = task.gold(record.row, texts[i] if texts else None)
                golds[target].append(gold)
                if found := task.problems(gold):
                    where = dataclasses.replace(record.location, column=target)
                    warnings += [f"{where}: {problem}" for problem in found]
        return golds


def _relocate(error: RowError, record: Record) -> RowError:
    """The same error with the file and row that the record came from."""
    inner = error.location or Location()
    if inner.row is not None or inner.line is not None:
        return error
    location = dataclasses.replace(record.location, column=inner.column)
    return RowError(error.message, location=location, hint=error.hint)
