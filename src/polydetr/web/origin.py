"""Where a request comes from, by what a browser says of it."""

from __future__ import annotations


def is_own_origin(origin: str | None, host: str | None, site: str | None) -> bool:
    """Whether a request comes from a page of this service, or from no browser at all; by its headers Origin, Host and
    Sec-Fetch-Site.

    A WebSocket and a form may be opened by any page of any site, with this site's cookies (OWASP, "Cross-Site Request
    Forgery Prevention Cheat Sheet", Verifying Origin With Standard Headers; RFC 6454, section 7).
    """
    if origin is None:
        return site in (None, "none", "same-origin")
    return origin.lower().partition("://")[2] == (host or "").lower()
