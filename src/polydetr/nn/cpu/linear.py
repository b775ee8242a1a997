"""``nn.Linear`` where stock PyTorch is slow on a CPU, done with the faster parts of the same library.

- In bfloat16 ``F.linear`` first copies the bias over the whole output; oneDNN's inner product adds it on the way out.
- A weight laid out once for prediction (``Linear.pack``) saves laying it out at every call, which for one row can
  take longer than the product itself. In 8-bit integers batches are multiplied faster again (``nn.int8``).

Everything else (other devices, autocast, tracing) goes through PyTorch's own function.
"""

from __future__ import annotations

import platform
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from polydetr.nn.cpu.int8 import Int8Weight, computes_int8, linear_int8, pack_int8

_ONEDNN = torch.backends.mkldnn.is_available() and platform.machine().lower() in ("x86_64", "amd64")
"""Whether it lays float32 weights out here: elsewhere other libraries multiply."""
ONEDNN_BF16 = torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
"""Whether oneDNN multiplies bfloat16 on this CPU."""


def is_capturing() -> bool:
    """True while a graph is being recorded (compile, export, trace): a branch on data would be frozen into it."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]


def computes_fast_bf16(x: Tensor) -> bool:
    """Whether ``x`` is bfloat16 where oneDNN multiplies it, in a place where PyTorch's own functions need
    not be the ones that run.
    """
    return x.dtype == torch.bfloat16 and ONEDNN_BF16 and is_eager_on_cpu(x)


def is_eager_on_cpu(x: Tensor) -> bool:
    """Neither another device, nor autocast, nor a graph being recorded."""
    return x.device.type == "cpu" and not torch.is_autocast_enabled("cpu") and not is_capturing()


def _inner_product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _Linear(torch.autograd.Function):
    """y = x Wᵀ + b; x (N, I), weight (O, I), bias (O) -> (N, O)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _inner_product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad,) = grads
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        return (
            grad @ weight if wants_x else None,
            grad.t() @ x if wants_weight else None,
            grad.sum(0) if wants_bias else None,
        )


class Packed(nn.Module):
    """A layer that keeps its weights in a second layout, ``_packed``, for prediction: where no gradient is needed.

    It is forgotten by ``train()`` and by a new state, device or dtype, and never copied.
    """

    _packed: Any = None

    def pack(self) -> None:
        """Lays the weights out for prediction."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> Self:
        if mode:
            self._packed = None
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self._packed = None
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_packed"}


class Linear(Packed, nn.Linear):
    """``nn.Linear`` (with bias) in every respect but speed. (..., I) -> (..., O)."""

    int8 = False
    """Whether ``pack`` rounds a float32 weight to 8 bits (``nn.int8``)."""
    overwrite = False
    """Whether prediction may write over the input, which nothing else reads."""
    _packed: tuple[Tensor | Int8Weight, int] | None = None

    def pack(self) -> None:
        """Lays out a second copy of the weight as the product reads it fastest.

        It is forgotten by ``train()``, by a new state or dtype, and when the weight is changed in place. Only writing
        through ``weight.data`` goes unnoticed.
        """
        weight = self.weight.detach()
        packs = {torch.float32: _ONEDNN, torch.bfloat16: ONEDNN_BF16}.get(weight.dtype, False)
        if weight.device.type != "cpu" or not packs or not weight.numel():
            return
        with torch.no_grad():
            if weight.dtype == torch.float32 and self.int8 and computes_int8():
                packed = pack_int8(weight)
            else:
                packed = torch.ops.mkldnn._reorder_linear_weight(weight)
        self._packed = (packed, self.weight._version)

    def forward(self, input: Tensor) -> Tensor:
        if self._packed is not None and not torch.is_grad_enabled() and is_eager_on_cpu(input):
            packed, version = self._packed
            if version == self.weight._version and input.dtype == self.weight.dtype and input.numel():
                if isinstance(packed, Tensor):
                    return _inner_product(input, packed, self.bias)
                rows = linear_int8(input.reshape(-1, self.in_features), packed, self.bias, overwrite=self.overwrite)
                return rows.view(*input.shape[:-1], self.out_features)
        if self.weight.dtype != torch.bfloat16 or not input.numel() or not computes_fast_bf16(input):
            return F.linear(input, self.weight, self.bias)
        out: Tensor = _Linear.apply(input.reshape(-1, self.in_features), self.weight, self.bias)  # type: ignore[assignment]
        return out.view(*input.shape[:-1], self.out_features)


def pack(module: nn.Module) -> None:
    """Lays out for prediction the weights of all ``Packed`` layers in ``module``."""
    for part in module.modules():
        if isinstance(part, Packed):
            part.pack()
