"""The model of a study, written where the user wants it: that of the kept trial, measured on the test rows at last."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from polydetr.core.predictions import Evaluation
from polydetr.core.records import Record
from polydetr.core.studies import StudyRecord
from polydetr.engine.engine import Engine
from polydetr.engine.intervals import with_intervals
from polydetr.engine.measure import with_coverage
from polydetr.engine.mistakes import with_mistakes
from polydetr.engine.render import image_of
from polydetr.errors import ModelFolderError
from polydetr.inference.folder import SEAL, read_manifest
from polydetr.inference.load import load_engine
from polydetr.model.folder import copy_reports, save_folder
from polydetr.model.runner import TorchRunner
from polydetr.reports.evaluation import write_evaluations
from polydetr.training.encode import encode_measured_rows, measure
from polydetr.training.limited import chosen
from polydetr.training.plan import LEAST_MEASURED
from polydetr.training.trials import SharedRows

TUNING = "tuning"
"""The key of a model folder's description that tells of the study."""


def save_model(
    record: StudyRecord, model: Path, out: Path, rows: SharedRows, *, notify: Callable[[str], None],
    until: float = float("inf"),
) -> None:  # fmt: skip
    """Saves the model in the folder ``model`` at ``out``, with what its description says of the study. until: when the
    test rows are to be answered, by ``time.monotonic``.

    Raises:
        SaveError: it cannot be written; what was there before is untouched. ModelFolderError: ``model`` cannot be read.
    """
    told = _told(record)
    if _already(out, told):
        notify(f"another process saved the model of this study in {str(out)!r}")
        return
    engine, manifest = load_engine(model)
    test = rows.splits.test if "test" not in manifest["metrics"] else None  # else it was measured where it was trained
    test = _in_time(engine, test, rows, until=until, notify=notify) if test else None
    tested = _tested(engine, test, rows, notify=notify) if test else {}
    metrics = {"test": {target: dict(e.metrics) for target, e in tested.items()}} if tested else {}
    info = {**manifest, TUNING: told, "metrics": {**manifest["metrics"], **metrics}}

    def reports(folder: Path) -> None:
        copy_reports(model, folder, seal=manifest.get(SEAL))
        if tested:
            (folder / "reports").mkdir(exist_ok=True)
            write_evaluations(folder / "reports", tested, name="test", image_of=partial(image_of, engine))

    runner = engine.runner
    assert isinstance(runner, TorchRunner)
    assert runner.masters is not None  # it was loaded from a folder
    save_folder(out, engine, runner.masters.tensors(), info, extra=reports)


def _in_time(
    engine: Engine, records: list[Record], rows: SharedRows, *, until: float, notify: Callable[[str], None]
) -> list[Record]:
    """As many of the rows as are answered until then, by the pace of a few."""
    few, seed = LEAST_MEASURED, rows.config.seed
    if until == float("inf") or len(records) <= few:
        return records
    began = time.monotonic()
    deque(engine.answered(engine.encode(chosen(records, few, by=None, seed=seed), on_error="return")), maxlen=0)
    now = time.monotonic()
    count = max(few, int(min(len(records), few * (until - now) / max(now - began, 1e-9))))
    if count < len(records):
        notify(f"time limit: {count:,} of {len(records):,} test rows are measured")
    return chosen(records, count, by=None, seed=seed)


def _tested(
    engine: Engine, records: list[Record], rows: SharedRows, *, notify: Callable[[str], None]
) -> Mapping[str, Evaluation]:
    """Every target's evaluation of the test rows, which nothing before has seen."""
    measured = encode_measured_rows(engine, records, rows.config, rows.splits.rejected, split="test", notify=notify)
    results, evaluations = measure(engine, measured)
    evaluations = with_mistakes(engine, results, with_coverage(engine, results, evaluations))
    return with_intervals(engine.tasks, evaluations)


def _told(record: StudyRecord) -> dict[str, Any]:
    trial = next(trial for trial in record.trials if trial.number == record.kept)
    ended = [one.number for one in record.trials if one.state != "running"]
    return {
        "study": record.name, "trials": len(ended), "trial": record.kept, "settings": dict(trial.settings),
        "score": trial.score, "metric": record.metric, "gain": None if record.gain is None else asdict(record.gain),
    }  # fmt: skip


def _already(out: Path, told: Mapping[str, Any]) -> bool:
    try:
        return bool(read_manifest(out).get(TUNING) == told)
    except ModelFolderError:
        return False
