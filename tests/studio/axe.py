"""Whether a page can be used by those who do not see it: what axe-core finds in it (https://github.com/dequelabs/axe-core).

The script comes from ``POLYDETR_AXE``, or by npm; it is no part of this repository.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

AXE = "axe-core@4.14.1"
_SERIOUS = ("serious", "critical")


@cache
def axe_source() -> str:
    """The script. A test is skipped where there is none; where ``CI`` is set, it fails."""
    if named := os.environ.get("POLYDETR_AXE"):
        return Path(named).read_text(encoding="utf-8")
    npm = shutil.which("npm")
    with tempfile.TemporaryDirectory() as folder:
        done = npm and subprocess.run([npm, "pack", AXE], cwd=folder, capture_output=True, timeout=120, check=False)
        packed = next(Path(folder).glob("axe-core-*.tgz"), None)
        if done and packed:
            with tarfile.open(packed) as archive:
                member = archive.extractfile("package/axe.min.js")
                assert member is not None
                return member.read().decode("utf-8")
    reason = f"no axe-core: name its axe.min.js by POLYDETR_AXE, or install npm, which gets {AXE}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


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
