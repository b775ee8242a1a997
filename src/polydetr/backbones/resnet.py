"""ResNet-18/34/50/101 with frozen batch-norm, in plain PyTorch; parameters are named as torchvision names them.

Source: He et al. 2015 (arXiv 1512.03385); the stride of a bottleneck sits in its 3×3 convolution, as in torchvision.
Batch-norm is frozen (fixed statistics, fixed gain and bias) because detectors train on batches too small for it.

Shapes: B pictures, (B, 3, H, W) in, the four stages out at strides 4, 8, 16 and 32 (16 twice with ``dilated``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polydetr.errors import BackboneError, did_you_mean
from polydetr.nn.cpu.convolution import can_fuse, convolve, convolve_add_relu

if TYPE_CHECKING:
    from jaxtyping import Float

BLOCKS: dict[str, tuple[bool, tuple[int, int, int, int]]] = {
    "resnet18": (False, (2, 2, 2, 2)),
    "resnet34": (False, (3, 4, 6, 3)),
    "resnet50": (True, (3, 4, 6, 3)),
    "resnet101": (True, (3, 4, 23, 3)),
}
"""name → (bottleneck blocks, blocks in each stage)."""


class FrozenBatchNorm2d(nn.Module):
    """y = (x - mean) / √(variance + ε) · weight + bias, all four of them buffers: nothing here is trained."""

    eps = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        mean, variance = self.get_buffer("running_mean"), self.get_buffer("running_var")
        return F.batch_norm(x, mean, variance, self.get_buffer("weight"), self.get_buffer("bias"), eps=self.eps)

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """y = x · scale + shift, each (C,)."""
        scale = self.get_buffer("weight") * (self.get_buffer("running_var") + self.eps).rsqrt()
        return scale, self.get_buffer("bias") - self.get_buffer("running_mean") * scale


class Block(nn.Module):
    """Basic (3×3, 3×3) or bottleneck (1×1, 3×3, 1×1) residual block: relu(shortcut(x) + convolutions(x))."""

    def __init__(self, inputs: int, outputs: int, *, bottleneck: bool, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        middle = outputs // 4 if bottleneck else outputs
        wide = {"kernel_size": 3, "padding": dilation, "dilation": dilation, "bias": False}
        if bottleneck:
            self.conv1 = nn.Conv2d(inputs, middle, 1, bias=False)
            self.conv2 = nn.Conv2d(middle, middle, stride=stride, **wide)
            self.conv3 = nn.Conv2d(middle, outputs, 1, bias=False)
            self.bn3 = FrozenBatchNorm2d(outputs)
        else:
            self.conv1 = nn.Conv2d(inputs, middle, stride=stride, **wide)
            self.conv2 = nn.Conv2d(middle, outputs, 3, padding=1, bias=False)
        self.bn1, self.bn2 = FrozenBatchNorm2d(middle), FrozenBatchNorm2d(middle)
        self.bottleneck = bottleneck
        self.downsample = None
        if stride != 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, FrozenBatchNorm2d(outputs))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B O h w"]:
        if isinstance(self.bn1, nn.Identity) and can_fuse(x):
            return self._fused(x)
        inner = self.bn2(self.conv2(F.relu_(self.bn1(self.conv1(x)))))
        if self.bottleneck:
            inner = self.bn3(self.conv3(F.relu_(inner)))
        return F.relu_(inner + (x if self.downsample is None else self.downsample(x)))

    def _fused(self, x: Tensor) -> Tensor:
        """The same once the norms are folded into the convolutions."""
        shortcut = x if self.downsample is None else self.downsample(x)
        inner = convolve(x, self.conv1, relu=True)
        if not self.bottleneck:
            return convolve_add_relu(inner, self.conv2, shortcut)
        return convolve_add_relu(convolve(inner, self.conv2, relu=True), self.conv3, shortcut)


class ResNet(nn.Module):
    """The four stages' maps, finest first; ``out_channels`` says how deep each is.

    Raises BackboneError for another number of stages than four, or sizes below 1.
    """

    def __init__(
        self,
        depths: tuple[int, ...] = (3, 4, 6, 3),
        *,
        bottleneck: bool = True,
        stem: int = 64,
        widths: tuple[int, ...] = (256, 512, 1024, 2048),
        dilated: bool = False,
    ) -> None:
        super().__init__()
        if len(depths) != 4 or len(widths) != 4 or min(*depths, *widths, stem) < 1:
            raise BackboneError(f"depths={depths} and widths={widths} must be four positive numbers each.")
        self.depths, self.bottleneck, self.stem, self.out_channels = tuple(depths), bottleneck, stem, tuple(widths)
        self.dilated = dilated
        self.conv1 = nn.Conv2d(3, stem, 7, stride=2, padding=3, bias=False)
        self.bn1 = FrozenBatchNorm2d(stem)
        inputs = stem
        for number, (depth, width) in enumerate(zip(depths, widths, strict=True), start=1):
            widened = dilated and number == 4
            stride = 1 if number == 1 or widened else 2
            # The first block of a widened stage still reads a map as fine as the stage before made it.
            blocks = [Block(inputs, width, bottleneck=bottleneck, stride=stride)]
            blocks += [Block(width, width, bottleneck=bottleneck, dilation=1 + widened) for _ in range(depth - 1)]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            inputs = width
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pixels: Float[Tensor, "B 3 H W"]) -> tuple[Tensor, ...]:
        fused = isinstance(self.bn1, nn.Identity) and can_fuse(pixels)
        x = convolve(pixels, self.conv1, relu=True) if fused else F.relu_(self.bn1(self.conv1(pixels)))
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        maps = []
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
            maps.append(x)
        return tuple(maps)

    def freeze_early(self) -> None:
        """The stem and the first stage no longer train, as in DETR: edges and colours are the same everywhere."""
        for module in (self.conv1, self.get_submodule("layer1")):
            module.requires_grad_(False)


def make_resnet(name: str, *, dilated: bool = False) -> ResNet:
    """``resnet18`` … ``resnet101`` with random weights. Raises BackboneError for an unknown name."""
    if name not in BLOCKS:
        raise BackboneError(f"{name!r} is no ResNet known here.", hint=did_you_mean(name, BLOCKS))
    bottleneck, depths = BLOCKS[name]
    widths = (256, 512, 1024, 2048) if bottleneck else (64, 128, 256, 512)
    return ResNet(depths, bottleneck=bottleneck, widths=widths, dilated=dilated)


def load_resnet(resnet: ResNet, state: Mapping[str, Tensor]) -> None:
    """Weights named as torchvision or Hugging Face name them; a classifier at the end is left out.

    Raises BackboneError where tensors are missing, unknown, or of another shape.
    """
    named = {torchvision_key(key): value for key, value in state.items()}
    kept = {k: v for k, v in named.items() if not k.startswith(("fc.", "classifier.")) and "num_batches" not in k}
    expected = resnet.state_dict()
    faults = [f"{k} is missing" for k in expected.keys() - kept.keys()]
    faults += [f"{k} is unknown" for k in kept.keys() - expected.keys()]
    faults += [
        f"{k} has shape {tuple(v.shape)}, expected {tuple(expected[k].shape)}"
        for k, v in kept.items()
        if k in expected and v.shape != expected[k].shape
    ]
    if faults:
        raise BackboneError(f"these weights are not of this ResNet: {'; '.join(sorted(faults)[:5])}.",
                            hint="Build the ResNet with the depth the weights were trained with.")  # fmt: skip
    resnet.load_state_dict(kept)


_PART = {"convolution": "conv", "normalization": "bn"}


def torchvision_key(key: str) -> str:
    """A name of Hugging Face's ResNet as torchvision has it; any other name unchanged."""
    key = key.removeprefix("resnet.")
    if found := re.fullmatch(r"embedder\.embedder\.(convolution|normalization)\.(\w+)", key):
        return f"{_PART[found[1]]}1.{found[2]}"
    if found := re.fullmatch(
        r"encoder\.stages\.(\d+)\.layers\.(\d+)\.(?:layer\.(\d+)|shortcut)\.(convolution|normalization)\.(\w+)", key
    ):
        block = f"layer{int(found[1]) + 1}.{found[2]}"
        if found[3] is None:
            return f"{block}.downsample.{int(found[4] == 'normalization')}.{found[5]}"
        return f"{block}.{_PART[found[4]]}{int(found[3]) + 1}.{found[5]}"
    return key


def hugging_face_key(key: str) -> str:
    """The other way round."""
    kind = {"conv": "convolution", "bn": "normalization"}
    if found := re.fullmatch(r"(conv|bn)1\.(\w+)", key):
        return f"embedder.embedder.{kind[found[1]]}.{found[2]}"
    if found := re.fullmatch(r"layer(\d+)\.(\d+)\.(?:(conv|bn)(\d)|downsample\.(\d))\.(\w+)", key):
        block = f"encoder.stages.{int(found[1]) - 1}.layers.{found[2]}"
        if found[3] is None:
            return f"{block}.shortcut.{('convolution', 'normalization')[int(found[5])]}.{found[6]}"
        return f"{block}.layer.{int(found[4]) - 1}.{kind[found[3]]}.{found[6]}"
    return key


@torch.no_grad()
def fold_batch_norm(module: nn.Module) -> int:
    """Multiplies every frozen norm into the convolution before it, for prediction alone; returns how many.

    Outputs stay equal to rounding. The parameters are no longer those of a checkpoint.
    """
    folded = 0
    for parent in list(module.modules()):
        children = dict(parent.named_children())
        for name, norm in children.items():
            before = "0" if name == "1" else name.replace("bn", "conv")
            convolution = children.get(before)
            if isinstance(norm, FrozenBatchNorm2d) and isinstance(convolution, nn.Conv2d):
                scale, shift = norm.scale_and_shift()
                convolution.weight.copy_(convolution.weight * scale[:, None, None, None])
                convolution.bias = nn.Parameter(shift.clone(), requires_grad=False)
                setattr(parent, name, nn.Identity())
                folded += 1
    return folded
