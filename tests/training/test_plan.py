"""What a plan under a time limit decides, by paces that are given."""

from __future__ import annotations

from dataclasses import replace

import pytest

from polydetr.training.plan import MEASURING_SHARE, MIN_MEASURED, Open, Paces, Plan, Sizes, make_plan, seconds_text

TEXT = Paces(encode=0.0002, answer=0.004, features=0.003, step=0.012, head_step=0.0003, batch=32)
"""A small encoder and sentences, on two cores."""
ALL = Open(("all", "upper", "frozen"), passes=3, fixed=3)


def total(plan: Plan) -> float:
    return plan.reading + plan.training + plan.measuring


@pytest.mark.parametrize("left", [10.0, 25.0, 110.0, 580.0, 3600.0])
@pytest.mark.parametrize("rows", [Sizes(270, 30), Sizes(27_000, 3000, 5000), Sizes(270_000, 30_000)])
@pytest.mark.parametrize("slower", [1, 4])
def test_a_plan_never_takes_more_than_is_left(left: float, rows: Sizes, slower: int) -> None:
    paces = replace(TEXT, **{name: slower * getattr(TEXT, name) for name in ("encode", "answer", "features", "step")})
    plan = make_plan(left, rows, paces, ALL)
    assert total(plan) <= left + 1e-6 or plan.rows.valid <= MIN_MEASURED
    assert 0 < plan.rows.train <= rows.train
    assert 0 < plan.rows.valid <= rows.valid
    assert plan.rows.test <= rows.test
    assert plan.measuring <= MEASURING_SHARE * left + ALL.fixed + 2 * MIN_MEASURED * paces.answer * 4.5


def test_more_time_trains_more_of_the_model() -> None:
    rows = Sizes(27_000, 3000)
    plans = [make_plan(left, rows, TEXT, ALL) for left in (15, 80, 600)]
    assert [plan.mode for plan in plans] == ["frozen", "upper", "all"]
    assert plans[0].rows.train < plans[1].rows.train < plans[2].rows.train
    assert plans[-1].seen > plans[1].seen


def test_few_rows_are_trained_in_all_layers_when_two_passes_fit() -> None:
    plan = make_plan(90, Sizes(1000, 100), TEXT, ALL)
    assert (plan.mode, plan.rows) == ("all", Sizes(1000, 100))
    assert plan.seen == plan.epochs * 1000  # the epochs end it, not the clock
    assert plan.training == pytest.approx(5 * 1000 * TEXT.step)


def test_images_get_smaller_before_backbones_stay_frozen_for_want_of_time() -> None:
    slow = Paces(encode=0.01, answer=0.2, features=0.18, step=0.6, head_step=0.002, batch=4)
    what = Open(("all", "frozen"), image_sizes=(160, 128, 96), rebuild=1, fixed=3, passes=2)
    plan = make_plan(60, Sizes(340, 40), slow, what)
    assert plan.mode == "frozen"
    assert plan.image_size == 96
    assert make_plan(2000, Sizes(340, 40), slow, what).image_size is None
    kept = make_plan(60, Sizes(340, 40), slow, replace(what, image_sizes=()))  # the user chose the size
    assert kept.image_size is None


def test_what_stands_on_frozen_backbones_is_trained_for_longer_than_epochs_where_they_are_open() -> None:
    rows, frozen = Sizes(320, 40), replace(ALL, modes=("frozen",))
    assert make_plan(60, rows, TEXT, frozen).epochs == 5
    assert make_plan(60, rows, TEXT, replace(frozen, lengthens=True)).epochs == 600 * 32 / 320


def test_a_limit_that_is_too_short_names_one_that_is_not() -> None:
    plan = make_plan(5, Sizes(270_000, 30_000), TEXT, ALL)
    assert plan.enough is not None
    assert plan.enough > 5
    again = make_plan(plan.enough, Sizes(270_000, 30_000), TEXT, ALL)
    assert again.enough is None
    assert plan.lines(Sizes(270_000, 30_000), spent=10)[1].startswith(
        f"the time limit is too short for these rows: about {seconds_text(10 + plan.enough)} would be enough"
    )


def test_a_plan_is_told_in_one_line_and_comes_back_from_a_checkpoint() -> None:
    plan = Plan("frozen", Sizes(4000, 90, 50), 96, 4.2, 35.4, 8.1, 0.01, 40_000, 9.0)
    assert plan.lines(Sizes(270_000, 90, 100), spent=7.9) == [
        "plan: 12 s reading, 35 s training, 8 s measuring; the backbones stay as they are, their features are computed "
        "once; images of 96 pixels per side; a sample of 4,000 of 270,000 training rows; 50 of 100 test rows are "
        "measured"
    ]
    assert Plan.from_dict(plan.to_dict()) == plan


@pytest.mark.parametrize(("seconds", "text"), [(-1, "0 s"), (8.4, "8 s"), (150, "2 min"), (7200, "2.0 h")])
def test_seconds_are_shown_as_people_say_them(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_a_table_is_given_rows_for_its_start_though_training_will_not_see_them() -> None:
    paces = Paces(encode=0.0005, answer=0.004, features=0.0, step=0.02, head_step=0.0, batch=64)
    without, with_start = (
        make_plan(12.0, Sizes(90_000, 10_000), paces, Open(("all",), passes=3, starts=starts))
        for starts in (False, True)
    )
    assert with_start.rows.train > 5 * without.rows.train
    assert total(with_start) <= 12.0 + 1e-6


def test_what_is_enough_for_sets_is_counted_in_steps() -> None:
    paces = Paces(encode=0.01, answer=0.1, features=0.05, step=0.15, head_step=0.0, batch=4)
    what = Open(("all", "upper"), passes=2, enough_passes=10, enough_steps=600, epochs=60)
    plan = make_plan(60.0, Sizes(184, 21), paces, what)
    assert plan.enough is not None
    longer = make_plan(plan.enough, Sizes(184, 21), paces, what)
    assert longer.enough is None
    assert longer.seen >= 0.999 * 600 * paces.batch
