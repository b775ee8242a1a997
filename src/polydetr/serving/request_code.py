"""A request as others would send it: as a line for a shell, and as a few lines of Python."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from polydetr.serving.contract import Row

IMAGE = "FILE"
"""Stands for the name of an image's file."""


def curl_line(address: str, model: str, row: Row, *, with_key: bool, options: Mapping[str, Any] | None = None) -> str:
    """A command that asks the model with this row. options: of the address, such as ``min_confidence``."""
    query = "&".join(f"{name}={quote(_said(value), safe='')}" for name, value in (options or {}).items())
    words = ["curl", "-s", f"{address}/v1/models/{quote(model, safe='')}/predict{'?' if query else ''}{query}"]
    words += ["-H", "Authorization: Bearer KEY"] if with_key else []
    if has_images(row):
        for name, value in row.items():
            for one in value if isinstance(value, list) and has_images({name: value}) else [value]:
                words += ["-F", f"{name}=@{IMAGE}" if isinstance(one, bytes) else f"{name}={_said(one)}"]
    else:
        words += ["-H", "Content-Type: application/json", "-d", json.dumps({"rows": [row]}, ensure_ascii=False)]
    return " ".join(map(shlex.quote, words))


def python_lines(
    address: str, model: str, row: Row, *, with_key: bool, options: Mapping[str, Any] | None = None
) -> str:
    """The same by ``polydetr.client``."""
    more = "".join(f", {name}={value!r}" for name, value in (options or {}).items())
    key = ', key="KEY"' if with_key else ""
    lines = ["from polydetr.client import Client"]
    lines = ["from pathlib import Path", "", *lines] if has_images(row) else lines
    columns = [f"    {name!r}: {_literal(value)}," for name, value in row.items()]
    lines += ["", "row = {", *columns, "}", f"with Client({address!r}{key}) as client:"]
    lines += [f"    [answer] = client.predict({model!r}, [row]{more})", 'print(answer["prediction"])']
    return "\n".join(lines)


def has_images(row: Row) -> bool:
    """Whether a cell holds the content of an image."""
    return any(
        isinstance(one, bytes) for value in row.values() for one in (value if isinstance(value, list) else [value])
    )


def _literal(value: Any) -> str:
    if isinstance(value, bytes):
        return f'Path("{IMAGE}")'
    if isinstance(value, list) and any(isinstance(one, bytes) for one in value):
        return f"[{', '.join(map(_literal, value))}]"
    return repr(value)


def _said(value: Any) -> str:
    """A value as a form or an address has it: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
