"""Scores of parts of the rows: by length, by script, by the values of any column. Plain functions of measured rows."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from polydetr.metrics.calibration import wilson_interval
from polydetr.web.components.number_text import number_text

LEAST_ROWS = 20
"""With fewer rows, a part's score says little, and that is said."""
MOST_VALUES = 12
PARTS = 4
"""Of numbers and lengths: about as many rows in each."""
MISSING = ""


@dataclass(frozen=True)
class Outcome:
    """A row that was answered. right: whether the answer is; error: of a number, how far it is off; None: not known."""

    row: Mapping[str, Any]
    right: bool | None = None
    error: float | None = None
    gold: Any = None


@dataclass(frozen=True)
class Slice:
    """A part of the rows. value: the share that is right, or the mean absolute error; low, high: its 95 % interval."""

    name: str
    rows: int
    value: float
    low: float
    high: float

    @property
    def enough(self) -> bool:
        return self.rows >= LEAST_ROWS


def outcomes_of(rows: Sequence[Mapping[str, Any]], task: str) -> list[Outcome]:
    """Of measured rows as a folder keeps them (``engine.answered_rows``)."""
    if task == "regression":
        pairs = [(one, number_of(one.get("gold")), number_of(one.get("answer"))) for one in rows]
        return [Outcome(one["row"], None, abs(a - g), g) for one, g, a in pairs if g is not None and a is not None]
    known = [one for one in rows if isinstance(one.get("right"), bool)]
    return [Outcome(one["row"], one["right"], None, one.get("gold")) for one in known]


def number_of(value: Any) -> float | None:
    """A cell as a number; None where it is none."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def ways(outcomes: Sequence[Outcome]) -> list[tuple[str, str]]:
    """By what these rows can be parted: (how, column), how: "length", "script", "value", "gold" (no column)."""
    columns = list(dict.fromkeys(column for one in outcomes for column in one.row))
    found: list[tuple[str, str]] = []
    for column in columns:
        values = [cell_of(one.row, column) for one in outcomes]
        texts = [value for value in values if isinstance(value, str) and value]
        if texts and _is_text(texts):
            found.append(("length", column))
            if len({script_of(text) for text in texts}) > 1:
                found.append(("script", column))
        elif len({str(value) for value in values}) > 1:
            found.append(("value", column))
    golds = {str(one.gold) for one in outcomes if isinstance(one.gold, str | int | float | bool)}
    if len(golds) > 1:
        found.append(("gold", ""))
    return found


def cell_of(row: Mapping[str, Any], column: str) -> Any:
    """A cell; words that stand apart are one text."""
    value = row.get(column)
    if isinstance(value, list | tuple) and value and all(isinstance(one, str) for one in value):
        return " ".join(value)
    return value


def _is_text(texts: Sequence[str]) -> bool:
    """Whether a column of strings is to be parted by length: hardly any value occurs twice, or they are long."""
    if sum(number_of(text) is not None for text in texts) > len(texts) / 2:
        return False
    return len(set(texts)) > max(MOST_VALUES, len(texts) / 2) or max(map(len, texts)) > 80


def slices(outcomes: Sequence[Outcome], how: str, column: str = "") -> list[Slice]:
    """The parts, in their order: numbers and lengths from small to large, names by how many rows have them.

    Raises:
        ValueError: ``how`` is none of ``ways``.
    """
    values = [one.gold if how == "gold" else cell_of(one.row, column) for one in outcomes]
    if how == "length":
        names = _by_number([float(len(value)) if isinstance(value, str) and value else None for value in values])
    elif how == "script":
        names = _by_name([script_of(value) if isinstance(value, str) else None for value in values])
    elif how in ("value", "gold"):
        numbers = [number_of(value) for value in values]
        given = [value for value in values if value not in (None, "")]
        numeric = given and all(number_of(value) is not None for value in given)
        many = len({number for number in numbers if number is not None}) > MOST_VALUES
        names = _by_number(numbers) if numeric and many else _by_name(values)
    else:
        raise ValueError(f"rows cannot be parted by {how!r}")
    parts: dict[str, list[Outcome]] = {name: [] for name in _order(names)}
    for name, one in zip(names, outcomes, strict=True):
        parts[name].append(one)
    return [_scored(name, found) for name, found in parts.items() if found]


def whole(outcomes: Sequence[Outcome]) -> Slice | None:
    """All rows as one part; None where there is none."""
    return _scored("", outcomes) if outcomes else None


def _scored(name: str, found: Sequence[Outcome]) -> Slice:
    errors = [one.error for one in found if one.error is not None]
    if errors:
        mean = float(np.mean(errors))
        half = 1.96 * float(np.std(errors, ddof=1)) / math.sqrt(len(errors)) if len(errors) > 1 else math.inf
        return Slice(name, len(errors), mean, max(0.0, mean - half), mean + half)
    right = [bool(one.right) for one in found if one.right is not None]
    share = sum(right) / len(right) if right else 0.0
    return Slice(name, len(right), share, *(wilson_interval(share, len(right)) if right else (0.0, 1.0)))


def _by_number(values: Sequence[float | None]) -> list[str]:
    """About as many rows in each part; the name says from where to where."""
    known = np.array([value for value in values if value is not None])
    if not len(known):
        return [MISSING] * len(values)
    inner = sorted({float(edge) for edge in np.quantile(known, np.linspace(0, 1, PARTS + 1)[1:-1])})
    inner = [edge for edge in inner if edge > known.min()]
    place = np.searchsorted(inner, known, side="right")
    parts = [known[place == i] for i in range(len(inner) + 1)]
    names: list[str] = []
    for figures in range(4, 18):  # as many as tell the parts apart
        names = [_bounds(part, figures) if len(part) else "" for part in parts]
        if len({*filter(None, names)}) == sum(map(bool, names)):
            break
    return [
        MISSING if value is None else names[int(np.searchsorted(inner, value, side="right"))] for value in values
    ]  # fmt: skip


def _bounds(part: np.ndarray[Any, Any], figures: int) -> str:
    """From where to where; ``_order`` reads the beginning again."""
    ends = dict.fromkeys(number_text(float(end), figures, grouped=False) for end in (part.min(), part.max()))
    return " – ".join(ends)


def _by_name(values: Sequence[Any]) -> list[str]:
    said = [MISSING if value in (None, "") or isinstance(value, list | dict) else str(value) for value in values]
    frequent = {name for name, _ in Counter(name for name in said if name).most_common(MOST_VALUES)}
    return [name if name in frequent or not name else "…" for name in said]


def _order(names: Sequence[str]) -> list[str]:
    """Parts of numbers by their beginning, others by how many rows they have; the rest and the missing last."""
    counts = Counter(names)

    def begin(name: str) -> float | None:
        return number_of(name.partition(" – ")[0])

    numeric = all(begin(name) is not None for name in counts if name not in (MISSING, "…"))
    key: Callable[[str], Any] = (lambda n: begin(n) or 0.0) if numeric else (lambda n: -counts[n])
    last = [name for name in ("…", MISSING) if name in counts]
    return [*sorted((n for n in counts if n not in last), key=key), *last]


_SCRIPTS = {"CJK": "Han", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean"}


def script_of(text: str) -> str:
    """The script that most letters of a text have, by their names in Unicode: "Latin", "Han", "Cyrillic", …; Japanese
    where kana stand among them, "–" where there are no letters.
    """
    counts: Counter[str] = Counter()
    for character in text[:2000]:
        if character.isalpha():
            first = unicodedata.name(character, "").partition(" ")[0].partition("-")[0]
            counts[_SCRIPTS.get(first, first.capitalize())] += 1
    if not counts:
        return "–"
    if counts["Japanese"] and counts["Japanese"] + counts["Han"] > counts.total() / 2:
        return "Japanese"
    return counts.most_common(1)[0][0]
