"""A moment, read from one cell: dates with or without a time, however a source writes them.

All raise RowError, with the value, the column and a remedy, where a value is neither a date nor missing.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from polydetr.errors import Location, RowError
from polydetr.values.cells import LONGEST, MISSING_WORDS, is_missing, plain_text

_MONTHS = {name: i for i, name in enumerate(
    ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), start=1)}  # fmt: skip
_TIME = r"(?:[T,\s]+(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,]\d+)?)?\s*(?P<half>[ap]\.?m\.?)?" + (
    r"\s*(?:Z|UTC|GMT|[+-]\d{2}:?\d{2})?)?"
)
_YEAR_FIRST = re.compile(
    rf"(?P<year>\d{{4}})\s*[-/.年]\s*(?P<month>\d{{1,2}})(?:\s*[-/.月]\s*(?P<day>\d{{1,2}})\s*日?|月)?{_TIME}", re.I
)
_YEAR = r"(?P<year>\d{4}|\d{2})"
_YEAR_LAST = re.compile(rf"(?P<a>\d{{1,2}})(?P<mark>[-/.])(?P<b>\d{{1,2}})(?P=mark){_YEAR}{_TIME}", re.I)
_NAMED, _DAY = r"(?P<name>[a-z]{3,9})\.?", r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_DAY_NAMED = re.compile(rf"{_DAY}[\s.-]+{_NAMED}[\s,.-]+{_YEAR}{_TIME}", re.I)
_MONTH_NAMED = re.compile(rf"{_NAMED}\s+{_DAY}[\s,]+(?P<year>\d{{4}}){_TIME}", re.I)
_CENTURY_TURNS = 69
"""Years of two digits from here on are of the 20th century, those below of the 21st, as POSIX has it."""


def read_date(value: Any, *, column: str, day_first: bool = False) -> dt.datetime | None:
    """A moment as it was written (time zones are not converted), or None where it is missing.

    datetime, date, numpy and pandas objects; text in ISO 8601, 2024/1/31, 31.01.2024, 31 Jan 2024, Jan 31, 2024,
    2024年1月31日, 01/31/2024 (``day_first``: 31/01/2024), years of two digits where they come last, each with or
    without a time; a whole number of eight digits, 20240131.

    Raises:
        RowError: the value is no date.
    """
    if isinstance(value, str):
        text = plain_text(value)
        if text.lower() in MISSING_WORDS:
            return None
        if len(text) <= LONGEST and (moment := _text_date(text, day_first)):
            return moment
    elif is_missing(value):
        return None
    elif isinstance(value, dt.datetime):  # pandas' Timestamp is one
        return dt.datetime(value.year, value.month, value.day, value.hour, value.minute, value.second)
    elif isinstance(value, dt.date):
        return dt.datetime(value.year, value.month, value.day)
    elif isinstance(value, int) or (isinstance(value, (float, np.number)) and float(value).is_integer()):
        if abs(value) < 10**8 and (moment := _text_date(str(int(value)), day_first)):
            return moment
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
        return dt.datetime(_year(parts["year"]), int(month), int(day), hour, int(parts["minute"] or 0))
    except ValueError:  # 31 February
        return None


def _year(digits: str) -> int:
    year = int(digits)
    return year if len(digits) > 2 else year + (1900 if year >= _CENTURY_TURNS else 2000)


class DayOrder(NamedTuple):
    """How many texts of the form a/b/year can only be day first, how many only month first, and how many are another
    day either way.
    """

    days: int
    months: int
    either: int

    @property
    def day_first(self) -> bool:
        """Whether the column is read with the day first."""
        return self.days > self.months

    def message(self, column: str) -> str:
        """What is to be told about the column; "" where nothing is."""
        if self.days and self.months:
            return (
                f"column {column!r} mixes day/month/year ({self.days}) and month/day/year ({self.months}): the more "
                "frequent is read"
            )
        if self.either and not (self.days or self.months):
            return (
                f"column {column!r} can be read in two ways: 3/4/2024 is taken for March 4th; where the day comes "
                "first write 2024-04-03 or 3.4.2024"
            )
        return ""


def day_order(values: Iterable[Any]) -> DayOrder:
    """In which order the texts of a column write day and month."""
    days = months = either = 0
    for value in values:
        short = isinstance(value, str) and len(value) <= LONGEST
        match = _YEAR_LAST.fullmatch(plain_text(value)) if short else None
        if match and match["mark"] != ".":
            first, second = int(match["a"]), int(match["b"])
            days += first > 12
            months += second > 12
            either += first != second and max(first, second) <= 12
    return DayOrder(days, months, either)
