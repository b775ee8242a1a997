"""Text: tokens → vectors of a backbone, to whose input the word shapes are added that its tokenizer loses; and where
these vectors enter the backbone, for explanations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from polydetr.backbones import text as encoders
from polydetr.backbones.bert import BertEncoder
from polydetr.backbones.bert_attention import with_attention
from polydetr.embedders.base import Embedder
from polydetr.embedders.entry import Entry, Look
from polydetr.embedders.text_subwords import SubwordReader, of_positions, subwords_of_positions, through_subwords
from polydetr.modalities.text import TextModality
from polydetr.modalities.text_tokens import SHAPES
from polydetr.nn.batch import Embedded, TokenGroup
from polydetr.nn.cpu.linear import is_capturing


class TextEmbedder(Embedder):
    """TokenGroup → Embedded (B, L, embed_dim): the backbone, the word shapes added to its input, and a projection where
    widths differ. ``text_subwords`` says how the characters of a subword are read.
    """

    frozen_with_backbone = ("backbone", "shape_embedding")
    read_beside_features = ("place", "word_rows")

    def __init__(self, modality: TextModality, *, embed_dim: int | None) -> None:
        spec, config = modality.spec, modality.config
        super().__init__(embed_dim or spec.hidden_dim)
        self.backbone = encoders.build(spec, dropout=config.dropout)
        self.shape_embedding = nn.Embedding(len(SHAPES), spec.hidden_dim) if config.word_shape else None
        if self.shape_embedding is not None:
            nn.init.zeros_(self.shape_embedding.weight)  # begins as the backbone was pretrained
        # Saved weights have this name, from a time when subwords were called pieces.
        self.piece_reader = SubwordReader(spec.hidden_dim) if modality.tokens.subwords else None
        same = self.embed_dim == spec.hidden_dim
        self.project: nn.Module = nn.Identity() if same else nn.Linear(spec.hidden_dim, self.embed_dim)

    @classmethod
    def from_modality(cls, modality: TextModality, *, embed_dim: int | None, others: Mapping[str, nn.Module]) -> Self:
        return cls(modality, embed_dim=embed_dim)

    @staticmethod
    def pretrained(modality: TextModality) -> Mapping[str, Tensor]:
        if modality.spec.source is None:
            return {}
        return {f"backbone.{name}": tensor for name, tensor in encoders.weights(modality.spec).items()}

    def features(self, group: TokenGroup) -> Embedded:
        """The backbone's output for the tokens, (B, L, hidden), which stays the same while the backbone is frozen."""
        values = group.values
        if "first_position" in values and (is_capturing() or _shares_subwords(values["first_position"], group.mask)):
            return Embedded(through_subwords(self._read, values, group.mask), group.mask)
        return Embedded(self._read(values, group.mask, group.positions), group.mask)

    def _read(self, values: Mapping[str, Tensor], mask: Tensor, positions: Tensor | None = None) -> Tensor:
        extra = self.shape_embedding(values["shape_ids"]) if self.shape_embedding is not None else None
        return self.backbone(values["input_ids"], mask, values.get("segment_ids"), positions, extra=extra)

    def forward(self, group: TokenGroup) -> Embedded:
        stored = group.values.get("features")
        hidden = (self.features(group).tokens if stored is None else stored).to(self.dtype)
        if self.piece_reader is not None and "place" in group.values:
            hidden = self.piece_reader(hidden, group.values["place"])
        return Embedded(self.project(hidden), group.mask, word_rows=group.values.get("word_rows"))

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    # -- for explanations ---------------------------------------------------------------------------------------------

    def entry(self) -> TextEntry:
        """At the backbone's embeddings; of a wrapped one, at its word vectors and the word shapes added to them."""
        if isinstance(self.backbone, BertEncoder):
            return TextEntry(self, [self.backbone.embeddings])
        words: nn.Module = self.backbone.model.get_input_embeddings()  # type: ignore[union-attr, operator, assignment]
        return TextEntry(self, [words] if self.shape_embedding is None else [words, self.shape_embedding])

    def with_attention(self, group: TokenGroup) -> tuple[Embedded, list[Tensor] | None]:
        """See ``base.ShowsAttention``."""
        if not isinstance(self.backbone, BertEncoder):
            return self(group), None
        embedded, layers = with_attention(self.backbone, lambda: self(group))
        return embedded, [between_positions(weights, group) for weights in layers]


def _shares_subwords(first_position: Tensor, mask: Tensor) -> bool:
    """Whether any text has positions that are not their subword's first, so that the backbone reads fewer tokens."""
    return not torch.equal(first_position.bool() & mask, mask)


class TextEntry(Entry):
    """The sum of the outputs of ``sites``, modules inside the embedder, for each token. The positions of one subword
    (``text_subwords``) have equal shares of its vector.
    """

    def __init__(self, embedder: nn.Module, sites: Sequence[nn.Module]) -> None:
        super().__init__(embedder)
        self.sites = tuple(sites)

    def _as_vectors(self, activations: Tensor, group: TokenGroup) -> Tensor:
        if "first_position" not in group.values:
            return activations
        subword, share = subwords_of_positions(group.values["first_position"], group.mask)
        return of_positions(activations, subword) * share[..., None]

    def _as_activations(self, vectors: Tensor, activations: Tensor, group: TokenGroup) -> Tensor:
        if "first_position" not in group.values:
            return vectors.reshape(activations.shape)
        subword, _ = subwords_of_positions(group.values["first_position"], group.mask)
        own = vectors.reshape(*subword.shape, -1)
        return torch.zeros_like(activations).scatter_add(1, subword[..., None].expand_as(own), own)

    def _hooks(self, look: Look) -> list[RemovableHandle]:
        def put(number: int) -> Callable[[nn.Module, object, Tensor], Tensor]:
            return lambda module, inputs, output: look(number, output)

        return [site.register_forward_hook(put(i)) for i, site in enumerate(self.sites)]


def between_positions(weights: Tensor, group: TokenGroup) -> Tensor:
    """Attention (B, P, P) between the subwords that a backbone read → (B, L, L) between positions, which share the
    attention that their subword receives (``text_subwords``).
    """
    if "first_position" not in group.values:
        return weights
    subword, share = subwords_of_positions(group.values["first_position"], group.mask)
    return of_positions(of_positions(weights, subword).transpose(1, 2), subword).transpose(1, 2) * share[:, None]
