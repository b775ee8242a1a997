"""What every modality answers: how a raw value becomes tokens, and the module that embeds them."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import nn

from polydetr.config import Config
from polydetr.core.documents import EncodedGroup
from polydetr.core.records import Row
from polydetr.nn.batch import Scene, TokenGroup
from polydetr.schema.spec import FieldSpec

Note = Callable[[str], None]


class Modality(ABC):
    """One file each. ``fields`` are the columns it reads, in order; together they make one token group, ``name``."""

    name: ClassVar[str]
    reads: ClassVar[frozenset[str]]
    """The kinds of column, as the schema names them, that it takes."""
    slow_to_encode: bool = False
    """Whether rows are worth encoding ahead, in worker threads; ``encode`` must then be safe to call from several."""
    fault: ClassVar[str] = "wrong_type"
    """The kind of ``Finding`` that a value is which cannot be read."""
    alone: bool = True
    """Whether the model reads nothing else, so that a row without it says nothing (set by ``RowEncoder``)."""

    def __init__(self, fields: Sequence[str]) -> None:
        self.fields = tuple(fields)

    @classmethod
    @abstractmethod
    def build(
        cls,
        fields: Sequence[FieldSpec],
        rows: Sequence[Row],
        config: Config,
        *,
        by_word: bool,
        folder: Path | None,
        note: Note,
    ) -> Modality:
        """One that has learned its vocabulary, scales and the like from the training rows.

        by_word: some task answers token by token. folder: where relative paths in the rows begin.
        note: takes sentences for the user.
        """

    @classmethod
    def inner(
        cls, fields: Sequence[FieldSpec], rows: Sequence[Row], config: Config
    ) -> tuple[list[FieldSpec], list[Row]]:
        """Columns and rows that stand inside the values of these columns and that other modalities read (a history's
        items).
        """
        return [], []

    def join(self, others: Mapping[str, Modality]) -> None:  # noqa: B027 - most modalities need none
        """Meets all modalities of the model, itself among them; called before anything is encoded or embedded."""

    def over(self, fields: Sequence[str]) -> Self:
        """The same modality, read by the same weights, of other columns; where they are missing it gives no tokens."""
        twin = copy.copy(self)
        twin.fields, twin.alone = tuple(fields), False
        return twin

    @abstractmethod
    def encode(self, rows: Sequence[Row], *, folder: Path | None = None) -> EncodedGroup:
        """The tokens of one document (one row, or neighbouring rows that give one another context).

        Missing values are masked and told as findings.

        Raises:
            RowError: a value cannot be read as this modality.
        """

    @abstractmethod
    def build_embedder(self, embed_dim: int | None) -> nn.Module:
        """A module from TokenGroup to Embedded, with random weights; it tells its width as ``embed_dim``.

        One with a pretrained backbone also has ``features(group) -> Embedded``, what the backbone makes of the group,
        and starts from ``group.values["features"]`` where that is given; what else it then reads of the group, it names
        in ``read_beside_features``.
        """

    @property
    def tokens_per_entry(self) -> int:
        """How many tokens the model attends over for each entry of the group's arrays."""
        return 1

    def augment(self, group: TokenGroup, generator: torch.Generator) -> TokenGroup:
        """Other values that mean the same; in training alone, anew in every step."""
        return group

    def vary(self, group: TokenGroup, generator: torch.Generator, progress: float) -> tuple[TokenGroup, Scene | None]:
        """As ``augment``, and where images then lie, for targets that move along.

        progress: of the training, 0 … 1.
        """
        return self.augment(group, generator), None

    def mix(
        self, group: TokenGroup, generator: torch.Generator
    ) -> tuple[TokenGroup, torch.Tensor, torch.Tensor] | None:
        """Each example blended with another: the group, who with whom (B,), and each one's own share (B,); None where
        that is not wanted. Training alone, and only where a model reads nothing else: the losses are blended alike.
        """
        return None

    def content_key(self, rows: Sequence[Row], *, folder: Path | None) -> str:
        """Changes whenever files that the rows merely name were changed: part of the key of the cache on disk."""
        return ""

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
