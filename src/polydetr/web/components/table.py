"""A table of many rows: sorted, filtered and searched in the browser, a row's detail beside it, cards on a phone.

The rows are fetched by the browser itself, part by part, from an address that answers ``{"rows": [{"n": 1, ...}]}`` for
``?from=1``; so no message is large, nothing of them is held for a page, and a page that is loaded anew has them again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from nicegui.element import Element
from nicegui.elements.aggrid import AgGrid as _AgGrid  # its script is the grid's

from polydetr.web.notices import as_script
from polydetr.web.words import Words

__all__ = ["Action", "Column", "Flag", "Table"]

assert _AgGrid is not None

MOST_SHOWN = 100_000
"""Rows that a browser is given; whoever has more is told, and offers the whole as a file."""
_GRID = (
    "filterOoo", "equals", "notEqual", "blank", "notBlank", "empty", "lessThan", "greaterThan", "lessThanOrEqual",
    "greaterThanOrEqual", "inRange", "inRangeStart", "inRangeEnd", "contains", "notContains", "startsWith", "endsWith",
    "andCondition", "orCondition", "noRowsToShow", "noMatchingRows", "loadingOoo", "ariaFilterInput",
    "ariaFilterMenuOpen", "ariaFilterValue", "ariaFilterFromValue", "ariaFilterToValue", "ariaFilteringOperator",
    "ariaSortableColumn", "ariaMenuColumn", "ariaFilterColumn", "ariaLabelColumnFilter", "ariaLabelDialog",
    "textFilter", "numberFilter",
)  # fmt: skip
"""Texts that AG Grid says by itself (``localeText``)."""
_SAID = (
    "search", "shown", "all_labels", "doubt", "close", "copy", "copied", "fault", "retry", "loading", "most",
    "none", "earlier", "later", "filters",
)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """One column. field: of the rows; kind: how its cells are sorted, filtered and set; digits: of a number that is no
    whole one, None: as it is. card: its part in a card on a phone. width: in pixels; None: what is left.
    """

    field: str
    name: str
    kind: Literal["text", "number", "state"] = "text"
    digits: int | None = None
    card: Literal["title", "answer", "aside", ""] = ""
    width: int | None = None


@dataclass(frozen=True)
class Flag:
    """What a row may be, by which rows are filtered; it stands in the row's list ``f``. icon: one character."""

    name: str
    words: str
    icon: str = ""
    tone: Literal["", "good", "warn", "bad"] = ""


@dataclass(frozen=True)
class Action:
    """What is done with one row, by a button in its detail and by a key. address: with ``{n}`` for its number."""

    words: str
    address: str
    key: str = ""


class Table(Element, component="table.js"):
    """See above. name: what the table is, for screen readers. source: the address of the rows, there: how many are
    there; or rows: a few of them. detail: the address of one row, with ``{n}`` for its number, which answers
    ``{"title": ..., "fields": [{"name", "text", "image"}]}``. labels: the field by whose values rows may be filtered,
    and what it is called. doubt: the field by which the most doubtful come first.
    """

    def __init__(
        self,
        words: Words,
        *,
        name: str,
        columns: Sequence[Column],
        source: str = "",
        rows: Sequence[Mapping[str, object]] = (),
        detail: str = "",
        there: int = 0,
        flags: Sequence[Flag] = (),
        labels: tuple[str, str] | None = None,
        doubt: str = "",
        actions: Sequence[Action] = (),
    ) -> None:
        super().__init__()
        self._words = words
        self._props.update({
            "name": name, "columns": [asdict(column) for column in columns], "source": source,
            "given": list(rows), "detail": detail, "there": there or len(rows), "version": 0, "most": MOST_SHOWN,
            "flags": [asdict(flag) for flag in flags],
            "labels": list(labels) if labels else [], "doubt": doubt, "actions": [asdict(one) for one in actions],
            "said": {one: words(f"table.{one}") for one in _SAID}, "locale": grid_texts(words),
            "language": words.language,
        })  # fmt: skip

    def grow(self, there: int) -> None:
        """So many rows are at the source now; the browser fetches those that it lacks."""
        if self._props["there"] != there:
            self._props["there"] = there
            self.update()

    def renew(self, *, columns: Sequence[Column] | None = None, flags: Sequence[Flag] | None = None) -> None:
        """The rows have changed: all are fetched again, and shown in these columns."""
        if columns is not None:
            self._props["columns"] = [asdict(column) for column in columns]
        if flags is not None:
            self._props["flags"] = [asdict(flag) for flag in flags]
        self._props["version"] += 1
        self.update()

    def saving(self, address: str, name: str) -> str:
        """JavaScript that saves the rows that are shown as a file: they are sent to ``address`` as ranges, in their
        order ("1-20,25"), see ``rows_in``; what it answers is kept under ``name``.
        """
        return f"getElement({self.id}).save_shown({as_script(address)}, {as_script(name)})"


def grid_texts(words: Words) -> Mapping[str, str]:
    """What AG Grid says, in the words of the pages."""
    return {name: words(f"grid.{name}") for name in _GRID}


def rows_in(ranges: str, count: int) -> list[int]:
    """The numbers of rows as a browser tells them, in its order: "3,1-2" → [3, 1, 2].

    Raises:
        ValueError: it is no such text, names a row twice, or one beyond 1 … ``count``.
    """
    rows: list[int] = []
    for part in filter(None, ranges.split(",")):
        first, mark, last = part.partition("-")
        begin, end = int(first), int(last if mark else first)
        if not 1 <= begin <= end <= count:
            raise ValueError(f"rows {part[:40]!r} are not among 1 to {count}")
        rows.extend(range(begin, end + 1))
        if len(rows) > count:
            raise ValueError("a row is named twice")
    if len(set(rows)) < len(rows):
        raise ValueError("a row is named twice")
    return rows
