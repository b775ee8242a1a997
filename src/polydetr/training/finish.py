"""What comes after the steps: the best weights, the precision of predictions, and all that measures the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from polydetr.core.predictions import Evaluation
from polydetr.engine.measure import evaluation_warnings, with_coverage
from polydetr.engine.mistakes import with_mistakes
from polydetr.model.build import Assembly
from polydetr.model.masters import Masters
from polydetr.model.model import PolyModel
from polydetr.model.precision import Plain, Precision, apply, choose_for_prediction
from polydetr.training.adapters import plain_weights, remove_adapters
from polydetr.training.calibrate import calibrate, measure_precision, proving_rows
from polydetr.training.checkpoint import Checkpoints
from polydetr.training.cross_fitted import with_intervals
from polydetr.training.encode import EncodedRows, MeasuredRows, measure
from polydetr.training.limited import fitting
from polydetr.training.run import Run


@dataclass
class Measured:
    """What is known of a trained model. Whatever ends the measuring is kept as its ``failure``, to be raised once the
    model is saved: the training took hours, and this takes seconds.

    prediction: see ``_set_prediction``; before, evaluations: by target before the calibration, by split after it.
    """

    prediction: dict[str, Any]
    before: Mapping[str, Evaluation] = field(default_factory=dict)
    evaluations: dict[str, Mapping[str, Evaluation]] = field(default_factory=dict)
    failure: Exception | None = None

    @contextmanager
    def step(self) -> Iterator[None]:
        """One step of it; the next ones do without what it was to find."""
        try:
            yield
        except Exception as error:
            self.failure = self.failure or error


def finish(
    run: Run, assembly: Assembly, rows: EncodedRows, *, trained_in: Plain, measured_as: Assembly, few: bool
) -> Measured:
    """Puts the best weights into the model, settles the precision it predicts in, calibrates and measures it.

    rows: as the loop read them. measured_as: what answers the validation rows, see ``train_few``; few: whether the
    scores rest on few rows, so that they get intervals.
    """
    config, engine, notify = run.config, assembly.engine, run.display.note
    weights = _restore_best(assembly.model, run.checkpoints)
    # Features that were computed once, by a frozen backbone, are measured as they are: in the backbone's own precision.
    again = run.hooks.again
    proves = config.training.precision == "auto" and not config.training.freeze_backbones and again is None
    if run.budget is not None and run.devices.count == 1:
        rows, proves = fitting(run.budget, assembly, rows, proves=proves, notify=notify)
    measured = Measured({"precision": trained_in})
    with measured.step():
        if again is not None and again.prediction["precision"] not in ("fp32", "bf16"):  # proved before
            measured.prediction = dict(again.prediction)
            apply(assembly.model, Precision(again.prediction["precision"], around=trained_in), weights)
        else:
            measured.prediction = _set_prediction(run, assembly, weights, trained_in, rows.valid if proves else None)
    assembly.runner.masters = Masters(assembly.model, weights)
    del weights
    if again is None:
        with measured.step():
            measured.before, measured.evaluations["valid"] = calibrate(measured_as, rows.valid, notify=notify)
    with measured.step():
        if rows.test is not None:
            results, evaluated = measure(engine, rows.test)
            measured.evaluations["test"] = with_mistakes(engine, results, with_coverage(engine, results, evaluated))
    if few:
        measured.evaluations = {split: with_intervals(by) for split, by in measured.evaluations.items()}
    for split, by_target in measured.evaluations.items():
        for target, evaluation in by_target.items():
            task, where = engine.tasks[target], f"the {split} rows"
            for message in evaluation_warnings(task, evaluation, where=where, left_out=False):
                notify(message)
    return measured


def _restore_best(model: PolyModel, checkpoints: Checkpoints) -> dict[str, Tensor]:
    """Puts the best weights into the model; returns all of them under their plain names, the learned ones in fp32.

    What was not learned is the model's own, not a copy.
    """
    weights = plain_weights(model, dict(model.state_dict()) | checkpoints.load_best())
    remove_adapters(model)
    model.load_state_dict(weights)
    model.eval()
    return weights


def _set_prediction(
    run: Run, assembly: Assembly, weights: Mapping[str, Tensor], trained_in: Plain, valid: MeasuredRows | None
) -> dict[str, Any]:
    """Puts the model into the precision it predicts in, and returns what the folder records of that. valid: rows that
    prove another precision than ``trained_in``; None keeps that one.
    """
    if valid is None:
        return {"precision": trained_in}
    rows = proving_rows(valid)
    chosen = run.devices.in_first(
        lambda: choose_for_prediction(
            assembly.model, weights, trained_in=trained_in, rows=len(rows.records),
            measure=lambda: measure_precision(assembly.engine, rows), notify=run.display.note,
        )
    )  # fmt: skip
    if not run.devices.is_first:
        apply(assembly.model, Precision(chosen["precision"], around=trained_in), weights)
    return chosen
