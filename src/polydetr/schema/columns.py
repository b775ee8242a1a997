"""What a column holds, by its values: numbers, dates, categories, texts, images, or nothing worth reading."""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from polydetr.errors import RowError
from polydetr.values.cells import MOST, decimal_marks, is_missing, read_number, says_missing
from polydetr.values.dates import day_order, read_date
from polydetr.values.files import holds_image, is_image_name

MIN_ROWS = 20
"""Below this, ratios say nothing."""
_LOOKED_AT = 1000  # values of a column that are read as numbers and dates to find out what it holds
_ID_NAME = re.compile(
    r"(?i:(?:.*[_\s.:-])?(?:id|uuid|guid|idx|sku|ean|isbn|barcode)|index|row[_\s-]?(?:index|number|no|nr|num))|.*[a-z]I[dD]"
)
_MADE_UP_NAME = re.compile(r"unnamed.*|column_1", re.IGNORECASE)  # of a column without a name, often an index
_NAMES_IMAGES = re.compile(
    r"(?:.*[_\s-])?(?:image|img|photo|picture|pic)s?(?:[_\s-]?(?:id|name|file|key|path))?", re.IGNORECASE
)
_ID_VALUE = re.compile(r"(?=.*\d)[A-Za-z0-9_:./#-]{1,64}")
_CODE = re.compile(r"0\d[\d ]*")  # 002756 and 030 123 456
_WHOLE = re.compile(r"\d+(?:\.0)?")
_ANNOTATIONS = ({"box", "label"}, {"start", "end", "label"})
"""Keys of what is marked in an image or a text: targets, never inputs by themselves."""
_FEW_CODES = 0.05
"""Such a share of numbers of one length that begin with 0 makes codes of all; of several lengths, twice as many."""


def numbers_of(name: str, values: Sequence[Any]) -> list[float] | None:
    """The numbers of a column that holds them, however they are written; None for a column of anything else.

    Cells that say "n/a" or the like do not count; true and false are categories.
    """
    sample = _sample(values)
    if _share(str(value).lower() in ("true", "false") for value in sample) > 1 - MOST:
        return None
    return _readable(sample, functools.partial(read_number, column=name, comma=decimal_marks(sample).comma)) or None


def holds_codes(values: Sequence[Any]) -> bool:
    """Whether numbers are names: many begin with 0, as 0049 does, or are written in several ways that recur, as section
    1.1 and section 1.10 are.
    """
    words = [str(value).strip() for value in values if not says_missing(value)]
    if not words:
        return False
    if _share(word.replace(" ", "").isdecimal() for word in words) >= MOST:
        led = sum(_CODE.fullmatch(word) is not None for word in words)
        of_one_length = max(Counter(map(len, words)).values()) >= MOST * len(words)
        enough = (_FEW_CODES if of_one_length else 2 * _FEW_CODES) * len(words)
        return led >= max(enough, 2 if len(words) >= MIN_ROWS else 1)  # a single one is a slip
    if _share(re.fullmatch(r"\d+\.\d+", word) is not None for word in words) < MOST or not _few(words):
        return False
    spellings: dict[float, set[str]] = {}
    for word in set(words):
        spellings.setdefault(_float(word), set()).add(word)
    return _share(len(spellings[_float(word)]) > 1 for word in words) >= 2 * _FEW_CODES


def holds_words(values: Sequence[Any]) -> bool:
    """Whether the values are strings that may be short texts: no codes with digits, no truth values."""
    codes = _share(bool(_ID_VALUE.fullmatch(str(v))) or str(v).lower() in ("true", "false") for v in values)
    return isinstance(typical(values), str) and codes < MOST


def _float(word: str) -> float:
    return float(word) if re.fullmatch(r"\d+\.\d+", word) else math.nan


def _share(found: Iterable[bool]) -> float:
    """The share of what is true; 0 of nothing."""
    each = list(found)
    return sum(each) / max(1, len(each))


def _few(words: Sequence[str]) -> bool:
    """Whether the same words come back again and again."""
    return len(words) >= MIN_ROWS and len(set(words)) <= 0.2 * len(words)


def _sample(values: Sequence[Any]) -> Sequence[Any]:
    return values[:: max(1, len(values) // _LOOKED_AT)]


def _readable(values: Sequence[Any], read: Callable[[Any], Any]) -> list[Any]:
    """What ``read`` makes of the values, those that are missing left out; nothing where it cannot read ``MOST``."""
    cells, others = [], 0
    for value in values:
        try:
            cells.append(read(value))
        except RowError:
            others += 1
    cells = [cell for cell in cells if cell is not None]
    return cells if len(cells) >= MOST * (len(cells) + others) else []


def typical(values: Sequence[Any]) -> Any:
    """The first value of the type that most values have."""
    common = Counter(map(type, values)).most_common(1)[0][0]
    return next(value for value in values if type(value) is common)


def infer_modality(name: str, values: Sequence[Any], declared: str | None = None) -> tuple[str, str]:
    """The modality of an input column from its values that are not missing, and why it is to be ignored ("" if it is
    not). declared: what the type of the column in a data frame says it is.
    """
    if not values:
        return "ignore", "it has no values"
    if of_type := _by_type(name, typical(values)):
        return of_type
    words = [str(v) for v in values]
    distinct = len(set(words))
    if distinct == 1 and len(words) >= 5:
        return "ignore", f"every row has the same value {words[0]!r:.40}"
    if declared is not None:
        return declared, ""
    if _share(word.lower() in ("true", "false") for word in words) >= MOST or holds_codes(values):
        return "category", ""
    unique = distinct >= MOST * len(words) and len(words) >= MIN_ROWS
    if numbers_of(name, values) is not None:
        # A column called "id" is one in few rows, too.
        apart = unique or (name.lower() in ("id", "image_id") and distinct == len(words) > 1)
        numbers_rows = apart and _mostly(_WHOLE, words) and (_ID_NAME.fullmatch(name) or _counts_up(name, words))
        return ("ignore", f"it numbers the rows{_kept(name, 'number')}") if numbers_rows else ("number", "")
    sample = _sample(values)
    if _readable(sample, functools.partial(read_date, column=name, day_first=day_order(sample).day_first)):
        return "date", ""
    if _share(map(is_image_name, words)) >= MOST:
        return "image", ""
    by_name = _ID_NAME.fullmatch(name) and _share(" " in word for word in words) < 1 - MOST
    if unique and (by_name or (_mostly(_ID_VALUE, words) and not _holds_measures(words))):
        return "ignore", f"it holds identifiers, nearly every row one of its own{_kept(name, 'text')}"
    short = _few(words) and sum(map(len, words)) / len(words) <= 30
    all_text = _share(isinstance(value, str) for value in values) >= MOST  # texts are strings alone
    return ("category", "") if short or not all_text else ("text", "")


def _kept(name: str, kind: str) -> str:
    return f". To read it all the same: --input {name}:{kind} --input '*'"


def _by_type(name: str, value: Any) -> tuple[str, str] | None:
    """What follows from the type of a column's values; None for single values, of which the content decides."""
    shape = getattr(value, "__array_interface__", {}).get("shape", ())  # of NumPy and PIL
    if len(shape) > 1 or isinstance(value, (bytes, bytearray)):
        return "image", ""
    if shape:  # a column of lists, as Parquet and pandas give it
        value = list(value)
    if holds_image(value[0] if isinstance(value, (list, tuple)) and value else value):
        return "image", ""
    if isinstance(value, (list, tuple)):
        if value and isinstance(value[0], Mapping) and any(keys <= value[0].keys() for keys in _ANNOTATIONS):
            return "ignore", f"it holds annotations, known once somebody labeled the row{_kept(name, 'history')}"
        return ("text", "") if name == "tokens" and isinstance(value[0] if value else "", str) else ("history", "")
    return ("ignore", "it holds objects") if isinstance(value, Mapping) else None


def _counts_up(name: str, words: Sequence[str]) -> bool:
    """Whether a column without a name of its own counts its rows: the sample is spaced evenly."""
    if not _MADE_UP_NAME.fullmatch(name):
        return False
    numbers = [float(word) for word in words if _WHOLE.fullmatch(word)]
    return _share(b - a == numbers[1] - numbers[0] for a, b in pairwise(numbers)) >= MOST


def _holds_measures(words: Sequence[str]) -> bool:
    """Whether the words are quantities in a writing of their own (132/82, 97.7kg, 5'11): they begin with a digit, have
    no long run of them, as identifiers do, and at most three kinds of letters.
    """
    shaped = [word for word in words if re.match(r"\W?\d", word) and not re.search(r"(?<![.,\d])\d{5}", word)]
    units = Counter(re.sub(r"[^A-Za-z]+", " ", word).strip().lower() for word in shaped)
    return sum(count for _, count in units.most_common(3)) >= MOST * len(words)


def may_name_images(name: str, values: Sequence[Any]) -> bool:
    """True for a column whose name speaks of images and whose values may be their names without suffixes."""
    words = [str(value).strip() for value in values[:_LOOKED_AT]]
    return bool(words) and _NAMES_IMAGES.fullmatch(name) is not None and not any(" " in word for word in words)


def _mostly(pattern: re.Pattern[str], words: Sequence[str]) -> bool:
    """Whether so many of the words match the pattern that it decides what the column holds."""
    return sum(pattern.fullmatch(w) is not None for w in words) >= MOST * len(words)


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
