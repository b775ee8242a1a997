"""Integrated gradients over the vectors at which a row enters the network, along one path for all its modalities.

Source: Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks" (arXiv 1703.01365), equation 1:

    attribution_i = (x_i - x'_i) · ∫₀¹ ∂F(x' + α (x - x')) / ∂x_i dα

x is what the row's values are where they enter (``embedders.entry``), x' what the same row is there with all blanked:
words [PAD] without letter case ([CLS], [SEP], places and segments stay), images of one color, cells missing,
items empty. The integral is taken by Gauss-Legendre quadrature. Completeness (proposition 1): the attributions of all
modalities together sum to F(x) - F(x').

Shapes: n points of the path, W windows, K numbers that one window of the row consists of, in all modalities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack

import numpy as np
import torch
from torch import Tensor

from polydetr.embedders.entry import Entry
from polydetr.explain.attribution import Attribution
from polydetr.model.model import PolyModel
from polydetr.nn.batch import Batch, TokenGroup

MAX_TOKENS = 4096
"""Tokens that go through the network together while gradients are kept: bounds memory."""
PIXELS_PER_TOKEN = 64
"""So many pixels take about as much memory as one token of text."""

ValueAndGradient = Callable[[Tensor], tuple[Tensor, Tensor]]
"""(n, ...) points → (n,) values of F and (n, ...) their gradients."""


def integrated_gradients(
    function: ValueAndGradient, x: Tensor, baseline: Tensor, *, steps: int = 16, at_once: int = 8, max_steps: int = 128
) -> Attribution:
    """x and baseline: (..., D). Starts with ``steps`` points and doubles them until the result is complete or
    ``max_steps`` reached.
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    alphas = torch.tensor([0.0, 1.0, *((nodes + 1) / 2)], dtype=x.dtype, device=x.device)
    shares = torch.tensor([0.0, 0.0, *(weights / 2)], dtype=x.dtype, device=x.device)
    change = x - baseline
    mean, values = torch.zeros_like(x), []
    for start in range(0, len(alphas), at_once):
        part = alphas[start : start + at_once].view(-1, *[1] * x.dim())
        value, gradient = function(baseline + part * change)
        values.append(value.detach())
        mean += (shares[start : start + at_once].view(part.shape) * gradient).sum(0)
    scores = (change * mean).sum(-1).double().cpu().numpy()
    low, high = (float(v) for v in torch.cat(values)[:2])
    attribution = Attribution(scores, high, low, abs(float(scores.sum()) - (high - low)))
    if attribution.is_complete or 2 * steps > max_steps:
        return attribution
    return integrated_gradients(function, x, baseline, steps=2 * steps, at_once=at_once, max_steps=max_steps)


class JointPath:
    """A model as a function of the vectors at which a row enters; ``score`` makes one number of a target's outputs.

    entries: the groups that change along the path; all others stay as they are in ``batch``. ``blank`` is the batch
    of the path's beginning. Parameters are not touched, and other threads that use the model see nothing of it.
    """

    def __init__(
        self,
        model: PolyModel,
        batch: Batch,
        *,
        blank: Batch,
        entries: Mapping[str, Entry],
        target: str,
        score: Callable[[Mapping[str, Tensor]], Tensor],
    ) -> None:
        self.model, self.batch, self.entries, self.target, self.score = model, batch, entries, target, score
        ends = [{name: e.capture(b.groups[name]) for name, e in entries.items()} for b in (batch, blank)]
        self.sizes = {name: vectors.shape[1] for name, vectors in ends[0].items()}
        self.x, self.baseline = (torch.cat(list(end.values()), dim=1)[..., None] for end in ends)  # (W, K, 1)
        self.tokens = sum(_tokens(group) for group in batch.groups.values())

    @property
    def at_once(self) -> int:
        """Points of the path that fit through the network together."""
        return max(1, MAX_TOKENS // (len(self.x) * self.tokens))

    def by_group(self, scores: np.ndarray) -> dict[str, np.ndarray]:
        """Scores (W, K) → each group's own part."""
        ends = np.cumsum(list(self.sizes.values()))[:-1]
        return dict(zip(self.sizes, np.split(scores, ends, axis=1), strict=True))

    def value_and_gradient(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """(n, W, K, 1) → (n,) and (n, W, K, 1). Windows that do not fit together are read twice: once for F, once for
        its gradient.
        """
        count, windows = points.shape[:2]
        rows = points.flatten(0, 1).detach()
        window = torch.arange(windows, device=rows.device).repeat(count)
        chunks = torch.arange(len(rows), device=rows.device).split(max(1, MAX_TOKENS // self.tokens))
        with torch.enable_grad():
            if len(chunks) == 1:
                rows.requires_grad_()
                value = self._score(self._outputs(rows, window), count)
                (gradient,) = torch.autograd.grad(value.sum(), rows)
                return value.detach(), gradient.view_as(points)
            with torch.no_grad():
                parts = [self._outputs(rows[chunk], window[chunk]) for chunk in chunks]
            outputs = {name: torch.cat([part[name] for part in parts]).requires_grad_() for name in parts[0]}
            value = self._score(outputs, count)
            slopes = torch.autograd.grad(value.sum(), list(outputs.values()), allow_unused=True, materialize_grads=True)
            gradient = torch.zeros_like(rows)
            for chunk in chunks:
                weights = [slope[chunk] for slope in slopes]
                if any(bool(weight.any()) for weight in weights):  # one that does not speak needs no second reading
                    part = rows[chunk].requires_grad_()
                    outs = list(self._outputs(part, window[chunk]).values())
                    (gradient[chunk],) = torch.autograd.grad(outs, part, weights)
        return value.detach(), gradient.view_as(points)

    def _score(self, outputs: Mapping[str, Tensor], count: int) -> Tensor:
        return self.score({name: tensor.unflatten(0, (count, -1)) for name, tensor in outputs.items()})

    def _outputs(self, rows: Tensor, window: Tensor) -> dict[str, Tensor]:
        batch = _rows(self.batch, window)
        with ExitStack() as replaced:
            vectors = rows[..., 0].split(list(self.sizes.values()), dim=1)
            for (name, entry), own in zip(self.entries.items(), vectors, strict=True):
                replaced.enter_context(entry.replaced(batch.groups[name], own))
            return self.model(batch, [self.target])[self.target]


def _tokens(group: TokenGroup) -> int:
    """What one row of this group costs: its entries, the words of its items, or the room that its pixels take."""
    whole = [value for value in group.values.values() if not value.is_floating_point()]
    sizes = [v[0, 0].numel() // (3 * PIXELS_PER_TOKEN if v.dtype == torch.uint8 else 1) for v in whole]
    return group.mask.shape[1] * max([1, *sizes])


def _rows(batch: Batch, index: Tensor) -> Batch:
    groups = {
        name: TokenGroup({k: v[index] for k, v in group.values.items()}, group.mask[index], group.positions[index])
        for name, group in batch.groups.items()
    }
    return Batch(groups, {}, tuple(index.tolist()), batch.weights[index])
