"""How fast the pages of a model are, and what they hold on to, in a real Chromium on this machine.

    python benchmarks/studio.py ask      NAME=FOLDER [--rounds 20] [--text "..."]
    python benchmarks/studio.py batch    NAME=FOLDER --rows ROWS.csv
    python benchmarks/studio.py browsers NAME=FOLDER [--browsers 50] [--seconds 600]
    python benchmarks/studio.py cut      NAME=FOLDER [--loads 10000]
    python benchmarks/studio.py pictures NAME=FOLDER --rows ROWS.csv --text "..."

ask: seconds until the page is painted, and from asking to the answer shown, less what the same request takes over HTTP
(the model's own time and the API's): what the pages cost; medians of the rounds, and the worst one. batch: a file is
dropped and answered; sorting, filtering and searching its table, from the call to the frame that shows the outcome,
medians of 9. browsers: so many pages ask every two seconds; memory of the processes two minutes after the beginning and at
the end. cut: page loads that are cut off at once, memory after a tenth of them and at the end, half a minute later.
pictures: those of the guide, of pages that show this model. Needs Chromium and playwright; --keep records a line.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

import recording

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or "chromium"
TEXT = "a lovely evening by the sea"
PICTURES = Path(__file__).parents[1] / "docs" / "guide" / "pictures"
VIEW: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}, "locale": "en-US"}


@dataclass(frozen=True)
class Service:
    """``polydetr serve`` over one model, in a process of its own."""

    address: str
    name: str
    pid: int

    @property
    def page(self) -> str:
        return f"{self.address}/studio/{quote(self.name)}"

    def memory(self) -> dict[str, float]:
        """MB of the process that speaks HTTP, and of the model's."""
        told = subprocess.run(["ps", "-o", "pid=,rss=", "--pid", str(self.pid), "--ppid", str(self.pid)],
                              capture_output=True, text=True, check=True).stdout  # fmt: skip
        sizes = {int(pid): int(size) / 1024 for pid, size in map(str.split, told.splitlines())}
        return {"front_mb": round(sizes.pop(self.pid), 1), "workers_mb": round(sum(sizes.values()), 1)}


@contextmanager
def service(model: str) -> Iterator[Service]:
    name, _, folder = model.partition("=")
    command = [sys.executable, "-m", "polydetr", "serve", f"{name}={Path(folder).absolute()}", "--port", "0"]
    with tempfile.TemporaryDirectory() as place, open(Path(place) / "log", "w+", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=place, stderr=log, stdout=subprocess.DEVNULL)
        try:
            yield Service(_address(process, Path(place) / "log"), name, process.pid)
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


def ask(service: Service, given: argparse.Namespace) -> dict[str, Any]:
    """See the top."""
    address, name, rounds, text = service.address, service.name, given.rounds, given.text
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


TABLE = "getElement(document.querySelector('.pd-table-view').id.slice(1))"
_TIMED = """async work => {
  const table = TABLE, times = [], label = table.values[0]?.[0] ?? '';
  const drawn = () => new Promise(done => requestAnimationFrame(() => setTimeout(done)));
  for (let i = 0; i < 9; i++) {
    await drawn();
    const began = performance.now();
    const by = {colId: i % 2 ? 'o0' : 'n', sort: i % 2 ? 'asc' : 'desc'};
    work === 'sort' ? table.api.applyColumnState({state: [by], defaultState: {sort: null}})
      : work === 'search' ? table.find(i % 2 ? 'a' : '1')
      : table.choose(i % 2 ? label : '');
    await drawn();
    times.push(performance.now() - began);
  }
  table.find(''); table.choose('');
  return times.sort((a, b) => a - b)[4];
}""".replace("TABLE", TABLE)


def batch(service: Service, given: argparse.Namespace) -> dict[str, Any]:
    """See the top."""
    with browser() as chromium:
        page = chromium.new_page(**VIEW)
        page.goto(f"{service.page}/batch")
        began = time.monotonic()
        _answer_file(page, given.rows)
        found = {"all_answers_s": round(time.monotonic() - began, 1), "rows": page.evaluate(f"() => {TABLE}.have")}
        return found | {f"{work}_ms": round(page.evaluate(_TIMED, work), 1) for work in ("sort", "filter", "search")}


def _answer_file(page: Any, rows: Path) -> None:
    page.wait_for_selector(".pd-file-drop")
    page.set_input_files("input[type=file]", str(rows))
    page.wait_for_selector(".ag-row", timeout=600_000)
    page.wait_for_selector("progress", state="detached", timeout=3_600_000)
    page.wait_for_function(f"() => {TABLE}.have === {TABLE}.there", timeout=600_000)
    page.wait_for_function("() => !document.body.innerText.includes('Measuring')", timeout=3_600_000)
    page.wait_for_timeout(2000)


_ASK_ON = """(() => {
  const text = TEXT, seconds = SECONDS, count = (what) => {
    const sum = Number(sessionStorage.getItem(what) || 0) + 1;
    sessionStorage.setItem(what, sum);
    return sum;
  };
  count('loaded');
  const begin = () => {
    const field = document.querySelector(`textarea`), place = document.querySelector('.pd-answer-place');
    if (!localStorage.getItem('asks') || !field || !place || !window.socket?.connected) return setTimeout(begin, 500);
    let waits = false;
    new MutationObserver(() => {
      const there = place.getAttribute('aria-busy') === 'false' && place.querySelector('.pd-part');
      if (waits && there) { count('answered'); waits = false; }
    }).observe(place, {childList: true, subtree: true, attributes: true});
    setInterval(() => {
      field.value = `${text} ${count('asked')}`;
      field.dispatchEvent(new Event('input', {bubbles: true}));
      waits = true;
      document.querySelector('.pd-form').requestSubmit();
    }, 1000 * seconds);
  };
  begin();
})()"""
"""Asks again and again from when all pages are there, also after its own was loaded anew, as it is where it was not heard
of for too long.
"""
_COUNTS = """() => Object.fromEntries(['loaded', 'asked', 'answered'].map(
  what => [what, Number(sessionStorage.getItem(what) || 0)]))"""


def browsers(service: Service, given: argparse.Namespace) -> dict[str, Any]:
    """See the top."""
    warm = min(120.0, given.seconds / 5)
    script = _ASK_ON.replace("TEXT", json.dumps(given.text)).replace("SECONDS", "2")
    with browser() as chromium:
        pages = []
        for _ in range(given.browsers):
            context = chromium.new_context(**VIEW)
            context.add_init_script(script)
            pages.append(context.new_page())
            pages[-1].goto(f"{service.page}/ask", timeout=120_000)
        for page in pages:
            page.evaluate("localStorage.setItem('asks', 'on')")
        began = time.monotonic()
        time.sleep(warm)
        first = service.memory()
        time.sleep(max(0.0, given.seconds - (time.monotonic() - began)))
        last = service.memory()
        each = [page.evaluate(_COUNTS) for page in pages]
    time.sleep(15)  # longer than a page may be away before it is forgotten
    counts = {what: sum(one[what] for one in each) for what in each[0]}
    return {"browsers": given.browsers, "seconds": given.seconds, **counts, "after_warm_up": first, "at_the_end": last,
            "when_all_left": service.memory(), "growth": _growth(first, last)}  # fmt: skip


def _growth(first: dict[str, float], last: dict[str, float]) -> float:
    return round(sum(last.values()) / sum(first.values()) - 1, 4)


def cut(service: Service, given: argparse.Namespace) -> dict[str, Any]:
    """See the top."""
    host, port = service.address.removeprefix("http://").split(":")
    request = f"GET /studio/{quote(service.name)}/ask HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
    first, began = {}, time.monotonic()
    for number in range(given.loads):
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(request)
            connection.recv(1)  # the page was made; nothing of it is read
        if number + 1 == given.loads // 10:
            time.sleep(30)
            first = service.memory()
    seconds = time.monotonic() - began
    time.sleep(30)
    last = service.memory()
    return {"loads": given.loads, "seconds": round(seconds, 1), "after_a_tenth": first, "at_the_end": last,
            "growth": _growth(first, last)}  # fmt: skip


def pictures(service: Service, given: argparse.Namespace) -> dict[str, Any]:
    """See the top."""
    with browser() as chromium:
        page = chromium.new_page(**VIEW, device_scale_factor=1.25)
        page.goto(f"{service.page}/ask")
        page.wait_for_selector("main form")
        page.locator("textarea").first.fill(given.text)
        page.keyboard.press("Control+Enter")
        page.wait_for_selector(".pd-part")
        page.evaluate("document.activeElement.blur()")
        page.keyboard.press("w")
        page.wait_for_timeout(6000)
        _photograph(page, "ask")
        page.goto(f"{service.page}/batch")
        _answer_file(page, given.rows)
        _photograph(page, "batch")
        page.goto(f"{service.page}/correct?rows=kept")
        page.wait_for_timeout(6000)
        _photograph(page, "correct")
        page.goto(f"{service.page}/model")
        page.wait_for_timeout(6000)
        _photograph(page, "model")
    return {"pictures": sorted(path.name for path in PICTURES.glob("studio-*.png"))}


def _photograph(page: Any, name: str) -> None:
    page.evaluate("""document.fonts.load('16px "Polydetr CJK"', '中')""")
    page.evaluate("document.body.style.fontKerning = 'none'")  # drawn anew, with the font that has come
    page.wait_for_timeout(1000)
    page.mouse.move(0, 0)
    page.screenshot(path=PICTURES / f"studio-{name}.png")


PARTS: dict[str, Callable[[Service, argparse.Namespace], dict[str, Any]]] = {
    "ask": ask, "batch": batch, "browsers": browsers, "cut": cut, "pictures": pictures,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("model", help="NAME=FOLDER")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--text", default=TEXT)
    parser.add_argument("--rows", type=Path, help="a file of rows for the page Batch")
    parser.add_argument("--browsers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--loads", type=int, default=10_000)
    parser.add_argument("--keep", action="store_true", help="record the line")
    given = parser.parse_args()
    with service(given.model) as over:
        line = {"part": given.part, **PARTS[given.part](over, given)}
    print(json.dumps(recording.keep("studio", line) if given.keep else line, indent=1))


if __name__ == "__main__":
    main()
