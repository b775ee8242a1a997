"""Pretrained image encoders: a known name, a local folder, or a Hugging Face id → shape, grid, normalization.

Every encoder gives features by stride; the coarsest are what an image is read from, finer ones serve detection.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from polydetr.core import plugs
from polydetr.errors import BackboneError
from polydetr.specs import packaged, resnet
from polydetr.specs.detr import BACKBONE, describe_detr, detr_labels, is_detr, our_keys
from polydetr.specs.folders import (
    MOST_LAYERS,
    SavedFields,
    find_backbone,
    load_fields,
    read_config,
    save_fields,
    tensor_shapes,
    weight_files,
)
from polydetr.specs.packaged import IMAGENET_MEAN, IMAGENET_STD, PACKAGED
from polydetr.specs.resnet import describe_resnet, is_resnet, torchvision_key

if TYPE_CHECKING:
    from polydetr.fetch.wheels import Report

_FILE = "vision.json"
DEFAULT = "efficientnet-lite0"
"""What "auto" takes. On photographs of clothes at 160 x 160 a linear probe over its frozen features found 80 % of the
classes, over MobileNetV2's 76 %, for 7 instead of 4 ms per image (32 instead of 18 ms in training); and its license is
stated.
"""
_FIELDS = ("name", "config", "hidden_dim", "stride", "num_layers", "mean", "std")


@dataclass(frozen=True, eq=False)
class ImageSpec:
    """An image encoder as far as its images must know it, and where its pretrained weights lie.

    ``config`` is JSON: ``config["architecture"]`` is "inverted-residuals" (``config["encoder"]`` holds the arguments of
    :class:`polydetr.backbones.convnet.InvertedResidualEncoder`), "resnet" (the same for
    :class:`polydetr.backbones.resnet.ResNet`; of a DETR also ``config["detr"]``, see ``detr``), "patches" or
    "transformers" (``config["hf_config"]``).
    ``hidden_dim`` and ``stride`` are those of the coarsest features. Pixels from 0 to 1 are normalized as
    (x - mean) / std, for red, green, blue. ``source`` is where the pretrained weights lie; None for one restored from a
    model folder, and for patches, which have none.
    """

    name: str
    config: dict[str, Any]
    hidden_dim: int
    stride: int
    num_layers: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: Path | None = None

    @property
    def channels(self) -> dict[int, int]:
        """Stride → channels of every map that the encoder gives, the coarsest among them."""
        if self.config["architecture"] == "inverted-residuals":
            return packaged.map_channels(self.config["encoder"])
        if self.config["architecture"] == "resnet":
            return resnet.map_channels(**self.config["encoder"])
        return {self.stride: self.hidden_dim}

    @property
    def detr(self) -> dict[str, Any] | None:
        """Of a published DETR: the sizes of the transformer over this encoder, as ``nn.detr.DetrSizes`` takes them, and
        the names of its classes, ``labels``.
        """
        return self.config.get("detr")

    def grid(self, size: int) -> int:
        """How many cells per side the coarsest features of an image of size x size pixels have.

        Of a transformers encoder only the encoder itself knows: it is shown an image without content. Whoever needs
        the number again keeps it.
        """
        architecture = self.config["architecture"]
        if architecture == "patches":
            return size // self.stride
        if architecture in ("inverted-residuals", "resnet"):
            # Each halving takes the larger half, so that all of them do.
            return -(-size // self.stride)
        ask = plugs.load("polydetr.backbones.vision_wrapped:grid_of")
        return ask(self.config["hf_config"], stride=self.stride, size=size)

    def save(self, folder: str | Path) -> None:
        """Writes ``vision.json``: all that :meth:`from_folder` needs, without the weights."""
        save_fields(self, _FIELDS, Path(folder) / _FILE)

    @staticmethod
    def from_folder(folder: str | Path) -> ImageSpec:
        """Restores what :meth:`save` wrote; raises :class:`ModelFolderError` where it is missing, broken or too new."""
        fields = load_fields(_FIELDS, Path(folder) / _FILE, _Saved)
        fields |= {key: tuple(fields[key]) for key in ("mean", "std")}
        return ImageSpec(**fields)


_Size = Annotated[int, Field(ge=1, le=1 << 20)]


class _Part(BaseModel):
    model_config = ConfigDict(defer_build=True, extra="forbid", strict=True, allow_inf_nan=False)


class _Blocks(_Part):
    """The arguments of ``backbones.convnet.InvertedResidualEncoder``."""

    stem: _Size
    blocks: list[Annotated[list[Annotated[int, Field(ge=1, le=4096)]], Field(min_length=5, max_length=5)]]
    head: _Size
    eps: float = Field(default=1e-5, ge=0)
    same_padding: bool = False


class _Stages(_Part):
    """The arguments of ``backbones.resnet.ResNet``."""

    depths: list[Annotated[int, Field(ge=1, le=MOST_LAYERS)]] = Field(min_length=4, max_length=4)
    bottleneck: bool
    stem: _Size
    widths: list[_Size] = Field(min_length=4, max_length=4)
    dilated: bool = False
    projected: _Size | None = None


class _InvertedResiduals(_Part):
    architecture: Literal["inverted-residuals"]
    encoder: _Blocks


class _Resnet(_Part):
    architecture: Literal["resnet"]
    encoder: _Stages
    detr: dict[str, Any] | None = None


class _Patches(_Part):
    architecture: Literal["patches"]


class _Transformers(_Part):
    architecture: Literal["transformers"]
    hf_config: dict[str, Any]


class _Saved(SavedFields):
    config: _InvertedResiduals | _Resnet | _Patches | _Transformers = Field(discriminator="architecture")
    stride: int = Field(ge=1, le=2048)
    mean: list[float] = Field(min_length=3, max_length=3)
    std: list[Annotated[float, Field(gt=0)]] = Field(min_length=3, max_length=3)


def load_image_spec(name: str, *, report: Report | None = None) -> ImageSpec:
    """An image backbone by name, folder or Hugging Face id, see :func:`polydetr.specs.folders.find_backbone`.

    ``report`` takes lines of progress. Raises :class:`BackboneError` where it cannot be had.
    """
    source = find_backbone(name, "image", report=report)
    if name not in PACKAGED:
        return _spec_from_folder(source, name=name)
    parts = PACKAGED[name]
    config = {"architecture": "inverted-residuals", "encoder": parts.encoder}
    layers = 2 + sum(stage[2] for stage in parts.encoder["blocks"])
    return ImageSpec(name, config, parts.encoder["head"], 32, layers, parts.mean, parts.std, source)


def patch_spec(*, hidden_dim: int, patch_size: int) -> ImageSpec:
    """No backbone: square patches, projected (Dosovitskiy et al. 2021, arXiv 2010.11929, eq. 1), random weights."""
    config = {"architecture": "patches"}
    return ImageSpec("none", config, hidden_dim, patch_size, 0, IMAGENET_MEAN, IMAGENET_STD)


def _spec_from_folder(folder: Path, *, name: str) -> ImageSpec:
    """Reads a folder in Hugging Face's layout, or the weights of a ResNet or DETR alone: such a file, or a folder with
    one. Raises :class:`BackboneError` where it holds no image encoder.
    """
    weight_files(folder)  # refuse a folder without usable weights now, not after an hour of preparing data
    config = read_config(folder) if folder.is_dir() and (folder / "config.json").exists() else {}
    kept = {key: value for key, value in config.items() if key != "auto_map"}  # auto_map points at remote code
    is_candidate = config.get("model_type", "resnet") in ("resnet", "detr")
    if is_candidate and (spec := _resnet_from_folder(folder, config, name=name)):
        return spec
    if "model_type" not in kept:
        raise BackboneError(
            f"{folder} holds no ResNet or DETR, and no config.json that names a model_type.",
            hint="Expected a folder as transformers' save_pretrained writes it.",
        )
    # Only transformers knows, and it needs torch.
    shape = plugs.load("polydetr.backbones.vision_wrapped:describe_vision")(kept)
    mean, std = _normalization(folder)
    config = {"architecture": "transformers", "hf_config": kept}
    return ImageSpec(name, config, shape.hidden_dim, shape.stride, shape.num_layers, mean, std, folder)


def _resnet_from_folder(folder: Path, config: Mapping[str, Any], *, name: str) -> ImageSpec | None:
    """None where the tensors are no ResNet's, or one's that strides elsewhere than ours."""
    shapes = tensor_shapes(folder)
    mean, std = _normalization(folder)
    of_detr = our_keys(shapes)
    described: dict[str, Any] = {"architecture": "resnet"}
    try:
        if is_detr(of_detr):
            inner = {k.removeprefix(BACKBONE): v for k, v in of_detr.items() if k.startswith(BACKBONE)}
            encoder = describe_resnet(inner, dilated=bool(config.get("dilation", False)))
            encoder["projected"] = of_detr["input_projection.weight"][0]
            described["detr"] = describe_detr(of_detr, config) | {"labels": detr_labels(of_detr, config)}
        elif is_resnet(named := {torchvision_key(key): shape for key, shape in shapes.items()}):
            if config.get("downsample_in_bottleneck") or config.get("downsample_in_first_stage"):
                return None
            encoder = describe_resnet(named)
        else:
            return None
    except KeyError as missing:
        raise BackboneError(f"{folder} holds no whole ResNet or DETR: {missing.args[0]} is missing.") from missing
    described["encoder"] = encoder
    width, stride = encoder.get("projected") or encoder["widths"][-1], 16 if encoder["dilated"] else 32
    return ImageSpec(name, described, width, stride, 1 + sum(encoder["depths"]), mean, std, folder)


def _normalization(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) of the folder's own ``preprocessor_config.json``; ImageNet's where it has none."""
    try:
        content = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
        if content.get("do_normalize", True) is False:
            return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        mean, std = (tuple(float(v) for v in content[key]) for key in ("image_mean", "image_std"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return IMAGENET_MEAN, IMAGENET_STD
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise BackboneError(
            f"{folder} normalizes pixels with mean {mean}, std {std}.", hint="Expected three channels: an RGB encoder."
        )
    return mean, std
