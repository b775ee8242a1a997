"""Pascal VOC folders: where files are looked for, what is repaired and reported, what is refused."""

import os
from collections import Counter
from pathlib import Path

import pytest
from box_images import boxes, draw, rows, skipped

from polydetr.data.readers import ReadReport
from polydetr.data.readers.boxes import TURNED
from polydetr.errors import DataFileError, RowError
from polydetr.values.boxes import CLIPPED, SWAPPED, ZERO_AREA

SHARED = Path(os.environ.get("POLYDETR_SHARED", Path(__file__).parents[3] / "shared")) / "data"
SIZE = "<size><width>100</width><height>80</height><depth>3</depth></size>"


def thing(name, *corners):
    tags = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=False))
    return f"<object><name>{name}</name><difficult>1</difficult><bndbox>{tags}</bndbox></object>"


@pytest.fixture
def voc(tmp_path):
    """Writes Annotations/NAME.xml and JPEGImages/NAME.jpg; gives the folder of both."""

    def _voc(name, *objects, filename=None, size=SIZE, image=True, content=None):
        if image:
            draw(tmp_path / "set" / "JPEGImages" / f"{name}.jpg")
        folder = tmp_path / "set" / "Annotations"
        folder.mkdir(parents=True, exist_ok=True)
        written = f"<filename>{filename or name + '.jpg'}</filename>"
        text = content or f"<annotation>{written}{size}{''.join(objects)}</annotation>"
        (folder / f"{name}.xml").write_text(text, encoding="utf-8")
        return tmp_path / "set"

    return _voc


def test_one_row_a_file(voc):
    voc("b", thing("cup", 10, 20, 40.5, 60), thing("杯", 0, 0, 100, 80))
    root = voc("a")
    empty, full = rows(root)
    assert empty["objects"] == []
    assert boxes(full) == [("cup", 10, 20, 40.5, 60), ("杯", 0, 0, 100, 80)]
    assert (full["image_id"], full["width"], full["height"]) == ("b", 100, 80)
    assert full["image"] == str(root / "JPEGImages" / "b.jpg")


def test_the_folder_above_the_folder_itself_and_a_list_of_names(voc, tmp_path):
    for name in ("a", "b", "c"):
        root = voc(name, thing(name, 1, 2, 3, 4))
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("c 1\na -1\n\n")  # the challenge writes a mark behind the name
    assert [r["image_id"] for r in rows(lists / "train.txt")] == ["c", "a"]
    for place in (root, root / "Annotations", tmp_path):
        assert len(rows(place)) == 3
    (lists / "train.txt").write_text("a\nzz\n")
    with pytest.raises(RowError, match=r"zz\.xml: is listed, but there is no such file"):
        rows(lists / "train.txt")


def test_the_files_own_name_goes_before_the_one_written_in_it(voc):
    voc("a", filename="someone/elses/b.jpg")
    root = voc("b", filename="a.jpg")
    assert [Path(r["image"]).name for r in rows(root)] == ["a.jpg", "b.jpg"]


def test_what_is_repaired_is_counted_and_reported(voc):
    root = voc("a", thing("x", 50, 60, 20, 30), thing("x", 5, 5, 5, 9), thing("x", 90, 10, 120, 20))
    draw(root / "JPEGImages" / "alone.jpg")
    kept, report = skipped(root)
    assert boxes(kept[0]) == [("x", 20, 30, 50, 60), ("x", 90, 10, 100, 20)]
    assert report.problems == {SWAPPED: 1, ZERO_AREA: 1, CLIPPED: 1, "image without annotations (left out)": 1}
    assert "alone.jpg has no XML file" in report.examples["image without annotations (left out)"][0]
    assert "a.xml: x: the box [5, 5, 5, 9] has no area" in report.examples[ZERO_AREA][0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objects": [thing("x", 1, 2, 3)]}, r"bad\.xml: object 1 \(x\) has no ymax in its bndbox"),
        ({"objects": [thing("x", 1, 2, "wide", 4)]}, r"object 1 \(x\): 'wide' is not a number"),
        ({"objects": [thing("x", 1, 2, "nan", 4)]}, r"the box \[1, 2, nan, 4\] has a coordinate that is not a finite"),
        ({"objects": [thing(" ", 1, 2, 3, 4)]}, r"object 1 has no name"),
        ({"content": "<annotation><object>"}, r"is not XML: no element found"),
        ({"content": "<html/>"}, r"is <html>, expected Pascal VOC's <annotation>"),
        ({"content": '<!DOCTYPE x [<!ENTITY a "aa">]><annotation/>'}, r"declares entities"),
        ({"size": SIZE.replace("100", "640")}, r"'bad.jpg' is 100×80, but its boxes were drawn on 640×80"),
        ({"image": False}, r"the image 'bad.jpg' is not there \(looked in .*JPEGImages'"),
    ],
)
def test_files_that_cannot_be_used(voc, options, message):
    voc("bad", *options.pop("objects", ()), **options)
    root = voc("good", thing("x", 1, 2, 3, 4))
    with pytest.raises(RowError, match=message):
        rows(root)
    kept, report = skipped(root)
    assert [r["image_id"] for r in kept] == ["good"]
    assert len(report.rejected) == 1


def test_a_size_of_nothing_is_no_claim(voc):
    root = voc("a", size="<size><width>0</width><height>0</height></size>")
    assert rows(root)[0]["width"] == 100


def test_a_folder_without_xml_is_no_voc(tmp_path):
    with pytest.raises(DataFileError, match="holds no XML files"):
        rows(tmp_path, format="voc")
    with pytest.raises(DataFileError, match="is a folder"):
        rows(tmp_path)


ROTATED = "<attributes><attribute><name>rotation</name><value>{}</value></attribute></attributes>"
ROBNDBOX = "<robndbox><cx>50</cx><cy>40</cy><w>60</w><h>10</h><angle>1.5707963</angle></robndbox>"


def test_of_a_turned_box_the_one_around_it_is_taken(voc):
    tilted = thing("cup", 20, 35, 80, 45).replace("<difficult>", ROTATED.format("90.0") + "<difficult>")
    level = thing("mug", 1, 2, 3, 4).replace("<difficult>", ROTATED.format("0.0") + "<difficult>")
    root = voc("a", tilted, level, f"<object><name>jug</name>{ROBNDBOX}</object>")
    kept, report = skipped(root)
    found = [(name, *(round(x, 3) for x in box)) for name, *box in boxes(kept[0])]
    assert found == [("cup", 45, 10, 55, 70), ("mug", 1, 2, 3, 4), ("jug", 45, 10, 55, 70)]
    assert report.problems == {TURNED: 2}


def test_an_angle_without_a_unit_is_refused(voc):
    root = voc("a", thing("cup", 20, 35, 80, 45).replace("<difficult>", "<angle>0.4</angle><difficult>"))
    with pytest.raises(RowError, match=r"object 1 \(cup\): it is turned by angle = '0\.4', whose unit is not known"):
        rows(root)


@pytest.mark.parametrize("encoding", ["gb2312", "shift_jis", "utf-16", "utf-8"])
def test_files_are_read_in_the_encoding_that_they_declare(voc, encoding):
    root = voc("a")
    text = f'<?xml version="1.0" encoding="{encoding}"?><annotation>{thing("茶", 1, 2, 3, 4)}</annotation>'
    (root / "Annotations" / "a.xml").write_text(text, encoding=encoding)
    assert boxes(rows(root)[0]) == [("茶", 1, 2, 3, 4)]


def test_an_encoding_that_is_not_declared_is_named(voc):
    root = voc("a")
    text = f"<annotation>{thing('瓷砖', 1, 2, 3, 4)}</annotation>"
    (root / "Annotations" / "a.xml").write_text(text, encoding="gbk")
    with pytest.raises(RowError, match=r"is not utf-8 text\. It is likely gb18030: pass --encoding gb18030"):
        rows(root)
    assert boxes(rows(root, encoding="gb18030")[0])[0][0] == "瓷砖"
    (root / "Annotations" / "a.xml").write_text('<?xml version="1.0" encoding="rot13"?><annotation/>')
    with pytest.raises(RowError, match=r"unknown encoding 'rot13'"):
        rows(root)


def test_a_list_in_another_encoding_is_named(voc):
    root = voc("café")
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "train.txt").write_text("café\n", encoding="latin-1")
    with pytest.raises(DataFileError, match=r"train\.txt, line 1: byte 0xe9 at offset 3 is not utf-8 text"):
        rows(root / "ImageSets" / "Main" / "train.txt")
    assert rows(root / "ImageSets" / "Main" / "train.txt", encoding="latin-1")[0]["image_id"] == "café"


def test_one_annotation_file_for_two_images_is_told(voc):
    root = voc("a", thing("cup", 1, 2, 3, 4))
    draw(root / "JPEGImages" / "a.png")
    report = skipped(root)[1]
    assert "a.xml may be that of a.jpg or of a.png" in report.examples["one annotation file for two images"][0]


def test_another_tools_xml_is_recognized(voc):
    with pytest.raises(RowError, match=r"is <annotations>, expected .*CVAT's own XML: name that file itself"):
        rows(voc("a", content="<annotations><image/></annotations>"))


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real data sets are not there ({SHARED})")
def test_real_blood_cells():
    report = ReadReport()
    found = rows(SHARED / "bccd" / "BCCD", report=report)
    counts = Counter(o["label"] for row in found for o in row["objects"])
    assert counts == {"RBC": 4_155 - 2, "WBC": 372, "Platelets": 361}
    assert report.problems == {ZERO_AREA: 2}
    assert "BloodImage_00338.xml: RBC: the box [504, 337, 504, 337]" in report.examples[ZERO_AREA][0]
    assert "BloodImage_00343.xml: RBC: the box [181, 329, 181, 329]" in report.examples[ZERO_AREA][1]
    lists = SHARED / "bccd" / "BCCD" / "ImageSets" / "Main"
    assert [len(rows(lists / f"{part}.txt")) for part in ("train", "val", "test")] == [205, 87, 72]
