"""What becomes of a fleet where models cannot be loaded, or not again: with model processes that hold no models."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest

from polydetr.errors import ModelFolderError
from polydetr.serving import dispatch
from polydetr.serving.contract import Ask, Unavailable
from polydetr.serving.fleet import ModelFleet

STUB = Path(__file__).with_name("stub_process.py")
END = {"text": "end"}
"""A row that ends its process."""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a script stands for the interpreter")


class Stubs:
    """A fleet over the folders a and b, and what it told."""

    def __init__(self, root: Path) -> None:
        self.root, self.told = root, list[tuple[str, Mapping[str, Any]]]()
        self.fleet: ModelFleet

    async def start(self, *, workers: int = 1) -> None:
        self.fleet = await ModelFleet.start(
            {"film": self.root / "a"}, root=self.root, workers=workers, notify=lambda *told: self.told.append(told)
        )

    def does(self, name: str, what: str) -> None:
        (self.root / name / "does").write_text(what)

    def count(self, event: str) -> int:
        return Counter(name for name, _ in self.told)[event]

    async def until(self, event: str, times: int) -> None:
        async with asyncio.timeout(20):
            while self.count(event) < times:
                await asyncio.sleep(0.01)

    async def asked(self, *rows: Any) -> list[dict[str, Any]]:
        return await self.fleet.answer("film", rows or [{"text": "a"}], Ask(), timeout_s=20)

    async def label(self) -> str:
        return (await self.asked())[0]["prediction"]["label"]

    async def end_a_process(self) -> None:
        """By a row; it is sent to a second process, which ends as well."""
        with pytest.raises(Unavailable):
            await self.asked(END)


@pytest.fixture
def stubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stubs:
    for name in ("a", "b"):
        (tmp_path / "models" / name).mkdir(parents=True)
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STUB}" "$@"\n')
    script.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(script))
    return Stubs(tmp_path / "models")


def run(stubs: Stubs, work: Coroutine[Any, Any, None], *, workers: int = 1) -> None:
    async def whole() -> None:
        await stubs.start(workers=workers)
        try:
            await work
        finally:
            await stubs.fleet.stop(grace_s=0)

    asyncio.run(asyncio.wait_for(whole(), 60))


@pytest.mark.parametrize(
    ("does", "said", "ended"),
    [
        ("ends", "ended while the new version of 'film' was loaded, 2 times. Is there memory for both", 2),
        ("fails", r"cannot be loaded \(OSError\)", 0),
        ("lacks", "there is no model b", 0),
    ],
)
def test_a_new_version_that_cannot_be_loaded_is_refused(stubs: Stubs, does: str, said: str, ended: int) -> None:
    async def work() -> None:
        stubs.does("b", does)
        with pytest.raises(ModelFolderError, match=said):
            await stubs.fleet.replace("film", "b")
        if ended:
            await stubs.until("process_ready", ended)
        assert await stubs.label() == "a"
        assert stubs.count("process_ended") == ended
        stubs.does("b", "")
        await stubs.fleet.replace("film", "b")
        assert await stubs.label() == "b"
        assert [lane.process.loaded for lane in stubs.fleet._dispatcher.lanes] == [{1, 3}]  # 2 was freed

    run(stubs, work())


def test_who_ends_the_process_twice_is_told_so_and_nobody_else(stubs: Stubs) -> None:
    """The one request that is in the process each time it ends."""

    async def work() -> None:
        (lane,) = stubs.fleet._dispatcher.lanes
        os.kill(lane.process.pid, signal.SIGSTOP)  # so that both are in it, and not answered
        deadly = asyncio.create_task(stubs.asked(END))
        harmless = asyncio.create_task(stubs.asked({"text": "a"}, {"text": "b"}))
        async with asyncio.timeout(20):
            while len(lane.out) < 2:
                await asyncio.sleep(0.01)
        os.kill(lane.process.pid, signal.SIGCONT)
        with pytest.raises(Unavailable, match="twice"):
            await deadly
        assert len(await harmless) == 2
        assert [told["parcels"] for name, told in stubs.told if name == "process_ended"] == [2, 1]

    run(stubs, work())


@pytest.mark.parametrize("does", ["fails", "lacks"])
def test_a_process_begins_again_also_without_a_model_that_cannot_be_loaded(stubs: Stubs, does: str) -> None:
    async def work() -> None:
        stubs.does("a", does)
        began = time.monotonic()
        with pytest.raises(Unavailable, match="the service's log says why"):
            await stubs.asked(END)  # waits no longer than until it is known
        assert time.monotonic() - began < 10
        await stubs.until("process_ready", 1)
        assert stubs.fleet._dispatcher.ready == 1
        state = stubs.fleet.models()["film"].state
        assert state.startswith("'film' cannot be loaded again")
        assert str(stubs.root) not in state
        with pytest.raises(Unavailable, match="cannot be loaded again"):
            await stubs.asked()
        await stubs.fleet.replace("film", "b")
        assert await stubs.label() == "b"

    run(stubs, work())


def test_a_model_whose_folder_comes_back_answers_again(stubs: Stubs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_AGAIN_S", 0.05)

    async def work() -> None:
        stubs.does("a", "lacks")
        await stubs.end_a_process()
        await stubs.until("process_ready", 1)
        with pytest.raises(Unavailable, match="cannot be loaded again"):
            await stubs.asked()
        stubs.does("a", "")
        async with asyncio.timeout(20):
            while stubs.fleet.models()["film"].state != "ready":
                await asyncio.sleep(0.01)
        assert await stubs.label() == "a"

    run(stubs, work())


def test_what_nobody_foresaw_leaves_no_place_without_a_process(stubs: Stubs) -> None:
    async def work() -> None:
        stubs.does("a", "odd")
        ended = asyncio.create_task(stubs.asked(END))
        await stubs.until("process_failed", 1)
        stubs.does("a", "")
        with pytest.raises(Unavailable, match="twice"):
            await ended
        assert await stubs.label() == "a"

    run(stubs, work())


def test_rows_go_where_their_model_is(stubs: Stubs) -> None:
    """One of two processes cannot load it again: the other goes on answering."""

    async def work() -> None:
        lanes = stubs.fleet._dispatcher.lanes
        stubs.does("a", "lacks")
        lanes[0].process.kill()
        await stubs.until("process_ready", 1)
        assert [sorted(lane.process.loaded) for lane in lanes] == [[], [1]]
        assert stubs.fleet.models()["film"].state == "ready"
        assert [await stubs.label() for _ in range(4)] == ["a"] * 4
        waits = asyncio.create_task(stubs.asked(END))
        with pytest.raises(Unavailable, match="cannot be loaded again"):
            await waits
        stubs.does("a", "")
        for lane in lanes:
            lane.process.kill()
        await stubs.until("process_ended", 4)
        await stubs.until("process_ready", 4)
        assert await stubs.label() == "a"

    run(stubs, work(), workers=2)


def test_a_shadow_is_asked_again_after_a_process_ended(stubs: Stubs) -> None:
    async def work() -> None:
        await stubs.fleet.replace("film", "b", shadow=True)
        assert (await stubs.asked())[0]["shadowed"]
        await stubs.end_a_process()
        async with asyncio.timeout(20):
            while not (await stubs.asked())[0]["shadowed"]:
                await asyncio.sleep(0.01)

    run(stubs, work())


def test_a_shadow_that_ends_its_process_is_not_loaded_for_ever(stubs: Stubs) -> None:
    async def work() -> None:
        await stubs.fleet.replace("film", "b", shadow=True)
        stubs.does("b", "ends")
        stubs.fleet._dispatcher.lanes[0].process.kill()
        await stubs.until("process_ready", 3)  # after two ends by the shadow
        await asyncio.sleep(0.3)
        assert await stubs.label() == "a"
        assert stubs.count("process_ended") == 3
        assert stubs.count("model_failed") == 1

    run(stubs, work())


def test_a_request_that_is_being_packed_keeps_the_model_that_is_taken_back(stubs: Stubs) -> None:
    async def work() -> None:
        await stubs.fleet.replace("film", "b")
        asked = asyncio.create_task(stubs.asked(*[{"text": "a"}] * 600))
        await asyncio.sleep(0)  # it has begun, and packs
        await stubs.fleet.roll_back("film")
        assert {reply["prediction"]["label"] for reply in await asked} == {"b"}
        assert await stubs.label() == "a"
        assert stubs.fleet._dispatcher.lanes[0].process.loaded == {1}

    run(stubs, work())
