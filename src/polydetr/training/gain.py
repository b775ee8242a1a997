"""What the settings of one trial gain over those of another, on rows that chose nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from polydetr.core.predictions import RowResult
from polydetr.core.studies import Gain
from polydetr.engine.engine import Engine
from polydetr.engine.measure import golds_with_vectors
from polydetr.inference.folder import read_manifest
from polydetr.inference.load import load_engine
from polydetr.training.bootstrap import evaluations_of, gain_between, resampled_scores
from polydetr.training.encode import MeasuredRows, encode_measured_rows
from polydetr.training.objective import score_of
from polydetr.training.trials import JUDGED, REPORT, SharedRows


def gain(default: Path, best: Path, rows: SharedRows, *, until: float = float("inf")) -> Gain | None:
    """The gain of the model in the folder ``best`` over that in ``default``, both of trials of these rows: a paired
    bootstrap of the score over rows that chose nothing. These are the validation rows that calibrate
    (``MeasuredRows.calibrating``); those withheld from all trials (``SharedRows.withheld``); or, where trials are
    cross-validated, the half of the answers that is no part of the score. The same models and rows give the same,
    unless the bootstrap takes until the time ``until``, by ``time.monotonic``, from which on fewer draws have to do.

    None where there are no such rows: the validation rows are so few that all of them choose the weights, or one of
    the models has learned from them (``few_rows``) and the other has not.

    Raises:
        ModelFolderError: a folder cannot be loaded. RowError, SchemaError: a row cannot be read, or none has a label.
    """
    before, after = _kept(default), _kept(best)
    if before is not None and after is not None:
        # Folds and ``few_rows`` answer other rows: then the draws are not paired, and the interval is wider.
        count = min(len(one["resampled"]) for one in (before, after))
        scores = [np.array(one["resampled"][:count], dtype=float) for one in (before, after)]
        rows_judged, difference = min(before["rows"], after["rows"]), after["score"] - before["score"]
        return gain_between(*scores, difference=difference, rows=rows_judged)
    if any(read_manifest(folder)["training"].get("cross_validated") for folder in (default, best)):
        return None
    sides = [_Side.of(folder, rows) for folder in (default, best)]
    common = sides[0].answers.keys() & sides[1].answers.keys()
    # The rows of one document, as the default reads it, are drawn together.
    documents = [found for document in sides[0].documents if (found := [key for key in document if key in common])]
    if not documents:
        return None
    answered = [[[side.answers[key] for key in document] for document in documents] for side in sides]
    tasks = [side.engine.tasks for side in sides]
    whole = [score_of(t, evaluations_of(t, one)) for t, one in zip(tasks, answered, strict=True)]
    drawn = []
    for number, (t, one) in enumerate(zip(tasks, answered, strict=True)):
        now = time.monotonic()
        drawn.append(resampled_scores(t, one, seed=rows.config.seed, until=now + (until - now) / (2 - number)))
    count = min(map(len, drawn))
    return gain_between(*(d[:count] for d in drawn), difference=whole[1] - whole[0], rows=sum(map(len, documents)))


@dataclass(frozen=True)
class _Side:
    """A model, its answers to rows that chose nothing, by the record's identity, and the documents of these."""

    engine: Engine
    answers: Mapping[int, RowResult]
    documents: Sequence[Sequence[int]]

    @classmethod
    def of(cls, folder: Path, rows: SharedRows) -> _Side:
        engine, _ = load_engine(folder)
        records = rows.withheld or rows.splits.valid
        measured = encode_measured_rows(
            engine, records, rows.config, [], split="validation", notify=lambda message: None
        )
        # Rows that are not parted have chosen the weights, all of them.
        judge = measured.calibrating if measured.is_parted else np.full(len(measured.records), bool(rows.withheld))
        results = _with_vectors(engine, list(engine.answered(measured.documents)), measured)
        answers = {id(result.record): result for result, judges in zip(results, judge, strict=True) if judges}
        return cls(engine, answers, [[id(record) for record in document.records] for document in measured.documents])


def _with_vectors(engine: Engine, results: list[RowResult], rows: MeasuredRows) -> list[RowResult]:
    """The results; the gold values of targets with positives hold these, embedded."""
    for target, documents in rows.positives.items():
        golds = golds_with_vectors(engine, target, [result.golds[target] for result in results], documents)
        results = [replace(r, golds={**r.golds, target: gold}) for r, gold in zip(results, golds, strict=True)]
    return results


def _kept(folder: Path) -> dict[str, Any] | None:
    """What the trial kept of the answers that chose nothing, where it was cross-validated."""
    path = folder / REPORT
    return dict(json.loads(path.read_text(encoding="utf-8"))[JUDGED]) if path.exists() else None
