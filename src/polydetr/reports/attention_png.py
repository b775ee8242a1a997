"""The table of attention between words, as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polydetr.reports.fonts import drawable
from polydetr.reports.style import FAINT, canvas, shorten

MOST_WORDS = 40


def attention_png(words: Sequence[str], attention: NDArray[np.floating], path: str | Path, *, title: str) -> None:
    """attention: (words, words), row = the word that looks. Of more than ``MOST_WORDS``, those that are looked at most.

    Raises:
        SaveError: ``path`` cannot be written.
    """
    most = np.argsort(-attention.sum(0), kind="stable")[:MOST_WORDS]
    shown: list[int] = sorted(most.tolist())  # in reading order
    names = [drawable(shorten(words[i], 14)) for i in shown]
    side = max(2.4, 0.22 * len(names))
    with canvas(side + 1.9, side + 1.9, path=path) as figure:
        axes = figure.add_subplot()
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        drawn = axes.imshow(attention[np.ix_(shown, shown)], cmap="Blues", vmin=0.0)
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_xlabel("the word looked at", color=FAINT)
        axes.set_ylabel("the word that looks", color=FAINT)
        axes.spines[:].set_visible(False)
        figure.colorbar(drawn, ax=axes, shrink=0.7)
