"""Zip archives of rows: the images that rows name are those of the archive, and nothing else is ever opened."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from polydetr.errors import RowError
from polydetr.serving import archives
from polydetr.serving.refusal import Refused
from polydetr.serving.rows import Columns
from polydetr.serving.table_body import items_of_file

PHOTOS = Columns(("photo",), ("label",), (), frozenset({"photo", "image"}), frozenset())
BOXES = Columns(("image",), ("objects",), (), frozenset({"image"}), frozenset())


def png(color: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(file, "PNG")
    return file.getvalue()


RED, BLUE = png("red"), png("blue")


def items(folder: Path, files: Mapping[str, bytes | str], columns: Columns, **how: Any) -> list[Any]:
    path = folder / "rows.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    try:
        return list(items_of_file(path, "zip", columns, **how))
    finally:
        assert [file.name for file in folder.iterdir()] == ["rows.zip"], "what was unpacked is gone"


def test_loose_images_are_rows_whatever_the_model_calls_its_image(tmp_path: Path) -> None:
    found = items(tmp_path, {"around/a.png": RED, "around/b.png": BLUE, "__MACOSX/._a.png": b"x"}, PHOTOS)
    assert found == [{"photo": RED}, {"photo": BLUE}]


def test_folders_of_images_are_labels(tmp_path: Path) -> None:
    found = items(tmp_path, {"top/cat/a.png": RED, "top/dog/b.png": BLUE}, PHOTOS)
    assert [row["label"] for row in found] == ["cat", "dog"]


def test_a_table_names_images_of_the_archive_and_no_others(tmp_path: Path) -> None:
    (tmp_path.parent / "outside.png").write_bytes(RED)
    table = f"photo,label\nimgs/a.png,x\n../../outside.png,y\n{tmp_path.parent / 'outside.png'},y\nimgs/gone.png,z\n"
    first, *rest = items(tmp_path, {"t.csv": table, "imgs/a.png": RED}, PHOTOS)
    assert first == {"photo": RED, "label": "x"}
    assert [isinstance(row, RowError) for row in rest] == [True, True, True]
    assert all("is not in the archive" in row.message and str(tmp_path) not in row.message for row in rest)


@pytest.mark.parametrize(
    ("name", "place"),
    [("a.png", "all.json"), ("images/a.png", "all.json"), ("a.png", "annotations/all.json")],
)
def test_coco_with_its_images(tmp_path: Path, name: str, place: str) -> None:
    box = {"id": 1, "image_id": 1, "bbox": [1, 1, 3, 3], "category_id": 1, "area": 9, "iscrowd": 0}
    document = {
        "images": [{"id": 1, "file_name": name, "width": 8, "height": 8}], "annotations": [box],
        "categories": [{"id": 1, "name": "dot"}],
    }  # fmt: skip
    (row,) = items(tmp_path, {place: json.dumps(document), "images/a.png": RED}, BOXES, labels=True)
    assert row["image"] == RED
    assert row["objects"][0]["label"] == "dot"


def test_labels_of_column_files_are_read_where_they_are_wanted(tmp_path: Path) -> None:
    columns = Columns(("tokens",), ("tags",), (), frozenset(), frozenset())
    files = {"a.conll": "EU B-ORG\nrejects O\n\nPeter B-PER\n"}
    assert items(tmp_path, files, columns)[0] == {"tokens": ["EU", "rejects"]}
    assert items(tmp_path, files, columns, labels=True)[1] == {"tokens": ["Peter"], "tags": ["B-PER"]}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "is empty"),
        ({"../x.png": RED}, "leads out of its folder"),
        ({"a.png": b"\0" * (archives._LEAST + 1)}, "unpacks to more than"),
    ],
)
def test_what_is_no_archive_of_rows_is_refused(tmp_path: Path, files: dict[str, bytes], said: str) -> None:
    with pytest.raises(Refused, match=said):
        items(tmp_path, files, PHOTOS)


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.zip").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(Refused, match="cannot be unpacked"):
        list(items_of_file(tmp_path / "rows.zip", "zip", PHOTOS))
    assert not (tmp_path / "unpacked").exists()
