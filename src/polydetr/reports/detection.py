"""How good a detector is, as PNG: precision-recall curves and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polydetr.errors import InputError
from polydetr.metrics.box_pool import RECALL_POINTS
from polydetr.metrics.detection import DetectionReport
from polydetr.reports.label_names import label_names
from polydetr.reports.plots import FULL_MATRIX, MOST_CONFUSED, draw_matrix, with_others
from polydetr.reports.style import FAINT, INK, PALETTE, canvas, label_colors, quiet_grid

_CURVES = 10


def precision_recall_png(report: DetectionReport, path: str | Path, *, title: str = "Precision and recall") -> None:
    """The curve of every label at an overlap of 0.5, or of the ten with the most objects; the mean of all labels in
    black; a dot at the report's threshold; faint lines of equal F1.

    Raises InputError where no object is annotated.
    """
    known = [(row, curve) for row, curve in zip(report.rows, report.curves, strict=True) if row.support]
    if not known:
        raise InputError("A precision-recall curve needs annotated objects; this report holds none.")
    known = sorted(known, key=lambda pair: -pair[0].support)
    names = label_names(report.labels, limit=22)
    few = len(report.labels) <= _CURVES
    colors = label_colors(report.labels) if few else dict(zip((r.label for r, _ in known), PALETTE, strict=False))
    with canvas(7.6, 5.0, path=path) as figure:
        axes = figure.add_subplot()
        _equal_f1(axes)
        for row, curve in known[:_CURVES]:
            label = f"{names[row.label]}  {row.ap_50:.3f}"
            axes.plot(RECALL_POINTS, curve[0], color=colors[row.label], lw=1.8, label=label)
            if row.recall > 0:
                axes.plot(row.recall, row.precision, "o", ms=6, color=colors[row.label], mec="white", zorder=5)
        if len(known) > 1:
            mean = np.mean([curve[0] for _, curve in known], axis=0)
            axes.plot(RECALL_POINTS, mean, color=INK, lw=2.6, label=f"mean of all {len(known)}  {report.map_50:.3f}")
        left_out = len(known) - _CURVES
        note = f"; the {_CURVES} most frequent of {len(known)} labels" if left_out > 0 else ""
        axes.set_title(f"{title}\noverlap 0.5; dots: score from {report.threshold:.2f}{note}", pad=10)
        axes.set(
            xlabel="recall (objects found)", ylabel="precision (boxes that are right)", xlim=(0, 1.01), ylim=(0, 1.03)
        )
        quiet_grid(axes, "both")
        legend = axes.legend(loc="upper left", bbox_to_anchor=(1.08, 1.02), title="AP50", fontsize=9)
        legend.get_title().set_fontweight("bold")


def _equal_f1(axes: Any) -> None:
    for f1 in (0.2, 0.4, 0.6, 0.8, 0.9):
        recall = np.linspace(f1 / (2 - f1) + 1e-6, 1, 100)
        axes.plot(recall, f1 * recall / (2 * recall - f1), color=FAINT, lw=0.7, ls=":", zorder=1)
        axes.text(1.015, f1 / (2 - f1), f"F1 {f1:g}", fontsize=7, color=FAINT, va="center")


def detection_confusion_png(report: DetectionReport, path: str | Path, *, title: str = "Confusion matrix") -> None:
    """Rows true, columns predicted, at an overlap of 0.5 and the report's threshold. The row "background" holds boxes
    that match no object, the column "background" objects that were missed.

    Beyond 30 labels the 20 with the most mistakes are shown, the others as one.
    """
    matrix, labels = report.confusion, list(report.confusion_labels)
    kinds, names = report.kinds, label_names(report.labels)
    if len(labels) > FULL_MATRIX:
        matrix, labels = _most_mistaken(matrix, labels)
    side = float(np.clip(0.5 * len(labels), 3.6, 11))
    subtitle = (
        f"{report.all_labels.support:,} objects in {report.images:,} images, score from {report.threshold:.2f}: "
        f"{kinds['right']:,} found,\n{kinds['missed']:,} missed, {kinds['confused']:,} under another label; "
        f"{kinds['duplicate'] + kinds['misplaced'] + kinds['invented']:,} boxes without an object"
    )
    with canvas(max(side + 2.8, 6.4), side + 1.9, path=path) as figure:
        figure.suptitle(f"{title}\n{subtitle}", x=0.01, ha="left", fontsize=11, fontweight="bold")
        axes = figure.add_subplot()
        draw_matrix(axes, matrix, [names.get(label, label) for label in labels])
        axes.set(xlabel="found as", ylabel="true label")
        figure.axes[-1].set_ylabel("share of the row")
        axes.axhline(len(labels) - 1.5, color=FAINT, lw=1.2)  # the background stands apart
        axes.axvline(len(labels) - 1.5, color=FAINT, lw=1.2)


def _most_mistaken(matrix: NDArray[np.int64], labels: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
    """The labels with the most mistakes, one row and column for all others, and the background last."""
    wrong = matrix - np.diag(np.diag(matrix))
    chosen = np.argsort(-(wrong.sum(0) + wrong.sum(1))[:-1], kind="stable")[:MOST_CONFUSED]
    return with_others(matrix, labels, chosen.tolist(), last=[len(labels) - 1])
