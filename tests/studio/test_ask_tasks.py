"""The page Ask of every task in Chromium: what is asked through its form comes back as the task's own picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe import assert_accessible
from running_studio import picture, serving

pytestmark = pytest.mark.browser
Look = Callable[..., Any]
SAVED = Path(__file__).parents[1] / "model" / "saved_by_old"
SHOWN = {
    "detection": ".pd-boxes", "embedding": ".pd-code", "entities": ".pd-text", "generation": ".pd-generated",
    "image": ".pd-bars", "qa": ".pd-text", "table": ".pd-big", "text": ".pd-bars",
}  # fmt: skip
"""Saved model → what its answer is drawn as."""


@pytest.fixture(scope="module")
def every_task(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    served = {name: SAVED / name / "model" for name in SHOWN} | {"runs": SAVED / "text" / "model"}
    with serving(served, folder=tmp_path_factory.mktemp("tasks")) as address:
        yield address


def asked(page: Any, name: str) -> Any:
    """The answer to the example, or to an image where the model reads one."""
    page.wait_for_function("window.did_handshake")
    if name not in ("detection", "image"):
        page.keyboard.press("e")
    else:
        page.set_input_files("input[type=file]", SAVED / name / "scene0.png")
        page.wait_for_selector(".pd-field img")
        page.keyboard.press("Control+Enter")
    page.wait_for_selector(f".pd-answer:not(.busy) {SHOWN[name]}")
    return page.locator(".pd-answer")


@pytest.mark.parametrize("name", SHOWN)
def test_its_answer_is_drawn(every_task: str, look: Look, name: str) -> None:
    page = look(every_task, f"/studio/{name}/ask")
    asked(page, name)
    assert page.locator(".pd-state.bad").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert_accessible(page)
    picture(page, f"ask-{name}")


def test_boxes_below_a_score_are_hidden_by_the_slider(every_task: str, look: Look) -> None:
    page = look(every_task, "/studio/detection/ask")
    asked(page, "detection")
    drawing, image = (page.locator(f".pd-boxes .pd-canvas > {part}").bounding_box() for part in ("svg", "img"))
    assert drawing == pytest.approx(image, abs=1), "a box lies where it is said to be"
    slider = page.locator(".pd-boxes input[type=range]")
    slider.fill("0")
    every = page.locator(".pd-boxlabel").count()
    scores = sorted(float(text.split()[-1]) for text in page.locator(".pd-boxlabel").all_inner_texts())
    assert every == len(scores) > 1
    slider.fill(f"{(scores[-1] + scores[-2]) / 2:.2f}")
    page.wait_for_function("n => document.querySelectorAll('.pd-boxlabel').length < n", arg=every)
    first = page.locator(".pd-boxlabel").first
    first.focus()
    page.keyboard.press("Enter")
    assert first.get_attribute("aria-pressed") == "true"


def test_images_are_drawn_by_their_seeds_and_the_same_ones_again(every_task: str, look: Look) -> None:
    page = look(every_task, "/studio/generation/ask")
    asked(page, "generation")
    drawn = page.locator(".pd-generated").evaluate_all("all => all.map(one => one.src)")
    assert len(set(drawn)) == len(drawn) > 1
    assert all(page.locator(".pd-generated").evaluate_all("all => all.map(one => one.naturalWidth > 0)"))
    page.reload()
    page.wait_for_selector(f".pd-answer:not(.busy) {SHOWN['generation']}")
    assert page.locator(".pd-generated").evaluate_all("all => all.map(one => one.src)") == drawn


def test_a_model_may_be_named_like_a_page(every_task: str, look: Look) -> None:
    page = look(every_task, "/studio/runs/ask")
    asked(page, "text")
    assert look(every_task, "/studio/runs").locator("main h1").inner_text() == "Runs"


@pytest.mark.parametrize("name", ["image", "detection"])
def test_why_of_an_image_is_drawn_over_it(every_task: str, look: Look, name: str) -> None:
    page = look(every_task, f"/studio/{name}/ask")
    asked(page, name)
    page.keyboard.press("w")
    page.wait_for_selector(".pd-why .images svg .cell", state="attached", timeout=60_000)
    pictures = page.locator(".pd-why .images svg")
    assert pictures.count() == (3 if name == "detection" else 2), "the image, its heat, and where the query looked"
    assert page.locator(".pd-why .images svg image").evaluate_all(
        "all => all.every(one => one.href.baseVal.startsWith('data:image/'))"
    )
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator(".pd-why .images").first.scroll_into_view_if_needed()
    picture(page, f"why-{name}")
