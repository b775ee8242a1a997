"""COCO scores: worked by hand, equal to two other implementations, and sane on odd input."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from polydetr.errors import InputError
from polydetr.metrics.box_matching import as_objects, match_image, overlaps
from polydetr.metrics.detection import detection_report
from polydetr.metrics.detection_errors import outcomes

SHARED = Path(os.environ.get("POLYDETR_SHARED", Path(__file__).parents[3] / "shared")) / "data"
SQUARE = [10.0, 10.0, 60.0, 60.0]  # 2,500 square pixels: medium


def true(box, label="cup", **more):
    return {"box": list(box), "label": label, **more}


def found(box, score, label="cup"):
    return {"box": list(box), "label": label, "score": score}


def shifted(pixels):
    return [10.0 + pixels, 10.0, 60.0 + pixels, 60.0]


def kinds(gold, predicted, **options):
    index = {"cup": 0, "mug": 1}
    both = as_objects(gold, index, row=0), as_objects(predicted, index, row=0, scored=True)
    return [(o.kind, o.predicted, o.gold) for o in outcomes(0, *both, **options)]


def test_overlap_of_boxes_and_of_a_crowd():
    boxes = np.array([[0.0, 0, 2, 4], [1, 0, 3, 4], [5, 5, 5, 9]])
    shared = overlaps(boxes, boxes[:2], np.array([False, True]))
    np.testing.assert_allclose(shared, [[1, 1 / 2], [1 / 3, 1], [0, 0]])


def test_perfect_and_empty():
    report = detection_report([[true(SQUARE)], []], [[found(SQUARE, 0.3)], []])
    assert (report.map, report.map_50, report.mar_1, report.map_medium) == (1, 1, 1, 1)
    assert np.isnan(report.map_small)
    assert report.to_dict()["labels"]["cup"]["support"] == 1
    assert report.threshold == 0.3
    nothing = detection_report([[true(SQUARE)]], [[]])
    assert (nothing.map, nothing.mar_100, nothing.kinds["missed"]) == (0, 0, 1)
    blank = detection_report([[]], [[]])
    assert np.isnan(blank.map)
    assert "all labels" in blank.to_text()


def test_average_precision_worked_by_hand():
    """Two objects; boxes by falling score: right, wrong, right. Precision 1 up to a recall of 1/2, then 2/3."""
    gold = [[true(SQUARE), true([200, 200, 260, 260])]]
    predicted = [[found(SQUARE, 0.9), found([400, 400, 450, 450], 0.8), found([200, 200, 260, 260], 0.7)]]
    report = detection_report(gold, predicted)
    expected = (51 * 1 + 50 * 2 / 3) / 101
    assert report.map == pytest.approx(expected, abs=1e-12)
    assert report.mar_1 == 0.5
    np.testing.assert_allclose(report.curves[0][0, [0, 50, 51, 100]], [1, 1, 2 / 3, 2 / 3])


def test_overlap_decides_at_which_thresholds_a_box_counts():
    """10 of 50 pixels off: an overlap of 40 / 60 = 0.667, good for 0.5, 0.55, 0.6 and 0.65."""
    report = detection_report([[true(SQUARE)]], [[found(shifted(10), 0.9)]])
    assert (report.map, report.map_50, report.map_75) == (pytest.approx(0.4), 1, 0)


def test_a_crowd_is_neither_right_nor_wrong():
    crowd = true([0, 0, 300, 300], crowd=True)
    inside = [found([100 + i, 100, 150 + i, 150], 0.95) for i in range(4)]
    report = detection_report([[true(SQUARE), crowd]], [[*inside, found(SQUARE, 0.5)]])
    assert report.map == 1
    assert report.kinds["ignored"] == 4
    assert report.all_labels.support == 1
    without = detection_report([[true(SQUARE)]], [[*inside, found(SQUARE, 0.5)]])
    assert without.map == pytest.approx(0.2)


def test_sizes_follow_the_annotated_area():
    report = detection_report([[true(SQUARE, area=1000)]], [[found(SQUARE, 0.9)]])
    assert (report.map_small, report.map) == (1, 1)
    assert np.isnan(report.map_medium)


def test_the_highest_scoring_box_takes_the_object_and_the_other_is_a_duplicate():
    gold, predicted = [true(SQUARE)], [found(shifted(2), 0.6), found(shifted(4), 0.9)]
    assert kinds(gold, predicted) == [("right", 1, 0), ("duplicate", 0, 0)]


def test_kinds_of_mistakes():
    gold = [true(SQUARE), true([200, 200, 260, 260]), true([300, 0, 340, 40]), true([400, 0, 440, 40])]
    predicted = [
        found(SQUARE, 0.9, "mug"),
        found([200, 200, 260, 225], 0.8),
        found([600, 600, 640, 640], 0.7),
        found([400, 0, 440, 41], 0.6),
        found([300, 0, 340, 40], 0.1),
    ]
    assert kinds(gold, predicted, threshold=0.5) == [
        ("confused", 0, 0), ("misplaced", 1, 1), ("invented", 2, None), ("right", 3, 3),
        ("missed", None, 1), ("missed", None, 2),
    ]  # fmt: skip
    report = detection_report([gold], [predicted], threshold=0.5, labels=["mug", "cup"])
    assert report.confusion_labels == ("mug", "cup", "background")
    np.testing.assert_array_equal(report.confusion, [[0, 0, 0], [1, 1, 2], [0, 2, 0]])
    assert report.all_labels.precision == pytest.approx(1 / 4)
    assert report.all_labels.recall == pytest.approx(1 / 4)


def test_an_object_of_ones_own_label_goes_before_a_nearer_one_of_another():
    gold = [true(shifted(0), "mug"), true(shifted(10), "cup")]
    assert kinds(gold, [found(shifted(1), 0.9, "cup")]) == [("right", 0, 1), ("missed", None, 0)]


def test_the_threshold_is_where_f1_is_largest():
    gold = [[true(SQUARE)] for _ in range(4)]
    predicted = [[found(SQUARE, s)] for s in (0.9, 0.8, 0.7)] + [[found([300, 300, 310, 310], 0.6), found(SQUARE, 0.2)]]
    assert detection_report(gold, predicted).threshold == 0.2  # 2·4 / (5 + 4) is above 2·3 / (3 + 4)
    predicted[3] += [found([300, 300, 310, 310], 0.5)]
    assert detection_report(gold, predicted).threshold == 0.7


def test_one_hundred_boxes_a_label_count():
    many = [found([i, 0, i + 5, 5], 0.9) for i in range(100, 200)] + [found(SQUARE, 0.1)]
    assert detection_report([[true(SQUARE)]], [many]).map == 0
    assert detection_report([[true(SQUARE)]], [many[1:]]).map == pytest.approx(1 / 100)
    matched = match_image(as_objects([], {}, row=0), as_objects(many, {"cup": 0}, row=0, scored=True), most=7)
    assert matched.rank.tolist() == list(range(7))


def test_text_has_a_line_a_label_and_lines_up_with_wide_letters():
    report = detection_report([[true(SQUARE, "杯子"), true(SQUARE, "cup")]], [[found(SQUARE, 0.5, "杯子")]])
    lines = report.to_text().split("\n")
    assert lines[2].startswith("       cup      0.000")
    assert lines[3].startswith("      杯子      1.000")
    assert lines[5].startswith("all labels      0.500")
    assert "small -, medium 0.500" in lines[7]


@pytest.mark.parametrize(
    ("gold", "predicted", "message"),
    [
        ([[]], [], "1 images with true boxes but 0 with predicted ones"),
        ([], [], "0 images"),
        ([[]], [[{"box": SQUARE, "label": "cup"}]], r"row 1: an object lacks its box, label and score: Key"),
        ([[], [true([1, 2, 3])]], [[], []], "row 2: an object lacks its box and label"),
        ([[]], [[found(SQUARE, float("nan"))]], "row 1: a predicted box or its score is not a finite number"),
        ([[true([0, 0, float("inf"), 1])]], [[]], "a true box"),
    ],
)  # fmt: skip
def test_what_cannot_be_scored(gold, predicted, message):
    with pytest.raises(InputError, match=message):
        detection_report(gold, predicted)


def test_a_label_that_is_not_known():
    with pytest.raises(InputError, match=r"the label 'cup' is not among \['mug'\]"):
        detection_report([[true(SQUARE)]], [[]], labels=["mug"])


def test_five_thousand_objects_in_one_image():
    gold = [true([i % 100 * 10, i // 100 * 10, i % 100 * 10 + 8, i // 100 * 10 + 8]) for i in range(5000)]
    begin = time.perf_counter()
    report = detection_report([gold], [[found(g["box"], 0.5) for g in gold[:100]]])
    assert report.mar_100 == pytest.approx(0.02)
    assert time.perf_counter() - begin < 5


# -- against other implementations ----------------------------------------------------------------------------------


def scatter(seed, images, classes, most_true, most_found):
    """Boxes near and far from objects, scores with many ties, crowds, areas that are not those of the boxes."""
    random = np.random.default_rng(seed)
    gold, predicted = [], []
    for _ in range(images):
        corners = random.uniform(0, 400, (random.integers(most_true), 2))
        boxes = np.hstack([corners, corners + np.exp(random.uniform(1.5, 5.2, corners.shape))]).round(2)
        gold.append([
            true(b.tolist(), f"c{random.integers(classes):02d}", crowd=bool(random.random() < 0.1),
                 area=float((b[2] - b[0]) * (b[3] - b[1]) * random.uniform(0.4, 1)))
            for b in boxes
        ])  # fmt: skip
        row = []
        for _ in range(random.integers(most_found)):
            b, name = np.r_[300.0, 300, 340, 350] + random.uniform(-40, 40, 4), f"c{random.integers(classes):02d}"
            if len(boxes) and random.random() < 0.8:
                target = gold[-1][random.integers(len(boxes))]
                b, name = np.array(target["box"]) + random.normal(0, 4, 4), random.choice([target["label"], name])
            b[:2] = np.minimum(b[:2], b[2:] - 1)
            row.append(found(b.tolist(), round(float(random.random()), 1), str(name)))
        predicted.append(row)
    return gold, predicted


def as_coco(gold, predicted, names):
    ids = {name: i for i, name in enumerate(names, 1)}

    def item(image, one):
        left, top, right, bottom = one["box"]
        return {"image_id": image, "category_id": ids[one["label"]], "bbox": [left, top, right - left, bottom - top]}

    truth = [item(i, o) | {"area": o["area"], "iscrowd": int(o["crowd"])} for i, row in enumerate(gold, 1) for o in row]
    return {
        "info": {},
        "images": [{"id": i, "width": 640, "height": 640} for i in range(1, len(gold) + 1)],
        "annotations": [a | {"id": i} for i, a in enumerate(truth, 1)],
        "categories": [{"id": i, "name": name} for name, i in ids.items()],
    }, [item(i, o) | {"score": o["score"]} for i, row in enumerate(predicted, 1) for o in row]


@pytest.mark.parametrize("size", [(0, 30, 3, 8, 20), (1, 20, 8, 20, 150), (2, 4, 1, 150, 250)])
def test_equal_to_the_coco_api(size):
    api = pytest.importorskip("faster_coco_eval", reason="the COCO API in C++ (faster-coco-eval) is not installed")
    gold, predicted = scatter(*size)
    names = [f"c{i:02d}" for i in range(size[2])]
    document, results = as_coco(gold, predicted, names)
    truth = api.COCO(document)
    theirs = api.COCOeval_faster(truth, truth.loadRes(results), "bbox")
    theirs.evaluate()
    theirs.accumulate()
    theirs.summarize()
    ours = list(detection_report(gold, predicted, labels=names).scores().values())
    np.testing.assert_allclose(np.nan_to_num(ours, nan=-1), theirs.stats[:12], rtol=0, atol=1e-12)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real data sets are not there ({SHARED})")
def test_the_coco_api_on_its_own_example_results():
    """The API's example results for the 43 images whose annotations are at hand; figures by pycocotools 2.0.11.

    On all 100 images the API prints 0.505, 0.697, 0.573; that needs instances_val2014.json.
    """
    fixtures = SHARED / "coco_fixtures"
    document = json.loads((fixtures / "coco128_instances_train2017.json").read_text())
    results = json.loads((fixtures / "results" / "instances_val2014_fakebbox100_results.json").read_text())
    names = {c["id"]: c["name"] for c in document["categories"]}
    ids = sorted({r["image_id"] for r in results} & {i["id"] for i in document["images"]})
    rows = {i: ([], []) for i in ids}
    for side, items in enumerate((document["annotations"], results)):
        for item in items:
            if item["image_id"] in rows:
                x, y, w, h = item["bbox"]
                extra = {"score": item["score"]} if side else {"area": item["area"], "crowd": bool(item["iscrowd"])}
                one = {"box": [x, y, x + w, y + h], "label": names[item["category_id"]], **extra}
                rows[item["image_id"]][side].append(one)
    report = detection_report([g for g, _ in rows.values()], [f for _, f in rows.values()])
    by_pycocotools = [
        0.5484812772529543, 0.7445522072994905, 0.621956220021837, 0.5594319501038192, 0.5498138008245269,
        0.5482337345029424, 0.43584221433790954, 0.5990025995033864, 0.6008431121413359, 0.6084636910732467,
        0.564320987654321, 0.5704301075268816,
    ]  # fmt: skip
    assert len(ids) == 43
    np.testing.assert_allclose(list(report.scores().values()), by_pycocotools, rtol=0, atol=1e-12)
