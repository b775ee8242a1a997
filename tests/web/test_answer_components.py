"""What the components of answers say: escaped, exact, and the same in both languages."""

from __future__ import annotations

import json

import pytest

from polydetr.errors import InputError
from polydetr.reports.style import label_colors
from polydetr.web.components import row_values
from polydetr.web.components.confidence import confidence_words
from polydetr.web.components.marked import Mark, Weighed, _weighed, marked_html
from polydetr.web.components.number_text import number_text
from polydetr.web.components.quantity import digits
from polydetr.web.components.row_values import Field, Uploads, cells_of, row_of
from polydetr.web.words import Words

SCRIPT = '<script>alert("1")</script>'
FIELDS = [
    Field("text"),
    Field("__proto__", "number"),
    Field("onclick", "category"),
    Field("photo", "image"),
    Field("photos", "image", several=True),
    Field("bought", "history", fields=(Field("name"), Field("price", "number"))),
    Field("other", "json"),
]


def test_confidence_is_a_word_and_a_number() -> None:
    words = Words("en")
    assert confidence_words(words, 0.97) == ("sure", "0.97")
    assert confidence_words(words, 0.75) == ("fairly sure", "0.75")
    assert confidence_words(words, 0.54, least=0.7, abstained=True) == ("unsure", "0.54, abstained below 0.70")
    assert confidence_words(words, 0.54, least=0.5) == ("unsure", "0.54")
    assert confidence_words(Words("zh"), 0.54, least=0.7, abstained=True)[1] == "0.54，低于 0.70 未作答"


@pytest.mark.parametrize(
    ("value", "interval", "said"),
    [(24.4399, (19.2, 29.6), "24.4"), (0.000123456, None, "0.0001235"), (1234567.8, (1.2e6, 1.27e6), "1,234,568"),
     (0.512, (0.51, 0.52), "0.5120"), (5.0, (5.0, 5.0), "5"), (float("inf"), None, "inf")],
)  # fmt: skip
def test_numbers_have_the_digits_that_mean_something(
    value: float, interval: tuple[float, float] | None, said: str
) -> None:
    assert digits(value, interval) == said


@pytest.mark.parametrize(
    ("value", "figures", "grouped", "said"),
    [(45213.0, 4, True, "45,213"), (1234567.8, 4, True, "1,234,568"), (-45213.6, 4, False, "-45214"),
     (0.0, 4, True, "0"), (0.123456, 4, True, "0.1235"), (1234567.0, 6, False, "1234567"), (1e300, 4, True, "1e+300"),
     (999.96, 4, True, "1,000"), (float("nan"), 4, True, "nan")],
)  # fmt: skip
def test_no_digit_before_the_point_is_rounded_away(value: float, figures: int, grouped: bool, said: str) -> None:
    assert number_text(value, figures, grouped=grouped) == said


def test_marks_are_escaped_and_nest() -> None:
    text = f"a {SCRIPT} b"
    marks = [Mark(0, len(text), "A", 0.5), Mark(2, 2 + len(SCRIPT), SCRIPT, 0.25, weak=True)]
    html = marked_html(text, marks, label_colors(["A", SCRIPT]))
    assert "<script" not in html
    assert html.count("<mark ") == html.count("</mark>") == 4  # three parts of A, one within
    assert "weak" in html
    assert "0.25" in html


def test_marks_on_characters_that_cannot_be_seen_are_named() -> None:
    html = marked_html("a\u200bb", [Mark(1, 2, "L")], {})
    assert "zero width space" in html
    turned = marked_html("a\u202eb", [Mark(0, 3, "L")], {})
    assert "\u202e" not in turned
    assert "\\u202e" in turned


def test_a_mark_outside_of_the_text_is_an_error() -> None:
    with pytest.raises(InputError, match="does not lie"):
        marked_html("abc", [Mark(1, 4, "L")], {})


def test_words_are_weighed() -> None:
    assert _weighed(Weighed("so", 0.05, " ")) == " so"
    assert 'class="pd-weighed for"' in _weighed(Weighed("good", 0.8))
    against = _weighed(Weighed("<b>", -1.0, in_answer=True))
    assert 'class="pd-weighed answer against"' in against
    assert "&lt;b&gt;" in against
    assert "-1.00" in against


def test_what_is_typed_becomes_a_row() -> None:
    files = {"one": b"1", "two": b"2"}
    cells = ["  a text ", " 12.50 ", "blue ", ["one"], ["one", "two"], [["tea", "3"], ["", ""]], '{"a": 1}']
    row = row_of(FIELDS, cells, files.__getitem__)
    assert row == {
        "text": "  a text ", "__proto__": 12.5, "onclick": "blue", "photo": b"1", "photos": [b"1", b"2"],
        "bought": [{"name": "tea", "price": 3}, {"name": None, "price": None}], "other": {"a": 1},
    }  # fmt: skip
    assert row_of(FIELDS, ["", "12 apples", "", [], [], [], "{"], files.__getitem__) == {
        "text": None, "__proto__": "12 apples", "onclick": None, "photo": None, "photos": None, "bought": None,
        "other": "{",
    }  # fmt: skip


@pytest.mark.parametrize("cells", [None, "x", [], [1, None, {}, "x", [3], ["x"], 7], [["x"]] * 9])
def test_whatever_a_browser_sends_is_a_row(cells: object) -> None:
    assert list(row_of(FIELDS, cells, lambda token: b"")) == [one.name for one in FIELDS]


def test_json_of_no_end_stays_text() -> None:
    assert row_of([Field("other", "json")], ["[" * 4000], lambda token: b"") == {"other": "[" * 4000}


def test_an_image_that_was_let_go_is_said_and_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_values, "MOST_FILES", 2)
    uploads = Uploads()
    first, second, third = map(uploads.keep, (b"1", b"2", b"3"))
    assert row_of([Field("photos", "image", several=True)], [[second, third]], uploads.get) == {"photos": [b"2", b"3"]}
    with pytest.raises(InputError, match=r"not here any more: it holds 2, .* Choose it again"):
        row_of([Field("photo", "image")], [[first]], uploads.get)


def test_halves_of_characters_become_the_sign_for_them() -> None:
    assert row_of([Field("text")], ["a\ud800b"], lambda token: b"") == {"text": "a\ufffdb"}


@pytest.mark.parametrize("said", ["1e400", "NaN", "١٢", "1_000", "0x10"])
def test_what_only_looks_like_a_number_stays_text(said: str) -> None:
    assert row_of([Field("n", "number")], [said], lambda token: b"") == {"n": said}


def test_a_row_fills_the_form() -> None:
    row = {"text": SCRIPT, "__proto__": 20.0, "onclick": None, "photo": b"1", "bought": [{"name": "tea", "price": 2.5}]}
    cells = cells_of(FIELDS, row, lambda content: {"token": content.decode()})
    assert cells == [SCRIPT, "20", "", [{"token": "1"}], [], [["tea", "2.5"]], ""]
    back = row_of(FIELDS, [c if i != 3 else ["1"] for i, c in enumerate(cells)], {"1": b"1"}.__getitem__)
    assert {k: v for k, v in back.items() if v is not None} == {k: v for k, v in row.items() if v is not None}


def test_fields_are_json() -> None:
    assert json.loads(json.dumps([one.to_dict() for one in FIELDS]))[5]["fields"][1]["name"] == "price"
