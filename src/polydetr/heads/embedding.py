"""A vector per row, near the vector of what belongs to it.

Symbols: B rows of a batch, D ``embed_dim``, a_i the anchors' vectors, p_i the positives', both of length 1, and e^t the
learned scale.

    L = ½ mean_i [ -log softmax_j(e^t a_i·p_j)_i  -  log softmax_j(e^t p_i·a_j)_i ]

Sources: InfoNCE, van den Oord et al. 2018 (arXiv 1807.03748), eq. 4; both directions and the learned scale, held below
100, Radford et al. 2021 (CLIP, arXiv 2103.00020), section 2.3. The other rows of the batch are the negatives, save
those with the same positive or the same anchor, which are right answers too.
"""

from __future__ import annotations

import math
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polydetr.heads.base import EncoderShape, Head, Tensors, weighted_mean
from polydetr.nn.batch import Encoded
from polydetr.tasks.embedding import EmbeddingTask
from polydetr.tasks.explained_rows import SimilarityAnswer

START_SCALE, MAX_SCALE = 1 / 0.07, 100.0


class EmbeddingHead(Head):
    """The pooled token, scaled to length 1: "vector" (B, D), and "log_scale" (B,), t. No projection: what a pretrained
    backbone knows of similarity is kept.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(START_SCALE)))

    @classmethod
    def from_task(cls, task: EmbeddingTask, shape: EncoderShape, *, label_smoothing: float = 0.0) -> Self:
        return cls()

    def forward(self, encoded: Encoded) -> dict[str, Tensor]:
        vector = F.normalize(encoded.pooled.float(), dim=-1)
        return {"vector": vector, "log_scale": self.log_scale.float().expand(vector.shape[0])}

    def loss(self, outputs: Tensors, targets: Tensors, weights: Tensor) -> dict[str, Tensor]:
        """outputs["positive"] (B, D): the vectors of the targets' own values."""
        anchors, positives = outputs["vector"].float(), outputs["positive"].float()
        scale = outputs["log_scale"][:1].float().clamp(max=math.log(MAX_SCALE)).exp()
        logits = scale * anchors @ positives.T
        numbers = torch.arange(len(logits), device=logits.device)
        logits = logits.masked_fill(_no_negatives(targets), -torch.inf)
        forth, back = (F.cross_entropy(table, numbers, reduction="none") for table in (logits, logits.T))
        both = (forth + back) / 2
        weights = weights * targets["known"]
        return {"contrastive": weighted_mean(both, weights)}

    def counted(self, targets: Tensors, weights: Tensor) -> Tensor:
        return (weights * targets["known"]).sum()

    def explained(self, answer: SimilarityAnswer, outputs: Tensors) -> Tensor:
        mean = F.normalize(outputs["vector"].mean(1), dim=-1)
        return mean @ torch.as_tensor(answer.vector, dtype=mean.dtype, device=mean.device)


def _no_negatives(targets: Tensors) -> Tensor:
    """(B, B), True where row j is no negative of i: it has no positive, or is right for i too; never the diagonal."""
    positive, anchor, known = targets["positive"], targets["anchor"], targets["known"] > 0
    out = (positive[:, None] == positive) | (anchor[:, None] == anchor) | ~known | ~known[:, None]
    return out & ~torch.eye(len(out), dtype=torch.bool, device=out.device)
