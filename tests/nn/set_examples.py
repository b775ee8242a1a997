"""Random answers and targets for the tests of sets; sizes are different primes, one example is empty."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from polydetr.nn.matcher import Matches, SetTargets

LAYERS, BATCH, QUERIES, CLASSES = 2, 3, 11, 5
COUNTS = (7, 0, 4)


def random_outputs(*, logits: int = CLASSES, queries: int = QUERIES, seed: int = 0) -> dict[str, Tensor]:
    """logits (N, B, Q, C) and boxes_cxcywh (N, B, Q, 4), float32."""
    g = torch.Generator().manual_seed(seed)
    boxes = torch.rand(LAYERS, BATCH, queries, 4, generator=g) * torch.tensor([1.0, 1.0, 0.6, 0.4]) + 0.01
    return {"logits": 2 * torch.randn(LAYERS, BATCH, queries, logits, generator=g), "boxes_cxcywh": boxes}


def random_targets(counts: tuple[int, ...] = COUNTS, *, classes: int = CLASSES, seed: int = 1) -> SetTargets:
    g = torch.Generator().manual_seed(seed)
    labels = [torch.randint(classes, (count,), generator=g) for count in counts]
    scale = torch.tensor([1.0, 1.0, 0.5, 0.7])
    return pad_targets(labels, [torch.rand(n, 4, generator=g) * scale + 0.01 for n in counts])


def pad_targets(labels: list[Tensor], boxes_cxcywh: list[Tensor]) -> SetTargets:
    """From one tensor of labels (t,) and of boxes (t, 4) per example; any t may be 0."""
    mask = pad_sequence([torch.ones(len(label), dtype=torch.bool) for label in labels], batch_first=True)
    boxes = pad_sequence(boxes_cxcywh, batch_first=True)
    return SetTargets(pad_sequence(labels, batch_first=True), mask, {"boxes_cxcywh": boxes})


def matched(matches: Matches, layer: int, example: int) -> dict[int, int]:
    """Query → the target that it was matched with, in one layer of one example."""
    here = (matches.layer == layer) & (matches.example == example)
    return dict(zip(matches.query[here].tolist(), matches.target[here].tolist(), strict=True))


def as_hugging_face(targets: SetTargets) -> list[dict[str, Tensor]]:
    boxes = targets.geometry["boxes_cxcywh"]
    return [
        {"class_labels": label[real], "boxes": box[real]}
        for label, box, real in zip(targets.labels, boxes, targets.mask, strict=True)
    ]
