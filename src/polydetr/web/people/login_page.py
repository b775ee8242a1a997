"""The page that signs in, as HTML: a form that needs no script, in the reader's language and light."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from html import escape
from importlib.resources import files
from urllib.parse import quote, urlencode

from polydetr.web.people.login_words import LANGUAGES, Words

FIRST_ADMIN = "polydetr people add --role admin NAME"


def page(
    words: Words,
    *,
    theme: str,
    action: str,
    target: str,
    inside: bool,
    fault: str = "",
    name: str = "",
    has_people: bool = True,
    font: str | None = None,
) -> str:
    """action: the address of this page; target: where it leads afterwards; inside: within a dialog of another page;
    fault: what went wrong, said above the form; name: what was typed; font: the address of one for systems that have
    no Chinese.
    """
    said = f'<p class="bad" role="alert" id="fault">{escape(fault)}</p>' if fault else ""
    described = ' aria-describedby="fault"' if fault else ""
    first, second = ("", " autofocus") if name else (" autofocus", "")
    if not has_people:
        said += f"<p>{escape(words('login.nobody'))} <code>{FIRST_ADMIN}</code></p>"
    hidden = f'<input type="hidden" name="next" value="{escape(target)}">'
    hidden += '<input type="hidden" name="inside" value="1">' if inside else ""
    form = (
        f'<form method="post" action="{escape(action)}">{hidden}'
        f'<label>{escape(words("login.name"))}<input name="name" value="{escape(name)}" autocomplete="username" '
        f'required maxlength="256" dir="auto" autocapitalize="none" spellcheck="false"{first}{described}></label>'
        f'<label>{escape(words("login.password"))}<input name="password" type="password" '
        f'autocomplete="current-password" required maxlength="1024"{second}{described}></label>'
        f"<button>{escape(words('login.button'))}</button></form>"
    )
    return _document(
        words, theme, inside, words("login.title"), said + form + _other(words, action, target, inside), font
    )


def done(words: Words, *, theme: str, font: str | None = None) -> str:
    """Within a dialog: that it is done. The page around it closes the dialog."""
    return _document(words, theme, True, words("login.done"), "", font)


def policy(font: str | None = None) -> str:
    """The Content-Security-Policy of these pages: one style, known by its hash, and a form to the same place."""
    digest = base64.b64encode(hashlib.sha256(_style(font).encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; font-src 'self'; form-action 'self'; "
        "frame-ancestors 'self'; base-uri 'none'"
    )


def _document(words: Words, theme: str, inside: bool, title: str, content: str, font: str | None) -> str:
    return (
        f'<!doctype html><html lang="{words.language}" data-theme="{escape(theme)}"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)} · polydetr</title>'
        f'<link rel="icon" href="data:,"><style>{_style(font)}</style></head><body{" class=inside" if inside else ""}>'
        f"<main><h1>{escape(title)}</h1>{content}</main></body></html>"
    )


def _other(words: Words, action: str, target: str, inside: bool) -> str:
    """The way to the other languages, by their own names."""
    links = []
    for language, name in LANGUAGES.items():
        if language != words.language:
            query = urlencode({"language": language, "next": target, **({"inside": "1"} if inside else {})})
            links.append(f'<a href="{escape(f"{action}?{query}")}" lang="{language}">{escape(name)}</a>')
    return f'<p class="other">{"".join(links)}</p>'


@cache
def _style(font: str | None) -> str:
    face = (
        f'@font-face {{ font-family: "Polydetr CJK"; src: url("{quote(font)}"); font-display: swap }}\n' if font else ""
    )
    return face + (files("polydetr.web.people") / "login.css").read_text(encoding="utf-8")
