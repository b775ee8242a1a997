"""Whether a page can be used by those who do not see it: what axe-core finds in it (https://github.com/dequelabs/axe-core).

The script comes with the package axe-playwright-python; it is no part of this repository.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

_SERIOUS = ("serious", "critical")


@cache
def axe_source() -> str:
    """The script."""
    return (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")


def assert_accessible(page: Any, *, but: Sequence[str] = ()) -> None:
    """No serious or critical finding on the page as it is now. but: names of rules that are left out, each with a
    reason where it is called.
    """
    page.evaluate(axe_source())
    rules = {name: {"enabled": False} for name in but}
    found = page.evaluate("rules => axe.run(document, {resultTypes: ['violations'], rules})", rules)
    bad = [
        f"{one['id']} ({one['impact']}): {one['help']}: {node['html'][:200]} {node.get('failureSummary', '')[:300]}"
        for one in found["violations"]
        if one["impact"] in _SERIOUS
        for node in one["nodes"][:3]
    ]
    assert not bad, "\n".join(bad)
