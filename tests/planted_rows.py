"""Rows of four columns and four targets: each target depends on what was planted in one column, and on nothing else."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

SIDE, PATCH = 32, 12
INPUTS = {"photo": "image", "price": "number", "title": "text", "bought": "history"}
TARGETS = {"by_photo": "photo", "by_price": "price", "by_title": "title", "by_bought": "bought"}
WORDS = "the shop sold many good things in town and we went there by bus".split()  # noqa: SIM905
GOODS = ("pen", "cup", "hat", "rug")
SETTINGS = {
    "image": {"size": SIDE, "patch_size": 8, "augment": {"flip": False, "crop": 1.0, "color": 0.0}},
    "model": {"embed_dim": 32, "num_layers": 1, "num_heads": 2, "dropout": 0.0},
    "training": {"precision": "fp32", "lr": 5e-3, "head_lr": 5e-3, "batch_tokens": 512, "patience": 0},
}


def row(number: int, *, yes: str = "") -> dict[str, Any]:
    """``yes``: a column whose target is to be "yes"; each of the others is by chance. Beside the columns stands where
    it was planted: ``corner`` of the bright patch, ``word``, ``item``; None where it was not.
    """
    rng = random.Random(number)
    planted = {target: column == yes or rng.random() < 0.5 for target, column in TARGETS.items()}
    photo = np.random.default_rng(number).integers(40, 60, (SIDE, SIDE, 3), dtype=np.uint8)
    corner = word = item = None
    if planted["by_photo"]:
        corner = rng.randrange(SIDE - PATCH), rng.randrange(SIDE - PATCH)
        photo[corner[0] : corner[0] + PATCH, corner[1] : corner[1] + PATCH] = (230, 60, 40)
    words = rng.choices(WORDS, k=8)
    if planted["by_title"]:
        word = rng.randrange(8)
        words[word] = "splendid"
    goods = rng.choices(GOODS, k=4)
    if planted["by_bought"]:
        item = rng.randrange(4)
        goods[item] = "lamp"
    return {
        "photo": photo,
        "price": rng.uniform(10, 14) + 20 * planted["by_price"],
        "title": " ".join(words),
        "bought": [{"name": good} for good in goods],
        **{target: "yes" if is_yes else "no" for target, is_yes in planted.items()},
        "corner": corner,
        "word": word,
        "item": item,
    }


def rows(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    return [row(seed + number) for number in range(count)]
