"""What a run reads: each split its own part of a data set, all images from the folder that was named."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from film_models import Quiet
from polydetr.config.loading import load_config
from polydetr.core.records import access_of
from polydetr.errors import SchemaError
from polydetr.training.read import read_splits


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    """A data.yaml with 5, 4 and 3 images."""
    for part, count in (("train", 5), ("val", 4), ("test", 3)):
        (tmp_path / "images" / part).mkdir(parents=True)
        (tmp_path / "labels" / part).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (20, 20)).save(tmp_path / "images" / part / f"{number}.png")
            (tmp_path / "labels" / part / f"{number}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    own = tmp_path / "data.yaml"
    own.write_text("train: images/train\nval: images/val\ntest: images/test\nnames: [cup]\n")
    return own


def test_every_split_is_a_part_of_its_own(yolo: Path) -> None:
    source, display = str(yolo), Quiet()
    splits, _ = read_splits(load_config({}), train=source, valid=source, test=source, display=display)
    assert (len(splits.train), len(splits.valid), len(splits.test or ())) == (5, 4, 3)
    for part in ("train", "val", "test"):
        assert any(note.startswith(f"part {part!r} read: 1") for note in display.notes)


def test_without_a_part_for_validation_nothing_else_is_taken(yolo: Path) -> None:
    yolo.write_text("train: images/train\nnames: [cup]\n")
    with pytest.raises(SchemaError, match=r"has no part 'val'; it has 'train'"):
        read_splits(load_config({}), train=str(yolo), valid=str(yolo), test=None, display=Quiet())


def test_image_root_begins_at_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "pictures").mkdir()
    rows = tmp_path / "labels/rows.csv"
    rows.write_text("photo,side\n" + "".join(f" {i}.png,{'lr'[i % 2]}\n" for i in range(6)))
    monkeypatch.chdir(tmp_path)
    config = load_config({"target": "side", "image": {"root": "pictures"}})
    splits, schema = read_splits(config, train=str(rows), valid=str(rows), test=None, display=Quiet())
    assert schema.names("image") == ["photo"]
    assert {access_of(r).root for r in (*splits.train, *splits.valid)} == {tmp_path / "pictures"}


def test_ids_of_images_are_pointed_out(tmp_path: Path) -> None:
    rows = [{"photo_id": f"{i}ab", "side": "lr"[i % 2]} for i in range(40)]
    with pytest.raises(SchemaError, match=r"no column is left .*'photo_id' may hold names of images.*photo_id:image"):
        read_splits(load_config({"target": "side"}), train=rows, valid=None, test=None, display=Quiet())
    display = Quiet()
    rows = [{**row, "size": i * 7 % 11} for i, row in enumerate(rows)]
    read_splits(load_config({"target": "side"}), train=rows, valid=rows, test=None, display=display)
    assert any("'photo_id' may hold names of images" in note for note in display.notes)
