"""Words in any script, and ready-made tokens as one string."""

from __future__ import annotations

import unicodedata
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polydetr.values.spans import Nesting, Span, go_together, is_unspaced, join_tokens, nesting_of, split_words


def words(text: str) -> list[str]:
    return [text[a:b] for a, b in split_words(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It cost 12,000.50 euros.", ["It", "cost", "12,000.50", "euros", "."]),
        ("don't stop_it", ["don", "'", "t", "stop", "_", "it"]),
        ("日本へ1.5倍", ["日", "本", "へ", "1.5", "倍"]),
        ("हिन्दी में क्षेत्र", ["हिन्दी", "में", "क्षेत्र"]),
        ("สวัสดี ดี", ["ส", "วั", "ส", "ดี", "ดี"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("كِتَاب", ["كِتَاب"]),
        ("cafe\u0301s", ["cafe\u0301s"]),
        ("か\u3099き", ["か\u3099", "き"]),
        ("👨\u200d👩\u200d👧 ❤\ufe0f👍🏽!", ["👨\u200d👩\u200d👧", "❤\ufe0f", "👍🏽", "!"]),
        ("ＡＢＣ１２３", ["ＡＢＣ", "１２３"]),
        ("a\u200bb", ["a", "\u200b", "b"]),
        (" \t\r\n\u3000", []),
        ("", []),
    ],
)
def test_words_of_a_text(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@given(st.text(max_size=60))
def test_every_character_is_in_one_word_or_is_white_space(text: str) -> None:
    found = split_words(text)
    covered = [i for a, b in found for i in range(a, b)]
    assert covered == [i for i, c in enumerate(text) if not c.isspace()]


@given(st.text(st.characters(max_codepoint=127), max_size=60))
def test_ascii_has_a_faster_pattern_with_the_same_answer(text: str) -> None:
    # the letter in front makes the text non-ASCII, so that it is read by the other pattern
    assert split_words(text) == [(a - 2, b - 2) for a, b in split_words("é " + text)[1:]]


@given(st.text(st.characters(categories=["Lo", "Ll", "Lu"]), min_size=1, max_size=20))
def test_a_mark_never_begins_a_word_after_a_letter(text: str) -> None:
    marked = "".join(c + "\u0301" for c in text)
    assert not any(unicodedata.category(marked[a])[0] == "M" for a, _ in split_words(marked))


@given(st.lists(st.text(max_size=5), max_size=12))
def test_joined_tokens_keep_their_places(tokens: list[str]) -> None:
    text, offsets = join_tokens(tokens)
    assert [text[a:b] for a, b in offsets] == tokens


def test_unspaced_scripts_are_joined_without_spaces() -> None:
    assert join_tokens(["北京", "。", "Hello", "world"])[0] == "北京。 Hello world"
    assert join_tokens(["ดี", "มาก"])[0] == "ดีมาก"
    assert is_unspaced("北")
    assert not is_unspaced("b")


def test_a_span_compares_without_its_score() -> None:
    assert Span(0, 2, "X", 0.5).key == Span(0, 2, "X").key


@pytest.mark.parametrize(
    ("a", "b", "kinds"),
    [
        ((0, 3), (3, 5), {"none", "nested", "any"}),
        ((0, 5), (3, 5), {"nested", "any"}),
        ((3, 5), (3, 5), {"nested", "any"}),
        ((0, 4), (3, 5), {"any"}),
    ],
)
def test_which_stretches_go_together(a: tuple[int, int], b: tuple[int, int], kinds: set[str]) -> None:
    assert {kind for kind in get_args(Nesting) if go_together(a, b, kind)} == kinds
    assert {kind for kind in get_args(Nesting) if go_together(b, a, kind)} == kinds


def test_the_strictest_kind_of_nesting() -> None:
    apart = [Span(0, 3, "A"), Span(3, 5, "A")]
    nested, across = [Span(0, 3, "A"), Span(1, 3, "B")], [Span(0, 3, "A"), Span(1, 5, "B")]
    assert nesting_of([[], apart]) == "none"
    assert nesting_of([nested, apart]) == "nested"
    assert nesting_of([nested, across, apart]) == "any"
