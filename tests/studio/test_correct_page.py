"""The page Correct in Chromium: every task by keyboard alone, two people on one row, and nothing lost."""

from __future__ import annotations

import json
import re
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from axe import assert_accessible
from correcting_models import fitted, scene
from correcting_page import Correcting, begin, confirm, row_number, select, shown
from running_studio import picture, serving, settled

from polydetr.core.reading import ExpectedColumns
from polydetr.data.readers import read_records
from polydetr.web.people.people import People
from polydetr.web.store.database import Database

pytestmark = pytest.mark.browser
Look = Callable[..., Any]
SCRIPT = "<script>document.title = 'taken'</script>"
PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def pages(several_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Correcting]:
    folder, models = tmp_path_factory.mktemp("correct"), tmp_path_factory.mktemp("models")
    served = {"films": several_folder, **{k: fitted(k, models / k) for k in ("topics", "tags", "questions", "scenes")}}
    with serving(served, folder=folder) as address:
        yield Correcting(address, folder)


@pytest.fixture(scope="module")
def signed(several_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Correcting]:
    """A service in which people have to sign in: Ada and Ben may correct, Eve may look."""
    folder = tmp_path_factory.mktemp("signed")
    database = Database.open(folder / "polydetr-studio.db")
    people = People(database)
    for name, role in (("Root", "admin"), ("Ada", "editor"), ("Ben", "editor"), ("Eve", "viewer")):
        people.add(name, PASSWORD, role=role)  # type: ignore[arg-type]
    database.close()
    with serving({"films": several_folder}, folder=folder) as address:
        yield Correcting(address, folder)


def films(*texts: str) -> list[dict[str, Any]]:
    return [{"text": text, "minutes": 90} for text in texts]


def opened(look: Look, pages: Correcting, model: str, rows: Any, query: str = "") -> Any:
    page = look(pages.address, pages.path(model))
    begin(page, rows)
    if query:
        page.goto(f"{page.url.partition('&')[0]}{query}")
        shown(page)
    return page


def sign_in(page: Any, name: str) -> None:
    page.fill("input[name=name]", name)
    page.fill("input[name=password]", PASSWORD)
    page.keyboard.press("Enter")


def as_person(look: Look, signed: Correcting, name: str, rows: Any) -> Any:
    page = look(signed.address, "/studio/login?next=/studio/films/correct")
    sign_in(page, name)
    page.wait_for_url("**/films/correct")
    if rows:
        begin(page, rows)
    return page


# -- every task by keyboard alone -------------------------------------------------------------------------------------


def test_a_class_a_number_and_spans(pages: Correcting, look: Look) -> None:
    text = "a 😀 lovely שלום evening by keys"
    page = opened(look, pages, "films", films(text))
    page.keyboard.press("1")  # "bad"
    page.keyboard.press("t")
    page.wait_for_function("document.activeElement.tagName === 'INPUT'")
    page.keyboard.press("Control+a")
    page.keyboard.type("3.25")
    page.keyboard.press("Tab")
    page.focus(".pd-spans-text")
    page.keyboard.press("Escape")
    while page.locator("mark").count():
        page.keyboard.press("]")
        page.keyboard.press("Delete")
    select(page, 4, 6)
    page.get_by_role("button", name="MOOD").press("Enter")  # a label has a key where keys are for its target
    page.wait_for_selector("mark")
    page.locator("h1").click()
    confirm(page, done=1)
    found = pages.values("films", text)
    assert found["label"] == "bad"
    assert found["stars"] == 3.25
    assert found["entities"] == [{"start": 4, "end": 10, "label": "MOOD", "text": "lovely"}]


def test_several_labels_and_one_that_is_new_only_after_asking(pages: Correcting, look: Look) -> None:
    text = "a report with several labels"
    page = opened(look, pages, "topics", [{"text": text}])
    chosen = page.locator("[role=checkbox][aria-checked=true]")
    for _ in range(chosen.count()):
        left = chosen.count()
        chosen.first.focus()
        page.keyboard.press("Space")
        page.wait_for_function(
            "n => document.querySelectorAll('[role=checkbox][aria-checked=true]').length === n", arg=left - 1
        )
    page.keyboard.press("3")
    page.keyboard.press("/")
    page.keyboard.type(SCRIPT)
    page.keyboard.press("Enter")
    page.get_by_role("alertdialog").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("alertdialog").wait_for(state="detached")
    assert page.locator("[role=checkbox]").count() == 3
    page.keyboard.press("/")
    page.keyboard.type(SCRIPT)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Add the label").click()
    page.get_by_role("checkbox", name=SCRIPT).wait_for()
    page.locator("h1").click()
    confirm(page, done=1)
    assert pages.values("topics", text)["topics"] == ["sport", SCRIPT]
    assert page.title() != "taken"


def test_tags_that_do_not_overlap(pages: Correcting, look: Look) -> None:
    text = "Rosemary grows beside Marigold"
    page = opened(look, pages, "tags", [{"text": text}])
    page.focus(".pd-spans-text")
    while page.locator("mark").count():
        page.keyboard.press("]")
        page.keyboard.press("Delete")
    select(page, 0, 8)
    page.keyboard.press("2")
    page.wait_for_selector("mark")
    select(page, 22, 8)
    page.keyboard.press("1")
    page.wait_for_function("document.querySelectorAll('mark').length === 2")
    confirm(page, done=1)
    assert [(one["start"], one["end"], one["label"]) for one in pages.values("tags", text)["tags"]] == [
        (0, 8, "HERB"), (22, 30, "FLOWER"),
    ]  # fmt: skip


def test_an_answer_in_its_passage_and_none(pages: Correcting, look: Look) -> None:
    rows = [{"question": "which color?", "context": f"😀 it is a blue one {i}"} for i in range(2)]
    page = opened(look, pages, "questions", rows)
    order = [rows[int(row_number(page).split()[-1]) - 1]["context"]]
    order += [row["context"] for row in rows if row["context"] not in order]
    first = row_number(page)
    select(page, 10, 4)
    page.keyboard.press("1")
    page.wait_for_selector("mark")
    confirm(page, done=1)
    page.wait_for_function("first => document.querySelector('.pd-row-name').textContent !== first", arg=first)
    page.keyboard.press("0")
    page.wait_for_selector("button[data-key='0'][aria-pressed=true]")
    confirm(page, done=2)
    assert pages.values("questions", order[0])["answers"] == {"text": "blue", "start": 10, "end": 14}
    assert pages.values("questions", order[1])["answers"] == {"text": "", "start": None, "end": None}


def test_boxes(pages: Correcting, look: Look) -> None:
    page = opened(look, pages, "scenes", [scene(3)])
    page.wait_for_selector(".pd-boxes-scroll")
    page.focus(".pd-boxes-scroll")
    while page.locator(".pd-box").count():
        page.keyboard.press("]")
        page.keyboard.press("Delete")
    page.keyboard.press("b")
    page.wait_for_selector(".pd-box.chosen")
    page.keyboard.press("2")
    page.keyboard.press("Control+ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    confirm(page, done=1)
    (target, value, kind, person) = pages.saved("scenes")[-1]
    assert (target, kind, person) == ("objects", "repaired", "local")
    assert value == [{"box": [34.0, 18.0, 50.0, 31.0], "label": "dog"}]


# -- going on, back, and back again -----------------------------------------------------------------------------------


def test_undo_before_saving_and_after_the_next_row(pages: Correcting, look: Look) -> None:
    page = opened(look, pages, "topics", [{"text": f"undo number {i}"} for i in range(3)])
    first = row_number(page)
    before = page.locator("[role=checkbox][aria-checked=true]").count()
    page.keyboard.press("1")
    page.wait_for_function("n => document.querySelectorAll('[aria-checked=true]').length !== n", arg=before)
    page.keyboard.press("u")
    page.wait_for_function("n => document.querySelectorAll('[aria-checked=true]').length === n", arg=before)
    page.keyboard.press("1")
    page.wait_for_function("n => document.querySelectorAll('[aria-checked=true]').length !== n", arg=before)
    confirm(page, done=1)
    page.wait_for_function("first => document.querySelector('.pd-row-name').textContent !== first", arg=first)
    page.keyboard.press("u")
    page.wait_for_function("first => document.querySelector('.pd-row-name').textContent === first", arg=first)
    page.wait_for_function("document.querySelector('.pd-progress').textContent.startsWith('0 ')")
    assert [kind for _, _, kind, _ in pages.saved("topics")][-1] == "withdrawn"
    page.keyboard.press("n")
    page.wait_for_function("first => document.querySelector('.pd-row-name').textContent !== first", arg=first)
    page.keyboard.press("p")
    page.wait_for_function("first => document.querySelector('.pd-row-name').textContent === first", arg=first)


def test_keys_pressed_faster_than_rows_come_are_for_the_rows_that_they_were_meant_for(
    pages: Correcting, look: Look
) -> None:
    rows = films(*(f"quick row {i}" for i in range(8)))
    page = opened(look, pages, "films", rows, "&target=label")
    names = page.locator("[role=radio]").all_inner_texts()
    assert [name.split()[0] for name in names] == ["bad", "good"]
    wanted: list[str] = []
    for i in range(8):
        page.keyboard.press("12"[i % 3 == 0])
        page.keyboard.press("Enter")
        wanted.append(("bad", "good")[i % 3 == 0])
    page.wait_for_function("document.querySelector('.pd-progress').textContent.startsWith('8 ')")
    until = time.monotonic() + 10
    while len(pages.in_order("quick row")) < 8 and time.monotonic() < until:
        page.wait_for_timeout(50)
    assert pages.in_order("quick row") == wanted


def test_what_is_done_in_a_row_that_is_left_is_not_taken_for_the_next(pages: Correcting, look: Look) -> None:
    """A click that comes twice before the next row is there."""
    page = opened(look, pages, "films", films("clicked twice", "not looked at"), "&target=label")
    page.keyboard.press("1")
    page.evaluate("const b = document.querySelector('.pd-tools button'); b.click(); b.click(); b.click()")
    page.wait_for_function("document.querySelector('.pd-tools').textContent.includes('Saved')")
    page.wait_for_selector(".pd-editor")
    assert page.locator(".pd-progress").inner_text().startswith("1 ")
    assert sum(bool(pages.values("films", text)) for text in ("clicked twice", "not looked at")) == 1


def test_a_draft_outlives_a_reload(pages: Correcting, look: Look) -> None:
    page = opened(look, pages, "films", films("kept over a reload"), "&target=stars")
    page.fill(".pd-editor input", "17.5")
    page.wait_for_function("Object.values(sessionStorage).join().includes('17.5')")
    page.evaluate(  # beside much else that was kept
        """() => {
          const place = Object.keys(sessionStorage).find(key => key.startsWith('polydetr.drafts:'));
          const more = { a: 'x'.repeat(600_000), b: 'x'.repeat(600_000), c: 'x'.repeat(1_100_000) };
          sessionStorage.setItem(place, JSON.stringify({ ...more, ...JSON.parse(sessionStorage.getItem(place)) }));
        }"""
    )
    page.reload()
    shown(page)
    page.wait_for_function("document.querySelector('.pd-editor input').value === '17.5'")
    page.press(".pd-editor input", "Enter")
    page.wait_for_function("document.querySelector('.pd-progress').textContent.startsWith('1 ')")
    page.wait_for_function("document.querySelector('.pd-tools').textContent.includes('Saved')")
    assert pages.values("films", "kept over a reload")["stars"] == 17.5


def test_a_draft_whose_message_is_lost_arrives_nonetheless(pages: Correcting, look: Look) -> None:
    page = opened(look, pages, "films", films("kept though a message was lost"), "&target=stars")
    page.fill(".pd-editor input", "18.5")
    page.wait_for_function("Object.values(sessionStorage).join().includes('18.5')")
    lost: list[str | bytes] = []

    def loses(socket: Any) -> None:
        server = socket.connect_to_server()

        def passes(message: str | bytes) -> None:
            if "18.5" in str(message) and not lost:
                lost.append(message)
            else:
                server.send(message)

        socket.on_message(passes)

    page.route_web_socket("**/_nicegui_ws/**", loses)
    page.reload()
    shown(page)
    page.wait_for_function("document.querySelector('.pd-editor input').value === '18.5'")
    assert lost


# -- others, and breaks -----------------------------------------------------------------------------------------------


def test_two_people_on_one_row(signed: Correcting, look: Look) -> None:
    rows = films("two people on one row")
    ada, ben = (as_person(look, signed, name, rows) for name in ("Ada", "Ben"))
    for page in (ada, ben):
        page.goto(f"{page.url.partition('&')[0]}&target=label")
        shown(page)
    ada.keyboard.press("1")
    confirm(ada, done=1)
    ben.keyboard.press("2")
    ben.keyboard.press("Enter")
    conflict = ben.locator(".pd-conflict")
    conflict.wait_for()
    assert "Ada" in conflict.inner_text()
    assert "bad" in conflict.locator(".pd-theirs").inner_text()
    assert "good" in conflict.locator(".pd-mine").inner_text()
    assert conflict.locator("time").count() == 1
    assert signed.values("films", "two people on one row")["label"] == "bad"  # nothing was written over
    picture(ben, "correct-conflict")
    ben.get_by_role("button", name="Save mine over it").click()
    conflict.wait_for(state="detached")
    ben.wait_for_function("document.querySelector('.pd-tools').textContent.includes('Saved')")
    revisions = [(value, who) for t, value, _, who in signed.saved("films") if t == "label"]
    assert revisions == [("bad", "Ada"), ("good", "Ben")]
    assert "saving:" not in ben.evaluate("Object.values(sessionStorage).join()")


def test_two_tabs_of_one_person_on_one_row(pages: Correcting, look: Look) -> None:
    first = opened(look, pages, "films", films("two tabs on one row"), "&target=label")
    second = first.context.new_page()
    second.goto(first.url)
    shown(second)
    first.keyboard.press("1")
    confirm(first, done=1)
    second.keyboard.press("2")
    second.keyboard.press("Enter")
    conflict = second.locator(".pd-conflict")
    conflict.wait_for()
    assert "bad" in conflict.locator(".pd-theirs").inner_text()
    assert pages.values("films", "two tabs on one row")["label"] == "bad"


def test_boxes_by_touch(pages: Correcting, look: Look) -> None:
    """A tap chooses the label, a finger draws; the page does not scroll away under it."""
    page = look(pages.address, pages.path("scenes"), has_touch=True)
    begin(page, [scene(4)])
    stage = page.locator(".pd-boxes-stage")
    while page.locator(".pd-box").count():
        page.focus(".pd-boxes-scroll")
        page.keyboard.press("]")
        page.keyboard.press("Delete")
    page.get_by_role("button", name="dog").tap()  # boxes are drawn as dogs from here on
    stage.scroll_into_view_if_needed()
    place = stage.bounding_box()
    finger = page.context.new_cdp_session(page)

    def touch(kind: str, x: float, y: float) -> None:
        points = (
            []
            if kind == "touchEnd"
            else [{"x": place["x"] + x * place["width"], "y": place["y"] + y * place["height"]}]
        )
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 0.25, 0.25)
    for share in (0.35, 0.5, 0.6, 0.75):
        touch("touchMove", share, share)
    touch("touchEnd", 0, 0)
    page.wait_for_selector(".pd-box.chosen")
    sides = [float(e.input_value()) for e in page.locator(".pd-box-side input").all()]
    assert sides == pytest.approx([16, 12, 48, 36], abs=1.5)
    page.wait_for_function("document.querySelector('.pd-box-label').textContent === 'dog'")
    confirm(page, done=1)
    assert pages.saved("scenes")[-1][1][0]["label"] == "dog"


def test_a_session_that_ends_in_the_middle_loses_nothing(signed: Correcting, look: Look) -> None:
    page = as_person(look, signed, "Ada", films("the session ends"))
    page.goto(f"{page.url.partition('&')[0]}&target=label")
    shown(page)
    signed_out(signed)
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    page.wait_for_selector("#pd-sign-in iframe[title*='Sign in']")
    page.evaluate("document.getElementById('pd-sign-in').close()")  # as Esc does
    page.wait_for_selector("#pd-sign-in", state="detached")
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector("#pd-sign-in iframe")
    assert "label" not in signed.values("films", "the session ends")
    sign_in_frame(page, "Ada")
    page.wait_for_function("document.querySelector('.pd-tools').textContent.includes('Saved')")
    assert signed.values("films", "the session ends")["label"] == "bad"


def test_the_next_person_in_a_tab_finds_nothing_of_the_one_before(signed: Correcting, look: Look) -> None:
    page = as_person(look, signed, "Ada", films("Ada's draft"))
    place = page.url.partition("&")[0]
    page.goto(f"{place}&target=stars")
    shown(page)
    page.fill(".pd-editor input", "17.5")
    page.wait_for_function("Object.values(sessionStorage).join().includes('17.5')")
    page.locator("summary[aria-label*=Ada]").click()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/studio/login?next=/studio/")  # and not to the row that Ada was at
    for name, found in (("Ben", False), ("Ada", True)):
        sign_in(page, name)
        page.wait_for_url("**/films/ask")
        page.goto(f"{place}&target=stars")
        shown(page)
        page.wait_for_timeout(500)  # that nothing comes can only be waited for
        assert (page.input_value(".pd-editor input") == "17.5") == found
        page.request.post(f"{signed.address}/studio/logout")
        page.goto(f"{signed.address}/studio/login")


def signed_out(signed: Correcting) -> None:
    with closing(sqlite3.connect(signed.store())) as connection, connection:
        connection.execute("delete from sessions")


def test_a_page_that_stays_open_shows_no_further_row_once_its_session_has_ended(signed: Correcting, look: Look) -> None:
    page = as_person(look, signed, "Ada", films("the first", "the second"))
    confirm(page, done=1)
    page.wait_for_selector(".pd-editor")
    second = page.inner_text(".pd-row-name")
    signed_out(signed)
    page.keyboard.press("p")
    page.wait_for_selector("#pd-sign-in iframe")
    assert row_number(page) == second
    sign_in_frame(page, "Ada")
    page.wait_for_function("second => document.querySelector('.pd-row-name').textContent !== second", arg=second)
    page.goto(f"{signed.address}{signed.path('films', '?view=list')}")
    page.wait_for_function("window.did_handshake")
    signed_out(signed)
    page.get_by_role("button", name="JSON lines").click()
    page.wait_for_selector("#pd-sign-in iframe")


def sign_in_frame(page: Any, name: str) -> None:
    inside = page.frame_locator("#pd-sign-in iframe")
    inside.locator("input[name=name]").fill(name)
    inside.locator("input[name=password]").fill(PASSWORD)
    inside.locator("input[name=password]").press("Enter")
    page.wait_for_selector("#pd-sign-in", state="detached")


def test_a_page_that_stays_open_answers_no_more_once_its_session_has_ended(signed: Correcting, look: Look) -> None:
    page = as_person(look, signed, "Ada", films("asked without a session"))
    page.goto(f"{signed.address}/studio/films/ask")
    page.wait_for_selector("main form")
    signed_out(signed)
    page.get_by_label("text", exact=True).fill("a lovely evening")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#pd-sign-in iframe")
    assert page.locator(".pd-part").count() == 0
    page.goto(f"{signed.address}/studio/films/ask?text=kept")
    page.wait_for_url(re.compile(r"/studio/login\?next="))
    page.fill("input[name=name]", "Ada")
    page.fill("input[name=password]", PASSWORD)
    page.press("input[name=password]", "Enter")
    page.wait_for_url(re.compile(r"/studio/films/ask\?.*kept"))  # and leads back to what was wanted


def test_the_database_goes_and_comes_back(pages: Correcting, look: Look) -> None:
    page = opened(look, pages, "films", films("the database goes"), "&target=label")
    store, away = pages.store(), pages.store().with_name("away.db")
    store.rename(away)
    try:
        page.keyboard.press("1")
        page.keyboard.press("Enter")
        page.wait_for_selector(".pd-unsaved .pd-state.bad")
        assert "1 correction waits" in page.inner_text(".pd-unsaved")
        page.wait_for_timeout(1500)  # it is tried again after a second, and still not there
    finally:
        away.rename(store)
    page.wait_for_function("document.querySelector('.pd-tools').textContent.includes('Saved')")
    page.wait_for_function("!document.querySelector('.pd-unsaved').textContent.trim()")
    assert pages.values("films", "the database goes")["label"] == "bad"


def test_who_may_only_look_changes_nothing(signed: Correcting, look: Look) -> None:
    page = as_person(look, signed, "Eve", films("only looked at"))
    assert not page.get_by_role("button", name="Right, next").is_visible()
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    page.wait_for_timeout(500)  # that nothing comes can only be waited for
    assert signed.values("films", "only looked at") == {}


def test_validation_rows_that_the_folder_keeps(pages: Correcting, look: Look) -> None:
    page = look(pages.address, pages.path("tags"))
    page.get_by_role("link", name="Validation rows").click()
    shown(page)
    assert "Marigold" in page.inner_text(".pd-spans-text")
    page.goto(f"{pages.address}{pages.path('tags', '?rows=kept&at=nowhere')}")
    page.get_by_text("The row that this address names is not among these").wait_for()


def test_a_file_that_fails_beside_one_that_does_not_is_told_where_the_rows_are(pages: Correcting, look: Look) -> None:
    page = look(pages.address, pages.path("tags"))
    page.wait_for_function("window.did_handshake")
    content = {"good.jsonl": b'{"text": "Marigold"}\n', "bad.jsonl": b"no row\n"}
    files = [{"name": name, "mimeType": "application/x-ndjson", "buffer": one} for name, one in content.items()]
    page.set_input_files("input[type=file]", files)
    page.wait_for_url("**/correct?rows=*")
    page.locator("p.pd-note", has_text="bad.jsonl").wait_for()


def test_a_row_handed_over_by_the_page_ask(pages: Correcting, look: Look) -> None:
    page = look(pages.address, "/studio/tags/ask")
    page.wait_for_function("window.did_handshake")
    page.get_by_role("button", name="Example").first.click()
    page.get_by_role("button", name="This is wrong: correct it").click()
    page.wait_for_url("**/tags/correct?row=*")
    shown(page)
    confirm(page, done=1)


# -- the list ---------------------------------------------------------------------------------------------------------


def test_the_list_its_filters_and_its_file(pages: Correcting, look: Look, tmp_path: Path) -> None:
    text = f"listed {SCRIPT} 😀"
    page = opened(look, pages, "tags", [{"text": text}])
    confirm(page, done=1)
    page.goto(f"{pages.address}{pages.path('tags', '?view=list')}")
    page.get_by_role("link", name=text).wait_for()
    assert page.title() != "taken"
    assert "local" in page.inner_text("table")
    with page.expect_download() as download:
        page.get_by_role("button", name="JSON lines").click()
    path = tmp_path / "corrections.jsonl"
    download.value.save_as(path)
    rows = [record.row for record in read_records(path, expected=ExpectedColumns(("text",), ("tags",)))]
    assert text in [row["text"] for row in rows]
    assert "polydetr train" in page.inner_text("pre")
    page.get_by_role("button", name=f"Undo: {text}").click()
    page.get_by_role("link", name=text).wait_for(state="detached")
    page.goto(f"{pages.address}{pages.path('tags', '?view=list&kind=withdrawn')}")
    page.get_by_role("link", name=text).wait_for()
    assert page.get_by_role("button", name="JSON lines").count() == 0


def test_a_picture_bomb_and_a_file_that_is_none(pages: Correcting, look: Look) -> None:
    page = look(pages.address, pages.path("scenes"))
    page.wait_for_function("window.did_handshake")
    head = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\rIHDR" + (60_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    bomb = head + zlib.crc32(head[12:]).to_bytes(4, "big") + b"\x00\x00\x00\x00IEND\xaeB`\x82"
    page.set_input_files("input[type=file]", [{"name": "bomb.png", "mimeType": "image/png", "buffer": bomb}])
    page.wait_for_url("**/correct?rows=*")
    page.wait_for_selector(".pd-state.bad")
    assert page.locator(".pd-editor").count() == 0


# -- a new user, and looks --------------------------------------------------------------------------------------------


def test_from_serve_to_a_corrected_row(several_folder: Path, chromium: Any, tmp_path: Path) -> None:
    began, clicks = time.monotonic(), 0
    with serving({"films": several_folder}, folder=tmp_path) as address:
        page = chromium.new_page()
        page.goto(address + "/studio/")

        def click(found: Any) -> None:
            nonlocal clicks
            found.click()
            clicks += 1

        click(page.get_by_role("link", name="Correct", exact=True))
        click(page.get_by_role("button", name="Begin with the example row"))
        page.wait_for_selector(".pd-editor")
        wrong = page.locator("[role=radio][aria-checked=false]").first
        click(wrong)
        click(page.get_by_role("button", name="Save, next"))
        page.wait_for_function("document.querySelector('.pd-tools').textContent.includes('Saved')")
        took = time.monotonic() - began
        page.close()
        with closing(sqlite3.connect(tmp_path / "polydetr-studio.db")) as connection:
            saved = [json.loads(value) for (value,) in connection.execute("select value from corrections")]
    assert saved
    assert clicks <= 6
    assert took <= 60, took


@pytest.mark.parametrize("view", ["390-dark-zh", "1280-light-en", "1920-light-zh"])
def test_it_is_looked_at_and_heard(pages: Correcting, look: Look, view: str) -> None:
    page = look(pages.address, pages.path("films"), view=view)
    settled(page)
    picture(page, f"correct-start-{view}")
    if view.startswith("1280"):
        assert_accessible(page)
    begin(page, films("scene 4 of a lovely evening", "scene 5 of a dreary evening"))
    picture(page, f"correct-row-{view}")
    if view.startswith("1280"):
        assert_accessible(page)
    page.goto(f"{pages.address}{pages.path('films', '?view=list')}")
    page.wait_for_selector("h1")
    picture(page, f"correct-list-{view}")
    if view.startswith("1280"):
        assert_accessible(page)
