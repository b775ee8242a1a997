"""A copy of a DETR laid out for prediction on a CPU: norms folded, channels last, bfloat16 where the CPU has it; on
request the backbone in 8-bit integers.

Naive autocast gains nothing: it converts at every layer, and the frozen norms and ReLUs still pass over the maps one by
one. Figures: ``benchmarks/detr_speed.py``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from polydetr.backbones.resnet import ResNet, fold_batch_norm
from polydetr.backbones.resnet_int8 import Int8ResNet
from polydetr.errors import ConfigError
from polydetr.nn.cpu.linear import ONEDNN_BF16, pack
from polydetr.nn.detr import Detr


class DetrPredictor(nn.Module):
    """pixels (B, 3, H, W) float32, mask (B, H, W) → ``logits`` (B, Q, C + 1) and ``boxes_cxcywh`` (B, Q, 4), float32,
    of the last layer.
    """

    def __init__(self, model: Detr, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype

    @torch.inference_mode()
    def forward(self, pixels: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        laid_out = pixels.to(self.dtype, memory_format=torch.channels_last)
        return {name: tensor[0].float() for name, tensor in self.model(laid_out, mask, last_only=True).items()}


@torch.inference_mode(False)  # what is made in inference mode has no version counter, which packing needs
def prepare_for_prediction(
    model: Detr, *, bf16: bool | None = None, int8_samples: Iterable[Tensor] | None = None
) -> DetrPredictor:
    """The model itself is left alone.

    bf16: None takes it where the CPU has the instructions; False keeps float32.
    int8_samples: pictures (B, 3, H, W), normalised, such as the model will see, a dozen or more: with them the backbone
        computes in 8-bit integers, which on a CPU without matrix units (AMX) takes half the time of bfloat16 and moves
        the answers more (``resnet_int8``).

    Raises ConfigError where 8-bit integers are asked for and the CPU or the backbone does not fit, or no picture is
    given.
    """
    ready = copy.deepcopy(model).eval().requires_grad_(False)
    fold_batch_norm(ready)
    if int8_samples is not None:
        if not isinstance(ready.backbone, ResNet):
            raise ConfigError(f"a {type(ready.backbone).__name__} has no 8-bit form, expected a ResNet.",
                              hint="Leave int8_samples out.")  # fmt: skip
        ready.backbone = Int8ResNet(ready.backbone, int8_samples)
    dtype = torch.bfloat16 if (ONEDNN_BF16 if bf16 is None else bf16) else torch.float32
    ready = ready.to(dtype).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    pack(ready)
    return DetrPredictor(ready, dtype)
