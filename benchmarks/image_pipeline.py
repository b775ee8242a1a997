"""How fast images are read, resized and augmented, against how fast a model learns from them.

    python benchmarks/image_pipeline.py clothing_small [--count 600] [--size 160] [--backbone mobilenet-v2] [--label note]

Appends one JSON line to benchmarks/results/image_pipeline.jsonl: images per second, each alone, best of three rounds.
The pipeline is fast enough where reading with two threads, less the augmentation, outruns the training step.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch

from data import ROOT
from polydetr import embedders
from polydetr.config.sections import ImageConfig
from polydetr.core.examples import Example
from polydetr.modalities.base import Needs
from polydetr.modalities.image import ImageModality
from polydetr.nn.batch import Batch
from polydetr.nn.cpu.linear import pack
from polydetr.specs.image import load_image_spec
from recording import keep

SETS = {"clothing_small": "train/*/*.jpg", "fashion_products": "images/*.jpg", "coco256": "images/*/*.jpg"}
BATCH = 32


def encode(modality: ImageModality, path: str) -> dict[str, np.ndarray]:
    return dict(modality.encode([{"image": path}]).windows[0].arrays)


def encode_many(modality: ImageModality, paths: list[str]) -> list[dict[str, np.ndarray]]:
    return [encode(modality, path) for path in paths]


def rate(count: int, work: Callable[[], Any], *, rounds: int = 3) -> float:
    """Images per second of the fastest round; one before it brings files and code into memory."""
    work()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return round(count / min(times), 1)


def measure_reading(modality: ImageModality, paths: list[str]) -> dict[str, float]:
    found = {"read_1_thread": rate(len(paths), lambda: [encode(modality, path) for path in paths])}
    with ThreadPoolExecutor(2) as pool:
        found["read_2_threads"] = rate(len(paths), lambda: list(pool.map(lambda path: encode(modality, path), paths)))
    with ProcessPoolExecutor(2) as pool:
        chunks = [paths[i : i + BATCH] for i in range(0, len(paths), BATCH)]
        found["read_2_processes"] = rate(
            len(paths), lambda: list(pool.map(encode_many, [modality] * len(chunks), chunks))
        )
    return found


def measure_model(modality: ImageModality, paths: list[str]) -> dict[str, float]:
    """Augmentation, and what the backbone takes for frozen features, for prediction and for a training step."""
    examples = [Example({"image": encode(modality, path)}) for path in islice(cycle(paths), BATCH)]
    group, generator = Batch.collate(examples).groups["image"], torch.Generator().manual_seed(0)
    embedder = embedders.build(modality, embed_dim=None, others={})
    if weights := embedders.pretrained(modality):
        embedder.load_state_dict(dict(weights), strict=False)

    def predict() -> None:
        with torch.inference_mode():
            embedder(group)

    def train() -> None:
        embedder.zero_grad(set_to_none=True)
        embedder(group).tokens.square().mean().backward()

    found = {"augment": rate(BATCH, lambda: embedder.augment(group, generator)), "train_step": rate(BATCH, train)}
    pack(embedder.eval())
    return found | {"predict": rate(BATCH, predict)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=SETS)
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--backbone", default="mobilenet-v2")
    parser.add_argument("--label", default="")
    arguments = parser.parse_args()
    folder = ROOT / arguments.data
    paths = [str(path) for path in sorted(folder.glob(SETS[arguments.data]))]
    paths = paths[:: max(1, len(paths) // arguments.count)][: arguments.count]
    if not paths:
        raise SystemExit(f"no pictures in {folder}; set POLYDETR_SHARED to the folder of data sets")
    spec = load_image_spec(arguments.backbone)
    modality = ImageModality(["image"], spec, config=ImageConfig(size=arguments.size), needs=Needs(alone=True))
    result = {
        "data": arguments.data,
        "label": arguments.label,
        "pictures": len(paths),
        "mean_bytes": round(float(np.mean([os.path.getsize(path) for path in paths]))),
        "size": arguments.size,
        "backbone": arguments.backbone,
        "pictures_per_second": measure_reading(modality, paths) | measure_model(modality, paths),
        "load_average": os.getloadavg()[0],
    }
    print(json.dumps(keep("image_pipeline", result), indent=1))


if __name__ == "__main__":
    main()
