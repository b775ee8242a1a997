"""Where rows are few, batches become smaller and epochs more; where they are many, nothing changes."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_runs import TRAIN, VALID, Watched

from polydetr import Predictor
from polydetr.config.loading import load_config
from polydetr.training.pacing import EVALUATIONS, LEAST_ROWS, PATIENCE, PRETRAINED_TOKENS, pace

HOW: dict[str, Any] = {"batch_tokens": 1024, "epochs": 5, "min_steps": 600}


def test_many_rows_are_trained_as_they_were() -> None:
    assert pace([100] * 2000, pretrained=True, **HOW) == (1024, 0)
    assert pace([13] * 10, pretrained=False, **{**HOW, "min_steps": 0}) == (1024, 0)


def test_a_small_table_takes_the_steps_that_are_asked_for_in_batches_of_few_rows() -> None:
    assert pace([13] * 142, pretrained=False, **HOW) == (13 * LEAST_ROWS, 600)


def test_batches_shrink_no_further_than_the_steps_need() -> None:
    budget, steps = pace([20] * 5000, pretrained=True, **HOW)
    assert budget == pytest.approx(5 * 20 * 5000 / 600, abs=1)
    assert steps == pytest.approx(600, abs=1)


def test_a_backbone_is_taken_through_few_tokens_more() -> None:
    budget, steps = pace([50] * 100, pretrained=True, **HOW)
    assert budget == 50 * LEAST_ROWS
    assert steps * budget == pytest.approx(PRETRAINED_TOKENS, rel=0.01)
    long_texts = pace([300] * 250, pretrained=True, **HOW)  # five epochs are dear enough
    assert long_texts.steps * long_texts.budget == pytest.approx(5 * 300 * 250, rel=0.01)


def test_a_batch_size_that_was_set_stays() -> None:
    assert pace([13] * 142, pretrained=False, as_given=True, **HOW) == (1024, 600)


def test_whoever_counts_in_epochs_gets_no_more_of_them() -> None:
    assert load_config({}).training.min_steps == 600
    assert load_config({}, epochs=2).training.min_steps == 0
    assert load_config({"training": {"min_steps": 50}}, epochs=2).training.min_steps == 50


def test_a_run_on_few_rows_takes_so_many_steps_and_is_measured_now_and_then() -> None:
    shown = Watched()
    settings = {
        "model": {"embed_dim": 16, "num_layers": 1, "num_heads": 2},
        "training": {"min_steps": 40, "precision": "fp32", "patience": 1},
    }
    found = Predictor.fit(TRAIN[:24], "label", valid=VALID, backbone="none", settings=settings, display=shown)
    steps = found.info["training"]["steps"]
    if steps < 40:  # patience is that of evaluations which are few steps apart
        assert steps - found.info["training"]["best_step"] >= 40 * PATIENCE // EVALUATIONS
    assert len(shown.entries) == steps * EVALUATIONS // 40
