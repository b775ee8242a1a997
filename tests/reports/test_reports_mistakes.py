"""Pages of mistakes: every task has one, it counts right, and nothing in the data can break out of it."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from polydetr.core.mistakes import Mark, Mistake, Mistakes, ShownMistake, Worst
from polydetr.core.records import Record
from polydetr.errors import Location
from polydetr.metrics.suspicion import class_thresholds, is_suspicious
from polydetr.reports.excerpts import excerpts
from polydetr.reports.mistakes_page import mistakes_page, passage

HOSTILE = "</p><script>alert(1)</script> & \"' \u202e x"


class Tags(HTMLParser):
    """All elements of a page, their attributes, and whether every one is closed."""

    EMPTY = frozenset({"meta", "img", "input", "br"})

    def __init__(self, text):
        super().__init__()
        self.names, self.links, self._open, self.text = [], [], [], []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src", "action")]
        if tag not in self.EMPTY:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def shown(mistake, text="", **more):
    return ShownMistake(mistake, Record({}, Location(file=f"{HOSTILE}.csv", row=7)), text, **more)


def page_of(tmp_path, found, kinds=None, **more):
    kinds = kinds or {one.mistake.kind: "meaning" for one in found}
    by_kind = {kind: [one for one in found if one.mistake.kind == kind] for kind in kinds}
    counts = {kind: len(ones) for kind, ones in by_kind.items()}
    mistakes = Mistakes(9, kinds, counts, sum(one.mistake.suspicious for one in found), by_kind)
    path = mistakes_page(mistakes, tmp_path / "page.html", title=HOSTILE, metrics={"f1": 0.5}, **more)
    return path.read_text("utf-8")


def test_hostile_text_stays_text_and_nothing_is_fetched(tmp_path):
    marks = (Mark(3, 12, HOSTILE, "gold", True), Mark(5, 9, "inner", "answer", True))
    found = [
        shown(Mistake("missed", 0.5, HOSTILE, "b", (HOSTILE, "b"), 0.5, marks=marks, note=HOSTILE), HOSTILE),
        shown(Mistake("wrong", 0.5, "b", HOSTILE, ("b",), scores=((HOSTILE, 0.2),)), columns=((HOSTILE, HOSTILE),)),
    ]
    text = page_of(tmp_path, found)
    tags = Tags(text)
    assert "script" not in tags.names
    assert "\u202e" not in text
    assert "alert(1)" in "".join(tags.text)
    assert all(link.startswith(("#", "data:")) for link in tags.links)
    assert "http" not in re.sub(r"data:image/png;base64,[^\"]*", "", text)


def test_every_mistake_has_an_anchor_its_classes_and_the_keyboard(tmp_path):
    found = [shown(Mistake("wrong", 1 - i / 9, f"g{i}", "a", (f"g{i}", "a"), suspicious=i == 1)) for i in range(3)]
    text = page_of(tmp_path, found)
    articles = re.findall(r'<article class="([^"]+)" id="(m\d)" tabindex="0">', text)
    assert articles == [
        ("mistake c1 c0", "m1"), ("mistake c2 c0 doubted", "m2"), ("mistake c3 c0", "m3"),
    ]  # fmt: skip
    assert '<option value="c0">a (3)</option>' in text
    assert "option[value=c3]:checked) .mistake:not(.c3)" in text
    assert "only suspicious labels (1)" in text
    assert "row 7" in text


def test_a_page_without_mistakes_says_so(tmp_path):
    text = page_of(tmp_path, [], kinds={"wrong": "meaning"})
    assert "No mistake was made" in text
    assert "<article" not in text


def test_pictures_are_opened_for_what_is_shown_and_one_that_is_gone_costs_no_page(tmp_path):
    class Gone:
        name = "gone.jpg"

        def open(self):
            raise OSError("gone")

    opened = []

    def image_of(record):
        opened.append(record)
        return Gone()

    pixels = np.full((8, 8, 1), 90, np.uint8)
    found = [shown(Mistake("wrong", 0.5)), shown(Mistake("wrong", 0.4, image=pixels))]
    text = page_of(tmp_path, found, image_of=image_of)
    assert len(opened) == 1
    assert "cannot be opened any more" in text
    assert text.count("<img ") == 1


@pytest.mark.parametrize("across", [(2, 6), (5, 12), (8, 20)])
def test_marks_inside_and_across_one_another_keep_the_text(across):
    text = "The mayor of New Oslo met Anna."
    marks = [Mark(4, 21, "PER", "gold"), Mark(*across, "LOC", "gold", True)]
    html = passage(text, marks, {}, start=0, end=len(text))
    parsed = Tags(html)
    assert "".join(parsed.text).replace("PER", "").replace("LOC", "") == text
    assert parsed.text.count("PER") == parsed.text.count("LOC") == 1


def test_marks_far_apart_are_each_shown():
    text = "word " * 4000
    gold, answer = Mark(100, 104, "", "gold", True), Mark(15_000, 15_004, "", "answer", True)
    shown = excerpts(text, [gold, answer])
    assert shown["gold"][0] <= 100 < 104 <= shown["gold"][1]
    assert shown["answer"][0] <= 15_000 < 15_004 <= shown["answer"][1]
    assert all(end - start < 2000 for start, end in shown.values())


def test_the_worst_of_very_many_are_kept_in_bounded_memory():
    random = np.random.default_rng(0)
    severity = random.permutation(100_000) / 100_000
    worst, largest = Worst(most=10, each=2, limit=40), 0
    for row, how in enumerate(severity):
        kind = ("missed", "invented")[row % 2]
        worst.add(row, Mistake(kind, float(how), labels=(f"label {row % 1000}",), suspicious=row % 100 == 0))
        largest = max(largest, len(worst))
    assert largest <= 2 * 2 * 10 + 1000 * 2
    assert len(list(worst.of("missed"))) <= 2 * 10 + 40
    assert worst.counts == {"missed": 50_000, "invented": 50_000}
    assert worst.suspicious == 1000
    kept = [row for row, _ in worst.of("missed")]
    even = [row for row in np.argsort(-severity) if row % 2 == 0]
    assert kept[:10] == even[:10]
    assert kept == sorted(kept, key=lambda row: -severity[row])
    doubted = [row for row in even if row % 100 == 0][:10]
    assert set(doubted) <= set(kept)


def test_of_many_labels_those_with_the_most_mistakes_have_places(tmp_path):
    worst = Worst(most=3, each=2, limit=20)
    labels = [f"label {i}" for i in range(100) for _ in range(5 if i >= 90 else 1)]
    for row, label in enumerate(labels):
        worst.add(row, Mistake("wrong", 1 - row / 1000, labels=(label, label)))
    frequent = [label for label in dict.fromkeys(labels) if labels.count(label) == 5]
    given = [mistake.labels[0] for _, mistake in worst.of("wrong")]
    assert given == ["label 0", "label 1", "label 2", *(label for label in frequent for _ in range(2))]
    found = [shown(mistake) for _, mistake in worst.of("wrong")]
    for classes, some in ((100, ", some of 13 of 100 classes,"), (13, ", some of each class,"), (0, "")):
        mistakes = Mistakes(200, {"wrong": "meaning"}, worst.counts, 0, {"wrong": found}, {"wrong": classes})
        text = mistakes_page(mistakes, tmp_path / "page.html", title="", metrics={}).read_text("utf-8")
        assert f"The worst 23 of 140{some} are shown." in text
    assert len(worst.labels["wrong"]) == 100


def test_of_equal_mistakes_the_first_stay():
    worst = Worst(most=2)
    for row in range(5):
        worst.add(row, Mistake("wrong", 0.5))
    assert [row for row, _ in worst.of("wrong")] == [0, 1]


def test_thresholds_are_the_mean_self_confidence_of_a_class():
    thresholds = class_thresholds([("a", p) for p in (0.9, 0.8, 0.7, 0.6, 1.0)] + [("b", 0.9)])
    assert thresholds == {"a": pytest.approx(0.8)}  # one row of b tells nothing
    assert is_suspicious(thresholds, of_label=0.02, answer="a", of_answer=0.85)
    assert not is_suspicious(thresholds, of_label=0.02, answer="a", of_answer=0.75)
    assert not is_suspicious(thresholds, of_label=0.15, answer="a", of_answer=0.85)
    assert not is_suspicious(thresholds, of_label=0.02, answer="b", of_answer=0.99)
    assert not is_suspicious({"a": 0.4}, of_label=0.02, answer="a", of_answer=0.5)  # a model that is never sure
