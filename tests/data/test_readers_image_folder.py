"""Folders of images as rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from polydetr.core.records import ReadReport
from polydetr.data.readers import read_records
from polydetr.errors import DataFileError
from polydetr.schema.infer import infer_schema


def write_image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), (9, 90, 200)).save(path)
    return path


def test_the_folder_is_the_label(tmp_path: Path) -> None:
    for name in ("dogs/b.PNG", "dogs/a.jpg", "cats/1.jpeg"):
        write_image(tmp_path / name)
    (tmp_path / "cats" / "notes.txt").write_text("no image")
    (tmp_path / "cats" / ".DS_Store").write_text("hidden")
    report = ReadReport()
    rows = list(read_records(tmp_path, report=report))
    assert [(Path(r.row["image"]).name, r.row["label"]) for r in rows] == [
        ("1.jpeg", "cats"), ("a.jpg", "dogs"), ("b.PNG", "dogs"),
    ]  # fmt: skip
    assert report.rows == 3
    assert report.problems == {"files that are no images": 1}
    schema = infer_schema([r.row for r in rows])
    assert [(f.name, f.modality) for f in schema.inputs] == [("image", "image")]
    assert [(t.name, t.task) for t in schema.targets] == [("label", "classification")]


def test_images_without_labels_and_one_image(tmp_path: Path) -> None:
    one = write_image(tmp_path / "b.png")
    write_image(tmp_path / "a.png")
    assert [dict(r.row) for r in read_records(str(one))] == [{"image": str(one)}]
    assert [Path(r.row["image"]).name for r in read_records(tmp_path)] == ["a.png", "b.png"]


def test_images_beside_folders_of_images_are_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "cats" / "1.png")
    write_image(tmp_path / "2.png")
    with pytest.raises(DataFileError, match=r"'2.png' and 0 more\) beside folders of images \('cats', ...\)"):
        list(read_records(tmp_path))


def test_an_empty_folder_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="is a folder, expected a file of rows"):
        list(read_records(tmp_path))
