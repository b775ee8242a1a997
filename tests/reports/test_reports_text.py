"""Pages, tables, cards and files: escaped, complete, and whole or not written at all."""

import errno
import json
import os
import re
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polydetr.core.files import save_json, save_text
from polydetr.errors import InputError, SaveError
from polydetr.metrics.classification import classification_report
from polydetr.reports.explanation import deletion_verdict
from polydetr.reports.html import explanation_html
from polydetr.reports.marked_text import segments
from polydetr.reports.model_card import model_card
from polydetr.reports.spans_terminal import colored_entities
from polydetr.values.spans import Span

EVIL = '<script>alert("x")</script>'
VOID = {"meta"}


class Page(HTMLParser):
    """Collects tags, attributes and text; fails on tags that do not close in order."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.extend(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text.append(data)


def test_explanation_escapes_everything_and_needs_no_other_host():
    deletion = {"original": 0.9, "without_top": 0.3, "without_random": 0.85, "words": 1}
    html = explanation_html(
        [EVIL, "b&c", "'\""], [1.0, -0.5, 0.0], title=EVIL, prediction=EVIL, deletion=deletion, attention=np.eye(3)
    )
    page = Page(html)
    assert "<script" not in html
    assert "script" not in page.tags
    assert EVIL in "".join(page.text)
    assert ("title", f"{EVIL}: +1") in page.attributes
    assert not any(name in ("src", "href") or name.startswith("on") for name, _ in page.attributes)
    assert "http" not in html
    assert "url(" not in html
    assert "prefers-color-scheme: dark" in html
    assert html.count("<table") == html.count('<div class="scroll"><table')  # on a phone
    assert page.tags.count("rect") == 9
    assert "Deletion check: passed." in html


def test_explanation_joins_words_as_they_are_written():
    text = "".join(Page(explanation_html(["很", "好", "very", "good"], [1, 2, 3, 4], title="", prediction="")).text)
    assert "很好 very good" in text
    assert "Deletion check: not run." in text


def test_long_explanations_show_the_attention_of_the_highest_scored_words():
    words, scores = [f"w{i}" for i in range(90)], list(range(90))
    html = explanation_html(words, scores, title="t", prediction="p", attention=np.ones((90, 90)) / 90)
    page = Page(html)
    assert page.tags.count("rect") == 40 * 40
    assert "40 highest-scored of 90 words" in html


@pytest.mark.parametrize(
    ("scores", "message"), [([1.0], "one score for each word"), ([1.0, float("nan")], r"word 2 \('b'\) is nan")]
)
def test_explanations_refuse_what_does_not_fit(scores, message):
    with pytest.raises(InputError, match=message):
        explanation_html(["a", "b"], scores, title="t", prediction="p")


def test_deletion_verdict_needs_a_clear_difference():
    base = {"original": 0.9, "without_random": 0.85}
    assert deletion_verdict({**base, "without_top": 0.5}).meaningful
    assert not deletion_verdict({**base, "without_top": 0.84}).meaningful
    assert not deletion_verdict({**base, "without_top": 0.5, "random_std": 0.2}).meaningful
    assert not deletion_verdict({**base, "without_top": 0.95}).meaningful
    assert "from 90.0% to 50.0%" in deletion_verdict({**base, "without_top": 0.5}).text


TEXT = "王小明在北京大学见到 <b>Ada</b>"
SPANS = [Span(0, 3, "PER", 0.98), Span(4, 8, "ORG"), Span(4, 6, "LOC"), Span(14, 17, "PER")]


def test_colored_entities_keep_the_text_and_say_the_labels_without_color():
    shown = colored_entities(TEXT, SPANS)
    assert shown.plain == (
        "王小明[PER\u00a00.98]在北京[LOC]大学[ORG]见到 <b>Ada[PER]</b>\n■ LOC × 1   ■ ORG × 1   ■ PER × 2"
    )
    assert {str(span.style) for span in shown.spans if "on #" in str(span.style)}
    assert colored_entities("nothing", []).plain == "nothing"


@given(
    st.text(max_size=12).flatmap(
        lambda t: st.tuples(st.just(t), st.lists(st.tuples(st.integers(0, len(t)), st.integers(0, len(t))), max_size=5))
    )
)
def test_segments_put_the_text_together_again(case):
    text, bounds = case
    spans = [Span(a, b, "X") for a, b in bounds if a < b]
    pieces = list(segments(text, spans))
    assert "".join(piece for piece, _, _ in pieces) == text
    assert sum(len(ended) for _, _, ended in pieces) == len(spans)
    assert sum(len(p) * len(cover) for p, cover, _ in pieces) == sum(s.end - s.start for s in spans)


@pytest.mark.parametrize("span", [Span(0, 9, "A"), Span(-1, 1, "A"), Span(2, 2, "A")])
def test_spans_outside_of_the_text_are_named(span):
    with pytest.raises(InputError, match=rf"Span {span.start}-{span.end} \('A'\)"):
        colored_entities("abc", [span])


def test_model_card_tells_all_and_misses_nothing_silently():
    card = model_card(
        name="news | tagger",
        data={"train": {"rows": 14041, "sha256": "ab12"}, "test": {"rows": 30}},
        schema={"inputs": {"text": "text"}, "targets": {"tags": {"task": "tagging", "labels": list("ABC")}}},
        metrics={"test": {"tags": {"entity_f1": 0.9051, "ece": None}}},
        run={"seed": 7, "machine": "2 cores | 8 GB"},
        date="2024-05-06",
        limits=["News only."],
        backbone={"name": "minilm"},
        example={"text": "你好"},
    )
    for expected in (
        "| train | 14,041 | ab12 |",
        "| test | 30 | - |",
        "| tags | tagging | 3: A, B, C |",
        "| tags: entity_f1 | 0.9051 |",
        "date: 2024-05-06; seed: 7; machine: 2 cores",
        "- News only.",
        "license: not recorded",
        'Predictor.load("path/to/this/folder")',
        'predict([{"text": "你好"}])',
        "## Calibration\n\nNot recorded.",
    ):
        assert expected in card
    with pytest.raises(TypeError, match="unexpected keyword argument 'metric'"):
        model_card(name="x", metric={})


def test_markup_in_names_is_code_in_the_card():
    card = model_card(
        name="a <b> | `c`",
        data={"train": {"rows": 3, "source": "x_y.csv"}},
        schema={
            "inputs": {
                "[click](javascript:x)": "text",
                "_snake_case_": "number",
                "snake_case": "text",
                "n" * 100_000: "text",
            },
            "targets": {
                "a``b": {"task": "classification", "labels": [EVIL, "![p](http://h.example/p.png)", "a|b\n|c"]}
            },
        },
        metrics={"test": {"`": {"f1": float("nan"), "n": None}}},
        limits=["see www.h.example or mail a@h.example, \x1b[2J"],
        example={"a\x9b": EVIL},
    )
    assert "# `` a <b> | `c` ``\n" in card
    assert "| x_y.csv |" in card
    assert "| `[click](javascript:x)` | text |" in card
    assert "| `_snake_case_` | number |" in card
    assert "| snake_case | text |" in card
    assert "| ```a``b``` |" in card
    assert "labels |\n" in card
    assert "\\|c` |" in card  # a bar within code would still end the cell
    assert "| `` `: f1 `` | - |" in card
    assert "- `see www.h.example or mail a@h.example, \\x1b[2J`" in card
    assert "\x1b" not in card
    assert len(card) < 5000
    assert "\x9b" not in card


def test_the_cards_example_is_python():
    code = model_card(name="x", example={"text": 'a "quoted"\nline'}).split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")


def test_json_is_plain_readable_and_without_nan(tmp_path):
    path = tmp_path / "new" / "report.json"
    save_json(
        path, {"名": np.float32(0.5), "n": np.arange(2), "bad": [float("nan"), np.inf], "p": Path("a"), "s": {2, 1}}
    )
    assert json.loads(path.read_text("utf-8")) == {"名": 0.5, "n": [0, 1], "bad": [None, None], "p": "a", "s": [1, 2]}
    assert "名" in path.read_text("utf-8")
    save_json(path, classification_report(["a"], ["a"]))
    assert json.loads(path.read_text("utf-8"))["accuracy"] == 1


def test_a_full_disk_leaves_the_old_file_and_no_rubbish(tmp_path, monkeypatch):
    path = tmp_path / "report.txt"
    save_text(path, "old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SaveError, match=r"report.txt.*No space left on device"):
        save_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.txt"]


def test_reports_import_neither_matplotlib_nor_rich_nor_torch():
    code = (
        "import sys, polydetr.reports; heavy = {'matplotlib', 'rich', 'torch', 'sklearn', 'scipy'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ, timeout=60)


def test_an_explanation_keeps_the_spacing_and_parts_the_columns():
    words, fields = ["Who", "?", "The", "don", "'t", "end"], ["q"] * 2 + ["passage"] * 4
    before = ["", "", "", "\n  ", "", "\t"]
    html = explanation_html(words, [1.0] * 6, title="", prediction="", before=before, fields=fields)
    texts = re.findall(r'<p class="words" dir="auto">(.*?)</p>', html, re.S)
    assert [unescape(re.sub("<[^>]*>", "", text)) for text in texts] == ["qWho?", "passageThe\n  don't\tend"]
    alone = explanation_html(words, [1.0] * 6, title="", prediction="", before=before, fields=["q"] * 6)
    assert alone.count('class="words"') == 1
    assert '<span class="field">' not in alone
