"""Run by ``test_without_torch`` in a process of its own: rows → encode → recorded outputs → decode → evaluate, with
some packages blocked.

Arguments: packages (comma-separated), model folder, rows (a file), outputs (.npz), answers (to be written), and how:
"file", "memory", or "unmeasured": in memory, and answered alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

BLOCKED = set(sys.argv[1].split(","))
ROOMS = (
    "core", "values", "config", "schema", "specs", "metrics", "tasks", "modalities", "engine", "explain", "inference",
    "runtime",
)  # fmt: skip


class Blocker:
    """Stands before all other finders."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked")


def rooms_imported() -> int:
    """Imports every module of the rooms without torch."""
    count = 0
    for room in ROOMS:
        package = import_module(f"polydetr.{room}")
        for module in walk_packages(package.__path__, f"polydetr.{room}."):
            import_module(module.name)
            count += 1
    return count


def main(folder: Path, rows: Path, recorded: Path, out: Path, how: str) -> None:
    import numpy as np
    from saved_outputs import answers_of

    from polydetr.core.examples import Example
    from polydetr.data.readers import read_records
    from polydetr.engine.engine import Engine
    from polydetr.engine.measure import evaluate_results
    from polydetr.inference.folder import read_manifest
    from polydetr.inference.load import read_parts

    class Recorded:
        """What another process's runner said, call by call."""

        def __init__(self) -> None:
            self.calls: dict[int, dict[int, dict[str, dict[str, Any]]]] = {}
            for key, array in np.load(recorded).items():
                call, example, target, name = key.split("|")
                self.calls.setdefault(int(call), {}).setdefault(int(example), {}).setdefault(target, {})[name] = array
            self.asked = 0

        def run(self, examples: Sequence[Example], targets: Sequence[str], *, seed: int, numbers: Sequence[int]) -> Any:
            found = self.calls[self.asked]
            self.asked += 1
            assert len(found) == len(examples)
            return [{t: a for t, a in found[i].items() if t in targets} for i in range(len(examples))]

    count = rooms_imported()
    manifest = read_manifest(folder)
    modalities, tasks = read_parts(folder, manifest)
    engine = Engine.of(modalities, tasks, Recorded(), context=bool(manifest["context"]))
    given = json.loads(rows.read_text(encoding="utf-8")) if how != "file" else rows
    measured = how != "unmeasured"
    records = list(read_records(given))
    if rows.suffix == ".csv":  # which holds the labels of one target alone
        engine = engine.only("intent")
    results = list(engine.run(records, with_targets=measured))
    evaluations = evaluate_results(engine, results) if measured else {}
    metrics = {t: dict(e.metrics) for t, e in evaluations.items()}
    assert not {name.partition(".")[0] for name in sys.modules} & BLOCKED
    out.write_text(json.dumps({"answers": answers_of(results), "metrics": metrics, "modules": count}), encoding="utf-8")


if __name__ == "__main__":
    sys.meta_path.insert(0, Blocker())  # type: ignore[arg-type]
    main(*map(Path, sys.argv[2:6]), sys.argv[6])
