"""The addresses behind the page Batch: a file is taken, its answered rows are fetched, saved, handed over."""

from __future__ import annotations

import asyncio

from nicegui import app
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response

from polydetr.errors import quoted
from polydetr.serving.answered_rows import AnsweredRows
from polydetr.serving.asking import model_named
from polydetr.serving.contract import Ask
from polydetr.serving.jobs import Job, JobStore
from polydetr.serving.refusal import Refused, json_bytes, not_kept
from polydetr.serving.rows import Columns
from polydetr.studio.batch_files import downloads, file_stem, kind_of, look_at, plain_name
from polydetr.studio.batch_measured import MEASURED, Measured, measure
from polydetr.studio.batch_rows import Plan, detail, grid_row
from polydetr.studio.batch_saved import TYPES, saved
from polydetr.studio.pages import Studio
from polydetr.studio.sent_files import json_response, told
from polydetr.web.components.table import rows_in
from polydetr.web.viewer import taste_of

PART = 400
"""Rows of one answer, at most."""
_PATIENCE_S = 60.0
"""How long a batch waits for a model that does not answer: somebody looks at it."""
_PLANNED_BY = 1_000
"""Rows by which the columns of the table are known."""
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; frame-ancestors 'self'; "
    "base-uri 'none'; form-action 'none'"
)


def owner_of(person: str) -> str:
    """Whose a job of a page is: never the name of an API key, which holds no colon."""
    return f"person:{person}"


async def job_of(studio: Studio, request: Request, model: str, id: str) -> Job:
    """The viewer's own job. Raises Refused."""
    person = await studio.person_of(request.cookies)
    job = store_of(studio).find(id, owner_of(person.name if person else ""))
    if job.model != model or job.answered is None:
        raise Refused(404, "there is no such batch.", hint="Batches are forgotten after a time.", reason="unknown")
    return job


def store_of(studio: Studio) -> JobStore:
    if studio.jobs is None:
        raise Refused(503, "this service takes no files.", reason="jobs")
    return studio.jobs


async def plan_of(studio: Studio, job: Job) -> Plan:
    """By the first rows; from ``_PLANNED_BY`` rows on it stays as it is."""
    if (kept := job.facts.get("plan")) is not None:
        return kept
    info, rows = model_named(studio.fleet, job.model), _answered(job)
    sample = await asyncio.to_thread(rows.read, 1, _PLANNED_BY)
    plan = Plan.of(info, rows.names, sample)
    if len(rows) >= _PLANNED_BY or job.state not in ("waiting", "running"):
        job.facts["plan"] = plan
    return plan


def add_routes(studio: Studio) -> None:
    """The addresses."""

    @app.post("/{model}/batch/upload/rows")
    @told
    async def upload(request: Request, model: str) -> Response:
        store, info = store_of(studio), model_named(studio.fleet, model)
        name = plain_name(request.query_params.get("name", ""))
        person = await studio.person_of(request.cookies)
        owner = owner_of(person.name if person else "")
        job = store.new(owner, info.name, kind_of(name), "", Ask(min_confidence=_least(request), cells=True))
        job.name, job.patience_s, job.facts["version"] = name, _PATIENCE_S, info.version
        job.answered = AnsweredRows(job.result)

        async def after(ended: Job) -> None:
            await measure(studio.fleet, ended)

        job.then = after
        size = request.headers.get("content-length", "0")
        await store.make_room(owner, int(size) if size.isdigit() else 0)
        try:
            await store.begin(job, request.stream(), look=lambda one: look_at(one, Columns.of(info)))
        except ClientDisconnect:
            raise Refused(400, "the file did not come to its end.", reason="gone") from None
        return json_response({"id": job.id})

    @app.get("/{model}/batch/rows/{id}")
    @told
    async def rows(request: Request, model: str, id: str) -> Response:
        job = await job_of(studio, request, model, id)
        first = request.query_params.get("from", "1")
        if not first.isdigit() or not 1 <= int(first) < 10**9:
            raise Refused(400, "from is no number of a row.")
        plan, measured = await plan_of(studio, job), job.facts.get(MEASURED)
        wrong = measured.wrong if isinstance(measured, Measured) and measured.state == "done" else None

        def made() -> bytes:
            found = _answered(job).read(int(first), PART)
            return json_bytes(
                {"rows": [grid_row(int(first) + i, row, plan, wrong=wrong) for i, row in enumerate(found)]}
            )

        return Response(await asyncio.to_thread(made), media_type="application/json")

    @app.get("/{model}/batch/row/{id}/{number}")
    @told
    async def row(request: Request, model: str, id: str, number: int) -> Response:
        job = await job_of(studio, request, model, id)
        found = await asyncio.to_thread(_answered(job).read, number, 1)
        if not found:
            raise Refused(404, "there is no such row.", reason="unknown")
        words, _ = taste_of(request)
        return json_response(detail(number, found[0], await plan_of(studio, job), words))

    @app.get("/{model}/batch/save/{id}/{suffix}")
    @told
    async def save_all(request: Request, model: str, id: str, suffix: str) -> Response:
        return await _saved(studio, await job_of(studio, request, model, id), suffix, only=None)

    @app.post("/{model}/batch/save/{id}/{suffix}")
    @told
    async def save_shown(request: Request, model: str, id: str, suffix: str) -> Response:
        job = await job_of(studio, request, model, id)
        try:
            only = rows_in((await request.body()).decode("ascii"), len(_answered(job)))
        except ValueError:
            raise Refused(400, "these are no rows of the batch.", reason="rows") from None
        return await _saved(studio, job, suffix, only=only)

    @app.get("/{model}/batch/mistakes/{id}/{number}")
    @told
    async def mistakes(request: Request, model: str, id: str, number: int) -> Response:
        job = await job_of(studio, request, model, id)
        measured = job.facts.get(MEASURED)
        if not isinstance(measured, Measured) or not 0 <= number < len(measured.pages):
            raise Refused(404, "there is no such page of mistakes.", reason="unknown")
        return FileResponse(
            measured.folder / measured.pages[number],
            media_type="text/html",
            headers={"content-security-policy": _PAGE_POLICY},
        )


async def _saved(studio: Studio, job: Job, suffix: str, *, only: list[int] | None) -> Response:
    """Raises Refused, SaveError."""
    ending = f".{suffix}"
    if ending not in downloads():
        raise Refused(404, "answers are not written in this format.", hint=f"Known are {', '.join(downloads())}.")
    columns = Columns.of(model_named(studio.fleet, job.model))
    try:
        path = await asyncio.to_thread(saved, _answered(job), columns, ending, only=only)
    except OSError as error:
        raise not_kept(error) from None
    name = f"{file_stem(job.name)}-answers{ending}"
    return FileResponse(path, media_type=TYPES[ending], filename=name, background=BackgroundTask(path.unlink))


def _least(request: Request) -> float | None:
    """Answers less probable than this are withheld. Raises Refused."""
    said = request.query_params.get("least")
    try:
        least = None if said is None else float(said)
    except ValueError:
        least = -1.0
    if least is not None and not 0.0 <= least <= 1.0:
        raise Refused(400, f"{quoted(said, 20)} is no probability.", hint="It is a number from 0 to 1.", reason="query")
    return least


def _answered(job: Job) -> AnsweredRows:
    assert job.answered is not None
    return job.answered
