"""The command line: every verb is a call of the public face.

Heavy imports wait until a verb runs, so that ``--help`` is instant.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from polydetr import __version__
from polydetr.cli.output import (
    counted,
    describe_threshold,
    fit_streams_to_encoding,
    output,
    print_entry,
    print_inspection,
    print_json,
    print_metrics,
    say,
    show,
    stdout_kept_clean,
)
from polydetr.cli.reading import reads_rows
from polydetr.core.files import is_special, json_text
from polydetr.core.reading import ReadOptions
from polydetr.errors import ConfigError, PolydetrError, bounded, did_you_mean, shown

app = typer.Typer(
    name="polydetr",
    help="One attention model for text, images and tables: from labeled rows to a measured, saved model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would double the time that --help takes
)
backbones_app = typer.Typer(
    help="Pretrained encoders: list them, fetch one.", no_args_is_help=True, rich_markup_mode=None
)
data_app = typer.Typer(
    help="Sample data that need no account: list them, fetch one.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(backbones_app, name="backbones")
app.add_typer(data_app, name="data")

JsonFlag = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output and nothing else there.")
]

MaxPixels = Annotated[int | None, typer.Option("--max-pixels", help="Pixels of the largest image that is read.", min=1)]


def main() -> None:
    """Runs the command line; errors become one line on standard error and an exit code: 1 failed, 2 a wrong call."""
    fit_streams_to_encoding()
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = _show_warning
        sys.exit(_run())


def _run() -> int:
    """The exit code of one call; every error is reported on standard error."""
    try:
        code = app(standalone_mode=False, prog_name="polydetr")
    except PolydetrError as error:
        say(f"polydetr: {error}")
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        say("polydetr: stopped")
        return 1
    except BrokenPipeError:  # the reader of our output went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        show = getattr(error, "show", None)
        if show is not None:  # a wrong call, which the parser explains
            show()
            return int(getattr(error, "exit_code", 2))
        if os.environ.get("POLYDETR_DEBUG"):
            raise
        kind = type(error).__name__
        say(
            f"polydetr: {bounded(f'{kind}: {error}')}. This is a fault of polydetr; POLYDETR_DEBUG=1 shows where it is."
        )
        return 1
    return code if isinstance(code, int) else 0


def _show_warning(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
    if category.__module__.startswith("polydetr"):  # what libraries warn of is for us, not for users
        say(f"polydetr: {bounded(str(message))}")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"polydetr {__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
@reads_rows
def train(
    file: Annotated[
        str | None, typer.Argument(help="Labeled rows, or a YAML file with these same names; options win over it.")
    ] = None,
    train: Annotated[str | None, typer.Option("--train", help="Labeled rows: a file.")] = None,
    valid: Annotated[
        str | None, typer.Option("--valid", help="Rows to choose the best weights by; otherwise held out.")
    ] = None,
    test: Annotated[str | None, typer.Option("--test", help="Rows to measure the finished model on.")] = None,
    target: Annotated[
        list[str] | None, typer.Option("--target", help="Column to predict, NAME or NAME:TASK; may be repeated.")
    ] = None,
    input: Annotated[
        list[str] | None, typer.Option("--input", help="Column to read, NAME or NAME:MODALITY; may be repeated.")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(help="Column whose rows stay together when some are held out, for example a patient."),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="A name (polydetr backbones list), a folder, a Hugging Face id, none or auto; "
            "text=NAME,image=NAME where both are read."
        ),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="fast, balanced or best.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the training rows.")] = None,
    time_limit: Annotated[str | None, typer.Option(help="Stop in time: 90s, 10m, 1h30m.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same model on the same machine.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any configuration key, for example training.lr=1e-4; may be repeated."),
    ] = None,
    out: Annotated[str | None, typer.Option(help="Where the model folder is written.")] = None,
    max_pixels: MaxPixels = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint of an interrupted run.")] = False,
    as_json: JsonFlag = False,
    *,
    reading: ReadOptions,
) -> None:
    """Train a model, measure it, save it."""
    from polydetr.config.loading import merge, parse_settings
    from polydetr.predictor import Predictor

    config = file if file and Path(file).suffix.lower() in (".yaml", ".yml") else None
    if file and not config:
        if train:
            raise ConfigError(f"the training rows are named twice: {file!r} and --train {train!r}.")
        train = file
    settings = parse_settings(set_ or [])
    settings = merge(settings, {"image": {"max_pixels": max_pixels}} if max_pixels else {})
    with stdout_kept_clean(as_json):
        predictor = Predictor.fit(
            train, target, valid=valid, test=test, inputs=input, group=group, out=out, backbone=backbone,
            preset=preset,  # type: ignore[arg-type]
            epochs=epochs, time_limit=time_limit, seed=seed, config=config, settings=settings, reading=reading,
            resume=resume,
        )  # fmt: skip
    from polydetr.training.devices import is_first_process  # brings torch, for which no wrong call should wait

    if not is_first_process():
        return
    if as_json:
        folder = str(predictor.folder) if predictor.folder else None
        print_json({"out": folder, "metrics": predictor.metrics, "training": predictor.info["training"]})
        return
    for split, tables in predictor.tables.items():
        for title, table in tables.items():
            show(f"\n{split}: {title}\n{table}")
    print_metrics(predictor.metrics)
    if predictor.folder:
        say(f"\nsaved to {predictor.folder}\nnext: polydetr predict {predictor.folder} FILE")
    else:
        say("\nnot saved: name a folder to keep the model, --out model/")


@app.command()
@reads_rows
def evaluate(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    file: Annotated[str, typer.Argument(help="Labeled rows.")],
    plots: Annotated[Path | None, typer.Option(help="A folder for the plots, as PNG: coverage and risk.")] = None,
    max_pixels: MaxPixels = None,
    as_json: JsonFlag = False,
    *,
    reading: ReadOptions,
) -> None:
    """Measure a model on labeled rows."""
    from polydetr.inference.model import LoadedModel

    with stdout_kept_clean(as_json):
        evaluations = LoadedModel.load(model, max_pixels=max_pixels).evaluation(file, reading=reading)
        if plots is not None:
            from polydetr.reports.plots import write_coverage_plots

            for path in write_coverage_plots(plots, evaluations):
                say(f"wrote {path}")
    if as_json:
        print_json({target: dict(e.metrics) for target, e in evaluations.items()})
        return
    for target, evaluation in evaluations.items():
        for title, table in evaluation.tables.items():
            show(f"{shown(target)}: {title}\n{table}\n")
    print_metrics({"": {target: dict(e.metrics) for target, e in evaluations.items()}})


@app.command()
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


@app.command()
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


@app.command()
@reads_rows
def inspect(
    file: Annotated[str, typer.Argument(help="Rows to look at.")],
    valid: Annotated[
        str | None, typer.Option("--valid", help="Validation rows, to find leaks between the splits.")
    ] = None,
    test: Annotated[str | None, typer.Option("--test", help="Test rows, to find leaks between the splits.")] = None,
    target: Annotated[list[str] | None, typer.Option("--target", help="Column to predict, NAME or NAME:TASK.")] = None,
    input: Annotated[
        list[str] | None, typer.Option("--input", help="Column to read, NAME or NAME:MODALITY; may be repeated.")
    ] = None,
    as_json: JsonFlag = False,
    *,
    reading: ReadOptions,
) -> None:
    """What is in a file: columns, types, missing values, labels, duplicates, leaks, suspicious labels."""
    from polydetr.config.loading import names_of
    from polydetr.data.inspect import inspect_data

    with stdout_kept_clean(as_json):
        inspection = inspect_data(file, valid=valid, test=test, target=target, inputs=names_of(input), reading=reading)
    if as_json:
        print_json(inspection.to_dict())
    else:
        print_inspection(inspection)


@app.command("import")
def import_checkpoint(
    checkpoint: Annotated[str, typer.Argument(help="A folder or safetensors file with a published DETR.")],
    out: Annotated[Path, typer.Option(help="Where the model folder is written.")],
    size: Annotated[int, typer.Option(help="Pixels per side that the model sees.", min=32, max=2048)] = 800,
    fit: Annotated[str, typer.Option(help="How an image that is not square becomes so: stretch or pad.")] = "stretch",
    threshold: Annotated[float, typer.Option(help="Score from which a box is answered.", min=0, max=1)] = 0.5,
) -> None:
    """Make a model folder of a published DETR, as it is: nothing is trained."""
    from polydetr.predictor import Predictor

    if fit not in ("stretch", "pad"):
        raise ConfigError(f"--fit {fit!r} is not known. {did_you_mean(fit, ('stretch', 'pad'))}")
    predictor = Predictor.from_checkpoint(checkpoint, out, size=size, fit=fit, threshold=threshold)  # type: ignore[arg-type]
    say(f"saved to {predictor.folder}\nnext: polydetr predict {predictor.folder} IMAGES --draw drawn")


@backbones_app.command("list")
def backbones_list(as_json: JsonFlag = False) -> None:
    """The backbones that work without an account."""
    from polydetr.fetch.backbones import is_fetched
    from polydetr.fetch.catalog import BACKBONES

    columns = ("name", "kind", "languages", "license", "note")
    rows: list[dict[str, Any]] = [
        {**{column: getattr(spec, column) for column in columns}, "here": is_fetched(name)}
        for name, spec in BACKBONES.items()
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        reads = f"{row['kind']}{', ' * bool(row['languages'])}{row['languages']}"
        here = "here" if row["here"] else f"not here yet: polydetr backbones fetch {row['name']}"
        print_entry(row["name"], f"{reads}; {here}", row["note"], f"License: {row['license']}")


@backbones_app.command("fetch")
def backbones_fetch(name: Annotated[str, typer.Argument(help="A name of the list.")]) -> None:
    """Fetch one backbone, check it, and keep it for later runs."""
    from polydetr.fetch.backbones import fetch_backbone

    print(fetch_backbone(name, report=say))


@data_app.command("list")
def data_list(as_json: JsonFlag = False) -> None:
    """The sample data sets."""
    from polydetr.fetch.samples import SAMPLES

    columns = ("name", "summary", "target", "source", "license")
    rows = [{column: getattr(sample, column) for column in columns} for sample in SAMPLES.values()]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        of = f"From {row['source']}. License: {row['license']}"
        print_entry(row["name"], f"target: {row['target']}", row["summary"], of)


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="A name of the list.")],
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("data"),
) -> None:
    """Fetch one sample data set, check it, and write it as files that polydetr reads."""
    from polydetr.fetch.samples import fetch_sample

    info = fetch_sample(name, out / name, report=say)
    for path in info.files.values():
        print(path)
