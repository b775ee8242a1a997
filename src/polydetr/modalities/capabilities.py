"""What some modalities can do beside what all can: asked for with ``isinstance``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from polydetr.config.sections import Config
from polydetr.core.records import Row
from polydetr.schema.spec import FieldSpec


@runtime_checkable
class ReadsFiles(Protocol):
    """Rows may merely name what is read."""

    @property
    def reads_files(self) -> bool:
        """Whether this one does: its rows are then worth encoding ahead, in worker threads."""
        ...

    def content_key(self, rows: Sequence[Row], *, folder: Path | None) -> str:
        """Changes whenever files that the rows name were changed: part of the key of the cache on disk."""
        ...


@runtime_checkable
class HoldsItems(Protocol):
    """Inside its values stand rows of their own (a history's items), which other modalities read."""

    @classmethod
    def items(
        cls, fields: Sequence[FieldSpec], rows: Sequence[Row], config: Config
    ) -> tuple[list[FieldSpec], list[Row]]:
        """The columns of those rows that other modalities read, and the rows."""
        ...
