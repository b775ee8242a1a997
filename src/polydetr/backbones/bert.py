"""BERT-like text encoders (BERT, MiniLM, XLM-R, multilingual E5) written for speed on an ordinary CPU.

Source: Devlin et al. 2019, arXiv 1810.04805: post-norm layers, h = LN(h + Attention(h)), h = LN(h + FFN(h)); XLM-R
(Conneau et al. 2020, arXiv 1911.02116) is the same with positions that begin at ``position_offset``.

Shape legend: B texts, L tokens, D ``hidden_dim``, H ``num_heads``. Every mask is **True = real**.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polydetr.errors import BackboneError, did_you_mean
from polydetr.nn.cpu.attention import padding_bias, self_attention
from polydetr.nn.cpu.linear import Linear, is_capturing


def _gelu(x: Tensor, approximate: str = "none") -> Tensor:
    if x.requires_grad or is_capturing():
        return F.gelu(x, approximate=approximate)
    return torch.ops.aten.gelu_(x, approximate=approximate)  # in place: the input is the layer's own


def _gelu_tanh(x: Tensor) -> Tensor:
    return _gelu(x, "tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": _gelu,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "relu": F.relu,
}
"""By the name that a Hugging Face ``config.json`` gives under ``hidden_act``; where no gradient is needed they
may write over their input."""


@dataclass(frozen=True)
class BertSizes:
    """The architecture. position_offset: the number of the first token's position; dropout: of the embeddings, and of
    what attention and feed-forward add. Attention weights stay whole: the fast kernels drop none.

    Raises BackboneError for an impossible shape or an unknown activation.
    """

    vocab_size: int
    hidden_dim: int
    num_layers: int
    num_heads: int
    ffn_dim: int
    max_positions: int
    num_segments: int = 2
    norm_eps: float = 1e-12
    position_offset: int = 0
    activation: str = "gelu"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.hidden_dim % self.num_heads:
            raise BackboneError(
                f"hidden_dim {self.hidden_dim} cannot be divided into num_heads {self.num_heads} equal parts."
            )
        if self.activation not in ACTIVATIONS:
            hint = did_you_mean(self.activation, ACTIVATIONS)
            raise BackboneError(f"unknown activation {self.activation!r}.", hint=hint)


class BertEmbeddings(nn.Module):
    """Word + position + segment, normalized. (B, L) int64 -> (B, L, D)."""

    def __init__(self, sizes: BertSizes) -> None:
        super().__init__()
        self.position_offset = sizes.position_offset
        self.max_length = sizes.max_positions - sizes.position_offset
        self.words = nn.Embedding(sizes.vocab_size, sizes.hidden_dim)
        self.positions = nn.Embedding(sizes.max_positions, sizes.hidden_dim)
        self.segments = nn.Embedding(sizes.num_segments, sizes.hidden_dim)
        self.norm = nn.LayerNorm(sizes.hidden_dim, eps=sizes.norm_eps)
        self.dropout = sizes.dropout

    def forward(
        self, input_ids: Tensor, segment_ids: Tensor | None, positions: Tensor | None, extra: Tensor | None = None
    ) -> Tensor:
        length = input_ids.shape[1]
        if length > self.max_length:
            raise BackboneError(
                f"a window of {length} tokens does not fit this encoder, which has {self.max_length} positions.",
                hint="Cut the text into windows of at most that many tokens.",
            )
        if positions is None:
            start = self.position_offset
            place = self.positions.weight[start : start + length].unsqueeze(0)
        else:
            place = self.positions(positions + self.position_offset)
        if segment_ids is None:
            segment = self.segments.weight[0]
        else:  # RoBERTa knows one segment
            segment = self.segments(segment_ids.clamp(max=self.segments.num_embeddings - 1))
        total = self.words(input_ids) + (place + segment)
        hidden = self.norm(total if extra is None else total + extra)
        return F.dropout(hidden, self.dropout, self.training) if self.dropout else hidden


class BertLayer(nn.Module):
    """One post-norm layer. hidden (B, L, D), bias (B, 1, 1, L) or None for "all are real" -> (B, L, D)."""

    int8 = False
    """Whether it predicts in 8-bit integers: see ``BertEncoder.use_int8``."""

    def __init__(self, sizes: BertSizes) -> None:
        super().__init__()
        width = sizes.hidden_dim
        self.num_heads = sizes.num_heads
        self.dropout = sizes.dropout
        self.activation = ACTIVATIONS[sizes.activation]
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=sizes.norm_eps)
        self.up = Linear(width, sizes.ffn_dim)
        self.down = Linear(sizes.ffn_dim, width)
        self.down.overwrite = True
        self.ffn_norm = nn.LayerNorm(width, eps=sizes.norm_eps)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x

    def forward(self, hidden: Tensor, bias: Tensor | None) -> Tensor:
        mixed = self_attention(self.qkv(hidden), bias, num_heads=self.num_heads, batched=self.int8)
        hidden = self.attention_norm(hidden + self._drop(self.out(mixed)))
        return self.ffn_norm(hidden + self._drop(self.down(self.activation(self.up(hidden)))))


class BertEncoder(nn.Module):
    """The encoder: ``embeddings``, then ``layers`` (an ``nn.ModuleList``).

    Raises BackboneError for a text longer than the encoder has positions.
    """

    def __init__(self, sizes: BertSizes) -> None:
        super().__init__()
        self.embeddings = BertEmbeddings(sizes)
        self.layers = nn.ModuleList(BertLayer(sizes) for _ in range(sizes.num_layers))
        self.apply(_initialize)

    @property
    def max_length(self) -> int:
        """The longest text, in tokens, that has a position for every token."""
        return self.embeddings.max_length

    def use_int8(self, on: bool = True) -> None:
        """From the next ``pack`` on: products in 8-bit integers where the weights are float32; see ``Linear.pack``."""
        for module in self.modules():
            if isinstance(module, Linear | BertLayer):
                module.int8 = on

    def forward(
        self,
        input_ids: Tensor,
        mask: Tensor,
        segment_ids: Tensor | None = None,
        positions: Tensor | None = None,
        *,
        extra: Tensor | None = None,
    ) -> Tensor:
        """input_ids (B, L) int64, mask (B, L) bool, True = real -> (B, L, D); outputs at padding are meaningless.

        extra: (B, L, D), added to the word embeddings (what the tokenizer loses, such as letter case).
        """
        hidden = self.embeddings(input_ids, segment_ids, positions, extra)
        # Without padding no mask is passed: the kernel is faster then, and most batches hold texts of one length.
        bias = padding_bias(mask, hidden.dtype)
        for layer in self.layers:
            hidden = layer(hidden, bias)
        return hidden


def _initialize(module: nn.Module) -> None:
    """BERT's own initialization (normal, std 0.02), so that an encoder from random weights can learn."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


_EMBEDDINGS = {
    "embeddings.word_embeddings.weight": "embeddings.words.weight",
    "embeddings.position_embeddings.weight": "embeddings.positions.weight",
    "embeddings.token_type_embeddings.weight": "embeddings.segments.weight",
    "embeddings.LayerNorm.weight": "embeddings.norm.weight",
    "embeddings.LayerNorm.bias": "embeddings.norm.bias",
}
_LAYER = {
    "attention.output.dense": "out",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "up",
    "output.dense": "down",
    "output.LayerNorm": "ffn_norm",
}
_QKV = tuple(f"attention.self.{part}" for part in ("query", "key", "value"))
_PREFIX = re.compile(
    r"^(bert|roberta|xlm_roberta|model|encoder_model|0\.auto_model)\.(?=embeddings\.|encoder\.|pooler\.)"
)
# Heads and buffers that checkpoints carry and an encoder has no use for.
_UNUSED = re.compile(r"^(pooler|cls|lm_head|classifier|qa_outputs|score)\.|^embeddings\.(position_ids|token_type_ids)$")


def _names(num_layers: int) -> dict[str, tuple[str, ...]]:
    """Our name -> the Hugging Face names it is made of (three for the fused projection, one for all else)."""
    names: dict[str, tuple[str, ...]] = {ours: (theirs,) for theirs, ours in _EMBEDDINGS.items()}
    for index in range(num_layers):
        for kind in ("weight", "bias"):
            names[f"layers.{index}.qkv.{kind}"] = tuple(f"encoder.layer.{index}.{part}.{kind}" for part in _QKV)
            for theirs, ours in _LAYER.items():
                names[f"layers.{index}.{ours}.{kind}"] = (f"encoder.layer.{index}.{theirs}.{kind}",)
    return names


def from_hf_state_dict(state: Mapping[str, Tensor], *, num_layers: int) -> dict[str, Tensor]:
    """A Hugging Face BERT/RoBERTa/XLM-R checkpoint, with or without a prefix, under this module's names.

    Task heads and the pooler are left out. Raises BackboneError when a weight is missing or not known.
    """
    plain: dict[str, Tensor] = {}
    for name, tensor in state.items():
        short = _PREFIX.sub("", name).replace("LayerNorm.gamma", "LayerNorm.weight")
        plain[short.replace("LayerNorm.beta", "LayerNorm.bias")] = tensor
    groups = _names(num_layers)
    wanted = {theirs for group in groups.values() for theirs in group}
    missing = sorted(wanted - plain.keys())
    unknown = sorted(name for name in plain.keys() - wanted if not _UNUSED.search(name))
    if missing or unknown:
        faults = [
            f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for what, names in (("missing", missing), ("unknown", unknown))
            if names
        ]
        raise BackboneError(
            f"the checkpoint is not a BERT-like encoder of {num_layers} layers: {'; '.join(faults)}.",
            hint="Check that the weights and their config.json belong together.",
        )
    return {
        ours: torch.cat([plain[theirs] for theirs in group]) if len(group) > 1 else plain["".join(group)]
        for ours, group in groups.items()
    }
