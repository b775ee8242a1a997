"""Below which probability answers are withheld, from what a person asks for: a probability, or a share of right ones."""

from __future__ import annotations

from pydantic import ValidationError

from polydetr.serving.contract import ModelInfo
from polydetr.studio.answer_parts import state_of
from polydetr.tasks.confidence import SavedCalibration


def least_of(info: ModelInfo, *, min_confidence: float | None, accuracy: float | None) -> dict[str, float]:
    """Target → the threshold, as ``inference.options.least_probabilities`` applies it; read from the model's folder, to
    be said beside an answer.
    """
    found: dict[str, float] = {}
    for target in info.answers:
        saved = state_of(info, target).get("calibration")
        if saved is None:
            continue
        if accuracy is not None:
            try:
                chosen = SavedCalibration.model_validate(saved).restored().threshold(accuracy)
            except ValidationError:
                chosen = None
            if chosen is not None:
                found[target] = chosen.threshold
        if min_confidence is not None:
            found[target] = max(min_confidence, found.get(target, 0.0))
    return found
