"""The one frame of all pages: sections at the left (below, on a phone), name and switches on top, content.

Every page calls ``begin`` once, and puts its content into what it gets back.
"""

from __future__ import annotations

import asyncio
import copy
import lzma
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from nicegui import Client, context, ui
from starlette.requests import Request
from starlette.responses import Response

from polydetr.reports.fonts import OWN_FAMILY, PACKED
from polydetr.web.markup import Native, box, icon_svg, link, text, trusted
from polydetr.web.notices import show_faults
from polydetr.web.viewer import Viewer
from polydetr.web.words import LANGUAGES, Words

_LANGUAGES: Mapping[str, Any] = {"en": "en-US", "zh": "zh-CN"}
FONT = "polydetr-cjk.otf"
_MOST_UNSEEN, _ON_ITS_WAY_S = 50, 5.0
_STATIC = files("polydetr.web") / "static"
_STYLES = (
    *(_STATIC / name for name in ("theme.css", "answers.css", "editors.css")),
    files("polydetr.reports") / "images.css",
)
_KEYS = (("?", "keys.help"), ("/", "keys.search"), ("j / k", "keys.move"), ("Esc", "keys.close"))


@dataclass(frozen=True)
class Section:
    """A place of the rail: its name among the words, its address (without the base), its icon."""

    name: str
    path: str
    icon: str


def begin(
    viewer: Viewer,
    *,
    title: str,
    sections: Sequence[Section],
    current: str,
    name: str = "polydetr",
    choices: Mapping[str, str] | None = None,
    keys: Sequence[tuple[str, str]] = (),
) -> Native:
    """Builds the frame of the page that is being made, and returns its main part, to be filled: ``with begin(...):``.

    title: the page's heading, also that of the window. name: of the model or desk. choices: other names → their
    addresses, where one may go from one to another. keys: (key, name of its sentence) of this page alone.
    """
    forget_unseen()
    _settle(viewer, f"{title} · {name}")
    words = viewer.words
    with box("div", "pd-shell"):
        text(words("frame.skip"), "a", "pd-skip", href="#pd-main")
        _rail(viewer, sections, current)
        with box("header", "pd-top", role="banner"):
            _name(name, choices or {}, words)
            box("span", "pd-grow")
            _switches(viewer)
        main = box("main", "pd-main", id="pd-main", tabindex="-1")
        with main:
            text(title, "h1")
    _help(words, keys)
    return main


def forget_unseen() -> None:
    """Lets go of pages that were made and that no browser has opened a socket for: NiceGUI keeps each for a minute,
    some hundred kilobytes, so that loads which are cut off at once would fill the memory. The newest stay, and those
    that may still be on their way; a browser that comes back too late loads its page again.
    """
    unseen = [one for one in Client.instances.values() if not one.has_socket_connection and not one._delete_tasks]
    for client in sorted(unseen, key=lambda one: one.created)[:-_MOST_UNSEEN]:
        if time.time() - client.created > _ON_ITS_WAY_S:
            client.delete()


def _settle(viewer: Viewer, title: str) -> None:
    """Language, light, style and script of this page: those of the page's route hold for everybody."""
    client = context.client
    client.page = copy.copy(client.page)
    client.page.dark, client.page.language = viewer.dark, _LANGUAGES[viewer.words.language]
    client.title = title
    client.reading = viewer  # type: ignore[attr-defined]
    show_faults(client, viewer)


def shared_head(base: str) -> str:
    """What every page has in its head. ``base`` is ours, or the administrator's."""
    style = "".join(style.read_text(encoding="utf-8") for style in _STYLES)
    script = (_STATIC / "frame.js").read_text(encoding="utf-8")
    face = f'@font-face {{ font-family: "{OWN_FAMILY}"; src: url("{escape(base)}/{FONT}"); font-display: swap }}'
    return f"<style>{face}\n{style}</style><script>{script}</script>"


async def font(_: Request) -> Response:
    """The font with Chinese, Japanese and Korean characters, for a system that has none: no other one asks for it."""
    content = await asyncio.to_thread(_font)
    headers = {"cache-control": "public, max-age=31536000, immutable"}
    return Response(content, media_type="font/otf", headers=headers)


@cache
def _font() -> bytes:
    return lzma.decompress(files("polydetr.reports.fonts").joinpath(PACKED).read_bytes())


def _rail(viewer: Viewer, sections: Sequence[Section], current: str) -> None:
    with box("nav", "pd-rail", aria_label=viewer.words("frame.sections")):
        text("polydetr", "span", "pd-brand", aria_hidden="true")
        for section in sections:
            more = {"aria-current": "page"} if section.name == current else {}
            link(
                viewer.words(f"section.{section.name}"), f"{viewer.base}{section.path}", icon=section.icon, **more
            )  # fmt: skip


def _name(name: str, choices: Mapping[str, str], words: Words) -> None:
    if len(choices) < 2:
        text(name, "span", "pd-name", dir="auto")
        return
    with box("details", "pd-choose"):
        text(name, "summary", "pd-name", aria_label=words("frame.choose", name=name), dir="auto")
        with box("div", "pd-menu"):
            for other, address in choices.items():
                link(other, address, dir="auto", **({"aria-current": "true"} if other == name else {}))


def _switches(viewer: Viewer) -> None:
    """Buttons that the frame's script listens to: they need no answer of the server."""
    words = viewer.words
    other = next(language for language in LANGUAGES if language != words.language)
    text(LANGUAGES[other], "button", "pd-switch", type="button", data_language=other, lang=other)
    icon = {"light": "sun", "dark": "moon"}.get(viewer.theme, "system")
    said = words("frame.theme", theme=words(f"frame.theme.{viewer.theme}"))
    with box("button", "pd-switch", type="button", data_theme=viewer.theme, aria_label=said, title=said):
        trusted(icon_svg(icon), "span", "pd-icon", aria_hidden="true")
    text("?", "button", "pd-switch", type="button", data_help="1", aria_label=words("frame.keys"))
    if not viewer.has_people:
        return
    with box("details", "pd-choose right"):
        with box("summary", "pd-name", aria_label=words("frame.person", name=viewer.person.name)):
            trusted(icon_svg("people"), "span", "pd-icon", aria_hidden="true")
            text(viewer.person.name, "span", "pd-wide", dir="auto")
        with box("div", "pd-menu"):
            text(f"{viewer.person.name} · {words(f'people.role.{viewer.person.role}')}", "span", "pd-note", dir="auto")
            text(words("people.sign_out"), "button", "pd-button plain", type="button", data_logout=viewer.base,
                 data_failed=words("state.fault"))  # fmt: skip


def _help(words: Words, more: Sequence[tuple[str, str]]) -> None:
    with box("dialog", "pd-dialog", id="pd-keys", aria_label=words("frame.keys")):
        text(words("frame.keys"), "h2")
        with box("dl", "pd-keys"):
            for key, name in (*_KEYS, *more):
                text(key, "dt")
                text(words(name), "dd")
        text(words("frame.close"), "button", "pd-button plain", type="button", data_close="1")


def configure(*, title: str, base: str) -> dict[str, Any]:
    """What NiceGUI is told once, for the process."""
    ui.add_head_html(shared_head(base), shared=True)
    return {
        "title": title, "dark": None, "language": "en-US", "tailwind": False, "show_welcome_message": False,
        "reconnect_timeout": 10.0, "binding_refresh_interval": None, "message_history_length": 200,
    }  # fmt: skip
