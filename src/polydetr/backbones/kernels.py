"""What stock PyTorch does slowly on a CPU in bfloat16, done with the same library's faster parts.

Measured on 2 cores with avx512_bf16 (figures in ``benchmarks/bench_backbone.py``):

- the backward pass of the fused attention kernel takes 5 to 8 times as long in bfloat16 as batched matrix products;
- ``F.linear`` first copies the bias over the whole output; oneDNN's inner product adds it on the way out;
- a weight laid out once for prediction (``Linear.pack``) saves laying it out at every call, and in 8-bit integers it
  is multiplied about twice as fast.

Everything else (float32, other devices, autocast, tracing) goes through PyTorch's own functions.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from polydetr.backbones.int8 import Int8Weight, computes_int8, linear_int8, pack_int8

CHUNK_SCORES = 2**17
"""Attention takes so many rows at a time that rows · L² stays below this: the scores of one chunk stay in the cache,
and short texts are not cut into more chunks than that needs (each costs some dozen thread barriers)."""
SHORT = 64
"""Tokens of the longest text for which that holds in float32."""

_ONEDNN = torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed buffers instead of handing each back to the system and faulting it in again.

    Activations are tens of megabytes and live for one step: by default a step of 4,096 tokens takes 30,000 to
    200,000 page faults, 15 to 45 % of its time. Peak memory does not grow. False where there is no ``mallopt``.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    mmap_threshold, trim_threshold = -3, -1  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD in malloc.h
    return bool(mallopt(mmap_threshold, 1 << 30)) and bool(mallopt(trim_threshold, (1 << 31) - 1))


def is_traced() -> bool:
    """Whether PyTorch records what is done, to compile or export it."""
    return torch._C._get_tracing_state() is not None or torch.compiler.is_compiling()


def _takes_fast_path(x: Tensor) -> bool:
    return (
        _ONEDNN
        and x.dtype == torch.bfloat16
        and x.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and not is_traced()
    )


def _is_short(x: Tensor) -> bool:
    """Texts in float32 that batched products answer sooner than the fused kernel, which works in blocks of tokens."""
    plain = x.dtype == torch.float32 and x.device.type == "cpu" and not torch.is_grad_enabled()
    return plain and x.shape[1] <= SHORT and not torch.is_autocast_enabled("cpu") and not is_traced()


def _inner_product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _Linear(torch.autograd.Function):
    """y = x Wᵀ + b; x (N, I), weight (O, I), bias (O) -> (N, O)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _inner_product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad,) = grads
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        return (
            grad @ weight if wants_x else None,
            grad.t() @ x if wants_weight else None,
            grad.sum(0) if wants_bias else None,
        )


class Linear(nn.Linear):
    """``nn.Linear`` (with bias) in every respect but speed. (..., I) -> (..., O)."""

    int8 = False
    """Whether ``pack`` rounds a float32 weight to 8 bits (``backbones.int8``)."""
    overwrite = False
    """Whether the input is wanted by nobody else, and may be written over in prediction."""
    _packed: tuple[Tensor | Int8Weight, int] | None = None

    def pack(self) -> None:
        """Lay a second copy of the weight out as the inner product wants it, for use where no gradient is asked for.

        It is forgotten by ``train()``, by a new state or dtype, and when the weight is changed in place. Only writing
        through ``weight.data`` goes unnoticed.
        """
        if self.weight.device.type != "cpu":
            return
        with torch.no_grad():
            if _ONEDNN and self.weight.dtype == torch.bfloat16:
                packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach())
                self._packed = (packed, self.weight._version)
            elif self.int8 and self.weight.dtype == torch.float32 and computes_int8():
                self._packed = (pack_int8(self.weight.detach()), self.weight._version)

    def forward(self, input: Tensor) -> Tensor:
        fresh = self._packed is not None and self._packed[1] == self.weight._version
        packed = self._packed[0] if self._packed and fresh and not torch.is_grad_enabled() and not is_traced() else None
        if isinstance(packed, Int8Weight) and input.dtype == torch.float32:
            rows = input.reshape(-1, self.in_features)
            rows = linear_int8(rows, packed, self.bias, overwrite=self.overwrite)
            return rows.view(*input.shape[:-1], self.out_features)
        if not _takes_fast_path(input) or self.weight.dtype != torch.bfloat16:
            return F.linear(input, self.weight, self.bias)
        if isinstance(packed, Tensor):
            return _inner_product(input, packed, self.bias)
        flat = input.reshape(-1, self.in_features)
        out: Tensor = _Linear.apply(flat, self.weight, self.bias)  # type: ignore[assignment]
        return out.view(*input.shape[:-1], self.out_features)

    def train(self, mode: bool = True) -> Linear:
        if mode:
            self._packed = None
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> Linear:
        self._packed = None
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_packed"}  # it cannot be copied


class _ChunkedAttention(torch.autograd.Function):
    """softmax(q kᵀ / √d + bias) v by batched products, a few rows at a time. qkv (B, L, 3, H, d) -> (B, L, H, d)."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, bias: Tensor | None) -> Tensor:
        batch, length, _, num_heads, width = qkv.shape
        rows = max(1, CHUNK_SCORES // length**2)
        mixed = qkv.new_empty(batch, length, num_heads, width)
        saved: list[Tensor] = []
        for start in range(0, batch, rows):
            # One copy brings queries, keys and values of each head together; the products need that anyway.
            part = qkv[start : start + rows].permute(2, 0, 3, 1, 4)
            heads = part.clone(memory_format=torch.contiguous_format).view(3, -1, length, width)
            query, key, value = heads.unbind(0)
            scores = torch.bmm(query.mul_(width**-0.5), key.transpose(1, 2))
            if bias is not None:
                scores.view(-1, num_heads, length, length).add_(bias[start : start + rows])
            weights = torch.softmax(scores, dim=-1)
            out = torch.bmm(weights, value).view(-1, num_heads, length, width)
            mixed[start : start + rows] = out.transpose(1, 2)
            if ctx.needs_input_grad[0]:
                saved += [heads, weights]
        ctx.save_for_backward(*saved)
        ctx.rows = rows
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad,) = grads
        batch, length, num_heads, width = grad.shape
        result = grad.new_empty(batch, length, 3, num_heads, width)
        saved = ctx.saved_tensors
        for chunk, start in enumerate(range(0, batch, ctx.rows)):
            heads, weights = saved[2 * chunk : 2 * chunk + 2]
            query, key, value = heads.unbind(0)  # the query is already divided by √d
            d_out = grad[start : start + ctx.rows].transpose(1, 2).reshape(-1, length, width)
            d_heads = torch.empty_like(heads)
            torch.bmm(weights.transpose(1, 2), d_out, out=d_heads[2])
            d_weights = torch.bmm(d_out, value.transpose(1, 2))
            d_scores = torch.ops.aten._softmax_backward_data(d_weights, weights, -1, weights.dtype)
            torch.bmm(d_scores, key, out=d_heads[0])
            d_heads[0].mul_(width**-0.5)
            torch.bmm(d_scores.transpose(1, 2), query, out=d_heads[1])
            result[start : start + ctx.rows] = d_heads.view(3, -1, num_heads, length, width).permute(1, 3, 0, 2, 4)
        return result, None


def self_attention(qkv: Tensor, bias: Tensor | None, *, num_heads: int, batched: bool = False) -> Tensor:
    """Every token asks every real token of its row. batched: short texts by batched products in float32 as well.

    qkv (B, L, 3·D), bias (B, 1, 1, L) in qkv's dtype (0 for real keys, very negative for padding) or None -> (B, L, D).
    """
    batch, length, width = qkv.shape
    heads = qkv.view(batch, length, 3, num_heads, width // (3 * num_heads))
    if _takes_fast_path(qkv) or (batched and _is_short(qkv)):
        mixed: Tensor = _ChunkedAttention.apply(heads, bias)  # type: ignore[assignment]
    else:
        query, key, value = heads.transpose(1, 3).unbind(2)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias).transpose(1, 2)
    return mixed.reshape(batch, length, width // 3)


def padding_bias(mask: Tensor, dtype: torch.dtype) -> Tensor | None:
    """mask (B, L) bool, True = real -> (B, 1, 1, L) to add to attention scores, or None when all is real."""
    if not is_traced() and bool(mask.all()):  # in a traced graph the content of the mask must not choose the path
        return None
    # Half the lowest number, not -inf: a row without a real token then gives numbers, not NaN.
    lowest = torch.finfo(dtype).min / 2
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, lowest)[:, None, None, :]
