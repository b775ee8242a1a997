"""Documents, encoded: one modality's windows, and all modalities' joined into examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from polydetr.core.examples import Arrays, Example
from polydetr.core.layout import FieldText, Layout
from polydetr.core.records import Finding, Record


@dataclass(frozen=True)
class Window:
    """One modality's tokens of one window: what the model reads, and where they came from (text alone has a layout)."""

    arrays: Arrays
    layout: Layout | None = None


@dataclass(frozen=True)
class EncodedGroup:
    """All windows of one document in one modality. ``texts`` holds one entry per row, for text."""

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
    from. golds: target → each row's label, where it was encoded with its targets.
    """

    records: Sequence[Record]
    examples: Sequence[Example]
    layouts: Sequence[Layout | None]
    texts: Sequence[FieldText]
    warnings: Sequence[Finding]
    golds: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @property
    def num_tokens(self) -> int:
        """What it costs the model, over all windows."""
        return sum(example.num_tokens for example in self.examples)
