"""Low-rank adaptation: equal at the start, right in between, equal after folding."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from polydetr.errors import ConfigError
from polydetr.nn.lora import LoRALinear

IN, OUT, RANK, ROWS = 7, 5, 3, 11


def adapter() -> LoRALinear:
    torch.manual_seed(0)
    layer = LoRALinear(nn.Linear(IN, OUT).double(), rank=RANK, alpha=6.0)
    layer.up.data.normal_()
    return layer


def test_output_and_gradients_equal_the_formula() -> None:
    layer, x = adapter(), torch.randn(ROWS, IN, dtype=torch.float64)
    expected = torch.stack(
        [
            torch.stack(
                [
                    sum(layer.base.weight[o, i] * row[i] for i in range(IN))
                    + layer.base.bias[o]
                    + 6.0
                    / RANK
                    * sum(layer.up[o, r] * sum(layer.down[r, i] * row[i] for i in range(IN)) for r in range(RANK))
                    for o in range(OUT)
                ]
            )
            for row in x
        ]
    )
    torch.testing.assert_close(layer(x), expected, rtol=1e-11, atol=1e-12)
    direction = torch.randn(ROWS, OUT, dtype=torch.float64)
    ours = torch.autograd.grad((layer(x) * direction).sum(), [layer.down, layer.up])
    literal = torch.autograd.grad((expected * direction).sum(), [layer.down, layer.up])
    for left, right in zip(ours, literal, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-11)


def test_a_new_adapter_changes_nothing_and_only_it_learns() -> None:
    base = nn.Linear(IN, OUT)
    x = torch.randn(ROWS, IN)
    before = base(x)
    layer = LoRALinear(base, rank=RANK, alpha=1.0)
    assert torch.equal(layer(x), before)
    assert sum(p.numel() for p in layer.parameters() if p.requires_grad) == RANK * (IN + OUT)
    layer(x).square().sum().backward()
    assert base.weight.grad is None
    assert layer.up.grad is not None
    assert layer.up.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"rank": 0, "alpha": 1.0}, "rank=0"),
        ({"rank": OUT + 1, "alpha": 1.0}, "rank=6"),
        ({"rank": 1, "alpha": 0.0}, "alpha=0"),
        ({"rank": 1, "alpha": float("nan")}, "alpha=nan"),
    ],
)
def test_values_that_fit_nothing_are_named(options: dict[str, float], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        LoRALinear(nn.Linear(IN, OUT), **options)
