"""What a model answered wrongly: one mistake, and the worst of many in bounded memory.

A task says what a mistake is (``tasks.capabilities.ShowsMistakes``); ``engine.mistakes`` collects the worst while the
rows go by, and ``reports.mistakes_page`` shows them.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

from polydetr.core.records import Record


@dataclass(frozen=True, slots=True)
class Mark:
    """Characters ``start`` … ``end`` of the row's text, which the labels ("gold") or the model ("answer") say to be a
    ``label``. focus: the mistake is about this one, not about its neighbor.
    """

    start: int
    end: int
    label: str
    side: Literal["gold", "answer"]
    focus: bool = False


@dataclass(frozen=True, slots=True)
class Mistake:
    """One wrong answer, or one that is missing.

    kind: one of the task's ``mistake_kinds``. severity: of two of a kind, the larger is the worse.
    gold, answer: what the row has and what the model says, as text; "" where there is none.
    labels: the classes that it is about, by which a page is filtered.
    confidence: the probability that the model gives the answer, or to there being none.
    suspicious: the model is as sure of its answer as it is of right ones: the label may be wrong.
    marks: where it is in the text. scores: the most probable labels. note: a sentence more.
    instead: the number of the row whose target was answered, where a target is found among those of other rows.
    image: what to show, where it is none of the row's inputs.
    """

    kind: str
    severity: float
    gold: str = ""
    answer: str = ""
    labels: tuple[str, ...] = ()
    confidence: float | None = None
    suspicious: bool = False
    marks: tuple[Mark, ...] = ()
    scores: tuple[tuple[str, float], ...] = ()
    note: str = ""
    instead: int | None = None
    image: Any = None


@dataclass(frozen=True)
class ShownMistake:
    """A mistake with what there is to show of its row: the text that its marks point into, and the other inputs."""

    mistake: Mistake
    record: Record
    text: str = ""
    columns: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Mistakes:
    """The worst mistakes of a target among ``rows`` measured rows. kinds: kind → what it means; counts: kind → how many
    there are; suspicious: how many labels may be wrong; shown: the worst of each kind, the worst first; classes: kind →
    how many classes its mistakes are about.
    """

    rows: int
    kinds: Mapping[str, str]
    counts: Mapping[str, int]
    suspicious: int
    shown: Mapping[str, Sequence[ShownMistake]] = field(default_factory=dict)
    classes: Mapping[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "counts": dict(self.counts), "suspicious_labels": self.suspicious}


Entry = tuple[float, int, int, Mistake]
"""Severity, minus the place among all mistakes (of equals the first stays), the row's number, the mistake."""


class Worst:
    """Keeps, of all mistakes that go by, the ``most`` worst of each kind, and of each kind the ``each`` worst of every
    label and the ``most`` worst whose label is suspicious. Of very many labels those with the most mistakes are given,
    so that they have no more than ``limit`` places.

    Memory: O(kinds · (2 · most + each · labels)), however many rows go by.
    """

    def __init__(self, *, most: int = 60, each: int = 4, limit: int = 240) -> None:
        self.most, self.each, self.limit = most, each, limit
        self.counts: Counter[str] = Counter()
        self.suspicious = 0
        self._heaps: dict[tuple[str, str, str], list[Entry]] = {}
        self.labels: defaultdict[str, Counter[str]] = defaultdict(Counter)  # of each kind: how many are about it
        self._places = count()

    def __len__(self) -> int:
        """How many are held."""
        return sum(map(len, self._heaps.values()))

    def add(self, row: int, mistake: Mistake) -> None:
        self.counts[mistake.kind] += 1
        self.suspicious += mistake.suspicious
        entry = (mistake.severity, -next(self._places), row, mistake)
        self._push((mistake.kind, "", ""), entry, self.most)
        if mistake.suspicious:
            self._push((mistake.kind, "suspicious", ""), entry, self.most)
        for label in dict.fromkeys(mistake.labels):
            self.labels[mistake.kind][label] += 1
            self._push((mistake.kind, "label", label), entry, self.each)

    def _push(self, key: tuple[str, str, str], entry: Entry, most: int) -> None:
        heap = self._heaps.setdefault(key, [])
        if len(heap) < most:
            heapq.heappush(heap, entry)
        elif entry > heap[0]:
            heapq.heapreplace(heap, entry)

    def of(self, kind: str) -> Iterator[tuple[int, Mistake]]:
        """Row and mistake, the worst first, each once."""
        given = {label for label, _ in self.labels[kind].most_common(self.limit // self.each)} | {""}
        heaps = [heap for (of, _, label), heap in self._heaps.items() if of == kind and label in given]
        entries = {entry[1]: entry for heap in heaps for entry in heap}
        for _, _, row, mistake in sorted(entries.values(), key=lambda entry: entry[:2], reverse=True):
            yield row, mistake
