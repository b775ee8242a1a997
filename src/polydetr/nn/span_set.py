"""A set of spans from the words of a text: proposals, refined by the set decoder. Words in, tensors out.

    words → every span of up to M words is scored with every type → the highest-scoring become queries
          → decoder: queries attend to one another and to the words; each predicts a type and two ends

The queries begin at spans that score like an entity, as those of ``nn.detr_fast`` begin at cells that score like an
object; the decoder is the one of boxes (``nn.decoder``). Types are vectors: a span's score for a type
is its similarity to the type's vector, which begins as what the backbone makes of the type's name.

Sources: Tan et al. 2021 (arXiv 2105.08901), spans as a set; Yu et al. 2020 (arXiv 2005.07150), every span scored by its
two ends; Shen et al. 2022, PIQN (arXiv 2203.10545), losses in every layer.

Shapes: B texts, W words, M ``max_words``, C types, Q queries, D width of the words, H ``hidden_dim``, N layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polydetr.errors import ConfigError
from polydetr.nn.cpu.linear import Linear
from polydetr.nn.decoder import SetDecoder
from polydetr.nn.positions import SinusoidalPositions
from polydetr.values.spans import SPARE_QUERIES, num_span_queries

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int64

_FIRST_SCORE = 0.01
"""The initial probability of every type (focal loss, Lin et al. 2017, arXiv 1708.02002, section 4.1)."""
_FIRST_STAY = 6.0
"""The initial logit of the proposed end in a pointer."""
_CHANCE = 0.2
NO_SPAN = -40.0
"""The logit of what is no span: so low that the losses of single precision are exactly zero, and not much lower, for
the matcher may have to take it where a text has more targets than queries.
"""
_NO_WORD = -1e4


@dataclass(frozen=True)
class SpanSizes:
    """The architecture. decoder_layers: 0 predicts the proposals as they are.

    Raises ConfigError for sizes that cannot find anything.
    """

    num_types: int
    embed_dim: int
    hidden_dim: int = 128
    num_heads: int = 8
    ffn_dim: int = 512
    decoder_layers: int = 3
    max_words: int = 24
    queries_per_word: float = 1.0
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if min(self.num_types, self.embed_dim, self.max_words) < 1 or self.decoder_layers < 0:
            raise ConfigError(
                f"num_types={self.num_types}, embed_dim={self.embed_dim}, max_words={self.max_words} and "
                f"decoder_layers={self.decoder_layers} find no span.",
                hint="At least one type, one word, and no negative number of layers.",
            )

    def num_queries(self, num_words: Tensor) -> Tensor:
        """How many spans can be predicted among so many words."""
        return num_span_queries(num_words.float(), self.queries_per_word).long()


class SpanSet(nn.Module):
    """See the head of this file."""

    def __init__(self, sizes: SpanSizes) -> None:
        super().__init__()
        self.sizes, width, hidden = sizes, sizes.embed_dim, sizes.hidden_dim
        self.type_vectors = nn.Parameter(torch.randn(sizes.num_types, width))
        self.type_projection = Linear(width, hidden)
        self.proposals = SpanProposals(sizes)
        self.decoder: SetDecoder | None = None
        if sizes.decoder_layers:
            self.decoder = SetDecoder(hidden, sizes.num_heads, num_layers=sizes.decoder_layers, ffn_dim=sizes.ffn_dim)
            self.memory = Linear(width, hidden)
            self.content = nn.Sequential(Linear(hidden, hidden), nn.LayerNorm(hidden))
            self.waves = SinusoidalPositions(hidden)
            self.place_word = Linear(hidden, hidden)
            self.place_span = Linear(2 * hidden, hidden)
            self.class_head = Similarity(hidden)
            self.pointers = nn.ModuleDict({name: Pointer(hidden) for name in ("start", "end")})

    @torch.no_grad()
    def name_types(self, vectors: Float[Tensor, "C D"]) -> None:
        """Begins with these vectors of the types' names, less what they have in common; a little of the random start
        stays, so that names which the backbone does not know differ too.
        """
        if len(vectors) > 1:
            vectors = vectors - vectors.mean(0)
        self.type_vectors.mul_(_CHANCE).add_(F.layer_norm(vectors, vectors.shape[-1:]))

    def forward(
        self,
        words: Float[Tensor, "B W D"],
        mask: Bool[Tensor, "B W"],
        rows: Int64[Tensor, "B W"],
        *,
        last_only: bool = False,
        by_shape: bool = False,
    ) -> dict[str, Tensor]:
        """rows: which text of the window each word belongs to; a span never leaves its own.

        ``proposal_logits`` (B, W, M, C), of the span from word w that is m + 1 words long, before the sigmoid;
        ``seeds`` (B, Q, 2) int64, first and last word of each query's proposal, -1 for padding;
        ``logits`` (N, B, Q, C), before the sigmoid, and, where there is a decoder, ``start_logits`` and ``end_logits``
        (N, B, Q, W), before the softmax. last_only: N is 1, the outputs of the last layer. by_shape: Q and M follow
        from W and the sizes alone, with more padding, as a graph of dynamic sizes needs it; the real ones are the same.
        """
        types = self.type_projection(self.type_vectors)
        spans, scores, possible = self.proposals(words, mask, rows, types, by_shape=by_shape)
        scores = scores.float().masked_fill(~possible[..., None], NO_SPAN)
        seeds, chosen, real = self._seeds(scores, possible, mask, by_shape=by_shape)
        outputs = {"proposal_logits": scores, "seeds": seeds.masked_fill(~real[..., None], -1)}
        first = scores.flatten(1, 2).gather(1, chosen[..., None].expand(-1, -1, scores.shape[-1]))
        first = first.masked_fill(~real[..., None], NO_SPAN)  # the last queries of a short text are padding
        if self.decoder is None:
            return {**outputs, "logits": first[None]}
        content = self.content(spans.flatten(1, 2).gather(1, chosen[..., None].expand(-1, -1, spans.shape[-1])))
        where = self.waves(torch.arange(words.shape[1], device=words.device)[None]).to(words.dtype)
        memory, places = self.memory(words), self.place_word(where).expand(words.shape[0], -1, -1)
        # A text without a word has no query: there all attend to all, and nothing reads the output.
        allowed = (real | ~real.any(1, keepdim=True))[:, None, None]
        states, _ = self.decoder(
            content, memory, mask, query_positions=self.place_span(where[0][seeds].flatten(-2)),
            memory_positions=places, allowed=allowed,
        )  # fmt: skip
        states = states[-1:] if last_only else states
        logits = (self.class_head(states, types) + first.detach()).masked_fill(~real[..., None], NO_SPAN)
        pointed = {
            f"{name}_logits": pointer(states, memory + places, mask, seeds[..., end])
            for end, (name, pointer) in enumerate(self.pointers.items())
        }
        return {**outputs, "logits": logits, **pointed}

    def _seeds(
        self, scores: Tensor, possible: Tensor, mask: Tensor, *, by_shape: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(first, last) words (B, Q, 2), their place among all spans (B, Q), and which are real (B, Q): the likeliest
        spans, whatever their type, as many as the text has words and some to spare.
        """
        best = scores.detach().amax(-1).flatten(1)
        count = torch.minimum(self.sizes.num_queries(mask.sum(1)), possible.flatten(1).sum(1))
        num_words, width = scores.shape[1:3]
        if by_shape:
            per_word = math.ceil(self.sizes.queries_per_word)
            most = num_words * per_word + SPARE_QUERIES
            best = F.pad(best, (0, num_words * max(0, per_word - width) + SPARE_QUERIES), value=-torch.inf)
        else:
            most = max(1, int(count.max()))
        real = torch.arange(most, device=scores.device) < count[:, None]
        # Spans that are none tie, and which of them comes first is the runtime's choice: padding takes span 0 instead.
        chosen = best.topk(most, dim=1).indices.masked_fill(~real, 0)
        start = chosen // width
        # A span that is none may end behind the last word.
        end = (start + chosen % width).clamp(max=num_words - 1)
        return torch.stack((start, end), dim=-1), chosen, real


class SpanProposals(nn.Module):
    """Every span of up to M words: the sum of vectors of its two ends and its length, and the product of the ends."""

    def __init__(self, sizes: SpanSizes) -> None:
        super().__init__()
        self.max_words, hidden = sizes.max_words, sizes.hidden_dim
        self.dropout = nn.Dropout(sizes.dropout)
        self.start, self.end = (Linear(sizes.embed_dim, 2 * hidden) for _ in range(2))
        self.length = nn.Embedding(sizes.max_words, hidden)
        nn.init.normal_(self.length.weight, std=0.02)
        self.norm = nn.LayerNorm(hidden)
        self.likeness = Similarity(hidden, first_score=_FIRST_SCORE)

    def forward(
        self, words: Tensor, mask: Tensor, rows: Tensor, types: Tensor, *, by_shape: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Spans (B, W, M', H), their logits (B, W, M', C), and which there are (B, W, M'); M' = min(M, W), or M."""
        longest = self.max_words if by_shape else min(self.max_words, words.shape[1])
        words = self.dropout(words)
        alone, together = self.start(words)[:, :, None].chunk(2, dim=-1)
        ends = _windows(F.pad(self.end(words), (0, 0, 0, longest - 1)), longest, by_shape=by_shape)
        last_alone, last_together = ends.chunk(2, dim=-1)
        spans = self.norm(F.gelu(alone + last_alone + self.length.weight[:longest] + together * last_together))
        inside = _windows(F.pad(rows.masked_fill(~mask, -1), (0, longest - 1), value=-1), longest, by_shape=by_shape)
        possible = (inside == rows[..., None]) & mask[..., None]
        return spans, self.likeness(spans, types), possible


def _windows(padded: Tensor, length: int, *, by_shape: bool) -> Tensor:
    """(B, W + length - 1, …) → (B, W, length, …): what stands at each place and behind it."""
    if not by_shape:
        return padded.unfold(1, length, 1).movedim(-1, 2)
    start = torch.arange(padded.shape[1] - length + 1, device=padded.device)
    return padded[:, start[:, None] + torch.arange(length, device=padded.device)]


class Similarity(nn.Module):
    """(…, H), (C, H) → (…, C): the scaled product of a span's projection with each type's vector, and a bias."""

    def __init__(self, hidden_dim: int, *, first_score: float = 0.5) -> None:
        super().__init__()
        self.read = Linear(hidden_dim, hidden_dim)
        self.bias = nn.Parameter(torch.tensor(-math.log((1 - first_score) / first_score)))

    def forward(self, spans: Tensor, types: Tensor) -> Tensor:
        return self.read(spans) @ types.T / math.sqrt(types.shape[-1]) + self.bias


class Pointer(nn.Module):
    """Which word a query points to: by similarity, plus a bonus for its proposal's end, which prevails at first."""

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.query, self.key = (Linear(hidden_dim, hidden_dim) for _ in range(2))
        self.stay = nn.Parameter(torch.tensor(_FIRST_STAY))

    def forward(self, states: Tensor, words: Tensor, mask: Tensor, seed: Tensor) -> Tensor:
        """states (N, B, Q, H), words (B, W, H), mask (B, W), seed (B, Q) → logits (N, B, Q, W), float32."""
        similarity = self.query(states) @ self.key(words).transpose(1, 2) / math.sqrt(words.shape[-1])
        stay = (seed[..., None] == torch.arange(words.shape[1], device=seed.device)) * self.stay
        return (similarity.float() + stay).masked_fill(~mask[:, None], _NO_WORD)
