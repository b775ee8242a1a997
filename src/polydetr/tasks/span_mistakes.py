"""What is wrong about spans, one by one: for every task that answers with spans of a text."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from polydetr.core.mistakes import Mark, Mistake
from polydetr.metrics.entities import Key, pair_spans
from polydetr.metrics.suspicion import class_thresholds, is_suspicious
from polydetr.values.spans import Span

KINDS: Mapping[str, str] = {
    "missed": "Entities that no answer touches. First those where the model is surest that nothing is there.",
    "invented": "Answers where no entity is, by falling probability. One that is true may have been forgotten.",
    "mistyped": "Entities found with their boundaries, under another type, by falling probability.",
    "cut wrong": "Entities found with other boundaries, some of another type as well, by falling probability.",
}
_KIND = {"missed": "missed", "spurious": "invented", "bounds": "mistyped", "overlap_type": "cut wrong"} | {
    "overlap": "cut wrong"
}
_NEAR = 400
"""Characters around a mistake in which its neighbors are marked."""


@dataclass(frozen=True)
class AnsweredSpans:
    """A row: its true spans, the answered ones as predictions have them, and how sure the model is that there is none
    at a span. nothing: how sure it is of that at each place where nothing is; empty where the task does not tell.
    """

    row: int
    gold: Sequence[Span]
    answered: Sequence[Mapping[str, Any]]
    none_at: Callable[[Key], float]
    nothing: Sequence[float] = ()


def span_mistakes(rows: Sequence[AnsweredSpans]) -> Iterator[tuple[int, Mistake]]:
    """Each of ``KINDS``, with the number of its row. An answer is suspicious where it has the probability of right
    answers of its label; a missed span where the model is as sure of nothing as where nothing is.
    """
    thresholds = class_thresholds(_right(rows))
    for one in rows:
        probability = {_key(span): float(span["probability"]) for span in one.answered}
        gold = Counter(span.key for span in one.gold)
        pairs = [pair for pair in pair_spans(gold, Counter(map(_key, one.answered))) if pair.kind != "same"]
        if not pairs:
            continue
        near = _Neighbors([*((key, "gold") for key in gold), *((key, "answer") for key in probability)])
        for pair in pairs:
            answer = pair.predicted[2] if pair.predicted else None
            confidence = probability[pair.predicted] if pair.predicted else one.none_at(pair.gold) if pair.gold else 0.0
            yield (
                one.row,
                Mistake(
                    kind=_KIND[pair.kind],
                    severity=confidence,
                    gold=pair.gold[2] if pair.gold else "",
                    answer=answer or "",
                    labels=tuple(dict.fromkeys(key[2] for key in (pair.gold, pair.predicted) if key)),
                    confidence=confidence,
                    suspicious=is_suspicious(thresholds, of_label=1 - confidence, answer=answer, of_answer=confidence),
                    marks=near.marks(pair.gold, pair.predicted),
                ),
            )


def _right(rows: Iterable[AnsweredSpans]) -> Iterator[tuple[str | None, float]]:
    """Label and probability of each right answer; None stands for nothing."""
    for one in rows:
        yield from ((None, probability) for probability in one.nothing)
        true = {span.key for span in one.gold}
        yield from ((span["label"], float(span["probability"])) for span in one.answered if _key(span) in true)


def _key(span: Mapping[str, Any]) -> Key:
    return int(span["start"]), int(span["end"]), str(span["label"])


class _Neighbors:
    """The spans of one text, of both sides, to be had by place: a long text has thousands."""

    def __init__(self, spans: Sequence[tuple[Key, Literal["gold", "answer"]]]) -> None:
        self._spans = sorted(spans)
        self._starts = [key[0] for key, _ in self._spans]

    def marks(self, gold: Key | None, predicted: Key | None) -> tuple[Mark, ...]:
        """Those near to a mistake, itself in focus."""
        about = [key for key in (gold, predicted) if key is not None]
        first, last = min(key[0] for key in about) - _NEAR, max(key[1] for key in about) + _NEAR
        near = self._spans[bisect_left(self._starts, first) : bisect_right(self._starts, last)]
        focus = {(gold, "gold"), (predicted, "answer")}
        return tuple(Mark(*key, side, focus=(key, side) in focus) for key, side in near)
