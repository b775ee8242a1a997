"""The Fréchet distance against its definition, and what stands beside it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from polydetr.errors import InputError
from polydetr.metrics.generation import frechet_distance, generation_report


def _sample(seed: int, count: int, *, width: int = 5, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, width)) @ rng.normal(size=(width, width)) + shift


def test_of_one_feature_it_is_the_squared_difference_of_means_and_standard_deviations() -> None:
    first, second = np.array([[1.0], [3.0], [5.0]]), np.array([[10.0], [20.0]])
    expected = (3 - 15) ** 2 + (np.std([1, 3, 5], ddof=1) - np.std([10, 20], ddof=1)) ** 2
    assert frechet_distance(first, second) == pytest.approx(expected)


def test_it_is_the_definition_with_a_matrix_root() -> None:
    a, b = _sample(0, 200), _sample(1, 150, shift=0.7)
    cov = [np.cov(x, rowvar=False) for x in (a, b)]
    gap = a.mean(0) - b.mean(0)
    expected = gap @ gap + np.trace(cov[0] + cov[1] - 2 * np.real(sqrtm(cov[0] @ cov[1])))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-8)


def test_a_sample_is_at_no_distance_from_itself_even_where_features_never_vary() -> None:
    a = np.concatenate([_sample(0, 40), np.zeros((40, 3))], axis=1)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-8)
    assert frechet_distance(a, a + 2.0) == pytest.approx(4.0 * 8)


def test_the_report_sets_samples_beside_what_real_ones_reach() -> None:
    real, held_out = np.random.default_rng(0).normal(size=(2, 400, 4))
    good = np.random.default_rng(1).normal(size=(400, 4))
    report = generation_report(good, held_out, real)
    assert report.real_frechet == pytest.approx(frechet_distance(real, held_out))
    assert 0.2 < report.ratio < 5
    assert report.nearest == pytest.approx(report.real_nearest, rel=0.1)
    assert generation_report(good + 1.0, held_out, real).ratio > 20 * report.ratio
    assert set(report.to_dict()) == {"frechet", "real_frechet", "ratio", "nearest", "real_nearest"}


def test_copies_of_the_training_samples_are_given_away_by_their_nearness() -> None:
    real, held_out = np.random.default_rng(0).normal(size=(2, 100, 4))
    report = generation_report(real, held_out, real)
    assert report.ratio == pytest.approx(1.0)
    assert report.nearest == 0.0 < report.real_nearest


def test_the_nearest_of_many_is_found_part_by_part() -> None:
    rng = np.random.default_rng(0)
    made, real = rng.normal(size=(700, 3)), rng.normal(size=(60, 3))
    expected = np.linalg.norm(made[:, None] - real, axis=-1).min(1).mean()
    assert generation_report(made, rng.normal(size=(60, 3)), real).nearest == pytest.approx(expected)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (np.zeros((1, 3)), np.zeros((5, 3)), r"first has shape \(1, 3\)"),
        (np.zeros((5, 3)), np.zeros(5), r"second has shape \(5,\)"),
        (np.zeros((5, 3)), np.zeros((5, 2)), "3 and of 2 numbers"),
        (np.full((5, 3), np.nan), np.zeros((5, 3)), "not finite"),
    ],
)
def test_features_that_cannot_be_compared_are_refused(first: np.ndarray, second: np.ndarray, said: str) -> None:
    with pytest.raises(InputError, match=said):
        frechet_distance(first, second)


def test_without_any_difference_among_real_samples_there_is_no_ratio() -> None:
    with pytest.raises(InputError, match="nothing to compare"):
        generation_report(np.zeros((5, 2)), np.ones((5, 2)), np.ones((5, 2)))
