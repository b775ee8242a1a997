"""polydetr beside AutoGluon-Multimodal (AutoMM) on the table columns of fashion_products: quality, seconds, latency.

    python benchmarks/automm.py polydetr [--epochs 10] [--seed 0]
    OTHER/bin/python benchmarks/automm.py automm [--epochs 10] [--seed 0]

Article type (24 classes) from gender, colour, season, year and usage; 4,200 training, 600 validation and 1,200 test
rows, the same for both. No pretrained weights are needed, so that both run without a network. AutoMM trains its default
for tables, the FT-Transformer. Latency: one row from ``predict`` to the answer, the median of 30 calls after 5 others.

The environment of AutoMM 1.6.3 (it cannot share ours): torch 2.13.0+cpu, torchvision 0.28.0 without its operators
(below), and the packages that AutoMM names, installed with ``--no-deps``; a torchvision for the CPU would do as well.
Appends one JSON line to benchmarks/results/automm.jsonl.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recording import keep

ROOT = Path(os.environ.get("POLYDETR_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"
TARGET = "articleType"
COLUMNS = {"gender": "category", "baseColour": "category", "season": "category", "year": "number", "usage": "category"}
Rows = list[dict[str, Any]]
Predict = Callable[[Rows], list[Any]]


def splits() -> dict[str, Rows]:
    import csv

    found: dict[str, Rows] = {"train": [], "val": [], "test": []}
    with (ROOT / "fashion_products" / "styles.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found[row["split"]].append({c: row[c] or None for c in [*COLUMNS, TARGET]} | {"year": float(row["year"])})
    return found


def fit_polydetr(train: Rows, valid: Rows, *, epochs: int, seed: int) -> Predict:
    from polydetr import Predictor

    settings = {
        "model": {"embed_dim": 64, "num_layers": 2},
        "training": {"batch_tokens": 640, "head_lr": 2e-3, "patience": 0, "precision": "fp32"},
    }
    predictor = Predictor.fit(
        train, {TARGET: "classification"}, valid=valid, inputs=COLUMNS, backbone="none", epochs=epochs, seed=seed,
        settings=settings,
    )  # fmt: skip
    return lambda rows: [answer[TARGET] for answer in predictor.predict(rows)]


def fit_automm(train: Rows, valid: Rows, *, epochs: int, seed: int) -> Predict:
    import torch

    # A torchvision built for CUDA stops at import on a torch without it, for want of these operators: declared, never
    # called.
    library = torch.library.Library("torchvision", "DEF")
    plain = ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d")
    for name in ("nms", "qnms", "qroi_align", *plain, *(f"_{name}_backward" for name in plain)):
        library.define(f"{name}(Tensor a) -> Tensor")
    import pandas
    from autogluon.multimodal import MultiModalPredictor

    predictor = MultiModalPredictor(label=TARGET, problem_type="multiclass", path=tempfile.mkdtemp(), verbosity=0)
    predictor.fit(
        pandas.DataFrame(train), tuning_data=pandas.DataFrame(valid), seed=seed,
        hyperparameters={
            "optim.max_epochs": epochs, "env.num_gpus": 0, "env.num_workers": 0, "env.num_workers_inference": 0,
        },
    )  # fmt: skip
    return lambda rows: predictor.predict(pandas.DataFrame(rows), realtime=len(rows) == 1).tolist()


def latency(predict: Predict, rows: Rows) -> float:
    """Milliseconds a row, each asked by itself."""
    times = []
    for i in range(35):
        started = time.perf_counter()
        predict([rows[i]])
        times.append(1000 * (time.perf_counter() - started))
    return round(statistics.median(times[5:]), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("who", choices=["polydetr", "automm"])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    rows = splits()
    asked = [{column: row[column] for column in COLUMNS} for row in rows["test"]]
    fit = {"polydetr": fit_polydetr, "automm": fit_automm}[arguments.who]
    started, cpu_started = time.perf_counter(), time.process_time()
    predict = fit(rows["train"], rows["val"], epochs=arguments.epochs, seed=arguments.seed)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    right = [a == r[TARGET] for a, r in zip(predict(asked), rows["test"], strict=True)]

    result = {
        "who": arguments.who,
        "epochs": arguments.epochs,
        "accuracy": round(sum(right) / len(right), 4),
        "fit_seconds": round(seconds, 1),
        "fit_cpu_seconds": round(cpu_seconds, 1),
        "one_row_ms": latency(predict, asked),
        "seed": arguments.seed,
    }
    print(json.dumps(keep("automm", result), indent=1))


if __name__ == "__main__":
    main()
