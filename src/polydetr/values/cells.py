"""One cell of a table: a raw value, from whatever source, as a number or a category; or missing.

The schema, the inspection, the table's columns, numeric targets and labels all read cells by these functions (dates:
``values.dates``).

All raise RowError, with the value, the column and a remedy, where a value is neither readable nor missing: no text
ever becomes NaN without a message.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from polydetr.errors import Location, RowError

# fmt: off
MISSING_WORDS = frozenset((
    "", "-", "--", "–", "—", "?", ".", "na", "n/a", "n.a.", "#n/a", "#na", "<na>", "nan", "-nan", "nat", "null", "none",
    "nil", "missing", "\\n", "#null!", "#div/0!", "#value!",
))
# fmt: on
"""What numbers and dates are left out by, in lower case. Categories know empty cells alone, unless all their names are
numbers (``words_are_missing``): "NA" may be Namibia."""

_CURRENCY = r"(?:[$€£¥₹₽₩₺₫฿₴元円]|(?:USD|EUR|GBP|JPY|CNY|RMB|INR|CHF|CAD|AUD|HKD|US\$)(?![A-Za-z]))"
_SIGNED = re.compile(
    rf"(?P<sign>[+-]?)\s*{_CURRENCY}?\s*(?P<sign2>[+-]?)(?P<body>.*?)\s*(?:{_CURRENCY}|(?P<percent>%))?", re.I
)
_EXPONENT = r"(?:e[+-]?\d+)?"
_FIRST = r"[1-9]\d{0,2}"  # a group of thousands never begins with 0: 0,512 is no number of thousands
_POINT = re.compile(
    rf"(?:\d+|{_FIRST}(?:[, '’_]\d{{3}})+|[1-9]\d?(?:,\d{{2}})+,\d{{3}})(?:\.\d*)?{_EXPONENT}|\.\d+{_EXPONENT}", re.I
)
_COMMA = re.compile(rf"(?:\d+|{_FIRST}(?:[. '’_]\d{{3}})+)(?:,\d*)?{_EXPONENT}|,\d+{_EXPONENT}", re.IGNORECASE)
_CLOCK = re.compile(
    r"(?:(?P<days>-?\d+) days?,? \+?)?(?P<hours>\d{1,3}):(?P<minutes>[0-5]\d)(?::(?P<seconds>[0-5]\d(?:\.\d+)?))?"
    r"(?:\s*(?P<half>[ap])\.?m\.?)?",
    re.IGNORECASE,
)
LONGEST = 400
"""Characters of a number or a date; longer texts are neither, and would take long to find that out of."""
_TRUTH = {"true": True, "false": False}
_WHOLE = re.compile(r"(-?(?:0|[1-9]\d*))\.00?")  # 3.000 may be three thousand
MOST = 0.9
"""Such a share of a column's cells decides how it is read; the others are then errors, row by row."""


class SemicolonCell(str):
    """A cell of a file that separates by semicolons, as programs do which write decimals with a comma: 1,234 in it is
    more likely 1.234 than 1234.
    """

    __slots__ = ()


def is_missing(value: Any) -> bool:
    """None, NaN of any kind, pandas' NaT and NA, text of white space alone."""
    if value is None:
        return True
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, (float, Decimal, np.floating)):
        return value != value
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return bool(np.isnat(value))
    return type(value).__name__ in ("NaTType", "NAType")  # named, so that pandas need not be there


def says_missing(value: Any) -> bool:
    """Missing, or a text that a number or a date is left out by, such as "n/a"."""
    return is_missing(value) or (isinstance(value, str) and value.strip().lower() in MISSING_WORDS)


# -- numbers ----------------------------------------------------------------------------------------------------------


def read_number(value: Any, *, column: str, comma: bool = False) -> float | None:
    """A finite number, or None where it is missing. ``comma``: text writes 1.234,5 for 1234.5.

    Text may have thousands separators, a currency sign, a percent sign (12% is 0.12), brackets for minus. A duration
    and a time of day (13:45) are seconds.

    Raises:
        RowError: the value is no number, or is infinite.
    """
    if isinstance(value, str):
        number = _text_number(str(value), column, comma)
    elif is_duration(value):
        number = _seconds(value)
    elif isinstance(value, (float, int, np.number, np.bool_, Decimal, Fraction)):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        except (TypeError, ValueError):  # a signaling NaN, a complex number
            raise _not_a_number(value, column) from None
        if number != number:
            return None
    elif is_missing(value):
        return None
    else:
        raise _not_a_number(value, column)
    if number is not None and math.isinf(number):
        raise RowError(
            f"{value!r:.80} is infinite, or too large for a number.",
            location=Location(column=column),
            hint="Leave the cell empty where the value is unknown, or write the largest value that makes sense.",
        )
    return number


def _text_number(value: str, column: str, comma: bool) -> float | None:
    """The number that a text writes, or None for one of ``MISSING_WORDS``. Raises RowError."""
    if not comma and "_" not in value:  # Python takes 1_12 for 112
        with suppress(ValueError):
            number = float(value)
            return number if number == number else None
    text = plain_text(value)
    if text.lower() in MISSING_WORDS:
        return None
    if text.lower() in _TRUTH:
        return float(_TRUTH[text.lower()])
    negative, body, percent = _strip_signs(text)
    if len(body) <= LONGEST and (_COMMA if comma else _POINT).fullmatch(body):
        marks = ". '’_" if comma else ", '’_"
        number = float(body.translate(dict.fromkeys(map(ord, marks))).replace(",", "."))
    elif body.lower() in ("inf", "infinity", "∞"):
        number = math.inf
    elif clock := _CLOCK.fullmatch(text[: LONGEST + 1]):
        return _clock_seconds(clock)
    else:
        raise _not_a_number(value, column, comma=comma)
    number = number / 100 if percent else number
    return -number if negative else number


def plain_text(text: str) -> str:
    """Full-width digits, no-break spaces and the true minus sign as plain ones; a text with other digits, as 5² has
    one, as it is.
    """
    if not text.isascii() and all(c.isdecimal() for c in text if c.isdigit()):
        text = unicodedata.normalize("NFKC", text).replace("−", "-")
    return text.strip()


def _strip_signs(text: str) -> tuple[bool, str, bool]:
    """(negative, the digits with their separators, whether a percent sign follows)."""
    negative = text.startswith("(") and text.endswith(")")  # as accountants write it
    match = _SIGNED.fullmatch(text[1:-1].strip() if negative else text) if len(text) <= LONGEST else None
    if match is None:  # a line break inside, or a whole text
        return False, text, False
    signs = match["sign"] + match["sign2"]
    return negative or signs == "-", match["body"] if len(signs) < 2 else text, match["percent"] is not None


def _not_a_number(value: Any, column: str, *, comma: bool = False) -> RowError:
    where = " (the training rows of this column write decimals with a comma)" if comma else ""
    return RowError(
        f"{value!r:.80} is not a number{where}.",
        location=Location(column=column),
        hint="Leave the cell empty (or write NA) where the value is unknown; a column of words is a category: "
        f"train --input {column}:category --input '*' (inputs={{{column!r}: 'category', '*': None}}).",
    )


class DecimalMarks(NamedTuple):
    """How many texts of a column can only be read with a decimal comma, how many only with a decimal point, how many as
    two different numbers, and how many as the same number.
    """

    commas: int
    points: int
    either: int
    same: int

    @property
    def comma(self) -> bool:
        """Whether decimals are written with a comma: more texts need one than need a point, and they are not a few
        slips among many like 1,234, which are then numbers of thousands.
        """
        return self.commas > self.points and self.commas >= (1 - MOST) * (self.commas + self.either)

    def message(self, column: str) -> str:
        """What is to be told about the column; "" where nothing is."""
        if self.comma:
            also = f"; {self.points} of its values have a decimal point and cannot be read" if self.points else ""
            return f"column {column!r} writes decimals with a comma (1.234,5){also}"
        if self.either > MOST * sum(self):  # among numbers of thousands some are below 1000
            return f"column {column!r} can be read in two ways: 1,234 is taken for 1234, and 1.234 for less than 2"
        return ""


def decimal_marks(values: Iterable[Any]) -> DecimalMarks:
    """ "1.234,5", "0,5" and "3,14" speak for the comma, "1,234.5" and "0.5" for the point, "12" for neither; "1,234"
    may be either, unless it stands in a ``SemicolonCell``.
    """
    commas = points = either = same = 0
    for value in values:
        if isinstance(value, str):
            body = _strip_signs(plain_text(value))[1][: LONGEST + 1]
            point, comma = _POINT.fullmatch(body) is not None, _COMMA.fullmatch(body) is not None
            differ = point and comma and ("," in body or "." in body)
            leans = differ and "," in body and isinstance(value, SemicolonCell)
            commas += leans or (comma and not point)
            points += point and not comma
            either += differ and not leans
            same += point and comma and not differ
    return DecimalMarks(commas, points, either, same)


def is_duration(value: Any) -> bool:
    """A duration or a time of day, as Python, NumPy and pandas have them."""
    return isinstance(value, (dt.timedelta, np.timedelta64, dt.time)) and not is_missing(value)


def _seconds(value: dt.timedelta | np.timedelta64 | dt.time) -> float:
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, np.timedelta64):
        return float(value / np.timedelta64(1, "s"))
    return value.hour * 3600 + value.minute * 60 + value.second + value.microsecond / 1e6


def _clock_seconds(clock: re.Match[str]) -> float:
    hours = int(clock["hours"])
    if clock["half"]:
        hours = hours % 12 + (12 if clock["half"].lower() == "p" else 0)
    return int(clock["days"] or 0) * 86400 + hours * 3600 + int(clock["minutes"]) * 60 + float(clock["seconds"] or 0)


# -- categories -------------------------------------------------------------------------------------------------------


def read_category(value: Any, *, column: str) -> str | None:
    """The category's name, or None where it is missing. 3, 3.0, "3" and "3.0" are one category, and so are true, TRUE
    and True.

    Raises:
        RowError: the value is a list, an object or the like.
    """
    if isinstance(value, str):
        return _one_name(value.strip()) or None
    if type(value) is int:
        return str(value)
    if is_missing(value):
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, (bool, int, float, Decimal, dt.date, dt.time, dt.timedelta)):
        return str(value)
    raise RowError(
        f"{value!r:.80} is {type(value).__name__}, expected a category: text, a number, true or false.",
        location=Location(column=column),
    )


def category_name(value: Any) -> str:
    """``read_category`` where anything may stand: "" for what is missing, the text of what is no category."""
    try:
        return read_category(value, column="") or ""
    except RowError:
        return str(value)


def _one_name(text: str) -> str:
    """The same name for all spellings of a truth value, and for a whole number with and without .0 or .00, which
    programs write where a column has a gap.
    """
    if text[-1:] == "0" and (whole := _WHOLE.fullmatch(text)):
        return whole[1]
    if len(text) <= 5 and (truth := _TRUTH.get(text.lower())) is not None:
        return str(truth)
    return text


def words_are_missing(names: Iterable[str]) -> bool:
    """Whether words for what is missing, such as NA, are no names of a column of categories: all its other names are
    numbers, or truth values.
    """
    others = {name for name in names if name.lower() not in MISSING_WORDS}
    return bool(others) and all(name in ("True", "False") or _is_number(name) for name in others)


def _is_number(name: str) -> bool:
    try:
        return read_number(name, column="") is not None
    except RowError:
        return False


def is_empty(value: Any) -> bool:
    """Missing, as a cell of a table is (``is_missing``), or an empty list."""
    return is_missing(value) or (isinstance(value, (list, tuple)) and not value)
