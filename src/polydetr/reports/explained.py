"""The parts of an explanation of a row of several modalities: its columns, images and items, with their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from polydetr.errors import shown
from polydetr.values.framing import Fit

HARDLY = 0.1
"""A column of a smaller share hardly matters."""
_MOST = 0.8  # of the answer rests on the columns that are named first
_NAMED = 6  # columns that hardly matter; of more, some are counted
_NOISE = 0.02  # a smaller change of a probability is taken for none


@dataclass(frozen=True, slots=True)
class ExplainedColumn:
    """How much one column of the row speaks for (+) or against (-) the answer.

    value: the cell's content as text; score: the sum over all its words, image cells or items; share: |score| over the
    sum of all columns' |score|; without: the probability of the same answer where the column is missing (for a number:
    the number answered then), None where the model cannot read a row without it.
    """

    column: str
    modality: str
    value: str
    score: float
    share: float
    without: float | None = None

    @property
    def name(self) -> str:
        """The column's name as it is shown to people."""
        return shown(self.column, 60)


@dataclass(frozen=True, slots=True, eq=False)
class ExplainedImage:
    """One image: ``heat`` (H, W) holds the score of each of its cells, in the explained number's unit, the first row
    on top; ``pixels`` uint8 (h, w, 3) is the part of it that the model reads, as ``fit`` says (``values.framing``).
    ``index`` counts the column's images.

    Where the answer is an object: its ``box`` (left, top, right, bottom, as shares of the image), and ``gaze`` (G, G),
    the attention of the object's query over the image.
    """

    column: str
    index: int
    heat: NDArray[np.float64]
    pixels: NDArray[np.uint8]
    box: tuple[float, float, float, float] | None = None
    gaze: NDArray[np.float64] | None = None
    fit: Fit = "stretch"

    @property
    def score(self) -> float:
        return float(self.heat.sum())

    @property
    def place(self) -> str:
        """Where the cells lie that carry at least half as much as the strongest, in words; "nowhere" where every score
        is zero.
        """
        size = np.abs(self.heat)
        size = np.where(size >= 0.5 * size.max(), size, 0.0)
        if not size.any():
            return "nowhere"
        marginals = (size.sum(1), size.sum(0))
        rows, columns = (np.average((np.arange(len(m)) + 0.5) / len(m), weights=m) for m in marginals)
        vertical = "top" if rows < 0.4 else "bottom" if rows > 0.6 else ""
        side = "left" if columns < 0.4 else "right" if columns > 0.6 else ""
        return " ".join(filter(None, (vertical, side))) or "middle"

    @property
    def gaze_inside(self) -> float | None:
        """The share of the gaze in cells whose centers lie in the box; None where there is no box."""
        if self.box is None or self.gaze is None:
            return None
        left, top, right, bottom = self.box
        y, x = ((np.arange(size) + 0.5) / size for size in self.gaze.shape)
        inside = ((y >= top) & (y <= bottom))[:, None] & ((x >= left) & (x <= right))
        return float(self.gaze[inside].sum() / (self.gaze.sum() or 1.0))


@dataclass(frozen=True, slots=True)
class ExplainedItem:
    """One item of a history; ``index`` is its place in the list, from 0."""

    column: str
    index: int
    text: str
    score: float


@dataclass(frozen=True)
class Sources:
    """The scores behind an answer, by modality and by column.

    original: the probability of the answer for the whole row (for a number: the number); measure: what that is called,
    "probability", "score" or "similarity"; "likelihood" for a number.
    modalities, without, attention: by modality, its share, the answer without it, and its share of the attention
    (empty where that is not known). images, items: what there is to show of them.
    """

    columns: Sequence[ExplainedColumn]
    modalities: Mapping[str, float]
    original: float
    without: Mapping[str, float | None]
    measure: str = "probability"
    attention: Mapping[str, float] = field(default_factory=dict)
    images: Sequence[ExplainedImage] = ()
    items: Sequence[ExplainedItem] = ()

    @property
    def is_value(self) -> bool:
        """Whether the answer is a number."""
        return self.measure == "likelihood"

    @property
    def ranked(self) -> list[ExplainedColumn]:
        """The columns, the largest share first."""
        return sorted(self.columns, key=lambda c: -c.share)

    def fade(self, *, column: str | None = None, modality: str | None = None) -> float:
        """How strongly the parts of a column, or of a modality, are to be colored, 0 to 1: the strongest word of a
        text that hardly matters must not look as if it did.
        """
        shares = (c.share for c in self.columns if column in (None, c.column) and modality in (None, c.modality))
        return min(1.0, sum(shares) / HARDLY)

    def strength(self, image: ExplainedImage) -> NDArray[np.float64]:
        """The heat map in [-1, 1], by the strongest cell of all images of its column."""
        largest = max(float(np.abs(other.heat).max()) for other in self.images if other.column == image.column)
        return image.heat / (largest or 1.0) * self.fade(column=image.column)

    def shown(self, level: float | None) -> str:
        """A probability, or a number answered, as text."""
        if level is None:
            return "—"
        return f"{level:.4g}" if self.is_value else shown_level(level, measure=self.measure)

    @property
    def statement(self) -> str:
        """In sentences: which columns carry the answer, what it is without them, and which hardly matter."""
        ranked = self.ranked
        if len(ranked) == 1:
            return f"The model reads {ranked[0].name} alone."
        if not any(column.share for column in ranked):
            return "No column moves this answer: the model gives it whatever the row holds."
        shares = np.cumsum([column.share for column in ranked])
        count = int(np.searchsorted(shares, _MOST)) + 1
        leading = [c for c in ranked[:count] if c.score > 0 or self.is_value]
        against = [c for c in ranked[:count] if c not in leading]
        rest = [column for column in ranked[count:] if column.share < HARDLY]
        parts = [f"The answer rests on {_listed(_with_shares(leading))}."] if leading else []
        if against:
            parts.append(f"Against it: {_listed(_with_shares(against))}.")
        first = ranked[0]
        if first.without is not None:
            now = f"{self.shown(first.without)} instead of {self.shown(self.original)}"
            if self.is_value:
                parts.append(f"Without {first.name} it is {now}.")
            elif abs(first.without - self.original) < _NOISE:
                parts.append(f"Even so, without {first.name} its {self.measure} stays ({now}): the rest suffices.")
            else:
                parts.append(f"Without {first.name} its {self.measure} is {now}.")
        if rest:
            names = [c.name for c in rest]
            names = names if len(rest) <= _NAMED else [*names[: _NAMED - 1], f"{len(rest) - _NAMED + 1} others"]
            parts.append(f"Of little weight: {_listed(names)}.")
        return " ".join(parts)


def shown_level(level: float, *, measure: str) -> str:
    """A cosine as it is; probabilities, and what stands in for them, in percent."""
    return f"{level:.3f}" if measure == "similarity" else f"{level:.1%}"


def _with_shares(columns: Sequence[ExplainedColumn]) -> list[str]:
    return [f"{column.name} ({column.share:.0%})" for column in columns]


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
