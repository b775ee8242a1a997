"""polydetr beside AutoGluon-Multimodal (AutoMM) on fashion_products: quality, seconds, latency.

    python benchmarks/automm.py polydetr [--text MINILM] [--epochs 10] [--seed 0]
    OTHER/bin/python benchmarks/automm.py automm [--text MINILM] [--epochs 10] [--seed 0]

Article type (24 classes) from gender, color, season, year and usage; 4,200 training, 600 validation and 1,200 test
rows, the same for both. With --text both read the title too, by the same backbone: MINILM is the folder that
``polydetr backbones fetch minilm`` names. Nothing else is pretrained, so that both run without a network. AutoMM trains
its defaults: the FT-Transformer for tables, joined to the text model by its fusion layer. Latency: one row from
``predict`` to the answer, the median of 30 calls after 5 others.

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
TITLE = "productDisplayName"
COLUMNS = {"gender": "category", "baseColour": "category", "season": "category", "year": "number", "usage": "category"}
Rows = list[dict[str, Any]]
Predict = Callable[[Rows], list[Any]]


def splits() -> dict[str, Rows]:
    import csv

    found: dict[str, Rows] = {"train": [], "val": [], "test": []}
    with (ROOT / "fashion_products" / "styles.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            kept = {c: row[c] or None for c in [*COLUMNS, TITLE, TARGET]}
            found[row["split"]].append(kept | {"year": float(row["year"])})
    return found


def fit_polydetr(train: Rows, valid: Rows, *, text: str | None, epochs: int, seed: int) -> Predict:
    from polydetr import Predictor

    settings: dict[str, Any] = {
        "model": {"embed_dim": 64, "num_layers": 2},
        "training": {"batch_tokens": 640, "head_lr": 2e-3, "patience": 0, "precision": "fp32"},
    }
    inputs = dict(COLUMNS)
    if text:
        settings, inputs = {"training": {"patience": 0}}, {TITLE: "text", **COLUMNS}
    predictor = Predictor.fit(
        train, {TARGET: "classification"}, valid=valid, inputs=inputs, backbone=text or "none", epochs=epochs,
        seed=seed, settings=settings,
    )  # fmt: skip
    return lambda rows: [answer[TARGET] for answer in predictor.predict(rows)]


def fit_automm(train: Rows, valid: Rows, *, text: str | None, epochs: int, seed: int) -> Predict:
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
    settings = {"optim.max_epochs": epochs, "env.num_gpus": 0, "env.num_workers": 0, "env.num_workers_inference": 0}
    if text:
        settings["model.hf_text.checkpoint_name"] = text
    predictor.fit(pandas.DataFrame(train), tuning_data=pandas.DataFrame(valid), seed=seed, hyperparameters=settings)
    return lambda rows: predictor.predict(pandas.DataFrame(rows), realtime=len(rows) == 1).tolist()


def latency(predict: Predict, rows: Rows) -> float:
    """Milliseconds per row, each asked by itself."""
    times = []
    for i in range(35):
        started = time.perf_counter()
        predict([rows[i]])
        times.append(1000 * (time.perf_counter() - started))
    return round(statistics.median(times[5:]), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("who", choices=["polydetr", "automm"])
    parser.add_argument("--text", metavar="MINILM")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rows", type=int, help="train on a part of the rows")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    rows = splits()
    if not arguments.text:
        rows = {name: [{c: row[c] for c in [*COLUMNS, TARGET]} for row in part] for name, part in rows.items()}
    asked = [{c: value for c, value in row.items() if c != TARGET} for row in rows["test"]]
    fit = {"polydetr": fit_polydetr, "automm": fit_automm}[arguments.who]
    started, cpu_started = time.perf_counter(), time.process_time()
    train = rows["train"][: arguments.rows]
    predict = fit(train, rows["val"], text=arguments.text, epochs=arguments.epochs, seed=arguments.seed)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    right = [a == r[TARGET] for a, r in zip(predict(asked), rows["test"], strict=True)]

    result = {
        "who": arguments.who,
        "columns": "title and table" if arguments.text else "table",
        "rows": len(train),
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
