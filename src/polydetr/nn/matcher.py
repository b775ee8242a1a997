"""Which query is responsible for which target: the cheapest one-to-one assignment, for any geometry.

Source: Carion et al. 2020, DETR (arXiv 2005.12872), equation 1; class costs of DETR and of Deformable DETR
(arXiv 2010.04159). The assignment is SciPy's (Crouse 2016), one small problem for each layer and example.

Costs are computed for all decoder layers at once and for each example apart, padded to the most targets of the batch:
nothing is computed between one image's queries and another's targets. The costs travel to the host in one copy.

Shapes: N decoder layers, B examples, Q queries, T targets (padded), C classes, P matched pairs of the whole batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from polydetr.errors import InputError, check_choice

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int64

ClassCost = Literal["softmax", "focal"]
_ALPHA, _GAMMA = 0.25, 2.0
"""Of the focal cost, as Deformable DETR has them."""


@dataclass(frozen=True)
class SetTargets:
    """The targets of B examples, padded. labels: (B, T) int64; mask: (B, T) bool, True = real;
    geometry: named tensors (B, T, …), whose padded entries are never read.
    """

    labels: Tensor
    mask: Tensor
    geometry: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.mask.dtype != torch.bool or self.mask.shape != self.labels.shape or self.labels.dim() != 2:
            raise InputError(
                f"labels {tuple(self.labels.shape)} and mask {self.mask.dtype} {tuple(self.mask.shape)} do not fit.",
                hint="Both are (B, T), the mask bool with True = real.",
            )
        for name, tensor in self.geometry.items():
            if tensor.shape[:2] != self.labels.shape:
                shape, expected = tuple(tensor.shape), tuple(self.labels.shape)
                raise InputError(f"geometry[{name!r}] {shape} does not begin with (B, T) = {expected}.")


@dataclass(frozen=True)
class Matches:
    """P pairs, as indices: layer, example, query, target, each (P,) int64, sorted by layer, example, query."""

    layer: Tensor
    example: Tensor
    query: Tensor
    target: Tensor


class Matcher:
    """class_weight · class cost + the geometry's own cost, assigned at the lowest sum.

    class_cost: "softmax", minus the probability of the label, with the no-object class last among the logits; or
        "focal", the difference of the two focal terms of the label's sigmoid.
    Raises ConfigError for an unknown class cost.
    """

    def __init__(self, class_cost: ClassCost = "softmax", *, class_weight: float = 1.0) -> None:
        check_choice("class_cost", class_cost, get_args(ClassCost))
        self.class_cost, self.class_weight = class_cost, class_weight

    @torch.no_grad()
    def __call__(
        self, logits: Float[Tensor, "N B Q C"], targets: SetTargets, geometry_cost: Float[Tensor, "N B Q T"] | None
    ) -> Matches:
        """geometry_cost: already weighted; what stands at padded targets is ignored. Raises InputError for a label
        that has no logit.
        """
        check_labels(targets, logits.shape[-1] - (self.class_cost == "softmax"))
        cost = self._of_class(logits, targets.labels)
        if geometry_cost is not None:
            cost += geometry_cost
        return assign(cost, targets.mask)

    def _of_class(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(N, B, Q, C), (B, T) → (N, B, Q, T), weighted."""
        logits = logits.float()
        # Padded labels may be any number: they are clamped to a class, and their cost is ignored.
        columns = labels.clamp(0, logits.shape[-1] - 1)[None, :, None, :].expand(*logits.shape[:3], -1)
        if self.class_cost == "softmax":
            return logits.softmax(-1).mul_(-self.class_weight).gather(-1, columns)
        chosen = logits.gather(-1, columns)
        probability = chosen.sigmoid()
        positive = _ALPHA * (1 - probability) ** _GAMMA * -(probability + 1e-8).log()
        negative = (1 - _ALPHA) * probability**_GAMMA * -(1 - probability + 1e-8).log()
        return self.class_weight * (positive - negative)


def assign(cost: Float[Tensor, "N B Q T"], mask: Bool[Tensor, "B T"]) -> Matches:
    """The cheapest assignment in each layer of each example; min(Q, real targets) pairs each.

    A cost that is NaN or infinite counts as larger than any sum of the finite ones: such a pair is taken only where
    nothing else is left.
    """
    cost = cost.detach() if cost.dtype == torch.float64 else cost.detach().float()  # NumPy has no bfloat16
    host, real = cost.cpu().numpy(), mask.cpu().numpy()
    finite = np.isfinite(host)
    if not finite.all():
        # Not the largest float: beside it, the differences between the finite costs would be rounded away.
        largest = float(np.abs(host[finite]).max(initial=0.0))
        host = np.where(finite, host, (2.0 * largest + 1.0) * (min(host.shape[2:]) + 1))
    columns = [np.flatnonzero(row) for row in real]
    pairs: list[np.ndarray] = []
    for layer in range(len(host)):
        for example, real_columns in enumerate(columns):
            count = len(real_columns)
            if not count:
                continue
            # Targets are padded at the end as a rule: a view will do.
            problem = host[layer, example]
            problem = problem[:, :count] if real_columns[-1] == count - 1 else problem[:, real_columns]
            query, target = linear_sum_assignment(problem)
            index = np.empty((4, len(query)), dtype=np.int64)
            index[0], index[1], index[2], index[3] = layer, example, query, real_columns[target]
            pairs.append(index)
    joined = np.concatenate([*pairs, np.empty((4, 0), dtype=np.int64)], axis=1)
    return Matches(*torch.from_numpy(joined).to(cost.device).unbind(0))


def check_labels(targets: SetTargets, num_classes: int) -> None:
    """Raises InputError for a real label outside 0 … num_classes - 1."""
    real: Int64[Tensor, " P"] = targets.labels[targets.mask]
    if len(real):
        low, high = (int(end) for end in real.aminmax())
        if low < 0 or high >= num_classes:
            raise InputError(
                f"label {low if low < 0 else high} has no logit: there are {num_classes} classes, counted from 0.",
                hint="Build the head with as many classes as the data have.",
            )
