"""From what the shared encoder gives to a set of spans, with the tagging head beside it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polydetr.nn.batch import Encoded
from polydetr.nn.decoder import SetDecoder, hold
from polydetr.nn.span_set import SpanSet, SpanSizes
from polydetr.tasks.tagging import TokenHead

_GROUP = "text"


class EntitiesHead(nn.Module):
    """Encoded → what ``nn.span_set.SpanSet`` answers, batch first:

    logits (B, Q, N, C), start_logits and end_logits (B, Q, N, W), seeds (B, Q, 2), proposal_logits (B, W, M, C); beside
    them words (B, W) int64, the token at which each word begins, -1 for padding, and, with ``num_tags``, tag_logits
    (B, L, num_tags).
    """

    def __init__(self, sizes: SpanSizes, *, num_tags: int) -> None:
        super().__init__()
        self.model = SpanSet(sizes)
        self.tags = TokenHead(sizes.embed_dim, num_tags, dropout=sizes.dropout) if num_tags else None

    @property
    def decoder(self) -> SetDecoder | None:
        return self.model.decoder

    def use_decoder(self, decoder: SetDecoder) -> None:
        """Decodes by one that the whole model owns (``model.share_decoder``)."""
        hold(self.model, "decoder", decoder)

    def name_labels(self, vectors: Tensor) -> None:
        self.model.name_types(vectors)

    def forward(self, encoded: Encoded) -> dict[str, Tensor]:
        tokens, rows = encoded.tokens[_GROUP], encoded.embedded[_GROUP].word_rows
        assert rows is not None
        begins, mask = word_tokens(rows)
        words = tokens.gather(1, begins[..., None].expand(-1, -1, tokens.shape[-1]))
        found = self.model(words, mask, rows.gather(1, begins), last_only=not torch.is_grad_enabled())
        outputs = {
            name: tensor.permute(1, 2, 0, 3) if tensor.dim() == 4 and name != "proposal_logits" else tensor
            for name, tensor in found.items()
        }
        outputs["words"] = begins.masked_fill(~mask, -1)
        if self.tags is not None:
            outputs["tag_logits"] = self.tags(encoded)["logits"]
        return outputs


def word_tokens(word_rows: Tensor) -> tuple[Tensor, Tensor]:
    """(B, L) → the tokens at which words begin, in order, (B, W), and which of them are real (B, W)."""
    begins = word_rows > 0
    count = begins.sum(1)
    longest = max(1, int(count.max()))
    order = begins.long().argsort(dim=1, descending=True, stable=True)[:, :longest]
    return order, torch.arange(longest, device=order.device) < count[:, None]
