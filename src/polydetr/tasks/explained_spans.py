"""Answers that lie in a text, explained: tagged words, the span that answers a question, one of a set of spans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from polydetr.core.layout import Layout
from polydetr.errors import InputError
from polydetr.tasks.base import log_softmax
from polydetr.tasks.explained import CLEAR_SCORE, Answer, Reading, numbered, words_between

if TYPE_CHECKING:
    from polydetr.tasks.entities import SpanDetails
    from polydetr.tasks.qa import QuestionAnsweringTask
    from polydetr.tasks.tagging import TagDetails, TaggingTask


@dataclass(frozen=True)
class TagAnswer(Answer):
    """The sum of the tag log probabilities of an entity's words, each in the window that ``decode`` takes it from.

    labels: of each word, the number of its tag; owners: of each word, (window, token) of its first token.
    """

    quantity: ClassVar[str] = "log probability"
    labels: tuple[int, ...]
    temperature: float
    owners: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, task: TaggingTask, reading: Reading, details: TagDetails, choice: Any) -> Self:
        """choice: the number of an entity, from 0. Raises InputError where there is none of it, or no word."""
        entities: list[dict[str, Any]] = reading.prediction.value
        number = numbered(choice, len(entities), "entities")
        if entities:
            chosen = entities[number] if number is not None else max(entities, key=lambda e: e["probability"])
            words = words_between(reading.text, chosen["start"], chosen["end"])
            shown = f"{chosen['text']} = {chosen['label']} ({chosen['probability']:.1%})"
        elif not reading.text.words:
            raise InputError("the text has no word: there is nothing to explain")
        else:  # explain the word that came nearest to being an entity
            confidence = details.word_probability
            words = [int(np.argmin(confidence))]
            start, end = reading.text.words[words[0]]
            shown = f"no entity; nearest: {reading.text.text[start:end]} = O ({confidence[words[0]]:.1%})"
        labels = tuple(task.labels.index(details.tags[i]) for i in words)
        owners = tuple(_owning_tokens(reading.layouts, words))
        return cls(shown, labels, task.temperature, owners, words=tuple(words))

    def probability(self, reading: Reading) -> float:
        owners = _owning_tokens(reading.layouts, self.words)
        log_p = [log_softmax(reading.outputs[w]["logits"][t], self.temperature) for w, t in owners]
        return float(np.exp(min(p[label] for p, label in zip(log_p, self.labels, strict=True))))


def _owning_tokens(layouts: Sequence[Layout], words: Sequence[int]) -> list[tuple[int, int]]:
    """(window, token) of each word's first token, in the window with most context around it: the rule of ``decode``."""
    owners = []
    for word in words:
        best, owner = -1, (0, 0)
        for w, layout in enumerate(layouts):
            for t in np.flatnonzero(layout.first & (layout.word == word)):
                if layout.margin[t] > best:
                    best, owner = int(layout.margin[t]), (w, int(t))
        owners.append(owner)
    return owners


@dataclass(frozen=True)
class SpanAnswer(Answer):
    """Start plus end logit of the answer in the window that gave it; where "no answer" was answered, of [CLS] in the
    window in which that is least probable.

    edges: characters of the answer's start inside its first word and of its end inside its last; at: (window, first
    token, last token).
    """

    quantity: ClassVar[str] = "start + end logit"
    edges: tuple[int, int]
    temperature: float
    at: tuple[int, int, int]

    @classmethod
    def of(cls, task: QuestionAnsweringTask, reading: Reading) -> Self:
        value, probability = reading.prediction.value, reading.prediction.probability or 0.0
        if value["start"] is None:
            answer = cls(f"no answer ({probability:.1%})", (0, 0), task.temperature, (0, 0, 0))
            return replace(answer, at=min(answer.places(reading))[1])
        words = words_between(reading.text, value["start"], value["end"])
        first, last = (reading.text.words[word][0] for word in (words[0], words[-1]))
        edges = (value["start"] - first, value["end"] - last)
        shown = f"{value['text']} ({probability:.1%})"
        answer = cls(shown, edges, task.temperature, (0, 0, 0), words=tuple(words))
        return replace(answer, at=max(answer.places(reading))[1])

    def probability(self, reading: Reading) -> float:
        log_p = [log_p for log_p, _ in self.places(reading)]
        if not log_p:
            return 0.0
        return float(np.exp(max(log_p) if self.words else min(log_p)))

    def places(self, reading: Reading) -> list[tuple[float, tuple[int, int, int]]]:
        """Log probability and (window, first, last token) of the answer in every window that holds it whole."""
        places = []
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
                places.append((float(start + stop), (w, int(first[0]), int(last[-1]))))
        return places


@dataclass(frozen=True)
class EntityAnswer(Answer):
    """max over the candidates of the label of score · overlap, where the overlap of two spans is the number of words in
    both divided by that of words in either. Which query finds the span does not matter. This is the measure of objects
    (D-RISE, Petsiuk et al. 2021, arXiv 2006.03204, equation 4) in one dimension.
    """

    quantity: ClassVar[str] = "score × overlap"
    measure: ClassVar[str] = "score"
    level_name: ClassVar[str] = "score × overlap"
    remark: ClassVar[str] = (
        "A span's score is that of the best span of its label, times the share of words that both have in common with "
        "the one explained; a word scores what is lost of that without it. Such losses need not add up."
    )
    label: str

    @classmethod
    def of(cls, reading: Reading, choice: Any) -> Self:
        """choice: the number of a span, from 0; without one the highest-scoring is explained, or, where no span is
        answered, the candidate of the highest score.

        Raises:
            InputError: there is no such span, or no candidate at all.
        """
        spans, candidates = reading.prediction.value, _candidates(reading)
        number = numbered(choice, len(spans), "entities")
        if not candidates:
            raise InputError("the text has no span that comes near to being an entity: there is nothing to explain")
        chosen = spans[number] if number is not None else max(spans or candidates, key=lambda one: one["score"])
        shown = f"{chosen['text']} = {chosen['label']} ({chosen['score']:.1%})"
        return cls(
            shown if spans else f"no entity; nearest: {shown}",
            chosen["label"],
            words=tuple(words_between(reading.text, chosen["start"], chosen["end"])),
            floor=CLEAR_SCORE if choice is None else 0.0,
        )

    def probability(self, reading: Reading) -> float:
        own, scores = set(self.words), [0.0]
        for one in _candidates(reading):
            words = set(words_between(reading.text, one["start"], one["end"]))
            if one["label"] == self.label:
                scores.append(float(one["score"]) * len(own & words) / len(own | words))
        return max(scores)


def _candidates(reading: Reading) -> Sequence[Mapping[str, Any]]:
    details: Any = reading.prediction.details
    spans: SpanDetails = details
    return spans.all
