"""The options by which every verb reads rows: written once, so that no hint names one that a verb lacks."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from polydetr.core.reading import ReadOptions

JsonFlag = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output and nothing else there.")
]

MaxPixels = Annotated[int | None, typer.Option("--max-pixels", help="Pixels of the largest image that is read.", min=1)]

FORMATS = (
    "csv, tsv, jsonl, parquet, xlsx, conll, text, json, squad, labelstudio, coco, cvat, voc, yolo, boxes or images, "
    "where no name shows it."
)
OPTIONS: dict[str, Any] = {
    "format": Annotated[str | None, typer.Option("--format", help=FORMATS)],
    "encoding": Annotated[
        str | None, typer.Option("--encoding", help="Of a text file that is not UTF-8, for example gb18030.")
    ],
    "delimiter": Annotated[
        str | None, typer.Option("--delimiter", help="Between the cells of a table: one character, or tab.")
    ],
    "header": Annotated[
        bool | None, typer.Option("--header/--no-header", help="Whether the first line of a table names its columns.")
    ],
    "columns": Annotated[
        str | None, typer.Option("--columns", help="The names of a table's columns, in their order: text,label.")
    ],
    "images": Annotated[
        str | None, typer.Option("--images", help="The folder of the images: paths begin there, and do not leave it.")
    ],
    "skip_errors": Annotated[
        bool, typer.Option("--skip-errors", help="Leave out rows that cannot be read, and report them.")
    ],
}


def reads_rows(verb: Callable[..., Any]) -> Callable[..., Any]:
    """``verb``, which takes ``reading: ReadOptions``, with the command line's options in its place."""
    own = inspect.signature(verb, eval_str=True)
    kinds = {name: p.annotation for name, p in own.parameters.items() if name != "reading"} | OPTIONS
    defaults = {name: p.default for name, p in own.parameters.items()}
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults.get(name), annotation=kind)
        for name, kind in kinds.items()
    ]

    @functools.wraps(verb)
    def with_options(**given: Any) -> Any:
        options = {name: given.pop(name) for name in OPTIONS}
        return verb(**given, reading=_reading(**options))

    with_options.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = kinds
    return with_options


def _reading(*, delimiter: str | None, columns: str | None, skip_errors: bool, **options: Any) -> ReadOptions:
    return ReadOptions(
        **options,
        delimiter="\t" if delimiter in ("tab", "\\t") else delimiter,
        columns=None if columns is None else tuple(name.strip() for name in columns.split(",")),
        on_error="skip" if skip_errors else None,
    )
