"""Entity scores: predicted labeled spans against gold ones.

The main score is strict: an entity counts when its start, end and label are all right (CoNLL-2003; Tjong Kim Sang & De
Meulder, 2003). Beside it stand the four ways of matching of SemEval-2013 task 9.1 (Segura-Bedmar et al., 2013), which
say *how* the wrong ones are wrong.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from polydetr.errors import InputError
from polydetr.metrics.classification import ClassReport, report_from_counts
from polydetr.values.spans import Span


@dataclass(frozen=True, slots=True)
class MatchScore:
    """Counts of one way of matching. possible = all gold spans, actual = all predicted spans.

    precision = (correct + partial / 2) / actual, recall = (correct + partial / 2) / possible.
    """

    correct: int
    incorrect: int
    partial: int
    missed: int
    spurious: int

    @property
    def possible(self) -> int:
        return self.correct + self.incorrect + self.partial + self.missed

    @property
    def actual(self) -> int:
        return self.correct + self.incorrect + self.partial + self.spurious

    @property
    def precision(self) -> float:
        return (self.correct + 0.5 * self.partial) / self.actual if self.actual else 0.0

    @property
    def recall(self) -> float:
        return (self.correct + 0.5 * self.partial) / self.possible if self.possible else 0.0

    @property
    def f1(self) -> float:
        total = self.actual + self.possible
        return 2 * (self.correct + 0.5 * self.partial) / total if total else 0.0

    def to_dict(self) -> dict[str, Any]:
        counts = ("correct", "incorrect", "partial", "missed", "spurious", "possible", "actual")
        return {name: getattr(self, name) for name in ("precision", "recall", "f1", *counts)}


@dataclass(frozen=True, kw_only=True)
class EntityReport(ClassReport):
    """Strict scores by type with micro, macro and weighted averages, and the four ways of matching. ``accuracy`` is the
    share of texts all of whose entities are right.

    strict: boundaries and type right. exact: boundaries right. partial: boundaries right, or half for an overlap.
    type: type right and some overlap.
    """

    strict: MatchScore
    exact: MatchScore
    partial: MatchScore
    type: MatchScore

    @property
    def entity_f1(self) -> float:
        """The micro-averaged strict F1: the number that papers report."""
        return self.micro.f1

    def to_dict(self) -> dict[str, Any]:
        return {
            "entity_f1": self.entity_f1,
            "precision": self.micro.precision,
            "recall": self.micro.recall,
            "support": self.micro.support,
            "sentences": self.total,
            "sentence_accuracy": self.accuracy,
            "types": {row.label: row.to_dict() for row in self.rows},
            "averages": {row.label: row.to_dict() for row in (self.micro, self.macro, self.weighted)},
            "matching": {name: match.to_dict() for name, match in self._matching.items()},
        }

    def to_text(self) -> str:
        """The layout of seqeval and scikit-learn, then one line for each way of matching."""
        heads = f"{'matching':>12}  {'precision':>9} {'recall':>9} {'f1-score':>9}  cor/inc/par/mis/spu"
        lines = [super().to_text(), heads]
        for name, m in self._matching.items():
            counts = f"{m.correct}/{m.incorrect}/{m.partial}/{m.missed}/{m.spurious}"
            lines.append(f"{name:>12}  {m.precision:>9.3f} {m.recall:>9.3f} {m.f1:>9.3f}  {counts}")
        return "\n".join(lines) + "\n"

    @property
    def _matching(self) -> dict[str, MatchScore]:
        return {"strict": self.strict, "exact": self.exact, "partial": self.partial, "type": self.type}


def entity_report(gold: Sequence[Sequence[Span]], predicted: Sequence[Sequence[Span]]) -> EntityReport:
    """Scores of predicted spans against gold spans, text by text; nested and overlapping spans are allowed.

    Spans are counted as multisets: a span predicted twice is one hit and one false alarm, unless gold holds it twice as
    well. Where neither side has any span the ratios are 0, as in seqeval.

    Raises:
        InputError: different numbers of texts, or none.
    """
    if len(gold) != len(predicted):
        raise InputError(
            f"{len(gold)} gold texts but {len(predicted)} predicted: give one list of spans (perhaps empty) for each."
        )
    if not gold:
        raise InputError("No texts to score: gold and predicted are empty; entity scores need at least one text.")
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])  # label → hits, predicted, gold
    outcomes: Counter[str] = Counter()
    perfect = 0
    for gold_spans, predicted_spans in zip(gold, predicted, strict=True):
        gold_keys, predicted_keys = Counter(_keys(gold_spans)), Counter(_keys(predicted_spans))
        perfect += gold_keys == predicted_keys
        for column, keys in enumerate((gold_keys & predicted_keys, predicted_keys, gold_keys)):
            for (_, _, label), number in keys.items():
                counts[label][column] += number
        outcomes.update(pair.kind for pair in pair_spans(gold_keys, predicted_keys))
    labels = sorted(counts)
    arrays = np.array([counts[label] for label in labels], np.int64).reshape(-1, 3)
    footer = ("micro avg", "macro avg", "weighted avg")
    table = report_from_counts(labels, *arrays.T, accuracy=perfect / len(gold), total=len(gold), footer=footer)
    scores: dict[str, Any] = {**vars(table), **_match_scores(outcomes)}
    return EntityReport(**scores)


def nested_recall(gold: Sequence[Sequence[Span]], predicted: Sequence[Sequence[Span]]) -> MatchScore:
    """Strict scores of the gold spans that lie inside another gold span of their text, which one tag per word cannot
    mark beside the outer one. Its recall is what counts: no predicted span is held against it.

    Raises:
        InputError: different numbers of texts.
    """
    if len(gold) != len(predicted):
        raise InputError(f"{len(gold)} gold texts but {len(predicted)} predicted: give one list of spans for each.")
    hits = total = 0
    for gold_spans, predicted_spans in zip(gold, predicted, strict=True):
        bounds = sorted({(start, -end) for start, end, _ in _keys(gold_spans)})
        inner, reach = set(), -1
        for start, negative_end in bounds:  # whatever began earlier, or here and is longer, came before
            if -negative_end <= reach:
                inner.add((start, -negative_end))
            reach = max(reach, -negative_end)
        keys = Counter(key for key in _keys(gold_spans) if key[:2] in inner)
        total += keys.total()
        hits += (keys & Counter(_keys(predicted_spans))).total()
    return MatchScore(hits, 0, 0, total - hits, 0)


def best_threshold(scores: Sequence[float], correct: Sequence[bool], num_gold: int) -> tuple[float, float]:
    """(threshold, F1): answering the spans whose score is at least the threshold gives the best strict F1.

    scores, correct: of every candidate span; num_gold: the number of gold spans. The threshold lies half-way between
    the lowest score answered and the next one. Without a span that is right it is 1.
    """
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    sorted_scores = np.asarray(scores, dtype=np.float64)[order]
    hits = np.cumsum(np.asarray(correct, dtype=np.int64)[order])
    if not len(hits) or not hits[-1]:
        return 1.0, 0.0
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + num_gold)
    f1[:-1][sorted_scores[:-1] == sorted_scores[1:]] = -1.0  # spans of one score come together
    best = int(f1.argmax())
    below = sorted_scores[best + 1] if best + 1 < len(sorted_scores) else 0.0
    return float((sorted_scores[best] + below) / 2), float(f1[best])


Key = tuple[int, int, str]


def _keys(spans: Sequence[Span]) -> list[Key]:
    return [(int(span[0]), int(span[1]), str(span[2])) for span in spans]


class SpanPair(NamedTuple):
    """A gold span and the predicted one that it was paired with; None: it has none.

    kind: "same" all right; "bounds" right boundaries, wrong type; "overlap_type" overlap, right type; "overlap"
    overlap, wrong type; "missed"; "spurious".
    """

    kind: str
    gold: Key | None
    predicted: Key | None


def pair_spans(gold: Counter[Key], predicted: Counter[Key]) -> Iterator[SpanPair]:
    """Pairs every predicted span with at most one gold span, best agreement first."""
    for key in (gold & predicted).elements():
        yield SpanPair("same", key, key)
    # Sorted, so that ties do not depend on the order of the spans.
    missing, extra = sorted((gold - predicted).elements()), sorted((predicted - gold).elements())
    candidates = []
    for i, (start, end, label) in enumerate(missing):
        for j, (other_start, other_end, other) in enumerate(extra):
            shared = min(end, other_end) - max(start, other_start)
            if (start, end) == (other_start, other_end):
                candidates.append((0, 0, abs(i - j), i, j, "bounds"))
            elif shared > 0:
                rank, kind = (1, "overlap_type") if label == other else (2, "overlap")
                candidates.append((rank, -shared, abs(i - j), i, j, kind))
    free_missing, free_extra = set(range(len(missing))), set(range(len(extra)))
    for *_, i, j, kind in sorted(candidates):
        if i in free_missing and j in free_extra:
            free_missing.remove(i)
            free_extra.remove(j)
            yield SpanPair(kind, missing[i], extra[j])
    yield from (SpanPair("missed", missing[i], None) for i in sorted(free_missing))
    yield from (SpanPair("spurious", None, extra[j]) for j in sorted(free_extra))


def _match_scores(n: Counter[str]) -> dict[str, MatchScore]:
    """The table of SemEval-2013 task 9.1: what each kind of pair counts as under each way of matching."""
    same, bounds, typed, other = n["same"], n["bounds"], n["overlap_type"], n["overlap"]
    rest = {"missed": n["missed"], "spurious": n["spurious"]}
    return {
        "strict": MatchScore(same, bounds + typed + other, 0, **rest),
        "exact": MatchScore(same + bounds, typed + other, 0, **rest),
        "partial": MatchScore(same + bounds, 0, typed + other, **rest),
        "type": MatchScore(same + typed, bounds + other, 0, **rest),
    }
