"""How fast the pages of a model are, in a real Chromium on this machine.

    python benchmarks/studio.py ask NAME=FOLDER [--rounds 20] [--text "..."] [--out FILE]

ask: seconds until the page is painted, and from the key that asks to the answer shown, less what the same request takes
over HTTP (the model's own time and the API's): what the pages cost. Medians of the rounds, and the worst one.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from urllib.request import Request, urlopen

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or "chromium"
TEXT = "a lovely evening by the sea"


@contextmanager
def service(model: str) -> Iterator[str]:
    """The address of ``polydetr serve`` over this model, in a process of its own."""
    command = [sys.executable, "-m", "polydetr", "serve", model, "--port", "0"]
    with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "log", "w+", encoding="utf-8") as log:
        absolute = model.split("=", 1)
        command[4] = f"{absolute[0]}={Path(absolute[1]).absolute()}"
        process = subprocess.Popen(command, cwd=folder, stderr=log, stdout=subprocess.DEVNULL)
        try:
            yield _address(process, Path(folder) / "log")
        finally:
            process.terminate()
            process.wait(30)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        if found := re.search(r"answering at (http://\S+?);?\s", log.read_text(encoding="utf-8")):
            return found[1]
        time.sleep(0.05)
    raise SystemExit(f"the service did not start:\n{log.read_text(encoding='utf-8')}")


@contextmanager
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def measure_ask(address: str, name: str, *, rounds: int, text: str) -> dict[str, Any]:
    """See the top."""
    described = json.load(urlopen(f"{address}/v1/models/{name}"))
    column = next(n for n, schema in described["columns"].items() if schema.get("x-modality") == "text")
    row = {n: text if n == column else described["example"].get(n) for n in described["columns"]}
    with browser() as chromium:
        paints = [_painted(chromium, f"{address}/studio/{name}/ask") for _ in range(rounds)]
        page = chromium.new_page(viewport={"width": 1280, "height": 900}, locale="en-US")
        page.goto(f"{address}/studio/{name}/ask")
        page.wait_for_selector("main form")
        page.keyboard.press("e")  # fills the columns that are not the text
        page.wait_for_selector(".pd-part")
        shown = [_shown(page, column, f"{text} {i}") for i in range(rounds)]
    own = [_answered(address, name, {**row, column: f"{text} {i}"}) for i in range(rounds)]
    over = [one - median(own) for one in shown]
    return {
        "first paint": _numbers(paints), "press to answer": _numbers(shown), "the request over HTTP": _numbers(own),
        "press to answer, less the request": _numbers(over),
    }  # fmt: skip


def _painted(chromium: Any, address: str) -> float:
    """Seconds from the request to the first contentful paint, and the form there: in a fresh profile, nothing cached."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, locale="en-US")
    page = context.new_page()
    began = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_selector("main form")
    page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length > 0")
    seconds = time.perf_counter() - began
    context.close()
    return seconds


_WATCH = """() => {
  const place = document.querySelector('.pd-answer-place');
  window.answered = new Promise((done) => {
    const began = performance.now();
    new MutationObserver((_, seen) => {
      if (place.querySelector('.pd-part') && place.getAttribute('aria-busy') === 'false') {
        seen.disconnect();
        requestAnimationFrame(() => requestAnimationFrame(() => done((performance.now() - began) / 1000)));
      }
    }).observe(place, { childList: true, subtree: true });
  });
  document.querySelector('.pd-form').requestSubmit();
}"""
"""Submits the form, and waits until the answer was drawn: timed in the browser."""


def _shown(page: Any, column: str, text: str) -> float:
    page.get_by_label(column, exact=True).fill(text)
    page.evaluate(_WATCH)
    return page.evaluate("window.answered")


def _answered(address: str, name: str, row: dict[str, Any]) -> float:
    request = Request(
        f"{address}/v1/models/{name}/predict?probabilities=true",
        json.dumps({"rows": [row]}).encode(), {"content-type": "application/json"},
    )  # fmt: skip
    began = time.perf_counter()
    urlopen(request).read()
    return time.perf_counter() - began


def _numbers(seconds: list[float]) -> dict[str, float]:
    return {"median_s": round(median(seconds), 4), "worst_s": round(max(seconds), 4), "rounds": len(seconds)}


PARTS: dict[str, Callable[..., dict[str, Any]]] = {"ask": measure_ask}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("model", help="NAME=FOLDER")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--text", default=TEXT)
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    given = parser.parse_args()
    with service(given.model) as address:
        found = PARTS[given.part](address, given.model.partition("=")[0], rounds=given.rounds, text=given.text)
    result = {"part": given.part, "model": given.model, "machine": platform.platform(), **found}
    print(json.dumps(result, indent=1))
    if given.out:
        given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
