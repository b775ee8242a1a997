"""Pictures, texts and tables together: what each modality brings, how they are best fused, what a missing one costs.

    python benchmarks/multimodal.py ablation [--withheld 0.5] [--epochs 12] [--seed 0]
    python benchmarks/multimodal.py missing [--withheld 0.5]
    python benchmarks/multimodal.py cache

Data: fashion_products (article type, 24 classes; title, photo, and the columns gender, colour, season, year, usage).
``--withheld``: the share of the rows, of every split, whose title is hidden, the same rows in every run.
Settings are chosen by the validation split; the test split is measured once a run. Backbones are frozen, so that every
run starts from the same features and differs only in what stands on them.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from data import ROOT, Rows, records
from polydetr import Predictor
from polydetr.config import merge, parse_settings
from quality import cpu_name

TARGET = "articleType"
COLUMNS = {
    "text": {"productDisplayName": "text"},
    "image": {"photo": "image"},
    "table": {"gender": "category", "baseColour": "category", "season": "category", "year": "number",
              "usage": "category"},
}  # fmt: skip
SETTINGS: dict[str, Any] = {
    "backbone": {"text": "minilm", "image": "mobilenet-v2"},
    "epochs": 10,
    "image": {"size": 128},
    "model": {"embed_dim": 192},
    "training": {"freeze_backbones": True, "head_lr": 1e-3, "batch_tokens": 1024, "patience": 4},
}
RESULTS = Path(__file__).parent / "results" / "multimodal.jsonl"


def fashion(withheld: float) -> dict[str, Rows]:
    """The three splits; which titles are hidden is decided by the item's number alone."""
    import polars

    frame = polars.read_csv(ROOT / "fashion_products" / "styles.csv", infer_schema_length=None)
    splits: dict[str, list[dict[str, Any]]] = {"train": [], "valid": [], "test": []}
    for row in frame.iter_rows(named=True):
        number = int(hashlib.sha256(str(row["id"]).encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
        row["photo"] = str(ROOT / "fashion_products" / "images" / f"{row['id']}.jpg")
        row["productDisplayName"] = None if number < withheld else row["productDisplayName"]
        splits[row["split"].replace("val", "valid")].append(row)
    return {name: records(rows, "fashion_products") for name, rows in splits.items()}


def run(
    splits: dict[str, Rows], modalities: tuple[str, ...], *, seed: int, settings: dict[str, Any]
) -> tuple[Predictor, dict[str, Any]]:
    """One training run that reads these modalities."""
    inputs = {name: kind for modality in modalities for name, kind in COLUMNS[modality].items()}
    if modalities == ("table",):  # nothing to freeze
        settings = merge(settings, {"training": {"freeze_backbones": False}})
    wanted = {m: b for m, b in settings["backbone"].items() if m in modalities}
    readable = splits  # a row of which nothing can be read is refused: such rows count as wrong
    if modalities == ("text",):
        readable = {s: [r for r in rows if r.row["productDisplayName"]] for s, rows in splits.items()}
    started = time.perf_counter()
    predictor = Predictor.fit(
        readable["train"], {TARGET: "classification"}, valid=readable["valid"], test=readable["test"], inputs=inputs,
        seed=seed, config=merge(settings, {"backbone": wanted or "none"}),
    )  # fmt: skip
    scores = {split: predictor.metrics[split][TARGET]["accuracy"] for split in ("valid", "test")}
    common = max(share(splits["train"]).values())
    for split in scores:  # rows without the only modality get the commonest class
        part = len(readable[split]) / len(splits[split])
        scores[split] = part * scores[split] + (1 - part) * common
    return predictor, {
        "modalities": list(modalities),
        "accuracy": scores,
        "parameters": encoder_parameters(predictor),
        "seconds": round(time.perf_counter() - started, 1),
        "training_seconds": predictor.info["training"]["seconds"],
    }


def share(rows: Rows) -> dict[str, float]:
    """Each class's share of the rows."""
    labels = [r.row[TARGET] for r in rows]
    return {label: labels.count(label) / len(labels) for label in set(labels)}


def encoder_parameters(predictor: Predictor) -> int:
    """What stands on the backbones and learns: the encoder alone."""
    from polydetr.nn.encoder import count_parameters

    return count_parameters(predictor._engine.model.encoder)


def ablation(splits: dict[str, Rows], *, seed: int, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Each modality alone, all pairs, all; then the two fusions and every sharing option with all of them."""
    names = tuple(COLUMNS)
    subsets = [s for size in (1, 2, 3) for s in itertools.combinations(names, size)]
    plans: list[tuple[tuple[str, ...], dict[str, Any]]] = [(s, {}) for s in subsets]
    plans += [(names, {"fusion": "sum"})]
    plans += [(names, {"fusion": fusion, "share": s}) for fusion in ("joint", "sum")
              for s in ("modalities", "layers", "both")]  # fmt: skip
    found = []
    for modalities, model in plans:
        _, result = run(splits, modalities, seed=seed, settings=merge(settings, {"model": model}))
        found.append(result | {"fusion": model.get("fusion", "joint"), "share": model.get("share", "none")})
        print(json.dumps(found[-1]), flush=True)
    return found


def missing(splits: dict[str, Rows], *, seed: int, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """One model that reads everything, asked with each modality hidden."""
    predictor, result = run(splits, tuple(COLUMNS), seed=seed, settings=settings)
    found = [result | {"hidden": "nothing", "test": result["accuracy"]["test"]}]
    for modality, columns in COLUMNS.items():
        hidden = records([{**r.row, **dict.fromkeys(columns)} for r in splits["test"]], "fashion_products")
        answers = predictor.predict(hidden)
        right = sum(a[TARGET] == r.row[TARGET] for a, r in zip(answers, hidden, strict=True))
        found.append({"hidden": modality, "test": right / len(hidden)})
        print(json.dumps(found[-1]), flush=True)
    return found


def cache(splits: dict[str, Rows], *, seed: int, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """An epoch with features computed once against one that computes them anew; the results must be the same."""
    import polydetr.training.fit as fit_module
    from polydetr.training.features import freeze_backbones

    found: dict[str, Any] = {}
    rows = {name: part[: 1500 if name == "train" else 200] for name, part in splits.items()}
    settings = merge(settings, {"epochs": 2, "training": {"patience": 0, "modality_dropout": 0.0},
                                "image": {"augment": {"flip": False, "crop": 1.0, "color": 0.0}}})  # fmt: skip
    original = fit_module.with_features

    def recomputing(engine: Any, store: Any, valid: Any) -> Any:
        freeze_backbones(engine.model)
        return engine, store

    for name, function in (("cached", original), ("recomputed", recomputing)):
        fit_module.with_features = function
        predictor, result = run(rows, tuple(COLUMNS), seed=seed, settings=settings)
        first, last = (entry["seconds"] for entry in predictor.info["history"])
        found[name] = {
            "epoch_seconds": round(last - first, 2),  # the second epoch, with its evaluation
            "valid_loss": [entry["valid_loss"] for entry in predictor.info["history"]],
            "accuracy": result["accuracy"],
        }
        print(json.dumps({name: found[name]}), flush=True)
    fit_module.with_features = original
    found["ratio"] = round(found["recomputed"]["epoch_seconds"] / found["cached"]["epoch_seconds"], 2)
    return [found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["ablation", "missing", "cache"])
    parser.add_argument("--withheld", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    arguments = parser.parse_args()
    import torch

    settings = merge(SETTINGS, parse_settings(arguments.settings))
    measure = {"ablation": ablation, "missing": missing, "cache": cache}[arguments.what]
    runs = measure(fashion(arguments.withheld), seed=arguments.seed, settings=settings)
    result = {
        "what": arguments.what,
        "withheld": arguments.withheld,
        "runs": runs,
        "settings": settings,
        "seed": arguments.seed,
        "machine": f"{cpu_name()}, {os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads",
        "date": datetime.now(UTC).date().isoformat(),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(result, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
