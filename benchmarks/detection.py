"""Detection on BCCD (blood cells; 205 training, 87 validation, 72 test images): one run, or one per mechanism switched.

    python benchmarks/detection.py --steps 2000 [--seed 0] [--architecture detr] [--set image.size=320] [--label note]
    python benchmarks/detection.py --steps 2000 --ablation [--only no-refine]

Rows "with denoising" and "no-mosaic" are of versions that had these two; both left (docs/guide/detection.md).

Counted in steps, since a busy machine gives a run of so many minutes fewer of them; ``cpu_seconds`` says what they cost.
Settings are chosen on the validation images; the test images are measured at the end of each run. Appends one JSON
line per run to benchmarks/results/detection.jsonl: scores, settings, seconds, machine, seed, date.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Sequence
from typing import Any

from data import ROOT
from polydetr import Predictor
from polydetr.config.loading import merge, parse_settings
from recording import keep

LISTS = ROOT / "bccd" / "BCCD" / "ImageSets" / "Main"
SETTINGS: dict[str, Any] = {
    "image": {"augment": {"flip_vertical": True}},  # under a microscope nothing is up
    # Five images per step: 205 are 41 full batches.
    "training": {"precision": "bf16", "freeze_layers": 6, "batch_tokens": 5 * 13**2},
}
PUBLISHED: dict[str, Any] = {"training": {"lr": 1e-5, "head_lr": 1e-4, "layer_decay": 1.0, "clip_norm": 0.1}}
"""What DETR's authors train it with."""


def of_task(**options: Any) -> dict[str, Any]:
    """Options of the one target, as settings."""
    return {"tasks": {"objects": options}}


SWITCHED: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "no-refine": of_task(refine=False),
    "no-query-selection": of_task(query_selection=False),
    "no-deformable": of_task(deformable=False),
    "no-iou-aware": of_task(iou_aware=False),
    "no-zoom": of_task(zoom=1.0),
    "no-encoder": of_task(encoder_layers=0),
    "no-ema": {"training": {"ema_decay": 0.0}},
}
FEW = ("map", "map_50", "map_75")


def run(settings: dict[str, Any], *, seed: int, label: str, out: str | None) -> dict[str, Any]:
    """Trains, and measures the test images once."""

    started, worked = time.perf_counter(), time.process_time()
    splits = {
        name: str(LISTS / f"{file}.txt") for name, file in (("train", "train"), ("valid", "val"), ("test", "test"))
    }
    predictor = Predictor.fit(splits["train"], {"objects": "detection"}, valid=splits["valid"], test=splits["test"],
                              seed=seed, config=settings, out=out)  # fmt: skip
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - worked
    evaluation = predictor._trained.evaluations["test"]["objects"]
    history = [
        {k: e[k] for k in ("step", "seconds", "train_loss", "valid_loss")}
        | {k: e["metrics"]["objects"][k] for k in FEW}
        for e in predictor.info["history"]
    ]
    print(evaluation.tables["objects"])
    return {
        "data": "bccd",
        "label": label,
        "metrics": predictor.metrics,
        "labels": evaluation.data["labels"],
        "mistakes": evaluation.data["mistakes"],
        "milliseconds_a_picture": latency(predictor, splits["test"]),
        "settings": settings,
        "seed": seed,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "parameters": predictor.info["parameters"],
        "training": predictor.info["training"],
        "history": history,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def latency(predictor: Predictor, source: str, *, pictures: int = 20) -> dict[str, float]:
    """Milliseconds for one image alone, from the file to the boxes, and of the model by itself; the median."""
    import statistics

    import torch

    from polydetr.data.readers import read_records
    from polydetr.nn.batch import Batch

    engine, whole, model, backbone = predictor._engine, [], [], []
    records = list(read_records(source))[:pictures]
    for record in records[:3] + records:
        started = time.perf_counter()
        predictor.predict([record.row])
        whole.append(time.perf_counter() - started)
        batch = Batch.collate(engine.encoder.encode([record], with_targets=False).examples)
        with torch.inference_mode():
            started = time.perf_counter()
            engine.runner.model(batch)
            model.append(time.perf_counter() - started)
            started = time.perf_counter()
            engine.runner.model.embedders["image"](batch.groups["image"])
            backbone.append(time.perf_counter() - started)
    named = {"file_to_boxes": whole, "model": model, "backbone": backbone}
    return {name: round(1000 * statistics.median(times[3:]), 1) for name, times in named.items()}


def main(first: Sequence[str] = (), **more: Any) -> None:
    """first: arguments before those of the command line. more: stands in the line of every run as it is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int)
    length.add_argument("--minutes", type=float)
    parser.add_argument("--architecture", choices=["detr-fast", "detr"], default="detr-fast")
    parser.add_argument("--ablation", action="store_true", help="one run with each mechanism switched")
    parser.add_argument("--only", choices=[*SWITCHED], action="append", help="of the ablation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--label", default="")
    parser.add_argument("--out")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    arguments = parser.parse_args([*first, *sys.argv[1:]])
    given = merge(SETTINGS, of_task(architecture=arguments.architecture))
    if arguments.architecture == "detr":
        given = merge(given, PUBLISHED)
    # By the clock, the schedule follows the clock: steps are then what fits.
    given["steps"] = arguments.steps or 1_000_000
    if arguments.minutes:
        given["time_limit"] = 60 * arguments.minutes
    given = merge(given, parse_settings(arguments.settings))
    runs = {name: SWITCHED[name] for name in (arguments.only or SWITCHED)} if arguments.ablation else {"": {}}
    for name, changes in runs.items():
        label = " ".join(part for part in (arguments.label, name) if part)
        result = run(merge(given, changes), seed=arguments.seed, label=label, out=arguments.out)
        result |= {"ablation": arguments.ablation, **more}
        test = result["metrics"]["test"]["objects"]
        print(json.dumps({"label": label, "seconds": result["seconds"], **{k: round(test[k], 4) for k in FEW}}))
        keep("detection", result)


if __name__ == "__main__":
    main()
