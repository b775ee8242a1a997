"""The files that the pages speak of and suppose to be the reader's own: few rows, drawn and written here, each once."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detection_scenes import scene
from film_models import film_rows
from polydetr import Predictor
from polydetr.fetch import samples

Row = dict[str, Any]
Maker = Callable[[Path], None]


def table(rows: Sequence[Row]) -> Maker:
    """A CSV or JSON lines file of these rows, as the suffix says."""

    def write(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".jsonl":
            path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
            return
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    return write


def columns(rows: Sequence[Row], *names: str) -> list[Row]:
    return [{name: row[name] for name in names} for row in rows]


def reviews(count: int = 60) -> list[Row]:
    return columns(film_rows(count), "text", "label")


def squad(path: Path) -> None:
    rivers = {"Turin": "Po", "Rome": "Tiber", "Paris": "Seine", "Cairo": "Nile"}
    paragraphs = []
    for city, river in rivers.items():
        context = f"{city} lies on the river {river}."
        answers = [{"text": river, "answer_start": context.index(river)}]
        asked = [
            {"id": f"{city}-1", "question": "Which river?", "answers": answers, "is_impossible": False},
            {"id": f"{city}-2", "question": "Which lake?", "answers": [], "is_impossible": True},
        ]
        paragraphs.append({"context": context, "qas": asked})
    data = [{"title": city, "paragraphs": [p]} for city, p in zip(rivers, paragraphs, strict=True)]
    path.write_text(json.dumps({"version": "v2.0", "data": data}), encoding="utf-8")


def conll(path: Path) -> None:
    people, places = ("Ada", "Boris", "Chen", "Dara"), ("Oslo", "Lima", "Turin", "Quito")
    sentences = [f"{who} B-PER\nwent O\nto O\n{where} B-LOC\n. O\n" for who in people for where in places]
    path.write_text("\n".join(sentences), encoding="utf-8")


def images(count: int = 6) -> Maker:
    """A folder of drawn scenes."""

    def draw(path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.fromarray(scene(number)["photo"]).save(path / f"{number}.png")

    return draw


def labeled_images(path: Path) -> None:
    """A folder of labeled folders of images."""
    for label, shade in {"cats": 60, "dogs": 200}.items():
        (path / label).mkdir(parents=True)
        for number in range(8):
            Image.fromarray(np.full((24, 24, 3), shade + number, np.uint8)).save(path / label / f"{number}.png")


def _boxes(count: int) -> list[tuple[int, Row]]:
    return [(number, found) for number in range(count) for found in scene(number)["objects"]]


def boxes_csv(path: Path) -> None:
    """With its images beside it, in ``images``."""
    images()(path.parent / "images")
    sides = ("xmin", "ymin", "xmax", "ymax")
    rows = [
        {"image": f"images/{n}.png", **dict(zip(sides, o["box"], strict=True)), "label": o["label"]}
        for n, o in _boxes(6)
    ]
    table(rows)(path)


def boxes_of_tiles(path: Path) -> None:
    """For the images that docs/guide/detection.md draws itself."""
    rows = [
        {"image": f"images/{n}.png", "xmin": 10, "ymin": 12, "xmax": 30, "ymax": 34, "label": "tile"} for n in range(4)
    ]
    table(rows)(path)


def boxes_coco(pictures: str) -> Maker:
    """COCO's JSON; the images stand in the folder ``pictures``, which is the reader's to name."""

    def write(path: Path) -> None:
        images()(Path(pictures))
        names = sorted({o["label"] for _, o in _boxes(6)})
        document = {
            "images": [{"id": n, "file_name": f"{n}.png", "width": 64, "height": 64} for n in range(6)],
            "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
            "annotations": [
                {"id": i, "image_id": n, "category_id": names.index(o["label"]),
                 "bbox": [o["box"][0], o["box"][1], o["box"][2] - o["box"][0], o["box"][3] - o["box"][1]]}
                for i, (n, o) in enumerate(_boxes(6))
            ],
        }  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document), encoding="utf-8")

    return write


def yolo(path: Path) -> None:
    """A ``data.yaml`` with the parts train and val beside it."""
    for part in ("train", "val"):
        images()(path.parent / "images" / part)
        labels = path.parent / "labels" / part
        labels.mkdir(parents=True)
        for number in range(6):
            lines = []
            for found in scene(number)["objects"]:
                left, top, right, bottom = (side / 64 for side in found["box"])
                kind = 0 if found["label"] == "ruby" else 1
                lines.append(f"{kind} {(left + right) / 2} {(top + bottom) / 2} {right - left} {bottom - top}")
            (labels / f"{number}.txt").write_text("\n".join(lines) + "\n")
    path.write_text("train: images/train\nval: images/val\nnames: [ruby, azure]\n")


def captions(path: Path) -> None:
    """Rows with an image, its objects, a caption, and the names in that."""
    images()(path.parent / "images")
    rows = []
    for number in range(6):
        text = f"Ada saw tile {number} in Turin."
        spans = [
            {"start": 0, "end": 3, "label": "PER"},
            {"start": text.index("Turin"), "end": len(text) - 1, "label": "LOC"},
        ]
        rows.append(
            {"image": f"images/{number}.png", "text": text, "entities": spans, "objects": scene(number)["objects"]}
        )
    table(rows)(path)


def digits(path: Path) -> None:
    """Rows of a digit and a small image of it."""
    folder = path.parent / "digits"
    folder.mkdir(exist_ok=True)
    rows = []
    for number in range(20):
        pixels = np.full((8, 8), 20 + 10 * (number % 10), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        rows.append({"digit": str(number % 10), "image": f"digits/{number}.png"})
    table(rows)(path)


def detr(path: Path) -> None:
    """A DETR of random weights, as transformers saves one."""
    from tiny_detr import reference

    reference().save_pretrained(path)


def mixed(count: int = 60) -> list[Row]:
    return [
        {"title": f"a {('plain', 'fine')[i % 2]} thing", "colour": ("red", "green", "blue")[i % 3],
         "weight": 10 + 2.5 * i, "price": 10.0 + 5 * (i % 3) + i / 100}
        for i in range(count)
    ]  # fmt: skip


CHINESE = [
    ("味道很好，服务热情。", "好评"),
    ("等了很久，菜是凉的。", "差评"),
    ("画面很美。", "好评"),
    ("又小又吵。", "差评"),
]


def chinese_reviews(count: int = 40) -> list[Row]:
    return [{"text": f"{CHINESE[i % 4][0]}第{i}次来。", "label": CHINESE[i % 4][1]} for i in range(count)]


def chinese_names(count: int = 40) -> list[Row]:
    people, places = ("安娜", "李华", "王小明"), ("上海", "北京", "广州", "杭州")
    rows = []
    for i in range(count):
        who, where = people[i % 3], places[i % 4]
        text = f"{who}去{where}出差第{i}天。"
        start = len(who) + 1
        spans = [{"start": 0, "end": len(who), "label": "PER"}, {"start": start, "end": start + 2, "label": "LOC"}]
        rows.append({"text": text, "entities": spans})
    return rows


SAMPLE_ROWS: Mapping[str, Callable[[int], list[Row]]] = {
    "film-reviews": reviews,
    "chinese-reviews": chinese_reviews,
    "peoples-daily-ner": chinese_names,
}


def made_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """``polydetr data fetch`` writes rows of the same columns that were made here: nothing is downloaded."""
    for name, rows in SAMPLE_ROWS.items():
        splits = {"train": rows(60), "dev": rows(60)[:44], "test": rows(12)}
        here = replace(samples.SAMPLES[name], archive=None, members=None, read=lambda _, splits=splits: splits)
        monkeypatch.setitem(samples.SAMPLES, name, here)


def model_of_reviews(path: Path) -> None:
    """A small classifier's folder."""
    settings = {"model": {"embed_dim": 16, "num_layers": 1}, "training": {"precision": "fp32"}}
    Predictor.fit(reviews(), "label", inputs={"text": "text"}, backbone="none", epochs=1, out=path, settings=settings)


def model_of_questions(path: Path) -> None:
    """A small model that answers questions with a span of their passage."""
    squad(Path("questions.squad"))
    settings = {"model": {"embed_dim": 16, "num_layers": 1}, "training": {"precision": "fp32"}}
    Predictor.fit("questions.squad", {"answers": "qa"}, backbone="none", epochs=1, out=path, settings=settings)


def model_of_boxes(path: Path) -> None:
    """A small model that finds boxes in pictures."""
    shutil.copytree(Path(__file__).parent / "model" / "saved_by_old" / "detection" / "model", path)


def photo(path: Path) -> None:
    """A picture for it."""
    Image.fromarray(scene(0)["photo"]).save(path)


def texts(path: Path) -> None:
    """A file with a text per line."""
    path.write_text("a warm evening\na cold evening\n", encoding="utf-8")


def workbook(path: Path) -> None:
    """An Excel file of texts, where the extra for it is installed."""
    if find_spec("openpyxl") is None:
        return
    from openpyxl import Workbook

    book = Workbook()
    for cells in (["text"], ["a warm evening"], ["a cold evening"]):
        book.active.append(cells)
    book.save(path)


def explained() -> dict[str, Any]:
    """The predictor and the image that docs/guide/explain.md speaks of."""
    Image.fromarray(scene(0)["photo"]).save("top.jpg")
    rows = [
        {
            "photo": scene(i)["photo"],
            "title": f"{('blue', 'red')[i % 2]} top",
            "price": 10.0 + i,
            "kind": ("vest", "T-shirt")[i % 2],
        }
        for i in range(12)
    ]
    settings = {"model": {"embed_dim": 16, "num_layers": 1}, "image": {"size": 32, "patch_size": 8}}
    inputs = {"photo": "image", "title": "text", "price": "number"}
    return {"predictor": Predictor.fit(rows, "kind", inputs=inputs, backbone="none", epochs=1, settings=settings)}
