"""Linear layers in 8-bit integers, for prediction on CPUs that multiply those fastest.

Weights have one scale per output; inputs have a scale and a zero point per token, computed anew for every text:
nothing has to be collected beforehand, no value is clipped, and the other texts of a batch do not change an output
(vector-wise quantization, Dettmers et al. 2022, arXiv 2208.07339, section 3.1). The zero point matters: single channels
of an encoder are large and of one sign, and GELU's outputs are hardly ever negative, so that it takes a third off the
error. Sums are exact, in 32 bits.

Shape legend: N tokens, I inputs, O outputs.
"""

from __future__ import annotations

import functools
import platform
import time
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from polydetr.nn.cpu.threads import single_threaded_pool
from polydetr.nn.cpu.timing import speedup

_WEIGHT_STEPS = 127
"""From 0 to the largest magnitude of an output's weights."""
_INPUT_STEPS = 254
"""From the smallest to the largest value of a token: one less than a byte has, as the zero point is rounded too."""
_WHOLE = torch.tensor([[1.5 * 2**23]], device="cpu")  # whatever device the importer happens to build on
"""A float32 of this size has no room for fractions: adding it rounds, and leaves the whole number in the low byte."""
_SMALLEST = 1e-28
"""Divisors are no smaller."""

WORTH = 1.1
"""``int8_speedup`` below this is not worth the rounding."""


class Int8Weight(NamedTuple):
    """weight ≈ levels · scale · ``_INPUT_STEPS``. packed: levels (O, I) as oneDNN lays them out; scale, zeros, and
    scale times the sum of each row's levels, (O).
    """

    packed: Tensor
    scale: Tensor
    zeros: Tensor
    sums: Tensor


def computes_int8() -> bool:
    """Whether this CPU sums products of bytes without overflow (VNNI), and this PyTorch has the kernel."""
    known = getattr(torch.cpu, "_is_vnni_supported", None)
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return x86 and torch.backends.mkldnn.is_available() and known is not None and bool(known())


def pack_int8(weight: Tensor) -> Int8Weight:
    """weight (O, I), float32, rounded to 255 levels per output."""
    scale = weight.abs().amax(1).clamp_(min=_SMALLEST) / _WEIGHT_STEPS
    levels = (weight / scale[:, None]).round_()
    packed = torch.ops.onednn.qlinear_prepack(levels.to(torch.int8), None)
    scale /= _INPUT_STEPS  # which spares ``linear_int8`` an operation
    return Int8Weight(packed, scale, torch.zeros(len(weight), dtype=torch.int32), levels.sum(1) * scale)


def linear_int8(x: Tensor, weight: Int8Weight, bias: Tensor, *, overwrite: bool = False) -> Tensor:
    """x Wᵀ + b, with x ≈ (levels - zero) · span / ``_INPUT_STEPS``. x (N, I) float32, bias (O) -> (N, O) float32.

    In place wherever a tensor is its own, and x too where it may ``overwrite`` that: memory that was just written is
    in the cache, and new memory costs several times the arithmetic.
    """
    low = x.amin(-1, keepdim=True).clamp_(max=0)
    span = x.amax(-1, keepdim=True).clamp_(min=_SMALLEST).sub_(low)
    per_span = span.reciprocal().mul_(_INPUT_STEPS)
    zero = torch.addcmul(_WHOLE, low, per_span, value=-1)  # rounded, as what is added to it will be
    scaled = x.mul_(per_span) if overwrite else x * per_span
    levels = scaled.add_(zero).view(torch.int32).to(torch.uint8)  # keeps the low byte
    products = torch.ops.onednn.qlinear_pointwise(
        levels, 1.0, 0, weight.packed, weight.scale, weight.zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )
    zero.sub_(_WHOLE).mul_(span)
    return torch.addcmul(bias, products, span, out=products).addcmul_(zero, weight.sums, value=-1)


@functools.lru_cache(maxsize=4)
def int8_speedup(other: torch.dtype) -> float:
    """Time of an encoder's two widest layers in ``other`` over that in int8, all roundings included; measured once
    per process, on one thread, by its own CPU time. 0 where there is no int8.
    """
    if not computes_int8():
        return 0.0
    with single_threaded_pool(1) as pool:
        return pool.submit(_measured_speedup, other).result()


@torch.inference_mode()
def _measured_speedup(other: torch.dtype) -> float:
    x, up, down = torch.ones(512, 384), torch.ones(1536, 384), torch.ones(384, 1536)
    packed_up, packed_down, bias_up, bias_down = pack_int8(up), pack_int8(down), torch.ones(1536), torch.ones(384)
    plain, *weights = (t.to(other) for t in (x, up, bias_up, down, bias_down))
    return speedup(
        lambda: linear_int8(linear_int8(x, packed_up, bias_up), packed_down, bias_down, overwrite=True),
        lambda: F.linear(F.linear(plain, *weights[:2]), *weights[2:]),
        time.thread_time,
    )
