"""What every modality answers: how a raw value becomes tokens. What only some can do: ``modalities.capabilities``."""

from __future__ import annotations

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from polydetr.config.sections import Config
from polydetr.core.documents import EncodedGroup
from polydetr.core.records import Row
from polydetr.errors import ConfigError
from polydetr.schema.spec import FieldSpec
from polydetr.tasks.base import Task
from polydetr.tasks.capabilities import FindsInImages, MarksWords

Note = Callable[[str], None]


@dataclass(frozen=True)
class Needs:
    """What a model's tasks ask of its modalities, and what these are to one another.

    by_word: some task answers token by token, so texts are read word by word. words: the tokens say where words begin.
    frames: some task finds places in images: of each row one image is read, with its frame, and its finer maps are
    kept. zoom: the smallest side at which such images are shown in training (``embedders.image_scene``). alone: the
    model reads nothing else, so that a row without this says nothing.
    """

    by_word: bool = False
    words: bool = False
    frames: bool = False
    zoom: float = 1.0
    alone: bool = False

    @classmethod
    def of(cls, tasks: Mapping[str, Task]) -> Needs:
        """Of all tasks together.

        Raises:
            ConfigError: targets that are found in the same images ask for different ones.
        """
        zooms = {target: task.zoom for target, task in tasks.items() if isinstance(task, FindsInImages)}
        if len(set(zooms.values())) > 1:
            asked = ", ".join(f"tasks.{target}.zoom = {zoom:g}" for target, zoom in zooms.items())
            raise ConfigError(f"{asked}: these targets are found in the same training images.", hint="Set one for all.")
        return cls(
            by_word=any(task.per_token for task in tasks.values()),
            words=any(isinstance(task, MarksWords) for task in tasks.values()),
            frames=bool(zooms),
            zoom=next(iter(zooms.values()), 1.0),
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
