"""The built site works as files: what its check finds, and that the real one has no fault."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (
    '<script src="javascripts/iframe-worker.js"></script><script src="bundle.js"></script><a href="https://x.org">x</a>'
)
FAULTY = {
    "another host": (PAGE + '<img src="https://x.org/a.png">', "loads https://x.org/a.png from another host"),
    "no scheme": (PAGE + '<link rel="stylesheet" href="//x.org/a.css">', "loads //x.org/a.css from another host"),
    "a lost picture": (PAGE + '<img src="lost.png">', "loads lost.png, which is not there"),
    "no frame for the search": (PAGE[PAGE.index("<script", 1) :], "does not load iframe-worker.js before all"),
}  # fmt: skip


@pytest.fixture(scope="module")
def faults() -> Callable[[Path], list[str]]:
    return runpy.run_path(str(ROOT / "docs" / "check_site.py"))["faults"]


def small_site(folder: Path, page: str = PAGE, index: str | None = None) -> Path:
    for name in ("javascripts", "search"):
        (folder / name).mkdir(parents=True)
    (folder / "index.html").write_text(page)
    (folder / "bundle.js").touch()
    (folder / "javascripts" / "iframe-worker.js").touch()
    docs = {"docs": [{"location": "index.html#top", "title": "t", "text": "x"}]}
    (folder / "search" / "search_index.js").write_text(f"var __index = {json.dumps(docs)}" if index is None else index)
    return folder


def test_a_whole_site_has_no_fault(tmp_path: Path, faults: Callable[[Path], list[str]]) -> None:
    assert faults(small_site(tmp_path)) == []


@pytest.mark.parametrize("case", FAULTY)
def test_a_page_with_a_fault_is_named(case: str, tmp_path: Path, faults: Callable[[Path], list[str]]) -> None:
    page, expected = FAULTY[case]
    (found,) = faults(small_site(tmp_path, page))
    assert found.startswith(f"index.html {expected}")


def test_a_search_without_its_index_is_named(tmp_path: Path, faults: Callable[[Path], list[str]]) -> None:
    assert "does not hold the search index" in faults(small_site(tmp_path / "a", index=""))[0]
    assert faults(small_site(tmp_path / "b", index='var __index = {"docs": []}')) == [
        "index.html is not in the search index"
    ]
    (tmp_path / "empty").mkdir()
    assert "holds no page" in faults(tmp_path / "empty")[0]


@pytest.mark.slow
def test_the_built_site_works_as_files(tmp_path: Path, faults: Callable[[Path], list[str]]) -> None:
    """With the extra `docs`; in a browser, where there is one, the search answers a page that was opened as a file."""
    pytest.importorskip("material", reason="needs polydetr[docs]")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(build, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert faults(tmp_path / "site") == []
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        return
    address = (tmp_path / "site" / "index.html").as_uri() + "?q=temperature"
    look = [browser, "--headless", "--no-sandbox", "--virtual-time-budget=10000", "--dump-dom", address]
    seen = subprocess.run(look, capture_output=True, text=True, timeout=120).stdout
    assert 'class="md-search-result__link"' in seen
    assert "guide/training.html" in seen.split('class="md-search-result__list"')[1].split("</ol>")[0]
