"""A page that stays open for a day, an hour at a time, as in a computer that sleeps: it comes back, holding no more.

Each hour all timers of the page are due, so that its connection is taken for dead and made anew. What the service does
for such a page is in ``tests/web/test_live.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.browser

HOURS = 24
_COUNT_TIMERS = """(() => {
  const open = window.openTimers = new Set();
  for (const kind of ['Timeout', 'Interval']) {
    const set = window[`set${kind}`].bind(window), clear = window[`clear${kind}`].bind(window);
    window[`set${kind}`] = (work, ...rest) => {
      const id = set((...given) => { if (kind === 'Timeout') open.delete(id); work(...given); }, ...rest);
      open.add(id);
      return id;
    };
    window[`clear${kind}`] = (id) => { open.delete(id); clear(id); };
  }
})()"""
_HELD = """() => ({
  timers: window.openTimers.size, nodes: document.querySelectorAll('*').length, connected: window.socket.connected,
})"""


def _connected(page: Any) -> None:
    for _ in range(200):
        if page.evaluate("window.socket.connected"):
            return
        page.clock.run_for(1000)  # until it tries again
        page.wait_for_timeout(50)
    raise AssertionError("the page did not come back")


@pytest.mark.parametrize("path", ["/studio/films/ask", "/studio/films/model", "/studio/runs"])
def test_it_comes_back_each_hour_and_holds_no_more(look: Callable[..., Any], studio: str, path: str) -> None:
    blank = look(studio)
    page = blank.context.new_page()
    page.clock.install()
    page.add_init_script(_COUNT_TIMERS)
    page.goto(f"{studio}{path}")
    page.wait_for_selector("main h1")
    page.wait_for_function("() => window.socket?.connected")
    page.evaluate("window.cut = 0; window.socket.on('disconnect', () => window.cut++)")
    lost = []
    page.on("framenavigated", lambda _: lost.append(1))
    held = []
    for _ in range(HOURS):
        page.clock.fast_forward("01:00:00")
        _connected(page)
        held.append(page.evaluate(_HELD))
    assert page.evaluate("window.cut") >= HOURS, "the hours passed without any effect"
    assert not lost, "the page was loaded anew, and with it what was written in it would be gone"
    assert held[-1]["nodes"] <= held[0]["nodes"] + 2
    assert held[-1]["timers"] <= held[0]["timers"] + 2
    assert page.locator("#popup:visible, .nicegui-error-popup:visible").count() == 0
    if path.endswith("ask"):
        page.locator("textarea").first.fill("a lovely evening")
        page.locator(".pd-form").press("Control+Enter")
        page.clock.resume()
        page.wait_for_selector(".pd-part")
