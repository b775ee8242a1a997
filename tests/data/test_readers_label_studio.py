"""Label Studio's JSON and JSON-MIN: which annotation counts, what becomes which column, where boxes and images lie."""

import json
import math

import pytest
from box_images import boxes, draw, rows, skipped

from polydetr.data.readers import ReadReport
from polydetr.data.readers.label_studio import SEVERAL, SKIPPED, UNLABELED
from polydetr.errors import DataFileError, RowError


def result(control, kind, about="text", size=None, **value):
    sizes = {"original_width": size[0], "original_height": size[1]} if size else {}
    return {"from_name": control, "to_name": about, "type": kind, "id": "r1", **sizes, "value": value}


def annotation(*results, **more):
    return {"id": 9, "completed_by": 1, "result": list(results), "was_cancelled": False, **more}


def task(data, *annotations, **more):
    return {"id": 7, "data": data, "annotations": list(annotations), "predictions": [], "project": 1, **more}


@pytest.fixture
def export(tmp_path):
    def _export(*tasks, name="export.json"):
        path = tmp_path / name
        path.write_text(json.dumps(tasks, ensure_ascii=False), encoding="utf-8")
        return path

    return _export


def choice(*labels, control="mood"):
    return result(control, "choices", choices=list(labels))


def span(start, end, label, text=None, control="label", about="text"):
    copied = {} if text is None else {"text": text}
    return result(control, "labels", about=about, start=start, end=end, labels=[label], **copied)


def rectangle(x, y, width, height, *labels, rotation=0, size=(100, 80)):
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": rotation, "rectanglelabels": list(labels)}
    return result("box", "rectanglelabels", about="img", size=size, **value)


# -- texts ------------------------------------------------------------------------------------------------------------


def test_one_choice_and_several(export):
    path = export(
        task({"text": "warm", "lang": "en"}, annotation(choice("good"), choice("food", "price", control="topic"))),
        task({"text": "cold", "lang": "en"}, annotation(choice("bad"), choice("food", control="topic")), id=8),
    )
    assert rows(path) == [
        {"id": 7, "text": "warm", "lang": "en", "mood": "good", "topic": ["food", "price"]},
        {"id": 8, "text": "cold", "lang": "en", "mood": "bad", "topic": ["food"]},
    ]


def test_other_answers_are_columns_too(export):
    answers = (
        result("stars", "rating", rating=4),
        result("note", "textarea", text=["well put"]),
        result("kind", "taxonomy", taxonomy=[["Animals", "Cat"]]),
    )
    (row,) = rows(export(task({"text": "a"}, annotation(*answers))))
    assert (row["stars"], row["note"], row["kind"]) == (4, "well put", "Animals/Cat")


def test_spans_are_entities(export):
    path = export(
        task({"text": "Ann lives in Oslo"}, annotation(span(13, 17, "CITY", "Oslo"), span(0, 3, "PER", "Ann")))
    )
    (row,) = rows(path)
    assert row["entities"] == [
        {"start": 13, "end": 17, "label": "CITY"}, {"start": 0, "end": 3, "label": "PER"}
    ]  # fmt: skip


def test_a_text_without_spans_has_no_entities_and_one_that_nobody_saw_says_nothing(export):
    path = export(
        task({"text": "Ann"}, annotation(span(0, 3, "PER"))), task({"text": "x"}, annotation()), task({"text": "y"})
    )
    report = ReadReport()
    found = rows(path, report=report)
    assert [row.get("entities") for row in found] == [[{"start": 0, "end": 3, "label": "PER"}], [], None]
    assert report.problems == {UNLABELED: 1}


def test_spans_of_several_controls_keep_their_names(export):
    path = export(
        task({"text": "Ann runs"}, annotation(span(0, 3, "PER", control="ner"), span(4, 8, "VERB", control="pos")))
    )
    (row,) = rows(path)
    assert (row["ner"][0]["label"], row["pos"][0]["label"]) == ("PER", "VERB")
    assert "entities" not in row


def test_offsets_of_a_browser_are_put_right(export):
    """It counts an emoji as two characters."""
    text = "😀😀 Ann met Bo"
    (row,) = rows(export(task({"text": text}, annotation(span(5, 8, "PER", "Ann"), span(13, 15, "PER", "Bo")))))
    assert [text[e["start"] : e["end"]] for e in row["entities"]] == ["Ann", "Bo"]


@pytest.mark.parametrize("copied", ["aa", None])
def test_a_browsers_offsets_are_put_right_where_the_same_text_stands_at_them_by_chance(export, copied):
    text = "😀" * 6 + " aa aa aa aa"
    (row,) = rows(export(task({"text": text}, annotation(span(13, 15, "PER", copied)))))
    assert row["entities"] == [{"start": 7, "end": 9, "label": "PER"}]


def test_offsets_in_characters_are_kept_where_the_copied_text_stands_at_them(export):
    (row,) = rows(export(task({"text": "😀😀 Ann met Bo"}, annotation(span(3, 6, "PER", "Ann")))))
    assert row["entities"] == [{"start": 3, "end": 6, "label": "PER"}]


def test_the_text_of_the_spans_is_found(export):
    data = {"headline": "News of today", "story": "Ann met Bo"}
    assert rows(export(task(data, annotation(span(0, 3, "PER", "Ann")))))[0]["entities"][0]["label"] == "PER"
    assert rows(export(task(data, annotation(span(0, 3, "PER", about="story")))))
    with pytest.raises(RowError, match=r"row 1: spans are marked, and it is not known in which text .*headline"):
        rows(export(task(data, annotation(span(0, 3, "PER")))))


TITLE, BODY = span(0, 3, "PER", "Ann", about="title"), span(0, 2, "PER", "Bo", about="body")


@pytest.mark.parametrize(
    "tasks",
    [[annotation(TITLE, BODY)], [annotation(TITLE), annotation(BODY)], [annotation(TITLE, {**BODY, "to_name": "b"})]],
)
def test_a_column_has_the_spans_of_one_text(export, tasks):
    path = export(*(task({"title": "Ann", "body": "Bo met Ann"}, one) for one in tasks))
    with pytest.raises(RowError, match=rf"row {len(tasks)}: 'entities' has spans of 'title' and of 'body'"):
        rows(path)


def test_spans_of_two_texts_by_two_controls_are_two_columns(export):
    body = {**BODY, "from_name": "of body"}
    (row,) = rows(export(task({"title": "Ann", "body": "Bo met Ann"}, annotation(TITLE, body))))
    assert [row["label"][0]["end"], row["of body"][0]["end"]] == [3, 2]


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ({"start": "/div[1]/text()[1]", "end": "/p[1]", "startOffset": 3, "labels": ["A"]}, "parts of a page"),
        ({"start": 0.25, "end": 1.5, "channel": 0, "labels": ["A"]}, "numbers of characters"),
        ({"start": 0, "end": 40, "labels": ["A"]}, "outside its text of 4"),
        ({"start": 0, "end": 2, "labels": "A"}, "expected a list of names"),
    ],
)
def test_spans_that_cannot_be_read(export, value, match):
    path = export(task({"text": "warm"}, annotation(result("label", "labels", **value))))
    with pytest.raises(RowError, match=match):
        rows(path)
    found, report = skipped(path)
    assert (found, len(report.rejected)) == ([], 1)


# -- which annotation -------------------------------------------------------------------------------------------------


def test_the_latest_that_was_not_cancelled_counts(export):
    early = annotation(choice("bad"), updated_at="2024-01-01T00:00:00Z")
    late = annotation(choice("good"), updated_at="2024-02-01T00:00:00Z")
    never = annotation(choice("ugly"), updated_at="2024-03-01T00:00:00Z", was_cancelled=True)
    report = ReadReport()
    assert rows(export(task({"text": "a"}, late, early, never)), report=report)[0]["mood"] == "good"
    assert report.problems == {SEVERAL: 1}
    truth = annotation(choice("true"), created_at="2023-01-01T00:00:00Z", ground_truth=True)
    assert rows(export(task({"text": "a"}, late, truth)))[0]["mood"] == "true"


def test_skipped_tasks_and_predictions_have_no_label(export):
    guess = {"result": [choice("good")], "model_version": "m"}
    report = ReadReport()
    found = rows(
        export(
            task({"text": "a"}, annotation(choice("x"), was_cancelled=True)),
            task({"text": "b"}, predictions=[guess]),
            task({"text": "c"}, annotation(choice("bad"))),
        ),
        report=report,
    )
    assert [row.get("mood") for row in found] == [None, None, "bad"]
    assert report.problems == {SKIPPED: 1, UNLABELED: 1}
    assert "its predictions are no labels" in report.examples[UNLABELED][0]


def test_tasks_to_be_labeled_are_rows(export):
    assert rows(export({"data": {"text": "a"}}, {"data": {"text": "b"}})) == [{"text": "a"}, {"text": "b"}]


def test_an_answer_that_is_called_as_a_column_is_told(export):
    report = ReadReport()
    path = export(task({"text": "a", "mood": "old"}, annotation(choice("new"))))
    assert rows(path, report=report)[0]["mood"] == "new"
    assert "'mood' of the data" in report.examples["columns of the data replaced by answers"][0]


def test_every_task_is_read_or_told(export):
    """A task that is damaged takes no other with it."""
    good = task({"text": "a"}, annotation(choice("x")))
    path = export(good, task({"text": "b"}, {"result": "none"}), task({"text": "c"}, annotation({"value": 3})), good)
    found, report = skipped(path)
    assert (len(found), report.rows, [r.location.row for r in report.rejected]) == (2, 2, [2, 3])


def test_answers_are_not_looked_at_for_predictions(export):
    from polydetr.data.readers import read_records

    path = export(task({"text": "a"}, annotation({"value": 3})))
    assert [dict(r.row) for r in read_records(path, labels=False)] == [{"id": 7, "text": "a"}]


# -- JSON-MIN ---------------------------------------------------------------------------------------------------------


def minimal(number, **columns):
    about = {"annotator": 1, "annotation_id": 5, "created_at": "2024", "updated_at": "2024-05", "lead_time": 3.5}
    return {"id": number, **about, **columns}


def test_json_min(export):
    path = export(
        minimal(1, text="Ann here", mood="good", label=[{"start": 0, "end": 3, "text": "Ann", "labels": ["PER"]}]),
        minimal(2, text="b", mood={"choices": ["good", "bad"]}),
        minimal(2, text="b", mood="bad", updated_at="2024-09"),
    )
    report = ReadReport()
    found = rows(path, report=report)
    assert found[0] == {
        "id": 1, "text": "Ann here", "mood": "good", "entities": [{"start": 0, "end": 3, "label": "PER"}]
    }  # fmt: skip
    assert found[1:] == [{"id": 2, "text": "b", "mood": "bad", "entities": []}]
    assert report.problems == {SEVERAL: 1}


def test_boxes_of_json_min(export, tmp_path):
    draw(tmp_path / "images" / "a.png")
    shape = {"x": 10, "y": 25, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["cup"]}
    path = export(minimal(1, image="/data/upload/1/0a1b2c3d-a.png", tag=[shape]))
    assert boxes(rows(path)[0]) == [("cup", 10, 20, 60, 60)]


# -- boxes ------------------------------------------------------------------------------------------------------------


def test_boxes_are_percent_of_their_image(export, tmp_path):
    draw(tmp_path / "a.png")
    path = export(task({"img": "https://example.org/set/a.png?sign=1"}, annotation(rectangle(10, 25, 50, 50, "cup"))))
    (row,) = rows(path)
    assert boxes(row) == [("cup", 10, 20, 60, 60)]
    assert (row["image"], row["image_id"], row["width"]) == (str(tmp_path / "a.png"), 7, 100)


@pytest.mark.parametrize("rotation", [30, 90, 180, 330])
def test_a_turned_box_is_turned_about_its_corner(export, tmp_path, rotation):
    """The reference multiplies each corner by the matrix of a turn, in pixels."""
    draw(tmp_path / "a.png")
    report = ReadReport()
    path = export(task({"img": "a.png"}, annotation(rectangle(50, 50, 20, 10, "cup", rotation=rotation))))
    (found,) = boxes(rows(path, report=report)[0])
    turn = complex(math.cos(math.radians(rotation)), math.sin(math.radians(rotation)))
    corners = [complex(50, 40) + corner * turn for corner in (0, 20, 20 + 8j, 8j)]
    xs, ys = [c.real for c in corners], [c.imag for c in corners]
    assert found[1:] == pytest.approx((min(xs), min(ys), max(xs), max(ys)))
    assert sum("turned" in kind for kind in report.problems) == 1


def test_polygons_and_ellipses_have_a_box_around_them(export, tmp_path):
    draw(tmp_path / "a.png")
    polygon = result("p", "polygonlabels", "img", points=[[10, 10], [30, 20], [20, 50]], polygonlabels=["leaf"])
    round_one = {"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "rotation": 90, "ellipselabels": ["egg"]}
    ellipse = result("e", "ellipselabels", "img", size=(100, 80), **round_one)
    found = boxes(rows(export(task({"img": "a.png"}, annotation(polygon, ellipse))))[0])
    assert found[0] == ("leaf", 10, 8, 30, 40)
    assert found[1] == ("egg", pytest.approx(34), pytest.approx(30), pytest.approx(66), pytest.approx(50))


def test_a_rectangle_and_its_label_are_one_object(export, tmp_path):
    draw(tmp_path / "a.png")
    place = {"x": 10, "y": 25, "width": 50, "height": 50, "rotation": 0}
    both = [result("r", "rectangle", "img", **place), result("l", "labels", "img", labels=["cup"], **place)]
    assert boxes(rows(export(task({"img": "a.png"}, annotation(*both))))[0]) == [("cup", 10, 20, 60, 60)]
    with pytest.raises(RowError, match="a region of 'r' has no label"):
        rows(export(task({"img": "a.png"}, annotation(both[0]))))


def test_an_image_without_boxes_and_one_that_nobody_saw(export, tmp_path):
    for name in ("a", "b", "c"):
        draw(tmp_path / f"{name}.png")
    path = export(
        task({"img": "a.png"}, annotation(rectangle(1, 2, 3, 4, "cup"))),
        task({"img": "b.png"}, annotation(), id=8),
        task({"img": "c.png"}, id=9),
    )
    found = rows(path)
    assert found[1]["objects"] == []
    assert "objects" not in found[2]


def test_masks_are_refused_and_points_told(export, tmp_path):
    draw(tmp_path / "a.png")
    mask = result("m", "brushlabels", "img", rle=[1, 2], format="rle", brushlabels=["cup"])
    with pytest.raises(RowError, match=r"'m' holds masks \(brush\), which are not read: draw boxes or polygons"):
        rows(export(task({"img": "a.png"}, annotation(mask))))
    point = result("k", "keypointlabels", "img", x=1, y=2, width=1, keypointlabels=["eye"])
    report = ReadReport()
    assert boxes(
        rows(export(task({"img": "a.png"}, annotation(rectangle(0, 0, 50, 50, "cup"), point))), report=report)[0]
    )
    assert report.problems == {"shapes that are no boxes (left out)": 1}


@pytest.mark.parametrize(
    "address",
    [
        "/data/local-files/?d=shop/a%20b.png",
        "/data/upload/3/12ab34cd-a b.png",
        "s3://bucket/shop/a%20b.png",
        "shop/a b.png",
    ],
)
def test_images_wherever_they_were_are_found_in_the_folder_that_is_named(export, tmp_path, address):
    draw(tmp_path / "photos" / "a b.png")
    path = export(task({"img": address}, annotation(choice("cup"))))
    (row,) = rows(path, images=tmp_path / "photos")
    assert row == {
        "image": str((tmp_path / "photos" / "a b.png").resolve()),
        "mood": "cup", "image_id": 7,
    }  # fmt: skip


def test_images_that_are_not_there_are_asked_for(export):
    path = export(task({"img": "/data/upload/3/12ab34cd-a.png"}, annotation(rectangle(1, 2, 3, 4, "cup"))))
    with pytest.raises(RowError, match=r"12ab34cd-a.png|a\.png") as caught:
        rows(path)
    assert "--images FOLDER" in str(caught.value)
    with pytest.raises(DataFileError, match=r"none of its 1 images was found.*copy them .*--images FOLDER"):
        skipped(path)


def test_names_do_not_climb_out(export, tmp_path):
    draw(tmp_path / "secret.png")
    (tmp_path / "in").mkdir()
    path = export(task({"img": "/data/local-files/?d=../secret.png"}, annotation(rectangle(1, 2, 3, 4, "cup"))))
    with pytest.raises(RowError, match="is not there"):
        rows(path, images=tmp_path / "in")


def test_of_a_pair_of_images_the_first_is_the_image(export, tmp_path):
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png")
    path = export(task({"left": "/data/upload/1/a.png", "right": "/data/upload/1/b.png"}, annotation(choice("same"))))
    (row,) = rows(path)
    assert (row["image"], row["right"]) == (str(tmp_path / "a.png"), str(tmp_path / "b.png"))


# -- which files are these --------------------------------------------------------------------------------------------


def test_other_documents_are_what_they_were(tmp_path, export):
    assert rows(export({"data": "x", "annotations": []})) == [{"data": "x", "annotations": []}]
    with pytest.raises(DataFileError, match="is no export of Label Studio"):
        rows(export({"text": "a", "label": "b"}), format="labelstudio")


def test_one_task_of_a_storage(tmp_path):
    path = tmp_path / "1.json"
    path.write_text(json.dumps(task({"text": "a"}, annotation(choice("x")))))
    assert rows(path) == [{"id": 7, "text": "a", "mood": "x"}]


def test_a_task_in_each_line_asks_for_a_list(tmp_path):
    path = tmp_path / "tasks.json"
    line = json.dumps(task({"text": "a"}, annotation(choice("x"))))
    path.write_text(f"{line}\n{line}\n")
    with pytest.raises(DataFileError, match="a task of Label Studio in each line, expected a list"):
        rows(path)


def test_the_folder_of_its_coco_export(tmp_path):
    draw(tmp_path / "images" / "a.png")
    document = {
        "images": [{"id": 0, "file_name": "images/a.png", "width": 100, "height": 80}],
        "categories": [{"id": 0, "name": "cup"}],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 0, "bbox": [1, 2, 3, 4]}],
    }
    (tmp_path / "result.json").write_text(json.dumps(document))
    report = ReadReport()
    assert boxes(rows(tmp_path, report=report)[0]) == [("cup", 1, 2, 4, 6)]
    assert "result.json is read" in report.examples["files that stand for their folder"][0]
    assert len(rows(tmp_path, format="images")) == 1


def test_a_row_has_the_boxes_of_one_image(export, tmp_path):
    draw(tmp_path / "a.png")
    shape = rectangle(10, 20, 30, 40, "cat")
    path = export(task({"left": "a.png", "right": "b.png"}, annotation(shape, {**shape, "to_name": "right"})))
    with pytest.raises(RowError, match="row 1: boxes are drawn in 'img' and 'right', of which a row has one"):
        rows(path)
