"""What a page does by itself ends with the page: also after a day, also where a browser leaves at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("nicegui")

from polydetr.web import live


class Page:
    """A page as ``live`` sees a client of NiceGUI."""

    def __init__(self, *, comes: bool = True) -> None:
        self.comes, self.is_deleted, self.leaving, self.said = comes, False, [], []  # type: ignore[var-annotated]

    async def connected(self, timeout: float) -> None:
        await asyncio.sleep(0)
        if not self.comes:
            raise TimeoutError

    def on_delete(self, handler: Callable[[], Any]) -> None:
        self.leaving.append(handler)

    def handle_exception(self, error: Exception) -> None:
        self.said.append(str(error))

    def leave(self) -> None:
        self.is_deleted = True
        for handler in self.leaving:
            handler()


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_day_of_looking_leaves_one_task_and_its_end_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    sleep = asyncio.sleep

    async def at_once(seconds: float) -> None:
        await sleep(0)

    async def scene() -> None:
        nonlocal looks
        page, done = Page(), asyncio.Event()

        async def look() -> bool:
            nonlocal looks
            looks += 1
            assert len(live._RUNNING) == 1
            if looks == 24 * 3600:
                done.set()
                await sleep(60)
            return True

        before = len(asyncio.all_tasks())
        live.follow(look, seconds=1.0, client=page)  # type: ignore[arg-type]
        await done.wait()
        assert len(asyncio.all_tasks()) == before + 1
        page.leave()
        await settled()
        assert len(live._RUNNING) == 0
        assert len(asyncio.all_tasks()) == before

    monkeypatch.setattr(live.asyncio, "sleep", at_once)
    asyncio.run(scene())
    assert looks == 24 * 3600


def test_ten_thousand_pages_that_are_left_at_once_leave_nothing() -> None:
    looked = []

    async def look() -> bool:
        looked.append(1)
        return True

    async def scene() -> None:
        for i in range(10_000):
            page = Page(comes=bool(i % 2))
            live.follow(look, seconds=1.0, client=page)  # type: ignore[arg-type]
            page.leave()
        await settled()
        assert len(live._RUNNING) == 0
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(scene())
    assert not looked


def test_what_fails_is_said_on_the_page_and_ends() -> None:
    async def look() -> bool:
        raise ValueError("the disk is gone")

    async def scene() -> None:
        page = Page()
        live.follow(look, seconds=1.0, client=page)  # type: ignore[arg-type]
        await settled()
        assert page.said == ["the disk is gone"]
        assert len(live._RUNNING) == 0

    asyncio.run(scene())


def test_what_is_ended_early_stops() -> None:
    async def scene() -> None:
        page, began = Page(), asyncio.Event()

        async def work() -> None:
            began.set()
            await asyncio.sleep(60)

        stop = live.begin(work, client=page)  # type: ignore[arg-type]
        await began.wait()
        stop()
        await settled()
        assert len(live._RUNNING) == 0
        assert not page.said

    asyncio.run(scene())
