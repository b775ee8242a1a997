"""Where every benchmark puts what it measured: one JSON line, with the machine and the date, in benchmarks/results/."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"


def cpu_name() -> str:
    """The processor as the system names it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def stamp() -> dict[str, str]:
    """The machine, the version of torch with its threads, and the day."""
    import torch

    machine = f"{cpu_name()}, {os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads"
    return {"machine": machine, "date": datetime.now(UTC).date().isoformat()}


def keep(name: str, line: Mapping[str, Any]) -> dict[str, Any]:
    """Appends the line, stamped, to results/NAME.jsonl, and gives it back."""
    stamped = {**line, **stamp()}
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(stamped, ensure_ascii=False) + "\n")
    return stamped
