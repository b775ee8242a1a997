"""Embeddings of numbers against literal float64 formulas, with another prime for each dimension."""

from __future__ import annotations

import math

import pytest
import torch
from shapes_nn import checked

from polydetr.errors import ConfigError
from polydetr.nn.numbers import BINS, Cells, CellSums, LinearNumbers, PeriodicNumbers, piecewise_linear

B, L, K, C, F, D, R = 2, 5, 3, 7, 11, 13, 4


def cells(*tail: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(B, L, *tail, generator=generator, dtype=torch.float64)
    return numbers, torch.randint(0, C, (B, L), generator=generator)


def test_linear_numbers_equal_the_formula() -> None:
    module = LinearNumbers(C, D, width=K).double().requires_grad_(False)
    numbers, columns = cells(K)
    tokens = checked(LinearNumbers.forward)(module, numbers, columns)
    for b in range(B):
        for place in range(L):
            c = int(columns[b, place])
            for d in range(D):
                expected = float(module.bias.weight[c, d])
                for k in range(K):
                    expected += float(numbers[b, place, k]) * float(module.weight.weight[c, k * D + d])
                assert tokens[b, place, d].item() == pytest.approx(expected, rel=1e-12, abs=1e-14)


def test_periodic_numbers_equal_the_formula() -> None:
    torch.manual_seed(0)
    module = PeriodicNumbers(C, D, num_frequencies=F, sigma=0.5).double().requires_grad_(False)
    numbers, columns = cells()
    tokens = checked(PeriodicNumbers.forward)(module, numbers, columns)
    weight, bias = module.project.weight, module.project.bias
    for b in range(B):
        for place in range(L):
            frequencies = module.frequencies.weight[int(columns[b, place])]
            angles = [2 * math.pi * float(f) * float(numbers[b, place]) for f in frequencies]
            waves = [math.cos(a) for a in angles] + [math.sin(a) for a in angles]
            for d in range(D):
                sum_ = float(bias[d]) + sum(w * float(weight[d, i]) for i, w in enumerate(waves))
                # angles are taken in float32 on purpose
                assert tokens[b, place, d].item() == pytest.approx(max(0.0, sum_), abs=1e-5)


def test_gradients_reach_numbers_and_every_weight() -> None:
    linear = LinearNumbers(C, D, width=K).double()
    numbers, columns = cells(K)
    assert torch.autograd.gradcheck(lambda x: linear(x, columns), (numbers.requires_grad_(),))
    periodic = PeriodicNumbers(C, D, num_frequencies=F)
    number, columns = cells()
    number = number.float().requires_grad_()
    periodic(number, columns).square().sum().backward()
    assert number.grad is not None
    assert bool((number.grad != 0).all())
    met = torch.zeros(C, dtype=torch.bool).index_fill(0, columns.flatten(), True)
    gradient = periodic.frequencies.weight.grad
    assert gradient is not None
    assert torch.equal((gradient != 0).any(dim=1), met)  # a column learns from its own cells alone


def test_columns_do_not_share_their_weights() -> None:
    numbers = torch.ones(1, 2, 1)
    tokens = LinearNumbers(C, D)(numbers, torch.tensor([[0, 1]]))
    assert not torch.allclose(tokens[0, 0], tokens[0, 1])


def test_half_precision_keeps_its_dtype_and_no_cell_is_no_token() -> None:
    for module, tail in ((LinearNumbers(C, D, width=K), (K,)), (PeriodicNumbers(C, D), ())):
        numbers, columns = cells(*tail)
        assert module.bfloat16()(numbers.float(), columns).dtype == torch.bfloat16
        assert module(torch.zeros(B, 0, *tail), torch.zeros(B, 0, dtype=torch.int64)).shape == (B, 0, D)


def test_sizes_are_checked() -> None:
    with pytest.raises(ConfigError, match="num_columns=0"):
        LinearNumbers(0, D)
    with pytest.raises(ConfigError, match="num_frequencies=0"):
        PeriodicNumbers(C, D, num_frequencies=0)
    with pytest.raises(ConfigError, match=r"sigma=0\.0"):
        PeriodicNumbers(C, D, sigma=0.0)


def test_pieces_are_the_shares_of_the_bins_below_a_number() -> None:
    numbers = torch.tensor([-5.0, 0.0, 0.33724, 5.0], dtype=torch.float64)
    found = piecewise_linear(numbers) + 0.5
    assert found[0].tolist() == [0.0] * BINS
    assert found[1].tolist() == pytest.approx([1.0] * 4 + [0.0] * 4)
    # Half-way through the bin between the quantiles 4/8 and 5/8 of the normal distribution, which is 0.3186 wide.
    assert found[2].tolist() == pytest.approx([1.0] * 5 + [0.0523, 0.0, 0.0], abs=1e-3)
    assert found[3].tolist() == [1.0] * BINS


def sums_and_cells() -> tuple[CellSums, Cells, torch.Tensor]:
    torch.manual_seed(0)
    sums = CellSums(C, F, D, rank=R, width=K)
    assert all(not parameter.any() for parameter in sums.parameters())
    for parameter in sums.parameters():
        torch.nn.init.normal_(parameter)
    columns = torch.stack([torch.randperm(C)[:L] for _ in range(B)])
    codes = torch.randint(0, F, (B, L)) * (torch.rand(B, L) < 0.5)
    curves = (columns % 2 == 0) & (codes == 0)
    return sums, Cells(torch.randn(B, L, K), columns, codes, curves), torch.rand(B, L) < 0.8


def test_cell_sums_equal_the_formula() -> None:
    sums, cells_read, _ = sums_and_cells()
    found = checked(CellSums.forward)(sums, cells_read)
    for b in range(B):
        for place in range(L):
            c, code = int(cells_read.columns[b, place]), int(cells_read.codes[b, place])
            x = cells_read.numbers[b, place]
            expected = sum(x[k] * sums.lines.weight[c].view(K, D + R)[k] for k in range(K))
            if cells_read.is_curve[b, place]:
                expected = expected + piecewise_linear(x[0]) @ sums.curves.weight[c].view(BINS, D + R)
            if code:
                expected = expected + sums.levels.weight[code]
            torch.testing.assert_close(found[b, place], expected)


def test_the_design_adds_up_to_the_same() -> None:
    sums, cells_read, mask = sums_and_cells()
    weights = torch.randn(C, sums.num_designed, D + R)
    with torch.no_grad():
        for part, value in zip((sums.lines, sums.curves), sums.designed(weights), strict=True):
            part.weight.copy_(value)
        sums.levels.weight.zero_()
    expected = sums(cells_read).masked_fill(~mask[..., None], 0.0).sum(1)
    torch.testing.assert_close(torch.einsum("bcf,cfz->bz", sums.design(cells_read, mask), weights), expected)


def test_the_total_is_every_cell_and_every_pair_of_cells() -> None:
    sums, cells_read, mask = sums_and_cells()
    z = sums(cells_read).masked_fill(~mask[..., None], 0.0)
    totals = checked(CellSums.total)(sums, z)
    assert sums.mix is not None
    for b in range(B):
        expected = sums.bias + z[b, :, :D].sum(0)
        for c in range(L):
            for d in range(c + 1, L):
                expected = expected + (z[b, c, D:] * z[b, d, D:]) @ sums.mix
        torch.testing.assert_close(totals[b], expected)
