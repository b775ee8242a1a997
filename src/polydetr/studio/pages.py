"""The pages of a service, mounted beside its API: who may come in, what stands where, and what every page is built of.

NiceGUI keeps one application for the process, and so does a service: ``StudioPages.mount`` is called once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import nicegui
from fastapi import FastAPI
from nicegui import Client, context, ui
from starlette.requests import Request
from starlette.responses import RedirectResponse

from polydetr.errors import PolydetrError
from polydetr.serving.asking import model_named
from polydetr.serving.contract import Fleet, ModelInfo
from polydetr.serving.jobs import JobStore
from polydetr.serving.limits import LIMITS, MEGABYTE, Limits
from polydetr.serving.pages import Headers
from polydetr.serving.refusal import Refused
from polydetr.studio.handed_rows import Handed, HandedRows, RowSet
from polydetr.web.frame import FONT, Section, begin, configure, font
from polydetr.web.markup import Native
from polydetr.web.notices import failure
from polydetr.web.viewer import SESSION_COOKIE, Anybody, SomeOne, Viewer, taste_of

if TYPE_CHECKING:
    from polydetr.web.people.people import People
    from polydetr.web.store.database import Database

PREFIX = "/studio"
UPLOAD_BYTES = 512 * MEGABYTE
"""A file that is dropped on a page, at most."""
_OPEN = frozenset(f"{PREFIX}/{name}" for name in ("login", "login/done", FONT))
_HERE = Anybody("", "admin")
"""Who sits at this machine, where no people were set up."""
_POLICY = (
    b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; connect-src 'self'; "
    b"object-src 'none'; frame-ancestors 'self'; base-uri 'none'; form-action 'self'"
)
"""Vue compiles the templates of components in the browser, which takes 'unsafe-eval'. No other host is ever asked."""


@dataclass(frozen=True)
class Studio:
    """What the pages stand on.

    fleet: the models. database: where corrections, people and what they did are kept. people: None where nobody has to
    sign in. runs: the folder of trainings, None: they are not shown. may_train: whether admins may start one from a
    page. jobs: long files, the API's among them. base: what stands before the addresses of the pages.
    """

    fleet: Fleet
    database: Database
    people: People | None = None
    runs: Path | None = None
    may_train: bool = False
    limits: Limits = LIMITS
    root_path: str = ""
    jobs: JobStore | None = None
    with_key: bool = False
    handover: HandedRows[Handed] = field(default_factory=HandedRows[Handed], repr=False)
    sets: HandedRows[RowSet] = field(default_factory=HandedRows[RowSet], repr=False)

    @property
    def base(self) -> str:
        return f"{self.root_path}{PREFIX}"

    async def person_of(self, cookies: Mapping[str, str]) -> SomeOne | None:
        """Who is signed in by these cookies, as of now. Raises StoreUnavailable."""
        if self.people is None:
            return _HERE
        token = cookies.get(SESSION_COOKIE)
        return await asyncio.to_thread(self.people.person_of, token) if token else None

    async def viewer(self, request: Request) -> Viewer:
        """Who looks. Raises StoreUnavailable."""
        words, theme = taste_of(request)
        cookies, client = dict(request.cookies), context.client
        person = await self.person_of(cookies) or Anybody("", "viewer")

        def now() -> Awaitable[SomeOne | None]:  # who signs in again within the page has another cookie
            return self.person_of(_cookies_of(client) or cookies)

        return Viewer(words, theme, self.base, person, self.people is not None, now)

    async def begin(
        self, request: Request, section: str, *, model: str | None = None, keys: tuple[tuple[str, str], ...] = ()
    ) -> View | None:
        """The frame of a page, and what it is filled with; None where the page says already that there is nothing to
        fill it with (no such model).
        """
        viewer = await self.viewer(request)
        models = self.fleet.models()
        chosen = model if model is not None else next(iter(models), "")
        paths = {name: f"/{quote(chosen, safe='')}/{name}" for name in ("ask", "batch", "correct", "model")}
        sections = [Section(name, path, name) for name, path in (paths | {"runs": "/runs"}).items()]
        choices = (
            {name: f"{self.base}/{quote(name, safe='')}/{section}" for name in models} if model is not None else {}
        )
        main = begin(
            viewer, title=viewer.words(f"section.{section}"), sections=sections, current=section,
            name=model if model is not None else "polydetr", choices=choices, keys=keys,
        )  # fmt: skip
        if model is None:
            return View(self, viewer, main, None)
        try:
            return View(self, viewer, main, model_named(self.fleet, model))
        except PolydetrError as error:
            with main:
                failure(viewer.words, error)
            return None


@dataclass(frozen=True)
class View:
    """One page while it is filled: ``with view.main: ...``. info: of its model."""

    studio: Studio
    viewer: Viewer
    main: Native
    about: ModelInfo | None

    @property
    def words(self) -> Callable[..., str]:
        return self.viewer.words

    @property
    def info(self) -> ModelInfo:
        """The model as it is now: it may have been exchanged since the page was opened."""
        assert self.about is not None
        return self.studio.fleet.models().get(self.about.name, self.about)


@dataclass
class StudioPages:
    """See ``serving.pages.Pages``."""

    studio: Studio
    add: tuple[Callable[[Studio], None], ...] = ()
    prefix: str = PREFIX
    policy: bytes = _POLICY
    _assets: str = field(default=f"{PREFIX}/_nicegui/{nicegui.__version__}/", repr=False)

    def mount(self, app: FastAPI) -> None:
        self.studio = studio = replace(self.studio, jobs=getattr(app.state, "jobs", None))
        if studio.people is not None:
            from polydetr.web.people.login import login_routes

            app.router.routes[:0] = login_routes(studio.people, prefix=PREFIX, font=FONT)

        @ui.page("/")
        async def first(request: Request) -> RedirectResponse:
            name = next(iter(studio.fleet.models()), "")
            return RedirectResponse(f"{studio.base}/{quote(name, safe='')}/ask" if name else f"{studio.base}/runs")

        for add in self.add:
            add(studio)
        app.add_route(f"{PREFIX}/{FONT}", font)
        ui.run_with(app, mount_path=PREFIX, **configure(title="polydetr", base=studio.base))

    async def check(self, scope: Mapping[str, Any], headers: Headers, path: str) -> None:
        if path in _OPEN or path.startswith(self._assets):
            return  # the page that signs in, and what every browser loads: nothing of anybody
        if await self.studio.person_of(_cookies(headers)) is not None:
            return
        if scope["type"] == "http" and scope["method"] == "GET" and "/_nicegui" not in path:
            query = scope["query_string"].decode("latin-1")
            target = quote(f"{self.studio.root_path}{path}{f'?{query}' if query else ''}", safe="/")
            raise Refused(
                303, "nobody is signed in.", reason="session",
                headers=[(b"location", f"{self.studio.base}/login?next={target}".encode())],
            )  # fmt: skip
        raise Refused(401, "nobody is signed in.", hint="Sign in on the page.", reason="session")

    def most_of(self, path: str) -> int:
        return UPLOAD_BYTES if "/upload/" in path else MEGABYTE


def _cookies_of(client: Client) -> dict[str, str]:
    """Those that a page's browser sent when it connected last; none before."""
    header = (client.environ or {}).get("HTTP_COOKIE", "")
    return _cookies({b"cookie": [header.encode("latin-1", "replace")]}) if header else {}


def _cookies(headers: Headers) -> dict[str, str]:
    found: dict[str, str] = {}
    for header in headers.get(b"cookie", []):
        with suppress(CookieError, UnicodeDecodeError):
            for name, morsel in SimpleCookie(header.decode("latin-1")).items():
                found.setdefault(name, morsel.value)
    return found
