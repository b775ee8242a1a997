"""Drawn boxes, diagrams and the page of mistakes: what must be visible is visible, odd input is borne."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from polydetr.errors import InputError, SaveError
from polydetr.metrics.detection import detection_report
from polydetr.reports.box_drawing import BoxCanvas, draw_boxes, save_boxes
from polydetr.reports.detection import _most_mistaken, detection_confusion_png, precision_recall_png
from polydetr.reports.detection_page import mistakes_page
from polydetr.reports.style import ink_on, label_colors

GRAY = np.full((300, 400, 3), 120, np.uint8)


def item(left, top, right, bottom, label="cup", **more):
    return {"box": [left, top, right, bottom], "label": label, **more}


def shade(color):
    return tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))


def count(image, color):
    return int((np.asarray(image) == shade(color)).all(-1).sum())


def scene(rows=12, labels=("cup", "mug", "杯"), seed=0):
    """Images with one object of each label, found, missed, confused or doubled by chance."""
    random = np.random.default_rng(seed)
    gold, found = [], []
    for _ in range(rows):
        corners = random.integers(0, 200, (len(labels), 2))
        gold.append([item(int(x), int(y), int(x) + 60, int(y) + 50, label)
                     for (x, y), label in zip(corners, labels, strict=True)])  # fmt: skip
        row = [
            item(*(v + float(random.normal(0, 5)) for v in one["box"]), str(random.choice(labels)))
            for one in gold[-1] if random.random() < 0.8
        ]  # fmt: skip
        found.append([one | {"score": float(random.random())} for one in [*row, item(300, 200, 380, 280)]])
    return gold, found


def test_boxes_are_drawn_where_they_are():
    image = draw_boxes(GRAY, [item(100, 75, 200, 150, score=0.5)], colors={"cup": "#2f6db3"})
    assert image.size == (960, 720)  # enlarged, so that the label is small beside the object
    pixels = np.asarray(image)
    for x, y in ((240, 300), (479, 300), (360, 359)):  # left, right and lower edge, 2.4 times as far out
        assert tuple(pixels[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3)[4]) == shade("#2f6db3")
    assert tuple(pixels[300, 360]) == (120, 120, 120)


@pytest.mark.parametrize("size", [(960, 720), (400, 300)])
def test_the_image_that_is_given_is_not_drawn_on(size):
    own = Image.new("RGB", size, "#787878")
    draw_boxes(own, [item(100, 75, 200, 150)])
    assert own.getcolors() == [(size[0] * size[1], (120, 120, 120))]


def test_a_box_that_is_withheld_is_dashed_and_says_so(monkeypatch):
    tags = []
    monkeypatch.setattr(BoxCanvas, "tag", lambda self, box, text, color: tags.append(text))
    answered, withheld = item(100, 75, 200, 150, score=0.2), item(100, 75, 200, 150, score=0.2, abstained=True)
    red = {"cup": "#ff0000"}
    solid, dashed = (count(draw_boxes(GRAY, [one], colors=red), red["cup"]) for one in (answered, withheld))
    assert 0.2 * solid < dashed < 0.8 * solid
    draw_boxes(GRAY, [withheld] * 31)
    assert tags == ["cup 0.20", *["cup withheld 0.20"] * 32]


def test_a_dashed_outline_has_gaps():
    solid, dashed = (BoxCanvas(Image.fromarray(GRAY)) for _ in range(2))
    solid.outline([100, 75, 200, 150], "#ff0000")
    dashed.outline([100, 75, 200, 150], "#ff0000", dashed=True)
    assert 0.2 * count(solid.image, "#ff0000") < count(dashed.image, "#ff0000") < 0.8 * count(solid.image, "#ff0000")


def test_labels_do_not_hide_one_another():
    pair = [item(100, 75, 200, 150, "a", score=0.9), item(105, 80, 205, 155, "b", score=0.8)]
    colors = {"a": "#ff0000", "b": "#00ff00"}
    alone = [count(draw_boxes(GRAY, [one], colors=colors), colors[one["label"]]) for one in pair]
    both = draw_boxes(GRAY, pair, colors=colors)
    for one, pixels in zip(pair, alone, strict=True):
        assert count(both, colors[one["label"]]) > 0.9 * pixels


def test_many_boxes_get_a_legend():
    many = [item(i % 10 * 40, i // 10 * 30, i % 10 * 40 + 20, i // 10 * 30 + 20, "cup", score=0.5) for i in range(100)]
    assert draw_boxes(GRAY, many).height > 720
    huge = [
        item(i % 100 * 4, i // 100 * 6, i % 100 * 4 + 3, i // 100 * 6 + 5, "cup", score=i / 5000) for i in range(5000)
    ]
    assert draw_boxes(GRAY, huge).width == 960


def test_any_image_any_label_any_box(tmp_path):
    Image.new("RGBA", (1, 1)).save(tmp_path / "one.png")
    draw_boxes(tmp_path / "one.png", [item(0, 0, 1, 1, "杯\n$x$" * 30, score=1)])
    draw_boxes(Image.new("L", (2000, 100)), [item(-5, -5, 3000, 300), item(10, 10, 10, 10)])
    draw_boxes(GRAY, [])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert draw_boxes(tmp_path / "turned.jpg", []).size == (480, 960)
    with pytest.raises(InputError, match=r"'no.png'"):
        draw_boxes("no.png", [])


def test_saved_as_the_name_says(tmp_path):
    for name, kind in (("a.png", "PNG"), ("b.jpg", "JPEG")):
        with Image.open(save_boxes(tmp_path / name, GRAY, [item(1, 2, 30, 40)])) as image:
            assert image.format == kind
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError):
        save_boxes(tmp_path / "file" / "a.png", GRAY, [])


def test_colors_differ_and_carry_readable_ink():
    colors = label_colors(f"label {i:03d}" for i in range(80))
    assert len(set(colors.values())) == 80
    assert (ink_on("#ffff00"), ink_on("#101080")) == ("#000000", "#ffffff")


@pytest.mark.parametrize("labels", [("one",), tuple(f"c{i:02d}" for i in range(40))])
def test_diagrams_of_any_number_of_labels(tmp_path, labels):
    report = detection_report(*scene(labels=labels), labels=["cup", *labels] if "cup" not in labels else labels)
    for draw in (precision_recall_png, detection_confusion_png):
        draw(report, tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as image:
            assert min(image.size) > 400
            assert len(image.getcolors(1 << 24)) > 50


def test_diagrams_of_nothing(tmp_path):
    report = detection_report([[]], [[]])
    with pytest.raises(InputError, match="needs annotated objects"):
        precision_recall_png(report, tmp_path / "a.png")
    detection_confusion_png(report, tmp_path / "b.png")


def test_the_background_stays_last_and_nothing_is_lost():
    matrix = np.diag(np.full(41, 10))
    matrix[-1, -1] = 0
    matrix[7, 3], matrix[5, 40], matrix[40, 5] = 9, 4, 8
    merged, names = _most_mistaken(matrix, [*(f"c{i}" for i in range(40)), "background"])
    assert names[0] == "c5"
    assert set(names[1:3]) == {"c3", "c7"}
    assert names[-2:] == ["20 others", "background"]
    assert merged.sum() == matrix.sum()
    assert (merged[0, -1], merged[-1, 0]) == (4, 8)


def test_the_page_holds_the_worst_of_every_kind(tmp_path):
    gold = [[item(10, 10, 60, 60), item(200, 100, 260, 150, "mug")], [item(20, 20, 70, 70)]]
    found = [[item(11, 10, 60, 60, score=0.9), item(300, 200, 380, 280, "m<ug>", score=0.8)],
             [item(20, 20, 70, 70, "mug", score=0.7), item(220, 220, 270, 270, score=0.6)]]  # fmt: skip
    Image.fromarray(GRAY).save(tmp_path / "second.png")
    report = detection_report(gold, found, threshold=0.5)
    path = mistakes_page(
        report, [GRAY, tmp_path / "second.png"], gold, found, tmp_path / "page.html", title="Cups & mugs"
    )
    text = path.read_text(encoding="utf-8")
    shown = re.findall(r"<figcaption><strong>(.*?)</strong>", text)
    assert shown == ["m&lt;ug&gt; 0.80: nothing is annotated here", "cup 0.60: nothing is annotated here", "mug missed",
                    "mug 0.70: is cup"]  # fmt: skip
    assert "<title>Cups &amp; mugs</title>" in text
    assert "second.png" in text
    assert not re.search(r"(?:src|href)=\"(?!data:|#m\d)", text)  # nothing is fetched from anywhere
    tiles = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)"', text)
    with Image.open(io.BytesIO(base64.b64decode(tiles[0]))) as tile:
        assert tile.size == (360, 360)


@pytest.mark.parametrize("gone", ["gone.png", None])
def test_an_image_that_is_gone_costs_no_page(tmp_path, gone):
    gold = [[item(10, 10, 60, 60)], [item(10, 10, 60, 60)]]
    report = detection_report(gold, [[], []], threshold=0.5)
    text = mistakes_page(report, [gone, GRAY], gold, [[], []], tmp_path / "page.html").read_text("utf-8")
    assert text.count("<strong>cup missed</strong>") == 2
    assert text.count("The image cannot be opened any more.") == text.count('<img src="data:image/jpeg') == 1


def test_the_page_shows_no_more_than_asked_and_bears_perfection(tmp_path):
    gold, found = scene()
    images = [GRAY] * len(gold)
    text = mistakes_page(detection_report(gold, found), images, gold, found, tmp_path / "a.html", most=2).read_text(
        "utf-8"
    )
    assert text.count("<figure>") <= 6
    perfect = [[one | {"score": 0.9} for one in row] for row in gold]
    text = mistakes_page(detection_report(gold, perfect), images, gold, perfect, tmp_path / "b.html").read_text("utf-8")
    assert "<figure>" not in text
    assert text.count("<p>None.</p>") == 3
    blank = mistakes_page(detection_report([[]], [[]]), [GRAY], [[]], [[]], tmp_path / "c.html")
    assert "mAP <strong>–</strong>" in blank.read_text("utf-8")
    with pytest.raises(InputError, match="1 images for a report about 12 images"):
        mistakes_page(detection_report(gold, found), [GRAY], gold, found, tmp_path / "d.html")
