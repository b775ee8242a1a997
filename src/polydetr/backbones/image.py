"""Image encoders from their specs: built with random weights, or with the pretrained ones.

Every encoder is a module from pixels (N, 3, H, W), normalized, to its features by stride, {stride: (N, C, h, w)}.
"""

from __future__ import annotations

from torch import Tensor, nn

from polydetr.backbones.convnet import InvertedResidualEncoder
from polydetr.backbones.detr import PretrainedDetr, detr_weights
from polydetr.backbones.folders import read_weights, source_of
from polydetr.backbones.packaged import CONVERT, packaged_state
from polydetr.backbones.resnet import ResNet, resnet_weights
from polydetr.backbones.vision_wrapped import PatchEncoder, TransformersVisionEncoder, pretrained_vision_state
from polydetr.specs.image import ImageSpec
from polydetr.specs.resnet import torchvision_key


def build(spec: ImageSpec) -> nn.Module:
    """The encoder with random weights: forward(pixels (N, 3, H, W)) → {stride: (N, C, h, w)}."""
    architecture = spec.config["architecture"]
    if architecture == "inverted-residuals":
        return InvertedResidualEncoder(**spec.config["encoder"])
    if architecture == "resnet":
        return ResNet(**spec.config["encoder"])
    if architecture == "patches":
        return PatchEncoder(patch_size=spec.stride, hidden_dim=spec.hidden_dim)
    return TransformersVisionEncoder(spec.config["hf_config"], stride=spec.stride)


def weights(spec: ImageSpec) -> dict[str, Tensor]:
    """The pretrained weights in fp32, under the names of :func:`build`'s state dict; read from disk on every call.

    Raises :class:`BackboneError` where the checkpoint does not fit, and for a spec without pretrained weights
    (``folders.source_of``).
    """
    source = source_of(spec)
    if spec.config["architecture"] == "inverted-residuals":
        return CONVERT[spec.name](packaged_state(source))
    if spec.config["architecture"] == "resnet":
        state = read_weights(source)
        named = detr_weights(state)[0] if spec.detr else {torchvision_key(k): v for k, v in state.items()}
        return resnet_weights(named, spec.config["encoder"])
    return pretrained_vision_state(source, spec.config["hf_config"])


def pretrained_detr(spec: ImageSpec) -> PretrainedDetr | None:
    """The transformer of a published DETR whose ResNet this is, read from disk on every call; None of any other
    backbone, and of one restored from a model folder.
    """
    if spec.detr is None or spec.source is None:
        return None
    return PretrainedDetr(detr_weights(read_weights(spec.source))[1], spec.detr["labels"])
