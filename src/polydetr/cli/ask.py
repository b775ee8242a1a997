"""The verbs that ask a model: ``predict``, ``evaluate``, ``explain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polydetr.cli.output import (
    counted,
    describe_threshold,
    output,
    print_json,
    print_metrics,
    say,
    show,
    stdout_kept_clean,
)
from polydetr.cli.reading import JsonFlag, MaxPixels, reads_rows
from polydetr.core.files import is_special, json_text
from polydetr.core.reading import ReadOptions
from polydetr.errors import ConfigError, shown


@reads_rows
def evaluate(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
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
    from polydetr.inference.model import LoadedModel, report_name

    with stdout_kept_clean(as_json):
        evaluations = LoadedModel.load(model, max_pixels=max_pixels).evaluation(file, out=out, reading=reading)
    if out is not None:
        pages = ", ".join(sorted(path.name for path in out.glob(f"{report_name(file)}*-mistakes.html")))
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
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    file: Annotated[str, typer.Argument(help="Rows, or - for standard input.")],
    out: Annotated[Path | None, typer.Option(help="Write here instead of standard output.")] = None,
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
    """Answer every row: one JSON object per row, in order; a rejected row has "error" instead of a prediction. Where
    every row is rejected, the exit code is 1.

    Generated images are written as PNG files into a folder beside --out (answers.jsonl: answers-files/).
    """
    from polydetr.inference.model import LoadedModel

    if strict and lenient:
        raise ConfigError("--strict and --lenient exclude one another.")
    strictness = "strict" if strict else "lenient" if lenient else "normal"
    loaded = LoadedModel.load(model, max_pixels=max_pixels)
    answered = rejected = 0
    files = out.with_name(f"{out.stem}-files") if out and not is_special(out) else None
    answers = loaded.stream(
        file, reading=reading, strictness=strictness, seed=seed,
        min_confidence=min_confidence, accuracy=accuracy, files=files, draw=draw,
    )  # fmt: skip
    if accuracy is not None:
        for target, chosen in loaded.thresholds(accuracy).items():
            say(f"polydetr: {describe_threshold(target, chosen, accuracy)}")
    with output(out) as stream:
        for answer in counted(answers) if out else answers:
            rejected += "error" in answer
            answered += "error" not in answer
            stream.write(json_text(answer) + "\n")
    if rejected:
        rows = "1 row was" if rejected == 1 else f"{rejected} rows were"
        say(f'polydetr: {rows} rejected; each has its reason under "error"')
    if not answered:
        raise typer.Exit(1)


@reads_rows
def explain(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
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
