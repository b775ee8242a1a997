"""Images as PNG files: the same pixels back, one or many."""

from __future__ import annotations

import io
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polydetr.errors import InputError
from polydetr.values.images import png_bytes

grid_png = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "grid.py"))["grid_png"]


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3)])
def test_an_image_keeps_every_pixel(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    found = np.asarray(Image.open(io.BytesIO(png_bytes(image))))
    assert np.array_equal(found, image.reshape(found.shape))


@pytest.mark.parametrize("image", [np.zeros((4, 4)), np.zeros((4, 4, 2), np.uint8), np.zeros(4, np.uint8)])
def test_what_is_no_image_is_refused(image: np.ndarray) -> None:
    with pytest.raises(InputError, match="is no image"):
        png_bytes(image)


def test_a_grid_has_each_image_in_its_place(tmp_path: Path) -> None:
    rows = [[np.full((2, 3), 10 * i + j, np.uint8) for j in range(n)] for i, n in enumerate((3, 2))]
    path = grid_png(rows, tmp_path / "deep" / "grid.png", scale=2, gap=1)
    sheet = np.asarray(Image.open(path))
    assert sheet.shape == (2 * 5 + 1, 3 * 7 + 1)
    assert (sheet[1:5, 15:21] == 2).all()
    assert (sheet[6:10, 8:14] == 11).all()
    assert (sheet[6:10, 15:21] == 255).all()  # the shorter row ends in an empty place
    assert (sheet[0] == 255).all()


def test_color_in_a_grid_stays(tmp_path: Path) -> None:
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 200
    sheet = np.asarray(Image.open(grid_png([[red]], tmp_path / "grid.png", gap=0)))
    assert np.array_equal(sheet, red)


def test_images_of_two_sizes_make_no_grid(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one shape"):
        grid_png([[np.zeros((2, 2), np.uint8), np.zeros((3, 2), np.uint8)]], tmp_path / "grid.png")
    assert not (tmp_path / "grid.png").exists()
