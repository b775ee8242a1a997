"""How good predicted numbers are, as PNG: predicted against true, and the residuals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polydetr.metrics.regression import regression_report
from polydetr.reports.style import BLUE, FAINT, INK, ORANGE, canvas, quiet_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_DOTS = 3000
"""Of more rows a sample is drawn: always the same, spread over all of them by their true value."""


def predicted_true_png(gold: ArrayLike, predicted: ArrayLike, path: str | Path, *, title: str) -> None:
    """A dot per row on the true (x) and the predicted value (y), and the line on which both are equal.

    Raises:
        InputError: there is no row, or a value is not finite. SaveError: ``path`` cannot be written.
    """
    report = regression_report(gold, predicted)
    y, y_hat = np.asarray(gold, np.float64), np.asarray(predicted, np.float64)
    shown = _sample(y)
    low, high = _range(np.concatenate([y, y_hat]))
    with canvas(5.6, 5.4, path=path) as figure:
        axes = figure.add_subplot()
        facts = f"{report.total:,} rows, RMSE {report.rmse:.4g}, MAE {report.mae:.4g}, R² {report.r2:.3f}"
        axes.set_title(f"{title}\n{facts}{_of(shown, y)}", pad=10)
        axes.plot([low, high], [low, high], color=FAINT, lw=1.2, ls="--", label="predicted = true", zorder=1)
        _dots(axes, y[shown], y_hat[shown])
        axes.set(xlabel="true", ylabel="predicted", xlim=(low, high), ylim=(low, high), aspect="equal")
        quiet_grid(axes, "both")
        axes.legend(loc="upper left", fontsize=9)


def residuals_png(gold: ArrayLike, predicted: ArrayLike, path: str | Path, *, title: str) -> None:
    """Predicted minus true: against the predicted value, with the mean by tenths of the rows; and how it is spread.

    Raises:
        InputError: there is no row, or a value is not finite. SaveError: ``path`` cannot be written.
    """
    regression_report(gold, predicted)
    y, y_hat = np.asarray(gold, np.float64), np.asarray(predicted, np.float64)
    rest = y_hat - y
    shown = _sample(y)
    low, high = _range(np.append(rest, 0.0))
    with canvas(8.6, 4.4, path=path) as figure:
        grid = figure.add_gridspec(1, 2, width_ratios=[3, 1])
        left = figure.add_subplot(grid[0, 0])
        left.set_title(f"{title}\npredicted minus true{_of(shown, y)}", pad=10)
        left.axhline(0, color=FAINT, lw=1.2, ls="--")
        _dots(left, y_hat[shown], rest[shown])
        if len(y) >= 20:
            tenths = np.array_split(np.argsort(y_hat, kind="stable"), 10)
            means = [(y_hat[part].mean(), rest[part].mean()) for part in tenths]
            left.plot(*zip(*means, strict=True), color=ORANGE, lw=2, marker="o", ms=4, label="mean of each tenth")
            left.legend(loc="upper left", fontsize=9)
        left.set(xlabel="predicted", ylabel="residual", ylim=(low, high))
        quiet_grid(left, "both")
        right = figure.add_subplot(grid[0, 1], sharey=left)
        right.hist(rest, bins=min(40, max(5, len(y) // 5)), range=(low, high), orientation="horizontal", color=BLUE)
        right.axhline(0, color=INK, lw=1, ls="--")
        right.set(xlabel="rows")
        right.tick_params(axis="y", labelleft=False)
        quiet_grid(right, "x")


def _dots(axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    many = len(x) > 300
    options: dict[str, Any] = {"s": 9 if many else 22, "alpha": 0.35 if many else 0.7, "linewidths": 0}
    axes.scatter(x, y, color=BLUE, zorder=2, **options)


def _sample(y: NDArray[np.float64]) -> NDArray[np.int64]:
    """The numbers of the rows that are drawn."""
    if len(y) <= _MOST_DOTS:
        return np.arange(len(y))
    return np.argsort(y, kind="stable")[np.linspace(0, len(y) - 1, _MOST_DOTS).astype(np.int64)]


def _of(shown: NDArray[np.int64], y: NDArray[np.float64]) -> str:
    return f"; {len(shown):,} of the rows drawn" if len(shown) < len(y) else ""


def _range(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    room = 0.04 * (high - low) or abs(low) or 1.0
    return low - room, high + room
