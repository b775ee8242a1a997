"""A model as a service answers by it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from polydetr.core.access import NOWHERE
from polydetr.core.predictions import Evaluation
from polydetr.core.reading import ReadOptions
from polydetr.core.records import ReadReport, Record
from polydetr.engine.encode import Strictness
from polydetr.engine.engine import Engine
from polydetr.engine.inputs import with_targets
from polydetr.engine.mistakes import OnMistake
from polydetr.inference.measuring import evaluated
from polydetr.inference.model import LoadedModel


class ServiceModel(LoadedModel):
    """Gives its engine to whoever takes the three steps apart (``engine.engine``): a service computes rows of many
    requests together.
    """

    @property
    def engine(self) -> Engine:
        return self._engine

    def sent_records(self, rows: Sequence[Any], *, strictness: Strictness, report: ReadReport) -> Iterator[Record]:
        """Rows that someone else sent, as ``answer`` reads rows in memory, but that no file is opened on their word.
        One that cannot be read is rejected into ``report``.

        Raises:
            SchemaError: a column that the model reads is in none of the rows.
        """
        reading = ReadOptions(on_error="skip")
        return self._records(rows, reading, strictness=strictness, report=report, access=NOWHERE)

    def evaluate_sent(
        self, rows: Iterable[Any], *, report: ReadReport, told: OnMistake
    ) -> tuple[dict[str, Evaluation], list[str]]:
        """Labeled rows that someone else sent, measured as ``evaluation`` measures those of a file, but that no file is
        opened on their word. One that cannot be read is rejected into ``report``; told: of every mistake. Also a line
        for all that was not measured or is to be doubted.

        Raises:
            SchemaError: a column that the model reads, or every target, is in none of the rows.
        """
        reading = ReadOptions(on_error="skip")
        asked = self._records(rows, reading, report=report, access=NOWHERE, labels=True)
        return evaluated(self._engine, with_targets(asked, self._engine.tasks), report, skip=True, told=told)
