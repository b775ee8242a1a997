"""What stands before everything: Host, key, rate, size and time are checked before a body is read or parsed.

It is a layer of ASGI, below FastAPI: a framework that has begun to parse a form has already written it to the disk.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from polydetr.errors import PolydetrError
from polydetr.serving.body_limit import CALLER, BodyLimit, Caller, Held, Message, Receive, too_large
from polydetr.serving.keys import Key, KeyFile
from polydetr.serving.limits import Limits, Place
from polydetr.serving.log import log
from polydetr.serving.pages import Pages, is_below
from polydetr.serving.rates import Buckets, Failures
from polydetr.serving.refusal import Refused, error_body, json_bytes, refusal, retry_after
from polydetr.web.origin import is_own_origin

Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

OPEN = frozenset({"/", "/docs", "/docs/page.js", "/docs/page.css", "/healthz", "/readyz"})
"""Addresses that need no key: nothing of any model stands there."""
_POLICY, _FRAMES = b"content-security-policy", b"x-frame-options"
_SECURITY = [
    (_POLICY, b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    (_FRAMES, b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
_OF_PAGES = [(_FRAMES, b"SAMEORIGIN"), (b"referrer-policy", b"same-origin")]  # "no-referrer" makes "Origin: null"
_SAFE = ("GET", "HEAD")
_POLICY_VIOLATION = 1008
"""Of RFC 6455, section 7.4.1."""
_NUMBERS = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}|\[[0-9a-f:.]+\]")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class Gate:
    """The layer. keys: None where none are asked for; most_of: path and content type → how long a body may be.
    finished: told of every request when it ends: its scope, who asked, one word where it was refused here, seconds.
    pages: what stands beside the API, with rules of its own.
    """

    def __init__(
        self,
        app: App,
        *,
        limits: Limits,
        place: Place,
        keys: KeyFile | None,
        most_of: Callable[[str, str], int | None],
        finished: Callable[[Mapping[str, Any], Caller, str | None, float], None],
        pages: Pages | None = None,
    ) -> None:
        self._app, self._limits, self._place, self._keys = app, limits, place, keys
        self._pages = pages
        self._most_of, self._finished = most_of, finished
        self._held = Held(limits.bodies_bytes)
        self._rates = Buckets(limits.rate, limits.burst) if limits.rate else None
        self._failures = Failures(limits.failures, limits.failures_s)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        given = headers.get(b"x-request-id", [b""])[0]
        caller = Caller(given.decode() if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8))
        scope[CALLER] = caller
        path = self._path(scope)
        body = BodyLimit(receive, self._limits, caller, path=path, ended=not _has_body(headers), held=self._held)
        answer = _Answer(send, body, caller, policy=self._pages.policy if self._of_pages(path) else None)  # type: ignore[union-attr]
        reason: str | None = None
        try:
            body.most = await self._checked(scope, headers, caller, path)
            await self._app(scope, body, answer)
        except Exception as error:
            refused = refusal(error) if isinstance(error, PolydetrError) else fault(caller)
            reason = refused.reason
            if not isinstance(error, PolydetrError):
                log("fault", level=logging.ERROR, error=error, id=caller.request_id)
            if answer.begun and not answer.ended:  # the head of an answer is out: that it breaks off is all it can say
                raise
            if not answer.begun:
                await _refuse(refused, answer)
        finally:
            body.release()
            self._finished(scope, caller, reason, time.monotonic() - caller.began)

    async def _checked(
        self, scope: Mapping[str, Any], headers: Mapping[bytes, list[bytes]], caller: Caller, path: str
    ) -> int | None:
        """How long the body may be. Raises Refused."""
        self._check_host(headers)
        if self._of_pages(path):
            return await self._checked_page(scope, headers, path)
        address = scope["client"][0] if scope.get("client") else ""
        if path not in OPEN:
            caller.key = self._key(headers, address, admin=path.startswith("/v1/admin/"))
        if self._rates and path not in OPEN and (wait := self._rates.take(caller.name or address)):
            raise Refused(
                429, "too many requests.", reason="rate", headers=[retry_after(wait)],
                hint=f"Ask again in {wait:.0f} s; one request may hold many rows.",
            )  # fmt: skip
        coding = b",".join(headers.get(b"content-encoding", [])).strip().lower()
        if coding not in (b"", b"identity"):
            raise Refused(415, "the body is compressed.", hint="Send it as it is, without Content-Encoding.")
        kind = headers.get(b"content-type", [b""])[0].decode("latin-1").partition(";")[0].strip().lower()
        most = self._most_of(path, kind)
        if most is not None and any(int(n) > most for n in headers.get(b"content-length", []) if n.isdigit()):
            raise too_large(most, path)
        return most

    async def _socket(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """A WebSocket, which pages alone have: refused before it is accepted, where anything is wrong with it."""
        headers, path = _headers(scope), self._path(scope)
        try:
            if not self._of_pages(path):
                raise Refused(404, "there is no such address.", reason="address")
            self._check_host(headers)
            await self._checked_page(scope, headers, path)
        except PolydetrError as error:
            log("socket", reason=refusal(error).reason, client=scope["client"][0] if scope.get("client") else "")
            await receive()
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
            return
        await self._app(scope, receive, send)

    def _path(self, scope: Mapping[str, Any]) -> str:
        return scope["path"].removeprefix(self._place.root_path) or "/"

    def _of_pages(self, path: str) -> bool:
        return self._pages is not None and is_below(path, self._pages.prefix)

    async def _checked_page(self, scope: Mapping[str, Any], headers: Mapping[bytes, list[bytes]], path: str) -> int:
        """How long the body may be. Raises Refused."""
        assert self._pages is not None
        if (scope["type"] == "websocket" or scope["method"] not in _SAFE) and not _is_own(headers):
            raise Refused(403, "this request comes from a page of another site.", reason="origin")
        await self._pages.check(scope, headers, path)
        most = self._pages.most_of(path)
        if any(int(n) > most for n in headers.get(b"content-length", []) if n.isdigit()):
            raise too_large(most, path)
        return most

    def _check_host(self, headers: Mapping[bytes, list[bytes]]) -> None:
        hosts = headers.get(b"host", [])
        name = re.sub(r":\d*$", "", hosts[0].decode("latin-1").lower()) if len(hosts) == 1 else ""
        for allowed in map(str.lower, self._place.hosts):
            if allowed == Place.NUMBERS:
                if _NUMBERS.fullmatch(name):
                    return
            elif allowed in ("*", name) or (allowed.startswith("*.") and name.endswith(allowed[1:])):
                return
        raise Refused(
            400, "this service is not known by the name in the Host header.", reason="host",
            hint="Names are added by polydetr serve --allowed-host NAME.",
        )  # fmt: skip

    def _key(self, headers: Mapping[bytes, list[bytes]], address: str, *, admin: bool) -> Key | None:
        """A wrong key is never right for being tried again, so that whoever tries many is not looked at for a while; a
        right key from the same address (a proxy's, say) is not locked out by that.
        """
        if self._keys is None:
            if admin:
                raise Refused(
                    401, "exchanging models takes an admin key, and this service has no keys.", reason="key",
                    hint="polydetr keys add --admin NAME, then polydetr serve --keys FILE.",
                )  # fmt: skip
            return None
        given = _given_key(headers)
        key = self._found(given) if given else None
        if key is None:
            if given and (wait := self._failures.note(address)):
                raise Refused(
                    429, "too many wrong keys.", reason="keys", headers=[retry_after(wait)],
                    hint=f"Try again in {wait:.0f} s.",
                )  # fmt: skip
            raise Refused(
                401, "the key is not known." if given else "this address wants a key.", reason="key",
                hint="Send the header Authorization: Bearer KEY; polydetr keys add NAME makes one.",
                headers=[(b"www-authenticate", b'Bearer realm="polydetr"')],
            )  # fmt: skip
        if admin and not key.admin:
            raise Refused(
                403, "this key exchanges no models.", reason="admin", hint="polydetr keys add --admin NAME makes one."
            )
        return key

    def _found(self, given: str) -> Key | None:
        """None also where the keys cannot be read: nobody is let in by a damaged file."""
        assert self._keys is not None
        try:
            return self._keys.find(given)
        except PolydetrError as error:
            log("keys", level=logging.ERROR, error=error)
            return None


class _Answer:
    """``send`` of ASGI, with the headers that every answer has. Where it comes before the body was read, the connection
    ends with it, so that nobody has to take what is still to come; a stream ends its own, but for one that is refused.
    """

    def __init__(self, send: Send, body: BodyLimit, caller: Caller, *, policy: bytes | None = None) -> None:
        self._send, self._body, self._caller = send, body, caller
        self._usual = _SECURITY if policy is None else [(_POLICY, policy), *_OF_PAGES, *_SECURITY[3:]]
        self.begun = self.ended = self._closes = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun, self._caller.status = True, message["status"]
            self._closes = not self._body.ended and (self._body.most is not None or message["status"] >= 400)
            own = list(message.get("headers", ()))
            there = {name.lower() for name, _ in own}
            more = [(b"x-request-id", self._caller.request_id.encode())]
            more += [(b"connection", b"close")] if self._closes else []
            message = {**message, "headers": own + more + [h for h in self._usual if h[0] not in there]}
        elif not message.get("more_body", False):
            if self._closes and not self._body.ended:
                await self._send({**message, "more_body": True})
                await self._body.thrown_away()
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            self.ended = True
        await self._send(message)


def fault(caller: Caller) -> Refused:
    """What nobody foresaw: where it happened stands in the log, and nothing of it in the answer."""
    return Refused(
        500, "the service failed.", reason="fault",
        hint=f"Tell whoever runs it this request's id: {caller.request_id}.",
    )  # fmt: skip


async def _refuse(refused: Refused, send: Send) -> None:
    body = json_bytes(error_body(refused))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *refused.headers]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _headers(scope: Mapping[str, Any]) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.lower(), []).append(value)
    return found


def _is_own(headers: Mapping[bytes, list[bytes]]) -> bool:
    found = [headers.get(name, []) for name in (b"origin", b"host", b"sec-fetch-site")]
    return len(found[0]) < 2 and is_own_origin(*[one[0].decode("latin-1") if one else None for one in found])


def _has_body(headers: Mapping[bytes, list[bytes]]) -> bool:
    return b"transfer-encoding" in headers or any(n != b"0" for n in headers.get(b"content-length", []))


def _given_key(headers: Mapping[bytes, list[bytes]]) -> str:
    """Of ``Authorization: Bearer KEY``, of ``X-API-Key``, or the password of ``Authorization: Basic``, which is all
    that Label Studio can send; "" where there is none.
    """
    kind, _, value = b"".join(headers.get(b"authorization", [])[:1]).decode("latin-1").partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode("latin-1").partition(":")[2]
        except (binascii.Error, ValueError):
            return ""
    return b"".join(headers.get(b"x-api-key", [])[:1]).decode("latin-1").strip()
