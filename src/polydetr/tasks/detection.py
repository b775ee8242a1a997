"""Objects in an image: a set of boxes with labels, found by queries, one each; nothing is suppressed afterwards.

Sources: Carion et al. 2020, DETR (arXiv 2005.12872), and what ``nn.detr_fast`` names.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from polydetr.core.examples import IGNORE_INDEX, Arrays
from polydetr.core.layout import FieldText, Layout
from polydetr.core.predictions import Details, Evaluation, Figures, Prediction
from polydetr.core.records import Record, Row
from polydetr.errors import ConfigError, SchemaError
from polydetr.metrics.detection import DetectionReport, detection_report
from polydetr.tasks.base import NOTHING_KNOWN, DecoderOptions, Task, TaskContext, WindowView, label_set
from polydetr.values.boxes import cxcywh_to_xyxy, seen_boxes, xyxy_to_cxcywh
from polydetr.values.cells import is_missing
from polydetr.values.images import Frame
from polydetr.values.objects import Objects, read_objects

MOST = 100
"""Boxes an image that are measured, as COCO does; of them, those above the threshold are answered."""
_GONE = {
    "denoising": "it costs a fifth of the time and gives nothing (docs/guide/detection.md)",
    "mosaic": "it gives nothing that shows (docs/guide/detection.md)",
}


class DetectionOptions(DecoderOptions):
    """Boxes around objects. "detr" is the architecture of 2020, to which the switches of "detr-fast" mean nothing."""

    labels: list[str] | None = Field(default=None, description="the label set, when the data do not show all of it")
    architecture: Literal["detr-fast", "detr"] = Field(
        default="detr-fast", description="what to train, or what DETR was in 2020: it needs many more steps"
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
    threshold: float | None = Field(
        default=None, ge=0, le=1, description="score from which a box is answered; default: tuned on validation rows"
    )

    @model_validator(mode="before")
    @classmethod
    def _say_what_left(cls, given: Any) -> Any:
        for name, reason in _GONE.items():
            if isinstance(given, Mapping) and name in given:
                raise ValueError(f"{name!r} left polydetr, for {reason}; leave it out")
        return given


@dataclass(frozen=True)
class BoxDetails(Details):
    """all: the 100 highest-scoring boxes, whatever their score, as {"box", "label", "score"}."""

    all: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class BoxFigures(Figures):
    """Of the measured rows, by their number: what was to be found and what was; records: the rows themselves."""

    report: DetectionReport
    gold: Sequence[Sequence[Mapping[str, Any]]]
    found: Sequence[Sequence[Mapping[str, Any]]]
    rows: Sequence[int]
    records: Sequence[Record] = ()

    def of_records(self, records: Sequence[Record]) -> Self:
        return replace(self, records=[records[i] for i in self.rows])


class DetectionTask(Task):
    """Rows hold lists of {"box": [left, top, right, bottom] in pixels, "label"}; [] is an image without objects, a
    missing value one that nobody looked at.
    """

    kind: ClassVar[str] = "detection"
    per_token: ClassVar[bool] = False
    primary_metric: ClassVar[str] = "map"
    padded: ClassVar[Mapping[str, int]] = {"boxes_cxcywh": 0, "labels": IGNORE_INDEX}
    tunes_answers: ClassVar[bool] = True
    evaluations_per_run: ClassVar[int] = 10

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
        golds = [gold for gold in (self.gold(row, None) for row in rows) if gold is not None]
        counts = Counter(label for gold in golds for label in gold.labels)
        if not counts and not self.options.labels:
            raise SchemaError(
                f"target {self.target!r} has no object in any training row",
                hint="Name the column that holds the boxes.",
            )
        self.labels = label_set(self.target, self.options.labels, counts)
        index = self._index
        most = max((len(gold.arrays(index)[1]) for gold in golds), default=0)
        empty = sum(not gold.items for gold in golds)
        notes = [
            f"{sum(counts.values())} objects of {len(self.labels)} classes in {len(golds)} images, at most {most} in "
            f"one, none in {empty}"
        ]
        if missing := len(rows) - len(golds):
            notes.append(f"{missing} of {len(rows)} training rows have no {self.target!r}: they do not train it")
        if most > (queries := self.options.num_queries):
            full = sum(len(gold.arrays(index)[1]) > queries for gold in golds)
            notes.append(
                f"{full} images hold more objects than the model can find, {queries} "
                f"(tasks.{self.target}.num_queries): the rest of them are not learned"
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
        return () if gold is None else gold.messages

    def unseen(self, gold: Objects) -> list[str]:
        return [label for label in gold.labels if label not in self.labels]

    def encode_target(self, view: WindowView) -> Arrays:
        """boxes_cxcywh float32 (T, 4), as shares of what the model sees; labels int64 (T,)."""
        gold: Objects | None = view.golds[0]
        frames = view.groups["image"]["frame"][:1]
        boxes, labels = (gold or Objects(())).arrays(self._index)
        if not len(frames):  # no image, nothing to find
            boxes, labels, gold = boxes[:0], labels[:0], None
        else:
            boxes, kept = seen_boxes(Frame(*frames[0].tolist()).to_shares(boxes))
            boxes, labels = xyxy_to_cxcywh(boxes[kept]), labels[kept]
        known = np.array(gold is not None, dtype=np.float32)
        return {"boxes_cxcywh": boxes.astype(np.float32), "labels": labels.astype(np.int64), "known": known}

    # -- answers ------------------------------------------------------------------------------------------------------

    def decode(
        self, outputs: Sequence[Arrays], layouts: Sequence[Layout | None], texts: Sequence[FieldText], num_rows: int
    ) -> list[Prediction]:
        """Boxes in pixels of the image as its file has it, the highest-scoring first."""
        found = outputs[0]
        frame = Frame(*found["frame"].tolist()) if "frame" in found else None
        if frame is None or not frame.scale_x:  # a row without an image
            return [Prediction([], None, BoxDetails([]))]
        scores, labels, boxes = self.highest_scoring(found["logits"][-1], found["boxes_cxcywh"][-1])
        pixels = frame.to_pixels(boxes)
        every = [
            {"box": [round(float(x), 2) for x in box], "label": self.labels[label], "score": float(score)}
            for box, label, score in zip(pixels, labels, scores, strict=True)
        ]
        return [Prediction([one for one in every if one["score"] >= self.threshold], None, BoxDetails(every))]

    def highest_scoring(
        self, logits: np.ndarray, boxes_cxcywh: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores, labels and boxes (left, top, right, bottom) of the highest-scoring pairs of query and class."""
        logits = logits.astype(np.float64)
        if self.options.architecture == "detr":
            shifted = np.exp(logits - logits.max(-1, keepdims=True))
            scores = (shifted / shifted.sum(-1, keepdims=True))[:, :-1]
        else:
            scores = 1 / (1 + np.exp(-logits))
        order = np.argsort(-scores, axis=None, kind="stable")[:MOST]
        query, label = np.unravel_index(order, scores.shape)
        return scores.flat[order], label, cxcywh_to_xyxy(boxes_cxcywh)[query]

    def evaluate(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> Evaluation:
        kept = [i for i, gold in enumerate(golds) if gold is not None]
        if not kept:
            raise SchemaError(f"no row has a value for target {self.target!r}: nothing to measure")
        gold = [list(golds[i].items) for i in kept]
        found = [list(_details(predictions[i]).all) for i in kept]
        seen = {one["label"] for objects in gold for one in objects}
        labels = [*self.labels, *sorted(seen - set(self.labels))]
        report = detection_report(gold, found, labels=labels, threshold=self.options.threshold)
        figures = BoxFigures(report, gold, found, kept)
        return Evaluation(report.scores(), {"objects": report.to_text()}, report.to_dict(), figures)

    def tune(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> list[str]:
        if self.options.threshold is not None or not any(gold is not None and gold.items for gold in golds):
            return []
        figures = self.evaluate(predictions, golds).figures
        assert isinstance(figures, BoxFigures)
        report = figures.report
        # It is the score of a box: rounded up by a hair elsewhere, that very box would be lost.
        self.threshold = math.floor(float(report.threshold) * 1000) / 1000
        row = report.all_labels
        return [
            f"{self.target!r}: boxes are answered from a score of {self.threshold:.3f} on (validation rows: precision "
            f"{row.precision:.3f}, recall {row.recall:.3f})"
        ]

    # -- state ---------------------------------------------------------------------------------------------------------

    def learned(self) -> dict[str, Any]:
        return {"labels": self.labels, "threshold": self.threshold}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.labels, self.threshold = list(state["labels"]), float(state["threshold"])

    @classmethod
    def saved_options(cls, state: Mapping[str, Any]) -> Mapping[str, Any]:
        # Folders of polydetr 0.1 hold most of them in a section of their own.
        return {**state["config"], **state.get("detection", {})}


def _fitted(options: DetectionOptions, context: TaskContext) -> DetectionOptions:
    """The options as they are in this run.

    Raises:
        ConfigError: settings of the run that do not go with detection.
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


def _details(prediction: Prediction) -> BoxDetails:
    assert isinstance(prediction.details, BoxDetails)
    return prediction.details
