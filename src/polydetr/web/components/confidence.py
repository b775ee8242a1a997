"""How sure an answer is: a word and a number, and the threshold where there is one."""

from __future__ import annotations

from polydetr.reports.confidence import Sureness, in_words
from polydetr.web.markup import Native, box, text
from polydetr.web.words import Words

_NAMES: dict[Sureness, str] = {"sure": "sure", "fairly sure": "fairly", "unsure": "unsure"}


def confidence_words(
    words: Words, probability: float, *, least: float | None = None, abstained: bool = False
) -> tuple[str, str]:
    """The word, and what follows it: ("unsure", "0.54, abstained below 0.70")."""
    word = words(f"confidence.{_NAMES[in_words(probability)]}")
    number = f"{probability:.2f}"
    if not abstained:
        return word, number
    if least is None:
        return word, words("confidence.abstained", number=number)
    return word, words("confidence.abstained_below", number=number, least=f"{least:.2f}")


def confidence(words: Words, probability: float, *, least: float | None = None, abstained: bool = False) -> Native:
    """A badge. least: the probability below which answers are withheld; abstained: whether this one is."""
    word, rest = confidence_words(words, probability, least=least, abstained=abstained)
    kind = "abstained" if abstained else "unsure" if in_words(probability) == "unsure" else ""
    with box("span", f"pd-sure {kind}") as badge:
        text(word, "b")
        text(rest, "span", "pd-number")
    return badge
