"""What the runtime without PyTorch costs: megabytes installed, seconds to import, seconds to the first answer.

    python benchmarks/install.py                 # makes an environment with polydetr-core alone; needs a package index
    python benchmarks/install.py --keep          # and writes the line to results/install.jsonl

A text classifier is trained here, exported, and asked there. Times are those of whole processes, the least and the median of so many
runs after one that is not counted; of an import, less the time of a process that imports nothing. ``load`` is the system's over the
last minute: on a busy machine times say little.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from clean_environment import Environment, build
from recording import keep

IMPORTS = {
    "nothing": "pass",
    "numpy": "import numpy",
    "package": "import polydetr",
    "predictor": "from polydetr import Predictor",
}
ANSWER = "from polydetr import Predictor; print(Predictor.load(MODEL).predict(['a good film'])[0]['label'])"
ROWS = [
    {"text": f"a {word} film {i}", "label": label}
    for i in range(40)
    for word, label in (("good", "yes"), ("bad", "no"))
]


def exported(folder: Path) -> Path:
    """A small text classifier, as graphs."""
    from polydetr import Predictor

    settings = {"training": {"precision": "fp32", "patience": 0}}
    Predictor.fit(ROWS, "label", backbone="none", epochs=1, settings=settings).export(folder / "model")
    return folder / "model"


def seconds(made: Environment, code: str, *, runs: int) -> list[float]:
    """Of ``runs`` processes, sorted."""
    found = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        made.run("-c", code)
        found.append(time.perf_counter() - began)
    return sorted(found[1:])


def measured(folder: Path, *, runs: int) -> dict[str, Any]:
    wheel = build(folder)["polydetr-core"]["wheel"]
    made = Environment.make(folder / "clean", str(wheel))
    line: dict[str, Any] = {"installed_mb": round(made.bytes / 1e6, 1), "runs": runs}
    times = {name: seconds(made, code, runs=runs) for name, code in IMPORTS.items()}
    idle = times.pop("nothing")[0]
    for name, found in times.items():
        line[f"import_{name}_s"] = [round(found[0] - idle, 3), round(statistics.median(found) - idle, 3)]
    found = seconds(made, ANSWER.replace("MODEL", repr(str(exported(folder)))), runs=runs)
    line["first_answer_s"] = [round(found[0], 3), round(statistics.median(found), 3)]
    return line | {"load": round(os.getloadavg()[0], 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--keep", action="store_true", help="write the line to results/install.jsonl")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        line = measured(Path(folder), runs=options.runs)
    print(json.dumps(keep("install", line) if options.keep else line))


if __name__ == "__main__":
    main()
