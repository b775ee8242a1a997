"""The verb that makes a trained model one that is answered from without PyTorch: ``export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polydetr.cli.ask import ModelFolder
from polydetr.cli.output import print_json, say, stdout_kept_clean
from polydetr.cli.reading import JsonFlag


def export(
    model: ModelFolder,
    out: Annotated[
        Path | None, typer.Option(help="Where the exported model is written. When not given: beside MODEL, MODEL-onnx.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the exported model that is there already.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write a model as graphs for ONNX Runtime, which answer the same rows without PyTorch, and compare the two."""
    from polydetr.predictor import Predictor

    with stdout_kept_clean(as_json):
        named = model.resolve() if model.name in ("", "..") else model
        place = out or named.with_name(f"{named.name}-onnx")
        written = Predictor.load(model, precision="fp32").export(place, overwrite=overwrite)
    if as_json:
        print_json(written)
        return
    say(f"{', '.join(written.graphs)}: {written.bytes / 1e6:.1f} MB for ONNX Runtime")
    rows = "validation rows" if written.rows_are == "validation" else "rows made at random"
    say(f"largest difference from PyTorch on {written.rows} windows of {rows}: {written.largest_difference:.2g}")
    say(f"saved to {written.folder}\nnext: polydetr predict {written.folder} FILE")
