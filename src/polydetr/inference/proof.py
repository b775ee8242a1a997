"""Whether another way to compute a model answers as well: both ways, on the same labeled rows, through the one decode
and ``evaluate``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from polydetr.core.predictions import Evaluation, RowResult
from polydetr.engine.engine import Engine
from polydetr.errors import ConfigError, PolydetrError, SchemaError, quoted
from polydetr.inference.kept_rows import KeptRows

MAX_DROP = 0.5
"""Points that a target's first metric may fall by."""
MOST_DROP = 100


@dataclass(frozen=True)
class Change:
    """One target's first metric, computed in one way and in another.

    points: by how much it got worse, in hundredths: of 1 for a score, of ``before`` for an error (``rmse``, ...); below
    0 where it got better, infinite where ``after`` is no number.
    """

    target: str
    metric: str
    before: float
    after: float
    points: float

    def __str__(self) -> str:
        how = "worse" if self.points > 0 else "better"
        by = f"{abs(self.points):.2f} points {how}" if self.points else "the same"
        return f"{self.metric} of {quoted(self.target)}: {self.before:.4f} → {self.after:.4f}, {by}"


@dataclass(frozen=True)
class Proof:
    """What was measured on how many ``rows``. probabilities_differ_by: those of the answers, on average."""

    rows: int
    changes: tuple[Change, ...]
    probabilities_differ_by: float

    @property
    def worst(self) -> Change:
        """The target that lost most."""
        return max(self.changes, key=lambda change: change.points)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Measured:
    """The answers to the rows, and the first metric of each target."""

    results: Sequence[RowResult]
    evaluations: Mapping[str, Evaluation]


def measured_by(engine: Engine, rows: KeptRows) -> Measured:
    """Raises ConfigError where none of the rows has a label."""
    try:
        return Measured(*rows.measured(engine))
    except SchemaError as error:
        raise ConfigError(
            f"nothing can be proved by these rows: {error.message}", hint="Name labeled rows: --rows FILE (rows=FILE)."
        ) from None


def standard_by(engine: Engine, rows: KeptRows) -> Measured:
    """``measured_by``, to compare other ways with.

    Raises:
        ConfigError: a target has no label in the rows, or its first metric is no number: whether it falls cannot show.
    """
    measured = measured_by(engine, rows)
    faults = [f"none has a label of {quoted(target)}" for target in engine.tasks if target not in measured.evaluations]
    for target, evaluation in measured.evaluations.items():
        metric = engine.tasks[target].primary_metric
        if not math.isfinite(evaluation.metrics[metric]):
            faults.append(f"{metric} of {quoted(target)} is {evaluation.metrics[metric]}")
    if faults:
        raise ConfigError(
            f"nothing can be proved by these {len(rows)} rows: {', '.join(faults)}.",
            hint="Name rows with labels of every target: --rows FILE (rows=FILE).",
        )
    return measured


def compared(engine: Engine, before: Measured, after: Measured) -> Proof:
    """Two ways to compute the same rows."""
    changes = []
    for target, evaluation in before.evaluations.items():
        task = engine.tasks[target]
        metric = task.primary_metric
        first, second = (float(e.metrics[metric]) for e in (evaluation, after.evaluations[target]))
        worse = (second - first) / max(abs(first), 1e-12) if task.lower_is_better else first - second
        points = round(100 * worse, 4) if math.isfinite(second) else math.inf
        changes.append(Change(target, metric, first, second, points))
    pairs = [
        abs((one.probability or 0.0) - (other.probability or 0.0))
        for a, b in zip(before.results, after.results, strict=True)
        for one, other in zip(a.predictions.values(), b.predictions.values(), strict=True)
    ]
    return Proof(len(before.results), tuple(changes), round(float(np.mean(pairs)), 5))


def proved(engine: Engine, other: Engine, rows: KeptRows, *, max_drop: float, how: str) -> Proof:
    """The proof that ``other`` answers as well as ``engine``. how: what it does otherwise, for the message.

    Raises:
        ConfigError: see ``standard_by``. PolydetrError: a target's first metric falls by more than ``max_drop`` points.
    """
    proof = compared(engine, standard_by(engine, rows), measured_by(other, rows))
    if not proof.worst.points <= max_drop:
        more, without = _above(proof.worst.points), "export without --int8 (int8=True)."
        raise PolydetrError(
            f"{how}: {proof.worst} on {proof.rows} rows, more than {max_drop:g} allows: nothing is written.",
            hint=f"Allow more: export --max-drop {more:g} (max_drop=), or {without}"
            if more <= MOST_DROP
            else f"No limit allows that: {without}",
        )
    return proof


def no_rows(why: str) -> ConfigError:
    """The error where nothing can be proved, with both remedies."""
    return ConfigError(
        f"there are no labeled rows to prove this by: {why}.",
        hint="Name some: --rows FILE (rows=FILE), or train the model again: training keeps validation rows in the "
        "folder, unless training.keep_rows is 0.",
    )


def check_max_drop(max_drop: float) -> None:
    """Raises ConfigError for what is no number of points."""
    if not 0 <= max_drop <= MOST_DROP:
        raise ConfigError(f"max_drop = {max_drop}: expected points from 0 to {MOST_DROP}.")


def _above(points: float) -> float:
    """The next tenth."""
    return np.floor(points * 10 + 1) / 10
