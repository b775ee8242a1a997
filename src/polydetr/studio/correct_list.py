"""All corrections of a model: who said what, filtered, taken back, and exported as training rows."""

from __future__ import annotations

import asyncio
import io
import shlex
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nicegui import ui

from polydetr.errors import PolydetrError
from polydetr.serving.rows import Columns
from polydetr.studio.correct_address import Place, page_of
from polydetr.studio.correct_forms import excerpt, lines_of
from polydetr.studio.correct_lookups import people_of
from polydetr.studio.correct_saving import NOBODY
from polydetr.studio.correction import Correction
from polydetr.studio.correction_values import TargetForm
from polydetr.studio.corrections import Corrections
from polydetr.studio.pages import View
from polydetr.web.markup import box, button, link, panel, text
from polydetr.web.notices import empty, failure, notice
from polydetr.web.words import Words

PAGE = 50
_KINDS = ("confirmed", "repaired", "withdrawn")
_OF_TASK: Mapping[str, Sequence[str]] = {"detection": ("json",), "entities": ("conll",), "tagging": ("conll",)}
_SAID = {"jsonl": "JSON lines", "csv": "CSV", "json": "COCO", "conll": "CoNLL"}


@dataclass(frozen=True)
class Download:
    """A file of corrections, or an archive of it with what lies beside it."""

    name: str
    content: bytes
    messages: Sequence[str] = ()


def formats(forms: Mapping[str, TargetForm], target: str) -> list[tuple[str, str]]:
    """(suffix, target): what the corrections can be written as; COCO and CoNLL hold one target each."""
    found = [("jsonl", target), ("csv", target)]
    for name, form in forms.items():
        if target in ("", name):
            found += [(suffix, name) for suffix in _OF_TASK.get(form.task, ())]
    return found


def exported(corrections: Corrections, model: str, suffix: str, place: Place, target: str) -> Download:
    """What the list shows, as training rows. Blocks.

    Raises:
        InputError: there are none, or a format cannot hold them. SaveError, StoreUnavailable.
    """
    with tempfile.TemporaryDirectory(prefix="polydetr-") as folder:
        name = f"corrections.{suffix}"
        found = corrections.export(
            model, Path(folder, name), target=target or None, person=place.person or None,
            kind=place.kind or None,  # type: ignore[arg-type]
        )  # fmt: skip
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        if len(files) == 1:
            return Download(name, files[0].read_bytes(), found.messages)
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as into:
            for path in files:
                into.write(path, path.relative_to(folder))
        return Download(f"{name}.zip", archive.getvalue(), found.messages)


async def show_list(view: View, place: Place, forms: Mapping[str, TargetForm]) -> None:
    """Fills the page."""
    words, corrections, model = view.viewer.words, Corrections(view.studio.database), view.info.name
    wanted: dict[str, Any] = {
        "target": place.target or None, "person": place.person or None, "kind": place.kind or None,
    }  # fmt: skip
    try:
        count = await asyncio.to_thread(corrections.count, model, **wanted)
        people = await asyncio.to_thread(people_of, view.studio.database, model)
        offset = max(0, count - PAGE * (place.page + 1))  # the newest first
        limit = min(PAGE, count - PAGE * place.page)
        found = (
            await asyncio.to_thread(corrections.list, model, **wanted, limit=limit, offset=offset) if limit > 0 else []
        )
    except PolydetrError as error:
        failure(words, error)
        return
    base = f"{view.studio.base}{page_of(model)}"
    if not people:
        empty(words("correct.empty"), how=words("correct.empty.how"))
        link(words("correct.begin"), base, classes="pd-button primary")
        return
    _filters(view, place, base, people, forms)
    text(words.counted("correct.count", count), "p", "pd-note", role="status")
    if found:
        _table(view, place, base, corrections, list(reversed(found)))
        _pages(words, place, base, count)
        if place.kind != "withdrawn":
            _export(view, place, corrections, forms)


def _filters(view: View, place: Place, base: str, people: Sequence[str], forms: Mapping[str, TargetForm]) -> None:
    words = view.viewer.words
    offered: list[tuple[str, dict[str, str]]] = [
        ("person", {"": words("correct.all_people"), **{one: one for one in people}}),
        ("kind", {"": words("correct.all_kinds"), **{one: words(f"correct.kinds.{one}") for one in _KINDS}}),
    ]
    if len(forms) > 1:
        offered.append(("target", {"": words("correct.all_targets"), **{one: one for one in forms}}))
    with box("div", "pd-row", role="search"):
        for name, options in offered:
            now = getattr(place, name)

            def chosen(event: Any, name: str = name) -> None:
                ui.navigate.to(f"{page_of(view.info.name)}{place.query(**{name: event.value or '', 'page': 0})}")

            choice = ui.select(options, value=now if now in options else "", label=words(f"correct.by.{name}"),
                               on_change=chosen)  # fmt: skip
            choice.props("outlined dense options-dense").classes("pd-filter")


def _table(view: View, place: Place, base: str, corrections: Corrections, found: Sequence[Correction]) -> None:
    words = view.viewer.words
    columns = Columns.of(view.info)
    heads = ("row", "target", "said", "right", "who", "when", "do")
    around = box("div", "pd-scroll", tabindex="0", role="region", aria_label=words("correct.list"))
    with around, box("table", "pd-table pd-cards"):
        with box("thead"), box("tr"):
            for head in heads:
                text(words(f"correct.head.{head}"), "th", scope="col")
        with box("tbody"):
            for one in found:
                _line(view, base, corrections, one, columns, words)


def _line(view: View, base: str, corrections: Corrections, one: Correction, columns: Columns, words: Words) -> None:
    form = one.form
    row = excerpt(one.row, columns.inputs) or words("correct.no_text")
    with box("tr", "", data_row="1", tabindex="-1") as line:
        with box("td", data_head=words("correct.head.row")):
            link(row, f"{base}?rows=corrected&at={one.row_key}", dir="auto")
        text(one.target, "td", "pd-short", dir="auto", data_head=words("correct.head.target"))
        for head, value in (("said", one.answer.get("prediction")), ("right", one.value)):
            with box("td", data_head=words(f"correct.head.{head}")):
                lines = lines_of(form, value)
                for said in lines[:4]:
                    text(said, "span", "pd-line", dir="auto")
                if len(lines) > 4:
                    text(words("correct.more", count=len(lines) - 4), "span", "pd-note")
                if not lines:
                    text("–", "span")
        with box("td", data_head=words("correct.head.who")):
            text(one.person, "span", "pd-line", dir="auto")
            text(words(f"correct.kinds.{one.kind}"), "span", "pd-note pd-whole")
        with box("td", data_head=words("correct.head.when")):
            text("", "time", "pd-whole", datetime=one.at.isoformat())
        with box("td", data_head=words("correct.head.do")):
            if view.viewer.may("editor") and one.kind != "withdrawn":
                said = words("correct.undo_of", row=row)

                async def undo() -> None:
                    person = await view.viewer.require("editor")
                    await asyncio.to_thread(corrections.undo, one.id, person.name or NOBODY)
                    line.delete()
                    notice(words("correct.undone"), kind="good")

                undoes = button("", undo, icon="undo", kind="quiet small", aria_label=said, title=words("correct.undo"))
                undoes.default_slot.children[1].delete()


def _pages(words: Words, place: Place, base: str, count: int) -> None:
    with box("nav", "pd-row", aria_label=words("correct.pages")):
        if place.page > 0:
            link(words("correct.newer"), f"{base}{place.query(page=place.page - 1)}", classes="pd-button plain")
        if count > PAGE * (place.page + 1):
            link(words("correct.older"), f"{base}{place.query(page=place.page + 1)}", classes="pd-button plain")


def _export(view: View, place: Place, corrections: Corrections, forms: Mapping[str, TargetForm]) -> None:
    words, model = view.viewer.words, view.info.name
    offered = formats(forms, place.target)
    many = len(forms) > 1
    with panel(words("correct.export"), note=words("correct.export.note")):
        with box("div", "pd-row"):
            for suffix, target in offered:
                name = _SAID[suffix] if not (many and target) else f"{_SAID[suffix]} · {target}"

                async def download(suffix: str = suffix, target: str = target) -> None:
                    await view.viewer.require("viewer")  # the page may be open for longer than its session
                    found = await asyncio.to_thread(exported, corrections, model, suffix, place, target)
                    for message in found.messages:
                        notice(message)
                    ui.download.content(found.content, found.name)

                button(name, download, icon="download")
        line = f"polydetr train ROWS --corrections {shlex.quote('corrections.jsonl')} --out NEW"
        with box("div", "pd-row", data_copied="1"):
            text(line, "pre", "pd-code", tabindex="0")
            button(words("correct.copy"), kind="quiet", icon="copy", data_copy=line, data_done=words("correct.copied"))
