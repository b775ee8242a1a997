"""AdamW with float32 master weights, so that a model may compute in bfloat16 and still learn in float32.

Source: Loshchilov & Hutter 2019, arXiv 1711.05101 (decoupled weight decay). A bfloat16 weight has 8 bits: a step of
lr = 1e-4 would mostly round to nothing, so the step is taken on a float32 copy, which is then rounded into the weight.
"""

# torch._foreach_* have no public names:
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from polydetr.errors import ConfigError, ModelFolderError

_LAYER = re.compile(r"(?:^|\.)backbone\.layers\.(\d+)\.")
_FITTED = re.compile(r"(?:^|\.)(?:sums|means)\.")
_EMBEDDINGS = re.compile(r"(?:^|\.)backbone\.embeddings\.")
_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8


def learning_rate_factor(progress: float, *, warmup: float, schedule: Literal["linear", "cosine", "constant"]) -> float:
    """Linear warm-up (Goyal et al. 2017, arXiv 1706.02677), then decay to zero; multiplies the peak learning rate.

    progress: fraction of the steps done, or of the time where a limit ends the run first. warmup: its fraction.
    """
    progress = min(max(progress, 0.0), 1.0)
    if progress < warmup:
        return progress / warmup
    left = (1.0 - progress) / max(1e-9, 1.0 - warmup)
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * (1.0 - left)))
    return left


def num_layers(model: nn.Module) -> int:
    """Layers of its deepest backbone that are numbered, as those of text encoders are; 0 where there is none."""
    layers = [_LAYER.search(name) for name, _ in model.named_parameters()]
    return 1 + max((int(match[1]) for match in layers if match), default=-1)


def parameter_groups(
    model: nn.Module,
    *,
    lr: float,
    head_lr: float | None = None,
    fitted_lr: float | None = None,
    layer_decay: float = 1.0,
    weight_decay: float = 0.01,
    freeze_embeddings: bool = False,
    freeze_layers: int = 0,
) -> list[dict[str, Any]]:
    """Groups for ``MasterAdamW``; frozen parameters get ``requires_grad = False`` and no group.

    Parameters named ``...backbone.layers.N...`` learn at ``lr`` · ``layer_decay``^(layers above N),
    ``...backbone.embeddings...`` below all of them, ``sums...`` and ``means...``, which were fitted before, at
    ``fitted_lr``, and everything else at ``head_lr`` (default of both: ``lr``).
    Matrices decay; norms, biases and embedding tables do not.
    Raises ConfigError when nothing is left to train.
    """
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    layers_in_all = num_layers(model)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        layer = _LAYER.search(name)
        embedding = _EMBEDDINGS.search(name) is not None
        if (embedding and freeze_embeddings) or (layer and int(layer[1]) < freeze_layers):
            parameter.requires_grad_(False)
        if not parameter.requires_grad:
            continue
        above = layers_in_all - 1 - int(layer[1]) if layer else layers_in_all
        own = fitted_lr if _FITTED.search(name) else head_lr
        rate = lr * layer_decay**above if layer or embedding else (lr if own is None else own)
        decay = weight_decay if parameter.dim() > 1 and id(parameter) not in tables and not embedding else 0.0
        group = groups.setdefault(
            (rate, decay), {"params": [], "names": [], "lr": rate, "weight_decay": decay, "initial_lr": rate}
        )
        group["params"].append(parameter)
        group["names"].append(name)
    if not groups:
        raise ConfigError(
            f"nothing is left to train with freeze_embeddings={freeze_embeddings}, freeze_layers={freeze_layers}.",
            hint=f"The backbone has {layers_in_all} layers; freeze fewer.",
        )
    return list(groups.values())


class MasterAdamW:
    """AdamW over named groups (see ``parameter_groups``).

    - Parameters below float32 keep a float32 master here; float32 ones behave exactly as in ``torch.optim.AdamW``.
    - ``clip_norm``: gradients are scaled to this global norm inside the update; a step whose norm is not finite is
      left out.
    - ``ema_decay``: a running mean of the weights, warmed up as min(decay, (1 + t) / (10 + t)); ``averaged()`` swaps
      it in.

    It is no ``torch.optim.Optimizer``, whose ``load_state_dict`` would round the masters to the parameters' dtype.
    """

    def __init__(
        self, groups: Sequence[dict[str, Any]], *, clip_norm: float = 1.0, ema_decay: float | None = None
    ) -> None:
        self.param_groups = list(groups)
        self.clip_norm, self.ema_decay = clip_norm, ema_decay
        self.state: dict[Tensor, dict[str, Tensor]] = {}
        self._ema_steps = torch.zeros(())
        for _, parameter in self._named():
            self.state[parameter] = state = {
                "step": torch.zeros((), dtype=torch.float32),
                "exp_avg": torch.zeros_like(parameter, dtype=torch.float32),
                "exp_avg_sq": torch.zeros_like(parameter, dtype=torch.float32),
            }
            if parameter.dtype != torch.float32:
                state["master"] = parameter.detach().float()
            if ema_decay is not None:
                state["ema"] = parameter.detach().float().clone()

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        for group in self.param_groups:
            yield from zip(group["names"], group["params"], strict=True)

    def _master(self, parameter: Tensor) -> Tensor:
        return self.state[parameter].get("master", parameter)

    def zero_grad(self) -> None:
        for _, parameter in self._named():
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One update of the parameters that have gradients."""
        grads = {p: p.grad.float() for _, p in self._named() if p.grad is not None}
        if grads:
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(grads.values()))))
            if not torch.isfinite(norm):
                return
            # What gradients are divided by: max(1, norm / clip).
            scale = torch.maximum(torch.ones_like(norm), (norm + 1e-6) / self.clip_norm)
            for group in self.param_groups:
                self._update(group, {p: grads[p] for p in group["params"] if p in grads}, scale)
        if self.ema_decay is not None:
            self._update_ema(self.ema_decay)

    def _update(self, group: dict[str, Any], grads: dict[Tensor, Tensor], scale: Tensor) -> None:
        if not grads:
            return
        parameters = list(grads)
        states = [self.state[p] for p in parameters]
        masters = [self._master(p) for p in parameters]
        adamw(
            masters,
            list(grads.values()),
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            grad_scale=scale,
            amsgrad=False,
            beta1=_BETA1,
            beta2=_BETA2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=_EPS,
            maximize=False,
        )
        rounded = [(p, m) for p, m in zip(parameters, masters, strict=True) if p is not m]
        if rounded:
            torch._foreach_copy_([p for p, _ in rounded], [m for _, m in rounded])

    def _update_ema(self, decay: float) -> None:
        self._ema_steps += 1
        steps = float(self._ema_steps)
        parameters = [p for _, p in self._named()]
        keep = min(decay, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(
            [self.state[p]["ema"] for p in parameters], [self._master(p) for p in parameters], 1 - keep
        )

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the parameters hold their running mean (without ``ema_decay``: themselves); restored to the bit."""
        if self.ema_decay is None:
            yield
            return
        parameters = [p for _, p in self._named()]
        with torch.no_grad():
            before = [p.detach().clone() for p in parameters]
            torch._foreach_copy_(parameters, [self.state[p]["ema"] for p in parameters])
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(parameters, before)

    def learned(self) -> dict[str, Tensor]:
        """Every parameter by name, in float32: the running mean where that is on, or else the master."""
        return {name: self.state[p].get("ema", self._master(p)) for name, p in self._named()}

    def state_tensors(self) -> dict[str, Tensor]:
        """All state as named tensors (``exp_avg/NAME`` ...), fit for safetensors; rates belong to the schedule."""
        tensors = {f"{kind}/{name}": t for name, p in self._named() for kind, t in self.state[p].items()}
        if self.ema_decay is not None:
            tensors["ema_steps/"] = self._ema_steps
        return tensors

    @torch.no_grad()
    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse; also sets every parameter that has a master. Raises ModelFolderError when it does not fit."""
        mine = self.state_tensors()
        faults = sorted(mine.keys() ^ tensors.keys())
        faults += [name for name in mine.keys() & tensors.keys() if mine[name].shape != tensors[name].shape]
        if faults:
            raise ModelFolderError(
                f"the saved optimizer state does not fit: {len(faults)} tensors differ, {faults[0]!r} first.",
                hint="Resume with the settings the run was started with, or start a new run.",
            )
        for name, tensor in mine.items():
            tensor.copy_(tensors[name])
        for _, parameter in self._named():
            if "master" in self.state[parameter]:
                parameter.copy_(self.state[parameter]["master"])
