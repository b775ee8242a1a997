"""Images, texts and tables together: what each modality brings, how they are best fused, what a missing one costs.

    python benchmarks/multimodal.py ablation [--withheld 0.5] [--seeds 0 1 2] [--only text image+table joint/layers]
    python benchmarks/multimodal.py cache --set image.size=160 --set model.num_layers=1 --set training.batch_tokens=2048

ablation  each modality alone, all pairs, all three, and that model asked with each modality hidden; then the other
          fusion and every sharing option on all three
cache     an epoch from features computed once against one that computes them anew; the results must be the same

Data: fashion_products (article type, 24 classes; title, photo, and the columns gender, color, season, year, usage).
``--withheld``: the share of the rows, of every split, whose title is hidden, the same rows in every run.
Settings are chosen by the validation split; the test split is measured once per run. Backbones are frozen, so that every
run starts from the same features and differs only in what stands on them. One JSON line per seed goes to
benchmarks/results/multimodal.jsonl; ``--only`` adds to the line of the same settings.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, ClassVar, get_args

import numpy as np

import polydetr.training.fit as fit_module
from data import ROOT, Rows, records
from polydetr import Predictor
from polydetr.config.loading import merge, parse_settings
from polydetr.nn.encoder import Share
from polydetr.training.encode import MeasuredRows
from polydetr.training.features import freeze_backbones
from polydetr.training.loop import Loop
from recording import FOLDER, stamp

TARGET = "articleType"
COLUMNS = {
    "text": {"productDisplayName": "text"},
    "image": {"photo": "image"},
    "table": {"gender": "category", "baseColour": "category", "season": "category", "year": "number",
              "usage": "category"},
}  # fmt: skip
SETTINGS: dict[str, Any] = {
    "backbone": {"text": "minilm", "image": "mobilenet-v2"},
    "epochs": 6,
    "image": {"size": 96},
    "model": {"embed_dim": 96, "num_layers": 2, "dropout": 0.0},
    "training": {"freeze_backbones": True, "head_lr": 1e-3, "batch_tokens": 1024, "patience": 0},
}
ALL = tuple(COLUMNS)
PLANS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    **{"+".join(s): (s, {}) for size in (1, 2, 3) for s in itertools.combinations(ALL, size)},
    **{
        f"{fusion}/{share}": (ALL, {"fusion": fusion, "share": share})
        for fusion in ("joint", "sum")
        for share in get_args(Share)
        if (fusion, share) != ("joint", "none")
    },
}
"""Name → (modalities, what of the encoder is set)."""


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
        **{key: predictor.info["model"][key] for key in ("fusion", "share")},
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
    return sum(p.numel() for p in predictor._engine.runner.model.encoder.parameters())


def without_each(predictor: Predictor, rows: Rows) -> list[dict[str, Any]]:
    """Accuracy of the same model where one modality of every row is missing."""
    found = [{"hidden": "nothing", "test": predictor.metrics["test"][TARGET]["accuracy"]}]
    for modality, columns in COLUMNS.items():
        answers = predictor.predict([{**r.row, **dict.fromkeys(columns)} for r in rows])
        right = sum(a[TARGET] == r.row[TARGET] for a, r in zip(answers, rows, strict=True))
        found.append({"hidden": modality, "test": right / len(rows)})
    return found


def cache(splits: dict[str, Rows], *, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """The second epoch, with its evaluation, both ways; chance that would differ between the two is switched off.

    Seconds of the processor: the clock on the wall would count whatever else the machine is doing.
    """
    rows = {name: part[: 600 if name == "train" else 100] for name, part in splits.items()}
    settings = merge(settings, {"epochs": 2, "training": {"patience": 0, "modality_dropout": 0.0},
                                "image": {"augment": {"flip": False, "crop": 1.0, "color": 0.0}}})  # fmt: skip
    found: dict[str, Any] = {}
    for name in ("cached", "recomputed"):
        TimedLoop.evaluated = []
        with nullcontext() if name == "cached" else recomputing():
            predictor, result = run(rows, ALL, seed=seed, settings=settings)
        found[name] = {
            "epoch_seconds": round(TimedLoop.evaluated[1] - TimedLoop.evaluated[0], 2),
            "valid_loss": [entry["valid_loss"] for entry in predictor.info["history"]],
            "accuracy": result["accuracy"],
        }
    # Rows are padded otherwise, so that sums are rounded otherwise.
    np.testing.assert_allclose(found["cached"]["valid_loss"], found["recomputed"]["valid_loss"], rtol=0.01)
    found["ratio"] = round(found["recomputed"]["epoch_seconds"] / found["cached"]["epoch_seconds"], 2)
    return found


class TimedLoop(Loop):
    """Keeps the processor's seconds at the end of every evaluation."""

    evaluated: ClassVar[list[float]] = []

    def _evaluate(self, valid: MeasuredRows, batches: int) -> None:
        super()._evaluate(valid, batches)
        self.evaluated.append(time.process_time())


@contextmanager
def recomputing() -> Iterator[None]:
    """Inside, frozen backbones read every row anew in every epoch, as one would without a cache."""
    original = fit_module.with_features

    def as_they_are(assembly: Any, rows: Any) -> Any:
        for name in freeze_backbones(assembly.model):
            backbone = assembly.model.embedders[name].backbone.eval()
            backbone.train = lambda mode=True, backbone=backbone: backbone  # no dropout where nothing is learned
        return rows

    fit_module.with_features = as_they_are
    try:
        yield
    finally:
        fit_module.with_features = original


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["ablation", "cache"])
    parser.add_argument("--withheld", type=float, default=0.0)
    parser.add_argument(
        "--only", nargs="+", help="some of the plans: text, text+image, ..., or sum/none, joint/layers, ..."
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--label", default="")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    arguments = parser.parse_args()
    settings = merge(SETTINGS, parse_settings(arguments.settings))
    splits = fashion(arguments.withheld)
    for seed in arguments.seeds:
        about = {"label": arguments.label, "withheld": arguments.withheld, "settings": settings, "seed": seed}
        if arguments.what == "cache":
            fit_module.Loop = TimedLoop
            write({"what": "cache", **about}, [cache(splits, seed=seed, settings=settings)])
            continue
        for name in arguments.only or PLANS:
            modalities, model = PLANS[name]
            predictor, result = run(splits, modalities, seed=seed, settings=merge(settings, {"model": model}))
            write({"what": "ablation", **about}, [result])
            if name == "+".join(ALL):
                write({"what": "missing", **about}, without_each(predictor, splits["test"]))


def write(about: dict[str, Any], runs: list[dict[str, Any]]) -> None:
    """Adds runs to the line of the same settings, or begins it."""
    print(json.dumps(runs), flush=True)
    path = FOLDER / "multimodal.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    before = [line for line in lines if about.items() <= line.items()]
    line = about | {"runs": [run for old in before for run in old["runs"]] + runs} | stamp()
    kept = [json.dumps(line, ensure_ascii=False) for line in [*(old for old in lines if old not in before), line]]
    path.write_text("\n".join(kept) + "\n")


if __name__ == "__main__":
    main()
