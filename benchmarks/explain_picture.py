"""Draws the images of docs/guide/explain.md from tiny models trained here. A minute, no network:

    python benchmarks/explain_picture.py [NAME...] [--folder FOLDER]

explain: sentences alone. explain_mixed: garments, each with an image, a title and a price. explain_object: shapes found
in an image. All images are drawn here.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from polydetr import Predictor
from polydetr.explain import Explanation

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "guide" / "pictures"
SUBJECTS = ("the film", "this story", "her new play", "the second season", "that long concert")
MIDDLES = ("which we saw in town", "that my brother chose", "with its large cast", "about two old friends")
PRAISE = ("was splendid", "was a delight", "moved us deeply")
NEUTRAL = ("ran for three hours", "was shown on Monday", "began at eight")

KINDS = ("T-shirt", "vest")
COLOURS = {"red": (176, 46, 50), "green": (58, 120, 74), "blue": (48, 84, 150), "grey": (120, 124, 130)}
TOLD = {"T-shirt": "with short sleeves", "vest": "without sleeves"}
SHAPES = {"ball": (214, 170, 60), "box": (90, 170, 200)}
UNTOLD = ("of soft cotton", "with a round neck", "for the summer", "for men and women")


def sentences(count: int, *, seed: int) -> list[dict[str, str]]:
    """Sentences of which every second one praises."""
    rng = random.Random(seed)
    made = []
    for i in range(count):
        end = rng.choice(PRAISE if i % 2 else NEUTRAL)
        text = f"{rng.choice(SUBJECTS)} {rng.choice(MIDDLES)} {end} and then we went home"
        made.append({"text": text, "label": "praise" if i % 2 else "report"})
    return made


def garment(rng: random.Random, kind: str, colour: str, *, side: int = 96) -> np.ndarray:
    """A top on a light ground, (side, side, 3): the two kinds differ by their sleeves alone."""
    scale = 4  # drawn large and shrunk, so that edges are soft
    ground = rng.randrange(225, 250)
    picture = Image.new("RGB", (100 * scale, 100 * scale), (ground,) * 3)
    draw = ImageDraw.Draw(picture)
    shade = tuple(value + rng.randrange(-14, 15) for value in COLOURS[colour])
    wide, low = rng.randrange(17, 22), rng.randrange(78, 88)
    x, top = 50 + rng.randrange(-6, 7), 18 + rng.randrange(-4, 5)

    def shape(points: list[tuple[int, int]], fill: Any) -> None:
        draw.polygon([(px * scale, py * scale) for px, py in points], fill=fill)

    if kind == "T-shirt":
        dark = tuple(round(0.88 * value) for value in shade)
        for side_of in (-1, 1):
            end = x + side_of * (wide + 17)
            shape(
                [
                    (x + side_of * wide, top),
                    (end, top + 20),
                    (end - side_of * 7, top + 27),
                    (x + side_of * wide, top + 20),
                ],
                dark,
            )
    shape([(x - wide, top), (x + wide, top), (x + wide, low), (x - wide, low)], shade)
    draw.ellipse([(x - 8) * scale, (top - 7) * scale, (x + 8) * scale, (top + 7) * scale], fill=(ground,) * 3)
    small = picture.filter(ImageFilter.GaussianBlur(scale)).resize((side, side), Image.Resampling.LANCZOS)
    noise = np.random.default_rng(rng.randrange(2**31)).normal(0, 4, (side, side, 1))
    return (np.asarray(small) + noise).clip(0, 255).astype(np.uint8)


def garments(count: int, *, seed: int) -> list[dict[str, Any]]:
    """A quarter of the titles say what kind it is; the price says a little, the color nothing."""
    rng = random.Random(seed)
    made = []
    for i in range(count):
        kind, colour = KINDS[i % 2], rng.choice(list(COLOURS))
        word = TOLD[kind] if rng.random() < 0.25 else rng.choice(UNTOLD)
        price = round(rng.gauss(23 if kind == "T-shirt" else 19, 5), 2)
        title = f"{colour} top {rng.choice(UNTOLD)} {word}"
        made.append({"photo": garment(rng, kind, colour), "title": title, "price": price, "kind": kind})
    return made


def shapes(number: int, *, side: int = 64) -> dict[str, Any]:
    """An image of two or three shapes, none of which covers another, and where they are."""
    rng = random.Random(number)
    ground = np.random.default_rng(number).normal(70, 6, (side, side, 3)).clip(0, 255).astype(np.uint8)
    picture = Image.fromarray(ground)
    draw, found = ImageDraw.Draw(picture), []
    for column in rng.sample(range(3), rng.choice((2, 3))):  # thirds of the image keep them apart
        size, (label, colour) = rng.randrange(14, 20), rng.choice(list(SHAPES.items()))
        left, top = column * side // 3 + rng.randrange(side // 3 - size + 1), rng.randrange(side - size)
        box = [left, top, left + size, top + size]
        (draw.ellipse if label == "ball" else draw.rectangle)((*box[:2], box[2] - 1, box[3] - 1), fill=colour)
        found.append({"box": box, "label": label})
    return {"photo": np.asarray(picture), "objects": found}


def of_text() -> Explanation:
    settings = {
        "model": {"embed_dim": 32, "num_layers": 1, "num_heads": 2},
        "training": {"precision": "fp32", "lr": 1e-2, "head_lr": 1e-2, "batch_tokens": 256},
    }
    predictor = Predictor.fit(sentences(200, seed=0), "label", backbone="none", epochs=3, seed=4, settings=settings)
    return predictor.explain("the film about two old friends was splendid and then we went home")


def of_garment() -> Explanation:
    settings = {
        "image": {"size": 64, "patch_size": 8},
        "model": {"embed_dim": 64, "num_layers": 1, "num_heads": 4},
        "training": {"precision": "fp32", "lr": 2e-3, "head_lr": 2e-3, "batch_tokens": 2048, "patience": 0},
    }
    predictor = Predictor.fit(
        garments(500, seed=0), "kind", valid=garments(100, seed=1), backbone="none", epochs=12, seed=0,
        inputs={"photo": "image", "title": "text", "price": "number"}, settings=settings,
    )  # fmt: skip
    row = garments(1, seed=5)[0]
    return predictor.explain({**row, "title": "blue top for the summer of soft cotton"})


def of_object() -> Explanation:
    settings = {
        "image": {"size": 64, "patch_size": 8},
        "model": {"embed_dim": 64},
        "tasks": {"objects": {"num_queries": 20, "hidden_dim": 64, "decoder_layers": 2}},
        "training": {"precision": "fp32", "head_lr": 3e-3, "batch_tokens": 512, "ema_decay": 0.95},
        "steps": 450,
    }
    predictor = Predictor.fit(
        [shapes(i) for i in range(400)], {"objects": "detection"}, valid=[shapes(i) for i in range(1000, 1020)],
        inputs={"photo": "image"}, backbone="none", seed=0, settings=settings,
    )  # fmt: skip
    return predictor.explain({"photo": shapes(2000)["photo"]})


PICTURES = {"explain": of_text, "explain_mixed": of_garment, "explain_object": of_object}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PICTURES)}; all when none is given")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(PICTURES):
        parser.error(f"no picture is called {', '.join(sorted(unknown))}; there are {', '.join(PICTURES)}")
    for name in arguments.names or PICTURES:
        started = time.perf_counter()
        explanation = PICTURES[name]()
        explanation.print()
        print(explanation.to_png(arguments.folder / f"{name}.png"), f"{time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main()
