"""Two models on the same rows: how often they agree, what each scores, and where they differ. Plain functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polydetr.metrics.calibration import wilson_interval
from polydetr.studio.slices import Outcome, number_of

_COMPARED = ("classification", "regression", "entities", "tagging", "qa", "detection")


@dataclass(frozen=True)
class Difference:
    """A row that two models answer differently. number: from 1; first, second: their answers; gold: None: not known."""

    number: int
    row: Mapping[str, Any]
    first: Any
    second: Any
    sure: tuple[float | None, float | None]
    gold: Any = None
    right: tuple[bool | None, bool | None] = (None, None)
    far: float = 0.0


@dataclass(frozen=True)
class Compared:
    """One target. rows: that both answered; same: of them, the same answer; measured: with a label; right: of those,
    how many each has right; errors: of numbers, the mean absolute error of each. differences: the gravest first.
    """

    target: str
    task: str
    rows: int
    same: int
    measured: int
    right: tuple[int, int]
    errors: tuple[float, float] | None
    differences: Sequence[Difference]
    failed: tuple[int, int] = (0, 0)

    @property
    def agreement(self) -> tuple[float, float]:
        """The 95 % interval of the share of the same answers."""
        return wilson_interval(self.same / self.rows, self.rows) if self.rows else (0.0, 1.0)


def common_targets(first: Mapping[str, str], second: Mapping[str, str]) -> dict[str, str]:
    """Target → task, of those that both models answer in the same way and that can be laid side by side."""
    return {t: task for t, task in first.items() if second.get(t) == task and task in _COMPARED}


def columns_lacking(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """Columns that a model reads, and none of the rows has."""
    there = {column for row in rows for column in row}
    return [column for column in columns if column not in there]


def is_right(task: str, answer: Any, gold: Any) -> bool | None:
    """Whether an answer is what the row's label says; None where that cannot be told from the cell alone."""
    if gold is None or gold == "":
        return None
    if task == "classification":
        if isinstance(answer, list) or isinstance(gold, list):
            answers, golds = _list(answer), _list(gold)
            return {str(one) for one in answers} == {str(one) for one in golds}
        return str(answer) == str(gold) or (number_of(answer) is not None and number_of(answer) == number_of(gold))
    if task in ("entities", "tagging"):
        found, true = _spans(answer), _spans(gold)
        return None if found is None or true is None else found == true
    if task == "qa":
        texts = gold.get("text", gold.get("texts")) if isinstance(gold, Mapping) else gold
        said = answer.get("text") if isinstance(answer, Mapping) else answer
        return str(said or "") in {str(one) for one in _list(texts)}
    return None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _spans(value: Any) -> set[tuple[int, int, str]] | None:
    try:
        return {(int(one["start"]), int(one["end"]), str(one["label"])) for one in value}
    except (TypeError, KeyError, ValueError):
        return None


def is_same(task: str, first: Any, second: Any) -> bool:
    """Whether two models say the same: numbers within a thousandth, spans exactly, boxes that overlap by half."""
    if task == "regression":
        a, b = number_of(first), number_of(second)
        return a is not None and b is not None and abs(a - b) <= 1e-3 * max(abs(a), abs(b), 1e-9)
    if task in ("entities", "tagging"):
        return _spans(first) == _spans(second)
    if task == "detection":
        return _same_boxes(_list(first), _list(second))
    if task == "qa":
        a, b = ((one or {}).get("text") if isinstance(one, Mapping) else one for one in (first, second))
        return a == b
    if isinstance(first, list) and isinstance(second, list):
        return sorted(map(str, first)) == sorted(map(str, second))
    return first == second


def _same_boxes(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> bool:
    left = list(second)
    for one in first:
        match = next((o for o in left if o.get("label") == one.get("label") and _overlap(one, o) >= 0.5), None)
        if match is None:
            return False
        left.remove(match)
    return not left


def _overlap(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1)."""
    try:
        a, b = [float(v) for v in one["box"]], [float(v) for v in other["box"]]
    except (KeyError, TypeError, ValueError):
        return 0.0
    inside = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return inside / (areas - inside) if areas > inside else 0.0


def compared(
    target: str,
    task: str,
    rows: Sequence[Mapping[str, Any]],
    first: Sequence[Mapping[str, Any]],
    second: Sequence[Mapping[str, Any]],
    golds: Sequence[Any],
) -> Compared:
    """first, second: the replies of the two models to ``rows``; golds: the rows' labels, None: unknown."""
    same = measured = both = 0
    right, failed, differences = [0, 0], [0, 0], []
    off: list[tuple[float, float]] = []
    for i, (row, a, b, gold) in enumerate(zip(rows, first, second, golds, strict=True), start=1):
        lacks = ["error" in reply or target not in reply.get("prediction", {}) for reply in (a, b)]
        failed = [n + lack for n, lack in zip(failed, lacks, strict=True)]
        if any(lacks):
            continue
        both += 1
        x, y = a["prediction"][target], b["prediction"][target]
        judged = (is_right(task, x, gold), is_right(task, y, gold))
        if None not in judged:
            measured += 1
            right = [n + bool(one) for n, one in zip(right, judged, strict=True)]
        true, p, q = number_of(gold), number_of(x), number_of(y)
        if task == "regression" and true is not None and p is not None and q is not None:
            off.append((abs(p - true), abs(q - true)))
        if is_same(task, x, y):
            same += 1
        else:
            sure = (a.get("probability", {}).get(target), b.get("probability", {}).get(target))
            far = abs(p - q) if p is not None and q is not None else 0.0
            differences.append(Difference(i, row, x, y, sure, gold, judged, far))
    errors = None
    if off:
        errors = (sum(x for x, _ in off) / len(off), sum(y for _, y in off) / len(off))
    differences.sort(key=_gravity)
    return Compared(
        target, task, both, same, measured or len(off), (right[0], right[1]), errors, differences,
        (failed[0], failed[1]),
    )  # fmt: skip


def _gravity(one: Difference) -> tuple[Any, ...]:
    """Where one model is right and the other is not, first; then the surest."""
    decides = None not in one.right and one.right[0] != one.right[1]
    return not decides, -one.far, -sum(sure or 0.0 for sure in one.sure), one.number


def outcomes_of_replies(
    rows: Sequence[Mapping[str, Any]],
    replies: Sequence[Mapping[str, Any]],
    golds: Sequence[Any],
    target: str,
    task: str,
) -> list[Outcome]:
    """Rows that a model was just asked, judged by their labels; those without a label or an answer are left out."""
    found = []
    for row, reply, gold in zip(rows, replies, golds, strict=True):
        if "error" in reply or target not in reply.get("prediction", {}):
            continue
        answer = reply["prediction"][target]
        if task == "regression":
            true, said = number_of(gold), number_of(answer)
            if true is not None and said is not None:
                found.append(Outcome(row, None, abs(true - said), true))
        elif (right := is_right(task, answer, gold)) is not None:
            found.append(Outcome(row, right, None, gold))
    return found
