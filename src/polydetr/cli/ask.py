"""The verbs that ask a model: ``predict``, ``evaluate``, ``explain``."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from polydetr.cli.output import (
    counting,
    describe_threshold,
    print_json,
    print_metrics,
    say,
    show,
    stdout_kept_clean,
)
from polydetr.cli.reading import JsonFlag, MaxPixels, reads_rows
from polydetr.core.reading import ReadOptions
from polydetr.errors import ConfigError, shown

ModelFolder = Annotated[Path, typer.Argument(help="A model folder.")]


@reads_rows
def evaluate(
    model: ModelFolder,
    file: Annotated[str, typer.Argument(help="Labeled rows.")],
    out: Annotated[
        Path | None,
        typer.Option(help="A folder for tables, JSON, diagrams and a page of the worst mistakes, as training writes."),
    ] = None,
    max_pixels: MaxPixels = None,
    as_json: JsonFlag = False,
    *,
    reading: ReadOptions,
) -> None:
    """Measure a model on labeled rows."""
    from polydetr.inference.model import LoadedModel

    with stdout_kept_clean(as_json):
        loaded, written = LoadedModel.load(model, max_pixels=max_pixels), list[Path]()
        evaluations = loaded.evaluation(file, out=out, reading=reading, told=written.append)
    if out is not None:
        pages = ", ".join(path.name for path in written if path.name.endswith("-mistakes.html"))
        say(f"polydetr: wrote the reports to {out}" + (f"; the worst mistakes: {pages}" if pages else ""))
    if as_json:
        print_json({target: dict(e.metrics) for target, e in evaluations.items()})
        return
    for target, evaluation in evaluations.items():
        for title, table in evaluation.tables.items():
            show(f"{shown(target)}: {title}\n{table}\n")
    print_metrics({"": {target: dict(e.metrics) for target, e in evaluations.items()}})


@reads_rows
def predict(
    model: ModelFolder,
    file: Annotated[str | None, typer.Argument(help="Rows, or - for standard input.")] = None,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", help="Ask this text, in place of FILE; NAME=TEXT where several columns are read."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write a table here (.csv, .tsv, .parquet, .xlsx: your columns, with the answers beside them) or JSON "
            "lines (.jsonl), instead of JSON lines on standard output."
        ),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write one page of the answers for people here.")] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Give the probability of every class, too.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse rows unlike those of the training.")] = False,
    lenient: Annotated[bool, typer.Option("--lenient", help="Take what cannot be read as missing.")] = False,
    seed: Annotated[int, typer.Option(help="For generated images: another seed, other images.", min=0)] = 0,
    min_confidence: Annotated[
        float | None, typer.Option(help='Withhold answers less probable than this: "abstained": true beside them.')
    ] = None,
    accuracy: Annotated[
        float | None,
        typer.Option(help="Withhold as many answers as it takes to be right this often, by the validation rows."),
    ] = None,
    draw: Annotated[
        Path | None, typer.Option(help="A folder for the images, drawn with the objects found in them.")
    ] = None,
    max_pixels: MaxPixels = None,
    *,
    reading: ReadOptions,
) -> None:
    """Answer every row, in order: as JSON lines, or as a table with --out; a rejected row has "error" instead of a
    prediction. Where every row is rejected, the exit code is 1.

    Generated images are written as PNG files into a folder beside --out (answers.csv: answers.csv-files/).
    """
    from polydetr.inference.asked import rows_of_texts
    from polydetr.inference.model import LoadedModel
    from polydetr.inference.options import Options
    from polydetr.inference.writing import check_outputs

    if strict and lenient:
        raise ConfigError("--strict and --lenient exclude one another.")
    if (file is None) == (not text):
        raise ConfigError("predict answers either FILE or --text." if text else "Missing argument 'FILE' (or --text).")
    check_outputs(out, html, rows=file)
    strictness = "strict" if strict else "lenient" if lenient else "normal"
    loaded = LoadedModel.load(model, max_pixels=max_pixels)
    options = Options(reading, strictness, seed, min_confidence, accuracy)
    rows = rows_of_texts(loaded.schema, text) if text else file
    if accuracy is not None:
        for target, chosen in loaded.thresholds(accuracy).items():
            say(f"polydetr: {describe_threshold(target, chosen, accuracy)}")
    with counting() if out else contextlib.nullcontext() as progress:
        written = loaded.write(
            rows, out or sys.stdout, html=html, draw=draw, probabilities=probabilities, options=options,
            progress=progress,
        )  # fmt: skip
    if written.rejected:
        rows = "1 row was" if written.rejected == 1 else f"{written.rejected} rows were"
        say(f'polydetr: {rows} rejected; each has its reason under "error"')
    if not written.answered:
        raise typer.Exit(1)


@reads_rows
def explain(
    model: ModelFolder,
    file: Annotated[str, typer.Argument(help="Rows, or - for standard input.")],
    row: Annotated[int, typer.Option(help="Which row, counted from 1.", min=1)] = 1,
    target: Annotated[str | None, typer.Option(help="Which answer, where the model gives several.")] = None,
    choice: Annotated[
        str | None, typer.Option(help="Another label to explain, or the number of an entity or object, from 0.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for explanation.html and explanation.png; here when not given.")
    ] = None,
    max_pixels: MaxPixels = None,
    as_json: JsonFlag = False,
    *,
    reading: ReadOptions,
) -> None:
    """Why the model answers a row as it does: what in it speaks for the answer, and whether deleting that matters."""
    from polydetr.inference.model import LoadedModel

    with stdout_kept_clean(as_json):
        explanation = LoadedModel.load(model, max_pixels=max_pixels).explain_file(
            file, row=row, target=target, choice=choice, reading=reading
        )
        written = explanation.save(out or ".") if out is not None or not as_json else []
    if as_json:
        print_json(explanation.to_dict())
    else:
        explanation.print()
    for path in written:
        say(f"wrote {path}")
