"""Images: each becomes a grid of tokens, one per cell of the backbone's coarsest features.

Arrays of one row, with S images of all its image fields, in order of the fields:

    pixels  uint8 (S, 3, H, W)  red, green, blue
    field   int8 (S,)           which field
    frame   float32 (S, 6)      where it lies in the square that the model reads (values.images.Frame), if needed

Pixels stay bytes until the model reads them. Several images of one field are a set: their order is
not encoded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import PIL
from PIL.Image import Image

from polydetr.config.sections import ImageConfig
from polydetr.core.access import IN_MEMORY, FileAccess
from polydetr.core.documents import EncodedGroup, Window
from polydetr.core.records import Finding, Row
from polydetr.errors import ConfigError
from polydetr.fetch.catalog import BACKBONES
from polydetr.modalities.base import BuildContext, Modality, Needs, digest
from polydetr.modalities.image_units import ImagePart
from polydetr.schema.spec import FieldSpec
from polydetr.specs.choose import choose_image_spec
from polydetr.specs.image import ImageSpec
from polydetr.values.files import find_file
from polydetr.values.images import (
    Frame,
    ReadOptions,
    file_stamps,
    fit_image,
    frame_of,
    list_images,
    open_image,
)

_ENCODING = 1
"""Raised whenever ``encode`` gives other pixels for the same image."""


class ImageModality(Modality):
    """grid: the number of cells per side, by default that of the backbone; fill: the color around images that do not
    fill the square, (red, green, blue).

    Raises:
        ConfigError: the size does not suit the backbone.
    """

    name: ClassVar[str] = "image"
    reads: ClassVar[frozenset[str]] = frozenset({"image"})
    reads_files: bool = True
    fault: ClassVar[str] = "unreadable"

    def __init__(
        self, fields: Sequence[str], spec: ImageSpec, *, config: ImageConfig, needs: Needs, grid: int | None = None
    ) -> None:
        super().__init__(fields, needs=needs)
        self.spec, self.config = spec, config
        self.grid = _grid(spec, config.size) if grid is None else grid
        red, green, blue = (round(255 * value) for value in spec.mean)
        self.fill = red, green, blue

    @classmethod
    def build(cls, fields: Sequence[FieldSpec], context: BuildContext) -> Self:
        """With the backbone that the configuration names; a backbone for text leaves images on "auto".

        Raises:
            BackboneError: the backbone cannot be loaded. ConfigError: image.size does not suit it.
        """
        config = context.config
        name = config.backbone_of("image")
        if isinstance(config.backbone, str) and name in BACKBONES and BACKBONES[name].kind == "text":
            name = "auto"
        spec = choose_image_spec(
            name, hidden_dim=config.model.embed_dim or 128, patch_size=config.image.patch_size, notify=context.notify
        )
        settings = config.image.model_copy(update={"max_images": 1}) if context.needs.frames else config.image
        return cls([field.name for field in fields], spec, config=settings, needs=context.needs)

    # -- pixels -------------------------------------------------------------------------------------------------------

    def encode(self, rows: Sequence[Row], *, access: FileAccess = IN_MEMORY) -> EncodedGroup:
        """One window: every image of the rows. Safe to call from several threads (decoding lets others run).

        Raises:
            RowError: an image cannot be read; names the column, the file and the remedy.
        """
        reading, size = self._reading(access, at_least=self.config.size), self.config.size
        findings: list[Finding] = []
        pixels: list[np.ndarray] = []
        owners: list[int] = []
        frames: list[Frame] = []
        for row in rows:
            for number, field in enumerate(self.fields):
                for item in self._items(row.get(field), field, findings):
                    opened = open_image(item, column=field, reading=reading)
                    fitted = fit_image(opened, size, fit=self.config.fit, fill=self.fill)
                    pixels.append(fitted.transpose(2, 0, 1))
                    owners.append(number)
                    frames.append(frame_of(opened, fit=self.config.fit))
        stacked = np.stack(pixels) if pixels else np.zeros((0, 3, size, size), dtype=np.uint8)
        arrays = {"pixels": stacked, "field": np.array(owners, dtype=np.int8)}
        if self.needs.frames:
            arrays["frame"] = np.array(frames, dtype=np.float32) if frames else np.zeros((0, 6), dtype=np.float32)
        return EncodedGroup([Window(arrays)], (), findings)

    def _items(self, value: object, field: str, findings: list[Finding]) -> list[object]:
        items, most = list_images(value), self.config.max_images
        if not items:
            findings.append(Finding("missing", field, f"{field!r} is missing"))
        elif len(items) > most:
            findings.append(
                Finding("truncated", field, f"{field!r} has {len(items)} images; the first {most} are read")
            )
        return items[:most]

    def _reading(self, access: FileAccess, *, at_least: int | None = None) -> ReadOptions:
        return ReadOptions(access, max_pixels=self.config.max_pixels, at_least=at_least)

    def first_image(self, row: Row, access: FileAccess) -> Path | Image | None:
        """The first image of a row, for reports: its path where it has one, opened otherwise.

        Raises:
            RowError: it cannot be read.
        """
        for field in self.fields:
            for item in list_images(row.get(field)):
                if isinstance(item, str | Path):
                    return find_file(item, access, column=field)
                return open_image(item, column=field, reading=self._reading(access))
        return None

    def content_key(self, rows: Sequence[Row], *, access: FileAccess) -> str:
        reading, key = self._reading(access), hashlib.sha256()
        for row in rows:
            for field in self.fields:
                key.update("\0".join(file_stamps(row.get(field), reading)).encode(errors="surrogatepass") + b"\n")
        return key.hexdigest()

    # -- explanations ------------------------------------------------------------------------------------------------

    def units(self, row: Row, windows: Sequence[Window]) -> ImagePart:
        """The cells of its images; see ``units.HasUnits``."""
        return ImagePart(self.fields, windows[0].arrays, grid=self.grid, fill=self.fill, config=self.config)

    # -- state -------------------------------------------------------------------------------------------------------

    @property
    def tokens_per_entry(self) -> int:
        return self.grid**2

    @property
    def is_pretrained(self) -> bool:
        return self.spec.num_layers > 0

    def state(self) -> dict[str, Any]:
        return {**super().state(), "config": self.config.model_dump(), "grid": self.grid}

    def fingerprint(self) -> str:
        config = self.config
        return digest(
            _ENCODING, PIL.__version__, self.fields, self.needs.frames, config.size, config.fit, config.max_images,
            config.max_pixels, self.fill,
        )  # fmt: skip

    def save_files(self, folder: Path) -> None:
        self.spec.save(folder)

    @classmethod
    def from_state(cls, state: Mapping[str, Any], folder: Path, *, others: Mapping[str, Modality]) -> Self:
        return cls(
            state["fields"],
            ImageSpec.from_folder(folder),
            config=ImageConfig(**state["config"]),
            needs=Needs.from_state(state["needs"]),
            grid=state.get("grid"),
        )


def _grid(spec: ImageSpec, size: int) -> int:
    cell = spec.stride
    if spec.config["architecture"] == "patches" and size % cell:
        raise ConfigError(
            f"image.size = {size} is not a multiple of image.patch_size = {cell}; the rest would not be read.",
            hint=f"Take {max(cell, round(size / cell) * cell)}.",
        )
    try:
        return spec.grid(size)
    except Exception as error:  # whatever an encoder makes of pixels that do not suit it
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        hint = f"Take a multiple of {cell}."
        raise ConfigError(f"image.size = {size} does not suit backbone {spec.name!r}: {reason}", hint=hint) from None
