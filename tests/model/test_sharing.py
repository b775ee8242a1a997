"""Models on one frozen backbone hold its weights once."""

from __future__ import annotations

import gc

import torch
from torch import nn

from polydetr.model.sharing import LEAST_BYTES, share
from polydetr.nn.cpu.linear import Linear, pack


def model(seed: int) -> nn.Module:
    """A backbone that is the same in all, and a head that is not."""
    torch.manual_seed(0)
    backbone = [Linear(300, 300), nn.LayerNorm(300), Linear(300, 300)]
    torch.manual_seed(seed)
    made = nn.Sequential(*backbone, Linear(300, 300)).eval()
    pack(made)
    return made


def test_equal_weights_are_in_memory_once_and_answers_stay() -> None:
    x = torch.randn(3, 300)
    models = [model(seed) for seed in (1, 2)]
    with torch.inference_mode():
        expected = [one(x) for one in models]
    known: dict = {}
    first, second = model(1), model(2)
    share(first, known)
    share(second, known)
    same = [
        p.data_ptr() == q.data_ptr() for p, q in zip(first.parameters(), second.parameters(), strict=True)
        if p.numel() * 4 >= LEAST_BYTES
    ]  # fmt: skip
    assert same == [True, True, False]
    for a, b in zip(first, second, strict=True):
        if isinstance(a, Linear) and a._packed is not None:
            assert (a._packed is b._packed) == (a is not first[3])
    with torch.inference_mode():
        assert all(torch.equal(m(x), e) for m, e in zip((first, second), expected, strict=True))


def test_a_model_that_goes_takes_nothing_along() -> None:
    known: dict = {}
    first, second = model(1), model(2)
    share(first, known)
    share(second, known)
    place = first[0].weight.data_ptr()
    del first
    gc.collect()
    third = model(3)
    share(third, known)
    assert third[0].weight.data_ptr() == second[0].weight.data_ptr() == place
    del second, third
    gc.collect()
    share(nn.Sequential(), known)
    assert known == {}
