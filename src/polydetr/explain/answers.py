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
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from polydetr.batch import Arrays
from polydetr.errors import InputError, did_you_mean
from polydetr.layout import FieldText, Layout
from polydetr.tasks.base import Prediction, Task, log_softmax
from polydetr.tasks.classification import ClassificationTask
from polydetr.tasks.qa import QuestionAnsweringTask
from polydetr.tasks.regression import RegressionTask
from polydetr.tasks.tagging import TaggingTask


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
    floor: float = 0.0  # an answer less probable than this is hardly more than chance: nothing to check
    signed: ClassVar[bool] = True  # False: a word that pushes the number down matters as much as one that pushes it up
    shown: str
    words: tuple[int, ...] = ()

    @abstractmethod
    def score(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """Raw outputs, each (n, W, ...) → the explained number, (n,)."""

    @abstractmethod
    def probability(self, reading: Reading) -> float:
        """How probable this same answer is in another text."""

    def moved(self, place: Callable[[int], int]) -> Answer:
        """The same answer where words before it have been deleted: word i has become word ``place(i)``."""
        return self


@dataclass(frozen=True)
class ClassAnswer(Answer):
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
class ValueAnswer(Answer):
    """The predicted number, in its own unit.

    A number has no probability. The likelihood of the answer relative to that in the whole text stands in, under a
    normal
    distribution as wide as the training values: exp(-(Δ/σ)²/2).
    """

    quantity: ClassVar[str] = "value"
    signed: ClassVar[bool] = False
    shown: str
    value: float
    mean: float
    deviation: float

    def score(self, outputs: Mapping[str, Tensor]) -> Tensor:
        return self.mean + self.deviation * outputs["logits"][..., 0].mean(1)

    def probability(self, reading: Reading) -> float:
        return math.exp(-0.5 * ((float(reading.prediction.value) - self.value) / self.deviation) ** 2)


@dataclass(frozen=True)
class TagAnswer(Answer):
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
class SpanAnswer(Answer):
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


def answer_of(task: Task, reading: Reading, choice: str | int | None = None) -> Answer:
    """The predicted answer, or the one that ``choice`` names: a label (classification) or the number of an entity,
    from 0 (tagging).

    Raises:
        InputError: the task cannot be explained, or has no such choice.
    """
    if isinstance(task, ClassificationTask):
        return _class_answer(task, reading, choice)
    if isinstance(task, TaggingTask):
        return _tag_answer(task, reading, choice)
    if choice is not None:
        raise InputError(f"choice={choice!r} means nothing for the task {task.kind!r}", hint="Leave it out.")
    if isinstance(task, RegressionTask):
        value = float(reading.prediction.value)
        return ValueAnswer(f"{value:.4g}", value, task.mean, task.deviation)
    if isinstance(task, QuestionAnsweringTask):
        return _span_answer(task, reading)
    raise InputError(
        f"target {task.target!r} cannot be explained: the task {task.kind!r} has no explanation",
        hint="Explained are classification, regression, tagging and qa.",
    )


def _class_answer(task: ClassificationTask, reading: Reading, choice: str | int | None) -> ClassAnswer:
    probabilities: Mapping[str, float] = reading.prediction.details["probabilities"]
    if choice is not None and choice not in probabilities:
        raise InputError(f"{choice!r} is not a label of {task.target!r}. {did_you_mean(str(choice), probabilities)}")
    label = str(choice) if choice is not None else max(probabilities, key=lambda name: probabilities[name])
    p = probabilities[label]
    shown = f"{label} ({p:.1%})" if not task.multi_label or p >= task.threshold else f"{label} ({p:.1%}, not given)"
    chance = 0.5 if task.multi_label else 1 / len(task.labels)
    floor = chance + 0.3 * (1 - chance) if choice is None else 0.0
    return ClassAnswer(shown, task.labels.index(label), task.temperature, task.multi_label, floor)


def _tag_answer(task: TaggingTask, reading: Reading, choice: str | int | None) -> TagAnswer:
    entities: list[dict[str, Any]] = reading.prediction.value
    details = reading.prediction.details
    if choice is not None and not (isinstance(choice, int) and 0 <= choice < len(entities)):
        raise InputError(
            f"choice={choice!r}: this row has {len(entities)} entities", hint="Name one by its number, counted from 0."
        )
    if entities:
        chosen = entities[choice] if isinstance(choice, int) else max(entities, key=lambda e: e["probability"])
        words = [i for i, (a, b) in enumerate(reading.text.words) if a < chosen["end"] and b > chosen["start"]]
        shown = f"{chosen['text']} = {chosen['label']} ({chosen['probability']:.1%})"
    else:  # why is there none? The word that came nearest to one tells
        sure: list[float] = details["word_probability"]
        words = [int(np.argmin(sure))]
        start, end = reading.text.words[words[0]]
        shown = f"no entity; nearest: {reading.text.text[start:end]} = O ({sure[words[0]]:.1%})"
    labels = tuple(task.labels.index(details["tags"][i]) for i in words)
    return TagAnswer(shown, tuple(words), labels, task.temperature, tuple(owning_tokens(reading.layouts, words)))


def _span_answer(task: QuestionAnsweringTask, reading: Reading) -> SpanAnswer:
    value, probability = reading.prediction.value, reading.prediction.probability or 0.0
    if value["start"] is None:
        answer = SpanAnswer(f"no answer ({probability:.1%})", (), (0, 0), task.temperature, (0, 0, 0))
        return replace(answer, at=min(answer.places(reading))[1])
    words = [i for i, (a, b) in enumerate(reading.text.words) if a < value["end"] and b > value["start"]]
    edges = (value["start"] - reading.text.words[words[0]][0], value["end"] - reading.text.words[words[-1]][0])
    answer = SpanAnswer(f"{value['text']} ({probability:.1%})", tuple(words), edges, task.temperature, (0, 0, 0))
    return replace(answer, at=max(answer.places(reading))[1])
