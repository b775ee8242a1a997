"""What of the objects of a data set a detector learns, counted once their images are known, and why the rest is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from polydetr.errors import Location, SchemaError
from polydetr.values.boxes import OUTSIDE, ZERO_AREA, are_shares
from polydetr.values.objects import CROPPED, CROWD, MOSTLY_OUTSIDE, TOO_SMALL, Objects

Labeled = tuple[Location, Objects]
_ANOTHER_SIZE = "Were the boxes drawn on images of another size? Then scale them."
_REASONS = {
    OUTSIDE: ("lie outside their images", _ANOTHER_SIZE),
    MOSTLY_OUTSIDE: ("lie mostly outside their images", _ANOTHER_SIZE),
    ZERO_AREA: ("have no area", "Repair these boxes."),
    TOO_SMALL: ("are too small", "Set a larger image.size, or cut the images into tiles that show them larger."),
    CROPPED: ("are cut away", "Set image.fit to 'pad' or 'stretch'."),
    CROWD: ("are crowds, regions of many", "Write iscrowd 0 where each is one object."),
}
"""Kind → what is said of such objects, and the remedy."""


def learned_objects(target: str, labels: Sequence[str], golds: Sequence[Labeled]) -> list[str]:
    """Messages about what the training rows teach.

    Raises:
        SchemaError: nothing, or their boxes are no pixels.
    """
    refuse_shares(target, [gold for _, gold in golds])
    learned = [len(gold.learned) for _, gold in golds]
    counts = Counter(item["label"] for _, gold in golds for item in gold.learned)
    lost = [(place, *reason) for place, gold in golds for reason in (*gold.left_out, *gold.unlearned.values())]
    if lost and not counts:
        raise SchemaError(f"none of the {len(lost)} objects of target {target!r} can be learned: {_why(lost)}")
    messages = [
        f"{sum(learned)} objects of {len(counts)} classes in {len(golds)} images, at most {max(learned, default=0)} in "
        f"one, none in {learned.count(0)}"
    ]
    if lost:
        total = sum(learned) + len(lost)
        messages.append(f"{len(lost)} of {total} objects of {target!r} cannot be learned: {_why(lost)}")
    absent = [label for label in labels if label not in counts and lost]
    if absent:
        messages.append(f"no object of {', '.join(map(repr, absent[:10]))} is learned: it will not be answered")
    return messages


def left_out_objects(target: str, golds: Sequence[Labeled]) -> list[str]:
    """Messages about objects of rows to be measured that are not, since nothing of them is in their images.

    Raises:
        SchemaError: the boxes are no pixels.
    """
    refuse_shares(target, [gold for _, gold in golds])
    lost = [(place, *reason) for place, gold in golds for reason in gold.left_out]
    total = sum(len(gold.items) for _, gold in golds) + len(lost)
    return [f"{len(lost)} of {total} objects of {target!r} are not measured: {_why(lost)}"] if lost else []


def refuse_shares(target: str, golds: Sequence[Objects]) -> None:
    """Raises SchemaError where the boxes of a column are given as shares of their images."""
    boxes = [gold.boxes_xyxy for gold in golds if gold.items]
    if boxes and are_shares(np.concatenate(boxes)):
        raise SchemaError(
            f"the boxes of {target!r} lie between 0 and 1, as shares of their images do (the first is "
            f"{boxes[0][0].tolist()}); expected [left, top, right, bottom] in pixels.",
            hint="Multiply them by the width and height of their images; YOLO labels and CSV of boxes may hold shares.",
        )


def _why(lost: Sequence[tuple[Location, str, str]]) -> str:
    """How many are lost for which reason, with the first of each, and the remedies. lost: place, kind, sentence."""
    firsts = {kind: f"{place}: {sentence}" for place, kind, sentence in reversed(lost)}
    counts = Counter(kind for _, kind, _ in lost).most_common()
    reasons = ", ".join(f"{count} {_REASONS[kind][0]} ({firsts[kind]})" for kind, count in counts)
    return f"{reasons}. {' '.join(dict.fromkeys(_REASONS[kind][1] for kind, _ in counts))}"
