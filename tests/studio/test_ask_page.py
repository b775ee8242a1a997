"""The page Ask in a real browser: by keyboard alone, with texts that are hard to show, and with what goes wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest
from axe import assert_accessible
from running_studio import VIEWS, picture, serving_two, settled

pytestmark = pytest.mark.browser
ASK = "/studio/films/ask"
SCRIPT = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\"> a lovely evening"
HARD = "قال أحمد: a lovely\u200b evening \u202eworld\u202c"
Look = Callable[..., Any]


def ask(page: Any, text: str, minutes: str = "90") -> None:
    """By keyboard alone: each field is reached from the one before."""
    page.get_by_label("text", exact=True).focus()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(text)
    page.keyboard.press("Tab")
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(minutes)
    page.keyboard.press("Control+Enter")


def answer(page: Any) -> Any:
    """The answer, once it is there."""
    page.wait_for_selector(".pd-part .pd-big")
    page.wait_for_selector(".pd-answer:not(.busy)")
    return page.locator(".pd-answer")


def test_a_row_is_asked_by_keyboard_and_stands_in_the_address(studio: str, look: Look) -> None:
    page = look(studio, ASK)
    ask(page, "scene 3 of a lovely evening")
    said = answer(page).inner_text()
    assert re.search(r"\b(sure|fairly sure|unsure) 0\.\d\d", said.replace("\n", " "))
    assert "of such intervals" in said or "stars" in said
    page.wait_for_url("**/ask?row=*")
    assert parse_qs(urlparse(page.url).query)["row"][0].startswith('{"text": "scene 3')
    page.reload()
    assert answer(page).inner_text() == said
    assert page.get_by_label("minutes", exact=True).input_value() == "90"


def test_what_was_typed_and_not_asked_outlives_a_reload(studio: str, look: Look) -> None:
    """A page is loaded anew where it was not heard of for ten seconds, as after a computer has slept."""
    page = look(studio, ASK)
    field = page.get_by_label("text", exact=True)
    field.fill("not asked yet")
    page.reload()
    page.wait_for_selector("main form")
    assert field.input_value() == "not asked yet"
    ask(page, "a lovely evening")
    answer(page)
    page.wait_for_url("**/ask?row=*")
    field.fill("the next one")
    page.reload()
    answer(page)  # of the row in the address
    assert field.input_value() == "the next one"
    assert page.get_by_label("minutes", exact=True).input_value() == "90"
    page.goto(f"{studio}{ASK}")  # as from the rail: nothing was typed at this address since
    page.wait_for_selector("main form")
    assert field.input_value() == ""


def test_who_signs_out_leaves_nothing_typed_to_the_next(studio: str, look: Look) -> None:
    page = look(studio, ASK)
    field = page.get_by_label("text", exact=True)
    field.fill("between us")
    page.wait_for_function("Object.keys(sessionStorage).some(one => one.startsWith('polydetr.row:'))")
    page.route("**/studio/logout", lambda route: route.fulfill(body="{}"))  # it, and its button, are there with people
    with page.expect_navigation():
        page.evaluate(
            "document.body.append(Object.assign(document.createElement('button'), {id: 'out'}));"
            "document.getElementById('out').dataset.logout = '/studio'; document.getElementById('out').click()"
        )
    page.wait_for_selector("main form")
    assert field.input_value() == ""


@pytest.mark.parametrize("text", [SCRIPT, HARD], ids=["script", "right to left and zero width"])
def test_text_is_text(studio: str, look: Look, text: str) -> None:
    page = look(studio, ASK)
    title = page.title()
    ask(page, text)
    shown = answer(page).locator(".pd-text").first.inner_text()
    assert ("<script>" in shown) == (text is SCRIPT)
    assert "lovely" in shown
    assert page.title() == title
    page.get_by_role("button", name="Why?").first.click()
    page.wait_for_selector(".pd-verdict")
    assert page.title() == title


def test_a_hundred_thousand_characters(studio: str, look: Look) -> None:
    page = look(studio, ASK)
    ask(page, "a lovely evening " * 5_883)
    assert "100,0" in page.locator(".pd-field-head .pd-note").first.inner_text()
    answer(page)
    assert len(page.locator(".pd-text").first.inner_text()) > 99_000
    assert "?" not in page.url  # too long for an address


def test_a_value_outside_is_said_and_asked_all_the_same(studio: str, look: Look) -> None:
    page = look(studio, ASK)
    ask(page, "a lovely evening", "9000")
    assert "80 to 109" in page.locator(".pd-warn").inner_text()
    assert "Noticed in this row" in answer(page).inner_text()


def test_an_error_of_the_row_stands_beside_its_column(studio: str, look: Look) -> None:
    page = look(studio, ASK)
    ask(page, "a lovely evening", "12 apples")
    page.wait_for_selector(".pd-state.bad")
    beside = page.locator(".pd-field.bad")
    assert beside.locator("label").inner_text() == "minutes"
    assert "12 apples" in beside.locator(".pd-error").inner_text()
    picture(page, "ask-error")
    ask(page, "a lovely evening", "90")
    answer(page)
    assert page.locator(".pd-error").count() == 0


def test_answers_are_withheld_below_a_threshold_of_the_address(studio: str, look: Look) -> None:
    page = look(studio, f"{ASK}?least=1")
    ask(page, "a lovely evening")
    assert "abstained below 1.00" in answer(page).inner_text().replace("\n", " ")
    page.wait_for_url("**least=1*")


def test_the_example_why_and_the_request(studio: str, look: Look) -> None:
    page = look(studio, ASK)
    page.keyboard.press("e")
    answer(page)
    page.keyboard.press("w")
    page.wait_for_selector(".pd-verdict")
    assert "minutes" in page.locator(".pd-signed").inner_text()
    code = page.locator(".pd-tabs pre")
    assert code.inner_text().startswith(f"curl -s {studio}/v1/models/films/predict")
    page.get_by_role("tab", name="curl").focus()
    page.keyboard.press("ArrowRight")
    assert f"with Client('{studio}') as client" in code.inner_text()


def test_a_wrong_answer_is_handed_to_the_page_that_corrects_it(studio: str, look: Look) -> None:
    page = look(studio, ASK)
    page.keyboard.press("e")
    answer(page)
    page.keyboard.press("c")
    page.wait_for_url(f"{studio}/studio/films/correct?row=*")


def test_a_link_of_anybody_harms_nobody(studio: str, look: Look) -> None:
    page = look(studio, f"{ASK}?row=%5B&least=abc&seed=-1&text=%3Cscript%3E")
    answer(page)
    assert page.get_by_label("text", exact=True).input_value() == "<script>"


@pytest.mark.parametrize("view", VIEWS)
def test_looked_at(studio: str, look: Look, view: str) -> None:
    page = look(studio, ASK, view=view)
    picture(page, f"ask-empty-{view}")
    page.keyboard.press("e")
    answer(page)
    page.keyboard.press("w")
    page.wait_for_selector(".pd-verdict")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert_accessible(page)
    picture(page, f"ask-full-{view}")


def test_a_model_that_is_not_there_is_said(studio: str, look: Look) -> None:
    page = look(studio, "/studio/fims/ask")
    assert "Did you mean 'films'?" in page.locator(".pd-state.bad").inner_text()


def test_a_model_exchanged_behind_an_open_page_answers_and_is_said(
    look: Look, several_folder: Path, tmp_path: Path
) -> None:
    with serving_two(several_folder, tmp_path) as (address, exchange):
        page = look(address, ASK)
        page.keyboard.press("e")
        before = answer(page).inner_text()
        assert "exchanged" not in before
        assert "Authorization: Bearer KEY" in page.locator(".pd-tabs pre").inner_text()
        exchange()
        page.keyboard.press("e")
        page.get_by_text("The model was exchanged while this page was open").wait_for()
        answer(page)  # and it is answered all the same


# -- components, in the gallery ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
def test_the_gallery_is_photographed(studio: str, look: Look, view: str) -> None:
    page = look(studio, "/studio/gallery", view=view)
    settled(page)  # with the words that come after a second
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert_accessible(page)
    assert page.title() != "taken"
    picture(page, f"gallery-{view}")


def test_boxes_by_keyboard(studio: str, look: Look) -> None:
    page = look(studio, "/studio/gallery")
    boxes = page.locator(".pd-boxes").first
    boxes.locator("rect").first.wait_for(state="attached")
    assert boxes.locator("rect").count() == 3
    boxes.get_by_role("slider").focus()
    page.keyboard.press("End")
    assert boxes.locator("rect").count() == 0
    assert "0 of 3" in boxes.inner_text()
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    assert boxes.locator("rect").count() == 1  # 0.96 is above 0.95


def test_forms_in_the_gallery(studio: str, look: Look) -> None:
    page = look(studio, "/studio/gallery")
    written = "[12345, 0.123456, -1234567.8].map(v => v.toLocaleString('en', polydetr.figures(v, 4)))"
    assert page.evaluate(written) == ["12,345", "0.1235", "-1,234,568"]
    many = page.locator("[data-state='300 columns'] .pd-form")
    assert many.locator(".pd-field").count() == 13  # twelve columns, and what finds others
    many.get_by_role("searchbox").fill("column 293")
    assert many.get_by_role("textbox", name="column 293").count() == 1
    many.get_by_role("searchbox").fill("PROTO")
    many.get_by_role("textbox", name="__proto__").fill("3")
    many.get_by_role("searchbox").fill("")
    assert many.locator("details").count() == 12
    many.get_by_text("Columns 13 to 36").click()
    assert many.locator(".pd-field").count() == 37
    shop = many.get_by_role("combobox", name="shop")
    shop.click()
    assert many.get_by_role("option").count() == 51  # fifty, and how many more there are
    shop.fill("shop 4999")
    assert many.get_by_role("option").all_inner_texts() == ["shop 4999"]

    full = page.locator("[data-state=full] .pd-form")
    color = full.get_by_role("combobox", name="color")
    assert "did not occur in training" in full.inner_text()
    color.fill("gr")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert color.input_value() == "green"
    assert "did not occur in training" not in full.inner_text()
    full.locator("input[type=file]").first.set_input_files(
        [{"name": f"{SCRIPT[:30]}.png", "mimeType": "image/png", "buffer": b"no image"}]
    )
    full.locator(".pd-thumbs figcaption").wait_for()
    assert "<script>" in full.locator(".pd-thumbs figcaption").inner_text()
    full.locator("input[type=file]").first.set_input_files(
        [{"name": "large.png", "mimeType": "image/png", "buffer": bytes(17 << 20)}]
    )
    full.get_by_text("make it smaller").wait_for()
    full.locator(".pd-drop").first.evaluate(
        """place => {
          const dataTransfer = new DataTransfer();
          for (let i = 0; i < 17; i++) dataTransfer.items.add(new File(['x'], `${i}.png`, { type: 'image/png' }));
          place.dispatchEvent(new DragEvent('drop', { dataTransfer, bubbles: true }));
        }"""
    )
    full.get_by_text("Taken: only the first 16 of 17 files.").wait_for()
