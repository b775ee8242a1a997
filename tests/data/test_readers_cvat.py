"""CVAT's own XML: shapes to boxes, tags to labels, tracks to frames, and what is refused."""

import math

import pytest
from box_images import boxes, draw, rows, skipped

from polydetr.data.readers import ReadReport
from polydetr.data.readers.boxes import TURNED
from polydetr.data.readers.cvat import NO_BOX, NO_BOXES
from polydetr.errors import DataFileError, RowError

META = "<version>1.1</version><meta><task><name>t</name><labels><label><name>cup</name></label></labels></task></meta>"
FILM = (
    "<meta><task><mode>interpolation</mode><original_size><width>100</width><height>80</height></original_size></task>"
    "</meta>"
)


@pytest.fixture
def cvat(tmp_path):
    """Writes the elements behind the head, and the images a.png, b.png beside it, unless others are named."""

    def _cvat(*elements, meta=META, images=("a.png", "b.png"), folder="images"):
        for name in images:
            draw(tmp_path / folder / name)
        path = tmp_path / "annotations.xml"
        body = "\n".join(elements)
        path.write_text(
            f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n{meta}\n{body}\n</annotations>', "utf-8"
        )
        return path

    return _cvat


def image(*shapes, name="a.png", number=0, size=(100, 80)):
    return f'<image id="{number}" name="{name}" width="{size[0]}" height="{size[1]}">{"".join(shapes)}</image>'


def box(label, left, top, right, bottom, more=""):
    corners = f'xtl="{left}" ytl="{top}" xbr="{right}" ybr="{bottom}"'
    attribute = '<attribute name="c">d</attribute>'
    return f'<box label="{label}" source="manual" occluded="0" {corners} {more} z_order="0">{attribute}</box>'


def test_boxes_of_images(cvat, tmp_path):
    path = cvat(image(box("cup", 10, 20.5, 40, 60)), image(name="b.png", number=1))
    first, second = rows(path)
    assert first == {
        "image": str(tmp_path / "images" / "a.png"), "objects": [{"box": [10, 20.5, 40, 60], "label": "cup"}],
        "image_id": "0", "width": 100, "height": 80,
    }  # fmt: skip
    assert second["objects"] == []


def test_shapes_have_a_box_around_them(cvat):
    shapes = (
        '<polygon label="leaf" points="10.5,8;30,16;20,40"/>',
        '<mask label="hand" rle="1, 2" left="5" top="6" width="10" height="20"/>',
        '<ellipse label="egg" cx="50" cy="40" rx="10" ry="20" rotation="90.0"/>',
    )
    found = boxes(rows(cvat(image(*shapes)))[0])
    assert found[:2] == [("leaf", 10.5, 8, 30, 40), ("hand", 5, 6, 15, 26)]
    assert found[2] == ("egg", *map(pytest.approx, (30, 30, 70, 50)))


@pytest.mark.parametrize("rotation", [45, 300])
def test_a_turned_box_is_turned_about_its_center(cvat, rotation):
    report = ReadReport()
    (found,) = boxes(rows(cvat(image(box("cup", 40, 30, 60, 50, f'rotation="{rotation}"'))), report=report)[0])
    turn = complex(math.cos(math.radians(rotation)), math.sin(math.radians(rotation)))
    corners = [50 + 40j + complex(x, y) * turn for x in (-10, 10) for y in (-10, 10)]
    xs, ys = [c.real for c in corners], [c.imag for c in corners]
    assert found[1:] == pytest.approx((min(xs), min(ys), max(xs), max(ys)))
    assert report.problems == {TURNED: 1}


def test_points_and_lines_are_told(cvat):
    report = ReadReport()
    lines = '<polyline label="road" points="1,2;3,4"/><points label="eye" points="1,2"/>'
    assert boxes(rows(cvat(image(lines, box("cup", 1, 2, 3, 4))), report=report)[0]) == [("cup", 1, 2, 3, 4)]
    assert report.problems == {NO_BOXES: 2}


def test_tags_are_labels(cvat):
    tags = '<tag label="day" source="manual"></tag>', '<tag label="night"/>'
    path = cvat(image(tags[0]), image(tags[1], name="b.png", number=1))
    assert [(row["label"], "objects" in row) for row in rows(path)] == [("day", False), ("night", False)]
    path = cvat(image(*tags), image(tags[1], name="b.png", number=1))
    assert [row["label"] for row in rows(path)] == [["day", "night"], ["night"]]
    path = cvat(image(tags[0], box("cup", 1, 2, 3, 4)), image(name="b.png", number=1))
    first, second = rows(path)
    assert (first["label"], boxes(first)) == ("day", [("cup", 1, 2, 3, 4)])
    assert ("label" in second, second["objects"]) == (False, [])


def test_names_with_folders(cvat):
    path = cvat(image(box("cup", 1, 2, 3, 4), name="shelf/a.png"), images=["shelf/a.png"])
    assert rows(path)[0]["image"].endswith("images/shelf/a.png")


def test_the_folder_of_an_export_is_read(cvat, tmp_path):
    cvat(image(box("cup", 1, 2, 3, 4)))
    assert boxes(rows(tmp_path)[0]) == [("cup", 1, 2, 3, 4)]
    assert boxes(rows(tmp_path, format="cvat")[0]) == [("cup", 1, 2, 3, 4)]


# -- films ------------------------------------------------------------------------------------------------------------


def track(*shapes, label="car", number=0):
    return f'<track id="{number}" label="{label}" source="manual">{"".join(shapes)}</track>'


def at(frame, *corners, outside=0):
    left, top, right, bottom = corners
    place = f'xtl="{left}" ytl="{top}" xbr="{right}" ybr="{bottom}"'
    return f'<box frame="{frame}" outside="{outside}" occluded="0" keyframe="1" {place} z_order="0"></box>'


def test_tracks_become_the_frames_that_are_given(cvat):
    path = cvat(
        track(at(0, 1, 2, 3, 4), at(1, 2, 2, 4, 4), at(2, 2, 2, 4, 4, outside=1)),
        track(at(1, 5, 6, 7, 8), label="van", number=1),
        meta=FILM,
        images=["frame_000000.PNG", "frame_000001.PNG"],
    )
    report = ReadReport()
    found = rows(path, report=report)
    assert [boxes(row) for row in found] == [[("car", 1, 2, 3, 4)], [("car", 2, 2, 4, 4), ("van", 5, 6, 7, 8)]]
    assert [row["image_id"] for row in found] == [0, 1]
    assert report.problems == {NO_BOX: 1}


def test_a_film_without_frames_says_how_to_get_them(cvat):
    path = cvat(track(at(0, 1, 2, 3, 4)), meta=FILM, images=[])
    with pytest.raises(RowError, match=r"'frame_000000' is not there.*Save images.*ffmpeg.*--images FOLDER"):
        rows(path)


def test_a_frame_of_another_size_is_refused(cvat, tmp_path):
    path = cvat(track(at(0, 1, 2, 3, 4)), meta=FILM, images=[])
    draw(tmp_path / "images" / "frame_000000.png", (50, 40))
    with pytest.raises(RowError, match="is 50×40, but its boxes were drawn on 100×80"):
        rows(path)


# -- what is wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        (box("", 1, 2, 3, 4), "shape 1 has no label"),
        (box("cup", "x", 2, 3, 4), r"box 1 \(cup\): 'x' is not a number"),
        ('<box label="cup" xtl="1" ytl="2" xbr="3"/>', r"box 1 \(cup\): it has no ybr"),
        ('<polygon label="cup" points="1,2;3"/>', r"polygon 1 \(cup\): the points '1,2;3' are no"),
        (box("cup", 1, 2, 3, 4, 'rotation="inf"'), "the rotation is inf"),
    ],
)
def test_a_bad_shape_refuses_its_image_alone(cvat, shape, match):
    path = cvat(image(shape), image(box("cup", 1, 2, 3, 4), name="b.png", number=1))
    with pytest.raises(RowError, match=match):
        rows(path)
    found, report = skipped(path)
    assert (len(found), [r.location.row for r in report.rejected]) == (1, [1])


def test_a_bad_shape_of_a_track_refuses_its_frame_alone(cvat):
    path = cvat(
        track(at(0, 1, 2, 3, "?"), at(1, 1, 2, 3, 4)), meta=FILM, images=["frame_000000.png", "frame_000001.png"]
    )
    found, report = skipped(path)
    assert ([row["image_id"] for row in found], len(report.rejected)) == ([1], 1)
    assert "'?' is not a number" in report.rejected[0].reason


def test_files_that_are_something_else(cvat, tmp_path):
    path = cvat(image(box("cup", 1, 2, 3, 4)))
    text = path.read_text("utf-8")
    path.write_text(text.replace("<annotations>", '<!DOCTYPE a [<!ENTITY b "c">]><annotations>'), "utf-8")
    with pytest.raises(DataFileError, match="declares entities"):
        rows(path)
    path.write_text(text[:-20], "utf-8")
    with pytest.raises(DataFileError, match="is not XML"):
        rows(path)
    path.write_text("<annotation><object/></annotation>", "utf-8")
    with pytest.raises(DataFileError, match=r"is one file of Pascal VOC.* Name the folder"):
        rows(path)
    with pytest.raises(DataFileError, match=r"is 'annotation'|is <"):
        rows(path, format="cvat")
    path.write_text("<annotations></annotations>", "utf-8")
    with pytest.raises(DataFileError, match="without an image and without a track"):
        rows(path)
