"""What the pages say: every sentence in both languages, and no sentence that nobody says."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter

import pytest

import polydetr
from polydetr.web.words import DEFAULT, LANGUAGES, Words, sentences

ROOT = Path(polydetr.__file__).parent
CODE = "\n".join(
    path.read_text(encoding="utf-8") for room in ("web", "studio") for path in sorted((ROOT / room).rglob("*"))
    if path.suffix in (".py", ".js")
)  # fmt: skip


def places(sentence: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(sentence) if name is not None}


@pytest.mark.parametrize("language", [one for one in LANGUAGES if one != DEFAULT])
def test_every_language_says_every_sentence_with_the_same_places(language: str) -> None:
    english, other = sentences(DEFAULT), sentences(language)
    plural = {name for name in english if name.endswith(".one")}
    assert set(english) - plural <= set(other) <= set(english)
    assert {n: places(other[n]) for n in other} == {n: places(english[n]) for n in other}
    same = {n for n in other if other[n] == english[n] and re.search("[a-z]{4}", english[n])}
    assert {
        n for n in same if not re.fullmatch(r"[\w ,.{}:/-]*(curl|JSON|CSV|CoNLL|COCO|Ctrl)?[\w ,.{}:/-]*", english[n])
    } == set()


def test_every_sentence_is_said_somewhere() -> None:
    """By its name, or by the beginning of its name, to which the code adds the rest."""
    begun = tuple(set(re.findall(r"f[\"']([a-z_.]+\.)\{", CODE)))
    said = set(re.findall(r"[\"']([a-z_]+(?:\.[a-z_0-9]+)*)[\"']", CODE))
    unsaid = {
        name for name in sentences(DEFAULT) if name.removesuffix(".one") not in said and not name.startswith(begun)
    }
    assert unsaid == set()


def test_a_sentence_that_a_language_lacks_is_said_in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    words = Words("zh")
    monkeypatch.setattr(words, "_said", {})
    assert words("frame.close") == "Close"
    with pytest.raises(KeyError):
        words("no.such.sentence")


def test_one_is_counted_apart_where_a_language_does_so(monkeypatch: pytest.MonkeyPatch) -> None:
    words = Words("en")
    monkeypatch.setattr(words, "_said", {"rows": "{count} rows", "rows.one": "{count} row"})
    assert [words.counted("rows", n) for n in (0, 1, 1200)] == ["0 rows", "1 row", "1,200 rows"]
