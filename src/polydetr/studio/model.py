"""The page Model: what is known of how well a model answers, in figures, and beside another model.

``?split=`` and ``?target=`` choose what was measured, ``?by=`` how the rows are parted, ``?with=`` another model.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from nicegui import app, ui
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from polydetr.errors import ModelFolderError, PolydetrError
from polydetr.inference.folder import own_file
from polydetr.serving.asking import model_named
from polydetr.studio.beside import MOST_BYTES, beside_part
from polydetr.studio.drift_part import drift_part
from polydetr.studio.figures import REPORTS, Measured, history_of, measured, splits_of, targets_of
from polydetr.studio.measured_parts import charts_part, metrics_part, mistakes_part
from polydetr.studio.pages import Studio, View
from polydetr.studio.sent_files import SentFiles, json_response, told
from polydetr.studio.slices_file import SlicesFile
from polydetr.studio.slices_part import slices_part
from polydetr.web.markup import box, fact, facts, link, panel, text
from polydetr.web.notices import empty

_PAGE_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox; frame-ancestors 'self'"
"""A page that a model folder brings: it is looked at, and does nothing."""
_LONGEST_CARD = 40_000


@dataclass(frozen=True)
class Known:
    """What was read of a model's folder. found: None where nothing was measured."""

    splits: list[str]
    found: Measured | None
    history: list[Mapping[str, Any]]
    card: str


def add_model(studio: Studio) -> None:
    """The address."""

    sent = SentFiles(Path(tempfile.gettempdir()) / f"polydetr-rows-{os.getpid()}", most=MOST_BYTES)
    app.on_shutdown(lambda: sent.close())

    @app.post("/{model}/model/upload/rows")
    @told
    async def upload(request: Request, model: str) -> Response:
        model_named(studio.fleet, model)
        return json_response({"id": await sent.take(request)})

    @ui.page("/{model}/model")
    async def model(request: Request, model: str) -> None:
        view = await studio.begin(request, "model", model=model)
        if view is None:
            return
        asked = {key: str(value)[:500] for key, value in request.query_params.items()}
        known = await asyncio.to_thread(_read, view, asked)
        with view.main:
            _facts(view)
            beside_part(view, asked, sent)
            if asked.get("with"):
                return
            if known.found is None or not known.found.metrics:
                _nothing(view)
            else:
                _choices(view, known, asked)
                metrics_part(view, known.found)
                if not known.found.data:  # what an exported model's description says, and no more
                    _nothing(view)
                charts_part(view, known.found, known.history)
                mistakes_part(view, known.found)
            slices_part(view, known.found, asked, lambda: _of_file(view, asked, sent))
            drift_part(view)
            _card(view, known.card)

    @app.get("/{model}/mistakes/{split}/{target}")
    async def mistakes(model: str, split: str, target: str) -> Response:
        """The whole page of the worst mistakes, as training or ``evaluate`` wrote it."""
        try:
            info = model_named(studio.fleet, model)
            found = await asyncio.to_thread(measured, Path(info.folder), info.description, split, target)
            if split not in splits_of(Path(info.folder), info.description) or not found.page:
                raise ModelFolderError("there is no such page.")
            path = own_file(Path(info.folder), f"{REPORTS}/{found.page}")
            content = await asyncio.to_thread(path.read_bytes)
        except (PolydetrError, OSError):
            return HTMLResponse("", status_code=404)
        return HTMLResponse(content, headers={"content-security-policy": _PAGE_POLICY})


def _of_file(view: View, asked: Mapping[str, str], sent: SentFiles) -> None:
    targets = targets_of(view.info.description)
    if targets:
        target = asked["target"] if asked.get("target") in targets else next(iter(targets))
        SlicesFile(view, target, sent).build()


def _read(view: View, asked: Mapping[str, str]) -> Known:
    info, folder = view.info.description, Path(view.info.folder)
    splits, targets = splits_of(folder, info), targets_of(info)
    split = asked.get("split") if asked.get("split") in splits else next(iter(splits), None)
    target = asked.get("target") if asked.get("target") in targets else next(iter(targets), None)
    found = measured(folder, info, split, target) if split and target else None
    try:
        card = own_file(folder, "README.md").read_text(encoding="utf-8", errors="replace")[:_LONGEST_CARD]
    except (ModelFolderError, OSError):
        card = ""
    return Known(splits, found, history_of(folder, info), card)


def address(view: View, asked: Mapping[str, str], **changed: str) -> str:
    """This page with other choices."""
    kept = {key: value for key, value in {**asked, **changed}.items() if value}
    return f"{view.studio.base}/{quote(view.info.name, safe='')}/model{'?' if kept else ''}{urlencode(kept)}"


def _facts(view: View) -> None:
    """What it is: the version names its content."""
    info, words = view.info, view.words
    described = info.description
    rows, config = (found if isinstance(found := described.get(name), Mapping) else {} for name in ("rows", "config"))
    targets = ", ".join(f"{name} ({words_of_task(view, task)})" for name, task in targets_of(described).items())
    known = {
        "model.answers": targets,
        "model.reads": ", ".join(info.columns),
        "model.version": info.version[:12],
        "model.runtime": info.runtime,
        "model.rows": f"{rows['train']:,}" if isinstance(rows.get("train"), int) else "",
        "model.backbone": str(config.get("backbone") or ""),
        "model.parameters": f"{described['parameters']:,}" if isinstance(described.get("parameters"), int) else "",
    }
    with facts({words(name): value for name, value in known.items()}):
        if created := str(described.get("created") or ""):
            with fact(words("model.created")):
                text(created[:10], "time", datetime=created)


def words_of_task(view: View, task: str) -> str:
    """A task by its name among the words."""
    return view.viewer.words.known(f"task.{task}", task)


def _choices(view: View, known: Known, asked: Mapping[str, str]) -> None:
    """Links to what else was measured."""
    found, words, targets = known.found, view.words, targets_of(view.info.description)
    assert found is not None
    if len(known.splits) < 2 and len(targets) < 2:
        return
    with box("nav", "pd-row pd-choices", aria_label=words("model.measured_on")):
        for split in known.splits if len(known.splits) > 1 else ():
            here = {"aria-current": "true"} if split == found.split else {}
            name = view.viewer.words.known(f"split.{split}", split)
            link(name, address(view, asked, split=split), classes="pd-tab", dir="auto", **here)
        if len(targets) > 1:
            if len(known.splits) > 1:
                box("span", "pd-gap", aria_hidden="true")
            for target in targets:
                here = {"aria-current": "true"} if target == found.target else {}
                link(target, address(view, asked, target=target), classes="pd-tab", dir="auto", **here)


def _nothing(view: View) -> None:
    """An exported model brings no reports: how they are made."""
    with panel(view.words("model.reports")):
        empty(view.words("model.no_reports"), how=view.words("model.no_reports.how"))
        text("polydetr evaluate --out MODEL/reports MODEL ROWS", "code", "pd-code pd-empty-code")


def _card(view: View, card: str) -> None:
    with panel(view.words("model.card")):
        if not card:
            text(view.words("model.card.none"), "p", "pd-note")
            return
        with box("details"):
            text(view.words("model.card.show"), "summary")
            text(card, "pre", "pd-code", dir="auto")
