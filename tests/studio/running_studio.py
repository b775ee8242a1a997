"""A service with its pages in a process of its own, as a user starts it, and a real browser that looks at it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from polydetr.inference.folder import MANIFEST, SEAL, seal_of
from polydetr.serving.keys import KeyFile

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or "chromium"
VIEWS: Mapping[str, Mapping[str, Any]] = {
    "390-dark-zh": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "locale": "zh-CN"},
    "1280-light-en": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light", "locale": "en-US"},
    "1920-light-zh": {"viewport": {"width": 1920, "height": 1080}, "color_scheme": "light", "locale": "zh-CN"},
}
"""How every page is looked at."""
NOWHERE = "/studio/nowhere"
"""What a table of the gallery asks for, to be shown in its error state."""
PICTURES = Path(os.environ.get("POLYDETR_PICTURES", Path(tempfile.gettempdir()) / "polydetr-pictures"))
"""Where pictures of the pages are kept."""


@contextmanager
def serving(models: Mapping[str, Path], *options: str, folder: Path) -> Iterator[str]:
    """The address of a service over these models; ``folder``: its own, in which its store lies."""
    command = [sys.executable, "-m", "polydetr", "serve", *[f"{n}={p}" for n, p in models.items()], "--port", "0"]
    process = subprocess.Popen(
        [*command, *options], cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        env={**os.environ, "POLYDETR_GALLERY": "1"},
    )  # fmt: skip
    said: list[str] = []
    address, reader = "", None
    try:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"answering at (http://\S+?);?\s", line):
                address = found[1]
                break
        assert address, "".join(said)
        reader = threading.Thread(target=lambda: said.extend(process.stderr or ()), daemon=True)
        reader.start()  # or the service stops writing
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)
        if reader is not None:
            reader.join(20)
        if process.stderr is not None:
            process.stderr.close()


@contextmanager
def serving_two(model: Path, folder: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """The address of a service over a copy of the model, called ``films``, and what puts another one in its place."""
    root, keys = folder / "models", folder / "keys"
    for name in ("old", "new"):
        shutil.copytree(model, root / name)
    place = root / "new" / MANIFEST
    description = {**json.loads(place.read_text()), "created": "2000-01-01T00:00:00+00:00"}  # another seal
    place.write_text(json.dumps({**description, SEAL: seal_of(description)}))
    key = KeyFile(keys).add("me", admin=True)
    with serving({"films": root / "old"}, "--root", str(root), "--keys", str(keys), folder=folder) as address:
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        asked = Request(f"{address}/v1/admin/models/films", json.dumps({"folder": "new"}).encode(), headers)
        yield address, lambda: urlopen(asked).close()


@dataclass
class Looked:
    """What went wrong in a browser while it looked."""

    host: str
    faults: list[str] = field(default_factory=list)

    def watch(self, page: Any, *, but: Sequence[str] = ()) -> None:
        """Notes errors of scripts, and requests that left the service. but: words of errors that are meant."""

        def said(message: Any) -> None:
            text = f"{message.text} {message.location.get('url', '')}"
            if message.type == "error" and not any(word in text for word in but):
                self.faults.append(text)

        def asked(request: Any) -> None:
            if not request.url.startswith((self.host, self.host.replace("http", "ws", 1), "data:", "blob:")):
                self.faults.append(f"asked {request.url}")

        page.on("console", said)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", asked)


def settled(page: Any) -> None:
    """Waits until the page is connected, has its fonts, and nothing in it moves any more but what never ends."""
    page.wait_for_function(
        """() => window.did_handshake && document.fonts.status === 'loaded' && document.getAnimations().every(
          one => one.playState !== 'running' || one.effect.getComputedTiming().endTime === Infinity)"""
    )


def drawn(page: Any) -> None:
    """Waits until every chart is there and has stayed the same for a moment: they are drawn a part at a time."""
    page.wait_for_selector("figure.pd-chart canvas")
    page.evaluate("window.pictures = ''")
    page.wait_for_function(
        """() => {
          const before = window.pictures;
          window.pictures = [...document.querySelectorAll('canvas')].map(one => one.toDataURL()).join();
          return window.pictures === before;
        }""",
        polling=250,
    )


def picture(page: Any, name: str) -> Path:
    """Keeps what the page looks like now, all of it."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.evaluate("document.fonts.ready")
    path = PICTURES / f"{name}.png"
    page.screenshot(path=path, full_page=True)
    return path
