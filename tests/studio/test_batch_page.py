"""The page Batch in a real browser: files as they come, 5,000 rows, the keyboard alone."""

from __future__ import annotations

import csv
import http.client
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe import assert_accessible
from running_studio import picture, serving, serving_two

from film_models import film_rows

pytestmark = pytest.mark.browser
PAGE = "/studio/films/batch"
SCRIPT = "<script>window.taken = 1</script><img src=x onerror='window.taken = 1'>"
ODD = {3: SCRIPT, 5: "\u202eevil\u202c שלום a\u200bb", 7: "=1+2", 9: "x" * 100_000}
TABLE = "getElement(document.querySelector('.pd-table-view').id.slice(1))"
_TIMED = """async work => {
  const table = TABLE, times = [];
  const drawn = () => new Promise(done => requestAnimationFrame(() => setTimeout(done)));
  for (let i = 0; i < 5; i++) {
    await drawn();
    const began = performance.now();
    const by = {colId: i % 2 ? 'o0' : 'q', sort: i % 2 ? 'asc' : 'desc'};
    work === 'sort' ? table.api.applyColumnState({state: [by], defaultState: {sort: null}})
      : work === 'search' ? table.find(['lovely', 'note 49', '', 'scene 3', ''][i])
      : table.choose(i % 2 ? table.values[0][0] : '');
    await drawn();
    times.push(performance.now() - began);
  }
  return times.sort((a, b) => a - b)[2];
}""".replace("TABLE", TABLE)


def write_rows(path: Path, count: int, *, labeled: bool = True, encoding: str = "utf-8", delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding=encoding) as file:
        rows = csv.writer(file, delimiter=delimiter)
        rows.writerow(["text", "minutes", "note", *(["label"] if labeled else [])])
        for number, row in enumerate(film_rows(count), start=1):
            label = "good" if number % 10 == 0 else row["label"]
            minutes = "not a number" if number == 11 else 80 + number % 30
            rows.writerow([ODD.get(number, row["text"]), minutes, f"note {number}", *([label] if labeled else [])])
    return path


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows") / "five thousand.csv", 5000)


def drop(page: Any, path: Path) -> None:
    page.wait_for_selector(".pd-file-drop")
    page.set_input_files("input[type=file]", str(path))


def shown(page: Any) -> str:
    return page.inner_text(".pd-table-count")


def wait_rows(page: Any, count: int, *, timeout_s: float = 120) -> None:
    page.wait_for_function(
        f"() => document.querySelector('.pd-table-view') && {TABLE}.have >= {count}", timeout=1000 * timeout_s
    )


def wait_measured(page: Any) -> None:
    page.wait_for_selector(".pd-figures", timeout=120_000)
    page.wait_for_selector("[data-flag=wrong]:visible", timeout=60_000)


def test_5000_rows_stream_in_are_sorted_filtered_measured_and_survive_a_reload(
    studio: str, look: Callable[..., Any], many: Path, tmp_path: Path
) -> None:
    page = look(studio, PAGE)
    assert_accessible(page)
    picture(page, "batch-empty-1280-light-en")
    drop(page, many)
    page.wait_for_selector(".ag-row", timeout=60_000)
    assert page.query_selector("progress[aria-label]"), "part of the answers are there, and it goes on"
    picture(page, "batch-part-1280-light-en")
    wait_rows(page, 5000)
    order = page.evaluate(f"() => {TABLE}.rows.map(row => row.n)")
    assert order == list(range(1, 5001))
    wait_measured(page)
    for work in ("sort", "filter", "search"):
        took = page.evaluate(_TIMED, work)
        print(f"{work} of 5,000 rows: {took:.0f} ms")
        assert took < 1000  # 200 on a machine that does nothing else: benchmarks/studio_batch.py
    assert page.evaluate("window.taken") is None
    assert "1 rejected" in page.inner_text("main")
    page.click("[data-flag=wrong]")
    wrong = int(page.inner_text("[data-flag=wrong] b").replace(",", ""))
    assert shown(page).startswith(f"{wrong:,} of 5,000")
    with page.expect_download() as saving:
        page.click("[data-save=shown]")
        page.click(".pd-menu button[data-suffix='.csv']")
    saved = tmp_path / saving.value.suggested_filename
    saving.value.save_as(saved)
    with saved.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == wrong
    assert all(row["predicted_label"] != row["label"] for row in rows)
    address = page.url
    mistakes = page.get_by_role("link", name="The worst mistakes").get_attribute("href")
    page.goto(f"{studio}{mistakes}")
    assert "Worst mistakes" in page.content()
    page.goto(address)
    wait_rows(page, 5000)
    wait_measured(page)
    page.evaluate("document.querySelector('[data-flag=rejected]').click()")
    assert shown(page) == "1 of 5,000 rows"
    page.evaluate("document.querySelector('[data-flag=rejected]').click()")
    assert_accessible(page)
    picture(page, "batch-full-1280-light-en")


def test_all_rows_are_saved_in_every_format(studio: str, look: Callable[..., Any], tmp_path: Path) -> None:
    page = look(studio, PAGE)
    drop(page, write_rows(tmp_path / 'a <b>"&.csv', 20))
    wait_rows(page, 20)
    assert 'a <b>"&.csv' in page.inner_text("main h2")
    for suffix in (".csv", ".tsv", ".jsonl", ".parquet", ".xlsx"):
        with page.expect_download() as saving:
            page.click("[data-save=all]")
            page.click(f".pd-menu a[data-suffix='{suffix}']")
        assert re.fullmatch(r"[\w-]+\.[a-z]+", saving.value.suggested_filename)
        saved = tmp_path / f"saved{suffix}"
        saving.value.save_as(saved)
        if suffix == ".csv":
            assert "\n'=1+2," in saved.read_text("utf-8"), "no program takes a cell for a formula"


def test_a_model_exchanged_in_the_middle_of_a_file_leaves_no_row_without_an_answer(
    several_folder: Path, look: Callable[..., Any], many: Path, tmp_path: Path
) -> None:
    with serving_two(several_folder, tmp_path) as (address, exchange):
        page = look(address, PAGE)
        drop(page, many)
        page.wait_for_selector(".ag-row", timeout=60_000)
        assert page.evaluate(f"() => {TABLE}.have") < 5000
        exchange()
        wait_rows(page, 5000)
        page.get_by_text("The model was exchanged").first.wait_for()
        rejected = page.evaluate(f"() => {TABLE}.rows.filter(row => (row.f || []).includes('rejected')).length")
        assert rejected == 1, "the one row whose minutes are no number"


def test_a_cancelled_file_keeps_what_was_answered(studio: str, look: Callable[..., Any], many: Path) -> None:
    page = look(studio, PAGE)
    drop(page, many)
    page.wait_for_selector(".ag-row", timeout=60_000)
    page.click("[data-cancel]")
    page.wait_for_selector("text=Cancelled; what was answered stays")
    page.wait_for_function(f"() => {TABLE}.have > 0 && {TABLE}.have === {TABLE}.there")
    answered = page.evaluate(f"() => {TABLE}.have")
    assert 0 < answered < 5000
    page.reload()
    wait_rows(page, answered)
    assert page.evaluate(f"() => {TABLE}.there") == answered, "none came after it"
    page.goto(f"{studio}{PAGE}")
    page.wait_for_selector("text=Your earlier files")


@pytest.mark.parametrize(("encoding", "delimiter"), [("gbk", ","), ("utf-16", ";"), ("gbk", "\t")])
def test_files_as_spreadsheets_write_them(
    studio: str, look: Callable[..., Any], tmp_path: Path, encoding: str, delimiter: str
) -> None:
    path = tmp_path / ("rows.tsv" if delimiter == "\t" else "rows.csv")
    lines = ["text;minutes;备注", "这部电影真好看;90;第一行，很长的备注", "今天天气不错;91;第二行"]
    path.write_text("\n".join(line.replace(";", delimiter) for line in lines) + "\n", encoding=encoding)
    page = look(studio, PAGE)
    drop(page, path)
    wait_rows(page, 2)
    assert page.evaluate(f"() => {TABLE}.rows.map(row => row.o0)") == ["这部电影真好看", "今天天气不错"]
    assert page.evaluate(f"() => {TABLE}.columns.map(c => c.name)").count("备注") == 1
    page.wait_for_selector("text=Done")
    assert ("gb18030" in page.inner_text("main")) == (encoding == "gbk"), "a guess is told"


def test_two_gigabytes_are_refused_at_once_by_the_browser_and_by_the_gate(
    studio: str, look: Callable[..., Any], tmp_path: Path
) -> None:
    large = tmp_path / "large.csv"
    with large.open("wb") as file:
        file.truncate(2 << 30)
    page = look(studio, PAGE)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    began = time.monotonic()
    drop(page, large)
    page.wait_for_selector("text=The file has more than 512 MB.")
    print(f"2 GB refused after {time.monotonic() - began:.2f} s")
    assert not [url for url in sent if "/upload/" in url]
    connection = http.client.HTTPConnection(studio.removeprefix("http://"), timeout=10)
    connection.putrequest("POST", f"{PAGE}/upload/rows?name=large.csv")
    connection.putheader("Content-Length", str(2 << 30))
    connection.endheaders()
    began = time.monotonic()
    answer = connection.getresponse()
    assert answer.status == 413
    assert time.monotonic() - began < 3
    assert b"more than" in answer.read()
    connection.close()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rows.csv", b"other\n1\n", "there is no column"),
        ("rows.zip", b"PK\x03\x04", "cannot be unpacked"),
        ("empty.csv", b"", "The file is empty."),
        ("rows.xlsx", b"PK\x03\x04", "not readable as an Excel workbook"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(
    studio: str, look: Callable[..., Any], tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    page = look(studio, PAGE)
    drop(page, path)
    page.wait_for_selector(f"text={said}", timeout=60_000)
    assert str(tmp_path) not in page.inner_text("main")
    assert "/tmp/" not in page.inner_text("main")


def test_a_file_of_another_kind_is_refused_in_the_words_of_the_service(
    studio: str, chromium: Any, tmp_path: Path
) -> None:
    """Without ``look``: the browser itself notes that the service has refused."""
    path = tmp_path / "<b>rows.exe"
    path.write_bytes(b"MZ")
    page = chromium.new_context(locale="en-US").new_page()
    page.goto(f"{studio}{PAGE}")
    drop(page, path)
    page.wait_for_selector("text='<b>rows.exe' is of no kind that is read.")
    assert "Its name may end in .csv" in page.inner_text("[role=alert]")
    page.context.close()


def test_rows_that_are_not_there_to_be_corrected_are_said_on_a_page(studio: str, look: Callable[..., Any]) -> None:
    for address in ("nothing", "nothing/1"):
        page = look(studio, f"/studio/films/batch/correct/{address}")
        page.locator(".pd-state.bad", has_text="no job").wait_for()
        assert page.locator("nav.pd-rail").count() == 1


def test_the_keyboard_alone_reaches_a_row_its_detail_and_its_correction(
    studio: str, look: Callable[..., Any], tmp_path: Path
) -> None:
    page = look(studio, PAGE)
    drop(page, write_rows(tmp_path / "rows.csv", 40, labeled=False))
    wait_rows(page, 40)
    page.wait_for_selector("text=Done")
    page.keyboard.press("d")
    assert page.get_attribute("[data-key=d]", "aria-pressed") == "true"
    page.keyboard.press("d")
    page.keyboard.press("/")
    page.keyboard.type("note 3")
    page.keyboard.press("ArrowDown")
    page.wait_for_function("() => document.activeElement.closest('.ag-row') !== null")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_selector(".pd-detail .pd-fields dd")
    assert SCRIPT not in page.inner_text(".pd-detail")
    assert page.evaluate("document.activeElement.className") == "pd-detail"
    first = page.inner_text(".pd-detail h2")
    page.keyboard.press("j")
    page.wait_for_function(f"() => document.querySelector('.pd-detail h2').innerText !== '{first}'")
    assert_accessible(page)
    picture(page, "batch-detail-1280-light-en")
    page.keyboard.press("Escape")
    assert page.query_selector(".pd-detail") is None
    page.wait_for_function("() => document.activeElement.closest('.ag-row') !== null")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('.ag-row')") is None, "the table is no trap"
    page.keyboard.press("Shift+Tab")
    page.wait_for_function("() => document.activeElement.closest('.pd-ag') !== null")
    page.focus("[data-search]")
    page.keyboard.press("ArrowDown")
    page.wait_for_function("() => document.activeElement.closest('.ag-row') !== null")
    page.keyboard.press("c")
    page.wait_for_url(re.compile(r"/films/correct\?row=[\w-]+$"))
    page.go_back()
    wait_rows(page, 40)
    page.get_by_role("link", name="Correct the doubtful ones").click()
    page.wait_for_url(re.compile(r"/films/correct\?rows=[\w-]+$"))


@pytest.mark.parametrize("view", ["390-dark-zh", "1920-light-zh"])
def test_a_phone_has_cards_and_chinese_words(studio: str, look: Callable[..., Any], tmp_path: Path, view: str) -> None:
    page = look(studio, PAGE, view=view)
    picture(page, f"batch-empty-{view}")
    drop(page, write_rows(tmp_path / "评论.csv", 60))
    wait_rows(page, 60)
    wait_measured(page)
    assert (page.query_selector(".pd-row-card") is not None) == (view == "390-dark-zh")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert_accessible(page)
    picture(page, f"batch-full-{view}")
    if view == "390-dark-zh":
        page.click(".pd-row-card >> nth=1")
        page.wait_for_selector(".pd-detail .pd-fields dd")
        picture(page, f"batch-detail-{view}")
        page.click(".pd-detail [aria-label=关闭]")
        return
    page.click(".ag-header-cell[col-id=o0] .ag-header-cell-filter-button")
    page.wait_for_selector("text=包含")
    picture(page, f"batch-filter-{view}")


@pytest.fixture
def alone(several_folder: Path, tmp_path: Path) -> Iterator[str]:
    with serving({"films": several_folder}, folder=tmp_path) as address:
        yield address


def test_a_model_that_dies_in_the_middle_loses_no_answer(alone: str, look: Callable[..., Any], many: Path) -> None:
    page = look(alone, PAGE)
    drop(page, many)
    page.wait_for_selector(".ag-row", timeout=60_000)
    for line in subprocess.run(
        ["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True
    ).stdout.splitlines():
        pid, parent, command = line.split(None, 2)
        if "polydetr.serving.worker" in command and is_child_of_this(int(parent)):
            os.kill(int(pid), signal.SIGKILL)
    page.wait_for_selector("text=/^(Done|Ended early)/", timeout=150_000)
    answered = page.evaluate(f"() => {TABLE}.rows.map(row => row.n)")
    assert answered == list(range(1, len(answered) + 1))
    assert len(answered) == page.evaluate(f"() => {TABLE}.there")


def is_child_of_this(pid: int) -> bool:
    """Whether the process was begun by this one, a service of its own in between."""
    while pid > 1:
        if pid == os.getpid():
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False
