"""Columns of a table: what is learned of one from the training rows, and how its cells are then read: as a few bounded
numbers, or as a code (a category, or the flag that the cell is missing).

``learn`` skips values that cannot be read: ``cell`` raises for them, where the row is known.
"""

from __future__ import annotations

import datetime as dt
import functools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from polydetr.core.records import Finding
from polydetr.errors import RowError, SchemaError, did_you_mean
from polydetr.modalities.base import Notify
from polydetr.modalities.table_scale import Scale
from polydetr.values.cells import decimal_marks, read_category, read_number, says_missing, words_are_missing
from polydetr.values.dates import day_order, read_date

if TYPE_CHECKING:
    from polydetr.config.sections import TableConfig

PRESENT, MISSING, UNSEEN, RARE = range(4)
"""Codes of a cell. A column has ``num_codes`` of them beside the first. Those of the categories follow; numbers and
dates have only the first two."""

DATE_PARTS = 9
"""Year as a number, then sine and cosine of month, day, weekday and hour."""

_SHOWN_NAMES = 100


class Cell(NamedTuple):
    """numbers: one for a number, ``DATE_PARTS`` for a date, none otherwise."""

    numbers: tuple[float, ...]
    code: int
    finding: Finding | None = None


@dataclass(frozen=True)
class NumberColumn:
    """A quantity. comma: whether numbers given as text have a decimal comma."""

    name: str
    scale: Scale
    comma: bool = False
    kind: ClassVar[str] = "number"
    width: ClassVar[int] = 1
    num_codes: ClassVar[int] = MISSING

    @classmethod
    def learn(cls, name: str, values: Sequence[Any], config: TableConfig, notify: Notify) -> NumberColumn | None:
        marks = decimal_marks(values)
        if message := marks.message(name):
            notify(message)
        read = functools.partial(read_number, column=name, comma=marks.comma)
        numbers = _readable(values, read, name, "number", notify)
        if numbers is None:
            return None
        return cls(name, Scale.learn(numbers, quantile=config.numbers == "quantile"), marks.comma)

    def schema(self) -> dict[str, Any]:
        """JSON schema of its cells; the training range is said, and not enforced."""
        scale = self.scale
        said = f"a number; {scale.low:g} to {scale.high:g} in the training rows"
        return {"type": ["number", "string", "boolean", "null"], "description": said, "examples": [self.typical]}

    @property
    def typical(self) -> float:
        return float(f"{self.scale.middle:.4g}")

    def measure(self, value: Any) -> float | None:
        """The number."""
        return read_number(value, column=self.name, comma=self.comma)

    def cell(self, value: Any) -> Cell:
        number = read_number(value, column=self.name, comma=self.comma)
        if number is None:
            return _missing(self.name)
        scale, (low, high) = self.scale, self.scale.limits
        training = f"{scale.low:g} and {scale.high:g}; it is read as {min(max(number, low), high):g}"
        return Cell((scale.apply(number),), PRESENT, _out_of_range(self.name, number, scale, f"{number:g}", training))


@dataclass(frozen=True)
class CategoryColumn:
    """One of several names. Those too rare to learn share the code ``RARE``; an unknown one has the code ``UNSEEN``.

    open: the rare names are too many to be kept, so that unknown ones are usual: they are read as rare, without a
    finding. words_missing: whether "NA" and the like are missing cells, as they are among names that are numbers.
    """

    name: str
    names: tuple[str, ...]
    rare: frozenset[str] = frozenset()
    open: bool = False
    words_missing: bool = False
    kind: ClassVar[str] = "category"
    width: ClassVar[int] = 0

    @classmethod
    def learn(cls, name: str, values: Sequence[Any], config: TableConfig, notify: Notify) -> CategoryColumn | None:
        words = _readable(values, functools.partial(read_category, column=name), name, "category", notify)
        if words is None:
            return None
        counts = Counter(words)
        if words_missing := words_are_missing(counts):
            counts = Counter({word: n for word, n in counts.items() if not says_missing(word)})
        common = sorted(((n, word) for word, n in counts.items() if n >= config.min_count), key=lambda c: (-c[0], c[1]))
        if not common:
            often = f"fewer than {config.min_count} times" if config.min_count > 2 else "only once"
            notify(f"column {name!r} is left out: each of its {len(counts)} categories occurs {often}")
            return None
        kept = tuple(word for _, word in common[: config.max_categories])
        rare = frozenset(counts.keys() - set(kept))
        if len(common) > len(kept) or len(rare) > config.max_categories:
            notify(
                f"column {name!r} has {len(counts)} categories: the {len(kept)} most frequent are told apart, "
                "all others are read as one (table.max_categories)"
            )
            return cls(name, kept, open=True, words_missing=words_missing)
        return cls(name, kept, rare, words_missing=words_missing)

    def schema(self) -> dict[str, Any]:
        """JSON schema of its cells. Other names than those of the training rows are answered, with a warning."""
        shown = list(self.names[:_SHOWN_NAMES])
        said = f"one of {len(self.names):,} names of the training rows"
        return {"type": ["string", "number", "boolean", "null"], "description": said, "examples": shown}

    @property
    def typical(self) -> str:
        """The most frequent name."""
        return self.names[0]

    @property
    def num_codes(self) -> int:
        return RARE + len(self.names)

    @functools.cached_property
    def codes(self) -> dict[str, int]:
        """Code by name as ``read_category`` has it: older folders tell TRUE from true, the more frequent one stays."""
        named = [(word, RARE + 1 + i) for i, word in enumerate(self.names)]
        each = [*((word, RARE) for word in self.rare), *reversed(named)]
        return {read_category(word, column=self.name) or word: code for word, code in each}

    def measure(self, value: Any) -> str | None:
        """The name; one that training never saw is "other" to whoever knows the frequent ones alone."""
        word = read_category(value, column=self.name)
        return None if word is None or (self.words_missing and says_missing(word)) else word

    def cell(self, value: Any) -> Cell:
        word = read_category(value, column=self.name)
        if word is None or (self.words_missing and says_missing(word)):
            return _missing(self.name)
        code = self.codes.get(word)
        if code is None and self.open:
            code = RARE
        if code is not None:
            return Cell((), code)
        near = did_you_mean(word, self.names) if len(self.names) <= 200 else ""
        message = (
            f"{word!r:.80} in column {self.name!r} is none of the {len(self.codes)} categories of the training rows"
        )
        return Cell((), UNSEEN, Finding("unseen_category", self.name, f"{message}. {near}" if near else message))


@dataclass(frozen=True)
class DateColumn:
    """A moment: the year as a standardized number, and month, day, weekday and hour as sine and cosine."""

    name: str
    scale: Scale
    day_first: bool = False
    kind: ClassVar[str] = "date"
    width: ClassVar[int] = DATE_PARTS
    num_codes: ClassVar[int] = MISSING

    @classmethod
    def learn(cls, name: str, values: Sequence[Any], config: TableConfig, notify: Notify) -> DateColumn | None:
        order = day_order(values)
        if message := order.message(name):
            notify(message)
        read = functools.partial(read_date, column=name, day_first=order.day_first)
        moments = _readable(values, read, name, "date", notify)
        if moments is None:
            return None
        return cls(name, Scale.learn([_decimal_year(m) for m in moments], quantile=False), order.day_first)

    def schema(self) -> dict[str, Any]:
        """JSON schema of its cells."""
        said = f"a date; the training rows are of {int(self.scale.low)} to {int(self.scale.high)}"
        return {"type": ["string", "null"], "description": said, "examples": [self.typical]}

    @property
    def typical(self) -> str:
        """The middle of the training rows' years, in ISO 8601."""
        year = min(max(self.scale.middle, 1.0), 9998.0)
        return (dt.date(int(year), 1, 1) + dt.timedelta(days=int(365 * (year % 1)))).isoformat()

    def measure(self, value: Any) -> float | None:
        """The year with its fraction."""
        moment = read_date(value, column=self.name, day_first=self.day_first)
        return None if moment is None else _decimal_year(moment)

    def cell(self, value: Any) -> Cell:
        moment = read_date(value, column=self.name, day_first=self.day_first)
        if moment is None:
            return _missing(self.name)
        year, scale = _decimal_year(moment), self.scale
        training = f"the years {scale.low:.1f} and {scale.high:.1f}"
        finding = _out_of_range(self.name, year, scale, f"{moment.date()}", training)
        hour = moment.hour + moment.minute / 60
        turns = (moment.month - 1) / 12, (moment.day - 1) / 31, moment.weekday() / 7, hour / 24
        waves = (wave(2 * math.pi * turn) for turn in turns for wave in (math.sin, math.cos))
        return Cell((scale.apply(year), *waves), PRESENT, finding)


Column = NumberColumn | CategoryColumn | DateColumn
KINDS: dict[str, type[Column]] = {kind.kind: kind for kind in (NumberColumn, CategoryColumn, DateColumn)}


def _readable(
    values: Sequence[Any], read: Callable[[Any], Any], name: str, kind: str, notify: Notify
) -> list[Any] | None:
    """The readable values; None, with a message, where they hold no information: all missing, or all the same.

    Raises:
        SchemaError: there are values, and none of them is of this kind.
    """
    cells: list[Any] = []
    unreadable: RowError | None = None
    missing = 0
    for value in values:
        try:
            cell = read(value)
        except RowError as error:
            unreadable = unreadable or error
            continue
        if cell is None:
            missing += 1
        else:
            cells.append(cell)
    if not cells and unreadable is not None:
        raise SchemaError(
            f"column {name!r} is to be read as {kind}, and none of its values is one. The first: {unreadable.message}",
            hint=f"Say how to read it: inputs={{{name!r}: 'text'}}, 'number', 'category', 'date' or 'ignore'.",
        )
    if not cells:
        notify(f"column {name!r} is left out: it is empty in all {len(values)} training rows")
        return None
    if not missing and unreadable is None and cells.count(cells[0]) == len(cells):
        shown = cells[0].date() if isinstance(cells[0], dt.datetime) else cells[0]
        notify(f"column {name!r} is left out: it is {shown!r:.60} in all {len(values)} training rows")
        return None
    return cells


def _missing(name: str) -> Cell:
    return Cell((), MISSING, Finding("missing", name, f"column {name!r} is missing"))


def _out_of_range(name: str, value: float, scale: Scale, shown: str, training: str) -> Finding | None:
    """A finding where the value lies outside of the scale's limits. shown: the value, training: the training range,
    both as text.
    """
    low, high = scale.limits
    if low <= value <= high:
        return None
    message = f"{shown} in column {name!r} is far outside the training rows, which lie between {training}"
    return Finding("out_of_range", name, message)


def _decimal_year(moment: dt.datetime) -> float:
    """The year with its fraction, so that dates of one year differ: 2024-07-02 is about 2024.5."""
    return moment.year + (moment.timetuple().tm_yday - 1 + moment.hour / 24) / 366
