"""The set decoder: queries attend to one another, then to the memory, layer by layer; every layer's output is returned.

Source: Carion et al. 2020, DETR (arXiv 2005.12872), section 3.2 and figure 10. Post-norm layers:

    x = LN(x + SelfAttention(x + p, x + p, x))          p: positions of the queries, learned
    x = LN(x + CrossAttention(x + p, m + e, m))         m: memory, e: its positions
    x = LN(x + FFN(x))                                  and one LN, shared by all layers, on what is read from x

Positions are added to queries and keys at every layer, never to values. The memory may be anything that became
tokens: the cells of an image, the words of a text; its mask is **True = real**.

Shapes: B examples, Q queries, L memory tokens, D ``embed_dim``, H heads, N layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polydetr.errors import ConfigError, check_choice
from polydetr.nn.attention import MultiHeadAttention, fused_attention, useful_mask
from polydetr.nn.cpu.linear import Linear

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu}


class FeedForward(nn.Module):
    """W_2 f(W_1 x), with the DETR's two dropouts. (…, D) → (…, D). Raises ConfigError for an unknown activation."""

    def __init__(self, embed_dim: int, ffn_dim: int, *, dropout: float = 0.0, activation: str = "relu") -> None:
        super().__init__()
        check_choice("activation", activation, ACTIVATIONS)
        self.up = Linear(embed_dim, ffn_dim)
        self.down = Linear(ffn_dim, embed_dim)
        self.dropout = nn.Dropout(dropout)
        self.activation = ACTIVATIONS[activation]
        for linear in (self.up, self.down):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.down(self.dropout(self.activation(self.up(x)))))


class DecoderLayer(nn.Module):
    """One layer. Its cross-attention may be another module (deformable attention, say): the layer only owns it, and
    ``attend_memory`` calls it.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        ffn_dim: int,
        dropout: float = 0.0,
        activation: str = "relu",
        cross_attention: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(embed_dim, num_heads, dropout=dropout)
        self.self_norm = nn.LayerNorm(embed_dim)
        self.cross_attention = cross_attention or MultiHeadAttention(embed_dim, num_heads, dropout=dropout)
        self.cross_norm = nn.LayerNorm(embed_dim)
        self.ffn = FeedForward(embed_dim, ffn_dim, dropout=dropout, activation=activation)
        self.ffn_norm = nn.LayerNorm(embed_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        state: Float[Tensor, "B Q D"],
        attend_memory: Callable[[Tensor], Tensor],
        *,
        positions: Float[Tensor, "B Q D"] | None = None,
        allowed: Bool[Tensor, "Q Q"] | Bool[Tensor, "B 1 1 Q"] | None = None,
    ) -> Float[Tensor, "B Q D"]:
        """attend_memory: queries with positions (B, Q, D) → attention output (B, Q, D); allowed: which query (row) may
        attend to which (column), None for all; or which ones of each example are real.
        """
        state = self.self_norm(state + self.dropout(self._attend_queries(_added(state, positions), state, allowed)))
        state = self.cross_norm(state + self.dropout(attend_memory(_added(state, positions))))
        return self.ffn_norm(state + self.ffn(state))

    def _attend_queries(self, placed: Tensor, state: Tensor, allowed: Tensor | None) -> Tensor:
        attention = self.self_attention
        keys, values = attention.project_key_value(placed, state)
        queries = attention.project_query(placed)
        return attention.project_output(
            fused_attention(queries, keys, values, allowed, dropout=attention.active_dropout)
        )


class SetDecoder(nn.Module):
    """N layers over one memory.

    carry_norm: hand the normed state on to the next layer, instead of only reading from it. DETR does not; a model that
        Hugging Face's code trained with ``auxiliary_loss`` does, and gives other outputs without it.
    Raises ConfigError for sizes that do not fit.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        num_layers: int,
        ffn_dim: int,
        dropout: float = 0.0,
        activation: str = "relu",
        carry_norm: bool = False,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ConfigError(f"num_layers={num_layers} must be at least 1.")
        self.carry_norm = carry_norm
        self.layers = nn.ModuleList(
            DecoderLayer(embed_dim, num_heads, ffn_dim=ffn_dim, dropout=dropout, activation=activation)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(embed_dim)

    def forward(
        self,
        queries: Float[Tensor, "B Q D"],
        memory: Float[Tensor, "B L D"],
        mask: Bool[Tensor, "B L"] | None = None,
        *,
        query_positions: Float[Tensor, "B Q D"] | None = None,
        memory_positions: Float[Tensor, "B L D"] | None = None,
        allowed: Bool[Tensor, "Q Q"] | Bool[Tensor, "B 1 1 Q"] | None = None,
        need_weights: bool = False,
    ) -> tuple[Float[Tensor, "N B Q D"], Float[Tensor, "N B H Q L"] | None]:
        """Every layer's output, and with ``need_weights`` the weights of the attention to the memory.

        An example without real memory gets finite outputs: its queries only attend to one another.
        """
        mask, keys = useful_mask(mask), _added(memory, memory_positions)
        state, read, layer_weights = queries, [], []
        for layer in self.layers:
            attention = cast(DecoderLayer, layer).cross_attention

            def attend_memory(placed: Tensor, attention: nn.Module = attention) -> Tensor:
                output, weights = attention(placed, keys, memory, mask, need_weights=need_weights)
                layer_weights.append(weights)
                return output

            state = layer(state, attend_memory, positions=query_positions, allowed=allowed)
            read.append(self.norm(state))
            if self.carry_norm:
                state = read[-1]
        if self.carry_norm:
            read[-1] = self.norm(state)
        return torch.stack(read), torch.stack(layer_weights) if need_weights else None


class LearnedQueries(nn.Module):
    """DETR's queries: content zero, positions learned. batch size → (content, positions), each (B, Q, D)."""

    def __init__(self, num_queries: int, embed_dim: int) -> None:
        super().__init__()
        if num_queries < 1:
            raise ConfigError(f"num_queries={num_queries} must be at least 1.")
        self.positions = nn.Embedding(num_queries, embed_dim)

    def forward(self, batch: int) -> tuple[Float[Tensor, "B Q D"], Float[Tensor, "B Q D"]]:
        positions = self.positions.weight.expand(batch, -1, -1)
        return torch.zeros_like(positions), positions


def hold(module: nn.Module, name: str, decoder: nn.Module) -> None:
    """``module.name`` becomes a decoder that another module owns: referenced, not registered, so that it is only once
    in the state dict and among the parameters.

    Raises:
        ConfigError: it is not of the shape of the one that is replaced.
    """
    own, other = ({n: tuple(p.shape) for n, p in one.named_parameters()} for one in (getattr(module, name), decoder))
    if own != other:
        odd = next(n for n in [*own, *other] if own.get(n) != other.get(n))
        raise ConfigError(
            f"one decoder cannot serve both: {odd} is {own.get(odd, 'not there')} here and "
            f"{other.get(odd, 'not there')} there.",
            hint="Give both the same hidden_dim and decoder_layers, and no deformable attention.",
        )
    delattr(module, name)
    object.__setattr__(module, name, decoder)


def _added(tokens: Tensor, positions: Tensor | None) -> Tensor:
    return tokens if positions is None else tokens + positions
