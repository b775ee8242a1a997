"""What every modality answers: how a raw value becomes tokens, and the module that embeds them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from polydetr.batch import Arrays
from polydetr.layout import FieldText, Layout, Row


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
    warnings: Sequence[str] = field(default_factory=tuple)


class Modality(ABC):
    """One file each. ``fields`` are the columns it reads, in order; together they make one token group, ``name``."""

    name: ClassVar[str]

    def __init__(self, fields: Sequence[str]) -> None:
        self.fields = tuple(fields)

    @abstractmethod
    def encode(self, rows: Sequence[Row]) -> EncodedGroup:
        """The tokens of one document (one row, or neighbouring rows that give one another context).

        Raises:
            RowError: a value cannot be read as this modality.
        """

    @abstractmethod
    def build_embedder(self, embed_dim: int | None) -> nn.Module:
        """A module from TokenGroup to (B, L, embed_dim), with random weights; it tells its width as ``embed_dim``."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """All that ``from_state`` needs, as JSON; larger parts are written by ``save_files``."""

    @classmethod
    @abstractmethod
    def from_state(cls, state: Mapping[str, Any], folder: Path) -> Modality:
        """The inverse of ``state`` and ``save_files``."""

    def fingerprint(self) -> str:
        """Changes whenever ``encode`` could give other tokens: part of the key of the cache on disk."""
        return ""

    def save_files(self, folder: Path) -> None:  # noqa: B027 - most modalities have none
        """Writes what does not fit in JSON beside the model."""

    @property
    def is_pretrained(self) -> bool:
        """True where the embedder already attends over its tokens with pretrained weights."""
        return False

    def pretrained(self) -> Mapping[str, Any] | None:
        """Pretrained weights for the embedder by parameter name, or None."""
        return None
