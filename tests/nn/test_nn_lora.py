"""Low-rank adaptation: equal at the start, right in between, equal after folding."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from polydetr.errors import ConfigError
from polydetr.nn import LoRALinear, MultiModalEncoder, add_lora, count_parameters, merge_lora

IN, OUT, RANK, ROWS = 7, 5, 3, 11


def adapter(**options) -> LoRALinear:
    torch.manual_seed(0)
    layer = LoRALinear(nn.Linear(IN, OUT).double(), rank=RANK, alpha=6.0, **options)
    layer.up.data.normal_()
    return layer


def small_model() -> MultiModalEncoder:
    torch.manual_seed(0)
    return MultiModalEncoder(["a", "b"], embed_dim=6, num_heads=2, num_layers=2).double()


def inputs() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    tokens = {m: torch.randn(2, n, 6, generator=generator, dtype=torch.float64) for m, n in (("a", 3), ("b", 5))}
    return tokens, {m: torch.ones(t.shape[:2], dtype=torch.bool) for m, t in tokens.items()}


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
    assert count_parameters(layer, trainable_only=True) == RANK * (IN + OUT)
    layer(x).square().sum().backward()
    assert base.weight.grad is None
    assert layer.up.grad is not None
    assert layer.up.grad.abs().sum() > 0


@pytest.mark.parametrize("bias", [True, False])
def test_a_merged_layer_gives_equal_outputs(bias: bool) -> None:
    layer = LoRALinear(nn.Linear(IN, OUT, bias=bias).double(), rank=RANK, alpha=4.0)
    layer.up.data.normal_()
    x = torch.randn(ROWS, IN, dtype=torch.float64)
    weight = layer.base.weight.clone()
    generator_state = torch.get_rng_state()
    merged = layer.merge()
    assert torch.equal(torch.get_rng_state(), generator_state)
    assert type(merged) is nn.Linear
    torch.testing.assert_close(merged(x), layer(x), rtol=1e-12, atol=1e-12)
    assert torch.equal(layer.base.weight, weight)


def test_add_train_merge_on_a_whole_encoder() -> None:
    model, (tokens, masks) = small_model(), inputs()
    before, _ = model(tokens, masks)
    structure = set(model.state_dict())
    names = add_lora(model, rank=2, alpha=4.0, targets=r"attention\.(query|value)$")
    assert len(names) == 2 * 2 * 2  # layers, modalities, query and value
    assert all(torch.equal(model(tokens, masks)[0][m], before[m]) for m in tokens)
    learning = {n for n, p in model.named_parameters() if p.requires_grad}
    assert learning == {f"{name}.{part}" for name in names for part in ("down", "up")}

    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for _ in range(2):  # the first step moves ``up`` alone: ``down`` has no gradient while ``up`` is zero
        optimiser.zero_grad()
        model(tokens, masks)[0]["a"].square().mean().backward()
        model(tokens, masks)[0]["b"][..., 0].sum().backward()
        optimiser.step()
    after, _ = model(tokens, masks)
    assert not torch.allclose(after["a"], before["a"])
    assert merge_lora(model) == names
    assert set(model.state_dict()) == structure
    folded, _ = model(tokens, masks)
    for m in tokens:
        torch.testing.assert_close(folded[m], after[m], rtol=1e-10, atol=1e-10)
    assert merge_lora(model) == []


def test_targets_may_be_a_pattern_or_a_function_and_freezing_is_a_choice() -> None:
    by_pattern = add_lora(small_model(), rank=1, alpha=1.0, targets=re.compile("expand"))
    by_function = add_lora(small_model(), rank=1, alpha=1.0, targets=lambda name, layer: layer.out_features > 6)
    assert by_pattern == by_function
    model = small_model()
    add_lora(model, rank=1, alpha=1.0, targets="expand", freeze=False)
    assert model.norms[0].weight.requires_grad
    assert not model.layers[0][0].expand.base.weight.requires_grad


def test_a_layer_in_two_places_stays_one_and_an_adapter_is_not_wrapped_again() -> None:
    shared = nn.Linear(4, 4)
    model = nn.Module()
    model.first, model.second = shared, shared
    assert add_lora(model, rank=1, alpha=1.0, targets=".") == ["first", "second"]
    assert model.first is model.second
    with pytest.raises(ConfigError, match="matches no linear layer"):
        add_lora(model, rank=1, alpha=1.0, targets=".")
    merge_lora(model)
    assert model.first is model.second
    assert type(model.first) is nn.Linear


def test_a_tied_weight_is_left_to_its_other_owner() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    before = model[0].weight.clone()
    add_lora(model, rank=1, alpha=1.0, targets="1")
    model[1].up.data.fill_(1.0)
    merge_lora(model)
    assert torch.equal(model[0].weight, before)
    assert not torch.allclose(model[1].weight, before)


def test_subclasses_whose_weight_is_read_directly_are_left_alone() -> None:
    model = nn.Sequential(nn.MultiheadAttention(4, 2))
    with pytest.raises(ConfigError, match="matches no linear layer"):
        add_lora(model, rank=1, alpha=1.0, targets="out_proj")


def test_dropout_acts_on_the_update_in_training_only() -> None:
    layer, x = adapter(dropout=0.5), torch.randn(ROWS, IN, dtype=torch.float64)
    assert not torch.allclose(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))
    torch.testing.assert_close(layer(x), layer.merge()(x))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"rank": 0, "alpha": 1.0}, "rank=0"),
        ({"rank": OUT + 1, "alpha": 1.0}, "rank=6"),
        ({"rank": 1, "alpha": 0.0}, "alpha=0"),
        ({"rank": 1, "alpha": float("nan")}, "alpha=nan"),
        ({"rank": 1, "alpha": 1.0, "dropout": 1.0}, "dropout=1"),
    ],
)
def test_values_that_fit_nothing_are_named(options: dict[str, float], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        LoRALinear(nn.Linear(IN, OUT), **options)


def test_wrong_targets_are_named() -> None:
    with pytest.raises(ConfigError, match=r"'query\['.*not a regular expression"):
        add_lora(small_model(), rank=1, alpha=1.0, targets="query[")
    with pytest.raises(ConfigError, match="'querry' matches no linear layer"):
        add_lora(small_model(), rank=1, alpha=1.0, targets="querry")
    with pytest.raises(ConfigError, match="LoRALinear"):
        add_lora(nn.Linear(2, 2), rank=1, alpha=1.0, targets=".")
    with pytest.raises(ConfigError, match=r"module\.merge"):
        merge_lora(adapter())
