"""Objects in an image: a set of boxes with labels, one per query, without non-maximum suppression.

Sources: Carion et al. 2020, DETR (arXiv 2005.12872), and what ``nn.detr_fast`` names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from polydetr.core.examples import IGNORE_INDEX, Arrays
from polydetr.core.layout import FieldText, Layouts
from polydetr.core.predictions import Baseline, Details, Evaluation, Prediction
from polydetr.core.records import Row
from polydetr.core.tables import AnswerColumn, listed
from polydetr.errors import ConfigError, Location, SchemaError
from polydetr.metrics.box_matching import as_objects, match_image
from polydetr.metrics.detection import detection_report
from polydetr.metrics.figures import BoxFigures
from polydetr.tasks.base import (
    NOTHING_KNOWN,
    DecoderOptions,
    Labels,
    LearnedState,
    Task,
    TaskContext,
    WindowView,
    details_of,
    label_set,
    labels_schema,
)
from polydetr.tasks.confidence import withhold_items
from polydetr.tasks.explained import Answer, Counterpart, Reading
from polydetr.tasks.learned_objects import learned_objects, left_out_objects, refuse_shares
from polydetr.values.boxes import SMALLEST_SIDE, cxcywh_to_xyxy, seen_boxes, xyxy_to_cxcywh
from polydetr.values.cells import is_missing
from polydetr.values.framing import Frame
from polydetr.values.objects import Objects, read_objects

MOST = 100
"""Boxes per image that are measured, as COCO does; those of them above the threshold are answered."""
_REMOVED = {
    "denoising": "it costs a fifth of the time and gives nothing (docs/guide/detection.md)",
    "mosaic": "it gives nothing that shows (docs/guide/detection.md)",
}


class DetectionOptions(DecoderOptions):
    """Boxes around objects. The switches below ``decoder_layers`` concern "detr-fast" alone, not "detr" of 2020."""

    architecture: Literal["detr-fast", "detr"] = Field(
        default="detr-fast", description="detr: as published in 2020, which needs many more steps"
    )
    num_queries: int = Field(default=100, ge=1, le=2000, description="objects that can be found in an image")
    hidden_dim: int | None = Field(default=None, ge=16, le=1024, description="default: 128, detr 256")
    encoder_layers: int | None = Field(default=None, ge=0, le=24, description="default: 1, detr 6")
    decoder_layers: int | None = Field(default=None, ge=1, le=24, description="default: 3, detr 6")
    query_selection: bool = Field(default=True, description="queries begin where the image looks like an object")
    deformable: bool = Field(default=True, description="queries read a few points of every scale, not all cells")
    refine: bool = Field(default=True, description="each layer moves the boxes of the one before")
    iou_aware: bool = Field(default=True, description="scores learn to say how well the box fits")
    zoom: float = Field(
        default=0.6, gt=0, le=1, description="smallest side at which training images are shown; 1 = off"
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_removed_options(cls, options: Any) -> Any:
        for name, reason in _REMOVED.items():
            if isinstance(options, Mapping) and name in options:
                raise ValueError(f"{name!r} was removed, for {reason}; leave it out")
        return options


@dataclass(frozen=True)
class BoxDetails(Details):
    """all: the 100 highest-scoring boxes, whatever their score, as {"box", "label", "score"}."""

    all: Sequence[Mapping[str, Any]]


class DetectionTask(Task):
    """Rows hold lists of {"box": [left, top, right, bottom] in pixels, "label"}; [] is an image without objects, a
    missing value an image that is not labeled.
    """

    kind: ClassVar[str] = "detection"
    primary_metric: ClassVar[str] = "map"
    padded: ClassVar[Mapping[str, int]] = {"boxes_cxcywh": 0, "labels": IGNORE_INDEX}
    tunes_answers: ClassVar[bool] = True
    answer_unit: ClassVar[str] = "box"
    rescales: ClassVar[bool] = True
    evaluations_per_run: ClassVar[int] = 10

    class Learned(LearnedState):
        labels: Labels
        threshold: float = Field(ge=0, le=1)

    Options = DetectionOptions
    options: DetectionOptions

    def __init__(self, target: str, options: DetectionOptions, *, context: TaskContext = NOTHING_KNOWN) -> None:
        super().__init__(target, _fitted(options, context), context=context)
        self.labels: list[str] = []
        self.threshold = options.threshold if options.threshold is not None else 0.3

    @property
    def zoom(self) -> float:
        return self.options.zoom

    # -- before training ----------------------------------------------------------------------------------------------

    def learn(self, rows: Sequence[Row]) -> list[str]:
        labeled = [(Location(row=i), self.gold(row, None)) for i, row in enumerate(rows, 1)]
        golds = [gold for _, gold in labeled if gold is not None]
        refuse_shares(self.target, golds)
        in_rows = {item["label"] for gold in golds for item in gold.learned}
        if not in_rows and not self.options.labels:
            self.learned_from(labeled)  # says why, where that is known
            raise SchemaError(
                f"target {self.target!r} has no object in any training row",
                hint="Name the column that holds the boxes. What reading left out is told above: boxes outside their "
                "images were drawn on images of another size.",
            )
        self.labels = label_set(self.target, self.options.labels, in_rows)
        messages = self.missing_in_some(golds, rows)
        full = sum(len(gold.learned) > self.options.num_queries for gold in golds)
        if full:
            queries = self.options.num_queries
            messages.append(
                f"{full} images hold more objects than the model can find, {queries} "
                f"(tasks.{self.target}.num_queries): the rest of them are not learned"
            )
        return messages

    @property
    def _index(self) -> dict[str, int]:
        return {label: i for i, label in enumerate(self.labels)}

    def learned_from(self, labeled: Sequence[tuple[Location, Objects | None]]) -> list[str]:
        return learned_objects(self.target, self.labels, [(place, gold) for place, gold in labeled if gold is not None])

    def left_out(self, labeled: Sequence[tuple[Location, Objects | None]]) -> list[str]:
        return left_out_objects(self.target, [(place, gold) for place, gold in labeled if gold is not None])

    def gold(self, row: Row, text: FieldText | None) -> Objects | None:
        value = row.get(self.target)
        if not isinstance(value, np.ndarray) and is_missing(value):
            return None
        return read_objects(value, column=self.target)

    def on_image(self, gold: Objects | None, image: Arrays) -> Objects | None:
        """Columns called width and height may hold anything: it is the image itself that boxes are cut at."""
        if gold is None or not len(image["frame"]):
            return gold
        return gold.on_image(Frame(*image["frame"][0].tolist()), image["pixels"].shape[-1])

    def problems(self, gold: Objects | None) -> Sequence[str]:
        return () if gold is None else gold.problems

    def unseen(self, gold: Objects) -> list[str]:
        return [label for label in gold.labels if label not in self.labels]

    def encode_target(self, view: WindowView) -> Arrays:
        """boxes_cxcywh float32 (T, 4), as shares of the square that the model reads; labels int64 (T,); known float32
        ().
        """
        gold: Objects | None = view.golds[0]
        image = view.groups["image"]
        boxes, labels = (gold or Objects(())).arrays(self._index)
        if not len(image["frame"]):  # no image, nothing to find
            boxes, labels, gold = boxes[:0], labels[:0], None
        else:
            shares = Frame(*image["frame"][0].tolist()).to_shares(boxes)
            boxes, kept = seen_boxes(shares, SMALLEST_SIDE / image["pixels"].shape[-1])
            boxes, labels = xyxy_to_cxcywh(boxes[kept]), labels[kept]
        known = np.array(gold is not None, dtype=np.float32)
        return {"boxes_cxcywh": boxes.astype(np.float32), "labels": labels.astype(np.int64), "known": known}

    # -- answers ------------------------------------------------------------------------------------------------------

    def decode(self, outputs: Sequence[Arrays], layouts: Layouts, texts: Sequence[FieldText]) -> list[Prediction]:
        """Boxes in pixels of the original image, the highest-scoring first."""
        first = outputs[0]
        frame = Frame(*first["frame"].tolist()) if "frame" in first else None
        if frame is None or not frame.scale_x:  # a row without an image
            return [Prediction([], None, BoxDetails([]))]
        scores, labels, boxes = self.highest_scoring(first["logits"][-1], first["boxes_cxcywh"][-1])
        pixels = frame.to_pixels(boxes)
        every = [
            {"box": [round(float(x), 2) for x in box], "label": self.labels[label], "score": float(score)}
            for box, label, score in zip(pixels, labels, scores, strict=True)
        ]
        answered = [one for one in every if one["score"] >= self.threshold]
        value = [{**one, "probability": self.calibration(one["score"])} for one in answered]
        return [Prediction(value, None, BoxDetails(every))]

    def answer_schema(self) -> dict[str, Any]:
        box = {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4}
        box["description"] = "left, top, right, bottom, in pixels of the image as it was sent"
        properties = {"box": box, "label": labels_schema(self.labels), "score": {"type": "number"}}
        properties |= {"probability": {"type": "number"}, "abstained": {"type": "boolean"}}
        return {"type": "array", "items": {"type": "object", "properties": properties, "required": ["box", "label"]}}

    def answer_columns(self, *, probabilities: bool = False) -> list[AnswerColumn]:
        return listed(self.target, lambda box: f"{box['label']} {box['probability']:.2f}")

    def judge(self, prediction: Prediction, gold: Objects) -> list[tuple[float, bool]]:
        """Every answered box: right where it overlaps a true box of its label by half, as COCO counts; boxes on crowds
        are neither right nor wrong.
        """
        index = {label: i for i, label in enumerate({*self.labels, *gold.labels})}
        answered = [{**one, "score": one["probability"]} for one in prediction.value]
        match = match_image(as_objects(list(gold.items), index, row=0), as_objects(answered, index, row=0, scored=True))
        right, ignored = match.right[0, 0], match.ignored[0, 0]  # of any area, at an overlap of 0.5
        return list(zip(match.predicted.scores[~ignored].tolist(), right[~ignored].tolist(), strict=True))

    def withhold(self, prediction: Prediction, least: float) -> Prediction:
        return withhold_items(prediction, least)

    def highest_scoring(
        self, logits: np.ndarray, boxes_cxcywh: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """logits (Q, C), boxes_cxcywh (Q, 4) of one layer → the ``MOST`` highest-scoring pairs of query and class:
        scores (N,), numbers of the labels (N,), boxes (N, 4) as left, top, right, bottom.
        """
        logits = logits.astype(np.float64)
        if self.options.architecture == "detr":
            shifted = np.exp(logits - logits.max(-1, keepdims=True))
            scores = (shifted / shifted.sum(-1, keepdims=True))[:, :-1]
        else:
            scores = 1 / (1 + np.exp(-logits))
        order = np.argsort(-scores, axis=None, kind="stable")[:MOST]
        query, label = np.unravel_index(order, scores.shape)
        return scores.flat[order], label, cxcywh_to_xyxy(boxes_cxcywh)[query]

    def baseline(self, golds: Sequence[Objects]) -> Baseline | None:
        """Of no object at all."""
        return Baseline("map", 0.0) if any(gold.items for gold in golds) else None

    def evaluate(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> Evaluation:
        """Precision, recall, F1 and mistakes are of the boxes that are answered, mAP of all boxes."""
        return self._measured(predictions, golds, threshold=self.threshold)

    def _measured(
        self, predictions: Sequence[Prediction], golds: Sequence[Any], *, threshold: float | None
    ) -> Evaluation:
        """threshold: None: the one that is best on these rows."""
        pairs = self.labeled(predictions, golds)
        gold = [list(objects.items) for _, objects in pairs]
        predicted = [list(details_of(p, BoxDetails).all) for p, _ in pairs]
        in_rows = {one["label"] for objects in gold for one in objects}
        labels = [*self.labels, *sorted(in_rows - set(self.labels))]
        report = detection_report(gold, predicted, labels=labels, threshold=threshold)
        figures = BoxFigures(report, gold, predicted, [i for i, objects in enumerate(golds) if objects is not None])
        return Evaluation(report.scores(), {"objects": report.to_text()}, report.to_dict(), figures)

    def tune(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> list[str]:
        if self.options.threshold is not None or not any(gold is not None and gold.items for gold in golds):
            return []
        figures = self._measured(predictions, golds, threshold=None).figures
        assert isinstance(figures, BoxFigures)
        report = figures.report
        # It is the score of a box, which must stay above the threshold when scores differ in the last digits.
        self.threshold = math.floor(float(report.threshold) * 1000) / 1000
        row = report.all_labels
        return [
            f"{self.target!r}: boxes are answered from a score of {self.threshold:.3f} on (validation rows: precision "
            f"{row.precision:.3f}, recall {row.recall:.3f})"
        ]

    # -- state ---------------------------------------------------------------------------------------------------------

    def answer_of(self, reading: Reading, choice: Any, *, counterpart: Counterpart) -> Answer:
        """choice: the number of an object, from 0."""
        from polydetr.tasks.explained_objects import ObjectAnswer

        return ObjectAnswer.of(self, reading, details_of(reading.prediction, BoxDetails), choice)

    def learned(self) -> dict[str, Any]:
        return {"labels": self.labels, "threshold": self.threshold}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.labels, self.threshold = state["labels"], state["threshold"]


def _fitted(options: DetectionOptions, context: TaskContext) -> DetectionOptions:
    """The options with the sizes of the shared decoder, where there is one.

    Raises:
        ConfigError: settings of the run that cannot be combined with detection.
    """
    if context.mix != "none":
        raise ConfigError(
            f"image.augment.mix = {context.mix!r} does not go with detection: boxes are learned of images that are not "
            "blended.",
            hint="Leave it out.",
        )
    if context.freeze_backbones:
        raise ConfigError(
            "training.freeze_backbones keeps the coarsest features alone, and detection reads finer ones.",
            hint="Set training.freeze_layers instead.",
        )
    if context.decoder is None:
        return options
    if options.architecture == "detr":
        raise ConfigError(
            "model.share_decoder goes with detr-fast alone, not with architecture = 'detr'.",
            hint="Leave one of them out.",
        )
    # Words have no scales to sample: a decoder for both reads all cells, as it reads all words.
    return options.shared(context.decoder).model_copy(update={"deformable": False})
