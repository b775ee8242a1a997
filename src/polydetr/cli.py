"""The command line: every verb is a call of the public face. Heavy imports wait until a verb runs, so that ``--help`` is instant."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from polydetr.errors import PolydetrError

app = typer.Typer(
    name="polydetr",
    help="One attention model for text, images and tables: from labelled rows to a measured, saved model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
backbones_app = typer.Typer(help="Pretrained encoders: list them, fetch one.", no_args_is_help=True)
data_app = typer.Typer(help="Sample data that need no account: list them, fetch one.", no_args_is_help=True)
app.add_typer(backbones_app, name="backbones")
app.add_typer(data_app, name="data")

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output and nothing else there.")]
Format = Annotated[str | None, typer.Option("--format", help="csv, tsv, jsonl, parquet, conll, json or squad, where the name does not tell.")]


def main() -> None:
    """Runs the command line; errors become one line on standard error and an exit code."""
    try:
        app(standalone_mode=False)
    except PolydetrError as error:
        print(f"polydetr: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (typer.Exit, SystemExit) as stop:
        sys.exit(getattr(stop, "exit_code", getattr(stop, "code", 0)))
    except typer.Abort:
        sys.exit(130)
    except KeyboardInterrupt:
        print("polydetr: stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output went away
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()  # a wrong call: click explains it
        sys.exit(getattr(error, "exit_code", 2))


@app.command()
def train(
    config: Annotated[Path | None, typer.Argument(help="A YAML file with these same names; options win over it.")] = None,
    train: Annotated[str | None, typer.Option("--train", help="Labelled rows: a file.")] = None,
    valid: Annotated[str | None, typer.Option("--valid", help="Rows to choose the best weights by; held out of the training rows when not given.")] = None,
    test: Annotated[str | None, typer.Option("--test", help="Rows to measure the finished model on.")] = None,
    target: Annotated[list[str] | None, typer.Option("--target", help="Column to predict, NAME or NAME:TASK; may be repeated.")] = None,
    input: Annotated[list[str] | None, typer.Option("--input", help="Column to read, NAME or NAME:MODALITY; may be repeated.")] = None,
    backbone: Annotated[str | None, typer.Option(help="A name (polydetr backbones list), a folder, a Hugging Face id, none or auto.")] = None,
    preset: Annotated[str | None, typer.Option(help="fast, balanced or best.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the training rows.")] = None,
    time_limit: Annotated[str | None, typer.Option(help="Stop in time: 90s, 10m, 1h30m.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same model on the same machine.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Any configuration key, for example training.lr=1e-4; may be repeated.")] = None,
    out: Annotated[str | None, typer.Option(help="Where the model folder is written.")] = None,
    format: Format = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint of an interrupted run.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Train a model, measure it, save it."""
    from polydetr.config import parse_settings
    from polydetr.predictor import Predictor

    settings = parse_settings(set_ or [])
    if format:
        settings["format"] = format
    predictor = Predictor.fit(
        train, target, valid=valid, test=test, inputs=input, out=out, backbone=backbone, preset=preset,  # type: ignore[arg-type]
        epochs=epochs, time_limit=time_limit, seed=seed, config=config, settings=settings, resume=resume,
    )  # fmt: skip
    if as_json:
        _print_json({"out": str(predictor.folder) if predictor.folder else None, "metrics": predictor.metrics})
        return
    for split, tables in predictor.tables.items():
        for title, table in tables.items():
            print(f"\n{split}: {title}\n{table}")
    _print_metrics(predictor.metrics)
    if predictor.folder:
        print(f"\nsaved to {predictor.folder}\nnext: polydetr predict {predictor.folder} FILE", file=sys.stderr)


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    file: Annotated[str, typer.Argument(help="Labelled rows.")],
    format: Format = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure a model on labelled rows."""
    from polydetr.predictor import Predictor

    evaluations = Predictor.load(model).evaluation(file, format=format)
    if as_json:
        _print_json({target: dict(e.metrics) for target, e in evaluations.items()})
        return
    for target, evaluation in evaluations.items():
        for title, table in evaluation.tables.items():
            print(f"{target}: {title}\n{table}\n")
    _print_metrics({"": {target: dict(e.metrics) for target, e in evaluations.items()}})


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    file: Annotated[str, typer.Argument(help="Rows, or - for standard input.")],
    out: Annotated[Path | None, typer.Option(help="Write here instead of standard output.")] = None,
    format: Format = None,
) -> None:
    """Answer every row: one JSON object a row, in order; a rejected row has "error" instead of a prediction."""
    from polydetr.predictor import Predictor

    predictor = Predictor.load(model)
    rejected = 0
    with _output(out) as stream:
        for answer in predictor.stream(file, format=format):
            rejected += "error" in answer
            stream.write(json.dumps(answer, ensure_ascii=False) + "\n")
    if rejected:
        print(f"polydetr: {rejected} rows were rejected; each has its reason under \"error\"", file=sys.stderr)


def _output(path: Path | None) -> Any:
    import contextlib

    if path is None:
        return contextlib.nullcontext(sys.stdout)
    return _atomic(path)


def _atomic(path: Path) -> Any:
    import contextlib
    import os

    from polydetr.errors import SaveError

    @contextlib.contextmanager
    def writing() -> Any:
        partial = path.with_name(f".{path.name}.partial")
        try:
            with partial.open("w", encoding="utf-8") as stream:
                yield stream
            os.replace(partial, path)
        except OSError as error:
            raise SaveError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
        finally:
            partial.unlink(missing_ok=True)

    return writing()


@app.command()
def inspect(
    file: Annotated[str, typer.Argument(help="Rows to look at.")],
    valid: Annotated[str | None, typer.Option("--valid", help="Validation rows, to find leaks between the splits.")] = None,
    test: Annotated[str | None, typer.Option("--test", help="Test rows, to find leaks between the splits.")] = None,
    target: Annotated[list[str] | None, typer.Option("--target", help="Column to predict, NAME or NAME:TASK.")] = None,
    format: Format = None,
    as_json: JsonFlag = False,
) -> None:
    """What is in a file: columns, types, missing values, labels, duplicates, leaks, suspicious labels."""
    from polydetr.data.inspect import inspect_data

    inspection = inspect_data(file, valid=valid, test=test, target=target, format=format)
    if as_json:
        _print_json(inspection.to_dict())
    else:
        print(inspection.to_text())


@backbones_app.command("list")
def backbones_list(as_json: JsonFlag = False) -> None:
    """The backbones that work without an account."""
    from polydetr.backbones.fetch import is_fetched
    from polydetr.backbones.specs import BACKBONES

    rows = [
        {"name": s.name, "kind": s.kind, "languages": s.languages, "licence": s.license, "here": is_fetched(s.name), "note": s.note}
        for s in BACKBONES.values()
    ]
    _print_json(rows) if as_json else _print_rows(rows)


@backbones_app.command("fetch")
def backbones_fetch(name: Annotated[str, typer.Argument(help="A name of the list.")]) -> None:
    """Fetch one backbone, check it, and keep it for later runs."""
    from polydetr.backbones.fetch import fetch_backbone

    print(fetch_backbone(name, report=_say))


@data_app.command("list")
def data_list(as_json: JsonFlag = False) -> None:
    """The sample data sets."""
    from polydetr.data.samples import list_samples

    rows = [s.to_dict() for s in list_samples()]
    _print_json(rows) if as_json else _print_rows(rows)


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="A name of the list.")],
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("data"),
) -> None:
    """Fetch one sample data set, check it, and write it as files that polydetr reads."""
    from polydetr.data.samples import fetch_sample

    info = fetch_sample(name, out / name, report=_say)
    for path in info.files:
        print(path)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=1))


def _print_rows(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for name in rows[0]:
        table.add_column(name)
    for row in rows:
        table.add_row(*(("yes" if v else "no") if isinstance(v, bool) else str(v) for v in row.values()))
    Console().print(table)


def _print_metrics(metrics: dict[str, Any]) -> None:
    for split, targets in metrics.items():
        for target, values in targets.items():
            shown = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
            print(f"{split + ' ' if split else ''}{target}: {shown}")


if __name__ == "__main__":
    main()
