"""The columns of a table in which answers are written: what each task gives (``AnswerColumn``), and what a writer of a
file needs to know of each (``TableColumn``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from polydetr.core.predictions import Prediction, label_of

CellKind = Literal["own", "text", "number", "whole", "truth", "nested", "vector"]
"""What the cells of a column hold, where one is not empty (None): "own", whatever the user's rows have there; "whole",
an int; "truth", a bool; "nested", a list or mapping of JSON; "vector", a list of floats.
"""


@dataclass(frozen=True, slots=True)
class TableColumn:
    """One column of a table that is written."""

    name: str
    kind: CellKind = "own"


@dataclass(frozen=True, slots=True)
class AnswerColumn:
    """One column of a task's answers. cell: a prediction → what stands in it, None for an empty cell."""

    name: str
    kind: CellKind
    cell: Callable[[Prediction], Any]


def predicted(target: str, kind: CellKind, cell: Callable[[Prediction], Any] | None = None) -> AnswerColumn:
    """The answer itself, ``predicted_<target>``; cell: by default the prediction's value."""
    return AnswerColumn(f"predicted_{target}", kind, cell or (lambda prediction: prediction.value))


def confidence(target: str) -> AnswerColumn:
    """The answer's calibrated probability, ``<target>_confidence``."""
    return AnswerColumn(f"{target}_confidence", "number", lambda prediction: prediction.probability)


def listed(target: str, in_words: Callable[[Mapping[str, Any]], str]) -> list[AnswerColumn]:
    """A list of spans or boxes: ``predicted_<target>`` as JSON, and ``<target>_text`` for people; in_words: one item
    as text.
    """

    def text(prediction: Prediction) -> str:
        return "; ".join(in_words({**item, "label": label_of(item)}) for item in prediction.value)

    return [predicted(target, "nested"), AnswerColumn(f"{target}_text", "text", text)]


def distinct_names(wanted: Sequence[str], taken: Sequence[str]) -> list[str]:
    """The ``wanted`` names, each with ``_2``, ``_3``, ... where it is taken or was wanted before."""
    known, names = set(taken), []
    for name in wanted:
        free, number = name, 1
        while free in known:
            number += 1
            free = f"{name}_{number}"
        known.add(free)
        names.append(free)
    return names
