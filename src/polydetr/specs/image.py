"""Pretrained image encoders: a known name, a local folder, or a Hugging Face id → shape, grid, normalization.

Every encoder gives features by stride; the coarsest are what an image is read from, finer ones serve detection.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polydetr.core import plugs
from polydetr.core.files import write_json
from polydetr.errors import BackboneError, ModelFolderError, SaveError, did_you_mean
from polydetr.fetch.backbones import fetch_backbone
from polydetr.fetch.catalog import BACKBONES
from polydetr.fetch.hub import fetch_from_hub
from polydetr.fetch.wheels import Report
from polydetr.specs.folders import read_config, weight_files
from polydetr.specs.packaged import IMAGENET_MEAN, IMAGENET_STD, PACKAGED, map_channels

FORMAT = 1
FILE = "vision.json"
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
    :class:`polydetr.backbones.convnet.InvertedResidualEncoder`), "patches" or "transformers" (``config["hf_config"]``).
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
            return map_channels(self.config["encoder"])
        return {self.stride: self.hidden_dim}

    def grid(self, size: int) -> int:
        """How many cells a side the coarsest features of an image of size x size pixels have.

        Of a transformers encoder only the encoder itself knows: it is shown an image without content. Whoever needs
        the number again keeps it.
        """
        architecture = self.config["architecture"]
        if architecture == "patches":
            return size // self.stride
        if architecture == "inverted-residuals":  # each halving takes the larger half, so that all of them do
            return -(-size // self.stride)
        ask = plugs.load("polydetr.backbones.vision_wrapped:grid_of")
        return ask(self.config["hf_config"], stride=self.stride, size=size)

    def save(self, folder: str | Path) -> None:
        """Writes ``vision.json``: all that :meth:`from_folder` needs, without the weights."""
        try:
            write_json(Path(folder) / FILE, {"format": FORMAT} | {field: getattr(self, field) for field in _FIELDS})
        except OSError as error:
            raise SaveError(f"backbone {self.name!r} cannot be written to {folder}: {error}.") from error

    @staticmethod
    def from_folder(folder: str | Path) -> ImageSpec:
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
        return ImageSpec(**fields)


def load_image_spec(name_or_path: str, *, download: bool = True, report: Report | None = None) -> ImageSpec:
    """An image backbone by name (``fetch.catalog``), folder, or Hugging Face id; the first that fits, in this order.

    ``report`` takes lines of progress; ``download=False`` uses only what lies on this machine. Raises
    :class:`BackboneError`.
    """
    name, images = str(name_or_path), list(PACKAGED)
    if name in BACKBONES:
        if BACKBONES[name].kind != "image":
            raise BackboneError(
                f"{name!r} is a text backbone, an image backbone was expected.", hint=did_you_mean("", images)
            )
        source, parts = fetch_backbone(name, download=download, report=report), PACKAGED[name]
        config = {"architecture": "inverted-residuals", "encoder": parts.encoder}
        layers = 2 + sum(stage[2] for stage in parts.encoder["blocks"])
        return ImageSpec(name, config, parts.encoder["head"], 32, layers, parts.mean, parts.std, source)
    path = Path(name).expanduser()
    if path.is_dir():
        return image_spec_from_folder(path, name=name)
    if path.is_absolute() or name.startswith((".", "~")) or path.exists():
        raise BackboneError(f"{name!r} is no folder.", hint="Expected one with config.json and model.safetensors.")
    if "/" not in name and difflib.get_close_matches(name, images, n=1, cutoff=0.6):
        raise BackboneError(f"{name!r} is not a known image backbone.", hint=did_you_mean(name, images))
    return image_spec_from_folder(fetch_from_hub(name, download=download, report=report), name=name)


def patch_spec(*, hidden_dim: int, patch_size: int) -> ImageSpec:
    """No backbone: square patches, projected (Dosovitskiy et al. 2021, arXiv 2010.11929, eq. 1), random weights."""
    config = {"architecture": "patches"}
    return ImageSpec("none", config, hidden_dim, patch_size, 0, IMAGENET_MEAN, IMAGENET_STD)


def image_spec_from_folder(folder: Path, *, name: str) -> ImageSpec:
    """Reads a folder in Hugging Face's layout. Raises :class:`BackboneError` where it holds no image encoder."""
    weight_files(folder)  # refuse a folder without usable weights now, not after an hour of preparing data
    config = read_config(folder)
    kept = {key: value for key, value in config.items() if key != "auto_map"}  # auto_map points at remote code
    if "model_type" not in kept:
        raise BackboneError(
            "config.json names no model_type.", hint="Expected the config.json of a transformers model."
        )
    # Only transformers knows, and it needs torch.
    shape = plugs.load("polydetr.backbones.vision_wrapped:describe_vision")(kept)
    mean, std = _normalization(folder)
    config = {"architecture": "transformers", "hf_config": kept}
    return ImageSpec(name, config, shape.hidden_dim, shape.stride, shape.num_layers, mean, std, folder)


def _normalization(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What the folder's own ``preprocessor_config.json`` says; ImageNet's where it says nothing."""
    try:
        said = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
        if said.get("do_normalize", True) is False:
            return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        mean, std = (tuple(float(v) for v in said[key]) for key in ("image_mean", "image_std"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return IMAGENET_MEAN, IMAGENET_STD
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise BackboneError(
            f"{folder} normalizes pixels with mean {mean}, std {std}.", hint="Expected three channels: an RGB encoder."
        )
    return mean, std
