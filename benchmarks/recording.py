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
    """The processor as the system names it, with family and model, which tell apart those of one name, and its last cache."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or platform.machine()
    lines = (line.partition(":") for line in info.read_text().split("\n\n")[0].splitlines())
    found = {name.strip(): value.strip() for name, _, value in lines}
    name = found.get("model name", platform.machine())
    parts = [f"{part} {found[key]}" for part, key in (("family", "cpu family"), ("model", "model")) if key in found]
    caches = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"))
    if caches:
        parts.append(f"L{(caches[-1] / 'level').read_text().strip()} cache {(caches[-1] / 'size').read_text().strip()}")
    return f"{name} ({', '.join(parts)})" if parts else name


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
