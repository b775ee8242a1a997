"""What a run calls while it works: displays get its steps, evaluations and messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class StepInfo:
    """What a progress display may show after each step. ``pace``: tokens or images a second, with its unit."""

    progress: float
    step: int
    epoch: float
    loss: float
    tokens_per_second: float
    pace: str
    remaining_seconds: float
    learning_rate: float


class Display:
    """What a run reports to while it works: silent here, drawn by ``training.display``, logged by
    ``training.tracking``.
    """

    def note(self, message: str) -> None: ...
    def step(self, info: StepInfo) -> None: ...
    def evaluation(self, entry: Mapping[str, Any]) -> None: ...
    def close(self) -> None: ...


class Pruned(Exception):
    """``on_evaluation`` ended the run: whoever gave it takes it from here."""
