"""YOLO folders: the ways they are laid out, what is refused."""

import os
from collections import Counter
from pathlib import Path

import pytest
from box_images import boxes, draw, rows, skipped

from polydetr.data.readers import ReadReport
from polydetr.errors import DataFileError, RowError, SchemaError
from polydetr.values.boxes import CLIPPED, ZERO_AREA

SHARED = Path(os.environ.get("POLYDETR_SHARED", Path(__file__).parents[3] / "shared")) / "data"
YAML = "path: .\ntrain: images/train\nval: images/val\nnames: [cup, mug]\n"


def label(image: Path, *lines: str) -> Path:
    """Draws the image and writes its lines where YOLO looks for them."""
    draw(image)
    parts = ["labels" if p == "images" else p for p in image.parts]
    target = Path(*parts).with_suffix(".txt")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target


@pytest.fixture
def yolo(tmp_path):
    label(tmp_path / "images" / "train" / "a.png", "1 0.5 0.5 0.2 0.5", "", "0 .1 .25 .2 .5")
    label(tmp_path / "images" / "val" / "b.png", "0 0.5 0.5 1 1")
    (tmp_path / "data.yaml").write_text(YAML)
    return tmp_path


def test_shares_become_pixels_and_numbers_names(yolo):
    (row,) = rows(yolo)
    assert boxes(row) == [("mug", 40, 20, 60, 60), ("cup", 0, 0, 20, 40)]
    assert (row["image_id"], row["width"], row["height"]) == ("a", 100, 80)


def test_the_ways_to_name_a_part(yolo):
    report = ReadReport()
    assert [r["image_id"] for r in rows(yolo / "data.yaml", report=report)] == ["a"]
    assert "name the folder of 'val' to read that instead" in report.examples["part 'train' read"][0]
    assert boxes(rows(yolo / "data.yaml", split="val")[0]) == [("cup", 0, 0, 100, 80)]
    assert boxes(rows(yolo / "images" / "val")[0]) == [("cup", 0, 0, 100, 80)]
    with pytest.raises(SchemaError, match=r"data.yaml has no part 'vall'; it has 'train', 'val'. Did you mean 'val'\?"):
        rows(yolo, split="vall")


def test_exported_sets_keep_images_and_labels_in_every_part(tmp_path):
    label(tmp_path / "train" / "images" / "a.png", "7 0.5 0.5 0.2 0.5")
    (tmp_path / "data.yaml").write_text("train: ../train/images\nnames: {7: seven}\n")
    for source in (tmp_path, tmp_path / "train", tmp_path / "train" / "images"):
        assert boxes(rows(source)[0]) == [("seven", 40, 20, 60, 60)]


def test_a_list_of_images(yolo):
    (yolo / "train.txt").write_text("./images/train/a.png\nimages/val/b.png\n")
    (yolo / "data.yaml").write_text(YAML.replace("images/train", "train.txt"))
    assert [r["image_id"] for r in rows(yolo)] == ["a", "b"]


def test_labels_beside_the_images_and_names_in_a_list(tmp_path):
    draw(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("1 0.5 0.5 0.2 0.5")
    assert boxes(rows(tmp_path)[0])[0][0] == "1"
    (tmp_path / "classes.txt").write_text("cup\nmug\n")
    assert boxes(rows(tmp_path)[0])[0][0] == "mug"


@pytest.mark.parametrize("layout", ["data.yaml", "images/train", "images", "list"])
def test_a_label_file_may_be_called_in_capitals(yolo, layout):
    labels = yolo / "labels" / "train" / "a.txt"
    labels.rename(labels.with_suffix(".TXT"))
    if layout == "list":
        (yolo / "train.txt").write_text("images/train/a.png\n")
        (yolo / "data.yaml").write_text(YAML.replace("images/train", "train.txt"))
    report = ReadReport()
    row = rows(yolo / ("data.yaml" if layout == "list" else layout), report=report)[0]
    assert [name for name, *_ in boxes(row)] == ["mug", "cup"]
    assert "image without a label file (read as empty)" not in report.problems
    labels.with_name("lost.TXT").write_text("0 .5 .5 .2 .5\n")
    with pytest.raises(RowError, match=r"lost\.TXT: has labels, but there is no image"):
        rows(yolo / layout if layout != "list" else yolo)


def test_a_link_that_an_archive_tool_wrote_out_as_text(tmp_path):
    draw(tmp_path / "pool" / "train" / "a.png")
    label(tmp_path / "set" / "images" / "train" / "a.png", "0 .5 .5 1 1")
    (tmp_path / "set" / "images" / "train" / "a.png").unlink()
    (tmp_path / "set" / "images" / "train").rmdir()
    (tmp_path / "set" / "images").rmdir()
    (tmp_path / "set" / "images").write_text("../pool")
    (tmp_path / "set" / "data.yaml").write_text("train: images/train\nnames: [cup]\n")
    assert boxes(rows(tmp_path / "set")[0]) == [("cup", 0, 0, 100, 80)]


def test_outlines_and_boxes_that_stand_out(yolo):
    label(yolo / "images" / "train" / "a.png", "0 .1 .2 .5 .2 .3 .6", "0 0.98 0.5 0.2 0.5", "0 0.5 0.5 0 0.5")
    kept, report = skipped(yolo)
    assert [tuple(map(round, b[1:])) for b in boxes(kept[0])] == [(10, 16, 50, 48), (88, 20, 100, 60)]
    assert {k: report.problems[k] for k in (CLIPPED, ZERO_AREA)} == {CLIPPED: 1, ZERO_AREA: 1}
    assert "a.txt, line 2: cup: the box [88, 20, 108, 60] reaches 8 pixels out" in report.examples[CLIPPED][0]


def test_an_image_without_labels_shows_nothing(yolo):
    draw(yolo / "images" / "train" / "c.png")
    label(yolo / "images" / "train" / "d.png")
    kept, report = skipped(yolo)
    assert [len(r["objects"]) for r in kept] == [2, 0, 0]
    assert report.problems["image without a label file (read as empty)"] == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 0.5 0.5 0.2 0.5", r"a\.txt, line 1: the class 2 is not among those of data\.yaml \(0 to 1\)"),
        ("1.5 0.5 0.5 0.2 0.5", "the class is '1.5', expected a whole number"),
        ("cup 0.5 0.5 0.2 0.5", "'cup' is not a number"),
        ("1 0.5 0.5 0.2", "4 values .*expected class, center x"),
        ("1 0.5 0.5 0.2 0.5 0.9", "6 values"),
        ("1 320 240 50 50", "320 is no share of the image.*look like pixels"),
        ("1 nan 0.5 0.2 0.5", r"the box \[nan, 20, nan, 60\] has a coordinate that is not a finite number"),
    ],
)
def test_lines_that_cannot_be_used(yolo, line, message):
    label(yolo / "images" / "train" / "a.png", line)
    label(yolo / "images" / "train" / "z.png")
    with pytest.raises(RowError, match=message):
        rows(yolo)
    kept, report = skipped(yolo)
    assert [r["image_id"] for r in kept] == ["z"]
    assert len(report.rejected) == 1


def test_labels_without_an_image(yolo):
    label(yolo / "images" / "train" / "lost.png")
    (yolo / "images" / "train" / "lost.png").unlink()
    with pytest.raises(RowError, match=r"lost\.txt: has labels, but there is no image of that name"):
        rows(yolo)
    assert len(skipped(yolo)[0]) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("train: images/none\nnames: [a]\n", r"names 'images/none', which is not there"),
        ("train: images/train\nnames: 3\n", r"names is 3, expected a list of class names"),
        ("train: images/bare\nnames: [a]\n", r"holds 1 images and no label file"),
    ],
)
def test_sets_that_are_not_there(yolo, content, message):
    draw(yolo / "images" / "bare" / "x.png")
    (yolo / "data.yaml").write_text(content)
    with pytest.raises(DataFileError, match=message):
        rows(yolo)


# -- longer lines ------------------------------------------------------------------------------------------------------

BOX = "0 .5 .5 .2 .5"


@pytest.mark.parametrize(
    ("shape", "points"), [("[2, 3]", ".1 .1 2 .9 .9 0"), ("[4, 2]", ".05 .05 .9 .1 .5 .5 0 0"), ("[1, 2]", ".5 .5")]
)
def test_key_points_follow_the_box_where_the_set_says_so(yolo, shape, points):
    label(yolo / "images" / "train" / "a.png", f"{BOX} {points}", BOX)
    (yolo / "data.yaml").write_text(f"{YAML}kpt_shape: {shape}\n")
    for source in (yolo, yolo / "images" / "train"):
        assert boxes(rows(source)[0]) == [("cup", 40, 20, 60, 60)] * 2
    label(yolo / "images" / "train" / "a.png", f"{BOX} .5")
    with pytest.raises(RowError, match=r"6 values .*expected class.* and \d+ numbers of key points \(kpt_shape\)"):
        rows(yolo)


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ([".9"], "a score: keep the first five"),
        ([".9 3", ".4 7"], "a score and the number of a track: keep the first five"),
        ([".9 1"], "a score and the number of a track"),
        ([".45 .4 2 .55 .6 1", ".45 .4 0 .55 .6 2"], r"key points: add kpt_shape: \[2, 3\] to data.yaml"),
        ([".52 .51", ".49 .4"], r"one key point: add kpt_shape: \[1, 2\]"),
        ([".05 .05 .9 .1 .5 .5 0 0"], r"key points: add kpt_shape: \[4, 2\]"),
        ([".45 .6 .55 .4 .6 .7", ".45 .6 .5 .3 .55 .4"], r"key points: add kpt_shape: \[3, 2\]"),
    ],
)
def test_what_may_be_a_box_and_something_is_refused(yolo, more, what):
    label(yolo / "images" / "train" / "a.png", *(f"{BOX} {numbers}" for numbers in more))
    label(yolo / "images" / "train" / "z.png", BOX)
    with pytest.raises(RowError, match=what):
        rows(yolo)
    kept, report = skipped(yolo)
    assert [r["image_id"] for r in kept] == ["z"]
    assert len(report.rejected) == 1


@pytest.mark.parametrize(
    "outlines",
    [
        ["0 .1 .2 .5 .2 .3 .6"],
        ["0 .1 .1 .4 .1 .4 .6 .1 .6", "1 .5 .5 .8 .5 .8 .9 .5 .9"],
        ["0 .4 .4 .6 .4 .6 .6 .4 .6"],  # could be a box and two points, but does not cross itself
        ["0 .4 .4 .6 .4 .6 .6 .4 .6 .4 .4"],  # closed
        ["0 .9 .5 .5 1 .93 1", "0 .1 .2 .5 .2 .3 .6 .2 .4"],
    ],
)
def test_outlines_are_told_and_taken_with_their_boxes(yolo, outlines):
    label(yolo / "images" / "train" / "a.png", *outlines)
    kept, report = skipped(yolo)
    for (_, *box), line in zip(boxes(kept[0]), outlines, strict=True):
        numbers = [float(cell) for cell in line.split()[1:]]
        xs, ys = numbers[::2], numbers[1::2]
        assert box == pytest.approx([100 * min(xs), 80 * min(ys), 100 * max(xs), 80 * max(ys)])
    assert report.problems["outlines (the box around each is taken)"] == len(outlines)


# -- names and encodings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", ["[yes, no]", "{0: yes, 1: no}", "\n  - yes\n  - no"])
def test_names_are_read_as_they_are_written(yolo, names):
    (yolo / "data.yaml").write_text(YAML.replace("[cup, mug]", names))
    assert [b[0] for b in boxes(rows(yolo)[0])] == ["no", "yes"]
    (yolo / "data.yaml").write_text(YAML.replace("[cup, mug]", "[007, 1_0]") + "test:  # none\n")
    assert [b[0] for b in boxes(rows(yolo)[0])] == ["1_0", "007"]


@pytest.mark.parametrize("names", ["[cup, [mug]]", "{a: cup}", "{0: cup, 1: }"])
def test_names_that_are_none(yolo, names):
    (yolo / "data.yaml").write_text(YAML.replace("[cup, mug]", names))
    with pytest.raises(DataFileError, match="expected a list of class names"):
        rows(yolo)


def test_a_line_of_a_list_of_names_is_a_class_even_where_it_is_empty(tmp_path):
    label(tmp_path / "images" / "a.png", "2 .5 .5 1 1")
    (tmp_path / "classes.txt").write_text("cup\n\nmug\n\n")
    assert boxes(rows(tmp_path)[0])[0][0] == "mug"


def test_marked_files_are_read_like_others(yolo):
    for file in (yolo / "data.yaml", yolo / "labels" / "train" / "a.txt"):
        file.write_text(file.read_text(), encoding="utf-8-sig")
    assert [b[0] for b in boxes(rows(yolo)[0])] == ["mug", "cup"]
    (yolo / "train.txt").write_text("images\\train\\a.png\r\n", encoding="utf-8-sig")
    (yolo / "data.yaml").write_text(YAML.replace("images/train", "train.txt"), encoding="utf-16")
    assert [b[0] for b in boxes(rows(yolo)[0])] == ["mug", "cup"]


@pytest.mark.parametrize("file", ["data.yaml", "classes.txt", "train.txt"])
def test_files_in_another_encoding_are_named(tmp_path, file):
    label(tmp_path / "images" / "瓷.png", "0 .5 .5 1 1")
    texts = {
        "data.yaml": "train: images\nnames: [瓷砖]\n",
        "classes.txt": "瓷砖\n",
        "train.txt": "images/瓷.png\n",
    }
    (tmp_path / file).write_bytes(texts[file].encode("gbk"))
    if file == "train.txt":
        (tmp_path / "data.yaml").write_text("train: train.txt\nnames: [瓷砖]\n", encoding="gbk")
    with pytest.raises(DataFileError, match=r"is not utf-8 text\. It is likely gb18030: pass --encoding gb18030"):
        rows(tmp_path)
    assert "砖" in boxes(rows(tmp_path, encoding="gb18030")[0])[0][0]


def test_numbers_parted_by_commas_are_told(yolo):
    label(yolo / "images" / "train" / "a.png", "0,0.5,0.5,0.2,0.4")
    with pytest.raises(RowError, match=r"the numbers are parted by commas \(0,0\.5,0\.5,0\.2,0\.4\), expected spaces"):
        rows(yolo)


def test_one_label_file_for_two_images_is_told(yolo):
    draw(yolo / "images" / "train" / "a.jpg")
    kept, report = skipped(yolo)
    assert [Path(r["image"]).name for r in kept] == ["a.jpg", "a.png"]
    (message,) = report.examples["one label file for two images"]
    assert message.endswith("a.txt is read for a.jpg and for a.png")


def test_paths_that_no_file_can_have(yolo):
    (yolo / "data.yaml").write_text(f"path: {'x' * 3000}\n" + YAML.split("\n", 1)[1])
    assert len(rows(yolo)) == 1  # the folder of the file itself
    (yolo / "data.yaml").write_text(YAML.replace("images/train", "x" * 3000))
    with pytest.raises(DataFileError, match="which is not there") as caught:
        rows(yolo)
    assert len(str(caught.value)) < 1500


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real data sets are not there ({SHARED})")
def test_real_yolo_folder():
    kept, report = skipped(SHARED / "coco256" / "object_detection")
    counts = Counter(o["label"] for row in kept for o in row["objects"])
    assert (len(kept), counts.total(), counts["person"]) == (128, 929, 254)
    assert report.problems["labels without an image (left out)"] == 2  # whose images were not packed
    assert len(rows(SHARED / "coco256" / "object_detection" / "config.yaml", split="val")) == 128
