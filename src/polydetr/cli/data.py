"""The verbs about rows: ``inspect``, ``data list`` and ``data fetch``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polydetr.cli.output import print_entry, print_inspection, print_json, say, stdout_kept_clean
from polydetr.cli.reading import JsonFlag, reads_rows
from polydetr.core.reading import ReadOptions


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
    group: Annotated[
        str | None, typer.Option(help="Column of which no value should stand in two splits, for example a patient.")
    ] = None,
    as_json: JsonFlag = False,
    *,
    reading: ReadOptions,
) -> None:
    """What is in a file: columns, types, missing values, labels, duplicates, leaks, suspicious labels."""
    from polydetr.config.loading import names_of
    from polydetr.data.inspect import inspect_data

    with stdout_kept_clean(as_json):
        inspection = inspect_data(
            file, valid=valid, test=test, target=target, inputs=names_of(input), group=group, reading=reading
        )
    if as_json:
        print_json(inspection.to_dict())
    else:
        print_inspection(inspection)


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


def data_fetch(
    name: Annotated[str, typer.Argument(help="A name of the list.")],
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("data"),
) -> None:
    """Fetch one sample data set, check it, and write it as files that polydetr reads."""
    from polydetr.fetch.samples import fetch_sample

    info = fetch_sample(name, out / name, report=say)
    for path in info.files.values():
        print(path)
