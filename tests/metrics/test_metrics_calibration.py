"""Calibration: hand-computed bins, temperature that is found again, thresholds that hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

from polydetr.errors import InputError
from polydetr.metrics.calibration import (
    accuracy_at,
    choose_threshold,
    conformal_width,
    coverage_risk_curve,
    coverage_table,
    expected_calibration_error,
    fit_platt,
    fit_temperature,
    log_odds,
    reliability_curve,
    wilson_interval,
)


def test_ece_by_hand():
    confidence, correct = [0.95, 0.85, 0.15, 0.25], [True, False, False, True]
    assert reliability_curve(confidence, correct, bins=2).ece == pytest.approx(
        0.5 * abs(0.5 - 0.9) + 0.5 * abs(0.5 - 0.2)
    )
    curve = reliability_curve([0.2, 0.2, 0.6], [True, False, True], bins=5)
    assert curve.confidence.tolist() == pytest.approx([0.2, 0.6])  # 0.2 belongs to (0, 0.2], 0.6 to (0.4, 0.6]
    assert curve.accuracy.tolist() == [0.5, 1.0]
    assert curve.count.tolist() == [2, 1]


def test_ece_of_calibrated_answers_is_small_and_of_overconfident_ones_is_not():
    random = np.random.default_rng(0)
    confidence = random.random(40_000)
    correct = random.random(40_000) < confidence
    assert expected_calibration_error(confidence, correct) < 0.02
    assert expected_calibration_error(np.sqrt(confidence), correct) > 0.1


rows = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50)


@given(rows, st.integers(1, 20))
def test_ece_is_bounded_counts_every_row_and_exact_answers_have_none(pairs, bins):
    confidence, correct = map(list, zip(*pairs, strict=True))
    curve = reliability_curve(confidence, correct, bins=bins)
    assert 0 <= curve.ece <= 1
    assert curve.count.sum() == len(pairs)
    assert reliability_curve([1.0] * 3, [True] * 3, bins=bins).ece == 0


def mean_loss(logits, labels, temperature=1.0):
    """The mean of -log softmax(z / T)[label], by SciPy."""
    return -log_softmax(np.asarray(logits) / temperature, -1)[np.arange(len(labels)), labels].mean()


@pytest.mark.parametrize("true_temperature", [0.3, 1.0, 2.5, 8.0])
def test_temperature_is_found_again(true_temperature):
    random = np.random.default_rng(1)
    logits = random.normal(size=(20_000, 5)) * 3
    labels = np.array([random.choice(5, p=p) for p in softmax(logits, -1)])
    found = fit_temperature(logits * true_temperature, labels)
    assert found == pytest.approx(true_temperature, rel=0.05)


def test_temperature_lowers_the_loss_and_the_calibration_error():
    random = np.random.default_rng(2)
    logits = random.normal(size=(5_000, 3))
    labels = np.array([random.choice(3, p=p) for p in softmax(logits, -1)])
    sharp = logits * 4
    temperature = fit_temperature(sharp, labels)

    def ece(t):
        p = softmax(sharp / t, -1)
        return expected_calibration_error(p.max(1), p.argmax(1) == labels)

    assert ece(temperature) < 0.02 < 0.2 < ece(1.0)
    assert mean_loss(sharp, labels, temperature) < mean_loss(sharp, labels)


@pytest.mark.parametrize(
    ("logits", "labels", "expected"),
    [
        ([[9.0, 0.0], [0.0, 9.0]], [0, 1], 0.05),  # all right: as sharp as allowed
        ([[9.0, 0.0], [0.0, 9.0]], [1, 0], 20.0),  # all wrong: as flat as allowed
        ([[1.0, 1.0]], [0], 1.0),  # nothing to learn
        ([[5.0]], [0], 1.0),  # a single class
        ([[1e300, -1e300]], [0], 1.0),  # huge, but finite: already certain
    ],
)
def test_temperature_never_diverges(logits, labels, expected):
    assert fit_temperature(logits, labels) == pytest.approx(expected, rel=1e-3)


@given(st.lists(st.tuples(st.lists(st.floats(-300, 300), min_size=3, max_size=3), st.integers(0, 2)), min_size=1))
def test_temperature_is_always_in_bounds_and_never_worse_than_one(pairs):
    logits, labels = map(list, zip(*pairs, strict=True))
    temperature = fit_temperature(logits, labels)
    assert 0.05 <= temperature <= 20
    after = mean_loss(logits, labels, temperature)
    assert after <= mean_loss(logits, labels) * (1 + 1e-9) + 1e-9


def test_coverage_and_risk_by_hand():
    curve = coverage_risk_curve([0.9, 0.8, 0.8, 0.1], [True, True, False, False])
    assert curve.threshold.tolist() == [0.9, 0.8, 0.1]
    assert curve.coverage.tolist() == [0.25, 0.75, 1.0]
    assert curve.risk.tolist() == pytest.approx([0, 1 / 3, 1 / 2])
    assert curve.aurc == pytest.approx(0.25 * 0 + 0.5 / 3 + 0.25 / 2)


@given(rows, st.floats(0, 1))
def test_the_chosen_threshold_keeps_its_promise(pairs, target):
    confidence, correct = map(np.array, zip(*pairs, strict=True))
    chosen = choose_threshold(confidence, correct, target)
    answered = confidence >= chosen.threshold
    assert answered.mean() == pytest.approx(chosen.coverage)
    assert correct[answered].mean() == pytest.approx(chosen.accuracy)
    assert chosen.reached == any(correct[confidence >= t].mean() >= target - 1e-12 for t in confidence)
    if chosen.reached:
        assert chosen.accuracy >= target - 1e-9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: expected_calibration_error([1.2], [True]), "probabilities, not logits"),
        (lambda: expected_calibration_error([float("nan")], [True]), "probabilities, not logits"),
        (lambda: expected_calibration_error([], []), "at least one row"),
        (lambda: reliability_curve([0.5], [True], bins=0), "bins must be at least 1"),
        (lambda: fit_temperature([[1.0, 2.0]], [2]), "class numbers 0 to 1"),
        (lambda: fit_temperature([[1.0, np.inf]], [0]), "not finite"),
        (lambda: choose_threshold([0.5], [True], 1.5), "target_accuracy"),
    ],
)
def test_wrong_input_says_what_is_wrong(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_accuracy_at_a_coverage_by_hand():
    curve = coverage_risk_curve([0.9, 0.8, 0.7, 0.6], [True, True, False, False])
    assert [accuracy_at(curve, share) for share in (0.25, 0.5, 0.7, 1.0)] == pytest.approx([1, 1, 2 / 3, 0.5])
    table = coverage_table(curve, answer_unit="row", total=4)
    assert "1.000       0.500" in table
    assert "4 answers, one per row" in table


def test_wilson_interval_is_that_of_statsmodels_manual():
    # 15 of 148: the example of Newcombe 1998, table I, method 3
    assert wilson_interval(15 / 148, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson_interval(1.0, 10)[1] == 1.0


@pytest.mark.parametrize(("slope", "offset"), [(0.5, 0.0), (1.0, -1.0), (2.0, 0.7)])
def test_platt_finds_the_map_again(slope, offset):
    random = np.random.default_rng(2)
    confidence = random.uniform(0.02, 0.98, 20_000)
    p = 1 / (1 + np.exp(-(slope * log_odds(confidence) + offset)))
    found = fit_platt(confidence, random.random(20_000) < p)
    assert found == pytest.approx((slope, offset), abs=0.08)


@given(rows)
def test_platt_is_finite_and_keeps_the_order(pairs):
    slope, offset = fit_platt(*map(list, zip(*pairs, strict=True)))
    assert slope > 0
    assert np.isfinite([slope, offset]).all()


def test_a_conformal_interval_holds_what_it_says():
    random = np.random.default_rng(3)
    held = []
    for _ in range(400):
        width = conformal_width(random.normal(size=60), 0.9)
        held.append(np.mean(np.abs(random.normal(size=200)) <= width))
    assert 0.9 <= np.mean(held) <= 0.93  # at least the level, at most 1 / (n + 1) above it
    assert conformal_width([1.0] * 8, 0.9) == float("inf")  # 9 rows are the fewest
    assert conformal_width([*range(1, 10)], 0.9) == 9
