"""Every kind of cell becomes upright RGB pixels, or an error that names the file and the remedy."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from huge_pictures import huge_png
from polydetr.core.access import FileAccess
from polydetr.errors import RowError
from polydetr.values.cells import is_empty
from polydetr.values.decoding import ImageReading
from polydetr.values.framing import fit_image, frame_of
from polydetr.values.images import file_stamps, list_images, open_image

RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def opened(value, **how):
    """Every image of a cell."""
    return [np.asarray(open_image(one, **how)) for one in list_images(value)]


def halves(width: int = 40, height: int = 24, *, left: tuple[int, ...] = RED, mode: str = "RGB") -> Image.Image:
    """Left half one color, the rest green."""
    image = Image.new(mode, (width, height), GREEN)
    image.paste(left, (0, 0, width // 2, height))
    return image


def packed(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)  # type: ignore[arg-type]
    return file.getvalue()


def one(value: object, **options: object) -> np.ndarray:
    """options: of ``ImageReading`` and of ``FileAccess``."""
    access = FileAccess(**{name: options.pop(name) for name in ("folder", "root") if name in options})  # type: ignore[arg-type]
    (found,) = opened(value, column="photo", reading=ImageReading(access, **options))  # type: ignore[arg-type]
    assert found.dtype == np.uint8
    assert found.shape[2] == 3
    return found


def left_and_right(found: np.ndarray) -> tuple[list[int], list[int]]:
    middle = found.shape[0] // 2
    return found[middle, 3].tolist(), found[middle, -4].tolist()


def near(found: object, wanted: tuple[int, ...], by: int = 6) -> bool:
    return bool(np.abs(np.array(found, dtype=int) - np.array(wanted)).max() <= by)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("JPEG", {"quality": 95, "subsampling": 0}), ("WEBP", {"lossless": True}), ("GIF", {}), ("BMP", {}),
     ("TIFF", {}), ("PPM", {}), ("JPEG2000", {}), ("AVIF", {"quality": 95})],
)  # fmt: skip
def test_formats_by_path_bytes_and_pil(kind: str, options: dict[str, object], tmp_path: Path) -> None:
    if kind == "AVIF":
        pytest.importorskip("PIL._avif")
    content = packed(halves(), kind, **options)
    (tmp_path / "p").write_bytes(content)
    values = [content, bytearray(content), tmp_path / "p", str(tmp_path / "p"), Image.open(io.BytesIO(content))]
    for value in [*values, {"bytes": content, "path": None}, {"bytes": None, "path": str(tmp_path / "p")}]:
        found = one(value)
        assert found.shape == (24, 40, 3)
        left, right = left_and_right(found)
        assert near(left, RED)
        assert near(right, GREEN)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_obeyed(orientation: int) -> None:
    upright = halves()
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    stored = upright if turned is None else upright.transpose(turned)
    found = one(packed(stored, "JPEG", quality=95, subsampling=0, exif=exif))
    assert found.shape == (24, 40, 3)
    assert near(left_and_right(found)[0], RED)
    assert near(left_and_right(found)[1], GREEN)


def test_transparency_lies_over_white() -> None:
    for mode in ("RGBA", "LA"):
        image = Image.new(mode, (8, 8), (*RED, 0) if mode == "RGBA" else (0, 0))
        image.putpixel((7, 4), (*GREEN, 255) if mode == "RGBA" else (10, 255))
        found = one(packed(image))
        assert found[4, 3].tolist() == list(WHITE)
        assert found[4, 7].tolist() == (list(GREEN) if mode == "RGBA" else [10] * 3)
    half = one(packed(Image.new("RGBA", (4, 4), (255, 0, 0, 128))))
    assert near(half[0, 0], (255, 127, 127), 1)
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([*RED, *GREEN])
    palette.putpixel((5, 5), 1)
    found = one(packed(palette, "PNG", transparency=0))
    assert (found[0, 0].tolist(), found[5, 5].tolist()) == (list(WHITE), list(GREEN))
    keyed = one(packed(halves(), "PNG", transparency=RED))  # one color of an RGB image is named transparent
    assert left_and_right(keyed) == (list(WHITE), list(GREEN))


def test_gray_sixteen_bit_cmyk_palette_and_bilevel() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(one(packed(Image.fromarray(ramp)))[..., 1], ramp)
    deep = ramp.astype(np.uint16) * 257
    for kind in ("PNG", "TIFF"):
        assert np.array_equal(one(packed(Image.fromarray(deep), kind))[..., 0], ramp)
    assert np.array_equal(one(packed(Image.fromarray(ramp.astype(np.float32) / 255), "TIFF"))[..., 2], ramp)
    cmyk = one(packed(halves().convert("CMYK"), "JPEG", quality=95))
    assert near(left_and_right(cmyk)[0], RED, 12)
    assert near(left_and_right(cmyk)[1], GREEN, 12)
    assert left_and_right(one(packed(halves().quantize(4)))) == (list(RED), list(GREEN))
    assert one(packed(Image.new("1", (4, 4), 1))).min() == 255


def test_of_an_animation_the_first_frame() -> None:
    frames = [Image.new("RGB", (6, 6), color) for color in (RED, GREEN)]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        content = packed(frames[0], kind, save_all=True, append_images=frames[1:])
        assert near(one(content)[3, 3], RED)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.full((5, 7), 9, np.uint8), 9),
        (np.full((5, 7, 1), 9, np.uint8), 9),
        (np.full((5, 7, 3), 9, np.uint8), 9),
        (np.dstack([np.full((5, 7, 3), 9, np.uint8), np.zeros((5, 7), np.uint8)]), 255),
        (np.full((5, 7), 9 * 257, np.uint16), 9),
        (np.full((5, 7, 3), 9 * 257, np.uint16), 9),
        (np.full((5, 7, 3), 0.5), 128),
        (np.full((5, 7, 3), 1.0, np.float16), 255),
        (np.full((7, 5, 3), 9, np.uint8).transpose(1, 0, 2), 9),
    ],
)
def test_arrays(array: np.ndarray, expected: int) -> None:
    found = one(array)
    assert found.shape == (5, 7, 3)
    assert (found == expected).all()


def test_several_images_and_none(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(packed(halves()))
    array = np.zeros((3, 3), np.uint8)
    for value in (["a.png", array], ("a.png", array)):
        assert [p.shape for p in opened(value, reading=ImageReading(FileAccess(tmp_path)))] == [(24, 40, 3), (3, 3, 3)]
    assert len(list_images(np.array(["a.png", "b.png"], dtype=object))) == 2
    for value in (None, float("nan"), np.float32("nan"), "", "  ", [], ()):
        assert is_empty(value)
        assert opened(value) == []
    assert not any(is_empty(v) for v in ("a", 0, 0.0, b"", ["a"]))


def test_too_large_an_image_is_judged_by_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    with pytest.raises(AssertionError, match="it was decoded"):  # the limit is the user's, Pillow's own is not asked
        one(huge_png(40_000, 40_000), max_pixels=10**10)
    with pytest.raises(RowError, match="--max-pixels N"):
        one(huge_png(40_000, 40_000))
    with pytest.raises(RowError, match=r"has 9,000 x 9,000 pixels, more than image\.max_pixels = 64,000,000"):
        one(huge_png(9_000, 9_000))
    for decoded in (np.zeros((20, 20), np.uint8), Image.new("L", (20, 20))):
        assert one(decoded, max_pixels=100).shape == (20, 20, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_an_image_that_was_cut_off_is_an_error(kind: str, share: float, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    content = packed(Image.fromarray(noise), kind)
    (tmp_path / "cut.img").write_bytes(content[: int(len(content) * share)])
    for at_least in (None, 8):
        with pytest.raises(RowError, match=r"cut\.img' is (broken or cut off|not an image)") as caught:
            one("cut.img", folder=tmp_path, at_least=at_least)
        assert caught.value.location is not None
        assert caught.value.location.column == "photo"
        assert caught.value.hint


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("at_least", [None, 8])
def test_a_jpeg_that_ends_early_with_an_end_mark_is_no_gray_image(mode: str, at_least: int | None) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)).convert(mode)
    content = packed(noise, "JPEG")
    for share in (0.4, 0.7, 0.95):
        with pytest.raises(RowError, match="its data end before the image does"):
            one(content[: int(len(content) * share)] + b"\xff\xd9", at_least=at_least)
    gray = np.full((96, 96, 3), 128, np.uint8)
    assert (one(packed(Image.fromarray(gray), "JPEG"), at_least=at_least) == 128).all()  # really gray: no error
    gray[:80] = np.random.default_rng(1).integers(0, 255, (80, 96, 3), dtype=np.uint8)
    one(packed(Image.fromarray(gray), "JPEG", progressive=True), at_least=at_least)


def test_a_png_without_its_data_is_an_error() -> None:
    with pytest.raises(RowError, match="broken or cut off"):
        one(huge_png(50, 50))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("empty.png", r"'empty.png' is empty \(0 bytes\)"),
        ("text.png", r"'text.png' is not an image that can be read\. Expected one of JPEG"),
        ("drawing.eps", "is not an image that can be read"),
        ("absent.png", "'absent.png' does not exist"),
        ("folder", "'folder' is a folder"),
        ("pipe", "'pipe' is not an ordinary file"),
        ("http://example.org/a.png", r"is an address \(http:\), and nothing is fetched.*Download the images first"),
        ("s3://bucket/a.png", "is an address"),
        ("data:image/png;base64,AAAA", "is an address"),
        ("a\0b.png", "null"),
        (b"", "is empty"),
        (b"words", r"the image of 5 bytes is not an image"),
        ([None], "is missing: None"),
        ([float("nan")], "is missing"),
        ([[1, 2]], "is list"),
        (7, "is int: 7"),
        ({"a": 1}, "is dict"),
        (np.zeros((3, 8, 8), np.uint8), r"shape \(3, 8, 8\).*transpose\(1, 2, 0\)"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"list\(array\)"),
        (np.zeros((8, 8, 2), np.uint8), r"shape \(8, 8, 2\)"),
        (np.zeros((0, 8), np.uint8), r"shape \(0, 8\)"),
        (np.zeros(8, np.uint8), r"shape \(8,\)"),
        (np.full((8, 8), 200.0), "from 200.0 to 200.0"),
        (np.full((8, 8), np.nan), "from nan to nan"),
        (np.full((8, 8), -1, np.int16), "from -1 to -1"),
        (np.full((8, 8), 1, np.int64), "array of int64"),
        (np.zeros((8, 8), bool), "array of bool"),
        (np.zeros((8, 8), complex), "array of complex"),
    ],
)  # fmt: skip
def test_what_is_no_image(value: object, message: str, tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_bytes(b"just some words, no image")
    (tmp_path / "drawing.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RowError, match=message):
        opened(value, column="photo", reading=ImageReading(FileAccess(tmp_path)))


def test_what_is_no_image_is_not_shown(tmp_path: Path) -> None:
    for name, content in {
        "a.png": b"secret-token",
        "b.png": b"P5 secret-token",
        "c.png": b"P3\nsecret-token 1 255\n",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RowError, match=f"'{name}' is ") as error:
            one(name, folder=tmp_path)
        assert "secret" not in str(error.value)


def test_a_file_larger_than_any_image_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "long.png").open("wb") as file:
        file.truncate(300 << 20)  # without taking room on the disk
    with pytest.raises(RowError, match=r"'long.png' has 314,572,800 bytes"):
        one("long.png", folder=tmp_path, max_pixels=100_000)


def test_a_large_jpeg_is_decoded_small_and_looks_the_same() -> None:
    y, x = np.mgrid[0:600, 0:800]
    smooth = np.stack([x / 800, y / 600, (x + y) / 1400], 2)
    content = packed(Image.fromarray((smooth * 255).astype(np.uint8)), "JPEG", quality=95)
    small, whole = one(content, at_least=64), one(content)
    assert small.shape == (75, 100, 3)
    assert whole.shape == (600, 800, 3)
    first, second = (fit_image(Image.fromarray(p), 32, fit="stretch").astype(int) for p in (small, whole))
    assert np.abs(first - second).max() <= 3


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [(60, 20), (20, 60), (30, 30), (31, 17), (1, 900)])
def test_fitting_moves_points_as_it_says(fit: str, size: tuple[int, int]) -> None:
    width, height = size
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[height // 3 : -(height // 3) or None, width // 3 : -(width // 3) or None] = 255
    found = fit_image(Image.fromarray(canvas), 48, fit=fit, fill=(0, 0, 0))  # type: ignore[arg-type]
    assert found.shape == (48, 48, 3)
    assert found.dtype == np.uint8
    ys, xs = np.nonzero(found[..., 0] > 127)
    seen = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) / 48
    box = np.array([width // 3 / width, height // 3 / height, 1 - width // 3 / width, 1 - height // 3 / height])
    frame = frame_of(Image.fromarray(canvas), fit=fit)  # type: ignore[arg-type]
    moved = frame.to_shares(box * (width, height, width, height))
    assert np.abs(seen - moved.clip(0, 1)).max() <= 1.5 / 48


def test_padding_has_the_color_asked_for() -> None:
    found = fit_image(Image.new("RGB", (40, 10), RED), 16, fit="pad", fill=(1, 2, 3))
    assert found[0, 0].tolist() == [1, 2, 3]
    assert found[8, 8].tolist() == list(RED)


def test_a_changed_file_has_another_stamp(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(packed(halves()))
    reading = ImageReading(FileAccess(tmp_path))
    before = list(file_stamps(["a.png", b"bytes", "absent.png"], reading))
    assert len(before) == 2
    assert before == list(file_stamps(["a.png", {"path": "absent.png"}], reading))
    (tmp_path / "a.png").write_bytes(packed(halves(50)))
    assert before[0] != next(file_stamps("a.png", reading))
    assert list(file_stamps(None, reading)) == []
