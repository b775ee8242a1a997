"""How rows are read and answered, and which answers are withheld."""

from __future__ import annotations

from dataclasses import dataclass

from polydetr.core.reading import ReadOptions
from polydetr.engine.encode import Strictness
from polydetr.engine.engine import Engine
from polydetr.errors import InputError
from polydetr.metrics.calibration import Threshold
from polydetr.tasks.capabilities import Judged


@dataclass(frozen=True)
class Options:
    """How rows are read and answered.

    reading: what a file does not say about itself, and what becomes of a row that cannot be read: an answer with its
        error stands in its place, unless ``on_error`` is "raise" or "skip".
    strictness: "strict" refuses rows that are in any way unlike what the model was trained on (``check`` lists them);
        "lenient" takes a value that cannot be read, or a column that is not there, as missing.
    seed: for targets that are drawn at random (generation): the same seed and rows give the same images.
    min_confidence: answers of a lower probability are withheld (``Prediction.abstained``), the best guess beside them.
    accuracy: the same, with the probability that reaches this share of right answers (see ``thresholds``).
    """

    reading: ReadOptions = ReadOptions()
    strictness: Strictness = "normal"
    seed: int = 0
    min_confidence: float | None = None
    accuracy: float | None = None


def thresholds(engine: Engine, accuracy: float) -> dict[str, Threshold]:
    """See ``LoadedModel.thresholds``."""
    judged = {t: task for t, task in engine.tasks.items() if isinstance(task, Judged)}
    found = {t: chosen for t, task in judged.items() if (chosen := task.calibration.threshold(accuracy))}
    if not found:
        reason = "was saved without answers to validation rows" if judged else "answers with no probabilities"
        raise InputError(
            f"this model {reason}, so no threshold reaches an accuracy of {accuracy:g}",
            hint="Train it anew, or name a probability: min_confidence (predict --min-confidence)."
            if judged
            else "Leave the accuracy out.",
        )
    return found


def least_probabilities(engine: Engine, options: Options) -> dict[str, float]:
    """Target → the probability below which answers are withheld."""
    if options.min_confidence is not None and not 0 <= options.min_confidence <= 1:
        raise InputError(f"a confidence of {options.min_confidence:g} is no probability between 0 and 1.")
    least = {}
    if options.accuracy is not None:
        least = {target: chosen.threshold for target, chosen in thresholds(engine, options.accuracy).items()}
    if options.min_confidence is not None:
        judged = [t for t, task in engine.tasks.items() if isinstance(task, Judged)]
        if not judged:
            raise InputError("this model answers with no probabilities.", hint="Leave min_confidence out.")
        least = {t: max(options.min_confidence, least.get(t, 0.0)) for t in judged}
    return least
