"""One cell of a table: a raw value, from whatever source, as a number, a category or a moment in time; or missing.

The schema, the inspection, the table's columns and numeric targets all read cells by these functions.

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
from typing import Any

import numpy as np

from polydetr.errors import Location, RowError

# fmt: off
MISSING_WORDS = frozenset((
    "", "-", "--", "–", "—", "?", ".", "na", "n/a", "n.a.", "#n/a", "#na", "<na>", "nan", "-nan", "nat", "null", "none",
    "nil", "missing", "\\n", "#null!", "#div/0!", "#value!",
))
# fmt: on
"""What numbers and dates are left out by, in lower case. Categories know empty cells alone: "NA" may be Namibia."""

_CURRENCY = r"(?:[$€£¥₹₽₩₺₫฿₴元円]|(?:USD|EUR|GBP|JPY|CNY|RMB|INR|CHF|CAD|AUD|HKD|US\$)(?![A-Za-z]))"
_SIGNED = re.compile(
    rf"(?P<sign>[+-]?)\s*{_CURRENCY}?\s*(?P<sign2>[+-]?)(?P<body>.*?)\s*(?:{_CURRENCY}|(?P<percent>%))?", re.I
)
_EXPONENT = r"(?:e[+-]?\d+)?"
_POINT = re.compile(
    rf"(?:\d+|\d{{1,3}}(?:[, '’_]\d{{3}})+|\d{{1,2}}(?:,\d{{2}})+,\d{{3}})(?:\.\d*)?{_EXPONENT}|\.\d+{_EXPONENT}", re.I
)
_COMMA = re.compile(rf"(?:\d+|\d{{1,3}}(?:[. '’_]\d{{3}})+)(?:,\d*)?{_EXPONENT}|,\d+{_EXPONENT}", re.IGNORECASE)
_LONGEST = 400
"""Characters of a number or a date; longer texts are neither, and would take long to find that out of."""
_WORDS = {"true": 1.0, "false": 0.0}


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

    Text may have thousands separators, a currency sign, a percent sign (12% is 0.12), brackets for minus.

    Raises:
        RowError: the value is no number, or is infinite.
    """
    if isinstance(value, str):
        number = _text_number(str(value), column, comma)
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
    if not comma:
        with suppress(ValueError):
            number = float(value)
            return number if number == number else None
    text = _plain(value)
    if text.lower() in MISSING_WORDS:
        return None
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    negative, body, percent = _strip_signs(text)
    if len(body) <= _LONGEST and (_COMMA if comma else _POINT).fullmatch(body):
        marks = ". '’_" if comma else ", '’_"
        number = float(body.translate(dict.fromkeys(map(ord, marks))).replace(",", "."))
    elif body.lower() in ("inf", "infinity", "∞"):
        number = math.inf
    else:
        raise _not_a_number(value, column, comma=comma)
    number = number / 100 if percent else number
    return -number if negative else number


def _plain(text: str) -> str:
    """Full-width digits, no-break spaces and the true minus sign as plain ones."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).replace("−", "-")
    return text.strip()


def _strip_signs(text: str) -> tuple[bool, str, bool]:
    """(negative, the digits with their separators, whether a percent sign follows)."""
    negative = text.startswith("(") and text.endswith(")")  # as accountants write it
    match = _SIGNED.fullmatch(text[1:-1].strip() if negative else text) if len(text) <= _LONGEST else None
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


def decimal_marks(values: Iterable[Any]) -> tuple[int, int]:
    """How many texts can only be read with a decimal comma, and how many only with a decimal point.

    "1.234,5", "0,5" and "3,14" speak for the comma, "1,234.5" and "0.5" for the point; "1,234" and "12" for neither.
    """
    commas = points = 0
    for value in values:
        if isinstance(value, str):
            body = _strip_signs(_plain(value))[1][: _LONGEST + 1]
            point, comma = _POINT.fullmatch(body) is not None, _COMMA.fullmatch(body) is not None
            commas += comma and not point
            points += point and not comma
    return commas, points


def writes_comma(values: Iterable[Any]) -> bool:
    """Whether a column writes decimals with a comma: more of its texts need one than need a point."""
    commas, points = decimal_marks(values)
    return commas > points


# -- categories -------------------------------------------------------------------------------------------------------


def read_category(value: Any, *, column: str) -> str | None:
    """The category's name, or None where it is missing. 3, 3.0 and "3" are one category.

    Raises:
        RowError: the value is a list, an object or the like.
    """
    if isinstance(value, str):
        return value.strip() or None
    if type(value) is int:
        return str(value)
    if is_missing(value):
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, (bool, int, float, Decimal, dt.date, dt.time)):
        return str(value)
    raise RowError(
        f"{value!r:.80} is {type(value).__name__}, expected a category: text, a number, true or false.",
        location=Location(column=column),
    )


# -- dates ------------------------------------------------------------------------------------------------------------

_MONTHS = {name: i for i, name in enumerate(
    ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), start=1)}  # fmt: skip
_TIME = r"(?:[T,\s]+(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,]\d+)?)?\s*(?P<half>[ap]\.?m\.?)?" + (
    r"\s*(?:Z|UTC|GMT|[+-]\d{2}:?\d{2})?)?"
)
_YEAR_FIRST = re.compile(
    rf"(?P<year>\d{{4}})\s*[-/.年]\s*(?P<month>\d{{1,2}})(?:\s*[-/.月]\s*(?P<day>\d{{1,2}})\s*日?|月)?{_TIME}", re.I
)
_YEAR_LAST = re.compile(rf"(?P<a>\d{{1,2}})(?P<mark>[-/.])(?P<b>\d{{1,2}})[-/.](?P<year>\d{{4}}){_TIME}", re.I)
_NAMED, _DAY = r"(?P<name>[a-z]{3,9})\.?", r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_DAY_NAMED = re.compile(rf"{_DAY}[\s.-]+{_NAMED}[\s,.-]+(?P<year>\d{{4}}){_TIME}", re.I)
_MONTH_NAMED = re.compile(rf"{_NAMED}\s+{_DAY}[\s,]+(?P<year>\d{{4}}){_TIME}", re.I)


def read_date(value: Any, *, column: str, day_first: bool = False) -> dt.datetime | None:
    """A moment as it was written (time zones are not converted), or None where it is missing.

    datetime, date, numpy and pandas objects; text in ISO 8601, 2024/1/31, 31.01.2024, 31 Jan 2024, Jan 31, 2024,
    2024年1月31日, 01/31/2024 (``day_first``: 31/01/2024), each with or without a time.

    Raises:
        RowError: the value is no date.
    """
    if isinstance(value, str):
        text = _plain(value)
        if text.lower() in MISSING_WORDS:
            return None
        if len(text) <= _LONGEST and (moment := _text_date(text, day_first)):
            return moment
    elif is_missing(value):
        return None
    elif isinstance(value, dt.datetime):  # pandas' Timestamp is one
        return dt.datetime(value.year, value.month, value.day, value.hour, value.minute, value.second)
    elif isinstance(value, dt.date):
        return dt.datetime(value.year, value.month, value.day)
    elif isinstance(value, np.datetime64):
        moment = value.astype("datetime64[s]").item()
        if isinstance(moment, dt.datetime):
            return moment
    raise RowError(
        f"{value!r:.80} is not a date.",
        location=Location(column=column),
        hint="Write dates as 2024-01-31 or 2024-01-31 13:45; leave the cell empty where the date is unknown.",
    )


def _text_date(text: str, day_first: bool) -> dt.datetime | None:
    """The moment that a text writes; None where it is no date."""
    if not text.isdigit() or len(text) == 8:  # 20240131, but neither 2024 nor 1706700000
        with suppress(ValueError):
            return dt.datetime.fromisoformat(text).replace(tzinfo=None, microsecond=0)
    for pattern in (_YEAR_FIRST, _YEAR_LAST, _DAY_NAMED, _MONTH_NAMED):
        if match := pattern.fullmatch(text):
            break
    else:
        return None
    parts = match.groupdict()
    if "a" in parts:
        first = day_first or parts["mark"] == "."
        day, month = (parts["a"], parts["b"]) if first else (parts["b"], parts["a"])
    else:
        day, month = parts["day"] or "1", parts.get("month") or _MONTHS.get(parts["name"][:3].lower(), 0)
    hour = int(parts["hour"] or 0)
    if parts["half"]:
        hour = hour % 12 + (12 if parts["half"].lower().startswith("p") else 0)
    try:
        return dt.datetime(int(parts["year"]), int(month), int(day), hour, int(parts["minute"] or 0))
    except ValueError:  # 31 February
        return None


def day_order(values: Iterable[Any]) -> tuple[int, int]:
    """How many texts of the form a/b/year can only be day first, and how many only month first."""
    days = months = 0
    for value in values:
        short = isinstance(value, str) and len(value) <= _LONGEST
        match = _YEAR_LAST.fullmatch(_plain(value)) if short else None
        if match and match["mark"] != ".":
            days += int(match["a"]) > 12
            months += int(match["b"]) > 12
    return days, months


def is_empty(value: Any) -> bool:
    """Missing, as a cell of a table is (``is_missing``), or an empty list."""
    return is_missing(value) or (isinstance(value, (list, tuple)) and not value)
