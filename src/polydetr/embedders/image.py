"""Images: pixels → cells of a backbone's features.

Shapes: B examples, S images per example, G cells per image, N images that the backbone reads, C the backbone's width,
D ``embed_dim``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from polydetr.backbones import image as encoders
from polydetr.backbones.detr import PretrainedDetr
from polydetr.embedders.base import Blend, Embedder, column_embedding
from polydetr.embedders.entry import InputEntry
from polydetr.embedders.image_augment import ImageAugment
from polydetr.embedders.image_scene import SceneAugment
from polydetr.modalities.image import ImageModality
from polydetr.nn.batch import Embedded, Scene, TokenGroup
from polydetr.nn.cpu.linear import is_capturing
from polydetr.nn.positions import SinusoidalPositions

_WIDEST, _NARROWED = 512, 256
"""A backbone of more channels than this is projected: the shared encoder's cost grows with the square of the width."""


class ImageEmbedder(Embedder):
    """TokenGroup → Embedded: cells (B, S·G, D), image after image, each row by row.

    token = project(cell) + scale · place + field, where place holds the waves of the cell's row and of its column
    (Vaswani et al. 2017, arXiv 1706.03762, section 3.5, for each axis half), and scale is learned.

    grid: cells per side. keeps_maps: whether the backbone's finer features are given as well. augmentation: of all
    training images; scenes: in its place where targets have to move with the images, None otherwise.
    """

    read_beside_features = ()

    def __init__(self, modality: ImageModality, *, embed_dim: int | None) -> None:
        spec, needs, num_fields = modality.spec, modality.needs, len(modality.fields)
        super().__init__(embed_dim or (spec.hidden_dim if spec.hidden_dim <= _WIDEST else _NARROWED))
        self.backbone = encoders.build(spec)
        self.stride, self.grid, self.width = spec.stride, modality.grid, spec.hidden_dim
        self.mean, self.std, self.keeps_maps = spec.mean, spec.std, needs.frames
        self.map_channels = {stride: width for stride, width in sorted(spec.channels.items()) if stride < spec.stride}
        self.augmentation = ImageAugment.from_config(modality.config.augment)
        scenes = SceneAugment(self.augmentation, zoom=needs.zoom, fill=modality.fill)
        self.scenes = scenes if needs.frames else None
        self.detr = spec.detr
        # A patch embedding with random weights must learn, also where backbones are frozen.
        self.frozen_with_backbone = ("backbone",) if spec.num_layers else ()
        same = self.embed_dim == self.width
        self.project: nn.Module = nn.Identity() if same else nn.Linear(self.width, self.embed_dim)
        self.row_places = SinusoidalPositions(self.embed_dim // 2, base=100.0)
        self.column_places = SinusoidalPositions(self.embed_dim - self.embed_dim // 2, base=100.0)
        self.place_scale = nn.Parameter(torch.tensor(0.25))
        self.field_embedding = column_embedding(num_fields, self.embed_dim)
        if self.detr is not None:
            # The DETR was trained on this backbone's maps as they are, and has positions of its own.
            nn.init.zeros_(self.place_scale)
            if isinstance(self.project, nn.Linear):
                nn.init.eye_(self.project.weight)
                nn.init.zeros_(self.project.bias)

    @classmethod
    def from_modality(cls, modality: ImageModality, *, embed_dim: int | None, others: Mapping[str, nn.Module]) -> Self:
        return cls(modality, embed_dim=embed_dim)

    @staticmethod
    def pretrained(modality: ImageModality) -> Mapping[str, Tensor]:
        if modality.spec.source is None:
            return {}
        return {f"backbone.{name}": tensor for name, tensor in encoders.weights(modality.spec).items()}

    @staticmethod
    def pretrained_detr(modality: ImageModality) -> PretrainedDetr | None:
        return encoders.pretrained_detr(modality.spec)

    @property
    def dtype(self) -> torch.dtype:
        return self.place_scale.dtype

    # -- training -------------------------------------------------------------------------------------------------

    def augment(
        self, group: TokenGroup, generator: torch.Generator, *, progress: float = 0.0
    ) -> tuple[TokenGroup, Scene | None]:
        """Every real image is mirrored, cropped and recolored at random, each differently."""
        pixels = group.values.get("pixels")
        if pixels is None:
            return group, None
        if self.scenes is not None:
            changed, scene = self.scenes(pixels[:, 0], generator, progress)
            return _with_pixels(group, changed[:, None]), scene
        if not group.mask.any():
            return group, None
        changed = pixels.clone()
        changed[group.mask] = self.augmentation(pixels[group.mask], generator).pixels
        return _with_pixels(group, changed), None

    def blend(self, group: TokenGroup, generator: torch.Generator) -> Blend | None:
        if self.augmentation.mix == "none" or "pixels" not in group.values or group.mask.shape[1] != 1:
            return None  # which of several images would be blended with which?
        blended = self.augmentation.blend(group.values["pixels"][:, 0], generator)
        return Blend(_with_pixels(group, blended.pixels[:, None]), blended.permutation, blended.lam)

    # -- vectors --------------------------------------------------------------------------------------------------

    def features(self, group: TokenGroup) -> Embedded:
        """The backbone's output for the images, (B, S·G, C); with several fields (B, S·G, C + 1), where the last number
        is that of the cell's field.
        """
        mask, cells = group.mask, self.grid**2
        # In a recorded graph the backbone reads padding too, because a graph cannot select by the mask.
        chosen = None if is_capturing() else mask
        tokens, finer = self._read(group, chosen)
        width = self.width + (self.field_embedding is not None)
        if chosen is None:
            padded = tokens.unflatten(0, mask.shape).masked_fill(~mask[..., None, None], 0.0)
        else:
            padded = torch.zeros(*mask.shape, cells, width, dtype=self.dtype, device=mask.device)
            if len(tokens):
                padded[mask] = tokens
        frame = group.values["frame"][:, 0] if self.keeps_maps and "frame" in group.values else None
        return Embedded(padded.flatten(1, 2), mask.repeat_interleave(cells, dim=1), finer, frame)

    def _read(self, group: TokenGroup, chosen: Tensor | None) -> tuple[Tensor, dict[int, Tensor]]:
        """(N, G, C or C + 1), and the finer maps of each row's first image by stride. chosen: the mask of the
        images that are read, (B, S); None: all of them, also padding.
        """

        def read(values: Tensor) -> Tensor:
            return values.flatten(0, 1) if chosen is None else values[chosen]

        pixels = read(group.values["pixels"])
        if not is_capturing() and not len(pixels):
            return pixels.new_zeros(0, dtype=self.dtype), {}
        maps = self.backbone(self._normalized(pixels))
        tokens = maps[self.stride].flatten(2).transpose(1, 2).to(self.dtype)
        finer: dict[int, Tensor] = {}
        if self.keeps_maps:
            first = _of_all_first if chosen is None else _of_first
            finer = {stride: first(maps[stride], group.mask) for stride in self.map_channels}
        if self.field_embedding is not None:
            owner = read(group.values["field"]).to(self.dtype)
            tokens = torch.cat((tokens, owner[:, None, None].expand(-1, self.grid**2, 1)), dim=2)
        return tokens, finer

    def _normalized(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) bytes → (x - mean) / std, in float32 until the last step."""
        mean, std = (torch.tensor(value, device=pixels.device)[:, None, None] * 255 for value in (self.mean, self.std))
        return ((pixels.float() - mean) / std).to(self.dtype)

    def forward(self, group: TokenGroup) -> Embedded:
        stored = group.values.get("features")
        cells = self.features(group) if stored is None else Embedded(stored.to(self.dtype), group.mask)
        tokens = self.project(cells.tokens[..., : self.width]) + self.place_scale * self._places(cells.tokens.shape[1])
        if self.field_embedding is not None:
            tokens = tokens + self.field_embedding(cells.tokens[..., self.width].long())
        return Embedded(tokens, cells.mask, cells.maps, cells.frame)

    def entry(self) -> InputEntry:
        """At the normalized pixels, (x - mean) / std."""
        return InputEntry(self, self.backbone)

    def _places(self, length: int) -> Tensor:
        """(1, length, D): the same for every image."""
        cell = torch.arange(length, device=self.place_scale.device)[None] % self.grid**2
        places = (self.row_places(cell // self.grid), self.column_places(cell % self.grid))
        return torch.cat(places, dim=-1).to(self.dtype)


def _with_pixels(group: TokenGroup, pixels: Tensor) -> TokenGroup:
    return TokenGroup({**group.values, "pixels": pixels}, group.mask, group.positions)


def _of_first(maps: Tensor, mask: Tensor) -> Tensor:
    """(N, C, h, w) of all real images → (B, C, h, w) of each row's first one; zeros where a row has none."""
    if mask.shape[1] == 1 and len(maps) == len(mask):
        return maps
    padded = maps.new_zeros(len(mask), *maps.shape[1:])
    has = mask.any(1)
    first = (mask.sum(1).cumsum(0) - mask.sum(1))[has]
    padded[has] = maps[first]
    return padded


def _of_all_first(maps: Tensor, mask: Tensor) -> Tensor:
    """The same from (B·S, C, h, w) of all images and padding; real images stand before padding."""
    return maps.unflatten(0, mask.shape)[:, 0].masked_fill(~mask[:, :1, None, None], 0.0)
