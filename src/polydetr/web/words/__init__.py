"""The words of the pages, in every language that they speak: ``en.json``, ``zh.json``, one entry per sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

LANGUAGES = {"en": "English", "zh": "中文"}
"""Language → how it calls itself."""
DEFAULT = "en"
COOKIE = "polydetr_language"


class Words:
    """The sentences of one language: ``words("ask.button")``, with values where a sentence has places for them. A
    sentence that a language lacks is said in English rather than not at all; that none is lacking is a test.
    """

    def __init__(self, language: str = DEFAULT) -> None:
        self.language = language if language in LANGUAGES else DEFAULT
        self._said = sentences(self.language)

    def __call__(self, name: str, /, **values: Any) -> str:
        """Raises KeyError: no sentence has this name."""
        said = self._said.get(name)
        said = sentences(DEFAULT)[name] if said is None else said
        return said.format(**values) if values else said

    def known(self, name: str, otherwise: str) -> str:
        """The sentence of this name where there is one, such as that of a kind which an outside package has named."""
        return self(name) if name in sentences(DEFAULT) else otherwise

    def counted(self, name: str, count: int, /, **values: Any) -> str:
        """``name`` with ``count`` in it; ``name.one`` where it is one and the language has a form of its own for it."""
        one = f"{name}.one"
        return self(one if count == 1 and one in self._said else name, count=f"{count:,}", **values)


@cache
def sentences(language: str) -> Mapping[str, str]:
    """Name → sentence, as the file of the language has them."""
    return json.loads((files(__name__) / f"{language}.json").read_text(encoding="utf-8"))


def language_of(cookie: str | None, accepted: str | None) -> str:
    """What was chosen; else the first of the browser's languages (Accept-Language, RFC 9110, 12.5.4) that there is."""
    if cookie in LANGUAGES:
        return cookie
    weighed: list[tuple[float, str]] = []
    for part in (accepted or "")[:500].split(","):
        tag, _, weight = part.strip().partition(";q=")
        try:
            weighed.append((-float(weight or 1), tag.partition("-")[0].lower()))
        except ValueError:
            continue
    return next((tag for _, tag in sorted(weighed, key=lambda one: one[0]) if tag in LANGUAGES), DEFAULT)
