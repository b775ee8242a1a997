"""Two models side by side, on the page: the same rows asked of both, what differs first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from polydetr.core.files import json_text
from polydetr.errors import PolydetrError
from polydetr.metrics.calibration import wilson_interval
from polydetr.reports.style import shorten
from polydetr.serving.asking import model_named
from polydetr.serving.contract import ModelInfo
from polydetr.serving.limits import MEGABYTE
from polydetr.studio.asked_rows import answered, read_file
from polydetr.studio.batch_files import suffixes
from polydetr.studio.differences import Compared, Difference, columns_lacking, common_targets, compared
from polydetr.studio.figures import measured, splits_of, targets_of
from polydetr.studio.measured_parts import figure, tile
from polydetr.studio.sent_files import SentFiles, without_place
from polydetr.web.components.drop import Drop
from polydetr.web.components.number_text import number_text
from polydetr.web.live import begin
from polydetr.web.markup import Native, box, button, link, panel, text
from polydetr.web.notices import failure, loading

if TYPE_CHECKING:
    from polydetr.studio.pages import View

_SHOWN, _CELL = 50, 160
MOST_BYTES = 32 * MEGABYTE


def beside_part(view: View, asked: Mapping[str, str], sent: SentFiles) -> None:
    """Links to the other models; with one chosen (``?with=``), both asked."""
    words, others = view.words, [name for name in view.studio.fleet.models() if name != view.info.name]
    if not others and "with" not in asked:
        return
    base = _address(view)
    title = words("beside.title")
    with panel(title, note=words("beside.note")), box("nav", "pd-row pd-choices", aria_label=title):
        if "with" in asked:
            link(words("beside.alone"), base, classes="pd-tab", icon="back")
        for name in others:
            here = {"aria-current": "true"} if name == asked.get("with") else {}
            link(name, f"{base}?{urlencode({'with': name})}", classes="pd-tab", **here)
    if "with" not in asked:
        return
    try:
        other = model_named(view.studio.fleet, asked["with"])
    except PolydetrError as error:
        failure(view.viewer.words, error)
        return
    Beside(view, other, sent).build()


def _address(view: View) -> str:
    return f"{view.studio.base}/{quote(view.info.name, safe='')}/model"


class Beside:
    """The comparison on one page."""

    def __init__(self, view: View, other: ModelInfo, sent: SentFiles) -> None:
        self._sent = sent
        self._view, self._other, self._words = view, other, view.viewer.words
        self._stop = lambda: None

    def build(self) -> None:
        words = self._words
        with panel(words("beside.rows")):
            Drop(
                words, address=f"{_address(self._view)}/upload/rows", suffixes=suffixes(), most=MOST_BYTES,
                kinds=words("beside.drop"), on_sent=self._dropped,
            )  # fmt: skip
            self._note = text(words("beside.kept"), "p", "pd-note", role="status")
        self._place = box("div", aria_live="polite")
        client = self._view.main.client
        client.on_delete(lambda: self._stop())
        self._stop = begin(self._ask_kept)

    async def _ask_kept(self) -> None:
        """The rows that the first model's folder keeps."""
        with self._place:
            loading(self._words)
        rows, golds = await asyncio.to_thread(self._kept)
        if not rows:
            self._place.clear()
            self._note.text = self._words("beside.none_kept")
            return
        self._note.text = self._words("beside.kept_rows", count=f"{len(rows):,}", name=self._view.info.name)
        await self._ask(rows, golds)

    def _kept(self) -> tuple[list[Mapping[str, Any]], dict[str, list[Any]]]:
        """Rows that can be asked as they stand, with their labels by target."""
        info = self._view.info
        folder, targets = Path(info.folder), targets_of(info.description)
        for split in splits_of(folder, info.description):
            found = {target: measured(folder, info.description, split, target) for target in targets}
            first = next((one.rows for one in found.values() if one.rows), ())
            rows = [one["row"] for one in first if one.get("whole")]
            if not rows:
                continue
            golds: dict[str, list[Any]] = {}
            for target, one in found.items():
                # Every target keeps its own rows, of those that have a label of it.
                known = {json_text(kept["row"]): kept.get("gold") for kept in one.rows}
                golds[target] = [known.get(json_text(row)) for row in rows]
            return rows, golds
        return [], {}

    async def _dropped(self, answer: Mapping[str, Any]) -> None:
        words, info = self._words, self._view.info
        self._stop()
        self._place.clear()
        targets = targets_of(info.description)
        path: Path | None = None
        try:
            path = await asyncio.to_thread(self._sent.path, answer.get("id"))
            try:
                rows, said = await asyncio.to_thread(read_file, path, list(targets), list(info.columns))
            finally:
                await asyncio.to_thread(self._sent.forget, path)
        except PolydetrError as error:
            with self._place:
                failure(words, without_place(error, path) if path else error)
            return
        self._note.text = " ".join([words("beside.file", file=path.name, count=f"{len(rows):,}"), *said])
        golds = {target: [row.get(target) for row in rows] for target in targets}
        self._stop = begin(lambda: self._ask(rows, golds))

    async def _ask(self, rows: Sequence[Mapping[str, Any]], golds: Mapping[str, Sequence[Any]]) -> None:
        """Asks both, then shows what came of it."""
        words, first, second = self._words, self._view.info, self._other
        fleet, limit = self._view.studio.fleet, self._view.studio.limits.timeout_s
        self._place.clear()
        with self._place, box("div", "pd-state"):
            said = text(words("state.loading"), "p", role="status")
            bar = box("progress", "", max="1", value="0", aria_label=words("beside.asking"))
            button(words("frame.cancel"), self._cancelled, icon="stop")
        began = time.monotonic()

        def told(done: int, before: int) -> None:
            share = (before + done) / (2 * len(rows))
            bar._props["value"] = str(round(share, 3))
            bar.update()
            left = (time.monotonic() - began) * (1 - share) / max(share, 1e-9)
            said.text = words("beside.left", done=f"{before + done:,}", count=f"{2 * len(rows):,}", left=f"{left:.0f}")

        try:
            one = await answered(fleet, first.name, rows, timeout_s=limit, told=lambda n: told(n, 0))
            two = await answered(fleet, second.name, rows, timeout_s=limit, told=lambda n: told(n, len(rows)))
        except PolydetrError as error:
            self._place.clear()
            with self._place:
                failure(words, error)
            return
        mine, others = targets_of(first.description), targets_of(second.description)
        common = common_targets(mine, others)
        found = [compared(t, task, rows, one, two, golds.get(t) or [None] * len(rows)) for t, task in common.items()]
        self._place.clear()
        with self._place:
            for name, info in ((first.name, first), (second.name, second)):
                if lacking := columns_lacking(rows, list(info.columns)):
                    text(words("beside.lacking", name=name, columns=", ".join(lacking[:20])), "p", "pd-note")
            alone = [target for target in {**mine, **others} if target not in common]
            if alone:
                text(words("beside.not_common", targets=", ".join(alone[:20])), "p", "pd-note")
            for compare in found:
                self._shown(compare)

    def _cancelled(self) -> None:
        self._stop()
        self._place.clear()
        self._note.text = self._words("beside.cancelled")

    def _shown(self, found: Compared) -> None:
        words, names = self._words, (self._view.info.name, self._other.name)
        with panel(found.target):
            with box("div", "pd-figures"):
                share = found.same / found.rows if found.rows else 0.0
                tile(words, words("beside.agreement"), f"{share:.1%}", found.agreement if found.rows else None)
                for i, name in enumerate(names):
                    if found.errors is not None:
                        tile(words, words("beside.error_of", name=name), figure(found.errors[i]))
                    elif found.measured:
                        value = found.right[i] / found.measured
                        interval = wilson_interval(value, found.measured)
                        tile(words, words("beside.right_of", name=name), f"{value:.1%}", interval)
            if not found.measured:
                text(words("beside.no_labels"), "p", "pd-note")
            for i, name in enumerate(names):
                if found.failed[i]:
                    text(words("beside.failed", name=name, count=f"{found.failed[i]:,}"), "p", "pd-note")
            text(words("beside.differs", count=f"{len(found.differences):,}", rows=f"{found.rows:,}"), "h3")
            if found.differences:
                self._table(found, names)

    def _table(self, found: Compared, names: tuple[str, str]) -> Native:
        words = self._words
        with box("table", "pd-table pd-cards") as table:
            with box("thead"), box("tr"):
                for name in (words("beside.row"), words("beside.input"), *names, words("model.gold")):
                    text(name, "th", scope="col", dir="auto")
            with box("tbody"):
                for one in found.differences[:_SHOWN]:
                    self._row(one, names)
        if len(found.differences) > _SHOWN:
            text(words("beside.more", count=f"{len(found.differences) - _SHOWN:,}"), "p", "pd-note")
        return table

    def _row(self, one: Difference, names: tuple[str, str]) -> None:
        words = self._words
        with box("tr", tabindex="0", data_row="1"):
            text(f"{one.number:,}", "th", "pd-number", scope="row")
            text(cell(one.row), "td", dir="auto", data_label=words("beside.input"))
            for name, answer, sure, right in zip(names, (one.first, one.second), one.sure, one.right, strict=True):
                with box("td", "", data_label=name):
                    if right is not None:
                        mark, kind = ("✓", "good") if right else ("✗", "bad")
                        text(mark, "span", f"pd-{kind}", role="img", aria_label=words(f"beside.{kind}"))
                    text(f" {cell(answer)}", "span", dir="auto")
                    if sure is not None:
                        text(f" {sure:.2f}", "span", "pd-note pd-digits")
            text("–" if one.gold is None else cell(one.gold), "td", dir="auto", data_label=words("model.gold"))


def cell(value: Any) -> str:
    """A value on one line, short; of spans their text and label."""
    if isinstance(value, Mapping) and "text" in value and len(value) > 1 and "label" not in value:
        return shorten(str(value["text"]), _CELL)
    if isinstance(value, Mapping):
        return shorten(" · ".join(cell(one) for one in value.values() if not isinstance(one, bytes)), _CELL)
    if isinstance(value, list | tuple):
        if value and all(isinstance(one, str) for one in value):
            return shorten(" ".join(value), _CELL)
        spans = [
            f"{one.get('text', '')} [{one['label']}]".strip()
            for one in value
            if isinstance(one, Mapping) and "label" in one
        ]
        return shorten(", ".join(spans) if spans else json_text(list(value)) if value else "–", _CELL)
    if isinstance(value, float):
        return number_text(value)
    return shorten(str(value), _CELL)
