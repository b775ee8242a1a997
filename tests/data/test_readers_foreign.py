"""Exports as annotation tools write them: recognized, and told what to name or to convert."""

import json
from pathlib import Path

import pytest
from box_images import boxes, draw, rows

from polydetr.data.readers import read_records
from polydetr.errors import DataFileError, SchemaError
from polydetr.schema.infer import infer_schema

XML = (
    "<annotation><filename>1.png</filename><object><name>cup</name><bndbox><xmin>1</xmin><ymin>2</ymin>"
    "<xmax>30</xmax><ymax>40</ymax></bndbox></object></annotation>"
)


@pytest.mark.parametrize(
    ("tool", "document"),
    [
        ("VIA", {"x.png100": {"filename": "x.png", "regions": [{"shape_attributes": {"name": "rect"}}]}}),
        ("VIA", {"_via_settings": {}, "_via_img_metadata": {}}),
        ("LabelMe", {"version": "5", "shapes": [], "imagePath": "x.png"}),
        ("Supervisely", {"size": {"width": 9}, "objects": [{"classTitle": "cup"}]}),
        ("CreateML", [{"image": "x.png", "annotations": [{"label": "cup", "coordinates": {}}]}]),
        ("a model's answers", [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]),
    ],
)
def test_json_of_tools(tmp_path, tool, document):
    path = tmp_path / "export.json"
    path.write_text(json.dumps(document))
    with pytest.raises(DataFileError, match=rf"is an export of {tool}.*, which is not read\. Export it as COCO JSON"):
        rows(path)


def test_rows_with_columns_of_such_names_are_rows(tmp_path):
    path = tmp_path / "rows.json"
    lines = [{"image": "x.png", "size": "L", "objects": [{"box": [1, 2, 3, 4], "label": "cup"}], "annotations": []}]
    path.write_text(json.dumps(lines))
    assert rows(path) == lines


def test_tables_of_tools(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text('filename,region_shape_attributes,region_attributes\nx.png,"{}","{}"\n')
    with pytest.raises(SchemaError, match="is a table of VIA, which is not read"):
        rows(path)
    path.write_text('file_name,bbox,origin\na.png,"[1, 2, 3, 4]",farm\n')
    with pytest.raises(SchemaError, match=r"holds boxes \(bbox\) in images \(file_name\), but no column .* 'label'"):
        rows(path)
    assert rows(path, format="csv")[0]["origin"] == "farm"
    draw(tmp_path / "a.png")
    named = rows(path, format="boxes", columns=["image", "bbox", "label"])
    assert boxes(named[0]) == [("farm", 1, 2, 4, 6)]


@pytest.mark.parametrize("names", ["x,y,width,height", "left,top,width,height"])
def test_a_corner_and_a_size_in_usual_words(tmp_path, names):
    draw(tmp_path / "a.png")
    path = tmp_path / "boxes.csv"
    path.write_text(f"filename,class,{names}\na.png,cup,10,20,30,40\n")
    assert boxes(rows(path)[0]) == [("cup", 10, 20, 40, 60)]


def test_a_list_in_a_cell_is_a_corner_and_a_size(tmp_path):
    draw(tmp_path / "a.png")
    path = tmp_path / "boxes.csv"
    path.write_text('image,width,height,bbox,label\na.png,100,80,"[10, 20.5, 30, 40]",cup\n')
    assert boxes(rows(path)[0]) == [("cup", 10, 20.5, 40, 60.5)]


@pytest.mark.parametrize("parts", [("train", "val"), ("Train", "valid", "test")])
@pytest.mark.parametrize("layout", ["voc", "classes"])
def test_a_folder_of_parts_asks_which(tmp_path, parts, layout):
    for part in parts:
        if layout == "voc":
            draw(tmp_path / part / "1.png")
            (tmp_path / part / "1.xml").write_text(XML)
        else:
            draw(tmp_path / part / "cup" / "1.png")
    with pytest.raises(
        DataFileError, match=rf"holds the parts of a data set \(.*\): .*{parts[1]}.*\. Name one of them"
    ):
        rows(tmp_path)
    (row,) = rows(tmp_path / parts[0])
    assert row.get("label") == "cup" or boxes(row) == [("cup", 1, 2, 30, 40)]


def test_labels_may_be_called_like_parts(tmp_path):
    for label in ("bus", "train"):
        draw(tmp_path / label / "1.png")
    assert [row["label"] for row in rows(tmp_path)] == ["bus", "train"]
    (tmp_path / "bus" / "1.png").unlink()
    (tmp_path / "bus").rmdir()
    assert [row["label"] for row in rows(tmp_path, format="images")] == ["train"]


def test_folders_of_tools(tmp_path):
    draw(tmp_path / "sly" / "ds" / "img" / "1.png")
    (tmp_path / "sly" / "ds" / "ann").mkdir()
    for folder in (tmp_path / "sly", tmp_path / "sly" / "ds"):
        with pytest.raises(DataFileError, match="is an export of Supervisely, which is not read"):
            rows(folder)
    draw(tmp_path / "robo" / "1.png")
    (tmp_path / "robo" / "_annotations.coco.json").write_text('{"images": [{"file_name": "1.png"}], "annotations": []}')
    with pytest.raises(DataFileError, match=r"holds '_annotations\.coco\.json', the boxes of its images\. Name that"):
        rows(tmp_path / "robo")
    assert len(rows(tmp_path / "robo", format="images")) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.jsonl", '{"file_name": "of/1.png", "label": "cup"}\n'),
        ("metadata.csv", "file_name,label\nof/1.png,cup\n"),
    ],
)
def test_a_table_of_hugging_face_beside_its_images_is_what_is_read(tmp_path, name, text):
    draw(tmp_path / "of" / "1.png")
    (tmp_path / name).write_text(text)
    with pytest.raises(DataFileError, match=rf"holds '{name}', the labels of its images\. Name that file: '.*{name}'"):
        rows(tmp_path)
    assert rows(tmp_path / name) == [{"file_name": "of/1.png", "label": "cup"}]
    assert infer_schema(rows(tmp_path / name)).names("image") == ["file_name"]
    assert len(rows(tmp_path, labels=False)) == 1


def test_darknets_layout(tmp_path):
    for part, name in (("train", "1"), ("valid", "2")):
        draw(tmp_path / f"obj_{part}_data" / f"{name}.png")
        (tmp_path / f"obj_{part}_data" / f"{name}.txt").write_text("1 .5 .5 .2 .5\n")
        (tmp_path / f"{part}.txt").write_text(f"data/obj_{part}_data/{name}.png\n")
    (tmp_path / "obj.names").write_text("cup\nmug\n")
    (tmp_path / "obj.data").write_text(
        "classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\n"
    )
    for source in (tmp_path, tmp_path / "obj.data"):
        (row,) = rows(source)
        assert (row["image_id"], boxes(row)) == ("1", [("mug", 40, 20, 60, 60)])
    assert rows(tmp_path, split="val")[0]["image_id"] == "2"
    (tmp_path / "obj.data").unlink()
    assert boxes(rows(tmp_path / "obj_train_data")[0])[0][0] == "mug"


def test_boxes_beside_images_do_not_hinder_prediction(tmp_path):
    for name in ("1.png", "2.png"):
        draw(tmp_path / name)
    (tmp_path / "all.csv").write_text("image,xmin,ymin,xmax,ymax,label\n1.png,1,2,30,40,cup\n")
    with pytest.raises(DataFileError, match=r"holds 'all\.csv', the boxes of its images"):
        rows(tmp_path)
    assert [Path(r.row["image"]).name for r in read_records(tmp_path, labels=False)] == ["1.png", "2.png"]
