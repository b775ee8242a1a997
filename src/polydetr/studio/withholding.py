"""Below which probability answers are withheld, where a person asks for one, or for a share of right answers."""

from __future__ import annotations

from pydantic import ValidationError

from polydetr.core.plugs import TASKS
from polydetr.serving.contract import ModelInfo
from polydetr.studio.answer_parts import state_of
from polydetr.tasks.confidence import SavedCalibration


def judged(info: ModelInfo) -> list[str]:
    """The targets whose answers are right or wrong one by one, so that they can be withheld
    (``tasks.capabilities.Judged``).
    """
    kinds = {target: str(answer.get("x-task", "")) for target, answer in info.answers.items()}
    return [target for target, kind in kinds.items() if kind in TASKS and hasattr(TASKS[kind], "withhold")]


def least_of(info: ModelInfo, *, min_confidence: float | None, accuracy: float | None) -> dict[str, float]:
    """Target → the threshold, as ``inference.options.least_probabilities`` applies it; read from the model's folder, to
    be said beside an answer.
    """
    found: dict[str, float] = {}
    for target in judged(info):
        saved = state_of(info, target).get("calibration")
        if accuracy is not None and saved is not None:
            try:
                chosen = SavedCalibration.model_validate(saved).restored().threshold(accuracy)
            except ValidationError:
                chosen = None
            if chosen is not None:
                found[target] = chosen.threshold
        if min_confidence is not None:
            found[target] = max(min_confidence, found.get(target, 0.0))
    return found
