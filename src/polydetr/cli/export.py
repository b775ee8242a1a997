"""The verb that makes a trained model one that is answered from without PyTorch: ``export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polydetr.cli.ask import ModelFolder
from polydetr.cli.output import print_json, say, stdout_kept_clean
from polydetr.cli.reading import JsonFlag, reads_rows
from polydetr.core.reading import ReadOptions


@reads_rows
def export(
    model: ModelFolder,
    out: Annotated[
        Path | None,
        typer.Option(help="Where the model is written. When not given: MODEL-onnx or MODEL-int8, beside MODEL."),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Multiply 8-bit integers: faster, and proved on labeled rows.")
    ] = False,
    rows: Annotated[
        str | None,
        typer.Option(help="Labeled rows to compare by. When not given: the validation rows that MODEL keeps."),
    ] = None,
    max_drop: Annotated[
        float, typer.Option(help="Points by which a target's first metric may fall in 8-bit integers.")
    ] = 0.5,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the exported model that is there already.")
    ] = False,
    as_json: JsonFlag = False,
    *,
    reading: ReadOptions,
) -> None:
    """Write a model as graphs for ONNX Runtime, which answer the same rows without PyTorch, and compare the two."""
    from polydetr.predictor import Predictor

    with stdout_kept_clean(as_json):
        named = model.resolve() if model.name in ("", "..") else model
        place = out or named.with_name(f"{named.name}-{'int8' if int8 else 'onnx'}")
        written = Predictor.load(model, precision="fp32").export(
            place, int8=int8, rows=rows, max_drop=max_drop, overwrite=overwrite, reading=reading
        )
    if as_json:
        print_json(written)
        return
    say(f"{', '.join(written.graphs)}: {written.bytes / 1e6:.1f} MB for ONNX Runtime")
    rows = "validation rows" if written.rows_are == "validation" else "rows made at random"
    say(f"largest difference from PyTorch on {written.rows} windows of {rows}: {written.largest_difference:.2g}")
    if written.proof is not None:
        for change in written.proof.changes:
            say(f"in 8-bit integers, on {written.proof.rows} labeled rows: {change}")
        say(f"the answers' probabilities differ by {written.proof.probabilities_differ_by:.4f} on average")
    say(f"saved to {written.folder}\nnext: polydetr predict {written.folder} FILE, or polydetr serve {written.folder}")
