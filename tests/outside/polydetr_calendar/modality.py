"""Days of the week, "Mon Wed Fri": one token per column, of seven zeros and ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from polydetr.core.access import IN_MEMORY, FileAccess
from polydetr.core.documents import EncodedGroup, Window
from polydetr.core.records import Finding, Row
from polydetr.errors import Location, RowError
from polydetr.modalities.base import BuildContext, Modality, Needs
from polydetr.schema.spec import FieldSpec

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


class WeekdaysModality(Modality):
    """Arrays of one row, with C columns that have a value: days float32 (C, 7), column int16 (C,)."""

    name: ClassVar[str] = "weekdays"
    reads: ClassVar[frozenset[str]] = frozenset({"weekdays"})

    @classmethod
    def build(cls, fields: Sequence[FieldSpec], context: BuildContext) -> Self:
        return cls([field.name for field in fields], needs=context.needs)

    def encode(self, rows: Sequence[Row], *, access: FileAccess = IN_MEMORY) -> EncodedGroup:
        days: list[np.ndarray] = []
        columns: list[int] = []
        findings: list[Finding] = []
        for row in rows:
            for number, name in enumerate(self.fields):
                if not row.get(name):
                    findings.append(Finding("missing", name, f"{name!r} is missing"))
                else:
                    days.append(self._days(name, row[name]))
                    columns.append(number)
        arrays = {"days": np.array(days, np.float32).reshape(-1, len(DAYS)), "column": np.array(columns, np.int16)}
        return EncodedGroup([Window(arrays)], (), findings)

    def _days(self, name: str, value: Any) -> np.ndarray:
        named = str(value).split()
        if unknown := [day for day in named if day not in DAYS]:
            hint = f"Expected some of {' '.join(DAYS)}."
            raise RowError(f"{unknown[0]!r:.80} is no day of the week.", location=Location(column=name), hint=hint)
        return np.isin(DAYS, named)

    @classmethod
    def from_state(cls, state: Mapping[str, Any], folder: Path, *, others: Mapping[str, Modality]) -> Self:
        return cls(state["fields"], needs=Needs.from_state(state["needs"]))

    def fingerprint(self) -> str:
        return "weekdays 1"

    def save_files(self, folder: Path) -> None:
        """All is in ``state``."""
