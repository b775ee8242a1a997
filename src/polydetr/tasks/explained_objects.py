"""An object that was found in an image, explained: how confident the model is that there is such an object at this
place.

Shapes: N layers, Q queries, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from polydetr.errors import InputError
from polydetr.metrics.box_matching import overlaps
from polydetr.tasks.explained import CLEAR_SCORE, PlacedAnswer, Reading, numbered
from polydetr.values.boxes import cxcywh_to_xyxy

if TYPE_CHECKING:
    from polydetr.tasks.detection import BoxDetails, DetectionTask


@dataclass(frozen=True)
class ObjectAnswer(PlacedAnswer):
    """max over queries of score · IoU: which query finds the object does not matter, as it may be another one in a
    changed image. Source: Petsiuk et al. 2021, D-RISE (arXiv 2006.03204), equation 4, for one box of one class.

    label: the number of its class; softmax: whether scores are a softmax over classes, not one sigmoid per class.
    """

    quantity: ClassVar[str] = "score × overlap"
    measure: ClassVar[str] = "score"
    level_name: ClassVar[str] = "score × overlap"
    remark: ClassVar[str] = (
        "An object's score is that of the best box of its label, times that box's overlap (IoU) with the one explained;"
        " a part scores what is lost of that without it. Such losses need not add up."
    )
    label: int
    softmax: bool

    @classmethod
    def of(cls, task: DetectionTask, reading: Reading, details: BoxDetails, choice: Any) -> Self:
        """choice: the number of an object, from 0; without one the highest-scoring is explained.

        Raises:
            InputError: there is no such object, or no image.
        """
        objects, boxes = reading.prediction.value, details.all
        if not boxes:
            raise InputError("the row has no image: there is no object to explain")
        number = numbered(choice, len(objects), "objects") or 0
        # The answered objects and all that are measured both begin with the highest-scoring.
        label, score = boxes[number]["label"], float(boxes[number]["score"])
        outputs = reading.outputs[0]
        _, _, boxes_xyxy = task.highest_scoring(outputs["logits"][-1], outputs["boxes_cxcywh"][-1])
        shown = f"{label} ({score:.1%})" if objects else f"no object; nearest: {label} ({score:.1%})"
        if len(objects) > 1:
            shown += f", object {number + 1} of {len(objects)}"
        left, top, right, bottom = map(float, boxes_xyxy[number])
        return cls(
            shown,
            (left, top, right, bottom),
            label=task.labels.index(label),
            softmax=task.options.architecture == "detr",
            floor=CLEAR_SCORE if choice is None else 0.0,
        )

    def probability(self, reading: Reading) -> float:
        return float(self._of_queries(reading).max())

    def query(self, reading: Reading) -> int:
        """The query of the highest score · IoU."""
        return int(self._of_queries(reading).argmax())

    def _of_queries(self, reading: Reading) -> NDArray[np.float64]:
        """score · IoU of every query of the last layer, (Q,)."""
        logits, boxes = (reading.outputs[0][name][-1].astype(np.float64) for name in ("logits", "boxes_cxcywh"))
        if not reading.outputs[0]["frame"][0]:  # the image is missing
            return np.zeros(len(logits))
        own = logits[:, self.label]
        log_all = np.logaddexp.reduce(logits, axis=-1) if self.softmax else np.logaddexp(0.0, own)
        box = np.array([self.box])
        overlap = overlaps(cxcywh_to_xyxy(boxes), box, np.zeros(1, dtype=np.bool_))[:, 0]
        return np.exp(own - log_all) * overlap
