"""The shared encoder: tokens of every modality look at one another, layer by layer.

One layer, for a token of modality a (pre-norm, Xiong et al. 2020, arXiv 2002.04745; h̄ = LayerNorm(h)):

    fusion "sum"     h ← h + Σ_i Linear_i( MHA(q_a(h̄), k_i(h̄_i), v_i(h̄_i)) )     one softmax inside each modality i
    fusion "joint"   h ← h + Linear_a( MHA(q_a(h̄), [k_1; …; k_n], [v_1; …; v_n]) )  one softmax over all tokens
    both             h ← h + W_2 GELU(W_1 LayerNorm(h))

Under "sum" every modality contributes with the same total weight; under "joint" all compete in one softmax.
Shapes: B examples, L_m tokens of modality m, D ``embed_dim``, H heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast, get_args

import torch
from torch import Tensor, nn

from polydetr.errors import ConfigError, InputError, check_choice, did_you_mean
from polydetr.nn.attention import MultiHeadAttention, attend, useful_mask
from polydetr.nn.cpu.linear import Linear

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

Fusion = Literal["sum", "joint"]
Share = Literal["none", "modalities", "layers", "both"]


@dataclass(frozen=True)
class AttentionWeights:
    """The attention weights of every layer: ``layers[n][a, b]`` is (B, H, L_a, L_b), queries of modality a over keys of
    modality b, before dropout.

    Under fusion "sum" each such tensor sums to 1 over its last axis; under "joint" the tensors of one a do so
    together, over all b. A query without a real key has zeros.
    """

    layers: tuple[Mapping[tuple[str, str], Tensor], ...]


class EncoderBlock(nn.Module):
    """The parameters of one modality in one layer: two norms, the attention's projections, the feed-forward part."""

    def __init__(self, embed_dim: int, num_heads: int, *, ffn_dim: int, dropout: float, zero_init: bool) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(embed_dim)
        self.attention = MultiHeadAttention(embed_dim, num_heads, dropout=dropout)
        self.feed_forward_norm = nn.LayerNorm(embed_dim)
        self.expand = Linear(embed_dim, ffn_dim)
        self.contract = Linear(ffn_dim, embed_dim)
        self.dropout = nn.Dropout(dropout)
        for linear in (self.expand, self.contract):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        if zero_init:  # biases are zero already
            nn.init.zeros_(self.attention.output.weight)
            nn.init.zeros_(self.contract.weight)

    def feed_forward(self, tokens: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        """h + W_2 GELU(W_1 LayerNorm(h))."""
        hidden = nn.functional.gelu(self.expand(self.feed_forward_norm(tokens)))
        return tokens + self.dropout(self.contract(self.dropout(hidden)))


@dataclass(frozen=True)
class _KeyGroup:
    """Modalities whose keys share one softmax, and the mask of those keys, the same in all layers."""

    names: tuple[str, ...]
    mask: Tensor | None


class MultiModalEncoder(nn.Module):
    """``num_layers`` layers in which the tokens of all modalities attend to one another.

    modalities: their names; the order decides which parameters belong to which, never the result.
    ffn_dim: width of the feed-forward part, 4 · ``embed_dim`` when not given.
    fusion: one softmax per modality with the outputs summed ("sum"), or one softmax over all tokens ("joint").
    share: which parameters are shared: "none"; "modalities" (within a layer, all modalities use one block);
        "layers" (all layers use the same blocks, as ALBERT does, arXiv 1909.11942); "both" (a single block).
    zero_init: starts every residual branch at zero and leaves out the final norm, so that the untrained encoder is the
        identity, bit by bit: what a pretrained backbone knows is not disturbed at the start.

    ``num_layers=0`` has no parameters and returns its input. Raises ConfigError for unknown or impossible values.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        *,
        embed_dim: int,
        num_heads: int,
        num_layers: int,
        ffn_dim: int | None = None,
        fusion: Fusion = "joint",
        share: Share = "none",
        dropout: float = 0.0,
        zero_init: bool = False,
    ) -> None:
        super().__init__()
        check_choice("fusion", fusion, get_args(Fusion))
        check_choice("share", share, get_args(Share))
        if not modalities or len(set(modalities)) != len(modalities):
            raise ConfigError(f"modalities={list(modalities)!r} must name at least one modality, each once.")
        if num_layers < 0:
            raise ConfigError(f"num_layers={num_layers} is negative.", hint="Use 0 for no layer at all.")
        self.modalities, self.num_layers = tuple(modalities), num_layers
        self.fusion: Fusion = fusion
        ffn_dim = 4 * embed_dim if ffn_dim is None else ffn_dim
        if ffn_dim < 1:
            raise ConfigError(f"ffn_dim={ffn_dim} is not positive.", hint=f"The usual choice is {4 * embed_dim}.")

        copies = 1 if share in ("modalities", "both") else len(modalities)

        def blocks() -> nn.ModuleList:
            return nn.ModuleList(
                EncoderBlock(embed_dim, num_heads, ffn_dim=ffn_dim, dropout=dropout, zero_init=zero_init)
                for _ in range(copies)
            )

        # Lists, not dictionaries, of modules: a field may be called "items" or "photo.url", which a ModuleDict refuses.
        distinct = min(num_layers, 1) if share in ("layers", "both") else num_layers
        self.layers = nn.ModuleList(blocks() for _ in range(distinct))
        has_norm = num_layers > 0 and not zero_init
        self.norms = nn.ModuleList(nn.LayerNorm(embed_dim) for _ in range(copies if has_norm else 0))

    def forward(
        self,
        tokens: Mapping[str, Float[Tensor, "B _ D"]],
        masks: Mapping[str, Bool[Tensor, "B _"]],
        *,
        need_weights: bool = False,
    ) -> tuple[dict[str, Float[Tensor, "B _ D"]], AttentionWeights | None]:
        """tokens[m] (B, L_m, D) → the same keys and shapes, each token informed by the real tokens of all modalities.

        A batch may lack a modality altogether, which is the same as masking all of it. Outputs at padded tokens are
        finite and mean nothing. Raises InputError for a modality the encoder was not built with, or without a mask.
        """
        names = self._present(tokens, masks)
        key_groups = self._key_groups(names, masks)
        state = {name: tokens[name] for name in names}
        layers: list[Mapping[tuple[str, str], Tensor]] = []
        for number in range(self.num_layers):
            layer = self.layers[number % len(self.layers)]
            state, weights = self._layer(layer, state, key_groups, need_weights)
            layers.append(weights)
        if len(self.norms):
            state = {name: self._of(self.norms, name)(state[name]) for name in names}
        return {name: state[name] for name in tokens}, AttentionWeights(tuple(layers)) if need_weights else None

    def _layer(
        self, layer: nn.Module, state: Mapping[str, Tensor], key_groups: Sequence[_KeyGroup], need_weights: bool
    ) -> tuple[dict[str, Tensor], dict[tuple[str, str], Tensor]]:
        blocks = {name: cast(EncoderBlock, self._of(layer, name)) for name in state}
        lengths = [tokens.shape[1] for tokens in state.values()]
        normed = {name: block.attention_norm(state[name]) for name, block in blocks.items()}
        # The queries of all modalities are joined, so that each softmax below is a single kernel call.
        queries = torch.cat([block.attention.project_query(normed[name]) for name, block in blocks.items()], dim=2)
        updates: dict[str, list[Tensor]] = {name: [] for name in state}
        weights_by_pair: dict[tuple[str, str], Tensor] = {}
        for group in key_groups:
            pairs = [blocks[name].attention.project_key_value(normed[name], normed[name]) for name in group.names]
            keys, values = (torch.cat(parts, dim=2) for parts in zip(*pairs, strict=True))
            dropout = blocks[group.names[0]].attention.active_dropout
            mixed, weights = attend(queries, keys, values, group.mask, dropout=dropout, need_weights=need_weights)
            for name, part in zip(state, mixed.split(lengths, dim=2), strict=True):
                block = blocks[name if self.fusion == "joint" else group.names[0]]
                updates[name].append(block.attention.project_output(part, group.mask))
            if weights is not None:
                key_lengths = [state[name].shape[1] for name in group.names]
                for query, rows in zip(state, weights.split(lengths, dim=2), strict=True):
                    for key, part in zip(group.names, rows.split(key_lengths, dim=3), strict=True):
                        weights_by_pair[query, key] = part
        return {
            name: block.feed_forward(state[name] + block.dropout(sum(updates[name][1:], updates[name][0])))
            for name, block in blocks.items()
        }, weights_by_pair

    def _of(self, modules: nn.Module, name: str) -> nn.Module:
        """The entry of a module list that belongs to a modality; a list of one is shared by all."""
        assert isinstance(modules, nn.ModuleList)
        return modules[self.modalities.index(name) if len(modules) > 1 else 0]

    def _present(self, tokens: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> tuple[str, ...]:
        for name in tokens:
            if name not in self.modalities:
                raise InputError(
                    f"modality {name!r} is unknown to this encoder.", hint=did_you_mean(name, self.modalities)
                )
            if name not in masks:
                raise InputError(
                    f"modality {name!r} has tokens but no mask.", hint="Give a bool mask (B, L), True = real."
                )
        if not tokens:
            raise InputError("tokens is empty; the encoder needs at least one modality.")
        return tuple(name for name in self.modalities if name in tokens)

    def _key_groups(self, names: tuple[str, ...], masks: Mapping[str, Tensor]) -> list[_KeyGroup]:
        if self.fusion == "sum":
            return [_KeyGroup((name,), useful_mask(masks[name])) for name in names]
        return [_KeyGroup(names, useful_mask(torch.cat([masks[name] for name in names], dim=1)))]
