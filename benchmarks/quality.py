"""Quality on public data sets: one run per data set, settings chosen on development rows, the test rows measured once.

    python benchmarks/quality.py conll2003 [--seed 0] [--out runs/] [--set training.lr=2e-4] [--label note] [--rows 2000] [--test-rows 500]

Appends one JSON line to benchmarks/results/quality.jsonl: scores, settings, seconds, machine, seed, date, versions.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from typing import Any

from data import SETS, fewer
from polydetr import Predictor
from polydetr.config.loading import merge, parse_settings
from recording import keep

# fmt: off
SETTINGS: dict[str, dict[str, Any]] = {
    "conll2003": {
        "backbone": "e5-en-pt", "epochs": 4, "text": {"max_tokens": 192, "overlap": 48},
        "training": {"lr": 3e-4, "batch_tokens": 1536},
    },
    "banking77": {"backbone": "minilm", "epochs": 10, "training": {"lr": 3e-4, "head_lr": 3e-3, "label_smoothing": 0.1}},
    "clinc150": {"backbone": "minilm", "epochs": 10, "training": {"lr": 3e-4, "head_lr": 3e-3, "label_smoothing": 0.1}},
    "cluener": {"backbone": "e5-multilingual", "epochs": 4, "time_limit": "55m", "training": {"lr": 2e-4, "ema_decay": 0.99}},
    "tnews": {  # with --rows 24000
        "backbone": "e5-multilingual", "epochs": 1, "time_limit": "14m",
        "training": {"lr": 2e-4, "batch_tokens": 1536, "ema_decay": 0.99, "freeze_layers": 4},
    },
    "chnsenticorp": {
        "backbone": "e5-multilingual", "epochs": 3,
        "training": {"lr": 2e-4, "batch_tokens": 2048, "ema_decay": 0.99, "patience": 0, "evaluations_per_epoch": 2},
    },
    "phrasebank": {
        "backbone": "e5-en-pt", "epochs": 3,
        "training": {"lr": 1.5e-4, "head_lr": 1e-3, "ema_decay": 0.99, "patience": 0, "evaluations_per_epoch": 2},
    },
    "squad": {"backbone": "minilm", "epochs": 2, "training": {"lr": 3e-4}},
    "cmrc2018": {"backbone": "e5-multilingual", "epochs": 2, "training": {"lr": 2e-4}},
    "clothing": {
        "backbone": "mobilenet-v2", "epochs": 8, "image": {"size": 144},
        "training": {"lr": 1e-3, "head_lr": 2e-3, "batch_tokens": 800, "label_smoothing": 0.1},
    },
}
# fmt: on


def run(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """Trains and measures one data set."""
    split = fewer(SETS[name](), given.rows, given.test_rows)
    config = merge(SETTINGS[name.partition("-")[0]], parse_settings(given.settings))
    started, cpu_started = time.perf_counter(), time.process_time()
    predictor = Predictor.fit(
        split.train, split.target, valid=split.valid, test=split.test, inputs=split.inputs,
        out=None if given.out is None else f"{given.out}/{name}", seed=given.seed, config=config,
    )  # fmt: skip
    result = {
        "data": name,
        "label": given.label,
        "metrics": predictor.metrics,
        "tables": {t: dict(e.data) for t, e in predictor._trained.evaluations["test"].items()},
        "settings": config,
        "seed": given.seed,
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - cpu_started, 1),
        "training": predictor.info["training"],
        "history": predictor.info["history"],
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "rows": predictor.info["rows"],
    }
    for tables in predictor.tables.values():
        for title, table in tables.items():
            print(f"{title}\n{table}")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=[*SETS, "phrasebank"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out")
    parser.add_argument("--label", default="")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--rows", type=int, help="train on a part of the rows")
    parser.add_argument("--test-rows", type=int, help="measure on a part of the test rows")
    given = parser.parse_args()
    names = [n for n in SETS if n.startswith("phrasebank")] if given.data == "phrasebank" else [given.data]
    for name in names:
        result = run(name, given)
        print(json.dumps({k: result[k] for k in ("data", "metrics", "seconds", "peak_memory_mb")}))
        keep("quality", result)


if __name__ == "__main__":
    main()
