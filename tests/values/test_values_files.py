"""Which file a cell means: one rule for where a path begins, and what it may reach."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from polydetr.core.access import FileAccess
from polydetr.errors import RowError
from polydetr.values.files import find_file, image_suffixes, is_image_name


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A folder of rows with images in it and beside it; the images are names alone."""
    for name in ("rows/a.png", "rows/sub/b.png", "beside/c.png", "rows/id7.webp", "rows/a.b/d.e.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "rows/link.png").symlink_to(tmp_path / "beside/c.png")
    (tmp_path / "rows/up").symlink_to(tmp_path / "beside")
    return tmp_path / "rows"


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("a.png", "a.png"),
        (" a.png\t", "a.png"),
        ("sub\\b.png", "sub/b.png"),
        (" sub\\b.png", "sub/b.png"),
        ("sub/../a.png", "a.png"),
        ("link.png", "link.png"),
        ("id7", "id7.webp"),
        ("a.b\\d.e", "a.b/d.e.jpg"),
    ],
)
def test_a_path_begins_at_the_file_that_names_it(rows: Path, written: str, found: str) -> None:
    assert find_file(written, FileAccess(rows)) == rows / found or found == "a.png"
    assert find_file(written, FileAccess(rows)).samefile(rows / found)


def test_blanks_and_backslashes_that_belong_to_a_name_stay(rows: Path) -> None:
    for name in (" a.png", "sub\\b.png"):
        (rows / name).touch()
        assert find_file(name, FileAccess(rows)) == rows / name


def test_a_file_may_name_absolute_paths_and_none_above_itself(rows: Path) -> None:
    outside = rows.parent / "beside/c.png"
    assert find_file(str(outside), FileAccess(rows)) == outside
    for climbing in ("../beside/c.png", "sub/../../beside/c.png", "..\\beside\\c.png", "up/../beside/c.png"):
        with pytest.raises(RowError, match=r"leads out of the folder '.*rows', in which.*--images FOLDER"):
            find_file(climbing, FileAccess(rows))


def test_rows_in_memory_begin_at_the_working_directory(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(rows / "sub")
    assert find_file("../a.png", FileAccess()).samefile(rows / "a.png")
    assert find_file(Path("b.png"), FileAccess()).samefile(rows / "sub/b.png")


def test_a_named_root_comes_first_and_is_not_left(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(rows.parent)
    access = FileAccess.named("rows", folder=rows / "sub")
    for name, found in {
        "a.png": "a.png",
        "b.png": "sub/b.png",
        "../a.png": "a.png",
        str(rows / "a.png"): "a.png",
    }.items():
        assert find_file(name, access) == (rows / found).resolve()
    for name in ("link.png", "up/c.png", "../../beside/c.png", str(rows.parent / "beside/c.png"), "/etc/passwd"):
        with pytest.raises(RowError, match=r"leads out of the folder '.*rows', the only one whose images may be read"):
            find_file(name, access)


def test_another_folder_is_looked_into_last_and_confines_nothing(rows: Path) -> None:
    access = FileAccess.named(None, folder=rows, also=rows.parent / "beside")
    assert find_file("c.png", access) == rows.parent / "beside/c.png"
    assert find_file("a.png", access) == rows / "a.png"


def test_what_is_not_there_is_said_where_it_was_looked_for(rows: Path) -> None:
    assert find_file("absent.png", FileAccess(rows)) == rows / "absent.png"
    with pytest.raises(RowError, match=r"is not a path: File name too long"):
        find_file("x" * 5000, FileAccess(rows))
    os.mkfifo(rows / "pipe.png")
    assert find_file("pipe.png", FileAccess(rows)) == rows / "pipe.png"  # and refused when it is opened


def test_every_suffix_of_a_format_that_is_opened_is_an_images() -> None:
    for name in ("a.JPG", "b.jfif", "c.avif", "d.ppm", "e.jp2", "f.jpe", "g.tif ", "x/h.webp"):
        assert is_image_name(name), name
    for name in ("a.heic", "b.txt", "png", "c.", "d.png/e", "f.eps", ""):
        assert not is_image_name(name), name
    assert image_suffixes()[0] == ".jpg"
