"""Pictures in an explanation: their cells, the pictures with some cells painted over, and what is shown of them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from torch import nn

from polydetr.core.examples import Arrays
from polydetr.core.records import Row
from polydetr.explain.entries import Entry, PixelEntry
from polydetr.explain.parts import Part, Scores
from polydetr.modalities.image import ImageModality
from polydetr.reports.explained import ExplainedImage
from polydetr.values.images import Reading, fit_image, list_images, open_image

FEWEST, MOST = 8, 16
"""Cells a side: those that the model attends over, but not so few that they say nothing, nor too many to be deleted."""
SHOWN = 480
"""Pixels of the longer side of a picture that is kept for showing."""


class ImagePart(Part):
    """The cells of all pictures of the row, picture after picture, each row by row."""

    group: ClassVar[str] = "image"
    kind: ClassVar[str] = "cells"

    def __init__(self, modality: ImageModality, arrays: Arrays) -> None:
        self.modality, self.pixels = modality, arrays["pixels"]  # (S, 3, H, W)
        size = self.pixels.shape[-1]
        self.side = min(max(modality.grid, FEWEST), MOST, size)
        self.edges = np.linspace(0, size, self.side + 1).round().astype(int)
        self.owners = [modality.fields[number] for number in arrays["field"]]
        self.places = [self.owners[:i].count(owner) for i, owner in enumerate(self.owners)]
        self.columns = tuple(owner for owner in self.owners for _ in range(self.side**2))

    def entry(self, embedder: nn.Module) -> Entry:
        return PixelEntry(embedder)

    def blank(self, arrays: Arrays, window: int) -> dict[str, np.ndarray]:
        """Every picture empty: of its own median colour, which is that of its ground where it has one. A colour that
        no picture of the kind has would be an object to the model, and no blank.
        """
        colour = np.median(arrays["pixels"], axis=(2, 3), keepdims=True).round().astype(np.uint8)
        return {**arrays, "pixels": np.broadcast_to(colour, arrays["pixels"].shape).copy()}

    def scores(self, found: Scores) -> Scores:
        """Summed over the colours, and over the pixels of each cell."""
        heat = found.reshape(len(found), *self.pixels.shape).sum((0, 2))  # (S, H, W)
        starts = self.edges[:-1]
        return np.add.reduceat(np.add.reduceat(heat, starts, axis=1), starts, axis=2).ravel()

    def without(self, row: Row, gone: Collection[int]) -> dict[str, Any]:
        """Cells are painted over with the median colour of the cells that are left (of all where none is): that of the
        whole picture would still tell of what is gone. The row then holds the pictures as the model reads them, which
        reading leaves as they are.
        """
        cells = np.zeros((len(self.owners), self.side, self.side), dtype=bool)
        cells.reshape(-1)[list(gone)] = True
        touched = {o for o, own in zip(self.owners, cells, strict=True) if own.any()}
        pictures: dict[str, list[np.ndarray]] = {owner: [] for owner in touched}
        for owner, pixels, own in zip(self.owners, self.pixels, cells, strict=True):
            if owner in touched:
                pictures[owner].append(self._painted(pixels.transpose(1, 2, 0), own))
        return {**row, **pictures}

    def _painted(self, picture: np.ndarray, gone: np.ndarray) -> np.ndarray:
        sizes = np.diff(self.edges)
        over = np.repeat(np.repeat(gone, sizes, axis=0), sizes, axis=1)  # (H, W)
        left = picture[over if over.all() else ~over]
        return np.where(over[..., None], np.median(left, axis=0).round().astype(np.uint8), picture)

    @property
    def probes(self) -> list[set[int]]:
        """Squares of two by two cells, overlapping; one cell alone may be too little to be missed."""
        cells = np.arange(len(self)).reshape(len(self.owners), self.side, self.side)
        starts = range(-1, self.side)
        return [
            set(picture[max(y, 0) : y + 2, max(x, 0) : x + 2].ravel().tolist())
            for picture in cells
            for y in starts
            for x in starts
        ]

    def explained(self, row: Row, scores: Scores, *, folder: Path | None) -> tuple[ExplainedImage, ...]:
        """Every picture with its heat map; the picture is opened once more, for the model's own is small."""
        config = self.modality.config
        root = Path(config.root) if config.root is not None else None
        reading = Reading(folder=folder, root=root, max_pixels=config.max_pixels, at_least=SHOWN)
        heat = scores.reshape(len(self.owners), self.side, self.side)
        return tuple(
            ExplainedImage(owner, place, own, self._shown(list_images(row[owner])[place], owner, reading))
            for owner, place, own in zip(self.owners, self.places, heat, strict=True)
        )

    def _shown(self, item: object, column: str, reading: Reading) -> np.ndarray:
        """What the model reads of it, in its own proportions."""
        picture, config = open_image(item, column=column, reading=reading), self.modality.config
        if config.fit == "stretch":
            picture = picture.copy()
            picture.thumbnail((SHOWN, SHOWN), Image.Resampling.BILINEAR)
            return np.asarray(picture)
        sides = (min if config.fit == "crop" else max)(picture.size)
        return fit_image(picture, min(SHOWN, sides), fit=config.fit, fill=self.modality.fill)
