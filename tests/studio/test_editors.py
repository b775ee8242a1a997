"""The editors in Chromium, on the gallery: what the service is told is exact, in code points and in pixels."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe import assert_accessible
from correcting_page import told, told_that
from running_studio import picture, serving

from polydetr.web.editor_gallery import MIXED

pytestmark = pytest.mark.browser
Look = Callable[..., Any]
SPANS, BOXES, LABELS = "Spans of a text", "Boxes to draw", "Labels to choose from"


@pytest.fixture(scope="module")
def gallery(several_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYDETR_GALLERY", "1")
        with serving({"films": several_folder}, folder=tmp_path_factory.mktemp("gallery")) as address:
            yield address


@pytest.fixture
def page(gallery: str, look: Look) -> Any:
    opened = look(gallery, "/studio/gallery")
    opened.wait_for_function("window.did_handshake")
    opened.wait_for_selector(".pd-spans-text")
    return opened


def part(page: Any, section: str, state: str) -> Any:
    found = page.locator(f'section[aria-label="{section}"] [data-state="{state}"]')
    found.scroll_into_view_if_needed()
    return found


def places(page: Any, said: str) -> tuple[int, int]:
    at = MIXED.index(said)
    return at, at + len(said)


@pytest.mark.parametrize("said", ["Lovelace", "e\u0301clair", "\u05e9\u05dc\u05d5\u05dd", "a\u200b\u200db", "end"])
def test_places_are_code_points(page: Any, said: str) -> None:
    """Selected by places that the browser counts in UTF-16, and told in those of Python."""
    mixed = part(page, SPANS, "mixed")
    before = MIXED[: MIXED.index(said)]
    page.evaluate(
        """([box, from, to]) => {
          const node = document.createTreeWalker(box, NodeFilter.SHOW_TEXT).nextNode();
          document.getSelection().setBaseAndExtent(node, from, node, to);
        }""",
        [
            mixed.locator(".pd-spans-text").element_handle(),
            len(before.encode("utf-16-le")) // 2,
            len((before + said).encode("utf-16-le")) // 2,
        ],
    )
    mixed.get_by_role("button", name="PER").click()
    start, end = places(page, said)
    assert told(page, "mixed", SPANS) == [{"start": start, "end": end, "label": 2}]
    assert mixed.locator("mark").inner_text() == said
    assert mixed.locator(".pd-spans-text").evaluate("e => e.textContent") == MIXED


def test_keys_step_over_whole_characters(page: Any) -> None:
    """An emoji of one character, and one that is made of five, are one step each; their places are code points."""
    mixed = part(page, SPANS, "mixed")
    mixed.locator(".pd-spans-text").focus()
    page.keyboard.press("Control+Home")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    mixed.get_by_role("button", name="LOC").click()
    assert told(page, "mixed", SPANS) == [{"start": 4, "end": 5, "label": 0}]


def test_half_a_character_is_never_marked(page: Any) -> None:
    mixed = part(page, SPANS, "mixed")
    page.evaluate(
        """box => {
          const node = document.createTreeWalker(box, NodeFilter.SHOW_TEXT).nextNode();
          document.getSelection().setBaseAndExtent(node, 5, node, 15);
        }""",
        mixed.locator(".pd-spans-text").element_handle(),
    )  # 5 is the middle of the emoji
    mixed.get_by_role("button", name="ORG").click()
    assert told(page, "mixed", SPANS) == [{"start": 4, "end": 14, "label": 1}]


def test_ends_are_moved_by_keys_and_by_hand_and_spans_removed(page: Any) -> None:
    nested = part(page, SPANS, "nested")
    nested.locator(".pd-spans-text").focus()
    page.keyboard.press("]")
    page.keyboard.press("Alt+ArrowRight")
    page.keyboard.press("Alt+Shift+ArrowLeft")
    told_that(page, "nested", SPANS, lambda spans: spans[0] == {"start": 3, "end": 23, "label": 1})
    grip = nested.locator(".pd-grip.end").bounding_box()
    target = nested.locator("mark", has_text="University").first.bounding_box()
    page.mouse.move(grip["x"] + 1, grip["y"] + 8)
    page.mouse.down()
    page.mouse.move(target["x"] + 60, target["y"] + 8, steps=4)
    page.mouse.up()
    told_that(page, "nested", SPANS, lambda spans: 3 < spans[0]["end"] < 20)
    page.keyboard.press("Delete")
    told_that(page, "nested", SPANS, lambda spans: spans == [{"start": 18, "end": 22, "label": 0}])


def test_where_none_may_overlap_a_new_one_takes_the_place_of_others(page: Any) -> None:
    apart = part(page, SPANS, "apart")
    apart.locator(".pd-spans-text").focus()
    page.keyboard.press("Control+Home")
    for _ in range(2):
        page.keyboard.press("Control+Shift+ArrowRight")
    apart.get_by_role("button", name="ORG").click()
    assert told(page, "apart", SPANS) == [{"start": 8, "end": 13, "label": 2}, {"start": 0, "end": 7, "label": 1}]


def test_where_every_word_has_a_label_none_is_made_or_removed(page: Any) -> None:
    words = part(page, SPANS, "words")
    words.locator(".pd-spans-text").focus()
    page.keyboard.press("Control+Home")
    page.keyboard.press("Control+Shift+End")
    words.get_by_role("button", name="PER").click()
    assert told(page, "words", SPANS) == [{"start": 0, "end": 4, "label": 2}, {"start": 5, "end": 9, "label": 2}]
    page.keyboard.press("Delete")
    assert words.locator("mark").count() == 2


def test_a_text_of_100_000_characters(page: Any) -> None:
    long = part(page, SPANS, "long")
    long.locator(".pd-spans-text").focus()
    page.keyboard.press("Control+End")
    page.keyboard.press("Control+Shift+ArrowLeft")
    began = time.monotonic()
    long.get_by_role("button", name="ORG").click()
    assert {"start": 99_995, "end": 99_999, "label": 1} in told(page, "long", SPANS)
    assert time.monotonic() - began < 3


def test_nobody_changes_what_is_only_read(page: Any) -> None:
    only = part(page, SPANS, "read only")
    only.locator(".pd-spans-text").focus()
    page.keyboard.press("]")
    page.keyboard.press("Delete")
    assert only.locator("mark").count() == 1
    assert only.locator("[data-told]").inner_text() == ""
    assert page.title() != "taken"


def test_boxes_are_drawn_moved_resized_typed_and_removed(page: Any) -> None:
    empty = part(page, BOXES, "empty")
    stage = empty.locator(".pd-boxes-stage").bounding_box()
    scale = stage["width"] / 200

    def drag(x: float, y: float, to_x: float, to_y: float) -> None:
        page.mouse.move(stage["x"] + x * scale, stage["y"] + y * scale)
        page.mouse.down()
        page.mouse.move(stage["x"] + to_x * scale, stage["y"] + to_y * scale, steps=5)
        page.mouse.up()

    drag(20, 30, 80, 90)
    (one,) = told(page, "empty", BOXES)
    assert one["box"] == pytest.approx([20, 30, 80, 90], abs=1)
    empty.get_by_role("button", name="PER").click()
    told_that(page, "empty", BOXES, lambda boxes: boxes[0]["label"] == 2)
    drag(50, 60, 60, 65)  # as a whole
    moved = pytest.approx([30, 35, 90, 95], abs=1.5)
    (two,) = told_that(page, "empty", BOXES, lambda boxes: boxes[0]["box"] == moved)
    for key in ("ArrowRight", "Control+ArrowDown", "Shift+ArrowLeft"):
        page.keyboard.press(key)
    left, top, right, bottom = two["box"]
    wanted = pytest.approx([left + 1, top + 10, right, bottom + 10])
    told_that(page, "empty", BOXES, lambda boxes: boxes[0]["box"] == wanted)
    empty.get_by_label("left").fill("5.25")
    empty.get_by_label("left").press("Tab")
    told_that(page, "empty", BOXES, lambda boxes: boxes[0]["box"][0] == 5.25)
    drag(100, 100, 400, 400)  # over the edge: another box, cut there
    told_that(page, "empty", BOXES, lambda boxes: len(boxes) == 2 and boxes[1]["box"][2:] == [200, 160])
    page.keyboard.press("Delete")
    told_that(page, "empty", BOXES, lambda boxes: len(boxes) == 1)


def test_keys_pressed_faster_than_the_service_hears_of_them_all_count(page: Any) -> None:
    """A change that has been told never comes back over those made since."""
    full = part(page, BOXES, "full")
    full.locator(".pd-boxes-scroll").focus()
    page.keyboard.press("[")
    page.keyboard.press("]")
    nested = part(page, SPANS, "nested")
    for _ in range(40):
        page.keyboard.press("ArrowRight")
    boxes = told_that(page, "full", BOXES, lambda boxes: boxes[0]["box"][0] == 60.25)
    assert boxes[0] == {"box": [60.25, 30.5, 160.13, 110.0], "label": 0}
    nested.locator(".pd-spans-text").focus()
    page.keyboard.press("]")
    for _ in range(10):
        page.keyboard.press("Alt+ArrowRight")
    spans = told_that(page, "nested", SPANS, lambda spans: spans[0]["end"] == 32)
    assert spans[0] == {"start": 4, "end": 32, "label": 1}
    assert nested.locator("mark.chosen").count() > 0


def test_what_is_not_touched_keeps_its_digits(page: Any) -> None:
    full = part(page, BOXES, "full")
    full.locator(".pd-boxes-scroll").focus()
    page.keyboard.press("[")
    page.keyboard.press("Delete")
    assert told(page, "full", BOXES) == [{"box": [20.25, 30.5, 120.125, 110.0], "label": 0}]
    assert page.title() != "taken"


def test_one_of_5_000_labels_is_found_by_typing(page: Any) -> None:
    many = part(page, LABELS, "5,000")
    assert many.get_by_role("radio").count() == 1
    search = many.get_by_role("combobox")
    search.fill("label 499")
    search.press("ArrowDown")
    began = time.monotonic()
    search.press("Enter")
    assert told(page, "5,000", LABELS) == 4991
    assert time.monotonic() - began < 1
    search.fill("<b>new</b>")
    search.press("Enter")
    told_that(page, "5,000", LABELS, lambda value: value == "<b>new</b>")


@pytest.mark.parametrize("view", ["390-dark-zh", "1280-light-en", "1920-light-zh"])
def test_they_are_looked_at_and_heard(gallery: str, look: Look, view: str) -> None:
    page = look(gallery, "/studio/gallery", view=view)
    page.wait_for_selector(".pd-box")
    page.locator(f'section[aria-label="{LABELS}"]').scroll_into_view_if_needed()
    picture(page, f"editors-{view}")
    if view == "1280-light-en":
        assert_accessible(page)
