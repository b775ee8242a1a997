"""The inputs of a corrected row as they are kept: JSON, and each image once, by the SHA-256 of its bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from polydetr.data.readers.shapes import check_values
from polydetr.errors import RowError
from polydetr.serving.contract import Row
from polydetr.serving.rows import Columns, item_of

_IMAGE, _MAPPING = "$image", "$mapping"
"""Keys of what stands for an image, and for a mapping of the user's that has such a key itself."""
_EXACT = 2**53


@dataclass(frozen=True)
class PackedRow:
    """key: the SHA-256 of the inputs, the same for the same inputs however their columns are ordered; text: the row as
    JSON, in ASCII; images: SHA-256 → bytes.
    """

    key: str
    text: str
    images: Mapping[str, bytes]


def inputs_of(row: Any, columns: Columns) -> Row:
    """What the model reads of a row, in its own order, images as bytes.

    Raises:
        RowError: it is no row that this model can be asked with.
    """
    found = item_of(row, columns)
    if isinstance(found, RowError):
        raise found
    inputs = {name: found[name] for name in columns.inputs if name in found}
    if not inputs:
        raise RowError(f"the row has none of the columns that the model reads: {', '.join(columns.inputs)}.")
    check_values(inputs)
    return inputs


def packed(row: Row) -> PackedRow:
    """The row as it is kept."""
    images: dict[str, bytes] = {}

    def put(content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        images[digest] = content
        return digest

    plain = {name: _packed(value, put) for name, value in row.items()}
    there = {name: _alike(value) for name, value in plain.items() if value is not None}
    return PackedRow(hashlib.sha256(_json(there, ordered=True).encode()).hexdigest(), _json(plain), images)


def unpacked(text: str, image: Callable[[str], bytes]) -> dict[str, Any]:
    """The row of ``packed``. image: SHA-256 → bytes."""
    return {name: _unpacked(value, image) for name, value in json.loads(text).items()}


def with_images(value: Any, named: Callable[[bytes], Any]) -> Any:
    """A cell with ``named(content)`` in place of each image."""
    if isinstance(value, bytes):
        return named(value)
    if isinstance(value, Mapping):
        return {name: with_images(one, named) for name, one in value.items()}
    return [with_images(one, named) for one in value] if isinstance(value, list | tuple) else value


def _json(value: Any, *, ordered: bool = False) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False, sort_keys=ordered, separators=(",", ":"))


def _packed(value: Any, put: Callable[[bytes], str]) -> Any:
    if isinstance(value, bytes):
        return {_IMAGE: put(value)}
    if isinstance(value, Mapping):
        inside = {str(name): _packed(one, put) for name, one in value.items()}
        return {_MAPPING: inside} if inside.keys() & {_IMAGE, _MAPPING} else inside
    if isinstance(value, list | tuple):
        return [_packed(one, put) for one in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None if value != value else str(value)
    return value


def _unpacked(value: Any, image: Callable[[str], bytes]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {_IMAGE}:
            return image(value[_IMAGE])
        inside = value[_MAPPING] if value.keys() == {_MAPPING} else value
        return {name: _unpacked(one, image) for name, one in inside.items()}
    return [_unpacked(one, image) for one in value] if isinstance(value, list) else value


def _alike(value: Any) -> Any:
    """1.0 as 1: a form sends the one, a file holds the other."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    if isinstance(value, dict):
        return {name: _alike(one) for name, one in value.items()}
    return [_alike(one) for one in value] if isinstance(value, list) else value
