"""From the tokens of the shared encoder to a set of spans, with a tagging head beside it, and their loss."""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from polydetr.core.examples import IGNORE_INDEX
from polydetr.heads.base import EncoderShape, Head, Tensors
from polydetr.heads.tagging import TokenHead
from polydetr.nn.batch import Encoded
from polydetr.nn.decoder import SetDecoder, hold
from polydetr.nn.matcher import SetTargets
from polydetr.nn.set_loss import SetCriterion
from polydetr.nn.span_geometry import SpanGeometry
from polydetr.nn.span_set import NO_SPAN, SpanSet, SpanSizes
from polydetr.tasks.entities import EntitiesTask

_GROUP = "text"


class EntitiesHead(Head):
    """Encoded → the outputs of ``nn.span_set.SpanSet``, batch first:

    logits (B, Q, N, C), start_logits and end_logits (B, Q, N, W), seeds (B, Q, 2), proposal_logits (B, W, M, C); beside
    them words (B, W) int64, the token at which each word begins, -1 for padding, and, with ``num_tags``, tag_logits
    (B, L, num_tags). tagging: the weight of the tags
    in the loss.
    """

    def __init__(self, sizes: SpanSizes, *, num_tags: int, tagging: float) -> None:
        super().__init__()
        self.tagging = tagging
        self.model = SpanSet(sizes)
        self.tags = TokenHead(sizes.embed_dim, num_tags, dropout=sizes.dropout) if tagging else None
        self.criterion = SetCriterion(SpanGeometry(), classification="varifocal")

    @classmethod
    def from_task(cls, task: EntitiesTask, shape: EncoderShape, *, label_smoothing: float = 0.0) -> Self:
        options = task.options
        options_of_sizes = {"hidden_dim": options.hidden_dim, "decoder_layers": options.decoder_layers}
        sizes = SpanSizes(
            max(1, len(task.labels)), shape.embed_dim, max_words=options.max_words,
            queries_per_word=options.queries_per_word,
            **{name: value for name, value in options_of_sizes.items() if value is not None},
        )  # fmt: skip
        return cls(sizes, num_tags=len(task.tag_set), tagging=options.tagging)

    @property
    def decoder(self) -> SetDecoder | None:
        return self.model.decoder

    def use_decoder(self, decoder: SetDecoder) -> None:
        hold(self.model, "decoder", decoder)

    def name_labels(self, vectors: Tensor) -> None:
        self.model.name_types(vectors)

    def forward(self, encoded: Encoded, *, last_only: bool = False, by_shape: bool = False) -> dict[str, Tensor]:
        tokens, rows = encoded.tokens[_GROUP], encoded.embedded[_GROUP].word_rows
        assert rows is not None
        begins, mask = word_tokens(rows, by_shape=by_shape)
        words = tokens.gather(1, begins[..., None].expand(-1, -1, tokens.shape[-1]))
        by_layer = self.model(words, mask, rows.gather(1, begins), last_only=last_only, by_shape=by_shape)
        outputs = {
            name: tensor.permute(1, 2, 0, 3) if tensor.dim() == 4 and name != "proposal_logits" else tensor
            for name, tensor in by_layer.items()
        }
        outputs["words"] = begins.masked_fill(~mask, -1)
        if self.tags is not None:
            outputs["tag_logits"] = self.tags(encoded)["logits"]
        return outputs

    def loss(self, outputs: Tensors, targets: Tensors, weights: Tensor) -> dict[str, Tensor]:
        words, tags = outputs["words"].long(), targets["tags"]
        known = (words >= 0) & (tags.gather(1, words.clamp(min=0)) != IGNORE_INDEX)
        labels = targets["labels"]
        wanted = SetTargets(labels, labels != IGNORE_INDEX, {"spans": targets["spans"]})
        terms = {"proposals": _proposal_loss(outputs["proposal_logits"], wanted, known)}
        if "start_logits" in outputs:
            terms["set"] = self._set_loss(outputs, wanted, known)
        if "tag_logits" in outputs:
            here = tags != IGNORE_INDEX
            total = F.cross_entropy(outputs["tag_logits"][here].float(), tags[here], reduction="sum")
            terms["tags"] = self.tagging * total / here.sum().clamp(min=1)
        return terms

    def counted(self, targets: Tensors, weights: Tensor) -> Tensor:
        return (targets["tags"] != IGNORE_INDEX).sum().to(weights.dtype)

    def _set_loss(self, outputs: Tensors, wanted: SetTargets, known: Tensor) -> Tensor:
        layers = {name: outputs[name].permute(2, 0, 1, 3).float() for name in ("logits", "start_logits", "end_logits")}
        # A query that begins at a word of a row without a label is neither right nor wrong.
        unknown = ~known.gather(1, outputs["seeds"][..., 0].long().clamp(min=0))
        layers["logits"] = layers["logits"].masked_fill(unknown[..., None], NO_SPAN)
        return self.criterion(layers, wanted).total / len(layers["logits"])


def word_tokens(word_rows: Tensor, *, by_shape: bool = False) -> tuple[Tensor, Tensor]:
    """(B, L) → the tokens at which words begin, in order, (B, W), and which of them are real (B, W).

    W is the most words that a row of this batch has (1 at least), or, by shape, L.
    """
    begins = word_rows > 0
    count = begins.sum(1)
    places = torch.arange(begins.shape[1], device=begins.device)
    # Words' first tokens before all others, both in order. No two keys are equal, for ONNX has no stable sort.
    order = torch.where(begins, places.flip(0) + 1, -places).argsort(dim=1, descending=True)
    if not by_shape:
        order = order[:, : max(1, int(count.max()))]
    return order, places[: order.shape[1]] < count[:, None]


def _proposal_loss(logits: Tensor, wanted: SetTargets, known: Tensor) -> Tensor:
    """Cross-entropy of every span of rows that are ``known`` (B, W) with every type, over the number of true spans;
    logits (B, W, M, C).
    """
    longest = logits.shape[2]
    truth = torch.zeros_like(logits, dtype=torch.float32)
    first, last = wanted.geometry["spans"].unbind(-1)
    example, target = (wanted.mask & (last - first < longest)).nonzero(as_tuple=True)
    start, length = first[example, target], (last - first)[example, target]
    truth[example, start, length, wanted.labels[example, target]] = 1.0
    each = F.binary_cross_entropy_with_logits(logits.float(), truth, reduction="none")
    return (each * known[..., None, None]).sum() / wanted.mask.sum().clamp(min=1)
