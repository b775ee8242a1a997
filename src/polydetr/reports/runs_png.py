"""The curves of several runs in one image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from polydetr.errors import InputError
from polydetr.reports.label_names import label_names
from polydetr.reports.style import PALETTE, canvas, quiet_grid

_DASHES = ("-", "--", "-.", ":")
_MARKERS = "osv^DPX*<>"


def runs_curves_png(curves: Mapping[str, Sequence[tuple[int, float]]], path: str | Path, *, metric: str) -> Path:
    """The score of each run over its optimizer steps; runs differ by mark and dash as well as by color. A run without a
    curve is named as such.

    Raises:
        InputError: none of the runs has a curve. SaveError: ``path`` cannot be written.
    """
    from matplotlib.ticker import MaxNLocator

    if not any(curves.values()):
        raise InputError("None of these runs was evaluated while it trained: there is no curve to draw.")
    names = label_names(curves, limit=44)
    with canvas(8.4, 4.2 + 0.22 * len(curves), path=path) as figure:
        axes = figure.add_subplot()
        axes.set_title("Runs while they trained", fontsize=12)
        for i, (name, points) in enumerate(curves.items()):
            color, mark = PALETTE[i % len(PALETTE)], _MARKERS[i % len(_MARKERS)]
            dash = _DASHES[i // len(PALETTE) % len(_DASHES)]
            label = names[name] if points else f"{names[name]}: no curve"
            steps, scores = [step for step, _ in points], [score for _, score in points]
            axes.plot(steps, scores, color=color, ls=dash, marker=mark, ms=5, lw=1.8, label=label)
        axes.set(xlabel="optimizer step", ylabel=metric)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        quiet_grid(axes)
        figure.legend(loc="outside lower left", ncols=1, fontsize=9)
    return Path(path)
