"""Small pictures with bright rectangles on a dark ground, and where they are: drawn here, so that nothing is owed."""

from __future__ import annotations

from typing import Any

import numpy as np

COLOURS = {"ruby": (220, 40, 40), "azure": (40, 60, 220)}


def scene(number: int, *, size: int = 64, objects: int | None = None) -> dict[str, Any]:
    """A row: picture (size, size, 3) and one to three rectangles, none of which covers another."""
    chance = np.random.default_rng(number)
    picture = 30 + chance.integers(0, 12, (size, size, 3), dtype=np.uint8)
    taken = np.zeros((size, size), dtype=bool)
    found: list[dict[str, Any]] = []
    wanted = int(chance.integers(1, 4)) if objects is None else objects
    while len(found) < wanted:
        width, height = (int(side) for side in chance.integers(14, 26, 2))
        left, top = int(chance.integers(0, size - width)), int(chance.integers(0, size - height))
        place = slice(top, top + height), slice(left, left + width)
        if taken[place].any():
            continue
        taken[place] = True
        label = ("ruby", "azure")[int(chance.integers(2))]
        picture[place] = COLOURS[label]
        found.append({"box": [left, top, left + width, top + height], "label": label})
    return {"photo": picture, "objects": found}


def scenes(count: int = 8, **options: Any) -> list[dict[str, Any]]:
    return [scene(number, **options) for number in range(count)]


PLAIN = {"flip": False, "crop": 1.0, "color": 0.0}
SMALL = {
    "image": {"size": 64, "patch_size": 8, "augment": PLAIN},
    "detection": {
        "num_queries": 20,
        "hidden_dim": 32,
        "decoder_layers": 2,
        "zoom": 1.0,
    },
    "model": {"embed_dim": 32},
}
"""A detector of some hundred thousand weights, from random ones."""
