"""The settings that a study kept, trained once more on all rows: none is left to choose the weights or to calibrate by.

It takes as many steps as the trial took to its best weights, along the same schedule, and is calibrated as the trial's
model was, which learned the same from a tenth fewer rows. Its scores on validation rows are those of that model, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from polydetr.errors import ModelFolderError
from polydetr.inference.folder import SEAL, read_manifest
from polydetr.model.folder import copy_reports, save_folder
from polydetr.training.callbacks import Display
from polydetr.training.fit import Trained, fit
from polydetr.training.report import write_run_reports
from polydetr.training.run import Again, Hooks
from polydetr.training.trial_settings import with_settings
from polydetr.training.trials import SharedRows, no_checkpoint_left


def refit(
    settings: Mapping[str, Any], trial: Path, rows: SharedRows, *, out: Path, display: Display | None = None
) -> bool:
    """Trains with the ``settings`` of the trial whose model is in the folder ``trial`` on training and validation rows,
    and saves the model in ``out``; it is measured on the test rows, where there are some. Answers False, and saves
    nothing, where the trial's model has seen all rows already (``few_rows``).

    Raises:
        ModelFolderError: ``trial`` cannot be read. PolydetrError: what ends a training. SaveError.
    """
    before, shown = read_manifest(trial), display or Display()
    if before["training"]["cross_validated"]:
        shown.note("trained on all rows already: nothing was held out")
        return False
    step, steps = _until(before, trial)
    splits = rows.splits
    config = with_settings(rows.config, settings).model_copy(update={"time_limit": None})
    again = Again(step, steps, before["tasks"], before.get("prediction", {"precision": "fp32"}))
    everything = replace(
        splits, train=[*splits.train, *splits.valid], valid=[*splits.valid], rejected=[*splits.rejected],
        is_held_out=False,
    )  # fmt: skip
    with no_checkpoint_left(out):
        trained = fit(
            config, rows.schema, everything, out=out, resume=False, display=shown, hooks=Hooks(plans=False, again=again)
        )
        if trained.failure is not None:
            raise trained.failure
        count = len(everything.train)
        shown.note(
            f"trained again on all {count:,} rows, {step:,} steps as before; its calibration, and its scores on "
            "validation rows, are those of the model that had not seen these"
        )
        _save(out, trained, trial, before, count)
    return True


def _until(before: Mapping[str, Any], trial: Path) -> tuple[int, float]:
    """The step of the best weights, and the steps of the schedule that it stands in. Raises ModelFolderError."""
    best = before["training"]["best_step"]
    progress = next((entry.get("progress") for entry in before["history"] if entry["step"] == best), None)
    if progress is None:
        raise ModelFolderError(f"{str(trial)!r} does not say how its training went.", hint="Train it again.")
    return best, best / progress if progress else 1.0


def _save(out: Path, trained: Trained, trial: Path, before: Mapping[str, Any], count: int) -> None:
    runner = trained.assembly.runner
    assert runner.masters is not None  # it was trained
    info = {
        **trained.info,
        "metrics": {**before["metrics"], **trained.info["metrics"]},
        "ece_before_calibration": before["ece_before_calibration"],
        "history": before["history"],
        "training": {**trained.info["training"], "refit_rows": count},
    }
    shown = replace(trained, info=info, history=before["history"], step_losses={})

    def reports(folder: Path) -> None:
        copy_reports(trial, folder, seal=before[SEAL])
        write_run_reports(folder, shown)

    save_folder(out, trained.assembly.engine, runner.masters.tensors(), info, extra=reports)
