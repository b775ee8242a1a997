"""The images of a training run, as PNG: learning curve, confusion matrix, reliability, entity scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from polydetr.errors import InputError
from polydetr.metrics.calibration import ReliabilityCurve
from polydetr.metrics.classification import ClassReport, display_width
from polydetr.metrics.entities import EntityReport
from polydetr.reports.label_names import label_names
from polydetr.reports.style import BLUE, FAINT, INK, ORANGE, PALETTE, canvas, quiet_grid, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FULL_MATRIX = 30
"""Up to so many classes, a confusion matrix shows every one."""
MOST_CONFUSED = 20
"""Of more classes it shows so many, and all others as one."""
_NOT_CURVES = frozenset({"epoch", "step", "seconds", "time", "lr", "learning_rate", "tokens_per_second", "ece"})


def learning_curve_png(
    history: Sequence[Mapping[str, Any]],
    path: str | Path,
    *,
    best: float | None = None,
    losses: Sequence[tuple[float, float]] = (),
) -> None:
    """Losses on the left, scores on the right, over epochs (or steps).

    history: one mapping per measurement with "epoch" or "step" and any numbers, such as "train_loss", "valid_loss",
    "entity_f1"; a missing or None value leaves a gap. A name that contains "loss" is a loss. "metrics"
    may hold {target: {name: number}}, as the training loop writes it, and then replaces "score".
    best: the epoch or step (what the x axis counts) whose weights were kept. losses: of the steps of training, by
    epoch or step, drawn behind.

    Raises:
        InputError: nothing to draw.
    """
    from matplotlib.ticker import MaxNLocator

    curves = _curves(history)
    unit = "epoch" if history and "epoch" in history[0] else "step"
    panels = [
        (name, {k: v for k, v in curves.items() if ("loss" in k) == wanted})
        for name, wanted in (("loss (nats)", True), ("score", False))
    ]
    panels = [(name, group) for name, group in panels if group]
    if not panels:
        raise InputError("A learning curve needs at least one measurement with a number in it; the history holds none.")
    with canvas(5.2 * len(panels), 3.9, path=path) as figure:
        figure.suptitle("Learning curve", x=0.01, ha="left", fontsize=13, fontweight="bold")
        for place, (name, group) in enumerate(panels, start=1):
            axes = figure.add_subplot(1, len(panels), place)
            if losses and place == 1:
                style = {"color": PALETTE[0], "lw": 0.8, "alpha": 0.35, "zorder": 1}
                axes.plot(*zip(*losses, strict=True), label="loss of the steps", **style)
            for i, (key, points) in enumerate(group.items()):
                label = shorten(key, 30)
                axes.plot(*zip(*points, strict=True), marker="o", ms=4, lw=1.8, color=PALETTE[i % 10], label=label)
            if best is not None:
                axes.axvline(best, color=FAINT, lw=1, ls="--", label=f"kept: {unit} {best:g}", zorder=0)
            axes.set(xlabel=unit, ylabel=name)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.margins(x=0.04)
            quiet_grid(axes)
            axes.legend(fontsize=9)


def _curves(history: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    curves: dict[str, list[tuple[float, float]]] = {}
    for i, row in enumerate(history, start=1):
        x = float(row.get("epoch", row.get("step", i)))
        flat = {key: value for key, value in row.items() if key not in ("metrics", "score")}
        targets = row.get("metrics") or {"": {"score": row.get("score")}}
        for target, scores in targets.items():
            flat |= {f"{target} {name}" if len(targets) > 1 else name: value for name, value in scores.items()}
        for key, value in flat.items():
            if key.split(" ")[-1] not in _NOT_CURVES and isinstance(value, (int, float)) and np.isfinite(value):
                curves.setdefault(key, []).append((x, float(value)))
    return curves


def confusion_matrix_png(report: ClassReport, path: str | Path, *, title: str = "Confusion matrix") -> None:
    """Rows gold, columns predicted; color is the share of the gold rows, numbers are counts.

    Beyond 30 classes it shows the 20 labels most often confused, everything else as "others", and lists the worst
    pairs.

    Raises:
        InputError: the report holds no confusion matrix (many-label reports do not).
    """
    if report.confusion is None or not len(report.confusion_labels):
        raise InputError(
            "This report holds no confusion matrix; a row with several labels at once has no single confusion."
        )
    matrix, labels = report.confusion, list(report.confusion_labels)
    names = label_names(labels)
    subtitle = f"{int(matrix.sum()):,} rows, {len(labels)} classes, {report.accuracy:.1%} right"
    many = len(labels) > FULL_MATRIX
    pairs = _worst_pairs(matrix, labels) if many else []
    if many:
        matrix, labels = _most_confused(matrix, labels)
    size = len(labels)
    side = float(np.clip(0.45 * size, 3.2, 11))
    with canvas(side + (7.4 if many else 2.6), side + 1.6, path=path) as figure:
        figure.suptitle(f"{title}\n{subtitle}", x=0.01, ha="left", fontsize=12, fontweight="bold")
        grid = figure.add_gridspec(1, 2, width_ratios=[side + 2.2, 3.0]) if many else figure.add_gridspec(1, 1)
        draw_matrix(figure.add_subplot(grid[0, 0]), matrix, [names.get(label, label) for label in labels])
        if many:
            _draw_pairs(figure.add_subplot(grid[0, 1]), [(names[a], names[b], n, share) for a, b, n, share in pairs])


def _draw_pairs(axes: Axes, pairs: Sequence[tuple[str, str, int, float]]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title("Most frequent confusions (gold → predicted)", loc="right")
    names = [" → ".join(pair[:2]) for pair in pairs]
    counts = [count for _, _, count, _ in pairs]
    bars = axes.barh(range(len(pairs)), counts, color=ORANGE, height=0.7)
    axes.bar_label(bars, [f"{n}  ({share:.0%} of gold)" for _, _, n, share in pairs], padding=3, fontsize=8)
    axes.set_yticks(range(len(pairs)), names, fontsize=8)
    axes.set(xlabel="rows", xlim=(0, max(counts, default=1) * 1.9))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.invert_yaxis()
    axes.margins(y=0.02)
    axes.tick_params(axis="y", length=0)


def draw_matrix(axes: Axes, matrix: NDArray[np.int64], names: Sequence[str]) -> None:
    """names: of the rows and columns, as they are to be shown (``label_names``)."""
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    size = len(names)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_anchor("N")
    small = 12 if size <= 4 else 9 if size <= 12 else 7
    for i, j in zip(*np.nonzero(matrix), strict=True):
        text = f"{matrix[i, j]:,}" + (f"\n{share[i, j]:.1%}" if size <= 6 else "")
        axes.text(j, i, text, ha="center", va="center", fontsize=small, color="white" if share[i, j] > 0.55 else INK)
    steep = size > 6 or max(map(display_width, names)) > 9
    axes.set_xticks(range(size), names, rotation=45 if steep else 0, ha="right" if steep else "center", fontsize=9)
    if steep:
        for tick in axes.get_xticklabels():
            tick.set_rotation_mode("anchor")
    axes.set_yticks(range(size), names, fontsize=9)
    axes.set(xlabel="predicted", ylabel="gold")
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axes.tick_params(which="minor", length=0)
    axes.grid(which="minor", color="white", lw=1)
    for spine in axes.spines.values():
        spine.set_visible(False)
    bar = axes.figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, format=lambda value, _: f"{value:.0%}")
    bar.set_label("share of the gold rows")
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]


def _worst_pairs(matrix: NDArray[np.int64], labels: Sequence[str]) -> list[tuple[str, str, int, float]]:
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSED]
    places = [divmod(int(flat), len(labels)) for flat in order if wrong.flat[flat] > 0]
    return [(labels[i], labels[j], int(wrong[i, j]), wrong[i, j] / matrix[i].sum()) for i, j in places]


def _most_confused(matrix: NDArray[np.int64], labels: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
    """The labels with the most errors, worst pairs side by side, and one row and column for all others."""
    wrong = matrix - np.diag(np.diag(matrix))
    chosen: list[int] = []
    for flat in np.argsort(-wrong, axis=None, kind="stable"):
        for i in divmod(int(flat), len(labels)):
            if i not in chosen and len(chosen) < MOST_CONFUSED:
                chosen.append(i)
        if len(chosen) == MOST_CONFUSED:
            break
    return with_others(matrix, labels, chosen)


def with_others(
    matrix: NDArray[np.int64], labels: Sequence[str], chosen: Sequence[int], *, last: Sequence[int] = ()
) -> tuple[NDArray[np.int64], list[str]]:
    """A confusion matrix of the ``chosen`` labels, one row and column for all others together, and the labels ``last``;
    and the names of its rows.
    """
    group = np.full(len(labels), len(chosen))
    group[list(chosen)], group[list(last)] = np.arange(len(chosen)), len(chosen) + 1 + np.arange(len(last))
    merged = np.zeros((len(chosen) + 1 + len(last),) * 2, np.int64)
    np.add.at(merged, (group[:, None], group[None, :]), matrix)
    others = f"{len(labels) - len(chosen) - len(last)} others"
    return merged, [*(labels[i] for i in chosen), others, *(labels[i] for i in last)]


def reliability_png(
    before: ReliabilityCurve, after: ReliabilityCurve | None, path: str | Path, *, title: str = "Reliability"
) -> None:
    """Accuracy over confidence, before and after calibration, with the number of rows in each bin below; hollow
    points stand for bins of too few rows to say anything.

    On the dashed diagonal confidence and accuracy agree; below it the model is overconfident.
    """
    curves = [("before calibration" if after else "model", before, ORANGE)]
    if after is not None:
        curves.append(("after calibration", after, BLUE))
    with canvas(5.4, 6.0, path=path) as figure:
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3.4, 1])
        top.plot([0, 1], [0, 1], color=FAINT, lw=1.2, ls="--", label="perfectly calibrated", zorder=1)
        for i, (name, curve, color) in enumerate(curves):
            label = f"{name}: ECE {curve.ece:.3f}"
            x, y = curve.confidence, curve.accuracy
            enough = curve.count >= max(10, 0.002 * curve.count.sum())  # a few rows are no estimate
            top.plot(x[enough], y[enough], color=color, lw=1.8, marker="o", ms=5, label=label, zorder=3 + i)
            top.vlines(x[enough], x[enough], y[enough], color=color, alpha=0.25, lw=4, zorder=2)
            top.plot(x[~enough], y[~enough], ls="", marker="o", ms=4, mfc="white", mec=color, alpha=0.45)
            bins = np.clip(np.searchsorted(curve.edges, x) - 1, 0, len(curve.edges) - 2)
            room = np.diff(curve.edges)[bins]
            width = room * 0.86 / len(curves)
            left = curve.edges[bins] + room * 0.07 + i * width
            bottom.bar(left, curve.count, width=width, align="edge", color=color, alpha=0.85)
        top.set(ylabel="accuracy (share right)", xlim=(-0.02, 1.03), ylim=(-0.02, 1.03))
        top.legend(loc="upper left", fontsize=9, frameon=True, facecolor="white", edgecolor="none", framealpha=0.9)
        bottom.set(xlabel="confidence (probability of the answer given)", ylabel="rows")
        quiet_grid(top, "both")
        quiet_grid(bottom)


def coverage_png(curve: Mapping[str, Sequence[float]], path: str | Path, *, title: str = "Coverage and risk") -> None:
    """How often answers are right when the least probable are withheld; curve: "coverage" and "risk", as
    ``Evaluation.data["coverage_risk"]`` has them.
    """
    coverage, right = np.array(curve["coverage"]), 1 - np.array(curve["risk"])
    with canvas(5.4, 4.2, path=path) as figure:
        axes = figure.add_subplot()
        axes.set_title(title, loc="left", fontsize=13, fontweight="bold")
        axes.plot(coverage, right, color=BLUE, lw=1.8, marker="o", ms=3)
        for share in (0.5, 0.7, 0.9):
            axes.axvline(share, color=FAINT, lw=0.8, ls=":")
        axes.axhline(right[-1], color=FAINT, lw=1, ls="--", label=f"all answered: {right[-1]:.3f}")
        axes.set(xlabel="coverage (share answered)", ylabel="accuracy (share right)", xlim=(0, 1.02))
        axes.set_ylim(min(0.9, float(right.min()) - 0.02), 1.01)
        quiet_grid(axes, "both")
        axes.legend(loc="lower left", fontsize=9)


def entity_bars_png(report: EntityReport, path: str | Path) -> None:
    """F1 of every type as a bar, precision and recall as marks on it; the 40 most frequent types, then the micro
    average.
    """
    rows = sorted(report.rows, key=lambda row: (-row.support, row.label))[:40]
    left_out = len(report.rows) - len(rows)
    rows = [*rows, report.micro]
    y = np.arange(len(rows), dtype=float)
    y[-1] += 0.4  # sets the average apart
    colors = [*[BLUE] * (len(rows) - 1), INK]
    with canvas(7.2, 1.9 + 0.36 * len(rows), path=path) as figure:
        note = f", {left_out} rarer types not shown" if left_out else ""
        axes = figure.add_subplot()
        axes.set_title(f"Entities found, by type (exact boundaries and type{note})", fontsize=12, pad=26)
        axes.barh(y, [row.f1 for row in rows], color=colors, height=0.62, alpha=0.85, label="F1")
        axes.plot(
            [row.precision for row in rows], y, ls="", marker=">", ms=6, mec="white", color=ORANGE, label="precision"
        )
        axes.plot(
            [row.recall for row in rows], y, ls="", marker="D", ms=5, mec="white", color=PALETTE[2], label="recall"
        )
        for place, row in zip(y, rows, strict=True):
            axes.text(1.02, place, f"{row.f1:.3f}   n = {row.support:,}", va="center", fontsize=9)
        names = label_names((row.label for row in report.rows), limit=28)
        axes.set_yticks(y, [names.get(row.label, row.label) for row in rows])
        axes.set(xlim=(0, 1), xlabel="score")
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        quiet_grid(axes, "x")
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, fontsize=9, borderaxespad=0.2)
