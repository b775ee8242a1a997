"""What training minimizes, and what it compares: the loss of all tasks, and the score on validation rows."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from polydetr.core.predictions import Evaluation
from polydetr.model.build import Assembly
from polydetr.nn.batch import Batch
from polydetr.tasks.base import Task
from polydetr.training.encode import MeasuredRows, measure

UNSCORED = (
    "the validation rows that choose the weights have no score, as none of them has what it measures: the lowest loss "
    "on them chooses"
)


@dataclass(frozen=True)
class ValidScore:
    """One evaluation on the validation rows; ``score`` is what early stopping compares, higher is better."""

    score: float
    loss: float
    evaluations: Mapping[str, Evaluation]


def total_loss(
    assembly: Assembly,
    outputs: Mapping[str, Mapping[str, Tensor]],
    batch: Batch,
    *,
    share: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """All tasks' losses on one batch as one number. share: target → a factor on its loss (``BatchShares``)."""
    model, tasks = assembly.model, assembly.engine.tasks
    terms = {t: model.head_of(t).loss(outputs[t], batch.targets[t], batch.weights) for t in tasks}
    if share is not None:
        terms = {t: {name: term * share[t] for name, term in named.items()} for t, named in terms.items()}
    return model.total_loss(terms, tasks)


def validate(assembly: Assembly, rows: MeasuredRows) -> ValidScore:
    """Loss and metrics on ``rows``, through the same path as prediction."""
    heads = {target: assembly.model.head_of(target) for target in assembly.engine.tasks}
    sums: dict[str, dict[str, float]] = {target: defaultdict(float) for target in heads}
    counts: dict[str, float] = defaultdict(float)

    def collect(outputs: Mapping[str, Mapping[str, Tensor]], batch: Batch) -> None:
        for target, head in heads.items() if batch.targets else ():  # not the positives, embedded by themselves
            labels = batch.targets[target]
            count = float(head.counted(labels, batch.weights))
            for name, term in head.loss(outputs[target], labels, batch.weights).items():
                sums[target][name] += float(term) * count
            counts[target] += count

    assembly.model.eval()
    engine = assembly.engine.with_runner(assembly.runner.listened_by(collect))
    _, evaluations = measure(engine, rows)
    device = next(assembly.model.parameters()).device
    means = {t: {name: v / (counts[t] or 1.0) for name, v in named.items()} for t, named in sums.items()}
    terms = {t: {name: torch.tensor(v, device=device) for name, v in named.items()} for t, named in means.items()}
    loss = float(assembly.model.total_loss(terms, assembly.engine.tasks).detach())
    return ValidScore(score_of(engine.tasks, evaluations), loss, evaluations)


def score_of(tasks: Mapping[str, Task], evaluations: Mapping[str, Evaluation]) -> float:
    """The mean of the targets' metrics (``Task.chosen_by``), higher is better: what is compared wherever weights or
    settings are. Not a number where these rows are such that there is no such metric.
    """
    values = []
    for target, evaluation in evaluations.items():
        name, less = tasks[target].chosen_by
        value = float(evaluation.metrics.get(name, float("nan")))
        values.append(-value if less else value)
    return sum(values) / len(values)


def rank_of(entry: Mapping[str, Any]) -> tuple[float, float]:
    """Of an evaluation, as the history keeps it, what is compared: the higher, the better. Few validation rows soon
    reach the same score: of equal scores the lower loss is the better model. What is not a number is worse than any.
    """
    score, less = float(entry["score"]), -float(entry["valid_loss"])
    return (score if math.isfinite(score) else -math.inf, less if math.isfinite(less) else -math.inf)


def score_name(tasks: Mapping[str, Task]) -> str:
    """What that is, for people: "label accuracy", or "mean of label accuracy and …"."""
    chosen = {target: task.chosen_by for target, task in tasks.items()}
    names = [f"{target} {'negative ' if less else ''}{name}" for target, (name, less) in chosen.items()]
    return names[0] if len(names) == 1 else f"mean of {', '.join(names[:-1])} and {names[-1]}"
