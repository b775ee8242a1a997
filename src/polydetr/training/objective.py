"""What training minimizes, and what it compares: the loss of all tasks, and the score on validation rows."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
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
    """One evaluation on the validation rows; ``score`` is what early stopping compares, higher is better. parts: the
    losses of parts of the rows, the same ones in every evaluation (``surely_less``).
    """

    score: float
    loss: float
    evaluations: Mapping[str, Evaluation]
    parts: Sequence[float] = ()


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


def validate(assembly: Assembly, rows: MeasuredRows, *, parts: int = 0) -> ValidScore:
    """Loss and metrics on ``rows``, through the same path as prediction. parts: how many parts of the rows get a loss
    of their own; part i holds every row whose number leaves i when divided by them.
    """
    whole, each = _MeanLoss(assembly), [_MeanLoss(assembly) for _ in range(parts)]

    def collect(outputs: Mapping[str, Mapping[str, Tensor]], batch: Batch) -> None:
        if not batch.targets:  # the positives, embedded by themselves
            return
        whole.add(outputs, batch)
        for number, part in enumerate(each):
            part.add(outputs, batch, rows=[i for i, row in enumerate(batch.example_ids) if row % parts == number])

    assembly.model.eval()
    engine = assembly.engine.with_runner(assembly.runner.listened_by(collect))
    _, evaluations = measure(engine, rows)
    losses = [part.value() for part in each if part.any()]
    return ValidScore(score_of(engine.tasks, evaluations), whole.value(), evaluations, losses)


class _MeanLoss:
    """All tasks' losses over batches as one number: of each task, the mean over the rows that it counts."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self._heads = {target: assembly.model.head_of(target) for target in assembly.engine.tasks}
        self._sums: dict[str, dict[str, float]] = {target: defaultdict(float) for target in self._heads}
        self._counts: dict[str, float] = defaultdict(float)

    def add(
        self, outputs: Mapping[str, Mapping[str, Tensor]], batch: Batch, *, rows: Sequence[int] | None = None
    ) -> None:
        """rows: of the batch, if not all of them."""
        if rows is not None and not rows:
            return

        def of(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
            return tensors if rows is None else {name: tensor[rows] for name, tensor in tensors.items()}

        weights = batch.weights if rows is None else batch.weights[rows]
        for target, head in self._heads.items():
            labels = of(batch.targets[target])
            count = float(head.counted(labels, weights))
            for name, term in head.loss(of(outputs[target]), labels, weights).items():
                self._sums[target][name] += float(term) * count
            self._counts[target] += count

    def any(self) -> bool:
        """Whether a task counted a row."""
        return any(self._counts.values())

    def value(self) -> float:
        model = self._assembly.model
        device = next(model.parameters()).device
        terms = {
            target: {name: torch.tensor(v / (self._counts[target] or 1.0), device=device) for name, v in named.items()}
            for target, named in self._sums.items()
        }
        return float(model.total_loss(terms, self._assembly.engine.tasks).detach())


def surely_less(losses: Sequence[float], than: Sequence[float], *, errors: float = 1.0) -> bool:
    """Whether the losses of parts of the rows are less than others of the same parts, by more than so many standard
    errors of the mean difference (the rule of one: Breiman et al. 1984, *Classification and Regression Trees*, 3.4.3).
    Of other parts, or of one, nothing can be told. What is not a number is more than any.
    """
    if len(losses) != len(than) or len(losses) < 2:
        return False
    apart = np.subtract(than, losses)
    # Not the other way round: of a loss that is no number there is no difference.
    return bool(np.isfinite(losses).all() and not apart.mean() <= errors * apart.std(ddof=1) / len(apart) ** 0.5)


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
