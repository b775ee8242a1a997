"""Pretrained image encoders: a known name, a local folder, or a Hugging Face id → shape, weights, normalisation.

Every encoder is a module from pixels (N, 3, H, W), normalised, to its features by stride, {stride: (N, C, h, w)}; the
coarsest are what an image is read from, finer ones serve detection. The packaged weights are PyTorch files: they are
read once, with ``weights_only=True`` (no code runs), and kept as safetensors beside them.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polydetr.backbones import efficientnet, mobilenet
from polydetr.backbones.folders import read_config, read_weights, tensor_shapes, weight_files
from polydetr.core.files import write_json, written_atomically
from polydetr.errors import BackboneError, ModelFolderError, SaveError, did_you_mean
from polydetr.fetch.backbones import fetch_backbone
from polydetr.fetch.catalog import BACKBONES
from polydetr.fetch.hub import fetch_from_hub
from polydetr.fetch.wheels import Report
from polydetr.specs.detr import BACKBONE, describe_detr, detr_labels, is_detr, our_keys
from polydetr.specs.resnet import describe_resnet, is_resnet, torchvision_key

if TYPE_CHECKING:
    from torch import Tensor, nn

FORMAT = 1
FILE = "vision.json"
DEFAULT = "efficientnet-lite0"
"""What "auto" takes. On photographs of clothes at 160 x 160 a linear probe over its frozen features found 80 % of the
classes, over MobileNetV2's 76 %, for 7 instead of 4 ms a picture (32 instead of 18 ms in training); and its licence is
stated.
"""
_FIELDS = ("name", "config", "hidden_dim", "stride", "num_layers", "mean", "std")
_PACKAGED = {"mobilenet-v2": mobilenet, "efficientnet-lite0": efficientnet}
_CONVERTED, _CONVERTER = "model.safetensors", "1"


@dataclass(frozen=True, eq=False)
class VisionBackbone:
    """An image encoder that can be built, and where its pretrained weights lie.

    ``config`` is JSON: ``config["architecture"]`` is "inverted-residuals" (``config["encoder"]`` holds the arguments of
    :class:`polydetr.backbones.convnet.InvertedResidualEncoder`), "resnet" (the same for
    :class:`polydetr.backbones.resnet.ResNet`; of a DETR also ``config["detr"]``, see ``detr``), "patches" or
    "transformers" (``config["hf_config"]``).
    ``hidden_dim`` and ``stride`` are those of the coarsest features. Pixels from 0 to 1 are normalised as
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

    def build(self) -> nn.Module:
        """The encoder with random weights: forward(pixels (N, 3, H, W)) → {stride: (N, C, h, w)}."""
        architecture = self.config["architecture"]
        if architecture == "inverted-residuals":
            from polydetr.backbones.convnet import InvertedResidualEncoder

            return InvertedResidualEncoder(**self.config["encoder"])
        if architecture == "resnet":
            from polydetr.backbones.resnet import ResNet

            return ResNet(**self.config["encoder"])
        if architecture == "patches":
            from polydetr.backbones.vision_wrapped import PatchEncoder

            return PatchEncoder(patch_size=self.stride, hidden_dim=self.hidden_dim)
        from polydetr.backbones.vision_wrapped import TransformersVisionEncoder

        return TransformersVisionEncoder(self.config["hf_config"], stride=self.stride)

    def weights(self) -> dict[str, Tensor]:
        """The pretrained weights in fp32, under the names of :meth:`build`'s state dict; read from disk on every call.

        Raises :class:`BackboneError` where the checkpoint does not fit, and where there is none (see ``source``).
        """
        if self.source is None:
            raise BackboneError(
                f"backbone {self.name!r} has no pretrained weights here: it is trained from random ones, or was "
                "restored from a model folder, which keeps the weights in the model's own file.",
                hint=f"Load a pretrained one with load_vision_backbone({DEFAULT!r}).",
            )
        if self.config["architecture"] == "inverted-residuals":
            return _PACKAGED[self.name].convert(packaged_state(self.source))
        if self.config["architecture"] == "resnet":
            from polydetr.backbones.detr import detr_weights
            from polydetr.backbones.resnet import resnet_weights

            state = read_weights(self.source)
            named = detr_weights(state)[0] if self.detr else {torchvision_key(k): v for k, v in state.items()}
            return resnet_weights(named, self.config["encoder"])
        from polydetr.backbones.vision_wrapped import pretrained_vision_state

        return pretrained_vision_state(self.source, self.config["hf_config"])

    @property
    def detr(self) -> dict[str, Any] | None:
        """Of a published DETR: the sizes of the transformer over this encoder, as ``nn.detr.DetrSizes`` takes them, and
        the names of its classes, ``labels``.
        """
        return self.config.get("detr")

    def detr_weights(self) -> dict[str, Tensor]:
        """The weights of that transformer, by the names of ``nn.detr.Detr``; read from disk on every call."""
        from polydetr.backbones.detr import detr_weights

        assert self.source is not None
        return detr_weights(read_weights(self.source))[1]

    def pretrained(self) -> nn.Module:
        """The encoder with the pretrained weights."""
        encoder = self.build()
        encoder.load_state_dict(self.weights())
        return encoder

    def grid(self, size: int) -> int:
        """How many cells a side the coarsest features of a picture of size x size pixels have; found by asking the
        encoder itself, without computing.
        """
        import torch

        with torch.device("meta"), torch.no_grad():
            features = self.build().eval()(torch.empty(1, 3, size, size))
        return features[self.stride].shape[-1]

    def save(self, folder: str | Path) -> None:
        """Writes ``vision.json``: all that :meth:`from_folder` needs, without the weights."""
        try:
            write_json(Path(folder) / FILE, {"format": FORMAT} | {field: getattr(self, field) for field in _FIELDS})
        except OSError as error:
            raise SaveError(f"backbone {self.name!r} cannot be written to {folder}: {error}.") from error

    @staticmethod
    def from_folder(folder: str | Path) -> VisionBackbone:
        """Restores what :meth:`save` wrote; raises :class:`ModelFolderError` where it is missing, broken or too new."""
        path, again = Path(folder) / FILE, "Copy the whole model folder again."
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelFolderError(f"{path} cannot be read: {error}.", hint=again) from error
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            version = found.get("format") if isinstance(found, dict) else found
            raise ModelFolderError(
                f"{path} has format {version!r}, this version reads {FORMAT}.",
                hint="Install a newer polydetr, or save the model again.",
            )
        if missing := [field for field in _FIELDS if field not in found]:
            raise ModelFolderError(f"{path} lacks {', '.join(missing)}.", hint=again)
        fields: dict[str, Any] = {field: found[field] for field in _FIELDS}
        fields |= {key: tuple(fields[key]) for key in ("mean", "std")}
        return VisionBackbone(**fields)


def load_vision_backbone(name_or_path: str, *, download: bool = True, report: Report | None = None) -> VisionBackbone:
    """An image backbone by name (``specs.BACKBONES``), folder, or Hugging Face id; the first that fits, in this order.

    ``report`` takes lines of progress; ``download=False`` uses only what lies on this machine. Raises
    :class:`BackboneError`.
    """
    name, images = str(name_or_path), list(_PACKAGED)
    if name in BACKBONES:
        if BACKBONES[name].kind != "image":
            raise BackboneError(
                f"{name!r} is a text backbone, an image backbone was expected.", hint=did_you_mean("", images)
            )
        source, parts = fetch_backbone(name, download=download, report=report), _PACKAGED[name]
        config = {"architecture": "inverted-residuals", "encoder": parts.ENCODER}
        layers = 2 + sum(stage[2] for stage in parts.ENCODER["blocks"])
        return VisionBackbone(name, config, parts.ENCODER["head"], 32, layers, parts.MEAN, parts.STD, source)
    path = Path(name).expanduser()
    if path.is_dir() or path.suffix == ".safetensors":
        return vision_backbone_from_folder(path, name=name)
    if path.is_absolute() or name.startswith((".", "~")) or path.exists():
        raise BackboneError(f"{name!r} is no folder.", hint="Expected one with config.json and model.safetensors.")
    if "/" not in name and difflib.get_close_matches(name, images, n=1, cutoff=0.6):
        raise BackboneError(f"{name!r} is not a known image backbone.", hint=did_you_mean(name, images))
    return vision_backbone_from_folder(fetch_from_hub(name, download=download, report=report), name=name)


def patch_backbone(*, hidden_dim: int, patch_size: int) -> VisionBackbone:
    """No backbone: square patches, projected (Dosovitskiy et al. 2021, arXiv 2010.11929, eq. 1), random weights."""
    config = {"architecture": "patches"}
    return VisionBackbone("none", config, hidden_dim, patch_size, 0, mobilenet.MEAN, mobilenet.STD)


def choose_vision_backbone(
    name: str, *, hidden_dim: int, patch_size: int, note: Callable[[str], None]
) -> VisionBackbone:
    """The named backbone; "auto" is ``DEFAULT``, or random weights where it cannot be had; "none" are patches.

    Raises:
        BackboneError: the named one cannot be had.
    """
    if name == "auto":
        try:
            backbone = load_vision_backbone(DEFAULT, report=note)
            note(f"image backbone: {DEFAULT} (name another with backbone={{'image': ...}})")
            return backbone
        except BackboneError as error:
            note(f"image backbone: none, random weights ({DEFAULT} cannot be had: {error.message})")
            name = "none"
    if name == "none":
        return patch_backbone(hidden_dim=hidden_dim, patch_size=patch_size)
    return load_vision_backbone(name, report=note)


def vision_backbone_from_folder(folder: Path, *, name: str) -> VisionBackbone:
    """Reads a folder in Hugging Face's layout, or the weights of a ResNet or DETR alone: such a file, or a folder with
    one. Raises :class:`BackboneError` where it holds no image encoder.
    """
    weight_files(folder)  # refuse a folder without usable weights now, not after an hour of preparing data
    config = read_config(folder) if folder.is_dir() and (folder / "config.json").exists() else {}
    kept = {key: value for key, value in config.items() if key != "auto_map"}  # auto_map points at remote code
    is_candidate = config.get("model_type", "resnet") in ("resnet", "detr")
    if is_candidate and (found := _resnet_from_folder(folder, config, name=name)):
        return found
    if "model_type" not in kept:
        raise BackboneError(
            f"{folder} holds no ResNet or DETR, and no config.json that names a model_type.",
            hint="Expected a folder as transformers' save_pretrained writes it.",
        )
    from polydetr.backbones.vision_wrapped import describe_vision

    shape = describe_vision(kept)
    mean, std = _normalisation(folder)
    config = {"architecture": "transformers", "hf_config": kept}
    return VisionBackbone(name, config, shape.hidden_dim, shape.stride, shape.num_layers, mean, std, folder)


def _resnet_from_folder(folder: Path, config: Mapping[str, Any], *, name: str) -> VisionBackbone | None:
    """None where the tensors are no ResNet's, or one's that strides elsewhere than ours."""
    shapes = tensor_shapes(folder)
    mean, std = _normalisation(folder)
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
    return VisionBackbone(name, described, width, stride, 1 + sum(encoder["depths"]), mean, std, folder)


def packaged_state(folder: Path) -> Mapping[str, Tensor]:
    """The tensors of a packaged PyTorch file, classifier included: read once, then from safetensors beside it.

    Raises :class:`BackboneError` where the file is not what it should be.
    """
    import torch
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file, save

    packed, plain = folder / "weights.pth", folder / _CONVERTED
    found = packed.stat()
    origin = f"{_CONVERTER}:{found.st_size}:{found.st_mtime_ns}"
    try:
        with safe_open(plain, "pt") as file:
            fresh = (file.metadata() or {}).get("origin") == origin
        if fresh:
            return load_file(plain)
    except (OSError, SafetensorError):
        pass  # not there yet, or cut off: made anew
    try:
        state = torch.load(packed, weights_only=True, map_location="cpu")
        state = {name: tensor.contiguous() for name, tensor in state.items()}
    except Exception as error:  # a broken archive, or one that wants more than tensors
        raise BackboneError(
            f"{packed} cannot be read: {error}.", hint="Remove it, so that it is fetched again."
        ) from error
    try:
        with written_atomically(plain) as target:
            target.write(save(state, metadata={"origin": origin}))
    except OSError:
        pass  # a cache that cannot be written still serves
    return state


def _normalisation(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What the folder's own ``preprocessor_config.json`` says; ImageNet's where it says nothing."""
    try:
        said = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
        if said.get("do_normalize", True) is False:
            return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        mean, std = (tuple(float(v) for v in said[key]) for key in ("image_mean", "image_std"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return mobilenet.MEAN, mobilenet.STD
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise BackboneError(
            f"{folder} normalises pixels with mean {mean}, std {std}.", hint="Expected three channels: an RGB encoder."
        )
    return mean, std
