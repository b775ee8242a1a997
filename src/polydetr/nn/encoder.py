"""The shared encoder: tokens of every modality look at one another, layer by layer.

One layer, for a token of modality a (pre-norm, Xiong et al. 2020, arXiv 2002.04745; h̄ = LayerNorm(h)):

    fusion "sum"     h ← h + Σ_i Linear_i( MHA(q_a(h̄), k_i(h̄_i), v_i(h̄_i)) )     one softmax inside each modality i
    fusion "joint"   h ← h + Linear_a( MHA(q_a(h̄), [k_1; …; k_n], [v_1; …; v_n]) )  one softmax over all tokens
    both             h ← h + W_2 GELU(W_1 LayerNorm(h))

"sum" lets every modality be heard with the same voice; under "joint" modalities compete for one budget of attention.
Shapes: B examples, L_m tokens of modality m, D ``embed_dim``, H heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast, get_args

import torch
from torch import Tensor, nn

from polydetr.errors import ConfigError, InputError, did_you_mean
from polydetr.nn.attention import MultiHeadAttention, attend, useful_mask
from polydetr.nn.cpu.linear import Linear

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

Fusion = Literal["sum", "joint"]
Share = Literal["none", "modalities", "layers", "both"]
ResidualInit = Literal["default", "zero"]


@dataclass(frozen=True)
class AttentionWeights:
    """Who looked at whom. ``layers[n][asker, answerer]`` is (B, H, L_asker, L_answerer), before dropout.

    Under fusion "sum" each such tensor sums to 1 over its last axis. Under "joint" the tensors of one asker do so
    together, over all answerers. A query with no real key to ask has zeros.
    """

    layers: tuple[Mapping[tuple[str, str], Tensor], ...]


def count_parameters(module: nn.Module, *, trainable_only: bool = False) -> int:
    """How many numbers the module learns; a parameter used in several places counts once."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable_only)


class EncoderBlock(nn.Module):
    """What one modality brings to one layer: two norms, the attention's maps, the feed-forward part."""

    def __init__(
        self, embed_dim: int, num_heads: int, *, ffn_dim: int, dropout: float, residual_init: ResidualInit
    ) -> None:
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
        if residual_init == "zero":  # biases are zero already
            nn.init.zeros_(self.attention.output.weight)
            nn.init.zeros_(self.contract.weight)

    def feed_forward(self, tokens: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        """h + W_2 GELU(W_1 LayerNorm(h))."""
        hidden = nn.functional.gelu(self.expand(self.feed_forward_norm(tokens)))
        return tokens + self.dropout(self.contract(self.dropout(hidden)))


@dataclass(frozen=True)
class _Answerers:
    """Modalities whose keys share one softmax, and the mask of those keys; the mask is made once for all layers."""

    names: tuple[str, ...]
    mask: Tensor | None


class MultiModalEncoder(nn.Module):
    """``num_layers`` rounds in which the tokens of all modalities attend to one another.

    modalities: their names; the order decides which parameters belong to which, never the result.
    ffn_dim: width of the feed-forward part, 4 · ``embed_dim`` when not given.
    fusion: one softmax per modality with the answers summed ("sum"), or one softmax over all tokens ("joint").
    share: which parameters are the same ones: "none"; "modalities" (within a layer, all modalities use one block);
        "layers" (all layers use the same blocks, as ALBERT does, arXiv 1909.11942); "both" (a single block).
    residual_init: "zero" starts every residual branch at zero and leaves out the final norm, so that the untrained
        encoder hands its input through bit by bit: what a pretrained backbone knows is not disturbed at the start.

    ``num_layers=0`` has no parameters and returns its input. Raises ConfigError for values that fit nothing.
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
        residual_init: ResidualInit = "default",
    ) -> None:
        super().__init__()
        _check_choice("fusion", fusion, Fusion)
        _check_choice("share", share, Share)
        _check_choice("residual_init", residual_init, ResidualInit)
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
            made = (
                EncoderBlock(embed_dim, num_heads, ffn_dim=ffn_dim, dropout=dropout, residual_init=residual_init)
                for _ in range(copies)
            )
            return nn.ModuleList(made)

        # Lists, not dictionaries, of modules: a field may be called "items" or "photo.url", which a ModuleDict refuses.
        distinct = min(num_layers, 1) if share in ("layers", "both") else num_layers
        self.layers = nn.ModuleList(blocks() for _ in range(distinct))
        has_norm = num_layers > 0 and residual_init == "default"
        self.norms = nn.ModuleList(nn.LayerNorm(embed_dim) for _ in range(copies if has_norm else 0))

    def forward(
        self,
        tokens: Mapping[str, Float[Tensor, "B _ D"]],
        masks: Mapping[str, Bool[Tensor, "B _"]],
        *,
        need_weights: bool = False,
    ) -> tuple[dict[str, Float[Tensor, "B _ D"]], AttentionWeights | None]:
        """tokens[m] (B, L_m, D) → the same keys and shapes, each token informed by the real tokens of all modalities.

        A batch may lack a modality altogether; that gives what a fully masked one gives. Values at padded places are
        finite and mean nothing. Raises InputError for a modality the encoder was not built with, or without a mask.
        """
        names = self._present(tokens, masks)
        answerers = self._answerers(names, masks)
        state = {name: tokens[name] for name in names}
        seen: list[Mapping[tuple[str, str], Tensor]] = []
        for number in range(self.num_layers):
            layer = self.layers[number % len(self.layers)]
            state, weights = self._layer(layer, state, answerers, need_weights)
            seen.append(weights)
        if len(self.norms):
            state = {name: self._of(self.norms, name)(state[name]) for name in names}
        return {name: state[name] for name in tokens}, AttentionWeights(tuple(seen)) if need_weights else None

    def _layer(
        self, layer: nn.Module, state: Mapping[str, Tensor], answerers: Sequence[_Answerers], need_weights: bool
    ) -> tuple[dict[str, Tensor], dict[tuple[str, str], Tensor]]:
        blocks = {name: cast(EncoderBlock, self._of(layer, name)) for name in state}
        lengths = [tokens.shape[1] for tokens in state.values()]
        normed = {name: block.attention_norm(state[name]) for name, block in blocks.items()}
        # All askers stand in one row, so that each softmax below is a single kernel call for all of them.
        queries = torch.cat([block.attention.project_query(normed[name]) for name, block in blocks.items()], dim=2)
        answers: dict[str, list[Tensor]] = {name: [] for name in state}
        seen: dict[tuple[str, str], Tensor] = {}
        for group in answerers:
            pairs = [blocks[name].attention.project_key_value(normed[name], normed[name]) for name in group.names]
            keys, values = (torch.cat(parts, dim=2) for parts in zip(*pairs, strict=True))
            dropout = blocks[group.names[0]].attention.active_dropout
            answer, weights = attend(queries, keys, values, group.mask, dropout=dropout, need_weights=need_weights)
            for asker, part in zip(state, answer.split(lengths, dim=2), strict=True):
                speaker = asker if self.fusion == "joint" else group.names[0]
                answers[asker].append(blocks[speaker].attention.project_output(part, group.mask))
            if weights is not None:
                seen |= _by_pair(weights, tuple(state), lengths, group.names, [state[n].shape[1] for n in group.names])
        return {
            name: block.feed_forward(state[name] + block.dropout(sum(answers[name][1:], answers[name][0])))
            for name, block in blocks.items()
        }, seen

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

    def _answerers(self, names: tuple[str, ...], masks: Mapping[str, Tensor]) -> list[_Answerers]:
        if self.fusion == "sum":
            return [_Answerers((name,), useful_mask(masks[name])) for name in names]
        return [_Answerers(names, useful_mask(torch.cat([masks[name] for name in names], dim=1)))]


def _by_pair(
    weights: Tensor,
    askers: Sequence[str],
    asker_lengths: list[int],
    answerers: Sequence[str],
    answerer_lengths: list[int],
) -> dict[tuple[str, str], Tensor]:
    """Cuts (B, H, ΣL_asker, ΣL_answerer) into one tensor for each pair of modalities."""
    pairs = {}
    for asker, rows in zip(askers, weights.split(asker_lengths, dim=2), strict=True):
        for answerer, part in zip(answerers, rows.split(answerer_lengths, dim=3), strict=True):
            pairs[asker, answerer] = part
    return pairs


def _check_choice(name: str, value: str, choices: object) -> None:
    known = get_args(choices)
    if value not in known:
        raise ConfigError(f"{name}={value!r} is unknown.", hint=did_you_mean(value, known))
