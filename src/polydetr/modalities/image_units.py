"""Cells of images as units of an explanation, the images with some cells filled, and the images for reports."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from polydetr.core.access import FileAccess
from polydetr.core.examples import Arrays
from polydetr.core.records import Row
from polydetr.modalities.units import Part, Scores, UnitKind, shown_count
from polydetr.values.framing import SHOWN, Fit, shown_part
from polydetr.values.images import list_images

FEWEST, MOST = 8, 16
"""Bounds of the cells per side, which are otherwise those that the model attends over: few enough to delete one by one.
"""


class ImagePart(Part):
    """The cells of all images of the row, image after image, each row by row."""

    group: ClassVar[str] = "image"
    kind: ClassVar[UnitKind] = "cells"

    def __init__(
        self,
        columns: Sequence[str],
        arrays: Arrays,
        *,
        grid: int,
        fill: tuple[int, int, int],
        fit: Fit,
        opened: Callable[..., AbstractContextManager[Image.Image]],
    ) -> None:
        """columns: those that the modality reads; grid: cells per side that the model attends over; fill: the color
        around an image that does not fill its square; opened: ``ImageModality.opened``.
        """
        self.fill, self.opened, self.pixels = fill, opened, arrays["pixels"]  # (S, 3, H, W)
        self.fit: Fit = fit
        size = self.pixels.shape[-1]
        self.side = min(max(grid, FEWEST), MOST, size)
        self.edges = np.linspace(0, size, self.side + 1).round().astype(int)
        self.owners: list[str] = [columns[int(number)] for number in arrays["field"]]
        self.indices = [self.owners[:i].count(owner) for i, owner in enumerate(self.owners)]
        self.columns = tuple(owner for owner in self.owners for _ in range(self.side**2))

    def blank(self, arrays: Arrays, window: int) -> dict[str, np.ndarray]:
        """Every image filled with its own median color, which is that of its background where it has one. A color that
        no such image has would be an object to the model, and not blank.
        """
        color = np.median(arrays["pixels"], axis=(2, 3), keepdims=True).round().astype(np.uint8)
        return {**arrays, "pixels": np.broadcast_to(color, arrays["pixels"].shape).copy()}

    def scores(self, of_vectors: Scores) -> Scores:
        """Summed over the colors, and over the pixels of each cell."""
        heat = of_vectors.reshape(len(of_vectors), *self.pixels.shape).sum((0, 2))  # (S, H, W)
        starts = self.edges[:-1]
        return np.add.reduceat(np.add.reduceat(heat, starts, axis=1), starts, axis=2).ravel()

    def without(self, row: Row, deleted: Collection[int]) -> dict[str, Any]:
        """Cells are filled with the median color of the remaining cells (of all where none remains): the median of the
        whole image would still depend on what was deleted. The row then holds the images as the model reads them, which
        encoding leaves as they are.
        """
        cells = np.zeros((len(self.owners), self.side, self.side), dtype=bool)
        cells.reshape(-1)[list(deleted)] = True
        touched = {o for o, own in zip(self.owners, cells, strict=True) if own.any()}
        images: dict[str, list[np.ndarray]] = {owner: [] for owner in touched}
        for owner, pixels, own in zip(self.owners, self.pixels, cells, strict=True):
            if owner in touched:
                images[owner].append(self._filled(pixels.transpose(1, 2, 0), own))
        return {**row, **images}

    def _filled(self, image: np.ndarray, deleted: np.ndarray) -> np.ndarray:
        sizes = np.diff(self.edges)
        over = np.repeat(np.repeat(deleted, sizes, axis=0), sizes, axis=1)  # (H, W)
        left = image[over if over.all() else ~over]
        return np.where(over[..., None], np.median(left, axis=0).round().astype(np.uint8), image)

    @property
    def probes(self) -> list[set[int]]:
        """Overlapping squares of two by two cells; deleting one cell alone may change too little."""
        cells = np.arange(len(self)).reshape(len(self.owners), self.side, self.side)
        starts = range(-1, self.side)
        return [
            set(image[max(y, 0) : y + 2, max(x, 0) : x + 2].ravel().tolist())
            for image in cells
            for y in starts
            for x in starts
        ]

    def shown(self, value: Any) -> str:
        return shown_count(len(list_images(value)), "image")

    def image(self, row: Row, number: int, *, access: FileAccess) -> NDArray[np.uint8]:
        """The part that the model reads, in the proportions of the file, which is opened again for its resolution."""
        column = self.owners[number]
        item = list_images(row[column])[self.indices[number]]
        with self.opened(item, column, access=access, at_least=SHOWN) as image:
            return shown_part(image, fit=self.fit, fill=self.fill)
