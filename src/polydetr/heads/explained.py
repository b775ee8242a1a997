"""What an explanation asks of a head's class: which number an answer hangs on, and that answer's probability when the
row has changed.

A long text is read in windows; each answer takes its number from the windows exactly as its task's ``decode`` does, so
what the gradients say of several windows adds up to what the model really answered.

Shapes: n points of the path, W windows, L tokens, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from polydetr.core.examples import Arrays
from polydetr.core.layout import FieldText, Layout
from polydetr.core.predictions import Prediction
from polydetr.errors import InputError

Counterpart = Callable[[], NDArray[np.floating]]
"""Gives the vector that the one of an embedding is compared with; raises InputError where there is none."""
CLEAR_SCORE = 0.1
"""An object or entity of a smaller score is hardly one."""


@dataclass(frozen=True)
class Reading:
    """What the model said to one row: its decoded prediction and the raw outputs of every window."""

    prediction: Prediction
    outputs: Sequence[Arrays]
    layouts: Sequence[Layout]
    text: FieldText


class Answer(ABC):
    """One answer of one task. ``shown`` says it in words; ``words`` are the words (of the windowed column) that it
    consists of, which are never deleted.
    """

    quantity: ClassVar[str]
    """What the explained number is called."""
    measure: ClassVar[str] = "probability"
    """What ``probability`` is called."""
    level_name: ClassVar[str] = "probability"
    """What ``level`` is called."""
    remark: ClassVar[str] = ""
    """What is to be said of that measure."""
    signed: ClassVar[bool] = True
    """False: a word that pushes the number down matters as much as one that pushes it up."""
    is_pooled: ClassVar[bool] = False
    """Whether it is read from the pooled vector, whose attention can then be shown."""
    floor: float = 0.0
    """An answer less probable than this is hardly more than chance: nothing to check."""
    shown: str
    words: tuple[int, ...] = ()

    @abstractmethod
    def probability(self, reading: Reading) -> float:
        """How probable this same answer is in another row."""

    def level(self, reading: Reading) -> float:
        """What is shown of the answer in another row: its probability, or, for a number, the number answered."""
        return self.probability(reading)

    def moved(self, place: Callable[[int], int]) -> Answer:
        """The same answer where words before it have been deleted: word i has become word ``place(i)``."""
        return self


class SmoothAnswer(Answer):
    """One that gradients lead to."""

    @abstractmethod
    def score(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """Raw outputs, each (n, W, ...) → the explained number, (n,)."""


class PlacedAnswer(Answer):
    """One that lies somewhere in the first image of the row."""

    box: tuple[float, float, float, float]
    """left, top, right, bottom as shares of what the model sees."""

    @abstractmethod
    def looked_at(self, head: Any, reading: Reading, forward: Callable[[], object]) -> NDArray[np.float64]:
        """(cells, cells) over the image: how the attention of what found it is shared out. Sums to 1, less what is
        read outside of the image.

        head: the module that gave the answer; ``forward`` lets it answer the only row once more.
        """


@runtime_checkable
class Explains(Protocol):
    """A head's class whose answers can be explained."""

    def answer_of(self, task: Any, reading: Reading, choice: Any, *, counterpart: Counterpart) -> Answer:
        """The predicted answer, or the one that ``choice`` names (what that can be, the task decides; None: no choice).

        Raises:
            InputError: the task has no such choice, or there is nothing to explain.
        """
        ...


# -- what several answers need -----------------------------------------------------------------------------------------


def no_choice(task: Any, choice: Any) -> None:
    """Raises InputError where a choice is given that means nothing."""
    if choice is not None:
        raise InputError(f"choice={choice!r} means nothing for the task {task.kind!r}", hint="Leave it out.")


def numbered(choice: Any, count: int, name: str) -> int | None:
    """The number of the entity or object that ``choice`` means; the command line gives it as text.

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
    """The words that characters start … end touch."""
    return [i for i, (a, b) in enumerate(text.words) if a < end and b > start]
