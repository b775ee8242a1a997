"""Images in folders: nested ones, hidden files, every suffix that is opened, what is no file at all."""

import os
from pathlib import Path
from threading import Thread

import pytest
from box_images import boxes, draw, rows, skipped
from PIL import Image

from polydetr.core.records import access_of
from polydetr.data.readers import ReadReport, read_records
from polydetr.errors import DataFileError, RowError

YAML = "train: images/train\nval: images/val\nnames: [cup, mug]\n"
LINE = "0 0.5 0.5 0.2 0.5\n"
BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox>"
XML = f"<annotation><object><name>cup</name>{BOX}</object></annotation>"


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def yolo(folder: Path, *names: str) -> Path:
    for name in names:
        draw(folder / "images/train" / f"{name}.png")
        write(folder / "labels/train" / f"{name}.txt", LINE)
    write(folder / "data.yaml", YAML)
    return folder


def voc(folder: Path, *names: str) -> Path:
    for name in names:
        draw(folder / "JPEGImages" / f"{Path(name).with_suffix('')}.png")
        write(folder / "Annotations" / name, XML)
    return folder


def ids(source: Path, **how: object) -> list[str]:
    return [row["image_id"] for row in rows(source, **how)]


# -- folders below ----------------------------------------------------------------------------------------------------


def test_the_first_folder_is_the_label_however_deep_an_image_lies(tmp_path):
    for name in ("owl/1.png", "owl/barn/2.png", "tit/blue/young/3.png"):
        draw(tmp_path / name)
    labeled = [(Path(row["image"]).name, row["label"]) for row in rows(tmp_path)]
    assert labeled == [("1.png", "owl"), ("2.png", "owl"), ("3.png", "tit")]


def test_a_link_that_leads_back_is_not_followed_for_ever(tmp_path):
    draw(tmp_path / "owl/1.png")
    (tmp_path / "owl/again").symlink_to(tmp_path)
    assert len(rows(tmp_path)) == 1


@pytest.mark.parametrize("below", ["", "x/"])
def test_the_parts_of_a_data_set_are_no_labels(tmp_path, below):
    for part in ("Train", "val", "more"):
        draw(tmp_path / part / f"{below}1.png")
    with pytest.raises(DataFileError, match=r"parts of a data set \('Train', 'val'\).*Name one of them: '.*Train'"):
        rows(tmp_path)
    assert len(rows(tmp_path / "val")) == 1


def test_yolo_labels_lie_in_folders_of_the_same_names(tmp_path):
    yolo(tmp_path, "1", "cam 2/2", "cam 2/deep/3")
    for source in (tmp_path, tmp_path / "data.yaml", tmp_path / "images/train"):
        found = rows(source)
        assert [row["image_id"] for row in found] == ["1", "2", "3"]
        assert all(boxes(row) == [("cup", 40, 20, 60, 60)] for row in found)


def test_parts_that_are_read_together_are_told(tmp_path):
    for part in ("train", "val"):
        draw(tmp_path / "images" / part / f"{part}.png")
        write(tmp_path / "labels" / part / f"{part}.txt", LINE)
    report = ReadReport()
    assert len(rows(tmp_path, report=report)) == 2
    assert "'train', 'val'; name the folder of one" in report.examples["parts read together"][0]


def test_a_named_root_keeps_the_parts_of_a_data_set_apart(tmp_path):
    home = tmp_path / "elsewhere"
    yolo(home, "1").joinpath("data.yaml").rename(tmp_path / "data.yaml")
    draw(home / "images/val/2.png")
    write(home / "labels/val/2.txt", LINE)
    assert ids(tmp_path / "data.yaml", images=home) == ["1"]
    assert ids(tmp_path / "data.yaml", images=home, split="val") == ["2"]
    assert ids(tmp_path / "data.yaml", images=home / "images/val") == [
        "2"
    ]  # the entry is not in it: it is meant itself


def test_yolo_labels_in_folders_alone(tmp_path):
    yolo(tmp_path, "a/1", "b/1")
    for source in (tmp_path / "data.yaml", tmp_path / "images/train"):
        assert ids(source) == ["a/1", "b/1"]


def test_texts_beside_images_in_folders_are_no_yolo_labels(tmp_path):
    for label in ("cat", "dog"):
        write(draw(tmp_path / label / "1.png").with_suffix(".txt"), "a caption")
    assert [row["label"] for row in rows(tmp_path)] == ["cat", "dog"]


def test_voc_reads_folders_below_and_any_spelling_of_the_suffix(tmp_path):
    voc(tmp_path, "1.xml", "2.XML", "batch/3.xml", "batch/1.xml")
    for source in (tmp_path, tmp_path / "Annotations"):
        found = rows(source)
        assert [row["image_id"] for row in found] == ["1", "2", "batch/1", "batch/3"]
        assert [Path(row["image"]).parent.name for row in found] == ["JPEGImages", "JPEGImages", "batch", "batch"]
    write(tmp_path / "ImageSets/Main/some.txt", "batch/3\n2\n")
    assert ids(tmp_path / "ImageSets/Main/some.txt") == ["3", "2"]


# -- hidden files -----------------------------------------------------------------------------------------------------


def test_hidden_files_are_neither_images_nor_labels(tmp_path):
    sets = yolo(tmp_path / "yolo", "1"), voc(tmp_path / "voc", "1.xml"), tmp_path / "classes"
    draw(tmp_path / "classes/cat/1.png")
    for file in [f for folder in sets for f in folder.rglob("*") if f.is_file()]:
        write(file.with_name(f"._{file.name}"), b"\0\5\x16\7 Mac OS X")
    write(tmp_path / "classes/.hidden/2.png", b"")
    for folder in sets:
        report = ReadReport()
        assert len(rows(folder, report=report)) == 1
        assert set(report.problems) <= {"part 'train' read"}


# -- suffixes ---------------------------------------------------------------------------------------------------------


def test_what_can_be_opened_is_an_image_wherever_a_name_decides(tmp_path):
    image = Image.new("RGB", (100, 80))
    for name, kind in {"a.jfif": "JPEG", "b.PPM": "PPM", "c.jp2": "JPEG2000"}.items():
        (tmp_path / "classes/x").mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / "classes/x" / name, kind)
        assert rows(tmp_path / "classes/x" / name)
        for place, label in (("yolo/images/train", "yolo/labels/train"), ("voc/JPEGImages", "voc/Annotations")):
            write(tmp_path / place / name, (tmp_path / "classes/x" / name).read_bytes())
            suffix, content = (".txt", LINE) if "yolo" in place else (".xml", XML)
            write((tmp_path / label / name).with_suffix(suffix), content)
    write(tmp_path / "yolo/data.yaml", YAML)
    for folder in ("classes", "yolo", "voc"):
        assert len(rows(tmp_path / folder)) == 3, folder


def test_what_is_no_image_is_counted_in_a_folder_of_its_own_too(tmp_path):
    draw(tmp_path / "cat/1.png")
    write(tmp_path / "dog/1.heic", "")
    write(tmp_path / "dog/2.heic", "")
    report = ReadReport()
    assert len(rows(tmp_path, report=report)) == 1
    assert report.problems == {"files that are no images": 2}
    yolo(tmp_path / "set", "1")
    write(tmp_path / "set/images/train/3.heic", "")
    report = ReadReport()
    assert len(rows(tmp_path / "set", report=report)) == 1
    assert "'3.heic' is passed over" in report.examples["files that are no images"][0]


def test_an_id_is_the_name_of_an_image_without_its_suffix(tmp_path):
    draw(tmp_path / "images/0a1b.png")
    table = write(tmp_path / "boxes.csv", "ImageID,XMin,YMin,XMax,YMax,LabelName\n0a1b,1,2,3,4,cup\n")
    (row,) = rows(table)
    assert (row["image_id"], Path(row["image"]).name) == ("0a1b", "0a1b.png")


# -- what may be opened -----------------------------------------------------------------------------------------------


def test_names_do_not_climb_out_and_a_named_root_is_not_left(tmp_path):
    secret = draw(tmp_path / "private/secret.png")
    draw(tmp_path / "set/ours.png")
    for name in ("../private/secret.png", "x/../../private/secret.png", "..\\private\\secret.png"):
        table = write(tmp_path / "set/boxes.csv", f"path,x1,y1,x2,y2,label\n{name},1,2,3,4,cup\nours.png,1,2,3,4,cup\n")
        with pytest.raises(RowError, match="is not there"):
            rows(table)
    write(table, f"path,x1,y1,x2,y2,label\n{secret},1,2,3,4,cup\nours.png,1,2,3,4,cup\n")
    assert len(rows(table)) == 2  # whoever wrote the file may read the machine
    kept, report = skipped(table, images=tmp_path / "set")
    assert [row["image_id"] for row in kept] == ["ours.png"]
    assert report.rejected[0].about == {"image": str(secret), "image_id": str(secret)}
    (tmp_path / "set/link.png").symlink_to(secret)
    write(table, "path,x1,y1,x2,y2,label\nlink.png,1,2,3,4,cup\n")
    assert len(rows(table)) == 1
    with pytest.raises(RowError, match=r"'link\.png' is not there"):
        rows(table, images=tmp_path / "set")


def test_the_lines_of_a_list_are_held_to_the_same_rule_and_never_shown(tmp_path):
    yolo(tmp_path / "set", "1")
    draw(tmp_path / "private/secret.png")
    write(tmp_path / "private/token.txt", "hunter2\n")
    write(tmp_path / "set/data.yaml", "train: list.txt\nnames: [cup]\n")
    write(tmp_path / "set/list.txt", "images\\train\\1.png \n../private/secret.png\n")
    with pytest.raises(RowError, match=r"list\.txt, line 2: '\.\./private/secret\.png' leads out of the folder"):
        rows(tmp_path / "set")
    kept, report = skipped(tmp_path / "set")
    assert (len(kept), report.problems["line of a list (left out)"]) == (1, 1)
    write(tmp_path / "set/data.yaml", "train: ../private/token.txt\nnames: [cup]\n")
    with pytest.raises(RowError, match="line 1: is no name of an image") as error:
        rows(tmp_path / "set")
    assert "hunter2" not in str(error.value)


def test_what_is_no_ordinary_file_is_refused_and_not_waited_for(tmp_path):
    voc(tmp_path / "voc", "1.xml")
    os.mkfifo(tmp_path / "voc/Annotations/2.xml")
    with pytest.raises(RowError, match=r"2\.xml: is not an ordinary file"):
        rows(tmp_path / "voc")
    yolo(tmp_path / "yolo", "1")
    os.mkfifo(tmp_path / "yolo/images/train/2.png")
    os.mkfifo(tmp_path / "yolo/aaa.yaml")
    assert ids(tmp_path / "yolo") == ["1"]
    (tmp_path / "yolo/labels/train/1.txt").unlink()
    (tmp_path / "yolo/labels/train/1.txt").symlink_to("/dev/zero")
    with pytest.raises(DataFileError, match="no label file"):
        rows(tmp_path / "yolo")


def test_a_folder_of_images_that_is_none_is_refused_at_once(tmp_path):
    draw(tmp_path / "set/1.png")
    with pytest.raises(DataFileError, match=r"'.*absent' is no folder of images.*--images FOLDER"):
        rows(tmp_path / "set", images=tmp_path / "absent")


def test_a_device_is_no_file_of_rows():
    with pytest.raises(DataFileError, match="/dev/zero: is a device, expected a file of rows"):
        rows(Path("/dev/zero"))


def test_an_image_whose_name_does_not_say_so_is_asked_about_by_its_format(tmp_path):
    photo = draw(tmp_path / "a.jpg").rename(tmp_path / "photo")
    with pytest.raises(DataFileError, match=r"is a JPEG image.*say format='images' \(--format images\)"):
        rows(photo)
    assert rows(photo, format="images") == [{"image": str(photo)}]


def test_rows_from_a_pipe_do_not_leave_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for source, root in (("rows.jsonl", None), ("pipe", tmp_path)):
        if source == "pipe":
            os.mkfifo(source)
            Thread(target=Path(source).write_text, args=('{"photo": "a.png"}\n{"photo": "b.png"}\n',)).start()
        else:
            write(tmp_path / source, '{"photo": "a.png"}\n')
        assert {access_of(record).root for record in read_records(source)} == {root}
