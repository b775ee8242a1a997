"""Jobs that keep their rows with their replies: read while they run, cancelled without loss, made room for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from local_fleet import LocalFleet

from polydetr.inference.service import ServiceModel
from polydetr.serving.answered_rows import AnsweredRows
from polydetr.serving.contract import Ask, Unavailable
from polydetr.serving.jobs import Job, JobStore
from polydetr.serving.limits import JOB_LIMITS, LIMITS, JobLimits

ROWS = 400


def body(rows: int = ROWS) -> bytes:
    return b"text\n" + b"".join(b"scene %d of a warm evening\n" % n for n in range(rows))


async def bytes_of(data: bytes) -> AsyncIterator[bytes]:
    yield data


def with_store(
    fleet: LocalFleet,
    folder: Path,
    work: Callable[[JobStore], Coroutine[Any, Any, None]],
    limits: JobLimits = JOB_LIMITS,
) -> None:
    async def run() -> None:
        async with JobStore(fleet, folder, limits=LIMITS, job_limits=limits) as store:
            await work(store)

    asyncio.run(asyncio.wait_for(run(), 60))


def kept(store: JobStore, *, owner: str = "person:ann") -> Job:
    job = store.new(owner, "film", "csv", "", Ask(cells=True))
    job.answered = AnsweredRows(job.result)
    return job


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.005)


@pytest.fixture
def fleet(film: ServiceModel) -> LocalFleet:
    return LocalFleet({"film": film})


def test_rows_are_read_while_more_are_answered_and_the_share_grows(fleet: LocalFleet, tmp_path: Path) -> None:
    fleet.delay_s = 0.05

    async def work(store: JobStore) -> None:
        job = kept(store)
        await store.begin(job, bytes_of(body()))
        assert job.answered is not None
        await until(lambda: job.rows_done > 0)
        assert job.state == "running"
        assert len(job.answered) == job.rows_done < ROWS
        assert 0 < (job.share_done or 0) < 1
        assert job.answered.read(1, 1)[0].reply["cells"]["predicted_label"] in ("good", "bad")
        await until(lambda: job.state == "done")
        assert [row.reply["row"] for row in job.answered.all()] == list(range(1, ROWS + 1))

    with_store(fleet, tmp_path / "jobs", work)


def test_a_cancelled_job_keeps_what_it_has_answered(fleet: LocalFleet, tmp_path: Path) -> None:
    fleet.delay_s = 0.05

    async def work(store: JobStore) -> None:
        job = kept(store)
        await store.begin(job, bytes_of(body()))
        await until(lambda: job.rows_done > 0)
        await store.cancel(job)
        assert job.answered is not None
        done = job.rows_done
        assert job.state == "cancelled"
        assert 0 < len(list(job.answered.all())) == done < ROWS
        asked = len(fleet.asked)
        await asyncio.sleep(0.2)
        assert len(fleet.asked) == asked, "nothing goes on"
        assert not job.rows.exists()

    with_store(fleet, tmp_path / "jobs", work)


def test_a_model_that_goes_in_the_middle_leaves_what_was_answered(fleet: LocalFleet, tmp_path: Path) -> None:
    async def work(store: JobStore) -> None:
        job = kept(store)
        job.patience_s = 0.0
        fleet.delay_s = 0.05
        await store.begin(job, bytes_of(body()))
        await until(lambda: job.rows_done > 0)
        fleet.failing = [Unavailable("the model is gone.")] * 3
        await until(lambda: job.state == "failed")
        assert job.error == {"message": "the model is gone."}
        assert job.answered is not None
        assert 0 < len(job.answered) == job.rows_done < ROWS

    with_store(fleet, tmp_path / "jobs", work)


def test_what_follows_a_job_ends_with_it(fleet: LocalFleet, tmp_path: Path) -> None:
    ended: list[str] = []

    async def forever(job: Job) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(job.state)

    async def work(store: JobStore) -> None:
        job = kept(store)
        job.then = forever
        await store.begin(job, bytes_of(body(3)))
        await until(lambda: job.state == "done")
        await asyncio.sleep(0)
        await store.forget(job)
        assert ended == ["done"]
        assert not job.folder.exists()

    with_store(fleet, tmp_path / "jobs", work)


def test_room_is_made_by_the_oldest_own_job_that_has_ended(fleet: LocalFleet, tmp_path: Path) -> None:
    async def work(store: JobStore) -> None:
        others = [kept(store, owner="person:bob"), *(kept(store) for _ in range(2))]
        for job in others:
            await store.begin(job, bytes_of(body(3)))
        await until(lambda: all(job.task is not None and job.task.done() for job in others))
        await store.make_room("person:ann", 10)
        assert store.of("person:ann") == others[2:]
        assert store.of("person:bob") == others[:1]

    with_store(fleet, tmp_path / "jobs", work, replace(JOB_LIMITS, count=3))


def test_slow_rows_are_asked_fewer_at_a_time(fleet: LocalFleet, tmp_path: Path) -> None:
    fleet.delay_s = 0.05
    limits = replace(LIMITS, timeout_s=0.01)

    async def run() -> None:
        async with JobStore(fleet, tmp_path / "jobs", limits=limits, job_limits=JOB_LIMITS) as store:
            job = kept(store)
            await store.begin(job, bytes_of(body(60)))
            await until(lambda: job.state == "done")

    asyncio.run(asyncio.wait_for(run(), 60))
    assert [len(rows) for rows in fleet.asked] == [32, 16, 8, 4]


def test_a_look_at_the_file_that_fails_leaves_nothing(fleet: LocalFleet, tmp_path: Path) -> None:
    def look(job: Job) -> None:
        raise OSError(28, "No space left on device")

    async def work(store: JobStore) -> None:
        job = kept(store)
        with pytest.raises(Exception, match="No space left"):
            await store.begin(job, bytes_of(body(3)), look=look)
        assert store.of(job.owner) == []
        assert not job.folder.exists()

    with_store(fleet, tmp_path / "jobs", work)
