"""What stands in the same service beside the addresses of the API: pages for people, which a room above brings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from fastapi import FastAPI

Headers = Mapping[bytes, list[bytes]]


class Pages(Protocol):
    """Pages whose addresses begin with ``prefix``. Who may see them is not a matter of API keys, but of ``check``."""

    prefix: str
    policy: bytes
    """The Content-Security-Policy of all of them."""

    def mount(self, app: FastAPI) -> None:
        """Adds the addresses."""
        ...

    async def check(self, scope: Mapping[str, Any], headers: Headers, path: str) -> None:
        """Whether this request (or WebSocket) may come in; its Host is known to be one of ours, and a request that
        changes something comes from a page of ours. ``path`` is without what a proxy puts before it. Raises Refused.
        """
        ...

    def most_of(self, path: str) -> int:
        """Bytes that a body may have."""
        ...


def is_below(path: str, prefix: str) -> bool:
    """Whether an address belongs to pages."""
    return path == prefix or path.startswith(f"{prefix}/")


def is_own_origin(headers: Headers) -> bool:
    """Whether a browser says that the request comes from a page of this service, or no browser sent it.

    A WebSocket and a form may be opened by any page of any site, with this site's cookies: Origin tells where it stands
    (OWASP, "Cross-Site Request Forgery Prevention", Verifying Origin With Standard Headers; RFC 6454, section 7).
    """
    origin = headers.get(b"origin", [])
    if not origin:
        return headers.get(b"sec-fetch-site", [b"none"])[0] in (b"none", b"same-origin")
    host = headers.get(b"host", [b""])[0].lower()
    return len(origin) == 1 and origin[0].lower().split(b"://", 1)[-1] == host
