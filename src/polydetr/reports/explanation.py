"""What all views of an explanation share: scaled scores, spaces between words, the verdict of the deletion check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polydetr.errors import InputError
from polydetr.reports.explained import shown_level
from polydetr.values.spans import join_tokens

_KINDS = ("words", "cells", "columns", "items")
_MEANINGFUL = 0.02  # a smaller difference of probability is taken for noise


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the words that the attribution scores highest matter, and the sentence about it."""

    meaningful: bool
    text: str


def deletion_verdict(deletion: Mapping[str, float], *, measure: str = "probability") -> Verdict:
    """Compares deleting the highest-scored words with deleting as many others at random (comprehensiveness, DeYoung
    et al. 2020, arXiv 1911.03429).

    deletion: probabilities of the predicted answer: "original"; "without_top", the highest-scored words deleted;
    "without_random", the mean over random choices of as many words; optionally "random_std" over those choices and
    "words", how many were deleted. The attribution is meaningful when the first deletion costs at least 0.02, and two
    standard deviations, more than the second. In a row of several modalities, "cells" (of images), "columns" and
    "items" (of a history) were deleted beside or instead of words. measure: what the numbers are, where an answer has
    no probability.
    """
    original, top, random = (float(deletion[key]) for key in ("original", "without_top", "without_random"))
    levels = [shown_level(level, measure=measure) for level in (original, top, random)]
    facts = (
        f"Deleting {_deleted(deletion)} changes the {measure} of this answer from {levels[0]} to {levels[1]}; "
        f"deleting as many of the others at random, to {levels[2]} on average."
    )
    meaningful = random - top >= max(_MEANINGFUL, 2 * float(deletion.get("random_std", 0.0)))
    if meaningful:
        marked = "words" if not deletion.keys() & set(_KINDS[1:]) else "parts"
        return Verdict(
            True, f"{facts} The marked {marked} matter more than chance: the attribution means something here."
        )
    return Verdict(False, f"{facts} That is no clear difference: do not rely on this attribution.")


def _deleted(deletion: Mapping[str, float]) -> str:
    """What was deleted first, in words."""
    counts = {kind: int(deletion[kind]) for kind in _KINDS if deletion.get(kind)}
    if len(counts) > 1:
        each = ", ".join(f"{count} {_named(kind, count)}" for kind, count in counts.items())
        return f"the {sum(counts.values())} highest-scored parts ({each})"
    kind, count = next(iter(counts.items()), ("words", 0))
    number = f"{count} " if count > 1 else ""
    return f"the {number}highest-scored {_named(kind, count or 2)}"


def _named(kind: str, count: int) -> str:
    name = "image cells" if kind == "cells" else kind
    return name.removesuffix("s") if count == 1 else name


@dataclass(frozen=True, slots=True)
class WordPlace:
    """What stands before a word: the characters of the original text, and the name of the column that begins with it,
    where there are several.
    """

    gap: str
    column: str | None = None


def scaled_scores(words: Sequence[str], scores: Sequence[float]) -> NDArray[np.float64]:
    """Scores divided by the largest magnitude, in [-1, 1]; all 0 stay 0.

    Raises:
        InputError: no words, lengths differ, or a score is not finite.
    """
    values = np.asarray(scores, np.float64)
    if not len(words) or values.shape != (len(words),):
        raise InputError(
            f"An explanation needs one score for each word, at least one: {len(words)} words, {values.shape}."
        )
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values))[0])
        raise InputError(
            f"The score of word {bad + 1} ({words[bad]!r}) is {values[bad]}; scores must be finite numbers."
        )
    largest = float(np.abs(values).max())
    return values / largest if largest > 0 else values


def in_columns(words: Sequence[str], before: Sequence[str] | None, fields: Sequence[str] | None) -> list[WordPlace]:
    """Where each word stands. before: the characters between it and the word before, by default a space where the
    script has them; fields: the column of each word, by default one.
    """
    gaps = [" " * space for space in spaces_before(words)] if before is None else list(before)
    columns = [""] * len(words) if fields is None else list(fields)
    several = len(set(columns)) > 1
    first = [i == 0 or columns[i] != columns[i - 1] for i in range(len(words))]
    return [
        WordPlace("" if new else gap, column if new and several else None)
        for gap, column, new in zip(gaps, columns, first, strict=True)
    ]


def spaces_before(words: Sequence[str]) -> list[bool]:
    """Whether a space stands before each word: not at the start, and not between two characters of an unspaced
    script.
    """
    _, offsets = join_tokens(list(words))
    ends = [0, *(end for _, end in offsets[:-1])]
    return [start > end for (start, _), end in zip(offsets, ends, strict=True)]
