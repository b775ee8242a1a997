"""One model of a few weights per task whose answers people correct."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from polydetr import Predictor

Row = dict[str, Any]
SETTINGS: dict[str, Any] = {
    "model": {"embed_dim": 16, "num_layers": 1, "num_heads": 2},
    "tasks": {"objects": {"num_queries": 4, "hidden_dim": 16, "decoder_layers": 1}},
}


def scene(i: int) -> bytes:
    """An image of 64 × 48 pixels with a bright rectangle."""
    pixels = np.full((48, 64, 3), 40 + 9 * (i % 5), np.uint8)
    pixels[10:30, 12:40] = (220, 60 + 20 * (i % 7), 90)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _topics(i: int) -> Row:
    return {"text": f"report {i} of art and film", "topics": [["art"], ["film", "sport"], ["sport"]][i % 3]}


def _tags(i: int) -> Row:
    return {"text": f"Marigold {i} grows here", "tags": [{"start": 0, "end": 8, "label": ("FLOWER", "HERB")[i % 2]}]}


def _question(i: int) -> Row:
    return {
        "question": "which color?",
        "context": f"a red thing {i}",
        "answers": [{"text": "red", "start": 2}] if i % 3 else [],
    }


def _scene(i: int) -> Row:
    return {
        "image": np.asarray(Image.open(io.BytesIO(scene(i)))),
        "objects": [{"box": [12, 10, 40, 30], "label": ("cat", "dog")[i % 2]}],
    }


KINDS: dict[str, tuple[Callable[[int], Row], dict[str, str], dict[str, str]]] = {
    "topics": (_topics, {"text": "text"}, {"topics": "classification"}),
    "tags": (_tags, {"text": "text"}, {"tags": "tagging"}),
    "questions": (_question, {"question": "text", "context": "text"}, {"answers": "qa"}),
    "scenes": (_scene, {"image": "image"}, {"objects": "detection"}),
}


def fitted(kind: str, folder: Path) -> Path:
    row, inputs, targets = KINDS[kind]
    settings = {**SETTINGS, "tasks": {t: SETTINGS["tasks"].get(t, {}) for t in targets}}
    Predictor.fit(
        [row(i) for i in range(16)], targets, inputs=inputs, backbone="none", epochs=1, out=folder, seed=0,
        settings=settings,
    )  # fmt: skip
    return folder
