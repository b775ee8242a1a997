"""The verbs ``backbones list`` and ``backbones fetch``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from polydetr.cli.output import print_entry, print_json, say
from polydetr.cli.reading import JsonFlag


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


def backbones_fetch(name: Annotated[str, typer.Argument(help="A name of the list.")]) -> None:
    """Fetch one backbone, check it, and keep it for later runs."""
    from polydetr.fetch.backbones import fetch_backbone

    print(fetch_backbone(name, report=say))
