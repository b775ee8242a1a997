"""Whether the built site works when its pages are opened as files, without a network:

    python docs/check_site.py [site]

Nothing may be loaded from another host, what is loaded must be there, and the search must find its index in a script (a
page that was opened as a file may not fetch one) and its frame in the place of a worker.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "link": "href"}
"""Tag → the attribute that names what a browser loads by itself; links in the text are no such thing."""
INDEX = "var __index = "


class Resources(HTMLParser):
    """What a page loads, in its order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        address = values.get(LOADED.get(tag, ""))
        named_only = tag == "link" and values.get("rel") in ("canonical", "next", "prev", "alternate")
        if address and not named_only and not address.startswith("data:"):
            self.found.append(address)


def faults(site: Path) -> list[str]:
    """What keeps the site from working as files, one line each; none where all is well."""
    pages = sorted(site.rglob("*.html"))
    if not pages:
        return [f"{site} holds no page: run make docs"]
    return [fault for page in pages for fault in _of_page(page, site)] + list(_of_search(site, pages))


def _of_page(page: Path, site: Path) -> Iterator[str]:
    name = page.relative_to(site).as_posix()
    loaded = Resources(page.read_text(encoding="utf-8")).found
    for address in loaded:
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            yield f"{name} loads {address} from another host"
        elif name != "404.html" and not (page.parent / unquote(parts.path)).exists():  # that one is for servers
            yield f"{name} loads {address}, which is not there"
    scripts = [Path(urlsplit(address).path).name for address in loaded if address.endswith(".js")]
    if "iframe-worker.js" not in scripts[:1]:
        yield f"{name} does not load iframe-worker.js before all other scripts"


def _of_search(site: Path, pages: list[Path]) -> Iterator[str]:
    script = site / "search" / "search_index.js"
    text = script.read_text(encoding="utf-8") if script.exists() else ""
    if not text.startswith(INDEX):
        yield "search/search_index.js does not hold the search index: is the offline plugin on?"
        return
    indexed = {urlsplit(entry["location"]).path for entry in json.loads(text.removeprefix(INDEX))["docs"]}
    for page in pages:
        name = page.relative_to(site).as_posix()
        if name != "404.html" and name not in indexed:
            yield f"{name} is not in the search index"


if __name__ == "__main__":
    found = faults(Path(sys.argv[1] if len(sys.argv) > 1 else "site"))
    sys.exit("\n".join(found) or 0)
