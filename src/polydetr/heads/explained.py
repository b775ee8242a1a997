"""What explanations ask of a head: the number of an answer as a function of its outputs, and where its queries looked.

A long text is read in windows; each head computes an answer's number from the windows exactly as its task's ``decode``
does, so that attributions over several windows add up to the number of the model's real answer. Which answer that is,
its task decides (``tasks.explained``).

Shapes: n points of the path, W windows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from polydetr.heads.base import Tensors
from polydetr.tasks.explained import Reading


@runtime_checkable
class HasGradients(Protocol):
    """A head whose answers are differentiable numbers."""

    def explained(self, answer: Any, outputs: Tensors) -> Tensor:
        """Raw outputs, each (n, W, ...) → the number of the ``answer`` (its class says which), (n,)."""
        ...


@runtime_checkable
class ShowsGaze(Protocol):
    """A head whose answers lie somewhere in the first image of the row, and are found by queries that look there."""

    def looked_at(self, answer: Any, reading: Reading, forward: Callable[[], object]) -> NDArray[np.float64]:
        """The attention of the query that gave the ``answer``, as a map (cells, cells) over the image. Sums to 1, less
        the share outside of the image. forward: runs the model once more over the one row.
        """
        ...
