"""Draws docs/guide/pictures/detection.png: where the queries of a trained detector read, layer by layer.

    python benchmarks/detection_picture.py MODEL [PICTURE]

MODEL is a folder that ``detection.py --out`` wrote; PICTURE is one of BCCD's (MIT license). Of each label the highest-scoring
object is shown: the box with which its query entered the layer (thin), and the points that it read, the larger the more
they weighed; the last panel shows the boxes that are answered.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

from data import ROOT
from polydetr import Predictor
from polydetr.engine.inputs import asked_records
from polydetr.nn.batch import Batch
from polydetr.nn.deformable import DeformableAttention
from polydetr.nn.detr_fast import DetrFast
from polydetr.reports.style import label_colors

TARGET = Path(__file__).resolve().parents[1] / "docs" / "guide" / "pictures" / "detection.png"
PICTURE = ROOT / "bccd" / "BCCD" / "JPEGImages" / "BloodImage_00007.jpg"


def read_by_layer(predictor: Predictor, picture: Path) -> tuple[dict[str, Tensor], list[tuple[Tensor, Tensor, Tensor]]]:
    """The model's outputs, and of each layer the boxes (Q, 4), the points (Q, N, 2) and their weights (Q, N)."""
    engine, seen = predictor._engine, []
    column = predictor.schema.names("image")[0]
    record = next(iter(asked_records([{column: str(picture)}], [column])))
    batch = Batch.collate(engine.encoder.encode([record], with_targets=False).examples)
    head = engine.runner.model.head_of("objects")

    def look(attention: Any, inputs: tuple[Any, ...]) -> None:
        queries, references, *_ = inputs
        points, weights = attention.points(queries, references)
        seen.append((references[0, :, 0].float(), points[0].flatten(1, 3).float(), weights[0].flatten(1).float()))

    detector = next(module for module in head.modules() if isinstance(module, DetrFast))
    readers = [module for module in detector.layers.modules() if isinstance(module, DeformableAttention)]
    handles = [reader.register_forward_pre_hook(look) for reader in readers]
    with torch.inference_mode():
        outputs = engine.runner.model(batch)["objects"]
    for handle in handles:
        handle.remove()
    return {name: tensor[0].float() for name, tensor in outputs.items()}, seen


def draw(predictor: Predictor, picture: Path) -> Figure:
    outputs, layers = read_by_layer(predictor, picture)
    labels = predictor._engine.tasks["objects"].labels  # type: ignore[attr-defined]
    colours, image = label_colors(labels), np.asarray(Image.open(picture).convert("RGB"))
    height, width = image.shape[:2]
    highest = outputs["logits"][-1].argmax(0).tolist()
    figure = Figure(figsize=(11, 2.5), layout="constrained")
    panels = figure.subplots(1, len(layers) + 1)
    titles = [f"layer {number + 1} reads" for number in range(len(layers))] + ["answers"]
    boxes = [layer[0] for layer in layers] + [outputs["boxes_cxcywh"][-1]]
    for number, (panel, title) in enumerate(zip(panels, titles, strict=True)):
        panel.imshow(0.5 * image / 255 + 0.5)
        panel.set(title=title, xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
        for label, query in zip(labels, highest, strict=True):
            x, y, w, h = (boxes[number][query] * torch.tensor([width, height] * 2)).tolist()
            last = number == len(layers)
            outline = Rectangle((x - w / 2, y - h / 2), w, h, fill=False, ec=colours[label], lw=2.5 if last else 1)
            panel.add_patch(outline)
            if last:
                panel.text(x + w / 2 + 8, y, label, color=colours[label], fontsize=8, weight="bold", va="center")
            else:
                points = layers[number][1][query].numpy() * (width, height)
                panel.scatter(*points.T, s=1 + 250 * layers[number][2][query].numpy() / 8, color=colours[label], lw=0)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("picture", nargs="?", type=Path, default=PICTURE)
    arguments = parser.parse_args()
    figure = draw(Predictor.load(arguments.model, precision="fp32"), arguments.picture)
    figure.savefig(TARGET, dpi=100)
    with Image.open(TARGET) as drawn:  # 256 colors are enough for an image of a page
        drawn.convert("RGB").quantize(256).save(TARGET, optimize=True)


if __name__ == "__main__":
    main()
