"""A span found in a text, explained: how confident the model is that there is such a span at such a place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from polydetr.errors import InputError
from polydetr.heads.explained import CLEAR_SCORE, Answer, Reading, numbered, words_between
from polydetr.tasks.entities import SpanDetails


@dataclass(frozen=True)
class EntityAnswer(Answer):
    """max over spans of the label of score · overlap, where the overlap of two spans is the number of words in both by
    that of words in either. Which query finds a span is no part of the answer. It is the answer of an object (D-RISE,
    Petsiuk et al. 2021, arXiv 2006.03204, equation 4) in one dimension.
    """

    quantity: ClassVar[str] = "score × overlap"
    measure: ClassVar[str] = "score"
    level_name: ClassVar[str] = "score × overlap"
    remark: ClassVar[str] = (
        "A span's score is that of the best span of its label, times the share of words that both have in common with "
        "the one explained; a word scores what is lost of that without it. Such losses need not add up."
    )
    shown: str
    words: tuple[int, ...] = field()
    label: str
    floor: float = 0.0

    @classmethod
    def of(cls, reading: Reading, choice: Any) -> EntityAnswer:
        """The highest-scoring span, or the one whose number, from 0, ``choice`` is; where none is found, the nearest to
        being one.
        """
        found, details = reading.prediction.value, reading.prediction.details
        assert isinstance(details, SpanDetails)
        number = numbered(choice, len(found), "entities")
        if not details.all:
            raise InputError("the text has no span that comes near to being an entity: there is nothing to explain")
        chosen = found[number] if number is not None else max(found or details.all, key=lambda one: one["score"])
        shown = f"{chosen['text']} = {chosen['label']} ({chosen['score']:.1%})"
        return cls(
            shown if found else f"no entity; nearest: {shown}",
            words=tuple(words_between(reading.text, chosen["start"], chosen["end"])),
            label=chosen["label"],
            floor=CLEAR_SCORE if choice is None else 0.0,
        )

    def probability(self, reading: Reading) -> float:
        details, own = reading.prediction.details, set(self.words)
        assert isinstance(details, SpanDetails)
        scores = [0.0]
        for one in details.all:
            words = set(words_between(reading.text, one["start"], one["end"]))
            if one["label"] == self.label:
                scores.append(float(one["score"]) * len(own & words) / len(own | words))
        return max(scores)

    def moved(self, place: Callable[[int], int]) -> EntityAnswer:
        return replace(self, words=tuple(map(place, self.words)))
