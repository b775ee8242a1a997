"""The page Model in a real browser: every figure, its states, two models beside each other."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running_studio import drawn, picture, serving, settled

from film_models import film_rows
from polydetr import Predictor
from polydetr.core.files import json_text
from polydetr.metrics.classification import classification_report

pytestmark = pytest.mark.browser
EVIL = "<img src=x onerror=alert(1)>"
BARE = "bare"


def without_reports(folder: Path, to: Path) -> Path:
    """As an exported model's folder is."""
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("reports", "README.md"))
    return to


def with_many_labels(folder: Path, to: Path) -> Path:
    """Reports of 5,000 labels, one of them a script, in a folder that answers."""
    shutil.copytree(folder, to)
    rng = np.random.default_rng(1)
    labels = [EVIL, *(f"label {i}" for i in range(1, 5000))]
    gold = [labels[i % 5000] for i in range(10_000)]
    answers = [one if rng.random() < 0.8 else labels[rng.integers(5000)] for one in gold]
    gold[:40], answers[:40] = [EVIL] * 40, ["label 9"] * 40
    report = to / "reports" / "valid-label.json"
    held = json.loads(report.read_text(encoding="utf-8"))
    report.write_text(json_text({**held, "classes": classification_report(gold, answers).to_dict()}), encoding="utf-8")
    mistakes = to / "reports" / "valid-label-mistakes.json"
    worst = {"gold": EVIL, "answer": "label 9", "text": f"{EVIL} \u202eabc", "columns": [[EVIL, EVIL]], "row": 3}
    told = {"rows": 9, "kinds": {"wrong label": {"meaning": EVIL, "count": 1, "worst": [worst]}}}
    mistakes.write_text(json_text(told), encoding="utf-8")
    return to


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model of the label, of other rows."""
    rows = film_rows(40, start=3)
    for row in rows[::3]:
        row["label"] = "good"
    folder = tmp_path_factory.mktemp("other") / "other"
    Predictor.fit(
        rows, {"label": "classification"}, inputs={"text": "text"}, backbone="none", epochs=1, out=folder,
        settings={"model": {"embed_dim": 16, "num_layers": 1}},
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def served(several_folder: Path, other_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    place = tmp_path_factory.mktemp("model-page")
    models = {
        "films": several_folder, "other": other_folder, BARE: without_reports(several_folder, place / BARE),
        "many": with_many_labels(several_folder, place / "many"),
    }  # fmt: skip
    with serving(models, folder=place) as address:
        yield address


def charts(page: Any) -> list[str]:
    page.wait_for_selector("figure.pd-chart canvas")
    return page.locator("figure.pd-chart h3").all_inner_texts()


@pytest.mark.parametrize("view", ["390-dark-zh", "1280-light-en", "1920-light-zh"])
def test_every_figure_is_there_in_every_view(look: Callable[..., Any], served: str, view: str) -> None:
    page = look(served, "/studio/films/model", view=view)
    assert len(charts(page)) >= 6
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    drawn(page)
    picture(page, f"model-{view}")


def test_a_chart_has_its_numbers_as_a_table_and_as_files(look: Callable[..., Any], served: str) -> None:
    page = look(served, "/studio/films/model")
    assert "Confusion matrix" in charts(page)
    chart = page.locator("figure.pd-chart", has_text="Confusion matrix")
    chart.locator("summary").click()
    cells = chart.locator("tbody tr").all_inner_texts()
    with page.expect_download() as taken:
        chart.get_by_role("button", name="Confusion matrix: numbers as CSV").click()
    lines = Path(taken.value.path()).read_text(encoding="utf-8-sig").splitlines()
    assert lines[0] == "label,answer,n"
    assert [line.split(",") for line in lines[1:]] == [row.split("\t") for row in cells]
    with page.expect_download() as taken:
        chart.get_by_role("button", name="Confusion matrix: picture as PNG").click()
    assert Path(taken.value.path()).read_bytes().startswith(b"\x89PNG")


def test_a_chart_is_redrawn_when_the_light_changes(look: Callable[..., Any], served: str) -> None:
    page = look(served, "/studio/films/model", reduced_motion="reduce")  # a chart that still grows changes by itself
    drawn(page)
    before = page.locator("canvas").first.evaluate("c => c.toDataURL()")
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("document.body.classList.contains('body--dark')")
    page.wait_for_function("before => document.querySelector('canvas').toDataURL() !== before", arg=before)


def test_another_target_and_another_part_stand_in_the_address(look: Callable[..., Any], served: str) -> None:
    page = look(served, "/studio/films/model")
    page.get_by_role("link", name="stars", exact=True).click()
    page.wait_for_url("**target=stars*")
    page.get_by_text("RMSE").first.wait_for()
    page.get_by_role("link", name="minutes", exact=True).click()
    page.wait_for_url("**by=value%3Aminutes*")
    assert "target=stars" in page.url
    page.reload()
    page.wait_for_selector("main h1")
    assert page.get_by_role("link", name="minutes", exact=True).get_attribute("aria-current") == "true"
    assert "too few rows" in page.locator("#slices").inner_text()  # of four validation rows


def test_a_folder_without_reports_says_which_command_makes_them(look: Callable[..., Any], served: str) -> None:
    page = look(served, f"/studio/{BARE}/model")
    text = page.locator("#pd-main").inner_text()
    assert "polydetr evaluate --out MODEL/reports MODEL ROWS" in text
    assert "This folder brings no model card." in text
    assert "0 rows were asked since the service began" in text
    assert page.locator("figure.pd-chart").count() > 0  # its learning curve stands in its description
    picture(page, "model-bare")


def test_five_thousand_labels_and_a_script_among_them(look: Callable[..., Any], served: str) -> None:
    page = look(served, "/studio/many/model")
    assert "Confusion matrix" in charts(page)
    text = page.locator("#pd-main").inner_text()
    assert "Of 5,000 labels, those most often confused." in text
    assert "The 20 most frequent of 5,000." in text
    assert EVIL in text
    assert page.locator("#pd-main img[onerror]").count() == 0
    chart = page.locator("figure.pd-chart", has_text="Confusion matrix")
    chart.locator("summary").click()
    assert "4,980 others" in chart.inner_text()
    assert page.evaluate("document.querySelectorAll('*').length") < 6000
    picture(page, "model-5000-labels")


def test_the_page_of_mistakes_is_shown_and_runs_nothing(look: Callable[..., Any], served: str) -> None:
    page = look(served, "/studio/films/model")
    link = page.get_by_role("link", name="All that are kept, on one page")
    address = link.get_attribute("href")
    answer = page.request.get(f"{served}{address}")
    assert answer.status == 200
    assert "sandbox" in answer.headers["content-security-policy"]
    for wrong in ("films/mistakes/../valid", "films/mistakes/valid/nothing", "nobody/mistakes/valid/label"):
        assert page.request.get(f"{served}/studio/{wrong}").status == 404


def test_two_models_beside_each_other_on_the_kept_rows(look: Callable[..., Any], served: str) -> None:
    page = look(served, "/studio/films/model")
    page.get_by_role("link", name="other", exact=True).click()
    page.wait_for_selector("text=Same answer", timeout=60_000)
    text = page.locator("#pd-main").inner_text()
    assert "rows that films was measured on" in text
    assert "films: right" in text
    assert "other: right" in text
    assert "Not compared, because only one of them answers it in this way: stars, entities." in text
    picture(page, "model-beside")


def test_two_models_on_a_file_that_is_dropped(look: Callable[..., Any], served: str, tmp_path: Path) -> None:
    page = look(served, f"/studio/{BARE}/model?with=other")
    page.wait_for_selector("text=keeps no rows that can be asked again")
    rows = tmp_path / "rows.jsonl"
    kinds = [("lovely", "good"), ("dull", "bad")]
    told = [{"text": f"a {word} evening {EVIL}", "label": label} for word, label in 40 * kinds]
    rows.write_text("".join(f"{json_text(row)}\n" for row in told), encoding="utf-8")
    page.set_input_files("input[type=file]", rows)
    page.wait_for_selector("text=Same answer", timeout=60_000)
    text = page.locator("#pd-main").inner_text()
    assert "80 rows of rows.jsonl." in text
    assert "also reads columns that these rows lack, taken as missing: minutes" in text
    bad = tmp_path / "bad.csv"
    bad.write_bytes(b"\x00\x01\x02" * 40)
    page.set_input_files("input[type=file]", bad)
    page.wait_for_selector("#pd-main [role=alert]")
    picture(page, "model-beside-refused")


def test_what_is_asked_is_laid_beside_the_training_rows(look: Callable[..., Any], served: str) -> None:
    page = look(served, "/studio/other/model")
    rows = [{"text": "x" * (200 + i)} for i in range(500)]  # the last ones are counted with the next
    assert page.request.post(f"{served}/v1/models/other/predict", data={"rows": rows}).status == 200
    until = time.monotonic() + 30
    while not page.get_by_text("changed much").count():
        assert time.monotonic() < until, page.locator("#pd-main").inner_text()
        page.reload()
        page.wait_for_selector("main h1")
    page.locator("figure.pd-chart h3", has_text="text").wait_for()
    picture(page, "model-drift")


def test_parts_of_a_labeled_file_where_none_are_kept(look: Callable[..., Any], served: str, tmp_path: Path) -> None:
    page = look(served, f"/studio/{BARE}/model")
    rows = tmp_path / "rows.csv"
    kinds = [("lovely", "good"), ("dull", "bad")]
    lines = [f"a {word} evening {i},{80 + i},{label}" for i, (word, label) in enumerate(60 * kinds)]
    rows.write_text("\n".join(["text,minutes,label", *lines]), encoding="utf-8")
    page.set_input_files("#slices input[type=file]", rows)
    page.wait_for_selector("#slices table.pd-cards", timeout=60_000)
    page.get_by_role("button", name="minutes", exact=True).click()
    page.wait_for_selector("#slices button[aria-pressed=true]:has-text('minutes')")
    assert "All 120 rows" in page.locator("#slices").inner_text()
    picture(page, "model-parts-of-a-file")
    unlabeled = tmp_path / "unlabeled.csv"
    unlabeled.write_text("text\na lovely evening\n", encoding="utf-8")
    page.set_input_files("#slices input[type=file]", unlabeled)
    page.wait_for_selector("text=No row has a label of this target")


def test_a_model_that_is_not_served_is_said(look: Callable[..., Any], served: str) -> None:
    page = look(served, "/studio/films/model?with=nobody")
    assert "no model 'nobody' is served" in page.locator("#pd-main").inner_text()


@pytest.mark.parametrize("path", ["/studio/films/model", "/studio/films/model?with=other", f"/studio/{BARE}/model"])
def test_a_screen_reader_finds_nothing_serious(look: Callable[..., Any], served: str, path: str) -> None:
    page = look(served, path, bypass_csp=True)
    settled(page)
    assert serious(page) == []


def serious(page: Any) -> list[str]:
    """What axe-core finds, serious or worse."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:160]}" for one in found if one["impact"] in ("serious", "critical")
    ]


def test_a_page_open_for_a_day_gathers_nothing(look: Callable[..., Any], served: str) -> None:
    """Its hours go by in a moment, as in a machine that sleeps: the page finds its service again, as it was."""
    page = look(served, "/studio/runs")
    page.clock.install()
    page.goto(f"{served}/studio/films/model?target=stars")
    charts(page)
    before = page.evaluate("document.querySelectorAll('*').length")
    for _ in range(24):
        page.clock.fast_forward(3_600_000)
        page.wait_for_selector("main h1")
    page.wait_for_function("window.socket.connected && window.did_handshake")
    charts(page)
    assert abs(page.evaluate("document.querySelectorAll('*').length") - before) < 10
    assert page.get_by_role("link", name="stars", exact=True).get_attribute("aria-current") == "true"
    page.get_by_role("link", name="label", exact=True).click()
    page.wait_for_url("**target=label*")
