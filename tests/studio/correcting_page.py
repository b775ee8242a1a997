"""The page Correct as its users meet it, and what stands in its store afterwards."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STORE = "polydetr-studio.db"


@dataclass(frozen=True)
class Correcting:
    """A service with the pages. folder: where it runs, and its store lies."""

    address: str
    folder: Path

    def path(self, model: str, query: str = "") -> str:
        return f"/studio/{model}/correct{query}"

    def store(self) -> Path:
        return self.folder / STORE

    def saved(self, model: str) -> list[tuple[str, Any, str, str]]:
        """(target, value, kind, person) of every revision, in the order in which they came."""
        query = "select target, value, kind, person from corrections where model = ? order by at, revision, target"
        with closing(sqlite3.connect(self.store())) as connection:
            return [(t, json.loads(v), kind, who) for t, v, kind, who in connection.execute(query, (model,))]

    def values(self, model: str, text: str) -> dict[str, Any]:
        """Target → the newest value, of the rows in which this text stands."""
        query = (
            "select c.target, c.value from corrections c join corrected_rows r on r.key = c.row_key "
            "where c.model = ? and r.row like ? order by c.revision"
        )
        with closing(sqlite3.connect(self.store())) as connection:
            found = connection.execute(query, (model, f"%{json.dumps(text)[1:-1]}%"))
            return {target: json.loads(value) for target, value in found}

    def in_order(self, text: str) -> list[Any]:
        """What was saved of the rows in which this text stands, in the order in which it came."""
        query = (
            "select c.value from corrections c join corrected_rows r on r.key = c.row_key where r.row like ? "
            "order by c.at"
        )
        with closing(sqlite3.connect(self.store())) as connection:
            return [json.loads(value) for (value,) in connection.execute(query, (f"%{text}%",))]


def begin(page: Any, rows: Sequence[Mapping[str, Any]] | Sequence[bytes]) -> None:
    """Drops rows (or images) on the open page, and waits for the first of them."""
    page.wait_for_selector("input[type=file]", state="attached")
    page.wait_for_function("window.did_handshake")
    if isinstance(rows[0], bytes):
        files = [{"name": f"{i}.png", "mimeType": "image/png", "buffer": one} for i, one in enumerate(rows)]
    else:
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        files = [{"name": "rows.jsonl", "mimeType": "application/x-ndjson", "buffer": content}]
    page.set_input_files("input[type=file]", files)
    page.wait_for_url("**/correct?rows=*")
    shown(page)


def shown(page: Any) -> None:
    """Waits until a row can be corrected."""
    page.wait_for_selector(".pd-editor")
    page.wait_for_function("window.did_handshake")


def row_number(page: Any) -> str:
    return page.inner_text(".pd-row-name")


def confirm(page: Any, *, done: int) -> None:
    """Saves by key, and waits until that is told."""
    page.keyboard.press("Enter")
    page.wait_for_function(
        "done => document.querySelector('.pd-progress').textContent.startsWith(done)", arg=f"{done} "
    )
    page.wait_for_function("document.querySelector('.pd-tools').textContent.includes('Saved')")


def pick(page: Any, key: str) -> None:
    """Picks a label by its key, and waits until the service knows it."""
    page.keyboard.press(key)
    page.wait_for_selector(f".pd-label[data-key='{key}'][aria-checked=true]")


def select(page: Any, start: int, length: int) -> None:
    """Selects by keys: characters as the browser steps through them, from the beginning of the text."""
    page.focus(".pd-spans-text")
    page.keyboard.press("Control+Home")
    for _ in range(start):
        page.keyboard.press("ArrowRight")
    for _ in range(length):
        page.keyboard.press("Shift+ArrowRight")


def told(page: Any, state: str, section: str) -> Any:
    """What the gallery says that the service was told by the editor in this state."""
    place = page.locator(f'section[aria-label="{section}"] [data-state="{state}"]')
    place.locator("[data-told]").wait_for()
    page.wait_for_function("e => e.textContent.trim() !== ''", arg=place.locator("[data-told]").element_handle())
    return json.loads(place.locator("[data-told]").inner_text())


def told_that(page: Any, state: str, section: str, holds: Callable[[Any], bool]) -> Any:
    """What the service was told, as soon as it is that: it hears of a change after the picture has moved."""
    for _ in range(50):
        found = told(page, state, section)
        if holds(found):
            return found
        page.wait_for_timeout(100)
    raise AssertionError(f"within 5 s, what was told is {found}")
