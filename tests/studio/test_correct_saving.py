"""Saving that is not waited for, against a real store: nothing is lost, doubled, or written over unseen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from correction_cases import BOXES, CLASSES, image_bytes

from polydetr.errors import SaveError, StoreUnavailable
from polydetr.serving.rows import Columns
from polydetr.studio.correct_lookups import corrected_targets, people_of
from polydetr.studio.correct_saving import Saver, Saving
from polydetr.studio.correction_rows import packed
from polydetr.studio.corrections import Corrections
from polydetr.web.people.audit import Audit
from polydetr.web.store.database import Database
from polydetr.web.viewer import Anybody, NotAllowed

ROW = {"text": "a lovely evening"}
KEY = packed(ROW).key


@pytest.fixture
def store(tmp_path: Path) -> Any:
    database = Database.open(tmp_path / "store.db")
    yield Failing(database)
    database.close()


class Failing(Corrections):
    """The store, which fails where it is told to."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.database, self.fails, self.tries = database, [], 0

    def save(self, **given: Any) -> Any:
        self.tries += 1
        if self.fails:
            raise self.fails.pop(0)
        return super().save(**given)


class Desk:
    """One person's page over the store."""

    def __init__(self, store: Corrections, name: str = "Ada") -> None:
        self.told: list[tuple[str, str]] = []
        self.refuse: list[Exception] = []
        self.name = name
        self.saver = Saver(store, lambda: CLASSES, self.person, lambda one: self.told.append((one.id, one.state)))

    async def person(self) -> Anybody:
        if self.refuse:
            raise self.refuse.pop(0)
        return Anybody(self.name, "editor")

    async def until(self, done: Callable[[], bool], *, within_s: float = 8.0) -> None:
        async with asyncio.timeout(within_s):
            while not done():
                await asyncio.sleep(0.01)

    async def empty(self) -> None:
        await self.until(lambda: not self.saver.open)


def run(work: Awaitable[None]) -> None:
    @asynccontextmanager
    async def ending() -> AsyncIterator[None]:
        yield
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def whole() -> None:
        async with ending():
            await work

    asyncio.run(whole())


def saving(value: str = "good", *, person: str = "Ada", **more: Any) -> Saving:
    return Saving(ROW, KEY, "label", value, person=person, **more)


def test_what_is_saved_is_told_and_has_a_name_and_an_audit(store: Failing) -> None:
    async def work() -> None:
        desk = Desk(store)
        one = saving(answer={"prediction": "bad", "probability": 0.6})
        desk.saver.add(one)
        await desk.empty()
        assert desk.told == [(one.id, "saved")]
        assert one.saved is not None
        assert (one.saved.person, one.saved.kind, one.saved.revision) == ("Ada", "repaired", 1)

    run(work())
    (entry,) = Audit(store.database).entries()
    assert (entry.who, entry.action, entry.about, entry.detail["revision"]) == ("Ada", "correct", "model", 1)
    assert people_of(store.database, "model") == ["Ada"]
    assert corrected_targets(store.database, "model") == {KEY: {"label"}}


def test_where_nobody_signs_in_it_was_somebody_here(store: Failing) -> None:
    async def work() -> None:
        desk = Desk(store, name="")
        desk.saver.add(one := saving(person=""))
        await desk.empty()
        assert one.saved is not None
        assert one.saved.person == "local"

    run(work())


@pytest.mark.parametrize("error", [StoreUnavailable("the store is gone."), SaveError("no room left.")])
def test_what_cannot_be_saved_now_is_tried_again_with_the_same_id(store: Failing, error: Exception) -> None:
    async def work() -> None:
        desk = Desk(store)
        store.fails = [error, error]
        one = saving()
        desk.saver.add(one)
        await desk.until(lambda: one.error is not None)
        assert one.state == "waiting"
        desk.saver.retry()  # the button
        await desk.until(lambda: store.tries >= 2)
        await desk.empty()
        assert [state for _, state in desk.told] == ["waiting", "waiting", "saved"]
        assert {id for id, _ in desk.told} == {one.id}

    run(work())
    assert len(store.history("model", KEY, "label")) == 1


def test_a_session_that_ends_keeps_what_was_given_until_somebody_signs_in(store: Failing) -> None:
    async def work() -> None:
        desk = Desk(store)
        desk.refuse = [NotAllowed("You are not signed in any more.", ended=True)]
        desk.saver.add(one := saving())
        await desk.until(lambda: one.error is not None)
        assert isinstance(one.error, NotAllowed)
        desk.saver.retry()  # the page has connected again
        await desk.empty()
        assert one.state == "saved"

    run(work())


def test_what_one_person_made_is_not_saved_under_the_name_of_the_next(store: Failing) -> None:
    async def work() -> None:
        desk = Desk(store, "Ben")
        desk.saver.add(one := saving())
        await desk.until(lambda: one.error is not None)
        assert one.state == "waiting"
        assert str(one.error).startswith("Ada made it, and Ben is signed in.")
        assert store.tries == 0
        desk.name = "Ada"
        desk.saver.retry()
        await desk.empty()
        assert one.saved is not None
        assert one.saved.person == "Ada"

    run(work())


def test_who_may_not_is_refused_and_nothing_is_written(store: Failing) -> None:
    async def work() -> None:
        desk = Desk(store)
        desk.refuse = [NotAllowed("That takes the role editor.")]
        desk.saver.add(one := saving())
        await desk.until(lambda: one.state == "refused")

    run(work())
    assert store.count("model") == 0


def test_two_people_on_one_row(store: Failing) -> None:
    async def work() -> None:
        ada, ben = Desk(store), Desk(store, "Ben")
        ada.saver.add(saving("good"))
        await ada.empty()
        ben.saver.add(mine := saving("bad", person="Ben"))
        await ben.until(lambda: mine.state == "conflict")
        assert mine.theirs is not None
        assert (mine.theirs.person, mine.theirs.value) == ("Ada", "good")
        assert store.of_row("model", KEY)["label"].value == "good"
        await ben.saver.over(mine)
        await ben.empty()

    run(work())
    assert [(one.person, one.value) for one in store.history("model", KEY, "label")] == [
        ("Ada", "good"),
        ("Ben", "bad"),
    ]


def test_the_same_row_twice_before_the_first_is_saved_is_no_conflict(store: Failing) -> None:
    async def work() -> None:
        desk = Desk(store)
        store.fails = [StoreUnavailable("the store is gone.")]
        desk.saver.add(first := saving("bad"))
        await desk.until(lambda: first.error is not None)
        desk.saver.add(saving("good"))
        await desk.empty()

    run(work())
    assert [one.value for one in store.history("model", KEY, "label")] == ["bad", "good"]


def test_undoing_before_it_is_saved_takes_it_out_and_afterwards_takes_it_back(store: Failing) -> None:
    async def work() -> None:
        desk = Desk(store)
        store.fails = [StoreUnavailable("the store is gone.")]
        desk.saver.add(first := saving("bad"))
        await desk.until(lambda: first.error is not None)
        assert await desk.saver.settled(first.id) is first
        desk.saver.add(second := saving("good"))
        await desk.empty()
        assert await desk.saver.settled(second.id) is None
        assert second.saved is not None
        withdrawn = await desk.saver.undo(second.saved)
        assert (withdrawn.kind, withdrawn.revision) == ("withdrawn", 2)

    run(work())
    assert corrected_targets(store.database, "model") == {}


def test_what_was_erased_meanwhile_is_refused_and_can_be_saved_anew(store: Failing) -> None:
    async def work() -> None:
        desk = Desk(store)
        desk.saver.add(one := saving("good", expected=3))
        await desk.until(lambda: one.state == "refused")
        await desk.saver.anew(one)
        await desk.empty()

    run(work())
    assert store.of_row("model", KEY)["label"].value == "good"


def test_a_page_that_is_closed_still_saves_what_was_given(store: Failing) -> None:
    async def work() -> None:
        desk = Desk(store)
        desk.saver.add(saving("good"))
        desk.saver.leave()
        await desk.empty()
        assert desk.told == []

    run(work())
    assert store.count("model") == 1


def test_a_browser_keeps_what_is_not_saved_and_gives_it_back_whole() -> None:
    one = saving("good", expected=2, answer={"prediction": "bad", "probability": 0.5})
    kept = json.loads(json.dumps(one.to_json()))
    assert Saving.from_json(one.id, kept, Columns.of(CLASSES), lambda _: None) == one
    for broken in (
        None,
        [],
        {},
        {**kept, "key": 1},
        {**kept, "person": None},
        {**kept, "expected": "2"},
        {**kept, "row": None},
    ):
        assert Saving.from_json(one.id, broken, Columns.of(CLASSES), lambda _: None) is None


def test_rows_are_kept_where_they_are_small_and_else_found_again() -> None:
    long = {"image": b"", "text": "é" * 10**5}
    for row, stays in (({"image": image_bytes()}, True), ({"image": bytes(600 << 10)}, False), (long, False)):
        one = Saving(row, packed(row).key, "objects", [])
        kept = json.loads(text := json.dumps(one.to_json(), ensure_ascii=False))
        assert len(text) < 1_000_000  # of a longer message nothing comes back
        assert (kept["row"] is not None) == stays
        found = Saving.from_json(one.id, kept, Columns.of(BOXES), lambda key, row=row: row)
        assert found is not None
        assert found.row["image"] == row["image"]
