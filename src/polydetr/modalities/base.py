"""The interface of modalities: how raw values become tokens. What only some can do stands below, as protocols."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

from polydetr.core.access import IN_MEMORY, FileAccess
from polydetr.core.documents import EncodedGroup
from polydetr.core.records import Row
from polydetr.errors import ConfigError
from polydetr.schema.spec import FieldSpec
from polydetr.tasks.base import Task
from polydetr.tasks.capabilities import FindsInImages, MarksWords
from polydetr.values.cells import is_missing

if TYPE_CHECKING:
    from polydetr.config.sections import Config

PRESENT = "present"
"""What stands for a value that is there, where no more is known of it."""
Notify = Callable[[str], None]
"""Takes a message for the user, one sentence."""


@dataclass(frozen=True)
class Needs:
    """What a model's tasks require of its modalities.

    by_word: some task answers per word, so that texts are tokenized word by word. words: the arrays of a text mark
    where words begin (``word_rows``). frames: some task finds boxes in images, so that one image per row is read, with
    its frame, and its finer maps are kept. zoom: the smallest side at which such images are shown in training, as a
    share of the full one (``embedders.image_scene``). alone: the model reads no other modality, so that a row without a
    value of this one has no input at all.
    """

    by_word: bool = False
    words: bool = False
    frames: bool = False
    zoom: float = 1.0
    alone: bool = False

    @classmethod
    def of(cls, tasks: Mapping[str, Task]) -> Needs:
        """What all tasks together require.

        Raises:
            ConfigError: targets that are found in the same images have different options ``zoom``.
        """
        zooms = {target: task.zoom for target, task in tasks.items() if isinstance(task, FindsInImages)}
        if len(set(zooms.values())) > 1:
            settings = ", ".join(f"tasks.{target}.zoom = {zoom:g}" for target, zoom in zooms.items())
            raise ConfigError(
                f"{settings}: these targets are found in the same training images.", hint="Set one for all."
            )
        return cls(
            by_word=any(task.per_token for task in tasks.values()),
            words=any(isinstance(task, MarksWords) for task in tasks.values()),
            frames=bool(zooms),
            zoom=next(iter(zooms.values()), 1.0),
        )

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Needs:
        """The inverse of ``dataclasses.asdict``; unknown names are left out. Raises ValueError."""
        known = {field.name for field in dataclasses.fields(cls)}
        needs = cls(**{name: value for name, value in state.items() if name in known})
        if not 0 < needs.zoom <= 1:
            raise ValueError(f"zoom = {needs.zoom!r} is no share of a side")
        return needs


@dataclass(frozen=True)
class BuildContext:
    """What ``Modality.build`` learns from, beside the columns.

    rows: the training rows; others: the model's modalities that were built before it, by name; access: where paths
    in the rows begin.
    """

    rows: Sequence[Row]
    config: Config
    needs: Needs = Needs()
    others: Mapping[str, Modality] = field(default_factory=dict)
    notify: Notify = lambda message: None
    access: FileAccess = IN_MEMORY


class Modality(ABC):
    """One kind of input. ``fields`` are the columns it reads, in order; they make one token group, ``name``."""

    name: ClassVar[str]
    reads: ClassVar[frozenset[str]]
    """The kinds of column that it reads, as the schema names them."""
    fault: ClassVar[str] = "wrong_type"
    """The kind of ``Finding`` for a value that cannot be read."""
    paced_in: ClassVar[str] = "tokens"
    """What the pace of a training is counted in, where a model reads nothing else: "tokens", or what its rows are."""
    files: ClassVar[frozenset[str]] = frozenset()
    """Names of what ``save_files`` may write, below the model's folder: what ``from_state`` opens there."""

    def __init__(self, fields: Sequence[str], *, needs: Needs) -> None:
        self.fields, self.needs = tuple(fields), needs

    @classmethod
    @abstractmethod
    def build(cls, fields: Sequence[FieldSpec], context: BuildContext) -> Self:
        """A modality that has learned its vocabulary, scales and the like from the training rows."""

    def only(self, fields: Sequence[str]) -> Self:
        """The same modality, reading only these columns."""
        return self._changed(fields, self.needs)

    def over(self, fields: Sequence[str]) -> Self:
        """The same modality, embedded by the same weights, for other columns; no task has requirements of it, and where
        they are missing it gives no tokens.
        """
        return self._changed(fields, Needs())

    def by_itself(self) -> Self:
        """The same modality in a model that reads nothing else."""
        return self._changed(self.fields, dataclasses.replace(self.needs, alone=True))

    def _changed(self, fields: Sequence[str], needs: Needs) -> Self:
        changed = copy.copy(self)
        changed.fields, changed.needs = tuple(fields), needs
        return changed

    @abstractmethod
    def encode(self, rows: Sequence[Row], *, access: FileAccess = IN_MEMORY) -> EncodedGroup:
        """The tokens of one document (one row, or neighboring rows that give one another context).

        Missing values are masked, with a finding each. access: where relative paths in the rows begin. Safe to call
        from several threads.

        Raises:
            RowError: a value cannot be read as this modality.
        """

    def value_schema(self, column: str) -> dict[str, Any]:
        """JSON schema of what a row may have in this column, as a page or a form shows it; {} for anything."""
        return {}

    def example_value(self, column: str) -> Any:
        """A typical value of this column, from what was learned; none of a training row. None where it is missing."""
        return None

    def measure(self, column: str, value: Any) -> float | str | None:
        """One number or name that stands for a value of this column, by which rows are compared with the training rows
        (``engine.profile``); None where it is missing. Cheap: nothing is opened.

        Raises:
            RowError: the value cannot be read.
        """
        return None if is_missing(value) else PRESENT

    @property
    def tokens_per_entry(self) -> int:
        """How many tokens the model attends over per entry of the group's arrays."""
        return 1

    @property
    def is_pretrained(self) -> bool:
        """True where the embedder already attends over its tokens with pretrained weights."""
        return False

    def state(self) -> dict[str, Any]:
        """All that ``from_state`` needs, as JSON; larger parts are written by ``save_files``. Subclasses add theirs."""
        return {"fields": list(self.fields), "needs": asdict(self.needs)}

    @classmethod
    @abstractmethod
    def from_state(cls, state: Mapping[str, Any], folder: Path, *, others: Mapping[str, Modality]) -> Modality:
        """The inverse of ``state`` and ``save_files``; others: as in ``BuildContext``."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Changes whenever ``encode`` could give other tokens: part of the key of the cache on disk."""

    @abstractmethod
    def save_files(self, folder: Path) -> None:
        """Writes what does not fit in JSON beside the model."""


def digest(*parts: object) -> str:
    """A hash of the parts' representations, the same in every process."""
    return hashlib.sha256(repr(parts).encode(errors="surrogatepass")).hexdigest()


# -- what only some modalities can do ----------------------------------------------------------------------------------


@runtime_checkable
class ReadsFiles(Protocol):
    """The values in its rows may be names of files."""

    @property
    def reads_files(self) -> bool:
        """Whether they are: rows are then encoded ahead, in worker threads."""
        ...

    def content_key(self, rows: Sequence[Row], *, access: FileAccess) -> str:
        """Changes whenever one of the files was changed: part of the key of the cache on disk."""
        ...


@runtime_checkable
class HoldsItems(Protocol):
    """Its values contain rows of their own (a history's items), whose columns other modalities read."""

    @classmethod
    def items(
        cls, fields: Sequence[FieldSpec], rows: Sequence[Row], config: Config
    ) -> tuple[list[FieldSpec], list[Row]]:
        """The columns of the contained rows that other modalities read, and these rows."""
        ...
