"""HTTP over a fleet of models: addresses, and what each of them does with a request that has passed the gate."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response

from polydetr.errors import PolydetrError, quoted
from polydetr.serving.about import model_dict
from polydetr.serving.admin import admin_routes
from polydetr.serving.answer_table import DELIMITERS, table_bytes
from polydetr.serving.asking import FileQuery, model_named, query_of, replies_to
from polydetr.serving.bodies import STREAMS, check_reading, content_type, items_of_body
from polydetr.serving.body_limit import CALLER, Caller
from polydetr.serving.contract import Fleet, Reply
from polydetr.serving.counters import CONTENT_TYPE, Counters
from polydetr.serving.gate import Gate, fault
from polydetr.serving.job_routes import job_routes
from polydetr.serving.jobs import JobStore
from polydetr.serving.keys import KeyFile
from polydetr.serving.label_studio import label_studio_routes
from polydetr.serving.limits import JOB_LIMITS, LIMITS, PLACE, JobLimits, Limits, Place
from polydetr.serving.log import log
from polydetr.serving.openapi import openapi, openapi_bytes
from polydetr.serving.pages import Pages, is_below
from polydetr.serving.refusal import Refused, error_body, json_bytes, refusal
from polydetr.serving.rows import Columns
from polydetr.serving.streams import NDJSON, Streamed, answered_lines

_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'"
)
_GRACE_S = 30.0


def create_app(
    fleet: Fleet,
    *,
    limits: Limits = LIMITS,
    place: Place = PLACE,
    keys: KeyFile | None = None,
    root: Path | None = None,
    jobs: Path | None = None,
    job_limits: JobLimits = JOB_LIMITS,
    grace_s: float = _GRACE_S,
    pages: Pages | None = None,
) -> Gate:
    """The whole service as an ASGI application. It stops ``fleet`` when it ends.

    keys: who may ask; None: everybody who reaches it, but nobody may exchange models. root: the folder below which the
    models lie that may be exchanged for those that are served. jobs: a folder of its own for long files, emptied when
    the service starts; None: one in the system's folder for such. grace_s: how long requests that have begun are waited
    for when it ends. pages: what stands beside the API, and is shown first.
    """
    counters = Counters()
    store = JobStore(fleet, jobs, limits=limits, job_limits=job_limits)

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        async with store:
            yield
        await fleet.stop(grace_s=grace_s)

    app = FastAPI(
        title="polydetr", lifespan=life, openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    for kind in (PolydetrError, HTTPException, ClientDisconnect, Exception):
        app.add_exception_handler(kind, _refused)
    _add_pages(app, first="docs" if pages is None else f"{pages.prefix.strip('/')}/")
    _add_state(app, fleet, counters)
    _add_predict(app, fleet, limits)
    app.include_router(job_routes(store, fleet))
    app.include_router(label_studio_routes(fleet, limits))
    app.include_router(admin_routes(fleet, root))

    @app.get("/openapi.json")
    async def described() -> Response:
        document = openapi(
            fleet.models(), limits=limits, root_path=place.root_path, with_keys=keys is not None,
            with_admin=keys is not None and root is not None,
        )  # fmt: skip
        return Response(openapi_bytes(document), media_type="application/json")

    def finished(scope: Mapping[str, Any], caller: Caller, reason: str | None, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "")
        counters.request(route=route, method=scope["method"], status=caller.status, seconds=seconds)
        if reason or caller.reason:
            counters.refused(reason or caller.reason or "")
        if pages is not None and not route and caller.status < 400 and is_below(scope["path"], pages.prefix):
            return  # the parts of a page, thirty for each
        log(
            "request", id=caller.request_id, method=scope["method"][:10], route=route, status=caller.status,
            ms=round(1000 * seconds, 1), bytes=caller.received, key=caller.name, reason=reason or caller.reason,
            client=scope["client"][0] if scope.get("client") else "", **caller.facts,
        )  # fmt: skip

    def most_of(path: str, kind: str) -> int | None:
        if path == "/v1/jobs":
            return job_limits.file_bytes
        return None if kind in STREAMS and path.endswith("/predict") else limits.body_bytes

    if pages is not None:
        app.state.jobs = store
        pages.mount(app)
    return Gate(app, limits=limits, place=place, keys=keys, most_of=most_of, finished=finished, pages=pages)


# -- pages and state --------------------------------------------------------------------------------------------------


def _add_pages(app: FastAPI, *, first: str) -> None:
    """The page of the addresses, with its script and its style; and which page comes first."""
    folder = files("polydetr.serving") / "page"
    for path, name, kind in (
        ("/docs", "page.html", "text/html"),
        ("/docs/page.js", "page.js", "text/javascript"),
        ("/docs/page.css", "page.css", "text/css"),
    ):
        content = (folder / name).read_bytes()
        app.add_route(path, _sent(content, kind), methods=["GET"])

    @app.get("/")
    async def begin(request: Request) -> Response:
        return RedirectResponse(first if request.url.path.endswith("/") else f"{request.url.path}/{first}", 307)


def _sent(content: bytes, kind: str) -> Any:
    async def send(_: Request) -> Response:
        return Response(content, media_type=kind, headers={"content-security-policy": _PAGE_POLICY})

    return send


def _add_state(app: FastAPI, fleet: Fleet, counters: Counters) -> None:
    @app.get("/healthz")
    async def alive() -> Response:
        return _json({"status": "ok"})

    @app.get("/readyz")
    async def ready() -> Response:
        """What is wrong with a model is told to those who have a key: here it stands whether something is."""
        states = [info.state for info in fleet.models().values()]
        good = bool(states) and all(state == "ready" for state in states)
        return _json({"status": "ready" if good else "not ready"}, status=200 if good else 503)

    @app.get("/metrics")
    async def measured() -> Response:
        return Response(fleet.measurements() + counters.text(), headers={"content-type": CONTENT_TYPE})

    @app.get("/v1/models")
    async def models() -> Response:
        return _json({"models": [model_dict(info) for info in fleet.models().values()]})

    @app.get("/v1/models/{name}")
    async def model(name: str) -> Response:
        return _json(model_dict(model_named(fleet, name)))


# -- answers ----------------------------------------------------------------------------------------------------------


def _add_predict(app: FastAPI, fleet: Fleet, limits: Limits) -> None:
    @app.post("/v1/models/{name}/predict")
    async def predict(name: str, request: Request) -> Response:
        query = query_of(request, FileQuery)
        reading = query.reading()
        columns = Columns.of(model_named(fleet, name))
        caller: Caller = request.scope[CALLER]
        caller.facts |= {"model": name, "rows": 0, "rejected": 0}

        def told(replies: Sequence[Reply]) -> None:
            caller.facts["rows"] += len(replies)
            caller.facts["rejected"] += sum("error" in reply for reply in replies)

        wanted = _wanted(request)
        check_reading(request, reading)
        if content_type(request) in STREAMS:
            lines = answered_lines(request, fleet, name, columns, query.ask(), limits, told=told)
            return Streamed(await anext(lines, None), lines)
        items = await items_of_body(request, columns, limits, query.strictness, reading)
        ask = query.ask(cells=wanted in DELIMITERS)
        replies = await replies_to(fleet, name, items, ask, timeout_s=limits.timeout_s)
        told(replies)
        if wanted in DELIMITERS:
            return Response(table_bytes(items, replies, delimiter=DELIMITERS[wanted]), media_type=wanted)
        if wanted == NDJSON:
            return Response(b"".join(json_bytes(reply) + b"\n" for reply in replies), headers={"content-type": NDJSON})
        return _json({"answers": replies})


def _wanted(request: Request) -> str:
    """The first kind of answer in Accept that there is; else JSON."""
    for part in request.headers.get("accept", "").split(","):
        kind = part.partition(";")[0].strip().lower()
        if kind in DELIMITERS or kind in (NDJSON, "application/json"):
            return kind
    return "application/json"


# -- errors -----------------------------------------------------------------------------------------------------------


async def _refused(request: Request, error: Exception) -> Response:
    """Every error of ours, and of the framework, in one shape."""
    if isinstance(error, HTTPException):
        path = quoted(request.url.path, 60)
        said = {404: f"there is no address {path}.", 405: f"{path} takes no {quoted(request.method, 20)}."}
        raw = {name.lower().encode(): value.encode() for name, value in (error.headers or {}).items()}
        message = said.get(error.status_code, str(error.detail)[:200])
        refused = Refused(error.status_code, message, reason="address", headers=list(raw.items()))
    elif isinstance(error, ClientDisconnect):
        refused = Refused(400, "the body did not come to its end.", reason="gone")
    elif not isinstance(error, PolydetrError):
        refused = fault(request.scope[CALLER])  # the gate logs it
    else:
        refused = refusal(error)
        if refused.status >= 500:
            log("failed", level=logging.WARNING, error=error, id=request.scope[CALLER].request_id)
    request.scope[CALLER].reason = refused.reason
    response = _json(error_body(refused), status=refused.status)
    response.raw_headers += refused.headers
    return response


def _json(value: Mapping[str, Any], *, status: int = 200) -> Response:
    return Response(json_bytes(value), status_code=status, media_type="application/json")
