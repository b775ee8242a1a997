"""Pooling, positions, and the shape annotations themselves."""

from __future__ import annotations

import math
import subprocess
import sys

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes_nn import annotated_functions

from polydetr.errors import ConfigError
from polydetr.nn import attention, pooling
from polydetr.nn.positions import SinusoidalPositions

B, L, D = 3, 5, 7


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=4), padding=st.integers(0, 4), seed=st.integers(0, 2**31)
)
def test_masked_mean_is_the_mean_of_the_real_tokens(lengths: list[int], padding: int, seed: int) -> None:
    width = max(1, *lengths) + padding
    tokens = torch.randn(len(lengths), width, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    mask = torch.arange(width)[None] < torch.tensor(lengths)[:, None]
    tokens[~mask] = math.nan  # whatever stands in the padding stays there
    pooled = pooling.masked_mean(tokens, mask)
    for b, length in enumerate(lengths):
        by_hand = [sum(float(tokens[b, j, d]) for j in range(length)) / length if length else 0.0 for d in range(D)]
        torch.testing.assert_close(pooled[b], torch.tensor(by_hand, dtype=torch.float64), rtol=1e-12, atol=1e-13)
    pooled = pooling.masked_mean(tokens.requires_grad_(), mask)
    (gradient,) = torch.autograd.grad(pooled.sum(), tokens)
    expected = torch.where(mask, 1 / mask.sum(dim=1, keepdim=True).clamp(min=1).double(), 0.0)
    torch.testing.assert_close(gradient, expected[..., None].expand_as(gradient), rtol=1e-12, atol=0)


def test_masked_mean_takes_holes_and_half_precision() -> None:
    tokens = torch.arange(B * L * D, dtype=torch.float32).reshape(B, L, D)
    mask = torch.tensor([[1, 0, 0, 1, 0]] * B, dtype=torch.bool)
    torch.testing.assert_close(pooling.masked_mean(tokens, mask), (tokens[:, 0] + tokens[:, 3]) / 2)
    assert pooling.masked_mean(tokens.bfloat16(), mask).dtype == torch.bfloat16


@pytest.mark.parametrize(("dim", "base"), [(1, 10_000.0), (7, 10_000.0), (8, 10_000.0), (6, 100.0)])
def test_sinusoidal_positions_equal_the_formula(dim: int, base: float) -> None:
    positions = torch.tensor([[0, 1, 2, 511, 40], [3, 3, 9, 0, 8191]])
    waves = SinusoidalPositions(dim, base=base)(positions)
    assert waves.dtype == torch.float32
    for b in range(2):
        for place in range(5):
            for d in range(dim):
                angle = int(positions[b, place]) / base ** (2 * (d // 2) / dim)
                expected = math.sin(angle) if d % 2 == 0 else math.cos(angle)
                assert waves[b, place, d].item() == pytest.approx(expected, abs=2e-3)


def test_sinusoidal_positions_survive_a_model_in_half_precision() -> None:
    positions = torch.tensor([[4095]])
    assert torch.equal(SinusoidalPositions(D)(positions), SinusoidalPositions(D).bfloat16()(positions))
    assert not list(SinusoidalPositions(D).parameters())


def test_position_sizes_are_checked() -> None:
    with pytest.raises(ConfigError, match="embed_dim=0"):
        SinusoidalPositions(0)
    with pytest.raises(ConfigError, match=r"base=1\.0"):
        SinusoidalPositions(D, base=1.0)


def test_shape_annotations_are_executed_and_bite() -> None:
    names = {f"{getattr(owner, '__name__', owner)}.{attribute}" for owner, attribute, _ in annotated_functions()}
    assert {"MultiHeadAttention.forward", "MultiModalEncoder.forward", "LoRALinear.forward"} <= {
        n.split("nn.")[-1] for n in names
    }
    tokens, mask = torch.zeros(B, L, D), torch.ones(B, L, dtype=torch.bool)
    with pytest.raises(jaxtyping.TypeCheckError):
        pooling.masked_mean(tokens, mask[:, 1:])  # one token too few
    with pytest.raises(jaxtyping.TypeCheckError):
        pooling.masked_mean(tokens, mask.float())  # the wrong kind of mask
    module = attention.MultiHeadAttention(D, 1)
    with pytest.raises(jaxtyping.TypeCheckError):
        module(tokens, tokens, tokens, torch.ones(L, B, dtype=torch.bool))  # swapped axes


def test_the_package_runs_without_jaxtyping() -> None:
    program = (
        "import sys; sys.modules['jaxtyping'] = None; from polydetr.nn import encoder; "
        "print('jaxtyping' in vars(encoder))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr
