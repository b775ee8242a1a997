"""Objects in a picture: a set of boxes with labels, found by queries, one each; nothing is suppressed afterwards.

Sources: Carion et al. 2020, DETR (arXiv 2005.12872), and what ``nn.detr_fast`` names.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from polydetr.config import Config, DetectionConfig, TaskConfig
from polydetr.core.examples import IGNORE_INDEX, Arrays
from polydetr.core.layout import FieldText, Layout
from polydetr.core.predictions import Evaluation, Prediction
from polydetr.core.records import Row
from polydetr.errors import ConfigError, SchemaError
from polydetr.metrics.detection import detection_report
from polydetr.nn.batch import Scene
from polydetr.nn.box_geometry import BoxGeometry
from polydetr.nn.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from polydetr.nn.matcher import Matcher
from polydetr.nn.set_loss import SetCriterion
from polydetr.tasks.base import Task, WindowView
from polydetr.tasks.detection_head import DetectionHead, set_targets
from polydetr.values.cells import is_missing
from polydetr.values.objects import Objects, read_objects

MOST = 100
"""Boxes a picture that are measured, as COCO does; of them, those above the threshold are answered."""
SEEN_SHARE = 0.3
"""Share of an object's area that must be left in a cropped picture, for it still to be found there."""
_SMALLEST_SIDE = 0.004


class DetectionTask(Task):
    """Rows hold lists of {"box": [left, top, right, bottom] in pixels, "label"}; [] is a picture without objects, a
    missing value one that nobody looked at.
    """

    kind: ClassVar[str] = "detection"
    per_token: ClassVar[bool] = False
    primary_metric: ClassVar[str] = "map"
    options: ClassVar[frozenset[str]] = frozenset({"labels"})
    tunes: ClassVar[bool] = True
    counts_steps: ClassVar[bool] = True
    reads_maps: ClassVar[bool] = True

    def __init__(self, target: str, config: TaskConfig) -> None:
        super().__init__(target, config)
        self.labels: list[str] = []
        self.detection = DetectionConfig()
        self.threshold = 0.3

    # -- before training --------------------------------------------------------------------------------------------

    def configure(self, config: Config) -> None:
        self.detection = config.detection
        self.threshold = config.detection.threshold if config.detection.threshold is not None else self.threshold
        if config.model.share_decoder:
            if config.detection.architecture == "detr":
                raise ConfigError(
                    "model.share_decoder goes with detr-fast alone, not with detection.architecture = 'detr'.",
                    hint="Leave one of them out.",
                )
            # Words have no scales to sample: a decoder for both reads all cells, as it reads all words.
            self.detection = config.detection.model_copy(update={"deformable": False})
        if config.image.augment.mix != "none":
            raise ConfigError(
                f"image.augment.mix = {config.image.augment.mix!r} does not go with detection: boxes are learned of "
                "pictures that are not blended.",
                hint="Leave it out.",
            )
        if config.training.freeze_backbones:
            raise ConfigError(
                "training.freeze_backbones keeps the coarsest features alone, and detection reads finer ones.",
                hint="Set training.freeze_layers instead.",
            )

    def learn(self, rows: Sequence[Row]) -> list[str]:
        golds = [gold for gold in (self.gold(row, None) for row in rows) if gold is not None]
        counts = Counter(label for gold in golds for label in gold.tags)
        if not counts and not self.config.labels:
            raise SchemaError(
                f"target {self.target!r} has no object in any training row",
                hint="Name the column that holds the boxes.",
            )
        self.labels = self.label_set(counts)
        index = self._index
        most = max((len(gold.arrays(index)[1]) for gold in golds), default=0)
        empty = sum(not gold.items for gold in golds)
        notes = [
            f"{sum(counts.values())} objects of {len(self.labels)} classes in {len(golds)} pictures, at most {most} in "
            f"one, none in {empty}"
        ]
        if missing := len(rows) - len(golds):
            notes.append(f"{missing} of {len(rows)} training rows have no {self.target!r}: they do not train it")
        if most > (queries := self.detection.num_queries):
            full = sum(len(gold.arrays(index)[1]) > queries for gold in golds)
            notes.append(
                f"{full} pictures hold more objects than the model can find, {queries} "
                "(detection.num_queries): the rest of them are not learned"
            )
        return notes

    @property
    def _index(self) -> dict[str, int]:
        return {label: i for i, label in enumerate(self.labels)}

    def gold(self, row: Row, text: FieldText | None) -> Objects | None:
        value = row.get(self.target)
        if not isinstance(value, np.ndarray) and is_missing(value):
            return None
        sides = row.get("width"), row.get("height")
        size = (int(sides[0]), int(sides[1])) if all(isinstance(side, int) for side in sides) else None  # type: ignore[arg-type]
        return read_objects(value, column=self.target, size=size)

    def problems(self, gold: Objects | None) -> Sequence[str]:
        return () if gold is None else gold.told

    def encode_target(self, view: WindowView) -> Arrays:
        """boxes_per_object float32 (T, 4), (cx, cy, w, h) as shares of what the model sees; labels_per_object (T,)."""
        gold: Objects | None = view.golds[0]
        frame = view.groups["image"]["frame"][:1]
        boxes, labels = (gold or Objects(())).arrays(self._index)
        if not len(frame):  # no picture, nothing to find
            boxes, labels, gold = boxes[:0], labels[:0], None
        else:
            shares = boxes * np.tile(frame[0, :2], 2) + np.tile(frame[0, 2:4], 2)
            boxes, kept = _seen(torch.from_numpy(shares), torch.tensor([0.0, 0.0, 1.0, 1.0]))
            boxes, labels = xyxy_to_cxcywh(boxes[kept]).numpy(), labels[kept.numpy()]
        known = np.array(gold is not None, dtype=np.float32)
        return {
            "boxes_per_object": boxes.astype(np.float32), "labels_per_object": labels.astype(np.int64), "known": known
        }  # fmt: skip

    # -- tensors ------------------------------------------------------------------------------------------------------

    def build_head(self, embed_dim: int) -> nn.Module:
        return DetectionHead(
            embed_dim, self.map_channels, grid=self.grid, num_classes=len(self.labels), config=self.detection
        )

    def follow(self, targets: Mapping[str, Tensor], scene: Scene) -> Mapping[str, Tensor]:
        """The objects at their new place; those of which too little is seen are gone."""
        corners = cxcywh_to_xyxy(targets["boxes_per_object"]).unflatten(-1, (2, 2)) * scene.scale[:, None, None]
        low, high = (corners + scene.shift[:, None, None]).aminmax(dim=-2)
        moved, kept = _seen(torch.cat((low, high), dim=-1), scene.window[:, None])
        labels = targets["labels_per_object"].masked_fill(~kept, IGNORE_INDEX)
        return {**targets, "boxes_per_object": xyxy_to_cxcywh(moved), "labels_per_object": labels}

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], weights: Tensor) -> dict[str, Tensor]:
        known = (targets["known"] > 0) & (outputs["frame"][:, 0] != 0)
        if not bool(known.any()):
            return {"set": torch.stack([tensor.float().sum() * 0.0 for tensor in outputs.values()]).sum()}
        wanted = set_targets({name: tensor[known] for name, tensor in targets.items()})
        layers = {name: tensor[known].transpose(0, 1) for name, tensor in outputs.items() if name != "frame"}
        return {"set": self._criterion()(layers, wanted).total}

    def _criterion(self) -> SetCriterion:
        if self.detection.architecture == "detr":
            return SetCriterion(BoxGeometry(), classification="softmax")
        kind = "varifocal" if self.detection.iou_aware else "focal"
        matcher = Matcher("focal", class_weight=2.0)
        return SetCriterion(BoxGeometry(), classification=kind, matcher=matcher)

    # -- answers ------------------------------------------------------------------------------------------------------

    def decode(
        self, outputs: Sequence[Arrays], layouts: Sequence[Layout | None], texts: Sequence[FieldText], num_rows: int
    ) -> list[Prediction]:
        """Boxes in pixels of the picture as its file has it, the surest first; ``details["all"]`` holds the 100 surest,
        whatever their score.
        """
        found = outputs[0]
        frame = found.get("frame")
        if frame is None or not frame[0]:  # a row without a picture
            return [Prediction([], None, {"all": []})]
        scores, labels, boxes = self.surest(found["logits"][-1], found["boxes_cxcywh"][-1])
        pixels = (boxes - np.tile(frame[2:4], 2)) / np.tile(frame[:2], 2)
        pixels = pixels.clip(0, np.tile(frame[4:6], 2))
        every = [
            {"box": [round(float(x), 2) for x in box], "label": self.labels[label], "score": float(score)}
            for box, label, score in zip(pixels, labels, scores, strict=True)
        ]
        return [Prediction([one for one in every if one["score"] >= self.threshold], None, {"all": every})]

    def surest(self, logits: np.ndarray, boxes_cxcywh: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores, labels and boxes (left, top, right, bottom) of the surest pairs of query and class."""
        logits = logits.astype(np.float64)
        if self.detection.architecture == "detr":
            shifted = np.exp(logits - logits.max(-1, keepdims=True))
            scores = (shifted / shifted.sum(-1, keepdims=True))[:, :-1]
        else:
            scores = 1 / (1 + np.exp(-logits))
        order = np.argsort(-scores, axis=None, kind="stable")[:MOST]
        query, label = np.unravel_index(order, scores.shape)
        centre, half = boxes_cxcywh[:, :2], boxes_cxcywh[:, 2:] / 2
        return scores.flat[order], label, np.concatenate((centre - half, centre + half), axis=1)[query]

    def evaluate(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> Evaluation:
        kept = [i for i, gold in enumerate(golds) if gold is not None]
        if not kept:
            raise SchemaError(f"no row has a value for target {self.target!r}: nothing to measure")
        gold = [list(golds[i].items) for i in kept]
        found = [list(predictions[i].details["all"]) for i in kept]
        seen = {one["label"] for objects in gold for one in objects}
        labels = [*self.labels, *sorted(seen - set(self.labels))]
        report = detection_report(gold, found, labels=labels, threshold=self.detection.threshold)
        figures = {"detection": report, "gold": gold, "found": found}
        return Evaluation(report.scores(), {"objects": report.to_text()}, report.to_dict(), figures)

    def tune(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> list[str]:
        if self.detection.threshold is not None or not any(gold is not None and gold.items for gold in golds):
            return []
        report = self.evaluate(predictions, golds).figures["detection"]
        # It is the score of a box: rounded up by a hair elsewhere, that very box would be lost.
        self.threshold = math.floor(float(report.threshold) * 1000) / 1000
        row = report.all_labels
        return [
            f"{self.target!r}: boxes are answered from a score of {self.threshold:.3f} on (validation rows: precision "
            f"{row.precision:.3f}, recall {row.recall:.3f})"
        ]

    # -- state ---------------------------------------------------------------------------------------------------------

    def learned(self) -> dict[str, Any]:
        return {"labels": self.labels, "threshold": self.threshold, "detection": self.detection.model_dump()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.labels, self.threshold = list(state["labels"]), float(state["threshold"])
        known = DetectionConfig.model_fields  # folders of polydetr 0.1 name "denoising" and "mosaic", which left
        self.detection = DetectionConfig(**{name: value for name, value in state["detection"].items() if name in known})


def _seen(boxes_xyxy: Tensor, window_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (..., 4) cut at the window's edges, and which of them (...) are still to be found."""
    low = torch.maximum(boxes_xyxy[..., :2], window_xyxy[..., :2])
    high = torch.minimum(boxes_xyxy[..., 2:], window_xyxy[..., 2:])
    left = (high - low).clamp(min=0)
    whole = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clamp(min=0)
    kept = (left.prod(-1) > SEEN_SHARE * whole.prod(-1)) & (left.amin(-1) >= _SMALLEST_SIDE)
    return torch.cat((low, torch.maximum(low, high)), dim=-1), kept
