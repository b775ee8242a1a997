"""The path from noise to data: its ends, its slope, its solvers, and the pieces that tell the time."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from polydetr.core.flow import guided, interpolate, solve, velocity
from polydetr.errors import ConfigError
from polydetr.nn.flow import Modulation, TimeEmbedding, logit_normal_times, patchify, unpatchify


def test_the_path_begins_in_noise_ends_in_data_and_has_the_velocity_as_its_slope() -> None:
    noise, data = torch.randn(2, 3, 5, 7, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    at = [interpolate(noise, data, torch.full((3,), t, dtype=torch.float64)) for t in (0.0, 1.0, 0.3, 0.3001)]
    torch.testing.assert_close(at[0], noise)
    torch.testing.assert_close(at[1], data)
    torch.testing.assert_close((at[3] - at[2]) / 1e-4, velocity(noise, data))


def test_each_example_has_its_own_time() -> None:
    noise, data = torch.zeros(3, 2, 2), torch.ones(3, 2, 2)
    assert interpolate(noise, data, torch.tensor([0.0, 0.25, 1.0]))[:, 0, 0].tolist() == [0.0, 0.25, 1.0]


def test_guidance_of_one_is_the_conditional_answer_and_of_zero_the_other() -> None:
    yes, no = torch.tensor([3.0]), torch.tensor([1.0])
    assert [float(guided(yes, no, s)) for s in (0.0, 1.0, 2.0)] == [1.0, 3.0, 5.0]


def test_times_lie_inside_the_path_most_of_them_in_its_middle() -> None:
    times = logit_normal_times(20_000, generator=torch.Generator().manual_seed(0))
    assert float(times.min()) > 0
    assert float(times.max()) < 1
    # P(|z| < log 3) = 0.728 is the share between a quarter and three quarters; uniform times would have 0.5
    assert float(((times > 0.25) & (times < 0.75)).float().mean()) == pytest.approx(0.728, abs=0.015)


def _growth(x: Tensor, time: float) -> Tensor:
    return x * (1 + time)  # x(1) = x(0) · exp(1.5)


def test_halving_the_step_divides_the_error_by_four() -> None:
    start = torch.tensor([[2.0], [-1.0]], dtype=torch.float64)
    errors = [float((solve(_growth, start, steps=n) - start * math.exp(1.5)).abs().max()) for n in (64, 128)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.06)


def test_the_exact_field_of_a_normal_distribution_leads_noise_to_it() -> None:
    """For data from N(m, s²): E[data - noise | x_t = x] = m + (t s² - (1 - t)) / ((1 - t)² + t² s²) · (x - t m)."""
    m, s = 3.0, 0.5

    def field(x: Tensor, t: float) -> Tensor:
        return m + (t * s**2 - (1 - t)) / ((1 - t) ** 2 + t**2 * s**2) * (x - t * m)

    noise = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(solve(field, noise, steps=200), m + s * noise, atol=2e-3, rtol=0)


def test_a_number_of_steps_that_means_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="steps=0"):
        solve(_growth, torch.ones(1, 1), steps=0)


def test_patches_run_row_by_row_and_fit_together_again() -> None:
    images = torch.arange(2 * 3 * 4 * 6, dtype=torch.float32).view(2, 3, 4, 6)
    patches = patchify(images, 2)
    assert patches.shape == (2, 6, 12)
    assert patches[1, 4].tolist() == images[1, :, 2:4, 2:4].flatten().tolist()  # second row, second column
    torch.testing.assert_close(unpatchify(patches, 2, height=4, width=6), images)


def test_patches_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="4 x 6 pixels cannot be cut into patches of 4"):
        patchify(torch.zeros(1, 1, 4, 6), 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_near_times_look_alike_and_far_ones_do_not(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    embed = TimeEmbedding(24).to(dtype)
    found = embed(torch.tensor([0.5, 0.502, 0.9])).detach().float()
    assert found.shape == (3, 24)
    near, far = (found[0] - found[1]).norm(), (found[0] - found[2]).norm()
    assert 0 < float(near) < 0.5 * float(far)


def test_modulation_gives_every_patch_what_the_condition_says() -> None:
    torch.manual_seed(0)
    module = Modulation(8)
    tokens = torch.randn(2, 5, 8)
    condition = torch.randn(2, 8)
    scale, shift = module.maps(torch.nn.functional.silu(condition)).chunk(2, -1)
    for b in range(2):
        for i in range(5):
            normed = (tokens[b, i] - tokens[b, i].mean()) / tokens[b, i].var(correction=0).add(1e-5).sqrt()
            torch.testing.assert_close(
                module(tokens, condition)[b, i], normed * (1 + scale[b]) + shift[b], atol=1e-5, rtol=1e-4
            )
