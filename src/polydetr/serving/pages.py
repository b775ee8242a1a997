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
