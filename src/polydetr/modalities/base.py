"""What every modality answers: how a raw value becomes tokens. What only some can do: ``modalities.capabilities``."""

from __future__ import annotations

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from polydetr.config import Config
from polydetr.core.documents import EncodedGroup
from polydetr.core.records import Row
from polydetr.schema.spec import FieldSpec

Note = Callable[[str], None]


class Asking(Protocol):
    """What of a task decides how a row is read."""

    per_token: ClassVar[bool]
    reads_maps: ClassVar[bool]
    reads_words: ClassVar[bool]


@dataclass(frozen=True)
class Needs:
    """What a model's tasks ask of its modalities, and what these are to one another.

    by_word: some task answers token by token, so texts are read word by word. words: the tokens say where words begin.
    frames: some task finds places in images: of each row one image is read, with its frame, and its finer maps are
    kept. zoom, mosaic: how such images are shown in training (``embedders.image_scene``). alone: the model reads
    nothing else, so that a row without this says nothing.
    """

    by_word: bool = False
    words: bool = False
    frames: bool = False
    zoom: float = 1.0
    mosaic: float = 0.0
    alone: bool = False

    @classmethod
    def of(cls, tasks: Iterable[Asking], *, zoom: float = 1.0, mosaic: float = 0.0) -> Needs:
        """Of all tasks together; what a row says of a whole image is not true of a mosaic of four."""
        tasks = list(tasks)
        frames = any(task.reads_maps for task in tasks)
        return cls(
            by_word=any(task.per_token for task in tasks),
            words=any(task.reads_words for task in tasks),
            frames=frames,
            zoom=zoom if frames else 1.0,
            mosaic=mosaic if frames and all(task.reads_maps for task in tasks) else 0.0,
        )

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Needs:
        """The inverse of ``dataclasses.asdict``; what is not known is left out."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in state.items() if name in known})


class Modality(ABC):
    """One file each. ``fields`` are the columns it reads, in order; together they make one token group, ``name``."""

    name: ClassVar[str]
    reads: ClassVar[frozenset[str]]
    """The kinds of column, as the schema names them, that it takes."""
    fault: ClassVar[str] = "wrong_type"
    """The kind of ``Finding`` that a value is which cannot be read."""

    def __init__(self, fields: Sequence[str], *, needs: Needs) -> None:
        self.fields, self.needs = tuple(fields), needs

    @classmethod
    @abstractmethod
    def build(
        cls,
        fields: Sequence[FieldSpec],
        rows: Sequence[Row],
        config: Config,
        *,
        needs: Needs,
        others: Mapping[str, Modality],
        folder: Path | None,
        note: Note,
    ) -> Modality:
        """One that has learned its vocabulary, scales and the like from the training rows.

        others: the model's modalities that stand before it, by name. folder: where relative paths in the rows begin.
        note: takes sentences for the user.
        """

    def only(self, fields: Sequence[str]) -> Self:
        """The same modality, which reads these columns alone."""
        return self._twin(fields, self.needs)

    def over(self, fields: Sequence[str]) -> Self:
        """The same modality, read by the same weights, of other columns; where they are missing it gives no tokens, and
        no task points into it.
        """
        return self._twin(fields, Needs())

    def by_itself(self) -> Self:
        """The same modality in a model that reads nothing else."""
        return self._twin(self.fields, dataclasses.replace(self.needs, alone=True))

    def _twin(self, fields: Sequence[str], needs: Needs) -> Self:
        twin = copy.copy(self)
        twin.fields, twin.needs = tuple(fields), needs
        return twin

    @abstractmethod
    def encode(self, rows: Sequence[Row], *, folder: Path | None = None) -> EncodedGroup:
        """The tokens of one document (one row, or neighboring rows that give one another context).

        Missing values are masked, with a finding each. Safe to call from several threads.

        Raises:
            RowError: a value cannot be read as this modality.
        """

    @property
    def tokens_per_entry(self) -> int:
        """How many tokens the model attends over for each entry of the group's arrays."""
        return 1

    @property
    def is_pretrained(self) -> bool:
        """True where the embedder already attends over its tokens with pretrained weights."""
        return False

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """All that ``from_state`` needs, as JSON, "fields" and "needs" among it; larger parts are written by
        ``save_files``.
        """

    @classmethod
    @abstractmethod
    def from_state(cls, state: Mapping[str, Any], folder: Path, *, others: Mapping[str, Modality]) -> Modality:
        """The inverse of ``state`` and ``save_files``; others: see ``build``."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Changes whenever ``encode`` could give other tokens: part of the key of the cache on disk."""

    @abstractmethod
    def save_files(self, folder: Path) -> None:
        """Writes what does not fit in JSON beside the model."""
