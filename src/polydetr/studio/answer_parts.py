"""What a reply says of each target, in the forms in which a page shows it: classes as bars, spans in their text, boxes
on their image, … It decides nothing anew: every number stands in the reply, in the schema or in the model's folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from polydetr.reports.style import label_colors
from polydetr.serving.about import labels_in
from polydetr.serving.contract import ModelInfo, Reply, Row
from polydetr.serving.rows import Columns
from polydetr.web.components.bars import Bar
from polydetr.web.components.boxes import Box
from polydetr.web.components.marked import Mark

MOST_BARS = 8


@dataclass(frozen=True)
class Part:
    """The answer for one target. probability: that it is right, where the model says one. least: below which answers
    are withheld, where that was asked for; abstained: it is withheld. outside: the row is unlike the training rows.
    """

    target: str
    task: str
    probability: float | None = None
    least: float | None = None
    abstained: bool = False
    outside: bool = False


@dataclass(frozen=True)
class ClassPart(Part):
    """labels: the answer; bars: the most probable labels; threshold: from which one of several is answered; others: how
    many labels there are beside the bars.
    """

    labels: Sequence[str] = ()
    bars: Sequence[Bar] = ()
    threshold: float | None = None
    several: bool = False
    others: int = 0


@dataclass(frozen=True)
class NumberPart(Part):
    """interval: in which 9 of 10 true values lie (``tasks.regression.LEVEL``)."""

    value: float = 0.0
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class SpansPart(Part):
    """Spans of ``text``, which stands in ``column``."""

    text: str = ""
    column: str = ""
    marks: Sequence[Mark] = ()
    colors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PassagePart(SpansPart):
    """``answer``: None where the passage has none."""

    answer: str | None = None
    start: int = 0
    end: int = 0


@dataclass(frozen=True)
class BoxesPart(Part):
    """image: the content, None where the row has none."""

    column: str = ""
    image: bytes | None = None
    boxes: Sequence[Box] = ()


@dataclass(frozen=True)
class ImagePart(Part):
    """source: a data: address; None where nothing was generated."""

    source: str | None = None


@dataclass(frozen=True)
class VectorPart(Part):
    numbers: Sequence[float] = ()


@dataclass(frozen=True)
class PlainPart(Part):
    """The answer of a task that this page knows nothing of, as JSON has it."""

    value: Any = None


def parts_of(info: ModelInfo, row: Row, reply: Reply, *, least: Mapping[str, float] | None = None) -> list[Part]:
    """One per target of a reply without an error, in the order of the schema. least: target → the probability below
    which answers were asked to be withheld.
    """
    answers = reply.get("prediction", {})
    withheld = reply.get("abstained_targets", list(answers) if reply.get("abstained") else [])
    found = []
    for target in info.answers:
        if target not in answers:
            continue
        task = str(info.answers[target].get("x-task", ""))
        shared = {
            "target": target, "task": task, "probability": reply.get("probability", {}).get(target),
            "least": (least or {}).get(target), "abstained": target in withheld,
            "outside": target in reply.get("out_of_scope", ()),
        }  # fmt: skip
        build = _BUILD.get(task, _plain)
        found.append(build(info, row, reply, answers[target], shared))
    return found


def state_of(info: ModelInfo, target: str) -> Mapping[str, Any]:
    """What a task has learned beside the weights, as the model's folder has it."""
    return info.description.get("tasks", {}).get(target, {})


def _classes(info: ModelInfo, row: Row, reply: Reply, value: Any, shared: dict[str, Any]) -> Part:
    target = shared["target"]
    several = isinstance(value, list)
    labels = [_named(one) for one in (value if several else [value])]
    shares = {str(k): float(v) for k, v in reply.get("probabilities", {}).get(target, {}).items()}
    if not shares and not several and shared["probability"] is not None:
        shares = {labels[0]: float(shared["probability"])}
    colors = label_colors([_named(one) for one in labels_in(info.answers[target])] or shares)
    ranked = sorted(shares.items(), key=lambda pair: -pair[1])
    shown = ranked[: max(MOST_BARS, len(labels))]
    bars = [Bar(name, share, colors.get(name, ""), chosen=name in labels) for name, share in shown]
    threshold = state_of(info, target).get("threshold") if several else shared["least"]
    return ClassPart(
        **shared, labels=labels, bars=bars, threshold=threshold, several=several, others=len(ranked) - len(shown)
    )


def _named(label: Any) -> str:
    return label if isinstance(label, str) else str(label)


def _number(info: ModelInfo, row: Row, reply: Reply, value: Any, shared: dict[str, Any]) -> Part:
    if not isinstance(value, int | float):
        return PlainPart(**shared, value=value)
    interval = reply.get("interval", {}).get(shared["target"])
    return NumberPart(**shared, value=float(value), interval=tuple(interval) if interval else None)


def _spans(info: ModelInfo, row: Row, reply: Reply, value: Any, shared: dict[str, Any]) -> Part:
    column, text = text_of(info, row, value)
    colors = label_colors([_named(one) for one in labels_in(info.answers[shared["target"]])])
    marks = [
        Mark(
            one["start"], one["end"], _named(one["label"]), one.get("probability"), bool(one.get("abstained")),
            f"{one['start']}-{one['end']}",
        )
        for one in value
        if 0 <= one["start"] < one["end"] <= len(text)
    ]  # fmt: skip
    return SpansPart(**shared, text=text, column=column, marks=marks, colors=colors)


def _passage(info: ModelInfo, row: Row, reply: Reply, value: Any, shared: dict[str, Any]) -> Part:
    start, end = value.get("start"), value.get("end")
    if start is None or end is None:
        column, text = text_of(info, row, ())
        return PassagePart(**shared, text=text, column=column)
    column, text = text_of(info, row, [value])
    label = shared["target"]
    marks = [Mark(start, end, label, shared["probability"])] if 0 <= start < end <= len(text) else []
    return PassagePart(
        **shared, text=text, column=column, marks=marks, colors=label_colors([label]), answer=value["text"],
        start=start, end=end,
    )  # fmt: skip


def text_of(info: ModelInfo, row: Row, spans: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """The text column whose characters the spans count, and its text: the last one, as models read it
    (``tasks.qa``), or else the one in which the spans stand.
    """
    texts = [(name, value) for name in Columns.of(info).texts if isinstance(value := row.get(name), str)]
    for name, text in reversed(texts):
        if all(text[one["start"] : one["end"]] == one.get("text") for one in spans):
            return name, text
    return texts[-1] if texts else ("", "")


def _boxes(info: ModelInfo, row: Row, reply: Reply, value: Any, shared: dict[str, Any]) -> Part:
    colors = label_colors([_named(one) for one in labels_in(info.answers[shared["target"]])])
    boxes = [
        Box(
            _four(one["box"]), _named(one["label"]), float(one.get("probability", one.get("score", 0.0))),
            colors.get(_named(one["label"]), "#2f6db3"), bool(one.get("abstained")),
        )
        for one in value
    ]  # fmt: skip
    images = sorted(Columns.of(info).images & set(row))
    column, image = next(((name, found) for name in images if (found := _first(row[name])) is not None), ("", None))
    return BoxesPart(**shared, column=column, image=image, boxes=boxes)


def _four(box: Sequence[Any]) -> tuple[float, float, float, float]:
    left, top, right, bottom = map(float, box)
    return left, top, right, bottom


def _first(cell: Any) -> bytes | None:
    one = next(iter(cell), None) if isinstance(cell, list) else cell
    return one if isinstance(one, bytes) else None


def _image(info: ModelInfo, row: Row, reply: Reply, value: Any, shared: dict[str, Any]) -> Part:
    return ImagePart(**shared, source=value if isinstance(value, str) and value.startswith("data:image/") else None)


def _vector(info: ModelInfo, row: Row, reply: Reply, value: Any, shared: dict[str, Any]) -> Part:
    return VectorPart(**shared, numbers=[float(one) for one in value or ()])


def _plain(info: ModelInfo, row: Row, reply: Reply, value: Any, shared: dict[str, Any]) -> Part:
    return PlainPart(**shared, value=value)


_BUILD = {
    "classification": _classes, "regression": _number, "tagging": _spans, "entities": _spans, "qa": _passage,
    "detection": _boxes, "generation": _image, "embedding": _vector,
}  # fmt: skip


def sure_of(part: Part) -> float | None:
    """The probability that stands beside the answer; None where each span or box has its own."""
    return None if isinstance(part, BoxesPart) or part.task == "entities" else part.probability
