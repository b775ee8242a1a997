"""Levels of images of 16 bits, transparency, and the room in which images are decoded."""

from __future__ import annotations

import io
import os
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polydetr.core.access import FileAccess
from polydetr.errors import RowError
from polydetr.values import decoding
from polydetr.values.decoding import ImageReading
from polydetr.values.images import deep_values, open_image, opened_image, outside_levels
from polydetr.values.pixels import ALL_LEVELS, Levels, Room, over_white


def thermal(low: int, high: int, shape: tuple[int, int] = (90, 70)) -> np.ndarray:
    return np.linspace(low, high, shape[0] * shape[1]).round().astype(np.uint16).reshape(shape)


@pytest.mark.parametrize(("low", "high"), [(1200, 3599), (29_000, 30_000), (0, 16_383), (0, 9)])
def test_a_column_that_uses_little_of_16_bits_keeps_its_contrast(low: int, high: int) -> None:
    array = thermal(low, high)
    levels = Levels.of(array)
    for value in (array, array.astype(np.int32), Image.fromarray(array)):
        shown = np.asarray(open_image(value, reading=ImageReading(levels=levels)))[..., 0]
        assert (shown.min(), shown.max()) == (0, 255)
        assert len(np.unique(shown)) == min(256, high - low + 1)
        assert (np.diff(shown.ravel().astype(int)) >= 0).all()


def test_dead_pixels_do_not_count_and_full_images_stay_as_they_were() -> None:
    array = thermal(29_000, 31_000)
    array[0, 0], array[-1, -1] = 0, 65_535
    levels = Levels.of(array)
    assert 28_700 < levels.black <= 29_000
    assert 31_000 <= levels.white < 31_300
    assert Levels.of(thermal(0, 40_000)) == Levels.of(np.full(9, 7)) == ALL_LEVELS
    every = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(ALL_LEVELS.to_uint8(every), (every.astype(int) * 255 + 32_767) // 65_535)


def test_what_lies_outside_of_the_levels_is_told() -> None:
    reading = ImageReading(levels=Levels(100, 200))
    values = np.array([[50, 100], [200, 60_000]], np.uint16)
    for value in (values, Image.fromarray(values)):
        shown = open_image(value, reading=reading)
        assert np.asarray(shown)[..., 0].tolist() == [[0, 0], [255, 255]]
        assert outside_levels(shown) == 0.5
        assert outside_levels(open_image(value)) == 0


def test_values_of_images_of_16_bits_alone(tmp_path: Path) -> None:
    Image.fromarray(thermal(5, 500)).save(tmp_path / "deep.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "plain.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    reading = ImageReading(FileAccess(tmp_path))
    for value in (
        "deep.png",
        (tmp_path / "deep.png").read_bytes(),
        thermal(5, 500),
        {"bytes": None, "path": "deep.png"},
    ):
        found = deep_values(value, reading)
        assert found is not None
        assert (found.min(), found.max()) == (5, 500)
    for value in ("plain.png", "bad.png", "absent.png", np.zeros((4, 4), np.uint8), None):
        assert deep_values(value, reading) is None


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_strips_over_white_are_what_the_whole_is(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (37, 11, 4), dtype=np.uint8)
    image = Image.fromarray(noise)
    image = image.quantize(9) if mode == "P" else image.convert(mode)
    whole = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")
    monkeypatch.setattr("polydetr.values.pixels._STRIP", 50)
    assert np.array_equal(np.asarray(over_white(image)), np.asarray(whole))


def test_images_are_decoded_at_once_by_their_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """In any number of threads; one that is larger than the room has it alone, and is not kept waiting for ever."""
    room = Room(1000)
    monkeypatch.setattr(decoding, "DECODED_AT_ONCE", room)
    buffer = io.BytesIO()
    Image.new("RGBA", (20, 20)).save(buffer, "PNG")
    large = io.BytesIO()
    Image.new("RGB", (60, 60)).save(large, "PNG")
    inside, most, lock = [], [], threading.Lock()

    def show(content: bytes) -> None:
        for _ in range(5):
            with opened_image(content) as image:
                with lock:
                    inside.append(image.width * image.height)
                    most.append(list(inside))
                time.sleep(0.001)
                with lock:
                    inside.remove(image.width * image.height)

    contents = [buffer.getvalue()] * 7 + [large.getvalue()]
    threads = [threading.Thread(target=show, args=(content,), daemon=True) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert len(most) == 40
    assert all(sum(now) <= 1000 or now == [3600] for now in most)
    assert any(len(now) == 2 for now in most)
    assert room._taken == 0


def test_room_is_given_back_after_an_error_and_is_empty_in_a_child() -> None:
    room = Room(10)
    with pytest.raises(RuntimeError), room.take(99):
        raise RuntimeError
    with room.take(10):
        child = os.fork()
        if child == 0:
            with room.take(10):
                os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_transparent_image_takes_no_copies_in_full_size() -> None:
    """Pillow's own memory is not traced; what NumPy takes for an image of 16 bits is: a few strips."""
    array = thermal(0, 65_535, (2000, 3000))
    tracemalloc.start()
    image = open_image(array)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert image.size == (3000, 2000)
    assert peak < 8 * array.size


def test_a_huge_file_is_refused_by_its_size(tmp_path: Path) -> None:
    with open(tmp_path / "hole.png", "wb") as file:
        file.truncate(1 << 36)
    with pytest.raises(RowError, match=r"hole\.png' has 68,719,476,736 bytes, more than an image"):
        open_image("hole.png", reading=ImageReading(FileAccess(tmp_path)))
