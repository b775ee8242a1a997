"""What an explanation can see inside a network that lets itself be looked into: gradients, and attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from polydetr.engine.engine import Engine
from polydetr.explain.attribution import Attribution
from polydetr.modalities.units import Scores

if TYPE_CHECKING:
    from polydetr.explain.case import Case


class Insides(Protocol):
    """One network, looked into; ``engine`` asks that same network, in float32."""

    @property
    def engine(self) -> Engine: ...

    def attributed(self, case: Case) -> tuple[Attribution, Scores] | None:
        """The answer's attribution by gradients, and the score of every unit; None where gradients do not reach it."""
        ...

    def between_words(self, case: Case) -> tuple[dict[str, NDArray[np.float64]], list[str]]:
        """The attention between words (words, words) by part of the model, and notes about tables that are missing."""
        ...

    def by_modality(self, case: Case) -> dict[str, float]:
        """How the attention of the pooled answer is shared out; empty where that is not known."""
        ...

    def gaze(self, case: Case) -> NDArray[np.float64] | None:
        """Where the query looked that found the answer, as a map (cells, cells); None where no query did."""
        ...


@runtime_checkable
class HasInsides(Protocol):
    """A runner (``core.runner``) whose network can be looked into. All others are explained from outside alone."""

    def insides(self, engine: Any) -> Insides:
        """What is inside of the network that computes for ``engine``."""
        ...
