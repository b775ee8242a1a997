"""The set criterion: the loss of every query against the target it was matched with, in all decoder layers at once.

Sources: Carion et al. 2020, DETR (arXiv 2005.12872), equation 2 and the auxiliary losses of section 3.2; focal loss,
Lin et al. 2017 (arXiv 1708.02002); varifocal loss, Zhang et al. 2021 (arXiv 2008.13367); IoU-aware classification,
Cai et al. 2023, Align-DETR (arXiv 2304.07527).

    softmax    Σ w_y · -log p_y / Σ w_y       y: the label, or no-object (the last logit), whose weight is eos_coef
    the others Σ over queries and classes / number of targets, of the sigmoid p of each logit:
    focal      -α (1-p)^γ log p               where the query's label is this class;  -(1-α) p^γ log(1-p) elsewhere
    varifocal  -q (q log p + (1-q) log(1-p))  where it is, q the quality (IoU) of the box;  -α p^γ log(1-p) elsewhere
    iou_aware  -(t log p + (1-t) log(1-p))    where it is, t = max(p^α q^(1-α), 0.01);  -p^γ log(1-p) elsewhere

Shapes: N decoder layers, B examples, Q queries, T targets (padded), C logits, P matched pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from polydetr.errors import check_choice
from polydetr.nn.matcher import Matcher, Matches, SetTargets

if TYPE_CHECKING:
    from jaxtyping import Float

Classification = Literal["softmax", "focal", "varifocal", "iou_aware"]
_MOST_COSTS = 2**24
_ALPHA = {"focal": 0.25, "varifocal": 0.75, "iou_aware": 0.25}
_GAMMA = 2.0
_EOS_COEF = 0.1


class Geometry(Protocol):
    """What differs between tasks: how far a predicted place is from a target's. ``outputs`` are named tensors
    (N, B, Q, …), ``geometry`` (B, T, …).
    """

    @property
    def weights(self) -> Mapping[str, float]:
        """The weight in the loss of each term that ``losses`` names."""
        ...

    def cost(self, outputs: Mapping[str, Tensor], geometry: Mapping[str, Tensor]) -> Tensor:
        """(N, B, Q, T), weighted. Called without gradients."""
        ...

    def losses(self, predicted: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Named terms (P,) of P matched pairs; the tensors of both sides are (P, …)."""
        ...

    def quality(self, predicted: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> Tensor:
        """(P,) in [0, 1], 1 for a perfect prediction. Called by varifocal and iou_aware alone."""
        ...


@dataclass(frozen=True)
class SetLoss:
    """total: the weighted sum over terms and layers; terms: name → (N,), unweighted; matches: the pairs behind them."""

    total: Tensor
    terms: Mapping[str, Tensor]
    matches: Matches


class SetCriterion:
    """Matches, then sums the losses of all layers. Holds no parameters.

    classification: see the head of this file; softmax expects one more logit than classes, no-object last.
    α, γ and the weight of no-object are the published ones; the matcher is DETR's for softmax, and Deformable DETR's
    (class weight 2) for the others.
    Raises ConfigError for an unknown classification.
    """

    def __init__(self, geometry: Geometry, *, classification: Classification = "softmax") -> None:
        check_choice("classification", classification, get_args(Classification))
        self.geometry, self.classification = geometry, classification
        self.matcher = Matcher("softmax") if classification == "softmax" else Matcher("focal", class_weight=2.0)

    def __call__(self, outputs: Mapping[str, Tensor], targets: SetTargets) -> SetLoss:
        """``outputs["logits"]`` is (N, B, Q, C), beside what the geometry reads. Layers may be any stack of outputs:
        those of an encoder that proposes queries count as one. Sums are divided by the number of real targets in
        the batch (at least 1).
        """
        logits = outputs["logits"]
        with torch.no_grad():
            matches = self.matcher(logits, targets, self._geometry_cost(outputs, targets))
        count = targets.mask.sum().float().clamp(min=1)

        query = (matches.layer, matches.example, matches.query)
        predicted = {name: tensor[query] for name, tensor in outputs.items()}
        target = {name: tensor[matches.example, matches.target] for name, tensor in targets.geometry.items()}
        labels = targets.labels[matches.example, matches.target]
        terms = {"class": self._class_term(logits.float(), query, labels, predicted, target, count)}
        for name, term in self.geometry.losses(predicted, target).items():
            terms[name] = logits.new_zeros(len(logits), dtype=term.dtype).index_add(0, matches.layer, term) / count
        weights = {"class": 1.0, **self.geometry.weights}
        total = torch.stack([weights[name] * term.sum() for name, term in terms.items()]).sum()
        return SetLoss(total, terms, matches)

    def _geometry_cost(self, outputs: Mapping[str, Tensor], targets: SetTargets) -> Tensor:
        """All layers at once, or one by one where an image with thousands of targets would take gigabytes."""
        layers, batch, queries = outputs["logits"].shape[:3]
        if layers * batch * queries * targets.mask.shape[1] <= _MOST_COSTS:
            return self.geometry.cost(outputs, targets.geometry)
        apart = ({name: tensor[i : i + 1] for name, tensor in outputs.items()} for i in range(layers))
        return torch.cat([self.geometry.cost(layer, targets.geometry) for layer in apart])

    def _class_term(
        self,
        logits: Tensor,
        query: tuple[Tensor, Tensor, Tensor],
        labels: Tensor,
        predicted: Mapping[str, Tensor],
        target: Mapping[str, Tensor],
        count: Tensor,
    ) -> Float[Tensor, " N"]:
        if self.classification == "softmax":
            return softmax_loss(logits, query, labels)
        hit, alpha = (*query, labels), _ALPHA[self.classification]
        if self.classification == "focal":
            entries = focal_loss(logits, hit, alpha=alpha)
        else:
            with torch.no_grad():
                quality = self.geometry.quality(predicted, target).to(logits.dtype)
            loss = varifocal_loss if self.classification == "varifocal" else iou_aware_loss
            entries = loss(logits, hit, quality, alpha=alpha)
        return entries.flatten(1).sum(1) / count


def softmax_loss(
    logits: Float[Tensor, "N B Q C"], query: tuple[Tensor, Tensor, Tensor], labels: Tensor
) -> Float[Tensor, " N"]:
    """Weighted cross-entropy, the weighted mean of each layer; unmatched queries are labelled no-object, the last."""
    nothing = logits.shape[-1] - 1
    classes = torch.full(logits.shape[:-1], nothing, dtype=torch.int64, device=logits.device)
    classes[query] = labels
    weights = torch.where(classes == nothing, _EOS_COEF, 1.0)
    surprise = F.cross_entropy(logits.flatten(0, 2), classes.flatten(), reduction="none").view_as(classes)
    # A weight of 0 for no-object and nothing matched leaves 0/0: that layer has nothing to learn.
    smallest = torch.finfo(logits.dtype).tiny
    return (surprise * weights).flatten(1).sum(1) / weights.flatten(1).sum(1).clamp(min=smallest)


def focal_loss(logits: Float[Tensor, "N B Q C"], hit: tuple[Tensor, ...], *, alpha: float) -> Float[Tensor, "N B Q C"]:
    """hit: layer, example, query, class of each positive entry."""
    entries = (1 - alpha) * logits.sigmoid() ** _GAMMA * F.softplus(logits)
    chosen = logits[hit]
    return entries.index_put(hit, alpha * (-chosen).sigmoid() ** _GAMMA * F.softplus(-chosen))


def varifocal_loss(
    logits: Float[Tensor, "N B Q C"], hit: tuple[Tensor, ...], quality: Tensor, *, alpha: float
) -> Float[Tensor, "N B Q C"]:
    """The weights are constants, as in RT-DETR's use of it: only the cross-entropies have gradients."""
    entries = alpha * logits.detach().sigmoid() ** _GAMMA * F.softplus(logits)
    return entries.index_put(hit, quality * _cross_entropy(logits[hit], quality))


def iou_aware_loss(
    logits: Float[Tensor, "N B Q C"], hit: tuple[Tensor, ...], quality: Tensor, *, alpha: float
) -> Float[Tensor, "N B Q C"]:
    """The target t is a constant; the weight of the negatives is not, as in LW-DETR's use of it."""
    chosen = logits[hit]
    target = (chosen.detach().sigmoid() ** alpha * quality ** (1 - alpha)).clamp(min=0.01)
    entries = logits.sigmoid() ** _GAMMA * F.softplus(logits)
    return entries.index_put(hit, _cross_entropy(chosen, target))


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none")
