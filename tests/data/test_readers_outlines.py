"""The box around an outline: polygons, run lengths as numbers and as text."""

import json

import numpy as np
import pytest
from box_images import boxes, draw, rows, skipped

from polydetr.data.readers.boxes import TURNED
from polydetr.data.readers.outlines import around_segmentation
from polydetr.errors import DataFileError, RowError


def runs_of(mask):
    """COCO's run lengths: column by column, beginning with off."""
    flat = np.concatenate([[0], mask.T.ravel().astype(int), [-1]])
    ends = np.flatnonzero(np.diff(flat) != 0) + 1
    runs = np.diff(np.concatenate([[0], ends])).tolist()
    runs[0] -= 1
    return runs


def text_of(runs):
    """As COCO's tools pack them; written after the format's description, apart from the reader."""
    text = ""
    for i, run in enumerate(runs):
        value = run - runs[i - 2] if i > 2 else run
        more = True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr((bits | (32 if more else 0)) + 48)
    return text


def box_of(mask):
    ys, xs = np.nonzero(mask)
    return xs.min(), ys.min(), xs.max() + 1, ys.max() + 1


def test_run_lengths_give_the_box_of_their_mask():
    chance = np.random.default_rng(5)
    for _ in range(50):
        mask = np.zeros((int(chance.integers(1, 40)), int(chance.integers(1, 40))), dtype=bool)
        mask[chance.integers(0, mask.shape[0], 9), chance.integers(0, mask.shape[1], 9)] = True
        mask[:, chance.integers(0, mask.shape[1])] |= chance.random() < 0.3
        runs = runs_of(mask)
        for counts in (runs, text_of(runs)):
            assert around_segmentation({"size": list(mask.shape), "counts": counts}) == box_of(mask)


def test_polygons_and_nothing():
    assert around_segmentation([[5, 6, 9, 6, 7, 20], [1, 8, 2, 9]]) == (1, 6, 9, 20)
    assert around_segmentation([5, 6, 9, 6, 7, 20]) == (5, 6, 9, 20)
    assert around_segmentation([]) is around_segmentation(None) is around_segmentation({}) is None
    assert around_segmentation({"size": [4, 5], "counts": [20]}) is None


@pytest.mark.parametrize(
    ("outline", "message"),
    [
        ([[1, 2, 3]], "no list of polygons"),
        ("abc", "no list of polygons"),
        ([["a", 1, 2, 3]], "'a' is not a number"),
        ({"counts": [1]}, "lacks a size or counts"),
        ({"size": [4, 5], "counts": [3, 4]}, "do not fill its size"),
        ({"size": [4, 5], "counts": "\n"}, "is no text of run lengths"),
        ({"size": ["x", 5], "counts": [20]}, "'x' is not a number"),
    ],
)
def test_outlines_that_are_none(outline, message):
    with pytest.raises(ValueError, match=message):
        around_segmentation(outline)


@pytest.fixture
def coco(tmp_path):
    """Writes annotations of one image of 100×80."""
    draw(tmp_path / "a.png")

    def _coco(*annotations, images=None):
        notes = [{"id": i, "image_id": 1, "category_id": 1, **one} for i, one in enumerate(annotations)]
        images = images or [{"id": 1, "file_name": "a.png", "width": 100, "height": 80}]
        path = tmp_path / "boxes.json"
        path.write_text(json.dumps({"images": images, "annotations": notes, "categories": [{"id": 1, "name": "cup"}]}))
        return path

    return _coco


@pytest.mark.parametrize("bbox", [{}, {"bbox": None}, {"bbox": []}, {"bbox": [0, 0, 0, 0]}, {"bbox": [7, 9, 5, 0]}])
def test_an_outline_takes_the_place_of_a_box_that_is_none(coco, bbox):
    mask = np.zeros((80, 100), dtype=bool)
    mask[20:50, 30:60] = True
    for outline in ([[30, 20, 60, 20, 60, 50]], {"size": [80, 100], "counts": runs_of(mask)}):
        assert boxes(rows(coco({**bbox, "segmentation": outline}))[0]) == [("cup", 30, 20, 60, 50)]


def test_annotations_with_nothing_to_take_a_box_from(coco):
    with pytest.raises(RowError, match=r"the bbox is None, and there is nothing else but key points to take a box"):
        rows(coco({"keypoints": [1, 2, 2]}))
    with pytest.raises(RowError, match=r"expected \[left, top, width, height\], or is it turned\? Give the box around"):
        rows(coco({"bbox": [50, 40, 20, 10, 0.5]}))


@pytest.mark.parametrize("where", [{"attributes": {"rotation": "90"}}, {"rotation": 90}])
def test_a_turned_box_is_taken_with_its_surroundings(coco, where):
    kept, report = skipped(coco({"bbox": [20, 35, 60, 10], **where}))
    assert boxes(kept[0]) == [("cup", 45, 10, 55, 70)]
    assert report.problems[TURNED] == 1
    outline = {"segmentation": [[46, 12, 54, 12, 54, 66]]}  # what was drawn tells more
    assert boxes(rows(coco({"bbox": [20, 35, 60, 10], **where, **outline}))[0]) == [("cup", 46, 12, 54, 66)]


def test_shares_are_no_pixels(coco):
    with pytest.raises(DataFileError, match=r"lie between 0 and 1, as shares .* \[0.1, 0.2, 0.3, 0.4\]\).*in pixels"):
        rows(coco({"bbox": [0.1, 0.2, 0.3, 0.4]}, {"bbox": [0.5, 0.5, 0.55, 0.1]}))
    assert len(rows(coco({"bbox": [0.1, 0.2, 0.3, 0.4]}, {"bbox": [10, 20, 30, 40]}))[0]["objects"]) == 2


def test_two_entries_never_share_a_file(coco, tmp_path):
    draw(tmp_path / "images" / "1.png")
    images = [{"id": 7, "file_name": "left/1.png"}, {"id": 8, "file_name": "right/1.png"}]
    path = coco(images=images)
    with pytest.raises(
        RowError, match=r"row 2: the image 'right/1\.png' is the file .*which is that of 'left/1\.png' \("
    ):
        rows(path)
    assert [r["image_id"] for r in skipped(path)[0]] == [7]


@pytest.mark.parametrize("again", ["a.png", "./a.png"])
def test_an_image_that_is_listed_twice_is_two_rows_and_told(coco, again):
    found, report = skipped(coco(images=[{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": again}]))
    assert [r["image_id"] for r in found] == [7, 8]
    assert not report.rejected
    assert report.problems["image listed twice (both are read)"] == 1


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ({"width": float("inf"), "height": 80}, "the size is inf×80, expected numbers of pixels"),
        ({"width": "wide", "height": 80}, "'wide' is not a number"),
        ({"file_name": "x" * 3000}, "is not there"),
    ],
)
def test_images_of_odd_values_are_rows_of_their_own(coco, tmp_path, image, message):
    draw(tmp_path / "b.png")
    path = coco(images=[{"id": 1, "file_name": "a.png", **image}, {"id": 2, "file_name": "b.png"}])
    with pytest.raises(RowError, match=message) as caught:
        rows(path)
    assert len(str(caught.value)) < 1500
    assert [r["image_id"] for r in skipped(path)[0]] == [2]


@pytest.mark.parametrize(
    "odd", [{"bbox": [1, 1, 10**400, 5]}, {"iscrowd": "maybe"}, {"attributes": {"rotation": "steep"}}, {"bbox": "box"}]
)
def test_annotations_of_odd_values_reject_their_image(coco, odd):
    kept, report = skipped(coco({"bbox": [1, 1, 5, 5], **odd}))
    assert kept == []
    assert len(report.rejected) == 1
    assert rows(coco({"bbox": [1, 1, 5, 5], "area": 10**400}))[0]["objects"] == [{"box": [1, 1, 6, 6], "label": "cup"}]
