"""The choice of number format: honours a wish, follows the measurement, and notices an encoder that bfloat16 breaks."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from polydetr.errors import ConfigError
from polydetr.model import precision
from polydetr.model.precision import BF16_TOLERANCE, bf16_difference, bf16_speedup


class Encoder(nn.Module):
    def __init__(self, *, offset: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(31, 23)
        self.linear = nn.Linear(23, 23)
        self.offset = offset

    def forward(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        # A large number added and taken away again loses in bfloat16 what float32 keeps.
        return (self.linear(self.words(input_ids)) + self.offset) - self.offset


def _batch() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {"input_ids": torch.randint(0, 31, (3, 5)), "mask": torch.arange(5) < torch.tensor([[5], [2], [3]])}


def real_tokens(batch: dict[str, Tensor]) -> Callable[[Encoder], Tensor]:
    return lambda encoder: encoder(**batch)[batch["mask"]]


def by_speed(wanted: str, device: str = "cpu") -> precision.Precision:
    return precision._by_speed(wanted, torch.device(device))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_a_wish_is_honoured(name: str) -> None:
    chosen = by_speed(name)
    assert chosen.name == name
    assert "as configured" in chosen.reason


@pytest.mark.parametrize(("gain", "name"), [(3.04, "bf16"), (1.1, "fp32"), (0.2, "fp32")])
def test_auto_follows_the_measurement(monkeypatch: pytest.MonkeyPatch, gain: float, name: str) -> None:
    monkeypatch.setattr(precision, "bf16_speedup", lambda _: gain)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    chosen = by_speed("auto")
    assert chosen.name == name
    assert f"{gain:.1f} times" in chosen.reason


def test_auto_does_not_measure_where_bfloat16_is_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    monkeypatch.setattr(precision, "bf16_speedup", lambda _: pytest.fail("measured"))
    assert by_speed("auto").name == "fp32"
    assert by_speed("auto", "meta").name == "fp32"


def test_the_measurement_is_made_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products in bfloat16 take fifty times as long as others where they are emulated: a single turn is timed here."""
    monkeypatch.setattr("polydetr.nn.cpu.timing._TURNS", 2)
    monkeypatch.setattr(precision, "_MEASUREMENTS", 1)
    precision._measured_speedup.cache_clear()
    first = bf16_speedup(1)
    assert first > 0
    monkeypatch.setattr(precision, "speedup", lambda *_: pytest.fail("measured again"))
    assert bf16_speedup(1) == first


def test_other_programs_do_not_make_bf16_look_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock on the wall that jumps, as it does for a process that has to wait, changes nothing."""
    worked, jumps = 0.0, iter(range(10**6))

    def product(left: Tensor, right: Tensor) -> None:
        nonlocal worked
        worked += 1.0 if left.dtype == right.dtype == torch.bfloat16 else 3.0

    clocks = SimpleNamespace(process_time=lambda: worked, perf_counter=lambda: float(next(jumps) ** 2))
    monkeypatch.setattr(precision, "time", clocks)
    monkeypatch.setattr(torch, "mm", product)
    assert precision._measured_speedup.__wrapped__(1) == pytest.approx(3.0)


def test_a_gain_once_seen_is_kept_for_later_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([1.1, 2.5, 0.9])
    monkeypatch.setattr(precision, "_measured_speedup", lambda _: next(found))
    assert [bf16_speedup(1) for _ in range(4)] == [1.1, 2.5, 2.5, 2.5]  # none seen, seen, kept
    assert bf16_speedup(2) == 0.9  # another number of threads is another question
    (precision.cache_dir() / "bf16-speedup.json").write_text("[1")
    monkeypatch.setattr(precision, "_measured_speedup", lambda _: 3.0)
    assert bf16_speedup(1) == 3.0


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"precision='bf61' is unknown\. Did you mean 'bf16'"):
        by_speed("bf61")


def test_a_sound_encoder_agrees_and_stays_as_it_is() -> None:
    encoder = Encoder()
    before = encoder.linear.weight.detach().clone()
    error = bf16_difference(encoder, real_tokens(_batch()))
    assert 1e-4 < error < BF16_TOLERANCE
    assert encoder.training
    assert torch.equal(encoder.linear.weight, before)


def test_an_encoder_that_bfloat16_breaks_is_noticed() -> None:
    assert bf16_difference(Encoder(offset=500.0), real_tokens(_batch())) > BF16_TOLERANCE


def test_numbers_that_are_none_count_as_infinite() -> None:
    encoder = Encoder()
    nn.init.constant_(encoder.linear.bias, float("nan"))
    assert bf16_difference(encoder, real_tokens(_batch())) == float("inf")


def test_padding_does_not_count() -> None:
    padding = {**_batch(), "mask": torch.zeros(3, 5, dtype=torch.bool)}
    assert bf16_difference(Encoder(offset=500.0), real_tokens(padding)) == 0.0
