"""How long a run may become, and what a careful colleague would say of one that has ended: whether that was enough."""

from __future__ import annotations

from collections.abc import Mapping

from polydetr.config.sections import Config
from polydetr.errors import quoted
from polydetr.tasks.base import Task
from polydetr.tasks.capabilities import CountsSteps
from polydetr.training.checkpoint import Progress

STEPS_FOR_SETS = 600
"""A detector that makes fewer has hardly begun to match its queries with objects; the preset "fast" makes so many."""
STEPS_FOR_WORDS = 100
"""Likewise of a model that marks words. Both are bounds of experience, set low: whoever is below has stopped early."""
STEPS_BY_ITSELF = 600
"""After so many steps a run that ends while it improves is a choice, not a slip."""


def length_of(config: Config) -> str:
    """How long the run may become, and how to have another length."""
    least = config.training.min_steps
    steps = f", or more until about {least:,} steps" if least else ""
    limit = f", {config.time_limit:g} s at most" if config.time_limit else ""
    how = "--preset fast, balanced or best; --time-limit 10m"
    return f"preset {config.preset!r}: up to {config.epochs:g} epoch{'s' * (config.epochs != 1)}{steps}{limit} ({how})"


def short_run(
    tasks: Mapping[str, Task],
    progress: Progress,
    *,
    epochs: float,
    time_limit: float | None,
) -> list[str]:
    """Sentences about a run that was too short: for what its tasks need, or by its own curve. progress: where it ended;
    epochs: those that were planned; time_limit: in seconds.
    """
    steps, history = progress.step, progress.history
    done = float(history[-1]["epoch"]) if history else 0.0
    by_clock = time_limit is not None and done < 0.99 * epochs
    why = f" (the time limit of {time_limit:g} s ended it in epoch {done:.3g} of {epochs:g})" if by_clock else ""
    how = "a longer --time-limit" if by_clock else "more --epochs, or --preset best"
    lines = []
    for target, task in tasks.items():
        needed, what = (STEPS_FOR_SETS, "objects") if isinstance(task, CountsSteps) else (STEPS_FOR_WORDS, "words")
        if steps < needed and (task.per_token or isinstance(task, CountsSteps)):
            lines.append(
                f"{quoted(target)}: {steps:,} steps are fewer than the {needed:,} from which on a model that finds "
                f"{what} is of use{why}: {how} would help"
            )
    if not lines and len(history) > 1 and progress.best_step == history[-1]["step"] and steps < STEPS_BY_ITSELF:
        lines.append(f"it was still getting better when it ended, after {steps:,} steps{why}: {how} would help")
    return lines
