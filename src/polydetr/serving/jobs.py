"""Long files: taken whole, answered beside everything else, their answers fetched when they are done.

What a job needs lies in a folder of the service's own, which nobody else may read: the rows that were sent, and the
answers, which get their name when they are whole. The service forgets all jobs when it starts: a result is there or is
not, and is never a part of one.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal, Protocol, Self

from polydetr.core.reading import Leaps, ReadOptions
from polydetr.errors import PolydetrError, quoted
from polydetr.serving.answer_table import DELIMITERS, AnswersAsTable
from polydetr.serving.answered_rows import AnsweredRows
from polydetr.serving.asking import model_named, replies_patiently
from polydetr.serving.contract import Ask, Busy, Fleet, Reply
from polydetr.serving.limits import JobLimits, Limits
from polydetr.serving.log import log
from polydetr.serving.refusal import Refused, error_dict, json_bytes, not_kept, refusal
from polydetr.serving.rows import Columns, Item
from polydetr.serving.table_body import items_of_file

_ROWS, _FIRST_ROWS = 256, 32
"""Of a job, asked at once; fewer at first, so that the first answers are there soon, and where rows take long."""
_PATIENCE_S = 3600.0
"""How long a job waits for its turn among requests."""
_LOOK_S = 60.0
_OF_A_JOB = re.compile("[0-9a-f]{32}")
"""Names of the folders in which jobs lie; nothing else is ever removed."""


@dataclass
class Job:
    """One file. owner: the name of the key that sent it; kind: of the rows; answers: content type of the result.

    name: as who sent it calls the file. reading: what the file does not say about itself; labels: whether what is right
    is read as well. answered: the rows with their replies, which are read while more come; they are then the result,
    and what there is of them stays when the job fails or is cancelled. then: what is done with a job that is done, in
    its turn. patience_s: how long it waits for a model that does not answer. began: when it was its turn, of
    ``time.monotonic``. facts: what else is known of it.
    """

    id: str
    owner: str
    model: str
    kind: str
    answers: str
    ask: Ask
    folder: Path
    state: Literal["waiting", "running", "done", "failed", "cancelled"] = "waiting"
    size: int = 0
    rows_done: int = 0
    rows_rejected: int = 0
    share_done: float | None = None
    error: dict[str, Any] | None = None
    changed: float = field(default_factory=time.monotonic)
    task: asyncio.Task[None] | None = None
    name: str = ""
    reading: ReadOptions = ReadOptions()
    labels: bool = False
    answered: AnsweredRows | None = None
    then: Callable[[Job], Awaitable[None]] | None = None
    patience_s: float = _PATIENCE_S
    began: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> Path:
        """The file that was sent; it lies alone in its folder."""
        return self.folder / "rows" / f"rows.{self.kind}"

    @property
    def result(self) -> Path:
        """The answers, when they are whole."""
        return self.folder / "answers"

    @property
    def part(self) -> Path:
        """The answers, while they are not."""
        return self.folder / "answers.part"

    def to_dict(self) -> dict[str, Any]:
        told = {"id": self.id, "model": self.model, "state": self.state, "rows_done": self.rows_done,
                "rows_rejected": self.rows_rejected, "share_done": self.share_done}  # fmt: skip
        return told | ({"error": self.error} if self.error else {})


class JobStore:
    """The jobs of a service. A context manager: nothing is there before and after."""

    def __init__(self, fleet: Fleet, folder: Path | None, *, limits: Limits, job_limits: JobLimits) -> None:
        self._fleet, self._wanted, self._limits, self._jobs_at_most = fleet, folder, limits, job_limits
        self._folder = Path()
        self._jobs: dict[str, Job] = {}
        self._turns = asyncio.Semaphore(job_limits.running)
        self._looking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._folder = _empty_folder(self._wanted)
        self._looking = asyncio.create_task(self._look_after())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._looking is not None:
            self._looking.cancel()
        for job in list(self._jobs.values()):
            await self.forget(job)
        shutil.rmtree(self._folder, ignore_errors=True)

    def find(self, id: str, owner: str) -> Job:
        """Raises Refused: there is no such job, or it is somebody else's."""
        job = self._jobs.get(id)
        if job is None or job.owner != owner:
            raise Refused(
                404, f"there is no job {quoted(id, 60)}.", hint="Jobs are forgotten after a time.", reason="unknown"
            )
        return job

    async def begin(self, job: Job, body: AsyncIterator[bytes], *, look: Callable[[Job], None] | None = None) -> None:
        """Takes the rows, and starts to answer them when it is their turn. look: has a look at the file before that, in
        a thread.

        Raises:
            Busy: as many jobs as may be are there. Refused: the file is too large, empty, or cannot be kept.
        """
        if len(self._jobs) >= self._jobs_at_most.count:
            raise Busy(
                f"there are {len(self._jobs)} jobs, which is as many as are kept. Delete one of yours "
                "(DELETE /v1/jobs/ID), or wait.",
                retry_after=60,
            )
        self._jobs[job.id] = job
        try:
            job.rows.parent.mkdir(parents=True, mode=0o700)
            with job.rows.open("xb") as file:
                async for data in body:
                    job.size += len(data)
                    self._check_room(job)
                    await asyncio.to_thread(file.write, data)
            if not job.size:
                raise Refused(400, "the body is empty.", hint="Send a file of rows: curl --data-binary @FILE.")
            if look is not None:
                await asyncio.to_thread(look, job)
        except BaseException as error:
            await self.forget(job)
            if isinstance(error, OSError):
                raise not_kept(error) from None
            raise
        job.task = asyncio.create_task(self._run(job))

    async def cancel(self, job: Job) -> None:
        """Ends it; what it has answered stays, where it keeps its rows with their replies."""
        if job.task is not None and not job.task.done():
            job.task.cancel()
            with suppress(asyncio.CancelledError):
                await job.task
        if job.state in ("waiting", "running"):
            job.state, job.changed = "cancelled", time.monotonic()

    async def forget(self, job: Job) -> None:
        """Ends it, and removes all there is of it."""
        await self.cancel(job)
        self._jobs.pop(job.id, None)
        await asyncio.to_thread(shutil.rmtree, job.folder, ignore_errors=True)

    def of(self, owner: str) -> list[Job]:
        """The jobs of one owner, the oldest first."""
        return [job for job in self._jobs.values() if job.owner == owner]

    async def make_room(self, owner: str, size: int) -> None:
        """Forgets jobs that have ended, as far as one more of ``size`` bytes needs it: the owner's oldest first, then
        the oldest of whoever has most, and more than the owner.
        """
        most = self._jobs_at_most
        size = size if size <= most.disk_bytes else 0  # for which no room can be made
        while len(self._jobs) >= most.count or sum(one.size for one in self._jobs.values()) + size > most.disk_bytes:
            counts = Counter(job.owner for job in self._jobs.values())
            ended = [job for job in self._jobs.values() if job.task is not None and job.task.done()]
            able = [job for job in ended if job.owner == owner]
            able = able or [job for job in ended if counts[job.owner] > counts[owner]]
            if not able:
                return
            await self.forget(max(able, key=lambda job: counts[job.owner]))  # the first of them is the oldest

    def new(self, owner: str, model: str, kind: str, answers: str, ask: Ask) -> Job:
        """A job that has not begun."""
        id = secrets.token_urlsafe(16)
        return Job(id, owner, model, kind, answers, ask, self._folder / secrets.token_hex(16))

    # -- inside -------------------------------------------------------------------------------------------------------

    def _check_room(self, job: Job) -> None:
        """Raises Refused."""
        held = sum(one.size for one in self._jobs.values())
        if held > self._jobs_at_most.disk_bytes:
            raise Refused(
                413, f"the jobs together have more than {self._jobs_at_most.disk_bytes:,} bytes.", reason="disk",
                hint="Delete one of yours: DELETE /v1/jobs/ID; or send less.",
            )  # fmt: skip
        job.changed = time.monotonic()

    async def _run(self, job: Job) -> None:
        try:
            async with self._turns:
                job.state, job.share_done, job.began = "running", 0.0, time.monotonic()
                await self._answer(job)
                job.state, job.share_done, job.changed = "done", 1.0, time.monotonic()
                if job.then is not None:
                    await job.then(job)
        except PolydetrError as error:
            told = refusal(error)
            job.state, job.error = "failed", error_dict(told.message, hint=told.hint)
        except OSError as error:
            job.state, job.error = "failed", error_dict(not_kept(error).message, hint=not_kept(error).hint)
        except Exception as error:
            log("fault", error=error, job=job.id)
            job.state, job.error = "failed", error_dict("the service failed.")
        finally:
            job.changed = time.monotonic()
            for gone in (job.rows, job.part):
                with suppress(OSError):
                    gone.unlink()
            job.size = _size_of(job.folder)
        log("job", job=job.id, model=job.model, state=job.state, rows=job.rows_done, rejected=job.rows_rejected)

    async def _answer(self, job: Job) -> None:
        """The whole file. Raises PolydetrError, OSError."""
        columns, leaps = Columns.of(model_named(self._fleet, job.model)), Leaps()
        rows = items_of_file(
            job.rows,
            job.kind,
            columns,
            strictness=job.ask.strictness,
            reading=job.reading,
            leaps=leaps,
            labels=job.labels,
        )
        sent, most, timeout_s = max(1, job.size), _FIRST_ROWS, self._limits.timeout_s * 4
        with _written(job) as result:
            while items := await asyncio.to_thread(_next, rows, most):
                began = time.monotonic()
                replies = await replies_patiently(
                    self._fleet, job.model, items, job.ask, columns=columns, timeout_s=timeout_s,
                    first=job.rows_done + 1, patience_s=job.patience_s,
                )  # fmt: skip
                took = time.monotonic() - began
                result.write(items, replies)
                job.rows_done += len(items)
                job.rows_rejected += sum("error" in reply for reply in replies)
                job.size = sent + result.size
                job.share_done = leaps.offset / leaps.size if leaps.size else None
                self._check_room(job)
                if took < timeout_s / 4:
                    most = min(2 * most, _ROWS)
                elif took > timeout_s:
                    most = max(1, most // 2)
        if job.answered is None:
            os.replace(job.part, job.result)

    async def _look_after(self) -> None:
        """Forgets what was kept long enough."""
        while True:
            await asyncio.sleep(min(_LOOK_S, self._jobs_at_most.kept_s))
            now = time.monotonic()
            for job in list(self._jobs.values()):
                ended = job.state not in ("waiting", "running")
                if ended and now - job.changed > self._jobs_at_most.kept_s:
                    await self.forget(job)


def _next(rows: Iterator[Item], most: int) -> list[Item]:
    return list(islice(rows, most))


def _size_of(folder: Path) -> int:
    """Bytes of all that lies there."""
    with suppress(OSError):
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return 0


class _Result(Protocol):
    """Where answers go; size: bytes so far."""

    @property
    def size(self) -> int: ...

    def write(self, items: Sequence[Item], replies: Sequence[Reply]) -> None: ...


@contextmanager
def _written(job: Job) -> Iterator[_Result]:
    """The result of a job, as it wants it. Raises OSError."""
    if job.answered is not None:
        with job.answered.open():
            yield job.answered
        return
    with job.part.open("xb") as file:
        if job.answers in DELIMITERS:
            table = AnswersAsTable(file, delimiter=DELIMITERS[job.answers])
            yield table
            table.close()
        else:
            yield _Lines(file)


@dataclass
class _Lines:
    """Replies alone, one per line."""

    file: IO[bytes]

    @property
    def size(self) -> int:
        return self.file.tell()

    def write(self, items: Sequence[Item], replies: Sequence[Reply]) -> None:
        self.file.write(b"".join(json_bytes(reply) + b"\n" for reply in replies))


def _empty_folder(wanted: Path | None) -> Path:
    """A folder that is this user's alone, without what an earlier service left there; another one where somebody else
    has taken its name. Raises OSError.
    """
    if wanted is not None:
        with suppress(FileExistsError):
            wanted.mkdir(parents=True, mode=0o700)
    theirs = wanted is not None and hasattr(os, "getuid") and wanted.lstat().st_uid != os.getuid()
    if wanted is None or theirs or wanted.is_symlink() or not wanted.is_dir():
        return Path(tempfile.mkdtemp(prefix="polydetr-jobs-"))
    wanted.chmod(0o700)
    for left in wanted.iterdir():
        if _OF_A_JOB.fullmatch(left.name) and left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
    return wanted
