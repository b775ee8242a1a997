"""What the sampler proposes: the same for the same seed and trials, nothing twice, better with time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState, create_trial
from tiny_studies import CONFIG, score_of

from polydetr.config.loading import load_config
from polydetr.tuning.pruning import EARLIEST, OTHERS, falls_behind
from polydetr.tuning.reading import read_space
from polydetr.tuning.sampling import RANDOM_TRIALS, Drawn, default, draw, importances
from polydetr.tuning.space import Space


def ended(drawn: Drawn) -> FrozenTrial:
    return create_trial(
        params=dict(drawn.params), distributions=dict(drawn.distributions), value=score_of(drawn.settings),
        user_attrs={"settings": dict(drawn.settings)},
    )  # fmt: skip


def study(space: Space, count: int, *, seed: int) -> list[FrozenTrial]:
    trials = [ended(default(space))]
    while len(trials) < count and (drawn := draw(space, trials, settings_of(trials), seed=seed)):
        trials.append(ended(drawn))
    return trials


def settings_of(trials: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
    return [trial.user_attrs["settings"] for trial in trials]


def test_the_same_seed_gives_the_same_trials_from_wherever_it_goes_on() -> None:
    space = read_space(CONFIG.search, CONFIG)
    whole = study(space, 14, seed=3)
    assert settings_of(whole) == settings_of(study(space, 14, seed=3))
    assert settings_of(whole) != settings_of(study(space, 14, seed=4))
    for number in (1, 5, RANDOM_TRIALS + 3):  # nothing but the trials before counts
        drawn = draw(space, whole[:number], settings_of(whole[:number]), seed=3)
        assert drawn is not None
        assert drawn.settings == whole[number].user_attrs["settings"]


def test_later_trials_are_better() -> None:
    space = read_space(CONFIG.search, CONFIG)
    for seed in range(3):
        scores = [trial.value or 0.0 for trial in study(space, 40, seed=seed)]
        assert sum(scores[30:]) / 10 > sum(scores[1:RANDOM_TRIALS]) / (RANDOM_TRIALS - 1)


def test_nothing_is_tried_twice_and_a_small_space_ends() -> None:
    config = load_config({"search": {"model": {"dropout": [0.0, 0.1, 0.3], "num_layers": [1, 2]}}})
    space = read_space(config.search, config)
    trials = study(space, 50, seed=0)
    kinds = {space.whole(settings) for settings in settings_of(trials)}
    assert len(kinds) == len(trials)
    assert 6 <= len(trials) <= 7  # the default's number of layers, null, is none of the choices
    config = load_config({"search": {"model": {"dropout": [0.1, 0.3]}}})
    assert len(study(read_space(config.search, config), 50, seed=0)) == 2  # the default is one of the two


def test_a_failed_trial_is_not_tried_again() -> None:
    config = load_config({"search": {"model": {"dropout": [0.1, 0.3]}}})
    space = read_space(config.search, config)
    first = default(space)
    failed = create_trial(
        state=TrialState.FAIL, params=dict(first.params), distributions=dict(first.distributions),
        user_attrs={"settings": {}},
    )  # fmt: skip
    drawn = draw(space, [failed], [{}], seed=0)
    assert drawn is not None
    assert drawn.settings == {"model.dropout": 0.3}


def test_importances_name_what_mattered() -> None:
    space = read_space(CONFIG.search, CONFIG)
    shares = importances(space, study(space, 30, seed=0))
    assert next(iter(shares)) == "training.head_lr"
    assert abs(sum(shares.values()) - 1.0) < 1e-6
    assert importances(space, study(space, 3, seed=0)) == {}


def test_a_trial_is_given_up_at_the_like_share_of_its_run() -> None:
    others = [{20: 0.5, 50: 0.6 + i / 100, 100: 0.8} for i in range(OTHERS)]
    assert falls_behind({EARLIEST - 1: 0.0}, others) is None
    assert falls_behind({60: 0.7}, others) is None
    why = falls_behind({30: 0.1, 60: 0.55}, others)
    assert why == "after 60 % of its run 0.5500, where half of 4 trials had 0.6150 or more"
    assert falls_behind({30: 0.7, 60: 0.55}, others) is None  # its best counts
    assert falls_behind({60: 0.55}, others[:-1]) is None
    assert falls_behind({}, others) is None
    assert falls_behind({30: 0.4}, others) is not None  # at 30 %, the others had 0.5 of the time before
    assert falls_behind({30: 0.4}, [{80: 0.9}] * OTHERS) is None  # they had not been measured by then
