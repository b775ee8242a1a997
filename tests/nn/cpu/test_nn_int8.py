"""Linear layers in 8-bit integers: the error is what two roundings make it, never more, and gradients stay exact."""

from __future__ import annotations

import copy

import pytest
import torch

from polydetr.backbones.bert import BertEncoder, BertSizes
from polydetr.nn.cpu import attention, int8, linear
from polydetr.nn.cpu.int8 import computes_int8, linear_int8, pack_int8
from polydetr.nn.cpu.linear import Linear, pack

N, I, O = 13, 47, 29  # noqa: E741
needs_vnni = pytest.mark.skipif(not computes_int8(), reason="this CPU sums no products of bytes")


def _case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    x = torch.randn(N, I)
    x[:, 3] += 9  # a channel that is large and of one sign, as encoders have them
    return x, torch.randn(O, I) * 0.1, torch.randn(O)


def _largest_error(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Half a step of each rounding: |x̂ ŵ - x w| ≤ |x̂ - x| |ŵ| + |x| |ŵ - w|, added up over the inputs; (N, O)."""
    x, weight = x.double(), weight.double()
    scale = weight.abs().amax(1) / 127
    step = (x.amax(1).clamp(min=0) - x.amin(1).clamp(max=0)) / 254
    levels = (weight / scale[:, None]).round() * scale[:, None]
    return step[:, None] / 2 * levels.abs().sum(1) + x.abs().sum(1)[:, None] * scale / 2


@needs_vnni
@pytest.mark.parametrize("change", ["plain", "positive", "negative", "constant", "huge", "tiny", "zero"])
def test_the_error_is_that_of_two_roundings(change: str) -> None:
    x, weight, bias = _case()
    x = {
        "plain": x,
        "positive": x.abs() + 3,
        "negative": -x.abs() - 3,
        "constant": torch.full_like(x, 5.0),
        "huge": x * 1e15,
        "tiny": x * 1e-15,
        "zero": torch.zeros_like(x),
    }[change]
    exact = x.double() @ weight.double().T + bias.double()
    found = linear_int8(x.clone(), pack_int8(weight), bias).double()
    assert ((found - exact).abs() <= 1.001 * _largest_error(x, weight) + 1e-6 * (1 + exact.abs())).all()
    if change == "plain":
        assert (found - exact).norm() < 0.02 * (exact - bias).norm()


@needs_vnni
def test_neighbours_change_nothing_and_what_is_no_number_stays_alone() -> None:
    x, weight, bias = _case()
    packed = pack_int8(weight)
    together = linear_int8(x, packed, bias)
    assert torch.equal(linear_int8(x[4:5], packed, bias), together[4:5])
    broken = x.clone()
    broken[7, 2] = float("nan")
    found = linear_int8(broken, packed, bias)
    assert found[7].isnan().all()
    assert torch.equal(found[:7], together[:7])
    kept = x.clone()
    linear_int8(x, packed, bias)
    assert torch.equal(x, kept)  # unless it may overwrite it
    assert torch.equal(linear_int8(x, packed, bias, overwrite=True), together)


def _encoder() -> BertEncoder:
    torch.manual_seed(0)
    return BertEncoder(
        BertSizes(vocab_size=101, hidden_dim=48, num_layers=3, num_heads=3, ffn_dim=67, max_positions=80)
    )


def _batch(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return torch.randint(1, 101, mask.shape).where(mask, torch.tensor(0)), mask


@needs_vnni
def test_an_encoder_answers_in_int8_and_learns_in_float32() -> None:
    ours = _encoder()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ids, mask = _batch(11, 7, 3)
    exact = ours(ids, mask)
    ours.use_int8()
    pack(ours.eval())
    assert torch.equal(ours(ids, mask), exact)  # a gradient may be asked for
    with torch.no_grad():
        found = ours(ids, mask)
        error = (found - exact)[mask].norm() / exact[mask].norm()
        assert 1e-5 < error < 0.05
        torch.testing.assert_close(copy.deepcopy(ours)(ids, mask), exact)  # a copy is not packed
        ours.layers[0].qkv.weight.mul_(1.5)
        assert ours.layers[0].qkv._packed[1] != ours.layers[0].qkv.weight._version
        fresh = copy.deepcopy(ours)
        assert (ours(ids, mask) - fresh(ids, mask))[mask].abs().max() > 0  # the other layers still are
        ours.train()
        torch.testing.assert_close(ours(ids, mask), fresh(ids, mask))


@needs_vnni
def test_rounding_is_for_float32_alone() -> None:
    ours = _encoder().bfloat16()
    ours.use_int8()
    pack(ours)
    assert not any(
        isinstance(m._packed and m._packed[0], int8.Int8Weight) for m in ours.modules() if isinstance(m, Linear)
    )


@pytest.mark.parametrize("lengths", [(11, 11), (11, 4, 1), (70, 9)], ids=["full", "padded", "too-long"])
def test_short_texts_attend_as_with_pytorch_own_kernel(
    lengths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = _encoder().eval()
    ours.use_int8()  # not packed: its products are exact
    ids, mask = _batch(*lengths)
    with torch.no_grad():
        found = ours(ids, mask)
        monkeypatch.setattr(attention, "SHORT", 0)
        torch.testing.assert_close(found[mask], ours(ids, mask)[mask], atol=1e-5, rtol=1e-5)


@needs_vnni
def test_the_gain_is_measured() -> None:
    threads = torch.get_num_threads()
    assert int8.int8_speedup(torch.float32) > 0.5
    assert torch.get_num_threads() == threads


def test_a_machine_without_the_instructions_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "computes_int8", lambda: False)
    assert int8.int8_speedup.__wrapped__(torch.bfloat16) == 0.0
    monkeypatch.setattr(linear, "computes_int8", lambda: False)
    ours = _encoder()
    ours.use_int8()
    pack(ours)
    packed = [m._packed and m._packed[0] for m in ours.modules() if isinstance(m, Linear)]
    assert not any(isinstance(weight, int8.Int8Weight) for weight in packed)
