"""The address of the page Correct: what it shows can be loaded again, and gone back to."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, get_args
from urllib.parse import quote, urlencode

from starlette.datastructures import QueryParams

from polydetr.studio.correction import Kind

_LONGEST = 300


def page_of(model: str) -> str:
    """The page of a model, below the base of all pages; ``ui.navigate.to`` puts that before it by itself."""
    return f"/{quote(model, safe='')}/correct"


@dataclass(frozen=True)
class Place:
    """view: "list" for what was corrected, else rows one at a time. rows: a set of them, "kept" or "corrected"; row:
    one that another page has handed over. at: the key of the row that is shown. target: the only one that is corrected
    (of the list: shown). person, kind, page: of the list.
    """

    view: str = ""
    rows: str = ""
    row: str = ""
    at: str = ""
    target: str = ""
    person: str = ""
    kind: str = ""
    page: int = 0

    @classmethod
    def of(cls, query: QueryParams) -> Place:
        """What stands in an address; what makes no sense there is left out."""
        given: dict[str, Any] = {
            one.name: query[one.name][:_LONGEST] for one in fields(cls) if one.name in query and one.name != "page"
        }
        page = query.get("page", "0")
        given["page"] = int(page) if page.isascii() and page.isdigit() and len(page) < 7 else 0
        if given.get("kind") not in (*get_args(Kind), None):
            given.pop("kind")
        return cls(**given)

    def query(self, **changes: Any) -> str:
        """``?...`` with these changes; empty where nothing is to be said."""
        changed = replace(self, **changes)
        given = {one.name: getattr(changed, one.name) for one in fields(changed) if getattr(changed, one.name)}
        return f"?{urlencode(given)}" if given else ""

    @property
    def begins(self) -> bool:
        """Whether no rows are chosen yet."""
        return not (self.rows or self.row)
