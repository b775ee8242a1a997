"""Predicted objects are drawn on what the model saw, in the folder that was named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from polydetr import LoadedModel, Predictor
from polydetr.errors import ConfigError, RowError
from polydetr.inference.tiling import predict_tiled

SETTINGS: dict[str, Any] = {
    "image": {"size": 32, "patch_size": 8}, "model": {"embed_dim": 16, "num_layers": 1, "num_heads": 2},
    "detection": {"hidden_dim": 16, "num_queries": 4, "decoder_layers": 1, "encoder_layers": 0, "threshold": 0.0},
    "training": {"batch_tokens": 256},
}  # fmt: skip
OUTSIDE = "a/../../out"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of two targets, trained for one step on images of 12 bits in 16."""
    place = tmp_path_factory.mktemp("drawn")
    rows = []
    for i in range(8):
        array = np.linspace(1000, 2000, 576).astype(np.uint16).reshape(24, 24)
        array[8:16, i : i + 8] = 3000
        Image.fromarray(array).save(place / f"{i}.png")
        boxes = [{"box": [i, 8, i + 8, 16], "label": "x"}]
        rows.append({"image": str(place / f"{i}.png"), OUTSIDE: boxes, "objects": boxes})
    Predictor.fit(
        rows, {OUTSIDE: "detection", "objects": "detection"}, inputs={"image": "image"}, valid=rows[:4], epochs=1,
        backbone="none", settings={**SETTINGS, "steps": 1}, out=place / "model",
    )  # fmt: skip
    return place


def test_what_is_drawn_is_what_the_model_saw_and_lies_in_the_folder(folder: Path) -> None:
    model = LoadedModel.load(folder / "model")
    drawn = folder / "deep" / "drawn"
    list(model.stream([{"image": str(folder / "0.png")}], draw=drawn))
    assert sorted(p.name for p in drawn.iterdir()) == ["00001-0-a_______out.jpg", "00001-0-objects.jpg"]
    assert [p for p in folder.rglob("*.jpg") if p.parent != drawn] == []
    seen = np.asarray(model.open_image(folder / "0.png"))[..., 0]
    assert (seen.min(), seen.max()) == (0, 255)
    assert 60 < np.asarray(Image.open(drawn / "00001-0-objects.jpg").convert("L")).mean() < 150
    page = (folder / "model" / "reports" / "valid-objects-mistakes.html").read_text("utf-8")
    assert ".png" in page


def test_the_limit_of_a_finished_model_is_said_anew_and_arrays_have_none(folder: Path) -> None:
    strict = LoadedModel.load(folder / "model", max_pixels=100)
    with pytest.raises(RowError, match=r"24 x 24 pixels, more than image.max_pixels = 100.*--max-pixels N"):
        strict.predict([{"image": str(folder / "0.png")}])
    with pytest.raises(RowError, match="max_pixels = 100"):
        predict_tiled(strict, folder / "0.png", target="objects")
    array = np.asarray(Image.open(folder / "0.png"))
    assert predict_tiled(strict, array, target="objects", tile=16, overlap=4)
    wide = LoadedModel.load(folder / "model", max_pixels=576)
    assert predict_tiled(wide, folder / "0.png", target="objects")
    with pytest.raises(ConfigError, match="max_pixels = 0, expected at least 1"):
        LoadedModel.load(folder / "model", max_pixels=0)
