"""Multi-head attention: every query takes a softmax over the keys, never the other way round.

Source: Vaswani et al. 2017, "Attention Is All You Need" (arXiv 1706.03762), equation 1 and section 3.2.2.

    z = softmax(Q Kᵀ / √d_k) V        one head; Q = W_q h, K = W_k h, V = W_v h
    y = W_O [z_1; …; z_H]             the heads side by side, mixed by one linear map

Shapes: B examples, Lq queries, Lk keys, D ``embed_dim``, H heads, K = D / H dimensions of one head.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polydetr.errors import ConfigError
from polydetr.nn.cpu.linear import Linear, is_capturing

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def useful_mask(mask: Bool[Tensor, "B L"] | None) -> Bool[Tensor, "B L"] | None:
    """None where every token is real, so that the kernels without a mask can be used.

    Only checked on the CPU: on an accelerator this would wait for the device, and while a graph is being captured the
    result for one batch must not be frozen into the graph.
    """
    if mask is None or mask.device.type != "cpu" or is_capturing():
        return mask
    return None if bool(mask.all()) else mask


def attend(
    query: Float[Tensor, "B H Lq K"],
    key: Float[Tensor, "B H Lk K"],
    value: Float[Tensor, "B H Lk K"],
    mask: Bool[Tensor, "B Lk"] | None = None,
    *,
    dropout: float = 0.0,
    need_weights: bool = False,
) -> tuple[Float[Tensor, "B H Lq K"], Float[Tensor, "B H Lq Lk"] | None]:
    """z = softmax(Q Kᵀ / √K) V over the real keys; exactly zero, with zero gradients, where an example has none.

    ``dropout`` is the probability that a weight is dropped; pass 0 outside training. The weights are returned before
    dropout and only with ``need_weights``: computing them rules out the fused kernel.
    """
    allowed, empty = None, None
    if mask is not None:
        empty = ~mask.any(dim=1)[:, None, None, None]
        # A softmax over nothing is 0/0, and its NaN would survive in the gradient. Such a row attends to everything
        # instead, and its output is replaced by zero, which also cuts its gradient.
        allowed = mask[:, None, None, :] | empty
    weights = None
    if need_weights:
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
        if allowed is not None:
            scores = scores.masked_fill(~allowed, -math.inf)
        weights = scores.softmax(dim=-1)
        output = F.dropout(weights, dropout) @ value
        weights = weights if empty is None else weights.masked_fill(empty, 0.0)
    else:
        output = fused_attention(query, key, value, allowed, dropout=dropout)
    return (output if empty is None else output.masked_fill(empty, 0.0)), weights


def fused_attention(
    query: Float[Tensor, "B H Lq K"],
    key: Float[Tensor, "B H Lk K"],
    value: Float[Tensor, "B H Lk K"],
    allowed: Tensor | None = None,
    *,
    dropout: float = 0.0,
) -> Float[Tensor, "B H Lq K"]:
    """softmax(Q Kᵀ / √K) V by PyTorch's kernel; ``allowed``, broadcast to (B, H, Lq, Lk), is True where a query may
    attend to a key.

    With gradients on a CPU bfloat16 is computed in float32: the kernel's backward pass takes half the time there.
    """
    dtype = query.dtype
    if dtype == torch.bfloat16 and query.device.type == "cpu" and torch.is_grad_enabled():
        query, key, value = query.float(), key.float(), value.float()
    return F.scaled_dot_product_attention(query, key, value, attn_mask=allowed, dropout_p=dropout).to(dtype)


class MultiHeadAttention(nn.Module):
    """H attentions side by side over the same tokens, mixed by one linear map W_O.

    Called as a module it is the whole step. Its parts (``project_query``, ``project_key_value``, ``project_output``)
    are public so that the encoder can apply one modality's queries to another's keys.

    Raises ConfigError when ``embed_dim`` is no positive multiple of ``num_heads`` or ``dropout`` is not in [0, 1).
    """

    def __init__(self, embed_dim: int, num_heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        if num_heads < 1 or embed_dim < 1 or embed_dim % num_heads:
            raise ConfigError(
                f"embed_dim={embed_dim} cannot be split into num_heads={num_heads} equal heads.",
                hint="Choose an embed_dim that is a positive multiple of num_heads.",
            )
        if not 0.0 <= dropout < 1.0:
            raise ConfigError(f"dropout={dropout} is not a probability below 1.", hint="Use a value such as 0.1.")
        self.embed_dim, self.num_heads, self.dropout = embed_dim, num_heads, dropout
        self.query = Linear(embed_dim, embed_dim)
        self.key = Linear(embed_dim, embed_dim)
        self.value = Linear(embed_dim, embed_dim)
        self.output = Linear(embed_dim, embed_dim)
        for linear in (self.query, self.key, self.value, self.output):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    @property
    def active_dropout(self) -> float:
        """The probability that holds now: zero outside training."""
        return self.dropout if self.training else 0.0

    def project_query(self, tokens: Float[Tensor, "B L {self.embed_dim}"]) -> Float[Tensor, "B H L K"]:
        """W_q h, split into heads."""
        return self._split(self.query(tokens))

    def project_key_value(
        self, keys: Float[Tensor, "B L {self.embed_dim}"], values: Float[Tensor, "B L {self.embed_dim}"]
    ) -> tuple[Float[Tensor, "B H L K"], Float[Tensor, "B H L K"]]:
        """W_k h and W_v h, split into heads."""
        return self._split(self.key(keys)), self._split(self.value(values))

    def project_output(
        self, output: Float[Tensor, "B H Lq K"], mask: Bool[Tensor, "B Lk"] | None = None
    ) -> Float[Tensor, "B Lq {self.embed_dim}"]:
        """W_O z with the heads joined. Zero where ``mask`` leaves no key: not even the bias is added."""
        projected = self.output(output.transpose(1, 2).flatten(2))
        return projected if mask is None else projected.masked_fill(~mask.any(dim=1)[:, None, None], 0.0)

    def forward(
        self,
        query: Float[Tensor, "B Lq {self.embed_dim}"],
        key: Float[Tensor, "B Lk {self.embed_dim}"],
        value: Float[Tensor, "B Lk {self.embed_dim}"],
        mask: Bool[Tensor, "B Lk"] | None = None,
        *,
        need_weights: bool = False,
    ) -> tuple[Float[Tensor, "B Lq {self.embed_dim}"], Float[Tensor, "B {self.num_heads} Lq Lk"] | None]:
        """Attention of the Lq queries over the keys that ``mask`` calls real (True).

        Returns the outputs (B, Lq, D) and, with ``need_weights``, the weights (B, H, Lq, Lk), summing to 1 over keys.
        """
        mask = useful_mask(mask)
        keys, values = self.project_key_value(key, value)
        output, weights = attend(
            self.project_query(query), keys, values, mask, dropout=self.active_dropout, need_weights=need_weights
        )
        return self.project_output(output, mask), weights

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
