"""Integrated gradients over the vectors at which a text enters the network.

Source: Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks" (arXiv 1703.01365), equation 1:

    attribution_i = (x_i - x'_i) · ∫₀¹ ∂F(x' + α (x - x')) / ∂x_i dα

x is what the embeddings give for the text, x' for the same windows with every word blanked ([PAD], no letter case;
[CLS], [SEP],
places and segments stay). The integral is taken by Gauss-Legendre quadrature. Completeness (proposition 1): the
attributions
sum to F(x) - F(x').

Shapes: n points of the path, W windows, L tokens, D width of the embeddings.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from polydetr.backbones.bert import BertEncoder
from polydetr.batch import Batch, TokenGroup
from polydetr.modalities.text import TextEmbedder
from polydetr.model import PolyModel

MAX_TOKENS = 4096
"""Tokens that go through the network together while gradients are kept: bounds memory."""

ValueAndGradient = Callable[[Tensor], tuple[Tensor, Tensor]]
"""(n, ...) points → (n,) values of F and (n, ...) their gradients."""


@dataclass(frozen=True)
class Attribution:
    """scores: x's shape without its last axis; value = F(x), baseline = F(x'); error = |Σ scores - (value -
    baseline)|.
    """

    scores: np.ndarray
    value: float
    baseline: float
    error: float
    steps: int

    @property
    def is_complete(self) -> bool:
        """The sum is right within 5 % of the difference, or within 0.005 of F's unit where nothing changed."""
        return self.error <= max(0.05 * abs(self.value - self.baseline), 0.005)


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
    found = Attribution(scores, high, low, abs(float(scores.sum()) - (high - low)), steps)
    if found.is_complete or 2 * steps > max_steps:
        return found
    return integrated_gradients(function, x, baseline, steps=2 * steps, at_once=at_once, max_steps=max_steps)


class TextPath:
    """A model as a function of the vectors at which its text enters; ``score`` makes one number of a target's outputs.

    Parameters are not touched, and other threads that use the same model see nothing of it.
    """

    def __init__(
        self,
        model: PolyModel,
        batch: Batch,
        *,
        target: str,
        score: Callable[[Mapping[str, Tensor]], Tensor],
        blank: Batch,
    ) -> None:
        self.model, self.batch, self.target, self.score = model, batch, target, score
        self.sites = entry_sites(model.embedders["text"])
        self.x = self._capture(batch)
        self.baseline = self._capture(blank)

    @property
    def at_once(self) -> int:
        """Points of the path that fit through the network together."""
        windows, length = self.x.shape[:2]
        return max(1, MAX_TOKENS // (windows * length))

    def value_and_gradient(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """(n, W, L, D) → (n,) and (n, W, L, D). Windows that do not fit together are read twice: once for F, once for
        its gradient.
        """
        count, windows = points.shape[:2]
        rows = points.flatten(0, 1).detach()
        window = torch.arange(windows, device=rows.device).repeat(count)
        pieces = torch.arange(len(rows), device=rows.device).split(max(1, MAX_TOKENS // rows.shape[1]))
        with torch.enable_grad():
            if len(pieces) == 1:
                rows.requires_grad_()
                value = self._score(self._outputs(rows, window), count)
                (gradient,) = torch.autograd.grad(value.sum(), rows)
                return value.detach(), gradient.view_as(points)
            with torch.no_grad():
                parts = [self._outputs(rows[piece], window[piece]) for piece in pieces]
            outputs = {name: torch.cat([part[name] for part in parts]).requires_grad_() for name in parts[0]}
            value = self._score(outputs, count)
            slopes = torch.autograd.grad(value.sum(), list(outputs.values()), allow_unused=True, materialize_grads=True)
            gradient = torch.zeros_like(rows)
            for piece in pieces:
                weights = [slope[piece] for slope in slopes]
                if any(
                    bool(weight.any()) for weight in weights
                ):  # a window that does not speak needs no second reading
                    part = rows[piece].requires_grad_()
                    outs = list(self._outputs(part, window[piece]).values())
                    (gradient[piece],) = torch.autograd.grad(outs, part, weights)
        return value.detach(), gradient.view_as(points)

    def _score(self, outputs: Mapping[str, Tensor], count: int) -> Tensor:
        return self.score({name: tensor.unflatten(0, (count, -1)) for name, tensor in outputs.items()})

    def _outputs(self, vectors: Tensor, window: Tensor) -> dict[str, Tensor]:
        with _replaced(self.sites, vectors):
            return self.model(_rows(self.batch, window))[self.target]

    def _capture(self, batch: Batch) -> Tensor:
        seen: list[Tensor] = []
        here = threading.get_ident()
        group = batch.groups["text"]

        def look(module: nn.Module, inputs: object, output: Tensor) -> None:
            if threading.get_ident() == here:
                seen.append(output.detach())

        handles = [site.register_forward_hook(look) for site in self.sites]
        try:
            with torch.no_grad():
                self.model.embedders["text"](group)
        finally:
            for handle in handles:
                handle.remove()
        return torch.stack(seen).sum(0)


def entry_sites(embedder: nn.Module) -> list[nn.Module]:
    """The modules whose outputs, added up, are what enters the network for a text: the first is where to put other
    vectors in.
    """
    assert isinstance(embedder, TextEmbedder)
    backbone = embedder.backbone
    if isinstance(backbone, BertEncoder):
        return [backbone.embeddings]
    words = backbone.model.get_input_embeddings()  # type: ignore[union-attr, operator]
    return [words] if embedder.shape_embedding is None else [words, embedder.shape_embedding]  # type: ignore[list-item]


@contextmanager
def _replaced(sites: list[nn.Module], vectors: Tensor) -> Iterator[None]:
    here = threading.get_ident()

    def put(number: int) -> Callable[[nn.Module, object, Tensor], Tensor]:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
            if threading.get_ident() != here:
                return output
            return vectors if number == 0 else torch.zeros_like(output)

        return hook

    handles = [site.register_forward_hook(put(i)) for i, site in enumerate(sites)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _rows(batch: Batch, index: Tensor) -> Batch:
    groups = {
        name: TokenGroup({k: v[index] for k, v in group.values.items()}, group.mask[index], group.positions[index])
        for name, group in batch.groups.items()
    }
    return Batch(groups, {}, tuple(index.tolist()), batch.weights[index])
