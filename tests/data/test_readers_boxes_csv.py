"""Tables of boxes: column names, pixels or shares, images without boxes, what is refused."""

import os
from pathlib import Path

import pytest
from box_images import boxes, draw, rows, skipped

from polydetr.data.readers.boxes import TURNED
from polydetr.data.readers.boxes_csv import box_columns
from polydetr.errors import DataFileError, RowError, SchemaError
from polydetr.values.boxes import CLIPPED, SWAPPED
from polydetr.values.images import open_image

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


def test_what_is_told_about_a_table_names_the_table(table):
    path = table("path,x,y,width,height,label\na.png,.1,.2,.3,.4,cup\n")
    _, report = skipped(path)
    assert len(report.problems) == 2
    assert all(examples[0].startswith(f"{path}: ") for examples in report.examples.values())


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


@pytest.mark.parametrize(
    ("header", "lines", "box"),
    [
        ("xmin,ymin,xmax,ymax", ["0.1,0.25,0.4,0.75", "0.7,0.5,1.0004,0.75"], (70, 40, 100, 60)),
        ("xmin,ymin,xmax,ymax", ["0.1,0.25,0.4,0.75", "0.7,0.5,1.00000001,0.75"], (70, 40, 100, 60)),
        ("x,y,w,h", ["0.1,0.25,0.3,0.5", "0.7,0.5,0.4,0.25"], (70, 40, 100, 60)),
        ("x1,y1,x2,y2", ["0.1,0.25,0.4,0.75", "-0.02,0.5,0.3,0.75"], (0, 40, 30, 60)),
    ],
)
def test_shares_that_leave_the_image_by_a_hair_are_shares(table, header, lines, box):
    kept, report = skipped(table(f"path,label,{header}\na.png,cup,{lines[0]}\nb.png,cup,{lines[1]}\n"))
    assert boxes(kept[0]) == [("cup", 10, 20, 40, 60)]
    assert boxes(kept[1])[0][1:] == pytest.approx(box)
    assert report.problems["boxes as shares of the image"] == 1


def test_a_box_of_pixels_among_shares_is_refused(table):
    path = table(HEADER + "a.png,0.1,0.25,0.4,0.75,cup\na.png,0.2,0.25,0.4,0.75,cup\nb.png,10,20,40,60,cup\n")
    with pytest.raises(
        RowError, match=r"line 4: the box \[10\.0, 20\.0, 40\.0, 60\.0\] is no share of its image, as most"
    ):
        rows(path)
    assert [r["image_id"] for r in skipped(path)[0]] == ["a.png"]


def test_a_tiny_box_among_pixels_stays_one(table):
    path = table(HEADER + "a.png,0.1,0.25,0.4,0.75,cup\na.png,10,20,40,60,cup\nb.png,10,20,40,60,cup\n")
    assert boxes(rows(path)[0])[0] == ("cup", 0.1, 0.25, 0.4, 0.75)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("suffix", [".tif", ".jpg", ".png", ".webp"])
def test_sizes_are_those_of_the_image_as_it_is_shown(tmp_path, suffix, orientation):
    image = draw(tmp_path / f"a{suffix}", (100, 40), orientation=orientation)
    shown = open_image(str(image)).size
    (tmp_path / "boxes.csv").write_text(
        f"{HEADER}a{suffix},5,50,25,90,cup\n" if orientation == 6 else f"{HEADER}a{suffix},50,5,90,25,cup\n"
    )
    (row,) = rows(tmp_path / "boxes.csv")
    assert (row["width"], row["height"]) == shown == ((40, 100) if orientation == 6 else (100, 40))
    assert len(row["objects"]) == 1


def test_width_and_height_of_something_else_are_told(table):
    path = table("path,xmin,ymin,xmax,ymax,label,width,height\na.png,1,2,30,40,cup,12,9\n")
    with pytest.raises(
        RowError, match=r"is 100×80, but its boxes were drawn on 12×9 \(leave width and height out where"
    ):
        rows(path)


def test_turned_boxes_and_odd_flags(table):
    kept, report = skipped(table(HEADER.strip() + ",rotation\na.png,20,35,80,45,cup,90\na.png,1,2,3,4,cup,\n"))
    assert boxes(kept[0]) == [("cup", 45, 10, 55, 70), ("cup", 1, 2, 3, 4)]
    assert report.problems[TURNED] == 1
    with pytest.raises(RowError, match=r"turned by angle = '0\.5', whose unit is not known"):
        rows(table(HEADER.strip() + ",angle\na.png,20,35,80,45,cup,0.5\n"))
    with pytest.raises(RowError, match="line 2: 'maybe' is no answer to whether it is a crowd"):
        rows(table(HEADER.strip() + ",iscrowd\na.png,20,35,80,45,cup,maybe\n"))


def test_two_names_of_one_file_are_refused(table, tmp_path):
    draw(tmp_path / "images" / "1.png")
    path = table(HEADER + "left/1.png,1,2,3,4,cup\nright/1.png,5,6,7,8,cup\n")
    with pytest.raises(
        RowError, match=r"line 3: the image 'right/1\.png' is the file .*1\.png', which is that of 'left/1"
    ):
        rows(path)
    assert [r["image_id"] for r in skipped(path)[0]] == ["left/1.png"]


def test_mostly_outside_is_told_by_every_object(table):
    kept, report = skipped(table(HEADER + "a.png,90,70,190,170,cup\na.png,60,40,110,90,cup\n"))
    assert [o.get("inside") for o in kept[0]["objects"]] == [0.01, None]
    assert report.problems[CLIPPED] == 2


def test_other_spellings_of_a_path_are_the_same_image(table):
    path = table(HEADER + "a.png,1,2,3,4,cup\n./a.png,5,6,7,8,mug\n.\\a.png,9,9,12,12,mug\n")
    (row,) = rows(path)
    assert [name for name, *_ in boxes(row)] == ["cup", "mug", "mug"]


def test_columns_that_are_not_read_are_named(table):
    report = skipped(table("track_id,score," + HEADER + "7,0.5,a.png,1,2,3,4,cup\n"))[1]
    assert report.examples["columns that are not read"][0].endswith("boxes.csv: 'track_id', 'score'")
    assert not skipped(table(HEADER + "a.png,1,2,3,4,cup\n"))[1].problems


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real data sets are not there ({SHARED})")
def test_the_real_table_gives_what_the_xml_files_give():
    bccd = SHARED / "bccd"
    table = rows(bccd / "test.csv", images=bccd / "BCCD" / "JPEGImages")
    xml = {Path(r["image"]).name: boxes(r) for r in rows(bccd / "BCCD")}
    assert {r["image_id"]: boxes(r) for r in table} == xml
