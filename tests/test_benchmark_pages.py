"""The published figures are those of the result files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_pages_say_what_the_results_say() -> None:
    done = subprocess.run([sys.executable, "benchmarks/report.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stderr}: run python benchmarks/report.py"


def test_every_result_names_machine_seed_and_date() -> None:
    lines = (ROOT / "benchmarks/results/quality.jsonl").read_text(encoding="utf-8").splitlines()
    for run in map(json.loads, lines):
        assert run["machine"]
        assert run["date"] >= "2026"
        assert isinstance(run["seed"], int)
