"""Images: each picture becomes a grid of tokens, one a cell of the backbone's coarsest features.

Arrays of one row, with S pictures of all its image fields, in order of the fields:

    pixels  uint8 (S, 3, H, W)  red, green, blue
    field   int8 (S,)           which field
    frame   float32 (S, 6)      where it lies in what the model sees (values.images.Frame), where a task asks for it

Pixels stay bytes until the model reads them. Several pictures of one field are a set: their order says nothing.

Shapes: B examples, G cells a picture, N real pictures of the batch, C the backbone's width, D ``embed_dim``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import PIL
import torch
from PIL.Image import Image
from torch import Tensor, nn

from polydetr.backbones.vision import VisionBackbone, choose_vision_backbone
from polydetr.config import Config, ImageConfig
from polydetr.core.documents import EncodedGroup, Window
from polydetr.core.records import Finding, Row
from polydetr.errors import ConfigError
from polydetr.fetch.catalog import BACKBONES
from polydetr.modalities.base import Modality, Note
from polydetr.modalities.image_augment import ImageAugment
from polydetr.modalities.image_scene import SceneAugment
from polydetr.modalities.image_units import ImagePart
from polydetr.nn.batch import Embedded, Scene, TokenGroup
from polydetr.nn.entry import InputEntry
from polydetr.nn.positions import SinusoidalPositions
from polydetr.schema.spec import FieldSpec
from polydetr.values.images import Frame, Reading, file_stamps, find_file, fit_image, frame_of, list_images, open_image

_ENCODING = 1
"""Raised whenever ``encode`` gives other pixels for the same picture."""
_WIDEST, _NARROWED = 512, 256
"""A backbone of more channels than this is projected: the shared encoder's cost grows with the square of the width."""


class ImageModality(Modality):
    """``grid`` is the number of cells a side. Raises :class:`ConfigError` where the size does not suit the backbone."""

    name: ClassVar[str] = "image"
    reads: ClassVar[frozenset[str]] = frozenset({"image"})
    slow_to_encode: bool = True
    fault: ClassVar[str] = "unreadable"
    keeps_frames: bool = False
    """Whether some task answers with places in the picture (set by ``RowEncoder``)."""
    scenes: SceneAugment | None = None
    """How images are shown smaller in training, where targets can follow (set by ``build_engine``)."""

    def __init__(self, fields: Sequence[str], backbone: VisionBackbone, *, config: ImageConfig) -> None:
        super().__init__(fields)
        self.backbone, self.config = backbone, config
        self.grid = _grid(backbone, config.size)
        self._fill = tuple(round(255 * value) for value in backbone.mean)
        self._augment = ImageAugment.from_config(config.augment)

    @classmethod
    def build(
        cls,
        fields: Sequence[FieldSpec],
        rows: Sequence[Row],
        config: Config,
        *,
        by_word: bool,
        folder: Path | None,
        note: Note,
    ) -> ImageModality:
        """With the backbone that the configuration names; one that was named for text alone leaves images on "auto".

        Raises:
            BackboneError: it cannot be had. ConfigError: image.size does not suit it.
        """
        name = config.backbone_of("image")
        if isinstance(config.backbone, str) and name in BACKBONES and BACKBONES[name].kind == "text":
            name = "auto"
        backbone = choose_vision_backbone(
            name, hidden_dim=config.model.embed_dim or 128, patch_size=config.image.patch_size, note=note
        )
        return cls([spec.name for spec in fields], backbone, config=config.image)

    # -- pixels -------------------------------------------------------------------------------------------------------

    def encode(self, rows: Sequence[Row], *, folder: Path | None = None) -> EncodedGroup:
        """One window: every picture of the rows. Safe to call from several threads (decoding lets others run).

        Raises:
            RowError: a picture cannot be read; names the column, the file and the remedy.
        """
        reading, size = self._reading(folder, at_least=self.config.size), self.config.size
        findings: list[Finding] = []
        pixels: list[np.ndarray] = []
        owners: list[int] = []
        frames: list[Frame] = []
        for row in rows:
            for number, field in enumerate(self.fields):
                for item in self._items(row.get(field), field, findings):
                    picture = open_image(item, column=field, reading=reading)
                    found = fit_image(picture, size, fit=self.config.fit, fill=self._fill)  # type: ignore[arg-type]
                    pixels.append(found.transpose(2, 0, 1))
                    owners.append(number)
                    frames.append(frame_of(picture, fit=self.config.fit))  # type: ignore[arg-type]
        stacked = np.stack(pixels) if pixels else np.zeros((0, 3, size, size), dtype=np.uint8)
        arrays = {"pixels": stacked, "field": np.array(owners, dtype=np.int8)}
        if self.keeps_frames:
            arrays["frame"] = np.array(frames, dtype=np.float32) if frames else np.zeros((0, 6), dtype=np.float32)
        return EncodedGroup([Window(arrays)], (), findings)

    def _items(self, value: object, field: str, findings: list[Finding]) -> list[object]:
        items, most = list_images(value), self.config.max_images
        if not items:
            findings.append(Finding("missing", field, f"{field!r} is missing"))
        elif len(items) > most:
            findings.append(
                Finding("truncated", field, f"{field!r} has {len(items)} pictures; the first {most} are read")
            )
        return items[:most]

    def _reading(self, folder: Path | None, *, at_least: int | None = None) -> Reading:
        root = Path(self.config.root) if self.config.root is not None else None
        return Reading(folder=folder, root=root, max_pixels=self.config.max_pixels, at_least=at_least)

    def picture(self, row: Row, folder: Path | None) -> Path | Image | None:
        """The first picture of a row, to be shown: its path where it has one, opened otherwise.

        Raises:
            RowError: it cannot be read.
        """
        for field in self.fields:
            for item in list_images(row.get(field)):
                if isinstance(item, str | Path):
                    return find_file(item, self._reading(folder))
                return open_image(item, column=field, reading=self._reading(folder))
        return None

    def content_key(self, rows: Sequence[Row], *, folder: Path | None) -> str:
        reading, digest = self._reading(folder), hashlib.sha256()
        for row in rows:
            for field in self.fields:
                digest.update("\0".join(file_stamps(row.get(field), reading)).encode(errors="surrogatepass") + b"\n")
        return digest.hexdigest()

    def augment(self, group: TokenGroup, generator: torch.Generator) -> TokenGroup:
        """Every real picture mirrored, cropped and recoloured by chance, each in its own way."""
        if "pixels" not in group.values or not group.mask.any():
            return group
        pixels = group.values["pixels"].clone()
        pixels[group.mask] = self._augment(pixels[group.mask], generator).pixels
        return TokenGroup({**group.values, "pixels": pixels}, group.mask, group.positions)

    def show_scenes(self, *, zoom: float) -> None:
        """One image per row is read, and training shows smaller ones too, whose objects can be followed
        (``SceneAugment``).
        """
        self.config = self.config.model_copy(update={"max_images": 1})
        fill: tuple[int, int, int] = self._fill  # type: ignore[assignment]
        self.scenes = SceneAugment(self._augment, zoom=zoom, fill=fill)

    def vary(self, group: TokenGroup, generator: torch.Generator, progress: float) -> tuple[TokenGroup, Scene | None]:
        if self.scenes is None or "pixels" not in group.values:
            return self.augment(group, generator), None
        pixels, scene = self.scenes(group.values["pixels"][:, 0], generator, progress)
        return TokenGroup({**group.values, "pixels": pixels[:, None]}, group.mask, group.positions), scene

    def mix(self, group: TokenGroup, generator: torch.Generator) -> tuple[TokenGroup, Tensor, Tensor] | None:
        if self.config.augment.mix == "none" or "pixels" not in group.values or group.mask.shape[1] != 1:
            return None  # which of several pictures would be blended with which?
        mixed = self._augment.mix(group.values["pixels"][:, 0], generator)
        values = {**group.values, "pixels": mixed.pixels[:, None]}
        return TokenGroup(values, group.mask, group.positions), mixed.permutation, mixed.lam

    # -- module and state ---------------------------------------------------------------------------------------------

    def units(self, row: Row, windows: Sequence[Window]) -> ImagePart:
        """The cells of its images (``units.HasUnits``)."""
        fill: tuple[int, int, int] = self._fill  # type: ignore[assignment]
        return ImagePart(self.fields, windows[0].arrays, grid=self.grid, fill=fill, config=self.config)

    def build_embedder(self, embed_dim: int | None) -> ImageEmbedder:
        return ImageEmbedder(self.backbone, num_fields=len(self.fields), grid=self.grid, embed_dim=embed_dim)

    @property
    def tokens_per_entry(self) -> int:
        return self.grid**2

    @property
    def is_pretrained(self) -> bool:
        return self.backbone.num_layers > 0

    def pretrained(self) -> Mapping[str, Tensor] | None:
        if self.backbone.source is None:
            return None
        return {f"backbone.{name}": tensor for name, tensor in self.backbone.weights().items()}

    def state(self) -> dict[str, Any]:
        return {"fields": list(self.fields), "config": self.config.model_dump()}

    def fingerprint(self) -> str:
        config = self.config
        what = (_ENCODING, PIL.__version__, config.size, config.fit, config.max_images, config.max_pixels, self._fill)
        what = (*what, self.keeps_frames)
        return hashlib.sha256(repr(what).encode()).hexdigest()

    def save_files(self, folder: Path) -> None:
        self.backbone.save(folder)

    @classmethod
    def from_state(cls, state: Mapping[str, Any], folder: Path) -> ImageModality:
        return cls(state["fields"], VisionBackbone.from_folder(folder), config=ImageConfig(**state["config"]))


class ImageEmbedder(nn.Module):
    """TokenGroup → Embedded: cells (B, S·G, D), picture after picture, each row by row.

    token = project(cell) + scale · place + field, where place holds the waves of the cell's row and of its column
    (Vaswani et al. 2017, arXiv 1706.03762, section 3.5, for each axis half), and scale is learned.
    """

    keeps_maps: bool = False
    """Whether the backbone's finer features are given as well (set by ``PolyModel``)."""

    def __init__(self, backbone: VisionBackbone, *, num_fields: int, grid: int, embed_dim: int | None) -> None:
        super().__init__()
        self.backbone = backbone.build()
        self.stride, self.grid, self.width = backbone.stride, grid, backbone.hidden_dim
        self.mean, self.std = backbone.mean, backbone.std
        # Random patches must learn, whatever is asked of backbones.
        self.frozen_with_backbone = ("backbone",) if backbone.num_layers else ()
        self.embed_dim = embed_dim or (self.width if self.width <= _WIDEST else _NARROWED)
        same = self.embed_dim == self.width
        self.project: nn.Module = nn.Identity() if same else nn.Linear(self.width, self.embed_dim)
        self.row_places = SinusoidalPositions(self.embed_dim // 2, base=100.0)
        self.column_places = SinusoidalPositions(self.embed_dim - self.embed_dim // 2, base=100.0)
        self.place_scale = nn.Parameter(torch.tensor(0.25))
        self.field_embedding = nn.Embedding(num_fields, self.embed_dim) if num_fields > 1 else None
        if self.field_embedding is not None:
            nn.init.normal_(self.field_embedding.weight, std=0.02)

    @property
    def dtype(self) -> torch.dtype:
        return self.place_scale.dtype

    def features(self, group: TokenGroup) -> Embedded:
        """What the backbone makes of the pictures, (B, S·G, C); with several fields (B, S·G, C + 1), where the last
        number says whose the cell is.
        """
        return self._read(group)

    @property
    def map_channels(self) -> dict[int, int]:
        """Stride → channels of the maps that are finer than the tokens."""
        channels: Mapping[int, int] = getattr(self.backbone, "channels", {})
        return {stride: width for stride, width in sorted(channels.items()) if stride < self.stride}

    def _read(self, group: TokenGroup) -> Embedded:
        mask, cells = group.mask, self.grid**2
        real = group.values["pixels"][mask]
        width = self.width + (self.field_embedding is not None)
        finer: dict[int, Tensor] = {}
        found = torch.zeros(*mask.shape, cells, width, dtype=self.dtype, device=mask.device)
        if len(real):
            maps = self.backbone(self._normalised(real))
            tokens = maps[self.stride].flatten(2).transpose(1, 2).to(self.dtype)
            if self.keeps_maps:
                finer = {stride: _of_first(maps[stride], mask) for stride in self.map_channels}
            if self.field_embedding is not None:
                owner = group.values["field"][mask].to(self.dtype)
                tokens = torch.cat((tokens, owner[:, None, None].expand(-1, cells, 1)), dim=2)
            found[mask] = tokens
        frame = group.values["frame"][:, 0] if self.keeps_maps and "frame" in group.values else None
        return Embedded(found.flatten(1, 2), mask.repeat_interleave(cells, dim=1), finer, frame)

    def _normalised(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) bytes → (x - mean) / std, in float32 until the last step."""
        mean, std = (torch.tensor(value, device=pixels.device)[:, None, None] * 255 for value in (self.mean, self.std))
        return ((pixels.float() - mean) / std).to(self.dtype)

    def forward(self, group: TokenGroup) -> Embedded:
        given = group.values.get("features")
        found = self._read(group) if given is None else Embedded(given.to(self.dtype), group.mask)
        tokens = self.project(found.tokens[..., : self.width]) + self.place_scale * self._places(found.tokens.shape[1])
        if self.field_embedding is not None:
            tokens = tokens + self.field_embedding(found.tokens[..., self.width].long())
        return Embedded(tokens, found.mask, found.maps, found.frame)

    def entry(self) -> InputEntry:
        """At the normalized pixels, (x - mean) / std (``nn.entry.HasEntry``)."""
        return InputEntry(self, self.backbone)

    def _places(self, length: int) -> Tensor:
        """(1, length, D): the same for every picture."""
        cell = torch.arange(length, device=self.place_scale.device)[None] % self.grid**2
        places = (self.row_places(cell // self.grid), self.column_places(cell % self.grid))
        return torch.cat(places, dim=-1).to(self.dtype)


def _of_first(maps: Tensor, mask: Tensor) -> Tensor:
    """(N, C, h, w) of all real pictures → (B, C, h, w) of each row's first one; zeros where a row has none."""
    if mask.shape[1] == 1 and len(maps) == len(mask):
        return maps
    found = maps.new_zeros(len(mask), *maps.shape[1:])
    has = mask.any(1)
    first = (mask.sum(1).cumsum(0) - mask.sum(1))[has]
    found[has] = maps[first]
    return found


def _grid(backbone: VisionBackbone, size: int) -> int:
    cell = backbone.stride
    if backbone.config["architecture"] == "patches" and size % cell:
        raise ConfigError(
            f"image.size = {size} is not a multiple of image.patch_size = {cell}; the rest would not be seen.",
            hint=f"Take {max(cell, round(size / cell) * cell)}.",
        )
    try:
        return backbone.grid(size)
    except Exception as error:  # whatever an encoder makes of pixels that do not suit it
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        hint = f"Take a multiple of {cell}."
        raise ConfigError(
            f"image.size = {size} does not suit backbone {backbone.name!r}: {reason}", hint=hint
        ) from None
