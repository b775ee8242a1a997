"""Makes the model folders beside this file, which every later version must load and answer from as they were answered.

It was run with the code of commit 4d5ef09, which writes format version 1, and is kept to tell what the folders hold.
To make them again, check out that commit and run, with OMP_NUM_THREADS=1,

    PYTHONPATH=src python make.py NEW_FOLDER

Each folder holds ``model/`` (without its card and reports), ``rows.json`` with labelled rows (pictures as paths that
begin at the folder), and ``answers.json``: what ``stream`` and ``evaluate`` give for them in fp32, ``{"stream": [...],
"metrics": {...}}``, where null is a metric that is not a number; of what is drawn at random, its shape alone,
``{"shape": [8, 8, 1]}``.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from polydetr import Predictor

Row = dict[str, Any]
SETTINGS: dict[str, dict[str, Any]] = {
    "model": {"embed_dim": 16, "num_layers": 1, "num_heads": 2},
    "text": {"vocab_size": 200, "max_tokens": 64, "overlap": 16},
    "training": {"precision": "fp32", "batch_tokens": 256, "head_lr": 1e-2, "patience": 0},
}


@dataclass(frozen=True)
class Plan:
    """What one model is trained on, and asked. ``pictures``: the files that ``asked`` names."""

    train: Sequence[Row]
    valid: Sequence[Row]
    asked: Sequence[Row]
    targets: Mapping[str, str]
    inputs: Mapping[str, str]
    epochs: int
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)
    is_random: bool = False


def marked(source: str) -> tuple[str, list[Row]]:
    """``"in [Oslo|CITY]"`` → the text without marks, and its spans; one may stand inside another."""
    text, opened, spans = "", [], []
    for part in re.findall(r"\[|\|[A-Z]+\]|[^\[|]+", source):
        if part == "[":
            opened.append(len(text))
        elif part.startswith("|"):
            spans.append({"start": opened.pop(), "end": len(text), "label": part[1:-1]})
        else:
            text += part
    return text, spans


def split(rows: Sequence[Row], valid: int, *, seed: int = 0) -> tuple[list[Row], list[Row], list[Row]]:
    """Rows to learn from, to validate on, and eight to ask, in an order of their own."""
    mixed = Random(seed).sample(rows, len(rows))
    return mixed[valid + 8 :], mixed[8 : valid + 8], mixed[:8]


# -- text -------------------------------------------------------------------------------------------------------------


def text_plan() -> Plan:
    """Intent and entities of English and Chinese wishes."""
    asks = {
        "weather": ("Will it rain in [{}|CITY] [{}|DAY]?", "[{}|CITY][{}|DAY]会下雨吗？"),
        "flight": ("Book me a flight to [{}|CITY] [{}|DAY]", "订一张去[{}|CITY]的机票，[{}|DAY]出发"),
        "music": ("Play a song from [{}|CITY] [{}|DAY]", "放一首[{}|CITY]的歌，[{}|DAY]听"),
    }
    places = (("Oslo", "Lima", "New York", "Quito", "Paris"), ("北京", "上海", "巴黎", "哈尔滨", "西安"))
    days = (("today", "tomorrow", "on Friday"), ("今天", "明天", "星期五"))

    def row(intent: str, source: str) -> Row:
        text, spans = marked(source)
        return {"text": text, "intent": intent, "entities": spans}

    rows = [
        row(intent, asks[intent][language].format(*filled))
        for intent, language in product(asks, (0, 1))
        for filled in product(places[language], days[language])
    ]
    train, valid, asked = split(rows, 14)
    asked[0] = row("flight", "Book me  a flight to\t[Cairo|CITY] [on Monday|DAY] !")  # neither was ever seen
    asked[1] = row("weather", "[New York|CITY][今天|DAY]会下雨吗？")
    targets = {"intent": "classification", "entities": "tagging"}
    return Plan(train * 4, valid, asked, targets, {"text": "text"}, epochs=6)


def entities_plan() -> Plan:
    """Spans inside others, English and Chinese."""
    sources = (
        "Then [the mayor of [{}|LOC]|PER] met [{}|PER].",
        "[{1}|PER] left [the bank of [{0}|LOC]|ORG] today",
        "昨天[[{}|LOC]市市长|PER]见了[{}|PER]。",
        "[{1}|PER]在[[{0}|LOC]银行|ORG]上班。",
    )
    places = (("Turin", "New Oslo", "Lima", "Accra"), ("北京", "上海", "哈尔滨", "都灵"))
    names = (("Anna", "Bob", "Carla", "Dan"), ("安娜", "王小明", "李雷", "韩梅梅"))

    def row(source: str) -> Row:
        text, spans = marked(source)
        return {"text": text, "spans": spans}

    rows = [
        row(source.format(*filled))
        for number, source in enumerate(sources)
        for filled in product(places[number // 2], names[number // 2])
    ]
    train, valid, asked = split(rows, 10)
    asked[0] = row("Nobody was there.")
    settings = {"entities": {"hidden_dim": 16, "decoder_layers": 1, "max_words": 8}}
    return Plan(train * 12, valid, asked, {"spans": "entities"}, {"text": "text"}, epochs=5, settings=settings)


def qa_plan() -> Plan:
    """Questions with an answer in the passage and without one; a passage longer than a window."""
    facts = (
        "[{}|CITY] lies on the river [{}|RIVER]. Its mayor is [{}|MAYOR].",
        "[{}|CITY]在[{}|RIVER]边上，市长是[{}|MAYOR]。",
    )
    questions = (
        {"RIVER": "Which river?", "MAYOR": "Who is the mayor?", "LAKE": "Which lake?"},
        {"RIVER": "哪条河？", "MAYOR": "谁是市长？", "LAKE": "哪个湖？"},
    )
    cities = (
        ({"Turin": "Po", "Rome": "Tiber", "Paris": "Seine", "Cairo": "Nile"}, ("Anna", "Bob", "Carla")),
        ({"都灵": "波河", "罗马": "台伯河", "巴黎": "塞纳河", "开罗": "尼罗河"}, ("安娜", "王明", "李雷")),
    )

    fillers = ("Few people know it well. ", "知道的人不多。")

    def row(language: int, wanted: str, source: str, *, filler: int = 0) -> Row:
        context, spans = marked(fillers[language] * filler + source)
        found = [s for s in spans if s["label"] == wanted]
        answers = [{"text": context[s["start"] : s["end"]], "start": s["start"]} for s in found]
        return {"question": questions[language][wanted], "context": context, "answers": answers}

    rows = [
        row(language, wanted, facts[language].format(city, river, mayor), filler=filler)
        for filler in (0, 1, 3)
        for language, (rivers, mayors) in enumerate(cities)
        for (city, river), mayor, wanted in product(rivers.items(), mayors, questions[language])
    ]
    train, valid, asked = split(rows, 30)
    asked[0] = row(0, "RIVER", facts[0].format("Rome", "Tiber", "Anna"), filler=6)
    asked[1] = row(1, "MAYOR", facts[1].format("北京", "永定河", "王明"), filler=6)
    asked[2:4] = [row(language, "LAKE", asked[2 + language]["context"]) for language in (0, 1)]
    settings = {"text": {"max_tokens": 32, "overlap": 8}}
    inputs = {"question": "text", "context": "text"}
    return Plan(train * 3, valid, asked, {"answers": "qa"}, inputs, epochs=12, settings=settings)


def embedding_plan() -> Plan:
    """Questions near their answers."""
    answers = {
        "card": "Order a new one in the app.", "loan": "Rates stand on the second page.",
        "pin": "Choose it at a machine.", "卡": "在应用里订一张新的。", "贷款": "利率在第二页上。",
        "密码": "请在机器上选。",
    }  # fmt: skip
    asks = (
        ("I lost my {}", "about the {}", "where is the {}", "my {} please", "help with a {}", "a question on my {}"),
        ("我的{}丢了", "关于{}", "{}在哪里", "请给我{}", "{}的问题", "问一下{}"),
    )
    rows = [
        {"question": ask.format(topic), "answer": answer}
        for number, (topic, answer) in enumerate(answers.items())
        for ask in asks[number // 3]
    ]
    train, valid, asked = split(rows, 6)
    return Plan(train * 3, valid, asked, {"answer": "embedding"}, {"question": "text"}, epochs=6)


# -- tables -----------------------------------------------------------------------------------------------------------


def table_plan() -> Plan:
    """A number from numbers, a category, a date and a history, any of which may be missing."""
    goods = {"green tea": 3.0, "black coffee": 5.5, "苹果汁": 4.0, "rice": 1.5}
    tints = {"red": 0.0, "green": 4.0, "blue": -4.0}

    def row(number: int) -> Row:
        chance = Random(number)
        price, tint = round(chance.uniform(5, 15), 2), chance.choice(list(tints))
        day = date(2023, 1, 1) + timedelta(days=chance.randrange(700))
        names = chance.choices(list(goods), k=chance.randint(1, 3))  # the latest first
        items = [{"name": name, "price": goods[name], "days": 3 * age} for age, name in enumerate(names)][::-1]
        value = round(price + tints[tint] + day.month / 2 + sum(goods[name] for name in names), 2)
        pieces = chance.randrange(1, 9)
        return {
            "price": price, "pieces": pieces, "tint": tint, "sold": day.isoformat(), "bought": items, "value": value
        }  # fmt: skip

    asked = [row(number) for number in range(8)]
    asked[1] |= {"price": None}
    asked[2] |= {"tint": "violet"}  # never seen
    asked[3] |= {"sold": None, "bought": []}
    asked[4] |= {"bought": ["green tea", {"name": "new soap", "price": 30}]}
    inputs = {"price": "number", "pieces": "number", "tint": "category", "sold": "date", "bought": "history"}
    train, valid = [row(number) for number in range(100, 900)], [row(number) for number in range(50, 70)]
    settings = {"history": {"age": "days", "item_tokens": 8, "fields": {"name": "text", "price": "number"}}}
    return Plan(train, valid, asked, {"value": "regression"}, inputs, epochs=8, settings=settings)


# -- pictures ---------------------------------------------------------------------------------------------------------

PAINTS = {"ruby": (220, 40, 40), "azure": (40, 60, 220)}
SMALL_IMAGES = {"size": 32, "patch_size": 8, "augment": {"flip": False, "crop": 1.0, "color": 0.0}}


def scene(number: int) -> Row:
    """One to three rectangles beside one another on a dark ground, 48 x 48 or 60 x 48."""
    chance = Random(number)
    picture = np.full((48, 60 if number % 4 == 3 else 48, 3), 30, dtype=np.uint8)
    quarters = chance.sample([(x, y) for x in (0, 24) for y in (0, 24)], chance.randint(1, 3))
    found = []
    for x, y in quarters:
        width, height = chance.randint(12, 20), chance.randint(12, 20)
        left, top = x + chance.randint(1, 23 - width), y + chance.randint(1, 23 - height)
        label = chance.choice(list(PAINTS))
        picture[top : top + height, left : left + width] = PAINTS[label]
        found.append({"box": [left, top, left + width, top + height], "label": label})
    labels = sorted({one["label"] for one in found})
    return {"photo": picture, "objects": found, "number": ("one", "two", "three")[len(found) - 1], "paints": labels}


def picture_plan(targets: Mapping[str, str], epochs: int, **settings: Any) -> Plan:
    """Scenes to learn from as arrays, and to be asked as files."""

    def rows(start: int, count: int) -> list[Row]:
        scenes = (scene(number) for number in range(start, start + count))
        return [{name: row[name] for name in ("photo", *targets)} for row in scenes]

    asked = rows(0, 6)
    pictures = {f"scene{number}.png": row["photo"] for number, row in enumerate(asked)}
    asked = [row | {"photo": name} for row, name in zip(asked, pictures, strict=True)]
    train, valid = rows(100, 600), rows(50, 16)
    settings = {"image": SMALL_IMAGES, **settings}
    return Plan(train, valid, asked, targets, {"photo": "image"}, epochs, settings, pictures)


def detection_plan() -> Plan:
    """Boxes of objects."""
    detection = {"num_queries": 8, "hidden_dim": 16, "decoder_layers": 2, "mosaic": 0.0, "zoom": 1.0}
    return picture_plan({"objects": "detection"}, 10, detection=detection)


def image_plan() -> Plan:
    """How many rectangles, and of which colours: one label and several."""
    return picture_plan({"number": "classification", "paints": "classification"}, 4)


def generation_plan() -> Plan:
    """Pictures of 8 x 8 pixels with a bright half."""

    def row(number: int) -> Row:
        side = ("left", "right")[number % 2]
        pixels = np.full((8, 8), 20 + number % 7, dtype=np.uint8)
        pixels[:, slice(0, 4) if side == "left" else slice(4, 8)] = 200 + number % 11
        return {"side": side, "picture": pixels}

    train, valid = [row(number) for number in range(100)], [row(number) for number in range(100, 110)]
    asked = [{**row(number), "picture": row(number)["picture"].tolist()} for number in range(6)]
    settings = {"tasks": {"picture": {"sampling_steps": 4}}}
    targets, inputs = {"picture": "generation"}, {"side": "category"}
    return Plan(train, valid, asked, targets, inputs, epochs=4, settings=settings, is_random=True)


# -- folders ----------------------------------------------------------------------------------------------------------

PLANS = {
    "text": text_plan, "entities": entities_plan, "qa": qa_plan, "table": table_plan, "detection": detection_plan,
    "image": image_plan, "embedding": embedding_plan, "generation": generation_plan,
}  # fmt: skip


def make(plan: Plan) -> None:
    """Trains the model and writes everything into the working directory, so that no path of this machine is kept."""
    for name, pixels in plan.pictures.items():
        Image.fromarray(pixels).save(name, optimize=True)
    settings = {name: {**SETTINGS.get(name, {}), **plan.settings.get(name, {})} for name in SETTINGS | plan.settings}
    Predictor.fit(
        plan.train, plan.targets, valid=plan.valid, inputs=plan.inputs, out="model", backbone="none",
        epochs=plan.epochs, seed=0, settings=settings,
    )  # fmt: skip
    shutil.rmtree("model/reports")
    Path("model/README.md").unlink()
    write("rows.json", plan.asked)
    write("answers.json", answers(plan))


def answers(plan: Plan) -> Row:
    """What the saved model answers."""
    predictor = Predictor.load("model", precision="fp32")
    if predictor.info["format_version"] != 1:
        sys.exit("These folders are in format version 1: check out commit 4d5ef09 first.")
    rows = json.loads(Path("rows.json").read_text(encoding="utf-8"))
    if plan.is_random:
        (target,) = plan.targets
        return {"shape": list(predictor.predict(rows)[0][target].shape)}
    metrics = {
        target: {name: None if math.isnan(value) else value for name, value in found.items()}
        for target, found in predictor.evaluate(rows).items()
    }
    return {"stream": list(predictor.stream(rows)), "metrics": metrics}


def write(name: str, content: Any) -> None:
    """As JSON, one row a line."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False)
    text = re.sub(r'\}, (?=\{"(row|text|question|price|photo|side)")', "},\n", text)
    Path(name).write_text(text + "\n", encoding="utf-8")


def made(folder: Path) -> Iterator[str]:
    """Makes every folder, none of which may be there yet; names it when it is done."""
    for name, plan in PLANS.items():
        (folder / name).mkdir(parents=True)
        with contextlib.chdir(folder / name):
            make(plan())
        yield name


if __name__ == "__main__":
    for name in made(Path(sys.argv[1]).resolve()):
        print(name)
