"""What the next trial tries: a tree of Parzen estimators (Bergstra et al. 2011; multivariate, as in BOHB of Falkner et
al. 2018, arXiv 1807.01774) over the trials before it.

The sampler is made anew for each trial, seeded by the study's seed and the trial's number, and knows nothing but the
trials that are there: a study that was interrupted goes on as if it had not been.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from polydetr.tuning.space import Space

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

RANDOM_TRIALS = 8
"""Drawn at random before anything is concluded from the trials that ended."""
_TRIES = 50
"""Draws until one gives settings that no trial had; then the space counts as exhausted."""


@dataclass(frozen=True)
class Drawn:
    """settings: dotted key → value; params and distributions: the same for Optuna."""

    settings: Mapping[str, Any]
    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]


def default(space: Space) -> Drawn:
    """Trial 0: nothing is changed; where it lies in the space is told to the sampler."""
    values = space.defaults()
    return Drawn({}, values, {d.key: d.distribution() for d in space.dimensions if d.key in values})


def draw(
    space: Space, trials: Sequence[FrozenTrial], settings: Sequence[Mapping[str, Any]], *, seed: int
) -> Drawn | None:
    """What a trial behind these ``trials``, which had these ``settings``, tries; None where no settings are left that
    none of them had.
    """
    had = {space.whole(one) for one in settings}
    for attempt in range(_TRIES):
        trial = in_memory(space, trials, seed=_mixed(seed, len(trials), attempt)).ask()
        asked = space.ask(trial)
        if space.whole(asked) not in had:
            return Drawn(asked, trial.params, trial.distributions)
    return None


def importances(space: Space, trials: Sequence[FrozenTrial]) -> dict[str, float]:
    """Key → its share in what sets the better trials apart (PED-ANOVA, Watanabe et al. 2023, arXiv 2304.10255), the
    largest first; {} where too few trials ended to tell.
    """
    import optuna
    from optuna.trial import TrialState

    ended = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    varied = {key for trial in ended for key in trial.params}
    varied = {key for key in varied if len({repr(t.params.get(key)) for t in ended}) > 1}
    if len(ended) < RANDOM_TRIALS or not varied or len({trial.value for trial in ended}) < 2:
        return {}
    study = in_memory(space, ended, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = optuna.importance.get_param_importances(study, params=sorted(varied))
    return {key: float(share) for key, share in sorted(found.items(), key=lambda item: -item[1])}


def in_memory(space: Space, trials: Sequence[FrozenTrial], *, seed: int) -> Study:
    """A study of its own that holds these trials."""
    import optuna

    conditional = any(dimension.when for dimension in space.dimensions)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that spaces with conditions are an experimental feature
        sampler = optuna.samplers.TPESampler(seed=seed, group=conditional, n_startup_trials=RANDOM_TRIALS)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.add_trials(trials)
    return study


def _mixed(*numbers: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:4])
