"""Tables of boxes: column names, pixels or shares, images without boxes, what is refused."""

import os
from pathlib import Path

import pytest
from box_images import boxes, draw, rows, skipped

from polydetr.data.readers.boxes_csv import box_columns
from polydetr.errors import DataFileError, RowError, SchemaError
from polydetr.values.boxes import SWAPPED

SHARED = Path(os.environ.get("POLYDETR_SHARED", Path(__file__).parents[3] / "shared")) / "data"
HEADER = "path,xmin,ymin,xmax,ymax,label\n"


@pytest.fixture
def table(tmp_path):
    """Writes a table beside two images, a.png and b.png, of 100×80."""

    def _table(text, name="boxes.csv"):
        for image in ("a.png", "b.png"):
            draw(tmp_path / image)
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return _table


def test_the_rows_of_an_image_come_together(table):
    path = table(HEADER + "a.png,1,2,3,4,cup\nb.png,5,6,7,8,mug\na.png,10,20,30,40,杯\n")
    kept, report = skipped(path)
    assert [boxes(r) for r in kept] == [[("cup", 1, 2, 3, 4), ("杯", 10, 20, 30, 40)], [("mug", 5, 6, 7, 8)]]
    assert report.rows == 2
    assert (kept[0]["image_id"], kept[0]["width"]) == ("a.png", 100)


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("filename,width,height,class,xmin,ymin,xmax,ymax", "a.png,100,80,cup,10,20,40,60"),
        ("filename,cell_type,xmin,xmax,ymin,ymax", "a.png,cup,10,40,20,60"),
        ("ImageID,Source,LabelName,XMin,XMax,YMin,YMax,IsGroupOf", "a.png,s,cup,0.1,0.4,0.25,0.75,0"),
        ("image,x1,y1,x2,y2,label", "a.png,10,20,40,60,cup"),
        ("image;x;y;w;h;label", "a.png;10;20;30;40;cup"),
        ("file,left,top,right,bottom,category", "a.png,10,20,40,60,cup"),
    ],
)
def test_usual_column_names(table, header, row):
    (found,) = rows(table(f"{header}\n{row}\n"))
    assert [(b[0], *map(round, b[1:])) for b in boxes(found)] == [("cup", 10, 20, 40, 60)]


def test_a_table_without_a_header_is_named_by_the_user(table):
    path = table("a.png,1,2,3,4,cup\nb.png,,,,,\n")
    first, second = rows(path, format="boxes")
    assert boxes(first) == [("cup", 1, 2, 3, 4)]
    assert second["objects"] == []


def test_empty_cells_are_an_image_without_boxes(table):
    assert [len(r["objects"]) for r in rows(table(HEADER + "b.png,,,,,\na.png,1,2,3,4,cup\n"))] == [0, 1]


def test_groups_are_crowds(table):
    (row,) = rows(table("image,x1,y1,x2,y2,label,iscrowd\na.png,1,2,3,4,cup,1\na.png,1,2,3,4.5,cup,0\n"))
    assert [o.get("crowd", False) for o in row["objects"]] == [True, False]


def test_other_tables_are_not_taken_for_boxes(table):
    assert rows(table("text,label\nx1,y\n"))[0] == {"text": "x1", "label": "y"}
    assert box_columns(["image", "label", "x1", "y1"]) is None
    with pytest.raises(
        SchemaError, match=r"is not a table of boxes; its columns are 'text', 'label'. Expected path, xmin"
    ):
        rows(table("text,label\nx,y\n"), format="boxes")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("b.png,1,2,wide,4,cup", r"boxes\.csv, line 3: column 'xmax': 'wide' is not a number"),
        ("b.png,1,,3,4,cup", r"line 3: column 'ymin': '' is not a number"),
        ("b.png,1,2,nan,4,cup", r"line 3: the box \[1, 2, nan, 4\] has a coordinate"),
        ("b.png,1,2,3,4,", r"line 3: column 'label': the box \[1.0, 2.0, 3.0, 4.0\] has no label"),
        ("c.png,1,2,3,4,cup", r"line 3: the image 'c.png' is not there"),
    ],
)
def test_rows_that_cannot_be_used(table, row, message):
    path = table(f"{HEADER}a.png,1,2,3,4,cup\n{row}\n")
    with pytest.raises(RowError, match=message):
        rows(path)
    kept, report = skipped(path)
    assert [r["image_id"] for r in kept] == ["a.png"]
    assert len(report.rejected) == 1
    assert report.rows == 1


def test_a_line_that_is_no_row_takes_no_images_place(table):
    path = table(f"{HEADER}a.png,1,2,3,4,cup\nb.png,1,2,3\n")
    with pytest.raises(RowError, match="line 3: 4 fields, expected 6"):
        rows(path)
    kept, report = skipped(path)
    assert (len(kept), report.rows, report.rejected) == (1, 1, [])
    assert "line 3: 4 fields, expected 6" in report.examples["line left out"][0]


def test_swapped_corners_are_told_with_their_line(table):
    kept, report = skipped(table(HEADER + "a.png,1,2,3,4,cup\na.png,30,40,10,20,cup\n"))
    assert boxes(kept[0])[1] == ("cup", 10, 20, 30, 40)
    assert "line 3: cup: the box [30, 40, 10, 20] has its corners" in report.examples[SWAPPED][0]


def test_images_elsewhere(table, tmp_path):
    path = table(HEADER + "z.png,1,2,3,4,cup\n")
    draw(tmp_path / "far" / "z.png")
    assert len(rows(path, images=tmp_path / "far")) == 1
    with pytest.raises(DataFileError, match="none of its 1 images was found"):
        skipped(path)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real data sets are not there ({SHARED})")
def test_the_real_table_gives_what_the_xml_files_give():
    bccd = SHARED / "bccd"
    table = rows(bccd / "test.csv", images=bccd / "BCCD" / "JPEGImages")
    xml = {Path(r["image"]).name: boxes(r) for r in rows(bccd / "BCCD")}
    assert {r["image_id"]: boxes(r) for r in table} == xml
