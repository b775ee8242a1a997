"""Addresses that sign in and out: plain HTML for a browser, which needs no script, and JSON for a page's own script."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from polydetr.errors import PolydetrError
from polydetr.web.people import login_page
from polydetr.web.people.login_words import COOKIE, LANGUAGES, Words, language_of
from polydetr.web.people.people import AT_MOST, People, Person, SignInRefused

SESSION_COOKIE, THEME_COOKIE = "polydetr_session", "polydetr_theme"
_THEMES = ("system", "light", "dark")
_MOST_BYTES = 16 << 10
_YEAR = 365 * 24 * 3600
_LOG = logging.getLogger("polydetr.web.people")


def login_routes(people: People, *, prefix: str = "", font: str | None = None) -> list[Route]:
    """``GET`` and ``POST {prefix}/login``, ``GET {prefix}/login/done``, ``POST {prefix}/logout``.

    The cookie of a session is sent back below ``prefix`` alone, to no script, and with no request of another site. What
    asks for JSON gets it: ``{"name", "role"}``, or ``{"error"}`` with 401 (wrong, not signed in), 429 (with
    ``wait_s``), 413, 415, 400, 403 or 503.

    font: the name below ``prefix`` of a font with Chinese characters, for systems that have none; it is asked for
    before anybody is signed in.
    """
    login = _Login(people, prefix, font)
    return [
        Route(f"{prefix}/login", login.show, methods=["GET"]),
        Route(f"{prefix}/login", login.enter, methods=["POST"]),
        Route(f"{prefix}/login/done", login.done, methods=["GET"]),
        Route(f"{prefix}/logout", login.leave, methods=["POST"]),
    ]


def safe_target(target: str, base: str) -> str:
    """``target`` where it is an address below ``base``, else the first page there: a link that looks like ours leads
    nowhere else (OWASP, "Unvalidated Redirects and Forwards Cheat Sheet").
    """
    first = f"{base}/"
    path = target.partition("?")[0]
    odd = "\\" in target or any(ord(c) <= 0x20 or 0x7F <= ord(c) <= 0xA0 for c in target)
    if odd or len(target) > 2000 or not (path == base or path.startswith(first)):
        return first
    if path.startswith("//") or ".." in path.split("/") or path in (f"{base}/login", f"{base}/logout"):
        return first
    return quote(target, safe="/%?=&:@!$'()*+,;~-._", errors="replace")


class _Refusal(Exception):
    """What a form is answered with: a status, the name of a sentence, seconds to wait."""

    def __init__(self, status: int, sentence: str, *, wait_s: int | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.wait_s = status, sentence, wait_s


@dataclass(frozen=True)
class _Login:
    people: People
    prefix: str
    font: str | None

    async def show(self, request: Request) -> Response:
        base, inside = self._base(request), "inside" in request.query_params
        try:
            person = await asyncio.to_thread(self.people.person_of, request.cookies.get(SESSION_COOKIE))
            has_people = person is not None or await asyncio.to_thread(self.people.any)
        except PolydetrError as error:
            _LOG.error("signing in: %s", error)
            return self._refused(request, _Refusal(503, "login.unavailable"), {})
        if _wants_json(request):
            return (
                _no_store(_person_json(person)) if person else self._refused(request, _Refusal(401, "login.ended"), {})
            )
        if person is not None:
            return self._onwards(base, request.query_params.get("next", ""), inside)
        return self._page(request, dict(request.query_params), has_people=has_people)

    async def enter(self, request: Request) -> Response:
        form: Mapping[str, str] = {}
        try:
            _check_origin(request)
            form = await _form(request)
            token, person = await self._signed_in(request, form)
        except _Refusal as refusal:
            return self._refused(request, refusal, form)
        base = self._base(request)
        answer = (
            _person_json(person)
            if _wants_json(request)
            else self._onwards(base, form.get("next", ""), "inside" in form)
        )
        answer.set_cookie(
            SESSION_COOKIE, token, max_age=int(AT_MOST.total_seconds()), path=base or "/", httponly=True,
            samesite="strict", secure=request.url.scheme == "https",
        )  # fmt: skip
        return _no_store(answer)

    async def done(self, request: Request) -> Response:
        words, theme = _taste(request)
        font = self._font(request)
        return _html(login_page.done(words, theme=theme, font=font), font=font)

    async def leave(self, request: Request) -> Response:
        base = self._base(request)
        try:
            _check_origin(request)
            await asyncio.to_thread(self.people.sign_out, request.cookies.get(SESSION_COOKIE))
        except _Refusal as refusal:
            return self._refused(request, refusal, {})
        except PolydetrError as error:
            _LOG.error("signing out: %s", error)
            return self._refused(request, _Refusal(503, "login.unavailable"), {})
        answer = JSONResponse({}) if _wants_json(request) else RedirectResponse(f"{base}/login", 303)
        answer.delete_cookie(SESSION_COOKIE, path=base or "/", httponly=True, samesite="strict")
        return _no_store(answer)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _base(self, request: Request) -> str:
        """What stands before the addresses, in the eyes of the browser."""
        return f"{request.scope.get('root_path', '').rstrip('/')}{self.prefix}"

    def _font(self, request: Request) -> str | None:
        return f"{self._base(request)}/{self.font}" if self.font else None

    async def _signed_in(self, request: Request, form: Mapping[str, str]) -> tuple[str, Person]:
        """Raises _Refusal."""
        address = request.client.host if request.client else ""
        name, password = form.get("name", ""), form.get("password", "")
        try:
            token = await asyncio.to_thread(self.people.sign_in, name, password, address=address)
            person = await asyncio.to_thread(self.people.person_of, token)
        except SignInRefused as error:
            if error.wait_s is None:
                raise _Refusal(401, "login.wrong") from None
            raise _Refusal(429, "login.wait", wait_s=error.wait_s) from None
        except PolydetrError as error:
            _LOG.error("signing in: %s", error)
            raise _Refusal(503, "login.unavailable") from None
        if person is None:  # removed in this very moment
            raise _Refusal(401, "login.wrong")
        return token, person

    def _onwards(self, base: str, target: str, inside: bool) -> Response:
        return _no_store(RedirectResponse(f"{base}/login/done" if inside else safe_target(target, base), 303))

    def _refused(self, request: Request, refusal: _Refusal, form: Mapping[str, str]) -> Response:
        words, _ = _taste(request)
        said = words(refusal.sentence, **({} if refusal.wait_s is None else {"seconds": refusal.wait_s}))
        headers = {} if refusal.wait_s is None else {"retry-after": str(refusal.wait_s)}
        if _wants_json(request):
            waits = {} if refusal.wait_s is None else {"wait_s": refusal.wait_s}
            return _no_store(JSONResponse({"error": said, **waits}, refusal.status, headers))
        return self._page(request, form, fault=said, status=refusal.status, headers=headers)

    def _page(
        self, request: Request, form: Mapping[str, str], *, fault: str = "", status: int = 200,
        headers: Mapping[str, str] | None = None, has_people: bool = True,
    ) -> Response:  # fmt: skip
        words, theme = _taste(request)
        base, font = self._base(request), self._font(request)
        document = login_page.page(
            words, theme=theme, action=f"{base}/login", target=safe_target(form.get("next", ""), base),
            inside="inside" in form, fault=fault, name=form.get("name", "")[:256], has_people=has_people,
            font=font,
        )  # fmt: skip
        answer = _html(document, status, headers, font=font)
        if request.query_params.get("language") in LANGUAGES:
            answer.set_cookie(COOKIE, words.language, max_age=_YEAR, path="/", samesite="lax")
        return answer


async def _form(request: Request) -> dict[str, str]:
    """The fields of the form, each once. Raises _Refusal."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise _Refusal(415, "login.form")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BYTES:
            raise _Refusal(413, "login.long")
    try:
        fields = parse_qs(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=10)
    except ValueError:
        raise _Refusal(400, "login.form") from None
    return {name: values[0] for name, values in fields.items()}


def _check_origin(request: Request) -> None:
    """Raises _Refusal: a page of another site signs nobody in here, and nobody out (OWASP, "Cross-Site Request Forgery
    Prevention Cheat Sheet"). A program that is no browser sends no Origin.
    """
    origin, host = request.headers.get("origin"), request.headers.get("host", "")
    if origin is None:
        own = request.headers.get("sec-fetch-site", "none") in ("none", "same-origin")
    else:
        own = origin.lower().partition("://")[2] == host.lower()
    if not own:
        raise _Refusal(403, "login.origin")


def _wants_json(request: Request) -> bool:
    accepted = request.headers.get("accept", "")
    return "application/json" in accepted and "text/html" not in accepted


def _taste(request: Request) -> tuple[Words, str]:
    """The language and the light that a request asks for."""
    chosen = request.query_params.get("language")
    chosen = chosen if chosen in LANGUAGES else request.cookies.get(COOKIE)
    theme = request.cookies.get(THEME_COOKIE, "system")
    words = Words(language_of(chosen, request.headers.get("accept-language")))
    return words, theme if theme in _THEMES else "system"


def _person_json(person: Person) -> JSONResponse:
    return JSONResponse({"name": person.name, "role": person.role})


def _html(
    document: str, status: int = 200, headers: Mapping[str, str] | None = None, *, font: str | None = None
) -> Response:
    more = {
        "content-security-policy": login_page.policy(font),
        "referrer-policy": "same-origin",  # with "no-referrer" browsers say "Origin: null" of the form
        "x-content-type-options": "nosniff",
    }
    return _no_store(HTMLResponse(document, status, {**more, **(headers or {})}))


def _no_store(answer: Any) -> Any:
    answer.headers["cache-control"] = "no-store"
    answer.headers["vary"] = "Accept, Accept-Language, Cookie"
    return answer
