"""What an explanation needs of a task: which answer is explained, and how probable that answer is in a changed row.

Where a head can be differentiated, it adds the number that gradients are taken of (``heads.explained``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from polydetr.core.examples import Arrays
from polydetr.core.layout import FieldText, Layout
from polydetr.core.predictions import Prediction
from polydetr.errors import InputError

Counterpart = Callable[[], NDArray[np.floating]]
"""Returns the vector with which an embedding is compared; raises InputError where there is none."""
CLEAR_SCORE = 0.1
"""An object or entity of a lower score is hardly one: its deletion is not checked."""


@dataclass(frozen=True)
class Reading:
    """The model's answer to one row: the decoded prediction, and the raw outputs and layout of every window."""

    prediction: Prediction
    outputs: Sequence[Arrays]
    layouts: Sequence[Layout]
    text: FieldText


@dataclass(frozen=True)
class Answer(ABC):
    """One answer of one task, to be explained.

    shown: the answer as text; words: the words (of the windowed column) of which it consists, which are never deleted;
    floor: an answer of a lower probability is hardly more than chance, so that its deletion is not checked.
    """

    quantity: ClassVar[str]
    """The name of the explained number, where it is explained by gradients."""
    measure: ClassVar[str] = "probability"
    """The name of ``probability``."""
    level_name: ClassVar[str] = "probability"
    """The name of ``level``."""
    remark: ClassVar[str] = ""
    """A sentence about that measure, for reports."""
    signed: ClassVar[bool] = True
    """False: a word that pushes the number down matters as much as one that pushes it up."""
    is_pooled: ClassVar[bool] = False
    """Whether it is read from the pooled vector, whose attention can then be shown."""

    shown: str
    words: tuple[int, ...] = field(default=(), kw_only=True)
    floor: float = field(default=0.0, kw_only=True)

    @abstractmethod
    def probability(self, reading: Reading) -> float:
        """The probability of this same answer in another row."""

    def level(self, reading: Reading) -> float:
        """The number that is shown of the answer in another row: its probability, or the answered number itself."""
        return self.probability(reading)

    def moved(self, place: Callable[[int], int]) -> Self:
        """The same answer where words before it have been deleted: word i has become word ``place(i)``."""
        return replace(self, words=tuple(map(place, self.words)))


@dataclass(frozen=True)
class PlacedAnswer(Answer):
    """An answer that lies somewhere in the first image of the row.

    box: left, top, right, bottom as shares of the square that the model reads.
    """

    box: tuple[float, float, float, float]


@runtime_checkable
class Explains(Protocol):
    """A task whose answers can be explained."""

    def answer_of(self, reading: Reading, choice: Any, *, counterpart: Counterpart) -> Answer:
        """The predicted answer, or the one that ``choice`` names (what that can be, the task decides; None: no choice).

        Raises:
            InputError: the task has no such choice, or there is nothing to explain.
        """
        ...


# -- what several answers need -----------------------------------------------------------------------------------------


def no_choice(task: Any, choice: Any) -> None:
    """Raises InputError where a choice is given: the task has none."""
    if choice is not None:
        raise InputError(f"choice={choice!r} means nothing for the task {task.kind!r}", hint="Leave it out.")


def numbered(choice: Any, count: int, name: str) -> int | None:
    """The number of the entity or object that ``choice`` names; the command line gives it as text.

    Raises:
        InputError: there is none of that number.
    """
    if choice is None:
        return None
    number = int(choice) if isinstance(choice, str) and choice.isdecimal() else choice
    if not (isinstance(number, int) and 0 <= number < count):
        raise InputError(f"choice={choice!r}: this row has {count} {name}", hint="Name one by its number, from 0.")
    return number


def words_between(text: FieldText, start: int, end: int) -> list[int]:
    """The numbers of the words that overlap with characters start … end."""
    return [i for i, (a, b) in enumerate(text.words) if a < end and b > start]
