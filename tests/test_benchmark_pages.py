"""The published figures are those of the result files, and the commands that they come from are still there."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(
    path.name for path in (ROOT / "benchmarks").glob("*.py") if "ArgumentParser" in path.read_text("utf-8")
)


def results(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (ROOT / f"benchmarks/results/{name}.jsonl").read_text("utf-8").splitlines()]


def test_pages_say_what_the_results_say() -> None:
    done = subprocess.run([sys.executable, "benchmarks/report.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stderr}: run python benchmarks/report.py"


def test_the_readmes_show_ten_lines_of_the_page() -> None:
    """Each figure is written in one place, and the short tables are a part of the long one."""
    page = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
    for name in ("README.md", "README.zh-CN.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        rows = text.split("<!-- results -->\n")[1].split("<!-- end of results -->")[0].splitlines()[2:]
        assert len(rows) == 10
        for row in rows:
            *_, result, aim, _ = [cell.strip() for cell in row.split("|")]
            assert f"| {aim} | {result} |" in page, row


def test_every_result_names_machine_seed_and_date() -> None:
    for run in results("quality"):
        assert run["machine"]
        assert run["date"] >= "2026"
        assert isinstance(run["seed"], int)


def test_the_script_holds_the_settings_of_every_published_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    settings = importlib.import_module("quality").SETTINGS
    newest = {run["data"]: run for run in results("quality")}
    differ = [data for data, run in newest.items() if run["settings"] != settings[data.partition("-")[0]]]
    assert not differ


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_every_benchmark_says_how_it_is_used(script: str) -> None:
    if script == "qa_peer.py":
        pytest.importorskip("transformers")
    command = [sys.executable, f"benchmarks/{script}", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"python benchmarks/{script}" in done.stdout
