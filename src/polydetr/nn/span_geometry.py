"""The geometry of spans for the shared matcher and criterion (``set_loss.Geometry``): pointers to two words, the ends.

Source: Tan et al. 2021, "A Sequence-to-Set Network for Nested Named Entity Recognition" (arXiv 2105.08901), equation 9:
the cost of a pair is minus the probabilities of the type and of both ends. An entity counts only where its ends are
exactly right, so they are chosen among the words, not regressed as those of a box are.

Shapes: N decoder layers, B examples, Q queries, T targets (padded), W words, P matched pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float

ENDS = ("start", "end")


class SpanGeometry:
    """Reads ``outputs["start_logits"]`` and ``outputs["end_logits"]``, each (N, B, Q, W), and
    ``targets.geometry["spans"]`` (B, T, 2) int64, the first and the last word (inclusive) of each target.
    """

    def __init__(self, *, pointer_weight: float = 1.0, pointer_cost: float = 2.0) -> None:
        self.weights: Mapping[str, float] = dict.fromkeys(ENDS, pointer_weight)
        self.pointer_cost = pointer_cost

    def cost(self, outputs: Mapping[str, Tensor], geometry: Mapping[str, Tensor]) -> Float[Tensor, "N B Q T"]:
        """- pointer_cost · (p(start) + p(end)), of every query with every target of its own example."""
        total: Tensor | float = 0.0
        for end, name in enumerate(ENDS):
            probability = outputs[f"{name}_logits"].float().softmax(-1)
            words = geometry["spans"][..., end].clamp(min=0)[None, :, None].expand(*probability.shape[:3], -1)
            total = total - self.pointer_cost * probability.gather(-1, words)
        return total  # type: ignore[return-value]

    def losses(self, predicted: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Float[Tensor, " P"]]:
        """-log p of the two ends of P matched pairs; logits (P, W), spans (P, 2)."""
        spans = target["spans"]
        return {
            name: F.cross_entropy(predicted[f"{name}_logits"].float(), spans[:, end], reduction="none")
            for end, name in enumerate(ENDS)
        }

    def quality(self, predicted: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> Float[Tensor, " P"]:
        """p(start) · p(end) of the target's ends."""
        losses = self.losses(predicted, target)
        return (-losses["start"] - losses["end"]).exp()
