"""The verb that finds the fastest way to compute a model on this machine: ``optimize``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from polydetr.cli.ask import ModelFolder
from polydetr.cli.output import print_json, say, show, stdout_kept_clean
from polydetr.cli.reading import JsonFlag, reads_rows
from polydetr.core.reading import ReadOptions

if TYPE_CHECKING:
    from polydetr.inference.optimize import Optimized


@reads_rows
def optimize(
    model: ModelFolder,
    rows: Annotated[
        str | None,
        typer.Option(help="Labeled rows to measure with. When not given: the validation rows that MODEL keeps."),
    ] = None,
    as_json: JsonFlag = False,
    *,
    reading: ReadOptions,
) -> None:
    """Measure the ways to compute a model on this machine, and keep the fastest in its folder: from then on it is
    loaded so here. An exported model is measured in ONNX Runtime, any other in PyTorch.
    """
    from polydetr.inference.model import LoadedModel

    with stdout_kept_clean(as_json):
        found = LoadedModel.optimize(model, rows, reading=reading, progress=say)
    if as_json:
        print_json(found)
        return
    show(_table(found))
    how = "stays as it is, the fastest here" if found.chosen == found.default else "is computed from now on by"
    say(f"{found.folder} {how}: {found.chosen}")


def _table(found: Optimized) -> str:
    """A line per way, the fastest first."""
    lines = [f"{'way':58}{'rows/s':>10}{'times':>8}  first metric"]
    for timing in found.timings:
        mark = "*" if timing.way == found.chosen else " "
        metrics = ", ".join(f"{target} {value:.4f}" for target, value in timing.metrics.items())
        worse = "" if timing.is_good else "  (worse than fp32: not taken)"
        lines.append(f"{mark} {timing.way!s:56}{timing.rows_per_second:10.1f}{timing.times:8.2f}  {metrics}{worse}")
    return "\n".join(lines)
