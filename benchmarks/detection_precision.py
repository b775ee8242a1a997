"""What bfloat16 changes in a trained detector: average precision on BCCD's test images, and single answers.

    python benchmarks/detection_precision.py MODEL

MODEL is a folder that ``detection.py --out`` wrote. Both formats answer the same images: BCCD's test split, and the
first photographs of coco256, which are nothing like what the model learned. Of every object that float32 is sure of (a score
of 0.3 or more), the nearest one of the same label that bfloat16 gives is looked up: the largest change of a score and of
a box's side, as a share of the image. Appends a JSON line to benchmarks/results/detection_precision.jsonl.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

from data import ROOT
from detection import FEW, LISTS
from polydetr import Predictor
from polydetr.data.readers import read_records
from recording import keep

PHOTOS = ROOT / "coco256" / "images" / "train2017"
SURE, MOST = 0.3, 32


def changes(exact: list[dict[str, Any]], rounded: list[dict[str, Any]], *, size: tuple[int, int]) -> np.ndarray:
    """(N, 2): change of score and largest change of a coordinate, for each object that ``exact`` is sure of."""
    found, sides = [], np.tile(size, 2)
    for one in exact:
        if one["score"] < SURE:
            continue
        others = [other for other in rounded if other["label"] == one["label"]]
        if not others:  # lost altogether
            found.append((one["score"], 1.0))
            continue
        moved = [float(np.abs(np.subtract(other["box"], one["box"]) / sides).max()) for other in others]
        nearest = int(np.argmin(moved))
        found.append((abs(others[nearest]["score"] - one["score"]), moved[nearest]))
    return np.array(found).reshape(-1, 2)


def compare(models: dict[str, Predictor], rows: list[dict[str, Any]], sizes: list[tuple[int, int]]) -> dict[str, float]:
    answers = {
        name: [found["objects"].details.all for found in model.predictions(rows)] for name, model in models.items()
    }
    seen = np.concatenate(
        [changes(*pair, size=size) for *pair, size in zip(answers["fp32"], answers["bf16"], sizes, strict=True)]
    )
    return {
        "pictures": len(rows),
        "objects": len(seen),
        **{f"{name}_{what}": round(float(how(seen[:, column])), 4) if len(seen) else 0.0
           for column, what in enumerate(("score", "side"))
           for name, how in (("largest", np.max), ("median", np.median))},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    folder = parser.parse_args().model
    from PIL import Image

    models = {name: Predictor.load(folder, precision=name) for name in ("fp32", "bf16")}  # type: ignore[arg-type]
    test = str(LISTS / "test.txt")
    options = models["fp32"].info["config"]["tasks"].get("objects", {})
    line: dict[str, Any] = {"model": options.get("architecture", "detr-fast")}
    for name, model in models.items():
        scores = model.evaluate(test)["objects"]
        line[name] = {metric: round(scores[metric], 4) for metric in FEW}
    column = models["fp32"].schema.names("image")[0]
    rows = [record.row for record in read_records(test)]
    line["bccd"] = compare(models, [{column: row["image"]} for row in rows], [(r["width"], r["height"]) for r in rows])
    photos = sorted(PHOTOS.rglob("*.jpg"))[:MOST]
    line["coco256"] = compare(models, [{column: str(p)} for p in photos], [Image.open(p).size for p in photos])
    print(json.dumps(keep("detection_precision", line)))


if __name__ == "__main__":
    main()
