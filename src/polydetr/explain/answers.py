"""What is explained: the one number that the model's answer hangs on, and that answer's probability when the text has
changed.

A long text is read in windows; each answer takes its number from the windows exactly as its task's ``decode`` does,
so what the
gradients say of several windows adds up to what the model really answered.

Shapes: n points of the path, W windows, L tokens, C classes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from polydetr.core.examples import Arrays
from polydetr.core.layout import FieldText, Layout
from polydetr.core.predictions import Prediction
from polydetr.tasks.base import log_softmax


@dataclass(frozen=True)
class Reading:
    """What the model said to one text: its decoded prediction and the raw outputs of every window."""

    prediction: Prediction
    outputs: Sequence[Arrays]
    layouts: Sequence[Layout]
    text: FieldText


class Answer(ABC):
    """One answer of one task. ``words`` are the words (of the windowed column) that it consists of, which are never
    deleted.
    """

    quantity: ClassVar[str]
    measure: ClassVar[str] = "probability"  # what ``probability`` is called
    remark: ClassVar[str] = ""  # what is to be said of that measure
    floor: float = 0.0  # an answer less probable than this is hardly more than chance: nothing to check
    signed: ClassVar[bool] = True  # False: a word that pushes the number down matters as much as one that pushes it up
    shown: str
    words: tuple[int, ...] = ()

    @abstractmethod
    def probability(self, reading: Reading) -> float:
        """How probable this same answer is in another text."""

    def level(self, reading: Reading) -> float:
        """What is told of the answer in another row: its probability, or, for a number, the number answered."""
        return self.probability(reading)

    def moved(self, place: Callable[[int], int]) -> Answer:
        """The same answer where words before it have been deleted: word i has become word ``place(i)``."""
        return self


class SmoothAnswer(Answer):
    """One that gradients lead to."""

    @abstractmethod
    def score(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """Raw outputs, each (n, W, ...) → the explained number, (n,)."""


@dataclass(frozen=True)
class ClassAnswer(SmoothAnswer):
    """Log-odds of a class, ln p/(1-p), calibrated; windows are averaged before, as ``decode`` does."""

    quantity: ClassVar[str] = "log-odds"
    shown: str
    index: int
    temperature: float
    multi_label: bool
    floor: float = 0.0

    def score(self, outputs: Mapping[str, Tensor]) -> Tensor:
        logits = outputs["logits"].mean(1) / self.temperature
        if self.multi_label:
            return logits[:, self.index]
        others = [i for i in range(logits.shape[1]) if i != self.index]
        return logits[:, self.index] - logits[:, others].logsumexp(1)

    def probability(self, reading: Reading) -> float:
        mean = np.mean([output["logits"] for output in reading.outputs], axis=0)
        return float(torch.sigmoid(self.score({"logits": torch.from_numpy(mean)[None, None].double()}))[0])


@dataclass(frozen=True)
class ValueAnswer(SmoothAnswer):
    """The predicted number, in its own unit.

    A number has no probability. The likelihood of the answer relative to that in the whole text stands in, under a
    normal
    distribution as wide as the training values: exp(-(Δ/σ)²/2).
    """

    quantity: ClassVar[str] = "value"
    measure: ClassVar[str] = "likelihood"
    remark: ClassVar[str] = (
        "A number has no probability: the deletion check counts the likelihood of the number relative to that of the "
        "whole row, under a normal distribution as wide as the training values."
    )
    signed: ClassVar[bool] = False
    shown: str
    value: float
    mean: float
    deviation: float

    def score(self, outputs: Mapping[str, Tensor]) -> Tensor:
        return self.mean + self.deviation * outputs["logits"][..., 0].mean(1)

    def probability(self, reading: Reading) -> float:
        return math.exp(-0.5 * ((self.level(reading) - self.value) / self.deviation) ** 2)

    def level(self, reading: Reading) -> float:
        return float(reading.prediction.value)


@dataclass(frozen=True, eq=False)
class LikenessAnswer(SmoothAnswer):
    """Cosine of the row's vector and another, of length 1; windows are averaged before, as ``decode`` does."""

    quantity: ClassVar[str] = "cosine"
    measure: ClassVar[str] = "likeness"
    remark: ClassVar[str] = "The likeness is the cosine of the two vectors: 1 where they are the same."
    shown: str
    vector: NDArray[np.floating]

    def score(self, outputs: Mapping[str, Tensor]) -> Tensor:
        mean = F.normalize(outputs["vector"].mean(1), dim=-1)
        return mean @ torch.as_tensor(self.vector, dtype=mean.dtype, device=mean.device)

    def probability(self, reading: Reading) -> float:
        return float(np.asarray(reading.prediction.value) @ self.vector)


@dataclass(frozen=True)
class TagAnswer(SmoothAnswer):
    """The sum of the tag log probabilities of an entity's words, each read in the window that owns the word."""

    quantity: ClassVar[str] = "log probability"
    shown: str
    words: tuple[int, ...] = field()
    labels: tuple[int, ...]
    temperature: float
    owners: tuple[tuple[int, int], ...]  # (window, token) of each word

    def score(self, outputs: Mapping[str, Tensor]) -> Tensor:
        windows, tokens = map(list, zip(*self.owners, strict=True))
        log_p = (outputs["logits"][:, windows, tokens] / self.temperature).log_softmax(-1)  # (n, words, C)
        return log_p[:, range(len(self.labels)), self.labels].sum(1)

    def probability(self, reading: Reading) -> float:
        owners = owning_tokens(reading.layouts, self.words)
        log_p = [log_softmax(reading.outputs[w]["logits"][t], self.temperature) for w, t in owners]
        return float(np.exp(min(p[label] for p, label in zip(log_p, self.labels, strict=True))))

    def moved(self, place: Callable[[int], int]) -> TagAnswer:
        return replace(self, words=tuple(map(place, self.words)))


@dataclass(frozen=True)
class SpanAnswer(SmoothAnswer):
    """Start plus end logit of the answer in the window that gave it; of [CLS] in the window surest of an answer where
    there is none.

    edges: characters of the answer's start inside its first word and of its end inside its last.
    """

    quantity: ClassVar[str] = "start + end logit"
    shown: str
    words: tuple[int, ...] = field()
    edges: tuple[int, int]
    temperature: float
    at: tuple[int, int, int]  # window, first token, last token

    def score(self, outputs: Mapping[str, Tensor]) -> Tensor:
        window, first, last = self.at
        return outputs["start_logits"][:, window, first] + outputs["end_logits"][:, window, last]

    def probability(self, reading: Reading) -> float:
        found = [log_p for log_p, _ in self.places(reading)]
        if not found:
            return 0.0
        return float(np.exp(max(found) if self.words else min(found)))

    def places(self, reading: Reading) -> list[tuple[float, tuple[int, int, int]]]:
        """Log probability and (window, first, last token) of the answer in every window that holds it whole."""
        found = []
        for w, (output, layout) in enumerate(zip(reading.outputs, reading.layouts, strict=True)):
            first = last = np.zeros(1, dtype=np.int64)
            if self.words:
                begin = reading.text.words[self.words[0]][0] + self.edges[0]
                end = reading.text.words[self.words[-1]][0] + self.edges[1]
                first = np.flatnonzero((layout.row >= 0) & (layout.start == begin))
                last = np.flatnonzero((layout.row >= 0) & (layout.end == end))
            if len(first) and len(last):
                size = len(layout.row)
                start = log_softmax(output["start_logits"][:size], self.temperature)[first[0]]
                stop = log_softmax(output["end_logits"][:size], self.temperature)[last[-1]]
                found.append((float(start + stop), (w, int(first[0]), int(last[-1]))))
        return found

    def moved(self, place: Callable[[int], int]) -> SpanAnswer:
        return replace(self, words=tuple(map(place, self.words)))


def owning_tokens(layouts: Sequence[Layout], words: Sequence[int]) -> list[tuple[int, int]]:
    """(window, token) of each word's first token, in the window with most context around it: the rule of tagging's
    ``decode``.
    """
    found = []
    for word in words:
        best, owner = -1, (0, 0)
        for w, layout in enumerate(layouts):
            for t in np.flatnonzero(layout.first & (layout.word == word)):
                if layout.margin[t] > best:
                    best, owner = int(layout.margin[t]), (w, int(t))
        found.append(owner)
    return found
