"""The addresses of long files: taken, told of, fetched, cancelled."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from polydetr.errors import quoted
from polydetr.serving.answer_table import DELIMITERS
from polydetr.serving.asking import FileQuery, model_named, query_of
from polydetr.serving.bodies import content_type
from polydetr.serving.body_limit import CALLER
from polydetr.serving.contract import Fleet
from polydetr.serving.jobs import JobStore
from polydetr.serving.refusal import Refused, json_bytes
from polydetr.serving.table_body import FORMATS


class JobQuery(FileQuery):
    """What may stand in the query of the address that takes a file."""

    model: str


def job_routes(store: JobStore, fleet: Fleet) -> APIRouter:
    """The addresses of jobs."""
    router = APIRouter(prefix="/v1/jobs")

    @router.post("")
    async def begin(request: Request) -> Response:
        query = query_of(request, JobQuery)
        model = model_named(fleet, query.model).name
        kind = content_type(request)
        if kind not in FORMATS:
            raise Refused(
                415, f"a file of {quoted(kind, 60) if kind else 'no content type'} is not taken.", reason="type",
                hint=f"Taken are {', '.join(FORMATS)}.",
            )  # fmt: skip
        accepted = [part.partition(";")[0].strip() for part in request.headers.get("accept", "").split(",")]
        answers = next((one for one in accepted if one in DELIMITERS), "application/x-ndjson")
        owner = request.scope[CALLER].name
        job = store.new(owner, model, FORMATS[kind], answers, query.ask(cells=answers in DELIMITERS))
        job.reading = query.reading()
        size = request.headers.get("content-length", "0")
        await store.make_room(owner, int(size) if size.isdigit() else 0)
        await store.begin(job, request.stream())
        request.scope[CALLER].facts |= {"job": job.id, "model": model}
        return _json(job.to_dict(), status=202)

    @router.get("/{id}")
    async def progress(id: str, request: Request) -> Response:
        return _json(store.find(id, request.scope[CALLER].name).to_dict())

    @router.delete("/{id}")
    async def cancel(id: str, request: Request) -> Response:
        job = store.find(id, request.scope[CALLER].name)
        await store.forget(job)
        return _json(job.to_dict())

    @router.get("/{id}/result")
    async def result(id: str, request: Request) -> Response:
        job = store.find(id, request.scope[CALLER].name)
        if job.state != "done":
            raise Refused(409, f"the job is {job.state}.", hint="GET /v1/jobs/ID says how far it is.", reason="state")
        job.changed = time.monotonic()
        return FileResponse(job.result, media_type=job.answers)

    return router


def _json(value: dict[str, Any], *, status: int = 200) -> Response:
    return Response(json_bytes(value), status_code=status, media_type="application/json")
