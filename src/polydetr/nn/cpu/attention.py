"""Attention where stock PyTorch is slow on a CPU, done with the same library's faster parts.

The backward pass of the fused kernel takes 5 to 8 times as long in bfloat16 as batched matrix products (2 cores with
avx512_bf16; figures in ``benchmarks/bench_backbone.py``). Everything else (other devices, autocast, tracing) goes
through PyTorch's own functions.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from polydetr.nn.cpu.linear import computes_fast_bf16, is_capturing, is_eager_on_cpu

CHUNK_SCORES = 2**17
"""Attention takes so many rows at a time that rows · L² stays below this: the scores of one chunk stay in the cache,
and short texts are not cut into more chunks than that needs (each costs some dozen thread barriers)."""
SHORT = 64
"""Tokens of the longest text for which that holds in float32."""


def _attend_in_chunks(qkv: Tensor, bias: Tensor | None, keep: list[Tensor] | None = None) -> Tensor:
    """softmax(q kᵀ / √d + bias) v by batched products, a few rows at a time. qkv (B, L, 3, H, d) -> (B, L, H, d).

    keep: takes what the backward pass needs of each chunk.
    """
    batch, length, _, num_heads, width = qkv.shape
    rows = max(1, CHUNK_SCORES // length**2)
    mixed = qkv.new_empty(batch, length, num_heads, width)
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
        if keep is not None:
            keep += [heads, weights]
    return mixed


class _ChunkedAttention(torch.autograd.Function):
    """``_attend_in_chunks`` with its gradient."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, bias: Tensor | None) -> Tensor:
        saved: list[Tensor] = []
        mixed = _attend_in_chunks(qkv, bias, saved)
        ctx.save_for_backward(*saved)
        ctx.rows = max(1, CHUNK_SCORES // qkv.shape[1] ** 2)
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
    """Attention of every token over the real tokens of its row. batched: short texts by batched products in float32 as
    well, which take less time there than the fused kernel, as that works in blocks of tokens.

    qkv (B, L, 3·D), bias (B, 1, 1, L) in qkv's dtype (0 for real keys, very negative for padding) or None -> (B, L, D).
    """
    batch, length, width = qkv.shape
    heads = qkv.view(batch, length, 3, num_heads, width // (3 * num_heads))
    short = qkv.dtype == torch.float32 and length <= SHORT and not torch.is_grad_enabled() and is_eager_on_cpu(qkv)
    if computes_fast_bf16(qkv) or (batched and short):
        # Asking autograd takes a short text half as long again as the products.
        wants_gradient = torch.is_grad_enabled() and qkv.requires_grad
        mixed: Tensor = (_ChunkedAttention.apply if wants_gradient else _attend_in_chunks)(heads, bias)  # type: ignore[assignment]
    else:
        query, key, value = heads.transpose(1, 3).unbind(2)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias).transpose(1, 2)
    return mixed.reshape(batch, length, width // 3)


def padding_bias(mask: Tensor, dtype: torch.dtype) -> Tensor | None:
    """mask (B, L) bool, True = real -> (B, 1, 1, L) to add to attention scores, or None when all is real."""
    if not is_capturing() and bool(mask.all()):  # in a traced graph the content of the mask must not choose the path
        return None
    # Half the lowest number, not -inf: a row without a real token then gives numbers, not NaN.
    lowest = torch.finfo(dtype).min / 2
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, lowest)[:, None, None, :]
