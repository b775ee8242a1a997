"""What a column holds, by its values: numbers, dates, categories, texts, images, or nothing worth reading."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from polydetr.errors import RowError
from polydetr.values.cells import is_missing, read_date, read_number, writes_comma
from polydetr.values.files import is_image_name

MIN_ROWS = 20
"""Below this, ratios say nothing."""
_MOST = 0.9  # such a share of a column's values decides what it holds; the others are then errors, row by row
_LOOKED_AT = 1000  # values of a column that are read as numbers and dates to find out what it holds
_ID_NAME = re.compile(
    r"(?:.*[_\s-])?(?:id|uuid|guid|index|idx|sku|ean|isbn|barcode)|unnamed.*|.*[a-z]I[dD]|column_1", re.IGNORECASE
)
_NAMES_IMAGES = re.compile(
    r"(?:.*[_\s-])?(?:image|img|photo|picture|pic)s?(?:[_\s-]?(?:id|name|file|key|path))?", re.IGNORECASE
)
_ID_VALUE = re.compile(r"(?=.*\d)[A-Za-z0-9_:./#-]{1,64}")


def numbers_of(name: str, values: Sequence[Any]) -> list[float] | None:
    """The numbers of a column that holds them, however they are written; None for a column of anything else.

    Cells that say "n/a" or the like do not count; true and false are categories.
    """
    sample = _sample(values)
    if any(str(value).lower() in ("true", "false") for value in sample):
        return None
    return _readable(sample, functools.partial(read_number, column=name, comma=writes_comma(sample))) or None


def _sample(values: Sequence[Any]) -> Sequence[Any]:
    return values[:: max(1, len(values) // _LOOKED_AT)]


def _readable(values: Sequence[Any], read: Callable[[Any], Any]) -> list[Any]:
    """What ``read`` makes of the values, those that are missing left out; nothing where it cannot read ``_MOST``."""
    cells, others = [], 0
    for value in values:
        try:
            cells.append(read(value))
        except RowError:
            others += 1
    cells = [cell for cell in cells if cell is not None]
    return cells if len(cells) >= _MOST * (len(cells) + others) else []


def infer_modality(name: str, values: Sequence[Any]) -> tuple[str, str]:
    """The modality of an input column from its values that are not missing, and why it is to be ignored ("" if it is
    not).
    """
    if not values:
        return "ignore", "it has no values"
    first = values[0]
    shape = getattr(first, "__array_interface__", {}).get("shape", ())  # of NumPy and PIL
    if len(shape) > 1:
        return "image", ""
    if shape:  # a column of lists, as Parquet and pandas give it
        first = list(first)
    if isinstance(first, (list, tuple)):
        return ("text", "") if name == "tokens" and isinstance(first[0] if first else "", str) else ("history", "")
    if isinstance(first, (bytes, bytearray)):
        return "image", ""
    if isinstance(first, Mapping):
        return "ignore", "it holds objects"
    words = [str(v) for v in values]
    distinct = len(set(words))
    if distinct == 1 and len(words) >= 5:
        return "ignore", f"every row has the same value {words[0]!r:.40}"
    unique = distinct == len(words) and len(words) >= MIN_ROWS
    if numbers_of(name, values) is not None:
        if any(re.fullmatch(r"0\d[\d ]*", w) for w in words):  # 002756 and 030 123 456 are codes
            return "category", ""
        whole = all(re.fullmatch(r"\d+", w) for w in words)
        return ("ignore", "it numbers the rows") if unique and whole and _ID_NAME.fullmatch(name) else ("number", "")
    if _readable(_sample(values), functools.partial(read_date, column=name)):
        return "date", ""
    if sum(map(is_image_name, words)) >= _MOST * len(words):
        return "image", ""
    if unique and (_mostly(_ID_VALUE, words) or (_ID_NAME.fullmatch(name) and not any(" " in w for w in words))):
        return "ignore", "it holds identifiers, none of them twice in the rows looked at"
    few = len(words) >= MIN_ROWS and distinct <= 0.2 * len(words)
    return ("category", "") if few and sum(map(len, words)) / len(words) <= 30 else ("text", "")


def may_name_images(name: str, values: Sequence[Any]) -> bool:
    """True for a column whose name speaks of images and whose values may be their names without suffixes."""
    words = [str(value).strip() for value in values[:_LOOKED_AT]]
    return bool(words) and _NAMES_IMAGES.fullmatch(name) is not None and not any(" " in word for word in words)


def _mostly(pattern: re.Pattern[str], words: Sequence[str]) -> bool:
    """Whether so many of the words match the pattern that it decides what the column holds."""
    return sum(pattern.fullmatch(w) is not None for w in words) >= _MOST * len(words)


def determines(column: str, target: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """True if the column determines the target and is not merely fine-grained: as many values as labels, up to a
    half more.
    """
    pairs = Counter(
        (str(r[column]), str(r[target]))
        for r in rows
        if not is_missing(r.get(column)) and not is_missing(r.get(target))
    )
    values, labels = {v for v, _ in pairs}, {label for _, label in pairs}
    enough = pairs.total() >= max(MIN_ROWS, 3 * len(labels))
    return enough and len(labels) > 1 and len(pairs) == len(values) <= 1.5 * len(labels)
