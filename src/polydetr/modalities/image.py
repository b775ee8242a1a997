"""Images: each becomes a grid of tokens, one per cell of the backbone's coarsest features.

Arrays of one row, with S images of all its image fields, in order of the fields:

    pixels  uint8 (S, 3, H, W)  red, green, blue
    field   int8 (S,)           which field
    frame   float32 (S, 6)      where it lies in the square that the model reads (values.framing.Frame), if needed

Pixels stay bytes until the model reads them. Several images of one field are a set: their order is
not encoded.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import PIL
from PIL.Image import Image

from polydetr.core.access import IN_MEMORY, FileAccess
from polydetr.core.documents import EncodedGroup, Window
from polydetr.core.records import Finding, Row
from polydetr.errors import ConfigError
from polydetr.modalities.base import BuildContext, Modality, Needs, digest
from polydetr.modalities.image_units import ImagePart
from polydetr.schema.spec import FieldSpec
from polydetr.specs.choose import choose_image_spec
from polydetr.specs.image import ImageSpec
from polydetr.values.decoding import ImageReading
from polydetr.values.framing import Frame, fit_image, frame_of
from polydetr.values.images import deep_values, file_stamps, list_images, opened_image, outside_levels, png_bytes
from polydetr.values.pixels import ALL_LEVELS, Levels

if TYPE_CHECKING:
    from polydetr.config.sections import ImageConfig

_LEVELS_OF = 200
"""Images of a column from which its levels are learned, and the share of its pixels from which one is unlike them."""
_UNLIKE = 0.05
_FEW_LEVELS = 26
_ENCODING = 1
"""Raised whenever ``encode`` gives other pixels for the same image."""


class ImageModality(Modality):
    """grid: the number of cells per side, by default that of the backbone; fill: the color around images that do not
    fill the square, (red, green, blue); levels: by column, how its images of 16 bits are read.

    Raises:
        ConfigError: the size does not suit the backbone.
    """

    name: ClassVar[str] = "image"
    reads: ClassVar[frozenset[str]] = frozenset({"image"})
    files: ClassVar[frozenset[str]] = frozenset({"vision.json"})
    reads_files: bool = True
    fault: ClassVar[str] = "unreadable"
    paced_in: ClassVar[str] = "images"

    def __init__(
        self,
        fields: Sequence[str],
        spec: ImageSpec,
        *,
        config: ImageConfig,
        needs: Needs,
        grid: int | None = None,
        levels: Mapping[str, Levels] | None = None,
    ) -> None:
        super().__init__(fields, needs=needs)
        self.spec, self.config, self.levels = spec, config, dict(levels or {})
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
        from polydetr.fetch.catalog import BACKBONES

        if isinstance(config.backbone, str) and name in BACKBONES and BACKBONES[name].kind == "text":
            name = "auto"
        spec = choose_image_spec(
            name, hidden_dim=config.model.embed_dim or 128, patch_size=config.image.patch_size, notify=context.notify
        )
        settings = config.image.model_copy(update={"max_images": 1}) if context.needs.frames else config.image
        names = [field.name for field in fields]
        levels = _learn_levels(names, context)
        return cls(names, spec, config=settings, needs=context.needs, levels=levels)

    # -- pixels -------------------------------------------------------------------------------------------------------

    def encode(self, rows: Sequence[Row], *, access: FileAccess = IN_MEMORY) -> EncodedGroup:
        """One window: every image of the rows. Safe to call from several threads (decoding lets others run).

        Raises:
            RowError: an image cannot be read; names the column, the file and the remedy.
        """
        size = self.config.size
        findings: list[Finding] = []
        pixels: list[np.ndarray] = []
        owners: list[int] = []
        frames: list[Frame] = []
        for row in rows:
            for number, field in enumerate(self.fields):
                for item in self._items(row.get(field), field, findings):
                    with self.opened(item, field, access=access, at_least=size) as image:
                        fitted = fit_image(image, size, fit=self.config.fit, fill=self.fill)
                        frames.append(frame_of(image, fit=self.config.fit))
                        outside = outside_levels(image)
                    pixels.append(fitted.transpose(2, 0, 1))
                    owners.append(number)
                    if outside > _UNLIKE:
                        findings.append(Finding("out_of_range", field, self._unlike(field, outside)))
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

    def _unlike(self, field: str, outside: float) -> str:
        black, white = self.levels[field]
        return (
            f"{outside:.0%} of the pixels of {field!r} lie outside of {black:,} to {white:,}, the values of the "
            "training images: they are read as black or white"
        )

    def _reading(self, access: FileAccess) -> ImageReading:
        return ImageReading(access, max_pixels=self.config.max_pixels)

    def opened(
        self, item: object, field: str, *, access: FileAccess, at_least: int | None = None
    ) -> AbstractContextManager[Image]:
        """One image of a column as the model sees it, before it is brought to the model's size: for the model, and for
        all that shows what the model saw. access, at_least: see ``ImageReading``.

        Raises:
            RowError: it cannot be read.
        """
        levels = self.levels.get(field, ALL_LEVELS)
        reading = dataclasses.replace(self._reading(access), levels=levels, at_least=at_least)
        return opened_image(item, column=field, reading=reading)

    def with_limit(self, max_pixels: int) -> Self:
        """The same modality, reading images up to so many pixels."""
        other = self._changed(self.fields, self.needs)
        other.config = self.config.model_copy(update={"max_pixels": max_pixels})
        return other

    def first_image(self, row: Row) -> tuple[str, object] | None:
        """The column and the value of a row's first image; None where it has none."""
        return next(((field, item) for field in self.fields for item in list_images(row.get(field))), None)

    def content_key(self, rows: Sequence[Row], *, access: FileAccess) -> str:
        reading, key = self._reading(access), hashlib.sha256()
        for row in rows:
            for field in self.fields:
                key.update("\0".join(file_stamps(row.get(field), reading)).encode(errors="surrogatepass") + b"\n")
        return key.hexdigest()

    def value_schema(self, column: str) -> dict[str, Any]:
        image = {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/*"}
        several = {"type": "array", "items": image}
        return {
            "anyOf": [image, *([several] if self.config.max_images > 1 else []), {"type": "null"}],
            "description": f"the bytes of an image, of at most {self.config.max_pixels:,} pixels",
        }

    def example_value(self, column: str) -> bytes:
        """A gray square."""
        return png_bytes(np.full((self.config.size, self.config.size, 3), 128, dtype=np.uint8))

    def measure(self, column: str, value: Any) -> float | None:
        """How many images."""
        return float(len(list_images(value))) or None

    # -- explanations ------------------------------------------------------------------------------------------------

    def units(self, row: Row, windows: Sequence[Window]) -> ImagePart:
        """The cells of its images; see ``units.HasUnits``."""
        return ImagePart(
            self.fields, windows[0].arrays, grid=self.grid, fill=self.fill, fit=self.config.fit, opened=self.opened
        )

    # -- state -------------------------------------------------------------------------------------------------------

    @property
    def tokens_per_entry(self) -> int:
        return self.grid**2

    @property
    def is_pretrained(self) -> bool:
        return self.spec.num_layers > 0

    def state(self) -> dict[str, Any]:
        levels = {field: list(levels) for field, levels in self.levels.items()}
        return {**super().state(), "config": self.config.model_dump(), "grid": self.grid, "levels": levels}

    def fingerprint(self) -> str:
        config = self.config
        return digest(
            _ENCODING, PIL.__version__, self.fields, self.needs.frames, config.size, config.fit, config.max_images,
            config.max_pixels, self.fill, self.levels,
        )  # fmt: skip

    def save_files(self, folder: Path) -> None:
        self.spec.save(folder)

    @classmethod
    def from_state(cls, state: Mapping[str, Any], folder: Path, *, others: Mapping[str, Modality]) -> Self:
        from polydetr.config.sections import ImageConfig

        return cls(
            state["fields"],
            ImageSpec.from_folder(folder),
            config=ImageConfig(**state["config"]),
            needs=Needs.from_state(state["needs"]),
            grid=state.get("grid"),
            levels={field: Levels(*levels) for field, levels in state.get("levels", {}).items()},
        )


def _learn_levels(fields: Sequence[str], context: BuildContext) -> dict[str, Levels]:
    """By column, how its images of 16 bits are read: alike in all of them, so that equal values look equal."""
    config, learned = context.config.image, {}
    reading = ImageReading(context.access, max_pixels=config.max_pixels)
    for field in fields:
        items = [item for row in context.rows for item in list_images(row.get(field))[:1]]
        deep = (deep_values(item, reading) for item in items[:: max(1, len(items) // _LEVELS_OF)])
        samples = [sample for sample in deep if sample is not None]
        values = [sample for sample in samples if sample.dtype != np.uint8]
        colors = [sample for sample in samples if sample.dtype == np.uint8]
        if colors and np.ptp(np.quantile(np.concatenate(colors), (0.0005, 0.9995))) < _FEW_LEVELS:
            context.notify(
                f"color images of {field!r} have 16 bits and use less than a tenth of their range: next to nothing is "
                "left of them in 8 bits. Scale them to the whole range first, or give arrays of uint16"
            )
        if values and (levels := Levels.of(np.concatenate(values))) != ALL_LEVELS:
            learned[field] = levels
            context.notify(
                f"images of {field!r} have 16 bits and use {levels.black:,} to {levels.white:,} of 0 to 65,535: these "
                "become black and white, in every image of the column"
            )
    return learned


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
