"""Deformable attention against the equation in float64 loops, against transformers' module, and at the borders."""

from __future__ import annotations

import math
from collections.abc import Callable

import literal_nn
import pytest
import torch
from torch import Tensor

from polydetr.errors import ConfigError
from polydetr.nn.deformable import DeformableAttention, sample, sample_by_grid, sample_by_rows

# A different prime for every dimension, maps that are not square: a swapped axis cannot fit by accident.
B, Q, H, K, P = 2, 5, 3, 7, 2
SHAPES = ((11, 3), (5, 2), (1, 1))
D, S, V = H * K, 44, len(SHAPES)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inputs(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """values, locations (some beyond the border), weights."""
    weights = random(B, Q, H, V * P, seed=seed + 2).softmax(-1).view(B, Q, H, V, P)
    return random(B, S, H, K, seed=seed), 0.5 + 0.6 * random(B, Q, H, V, P, 2, seed=seed + 1), weights


def value_at(cells: Tensor, x: float, y: float) -> Tensor:
    """cells (h, w, K) read bilinearly at (x, y), in cells, where the first cell's centre is (0.5, 0.5)."""
    height, width = cells.shape[:2]
    total = torch.zeros(cells.shape[2], dtype=torch.float64)
    for row in range(height):
        for column in range(width):
            share = max(0.0, 1 - abs(x - 0.5 - column)) * max(0.0, 1 - abs(y - 0.5 - row))
            total += share * cells[row, column]
    return total


def literal_sample(values: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    out = torch.zeros(B, Q, H, K, dtype=torch.float64)
    for b in range(B):
        for q in range(Q):
            for h in range(H):
                start = 0
                for level, (height, width) in enumerate(SHAPES):
                    cells = values[b, start : start + height * width, h].view(height, width, K)
                    start += height * width
                    for p in range(P):
                        x, y = locations[b, q, h, level, p].tolist()
                        out[b, q, h] += weights[b, q, h, level, p] * value_at(cells, x * width, y * height)
    return out.flatten(2)


@pytest.mark.parametrize("how", [sample, sample_by_rows, sample_by_grid])
def test_sampling_equals_the_literal_loop(how: Callable[..., Tensor]) -> None:
    values, locations, weights = inputs()
    ours = how(values, SHAPES, locations, weights)
    torch.testing.assert_close(ours, literal_sample(values, locations, weights), rtol=0, atol=1e-12)
    single = how(values.float(), SHAPES, locations.float(), weights.float())
    torch.testing.assert_close(single.double(), ours, rtol=0, atol=1e-5)


def test_both_ways_have_the_same_gradients() -> None:
    gradients = []
    for how in (sample_by_rows, sample_by_grid):
        leaves = [tensor.clone().requires_grad_() for tensor in inputs(seed=7)]
        out = how(leaves[0], SHAPES, *leaves[1:])
        gradients.append(torch.autograd.grad((out * random(B, Q, D, seed=9)).sum(), leaves))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
        assert one.abs().sum() > 0


def test_gradients_agree_with_finite_differences() -> None:
    values, locations, weights = (tensor[:1, :2] if i else tensor[:1] for i, tensor in enumerate(inputs(seed=3)))
    leaves = [tensor.clone().requires_grad_() for tensor in (values, locations, weights)]
    assert torch.autograd.gradcheck(lambda v, x, w: sample_by_rows(v, SHAPES, x, w), leaves)


@pytest.mark.parametrize("far", [-1e9, 1e9, 3.0, -3.0, math.inf])
def test_points_beyond_the_border_read_zero(far: float) -> None:
    values, locations, weights = inputs()
    read = sample_by_rows(values, SHAPES, torch.full_like(locations, far), weights)
    assert math.isinf(far) or (read == 0).all()  # infinity minus itself is no number; it must not crash
    assert read.shape == (B, Q, D)


def test_a_location_that_is_no_number_spoils_its_own_answer_alone() -> None:
    values, locations, weights = inputs()
    broken = locations.clone()
    broken[1, 2] = math.nan
    before, after = (sample_by_rows(values, SHAPES, x, weights) for x in (locations, broken))
    same = torch.ones(B, Q, dtype=torch.bool)
    same[1, 2] = False
    torch.testing.assert_close(after[same], before[same])
    assert after[1, 2].isnan().all()


def module_inputs() -> tuple[Tensor, Tensor, Tensor]:
    """queries, references, memory."""
    return random(B, Q, D, seed=4), random(B, Q, V, 4, seed=5).sigmoid(), random(B, S, D, seed=6)


def test_module_equals_the_equation() -> None:
    module = literal_nn.randomise(DeformableAttention(D, H, num_levels=V, num_points=P), seed=1)
    queries, references, memory = module_inputs()
    values = torch.zeros(B, S, H, K, dtype=torch.float64)
    for b in range(B):
        for s in range(S):
            values[b, s] = literal_nn.linear(module.value, memory[b, s]).view(H, K)
    locations = torch.zeros(B, Q, H, V, P, 2, dtype=torch.float64)
    weights = torch.zeros(B, Q, H, V, P, dtype=torch.float64)
    for b in range(B):
        for q in range(Q):
            offsets = literal_nn.linear(module.offsets, queries[b, q]).view(H, V, P, 2)
            scores = literal_nn.linear(module.weights, queries[b, q]).view(H, V, P)
            for h in range(H):
                weights[b, q, h] = scores[h].exp() / scores[h].exp().sum()
                for level in range(V):
                    reference = references[b, q, level]
                    for p in range(P):
                        step = reference[2:] / (2 * P)
                        locations[b, q, h, level, p] = reference[:2] + offsets[h, level, p] * step
    sampled = literal_sample(values, locations, weights)
    expected = torch.stack([torch.stack([literal_nn.linear(module.output, token) for token in row]) for row in sampled])
    torch.testing.assert_close(module(queries, references, memory, SHAPES), expected, rtol=0, atol=1e-6)


def test_module_is_that_of_transformers() -> None:
    pytest.importorskip("transformers")
    from transformers import DeformableDetrConfig
    from transformers.models.deformable_detr import modeling_deformable_detr as hub

    config = DeformableDetrConfig(d_model=24, num_feature_levels=V, use_timm_backbone=False, backbone=None,
                                  backbone_config={"model_type": "resnet"}, disable_custom_kernels=True)  # fmt: skip
    theirs = hub.DeformableDetrMultiscaleDeformableAttention(config, num_heads=3, n_points=P)
    theirs = literal_nn.randomise(theirs, seed=2).float()
    ours = DeformableAttention(24, 3, num_levels=V, num_points=P)
    names = {
        "offsets": "sampling_offsets",
        "weights": "attention_weights",
        "value": "value_proj",
        "output": "output_proj",
    }
    for mine, other in names.items():
        ours.get_submodule(mine).load_state_dict(theirs.get_submodule(other).state_dict())
    queries, memory = random(B, Q, 24, seed=1).float(), random(B, S, 24, seed=2).float()
    references = module_inputs()[1]
    expected, _ = theirs(
        queries, encoder_hidden_states=memory, reference_points=references.float(),
        spatial_shapes=torch.tensor(SHAPES), spatial_shapes_list=list(SHAPES), level_start_index=None,
    )  # fmt: skip
    torch.testing.assert_close(ours(queries, references.float(), memory, SHAPES), expected, rtol=0, atol=1e-5)


def test_it_starts_as_the_paper_says() -> None:
    module = DeformableAttention(16, 4, num_levels=2, num_points=3)
    star = module.offsets.bias.detach().view(4, 2, 3, 2)
    assert star[0, 1].tolist() == [[1, 0], [2, 0], [3, 0]]
    torch.testing.assert_close(star[1, 0], torch.tensor([[0.0, 1.0], [0.0, 2.0], [0.0, 3.0]]), atol=1e-6, rtol=0)
    assert (module.offsets.weight == 0).all()
    assert (module.weights.weight == 0).all()


@pytest.mark.parametrize("how", [sample_by_rows, sample_by_grid])
def test_half_precision_reads_between_the_right_cells_of_a_large_map(how: Callable[..., Tensor]) -> None:
    shapes, values = ((1, 997),), torch.arange(997.0).view(1, 997, 1, 1)
    locations = torch.tensor([0.703125, 0.5], dtype=torch.bfloat16).view(1, 1, 1, 1, 1, 2)
    weights = torch.ones(1, 1, 1, 1, 1, dtype=torch.bfloat16)
    assert float(how(values, shapes, locations, weights)) == pytest.approx(0.703125 * 997 - 0.5, abs=1e-3)
    assert how(values.bfloat16(), shapes, locations, weights).dtype == torch.bfloat16


@pytest.mark.parametrize("examples", [1, 2])
@pytest.mark.parametrize("how", [sample_by_rows, sample_by_grid])
def test_half_precision_agrees_with_single_for_any_number_of_examples(
    how: Callable[..., Tensor], examples: int
) -> None:
    shapes = ((53, 53), (29, 29), (13, 13))
    cells = sum(height * width for height, width in shapes)
    values = random(examples, cells, 8, 16).bfloat16()
    locations = random(examples, 97, 8, 3, 4, 2, seed=1).sigmoid().float()
    weights = random(examples, 97, 8, 12, seed=2).softmax(-1).view(examples, 97, 8, 3, 4).bfloat16()
    half, single = how(values, shapes, locations, weights), how(values.float(), shapes, locations, weights.float())
    torch.testing.assert_close(half.float(), single, rtol=0.01, atol=0.02)


def test_faults_are_named() -> None:
    with pytest.raises(ConfigError, match=r"embed_dim=20, num_heads=3"):
        DeformableAttention(20, 3, num_levels=1)
