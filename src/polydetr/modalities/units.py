"""The units of explanations in each modality (words, cells of images, columns, items): how scores of tokens become
scores of units, and the row without some units.

Shapes: W windows, K numbers per row of one modality (the vectors at which it enters the network, concatenated), U
units.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from polydetr.core.access import FileAccess
from polydetr.core.documents import Window
from polydetr.core.examples import Arrays
from polydetr.core.records import Row
from polydetr.values.framing import Fit

Scores = NDArray[np.float64]
UnitKind = Literal["words", "cells", "columns", "items"]


class Part(ABC):
    """One modality's part of one row; the modality is missing in none of the windows."""

    group: ClassVar[str]
    """The modality's name."""
    kind: ClassVar[UnitKind]
    """The name of its units in sentences that count them (``deletion_verdict``)."""
    columns: tuple[str, ...]
    """The column of every unit."""

    def __len__(self) -> int:
        return len(self.columns)

    @abstractmethod
    def blank(self, arrays: Arrays, window: int) -> Mapping[str, np.ndarray]:
        """The arrays of one window with every unit blanked."""

    def scores(self, of_vectors: Scores) -> Scores:
        """(W, K) → (U,): the sum over each unit's vectors, in all windows; here of units with equally many numbers."""
        return of_vectors.reshape(len(of_vectors), len(self), -1).sum((0, 2))

    @abstractmethod
    def without(self, row: Row, deleted: Collection[int]) -> dict[str, Any]:
        """The row with the units ``deleted`` deleted; all others stay what they were."""

    @property
    def present(self) -> Sequence[int]:
        """The units that the model has read: a missing value is none of them."""
        return range(len(self))

    @property
    def probes(self) -> Sequence[set[int]]:
        """Sets of units that occlusion deletes together."""
        return [{unit} for unit in self.present]

    def shown(self, value: Any) -> str:
        """A column's value, as text."""
        return shown_value(value)


@runtime_checkable
class HasUnits(Protocol):
    """A modality whose part of a row can be explained."""

    def units(self, row: Row, windows: Sequence[Window]) -> Part:
        """The units of a row that was encoded as these windows."""
        ...


# -- what some parts offer beside their scores
# --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """A word: characters ``start`` to ``end`` of column ``field``; ``index`` counts the words of that column;
    ``before``: the characters between the word before it and itself.
    """

    field: str
    index: int
    start: int
    end: int
    text: str
    before: str = ""


@dataclass(frozen=True)
class TokenWords:
    """Which words the tokens of one window stand for: token[i] stands for word[i] with share[i]; a token's shares sum
    to 1.

    special: (L,) True for [CLS] and [SEP], which stand for no text; margin: word → distance of its first token to the
    nearer artificial edge of the window, in tokens.
    """

    token: NDArray[np.int64]
    word: NDArray[np.int64]
    share: NDArray[np.float64]
    special: NDArray[np.bool_]
    margin: Mapping[int, int]


@runtime_checkable
class ReadsWords(Protocol):
    """Its units are the words of texts, into which answers may point."""

    group: ClassVar[str]
    windows: Sequence[TokenWords]

    def __len__(self) -> int: ...

    @property
    def places(self) -> Sequence[Place]:
        """The word of each unit."""
        ...

    def number(self, index: int) -> int:
        """The unit that is word ``index`` of the windowed (last) column."""
        ...


@runtime_checkable
class ShowsImages(Protocol):
    """Its units are the cells of images, image after image, each row by row."""

    owners: Sequence[str]
    """The column of every image."""
    indices: Sequence[int]
    """The place of every image in its column."""
    side: int
    """Cells per side."""
    fit: Fit

    def image(self, row: Row, number: int, *, access: FileAccess) -> NDArray[np.uint8]:
        """(h, w, 3): the part of an image that the model reads, to be shown."""
        ...


@runtime_checkable
class ShowsItems(Protocol):
    """Its units are the items of lists."""

    indices: Sequence[int]
    """The place of every item in its list."""

    def item(self, row: Row, unit: int) -> str:
        """An item, as text."""
        ...


_DIGITS = 10


def shown_value(value: Any) -> str:
    """A cell, as text; a fraction of many digits is rounded."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return " ".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, (float, np.floating)) and len(str(value)) > _DIGITS else str(value)


def shown_count(count: int, name: str) -> str:
    return name if count == 1 else f"{count} {name}s"
