"""COCO JSON: ids of any kind, what is repaired and reported, what is refused and why."""

import json
import math
import os
import time
from collections import Counter
from pathlib import Path

import pytest
from box_images import boxes, draw, rows, skipped

from polydetr.data.readers import ReadReport, read_records
from polydetr.errors import DataFileError, RowError
from polydetr.values.boxes import CLIPPED, OUTSIDE, SWAPPED, ZERO_AREA, repair_box

SHARED = Path(os.environ.get("POLYDETR_SHARED", Path(__file__).parents[3] / "shared")) / "data"


def note(box, category=3, image="a7", **more):
    return {"image_id": image, "category_id": category, "bbox": box, **more}


@pytest.fixture
def coco(tmp_path):
    """Writes a document of one image, 100×80, unless other parts are passed."""

    def _coco(*annotations, **parts):
        draw(tmp_path / "images" / "a.jpg")
        document = {
            "images": [{"id": "a7", "file_name": "a.jpg", "width": 100, "height": 80}],
            "categories": [{"id": 3, "name": "cup"}, {"id": "x", "name": "mug"}],
            "annotations": list(annotations),
        } | parts
        path = tmp_path / "boxes.json"
        path.write_text(json.dumps(document), encoding="utf-8")
        return path

    return _coco


def test_one_row_an_image_with_names_for_ids(coco, tmp_path):
    path = coco(note([10, 20, 30, 40], area=700.5, id=1), note([0, 0, 100, 80], category="x", iscrowd=1, id=2))
    (record,) = read_records(path)
    assert record.row == {
        "image": str(tmp_path / "images" / "a.jpg"),
        "objects": [
            {"box": [10, 20, 40, 60], "label": "cup", "area": 700.5},
            {"box": [0, 0, 100, 80], "label": "mug", "crowd": True},
        ],
        "image_id": "a7", "width": 100, "height": 80,
    }  # fmt: skip
    assert record.location.row == 1


def test_ids_that_are_numbers_here_and_strings_there_still_join(coco):
    path = coco(note([1, 2, 3, 4], category="3", image=7), images=[{"id": "7", "file_name": "a.jpg"}])
    assert boxes(rows(path)[0]) == [("cup", 1, 2, 4, 6)]


def test_an_image_without_boxes_is_an_empty_target(coco):
    assert rows(coco())[0]["objects"] == []


def test_a_set_of_one_class(coco):
    path = coco(note([1, 2, 3, 4], category=0), categories=[{"id": 0, "name": "only"}])
    assert boxes(rows(path)[0]) == [("only", 1, 2, 4, 6)]


def test_what_is_repaired_is_counted_and_reported(coco):
    path = coco(
        note([90, 70, 20, 20], id=5),
        note([60, 50, -20, -10], id=5),
        note([10, 10, 0, 5], id=6),
        note([200, 10, 5, 5], id=7),
        note([1, 1, 5, 5], id=8),
        note([1, 1, 5, 5], id=9),
        note([0, 0, 100.02, 80.04], id=10),  # two decimals are no reason to complain
    )
    kept, report = skipped(path)
    cup = [("cup", 90, 70, 100, 80), ("cup", 40, 40, 60, 50), *[("cup", 1, 1, 6, 6)] * 2, ("cup", 0, 0, 100, 80)]
    assert boxes(kept[0]) == cup
    assert report.problems == {
        CLIPPED: 1, SWAPPED: 1, ZERO_AREA: 1, OUTSIDE: 1,
        "same box twice (kept)": 1, "annotation id twice (both kept)": 1,
    }  # fmt: skip
    (message,) = report.examples[CLIPPED]
    assert message == f"{path}, row 1: cup: the box [90, 70, 110, 90] reaches 10 pixels out of its image of 100×80"
    assert "[60, 50, 40, 40] has its corners in the wrong order; they were put right" in report.examples[SWAPPED][0]
    assert "[10, 10, 10, 15] has no area" in report.examples[ZERO_AREA][0]
    assert report.rejected == []


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (note([math.nan, 1, 2, 3]), r"the box \[nan, 1, nan, 4\] has a coordinate that is not a finite number"),
        (note([1, 2, 3]), r"annotation 1 of the image 'a.jpg': the bbox is \[1, 2, 3\], expected \[left, top, width"),
        (note([1, 2, "?", 4]), r"'\?' is not a number"),
        (note(None), r"the bbox is None"),
        (note([1, 2, 3, 4], category=4), r"the category id 4 is not among the categories. Known: '3', 'x'"),
        (note([1, 2, 3, 4], category=None), r"the category id None is not among"),
        (note([1, 2, 3, 4], image=9), r"annotation 1 belongs to the image 9, which is not listed"),
        ({"bbox": [1, 2, 3, 4]}, r"annotation 1 \(.*\) has no image_id"),
    ],
)
def test_annotations_that_cannot_be_used(coco, annotation, message):
    path = coco(annotation)
    with pytest.raises(RowError, match=message) as caught:
        rows(path)
    assert "on_error='skip'" in str(caught.value)
    kept, report = skipped(path)
    about_the_image = annotation.get("image_id") == "a7"
    assert len(report.rejected) == about_the_image  # what belongs to no image takes no row's place
    assert report.problems["annotation of no image (left out)"] == (not about_the_image)
    assert len(kept) == (0 if about_the_image else 1)  # never an image with one of its objects lost


def test_nan_names_the_box(coco):
    with pytest.raises(RowError, match=r"boxes\.json, row 1: the box \[nan, 1, nan, 4\] has a coordinate that is not"):
        rows(coco(note([math.nan, 1, 2, 3])))


def test_a_bad_box_leaves_no_other_trace(coco):
    report = skipped(coco(note([90, 70, 20, 20]), note([math.inf, 1, 2, 3])))[1]
    assert report.problems == {}
    assert len(report.rejected) == 1


def test_outlines_give_the_box_that_is_missing(coco):
    outline = {"image_id": "a7", "category_id": 3, "segmentation": [[10, 5, 30, 5, 20, 45], [8, 7, 9, 8, 8, 9]]}
    assert boxes(rows(coco(outline))[0]) == [("cup", 8, 5, 30, 45)]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "a.jpg"}], r"row 2: the image id 1 was given"),
        ([{"id": 1, "file_name": "a.jpg"}, {"id": 2}], r"row 2: image 2 \(\{'id': 2\}\) lacks an id or a file_name"),
        ([{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}], r"row 2: the image 'b.jpg' is not there"),
        ([{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "a.jpg", "width": 50, "height": 40}],
         r"row 2: the image 'a.jpg' is 100×80, but its boxes were drawn on 50×40"),
        ([{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "broken.jpg"}], r"'broken.jpg' cannot be read"),
    ],
)  # fmt: skip
def test_images_that_cannot_be_used(coco, tmp_path, images, message):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    path = coco(images=images)
    with pytest.raises(RowError, match=message):
        rows(path)
    kept, report = skipped(path)
    assert len(kept) == 1
    assert report.rows == 1
    assert len(report.rejected) == 1


def test_boxes_of_an_image_that_was_turned_later_are_refused(coco, tmp_path):
    draw(tmp_path / "turned.jpg", (80, 100), orientation=6)  # shown, it is 100×80
    upright = {"id": 1, "file_name": "turned.jpg", "width": 100, "height": 80}
    assert rows(coco(images=[upright]))[0]["width"] == 100
    with pytest.raises(
        RowError, match=r"100×80 \(turned by its EXIF orientation\), but its boxes were drawn on 80×100"
    ):
        rows(coco(images=[upright | {"width": 80, "height": 100}]))


def test_not_one_image_found(coco):
    path = coco(images=[{"id": i, "file_name": f"{i}.jpg"} for i in range(3)])
    with pytest.raises(DataFileError, match=r"none of its 3 images was found; looked in .*images'. Name the folder"):
        skipped(path)
    with pytest.raises(RowError, match=r"Name the folder of the images: --images "):
        rows(path)


def test_images_elsewhere_and_under_other_folders(coco, tmp_path):
    path = coco(note([1, 2, 3, 4]), images=[{"id": "a7", "file_name": "old\\place/b.png"}])
    draw(tmp_path / "far" / "b.png")
    assert rows(path, images=tmp_path / "far")[0]["image"].endswith("b.png")


def test_the_split_in_the_name_finds_the_images(coco, tmp_path):
    path = coco(images=[{"id": 1, "file_name": "c.png"}])
    draw(tmp_path / "images" / "val2031" / "c.png")
    folder = tmp_path / "annotations"
    folder.mkdir()
    moved = path.rename(folder / "instances_val2031.json")
    assert len(rows(moved)) == 1


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"images": []}, "lists no images"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "id 1 stands for both 'a' and 'b'"),
        ({"categories": [{"name": "a"}]}, "category 1 .* has no id"),
    ],
)
def test_documents_that_contradict_themselves(coco, parts, message):
    with pytest.raises(DataFileError, match=message):
        rows(coco(**parts))


def test_a_test_set_has_no_annotations(coco):
    path = coco()
    document = json.loads(path.read_text())
    del document["annotations"]
    path.write_text(json.dumps(document))
    assert rows(path)[0]["objects"] == []


def test_told_to_be_coco_but_is_not(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"text": "a"}]')
    with pytest.raises(DataFileError, match="expected COCO's images and annotations"):
        rows(path, format="coco")


def test_five_thousand_boxes_in_one_image(coco):
    many = [note([i % 90, i % 70, 1 + i / 5000, 2], id=i) for i in range(5000)]
    begin = time.perf_counter()
    (row,) = rows(coco(*many))
    assert len(row["objects"]) == 5000
    assert time.perf_counter() - begin < 5


def test_mending_keeps_what_is_right():
    assert repair_box([1, 2, 3, 4], None) == ((1, 2, 3, 4), [])
    assert repair_box([-5, -5, 300, 300], None)[0] == (-5, -5, 300, 300)  # the size is unknown: nothing to clip at
    with pytest.raises(ValueError, match=r"\[1, 2, inf, 4\]"):
        repair_box([1, 2, math.inf, 4], (9, 9))


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real data sets are not there ({SHARED})")
def test_real_coco():
    report = ReadReport()
    found = rows(SHARED / "coco256" / "instances_train2017_rescaled.json", report=report)
    counts = Counter(o["label"] for row in found for o in row["objects"])
    assert (len(found), counts.total(), counts["person"], len(counts)) == (128, 939, 259, 71)
    assert report.problems == {}
    other_size = SHARED / "coco_fixtures" / "coco128_instances_train2017.json"
    _, report = skipped(other_size, images=SHARED / "coco256" / "images" / "train2017")
    assert "is 448×336, but its boxes were drawn on 640×480" in report.rejected[0].reason
