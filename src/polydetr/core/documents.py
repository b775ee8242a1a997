"""Documents, encoded: one modality's windows, and all modalities' joined into examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polydetr.core.examples import Arrays, Example
from polydetr.core.layout import FieldText, Layout
from polydetr.core.records import Finding, Record, Row


@dataclass(frozen=True)
class Window:
    """One modality's tokens of one window: what the model reads, and where they came from (text alone has a layout)."""

    arrays: Arrays
    layout: Layout | None = None


@dataclass(frozen=True)
class EncodedGroup:
    """All windows of one document in one modality. ``texts`` holds one entry a row, for text."""

    windows: Sequence[Window]
    texts: Sequence[FieldText] = ()
    warnings: Sequence[Finding] = ()

    @property
    def is_empty(self) -> bool:
        """True where every value of the document is missing in this modality."""
        return not any(len(next(iter(window.arrays.values()))) for window in self.windows)


@dataclass(frozen=True)
class EncodedDocument:
    """One document, encoded: ``examples[i]`` is window i; ``layouts`` and ``texts`` tell a task where its tokens came
    from.
    """

    records: Sequence[Record]
    examples: Sequence[Example]
    layouts: Sequence[Layout | None]
    texts: Sequence[FieldText]
    warnings: Sequence[Finding]

    @property
    def rows(self) -> list[Row]:
        return [record.row for record in self.records]
