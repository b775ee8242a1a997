"""The page Runs in a real browser: finished and damaged runs, compared; one really started, followed, stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from running_studio import picture, serving, settled

from film_models import plain_rows
from polydetr.core.files import json_text
from polydetr.inference.folder import LAST, MANIFEST

pytestmark = pytest.mark.browser
EVIL = "<b onmouseover=alert(1)>x"


@pytest.fixture(scope="module")
def runs(several_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs, one called like HTML, one damaged, one that ended before its first checkpoint."""
    folder = tmp_path_factory.mktemp("runs")
    shutil.copytree(several_folder, folder / "first")
    shutil.copytree(several_folder, folder / EVIL)
    shutil.copytree(several_folder, folder / "damaged")
    info = json.loads((folder / "damaged" / MANIFEST).read_text(encoding="utf-8"))
    (folder / "damaged" / MANIFEST).write_text(json_text({**info, "parameters": 1}), encoding="utf-8")
    (folder / "cut.checkpoint").mkdir()
    return folder


@pytest.fixture(scope="module")
def served(several_folder: Path, runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    place = tmp_path_factory.mktemp("runs-page")
    with serving({"films": several_folder}, "--runs", str(runs), folder=place) as address:
        yield address


@pytest.mark.parametrize("view", ["390-dark-zh", "1280-light-en", "1920-light-zh"])
def test_the_folder_is_listed_with_its_faults(look: Callable[..., Any], served: str, view: str) -> None:
    page = look(served, "/studio/runs", view=view)
    page.wait_for_selector("table tbody tr")
    text = page.locator("#pd-main").inner_text()
    assert EVIL in text
    assert "was changed after it was saved" in text
    assert "it ended before its first checkpoint" in text
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    picture(page, f"runs-{view}")


def test_one_run_with_its_curve_settings_and_pictures(look: Callable[..., Any], served: str) -> None:
    page = look(served, "/studio/runs")
    page.get_by_role("link", name=EVIL).click()
    page.wait_for_selector("figure.pd-chart canvas")
    text = page.locator("#pd-main").inner_text()
    assert EVIL in text
    assert "model.embed_dim" in text
    picture_link = page.get_by_role("link", name="learning curve")
    answer = page.request.get(f"{served}{picture_link.get_attribute('href')}")
    assert answer.headers["content-type"] == "image/png"
    for wrong in ("first/..%2Fpolydetr.json", "..%2Ffirst/learning_curve.png", "first/nothing.png"):
        assert page.request.get(f"{served}/studio/runs/picture/{wrong}").status == 404
    page.go_back()
    page.wait_for_selector("table tbody tr")


def test_a_run_that_is_gone_is_said(look: Callable[..., Any], served: str) -> None:
    page = look(served, "/studio/runs?run=..%2F..%2Fetc")
    assert "there is no run" in page.locator("#pd-main").inner_text()


def test_two_are_compared_in_one_chart(look: Callable[..., Any], served: str) -> None:
    page = look(served, "/studio/runs")
    page.get_by_role("checkbox", name="Compare first").check()
    page.get_by_role("checkbox", name=f"Compare {EVIL}").check()
    page.get_by_role("button", name="Compare the chosen").click()
    page.wait_for_selector("figure.pd-chart canvas")
    text = page.locator("#pd-main").inner_text()
    assert "All of them have the same settings." in text
    assert "label accuracy, validation rows" in text
    picture(page, "runs-compared")


def test_one_alone_cannot_be_compared(look: Callable[..., Any], served: str) -> None:
    page = look(served, "/studio/runs?compare=first")
    assert "Choose two to 6 runs to compare." in page.locator("#pd-main").inner_text()


def test_a_file_that_is_none_is_refused_in_the_readers_words(
    look: Callable[..., Any], served: str, tmp_path: Path
) -> None:
    page = look(served, "/studio/runs?new=1")
    bad = tmp_path / "rows.csv"
    bad.write_bytes(b"\x00\x01\x02" * 40)
    page.set_input_files("input[type=file]", bad)
    page.wait_for_selector("#pd-main .pd-state.bad")
    said = page.locator("#pd-main .pd-state.bad").inner_text()
    assert "holds a header and no rows" in said
    assert "rows.csv" in said
    assert ".incoming" not in said  # where it lies is nobody's business
    picture(page, "runs-new-refused")


def test_a_training_is_started_followed_and_stopped(
    look: Callable[..., Any], served: str, runs: Path, tmp_path: Path
) -> None:
    page = look(served, "/studio/runs?new=1")
    rows = tmp_path / "rows.jsonl"
    told = [{**row, "text": f"{row['text']} {i}", EVIL: i} for i, row in enumerate(plain_rows(3000))]
    rows.write_text("".join(f"{json_text(row)}\n" for row in told), encoding="utf-8")
    page.set_input_files("input[type=file]", rows)
    page.wait_for_selector("text=3. What to learn")
    assert EVIL in page.locator("#pd-main").inner_text()
    picture(page, "runs-new")
    page.get_by_label("Name of the run").fill("from the page")
    page.get_by_label("Backbone").click()
    page.get_by_role("option", name="minilm, for texts").wait_for()
    assert page.get_by_role("option", name="for images").count() == 0  # the file has none
    page.get_by_role("option", name="none: small and quick").click()
    page.get_by_label("Minutes at most").fill("5")
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url("**/studio/runs")
    page.wait_for_selector("text=Under way: from_the_page")
    page.wait_for_selector("text=/ left/", timeout=120_000)
    page.wait_for_selector("figure.pd-chart canvas", timeout=120_000)
    picture(page, "runs-live")

    other = look(served, "/studio/runs", view="390-dark-zh")  # another page sees it too
    other.wait_for_selector("figure.pd-chart canvas")
    picture(other, "runs-live-390")

    page.get_by_role("button", name="Stop").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Stop").click()
    page.wait_for_selector("text=Under way", state="detached", timeout=60_000)
    page.get_by_role("row", name="from_the_page").get_by_text("stopped").wait_for()
    other.wait_for_selector("text=已停止")
    assert (runs / "from_the_page.checkpoint" / LAST).exists()
    assert (runs / "from_the_page.data" / "rows.jsonl").exists()
    assert not list(runs.glob(".incoming-*"))


def test_what_is_not_allowed_says_how_it_is_switched_on(
    look: Callable[..., Any], several_folder: Path, runs: Path, tmp_path: Path
) -> None:
    with serving({"films": several_folder}, "--runs", str(runs), "--no-may-train", folder=tmp_path) as address:
        page = look(address, "/studio/runs")
        assert "--may-train" in page.locator("#pd-main").inner_text()
        assert page.get_by_role("link", name="New training").count() == 0
        page.goto(f"{address}/studio/runs?new=1")
        page.wait_for_selector("text=--may-train")
        answer = page.request.post(f"{address}/studio/runs/upload/rows?name=a.csv", data=b"a,b\n1,2\n")
        assert answer.status == 403


def test_a_folder_that_is_not_there_yet_is_empty(look: Callable[..., Any], studio: str) -> None:
    page = look(studio, "/studio/runs")
    page.wait_for_selector("text=No trainings yet.")
    picture(page, "runs-empty")


@pytest.mark.parametrize("path", ["/studio/runs", "/studio/runs?run=first", "/studio/runs?new=1"])
def test_a_screen_reader_finds_nothing_serious(look: Callable[..., Any], served: str, path: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = look(served, path, bypass_csp=True)
    settled(page)
    found = Axe().run(page).response["violations"]
    assert [
        f"{one['id']}: {one['nodes'][0]['html'][:160]}" for one in found if one["impact"] in ("serious", "critical")
    ] == []
