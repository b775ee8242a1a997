"""``Linear``: ``nn.Linear`` in every respect but speed."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from polydetr.nn.cpu import linear
from polydetr.nn.cpu.linear import Linear, pack
from polydetr.nn.encoder import MultiModalEncoder

I, O = 47, 29  # noqa: E741
DTYPES = [
    pytest.param(torch.float32, 1e-5, marks=pytest.mark.skipif(not linear._ONEDNN, reason="no oneDNN here")),
    pytest.param(
        torch.bfloat16, 2e-2, marks=pytest.mark.skipif(not linear.ONEDNN_BF16, reason="no fast bfloat16 here")
    ),
]


def _layer(dtype: torch.dtype) -> Linear:
    torch.manual_seed(0)
    return Linear(I, O).to(dtype).eval()


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("shape", [(I,), (1, I), (7, I), (2, 3, 5, I), (0, I), (2, 0, I)], ids=str)
def test_a_packed_layer_equals_pytorch_own(dtype: torch.dtype, tolerance: float, shape: tuple[int, ...]) -> None:
    layer, x = _layer(dtype), torch.randn(shape).to(dtype)
    layer.pack()
    assert layer._packed is not None
    with torch.no_grad():
        found, expected = layer(x), F.linear(x, layer.weight, layer.bias)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_how_the_input_lies_in_memory_changes_nothing(dtype: torch.dtype, tolerance: float) -> None:
    layer, x = _layer(dtype), torch.randn(I, 6, 4).to(dtype)
    layer.pack()
    with torch.no_grad():
        found, expected = layer(x.permute(2, 1, 0)), F.linear(x.permute(2, 1, 0), layer.weight, layer.bias)
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(("dtype", "_"), DTYPES)
def test_where_a_gradient_or_another_type_is_asked_for_nothing_is_packed(dtype: torch.dtype, _: float) -> None:
    layer, x = _layer(dtype), torch.randn(3, I, dtype=torch.float64)
    layer.pack()
    layer(x.to(dtype)).sum().backward()
    assert layer.weight.grad is not None
    with torch.no_grad():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert layer(x.float()).dtype == torch.bfloat16
        assert layer.double()(x).dtype == torch.float64
        assert layer._packed is None


@pytest.mark.parametrize(("dtype", "_"), DTYPES)
def test_a_changed_weight_is_not_read_in_its_old_layout(dtype: torch.dtype, _: float) -> None:
    layer, x = _layer(dtype), torch.randn(3, I).to(dtype)
    with torch.no_grad():
        layer.pack()
        layer.weight.mul_(-2)
        assert torch.equal(layer(x), copy.deepcopy(layer)(x))
        layer.pack()
        assert layer.train()._packed is None


@pytest.mark.skipif(not linear._ONEDNN, reason="no oneDNN here")
def test_every_layer_of_an_encoder_is_packed_and_answers_the_same() -> None:
    torch.manual_seed(0)
    encoder = MultiModalEncoder(["text", "table"], embed_dim=24, num_heads=3, num_layers=2).eval()
    tokens = {"text": torch.randn(2, 7, 24), "table": torch.randn(2, 3, 24)}
    masks = {name: torch.ones(t.shape[:2], dtype=torch.bool) for name, t in tokens.items()}
    masks["text"][1, 4:] = False
    with torch.no_grad():
        before, _ = encoder(tokens, masks)
        pack(encoder)
        assert all(m._packed is not None for m in encoder.modules() if isinstance(m, Linear))
        assert not any(type(m) is nn.Linear for m in encoder.modules())
        after, _ = encoder(tokens, masks)
    for name, mask in masks.items():
        torch.testing.assert_close(after[name][mask], before[name][mask], atol=1e-5, rtol=1e-5)
