"""Explanations of objects found in images: the cells they rest on, and where the query looked that found them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detection_scenes import SMALL, scene, scenes
from polydetr import Predictor
from polydetr.config.loading import merge
from polydetr.core.layout import FieldText
from polydetr.core.predictions import Prediction
from polydetr.core.records import Record
from polydetr.errors import InputError, Location
from polydetr.explain import explain_record
from polydetr.heads.detection_explained import FINEST, looked_at
from polydetr.nn.batch import Batch
from polydetr.tasks.explained import Reading
from polydetr.tasks.explained_objects import ObjectAnswer
from tiny_models import encode_all, make_engine

TARGET = {"objects": "detection"}


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """Trained on eight images until it knows them by heart."""
    rows = scenes()
    training = {"head_lr": 3e-3, "batch_tokens": 512, "ema_decay": 0.9, "precision": "fp32"}
    more = {"model": {"embed_dim": 64}, "detection": {"hidden_dim": 64}, "steps": 150, "training": training}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYDETR_CACHE", str(tmp_path_factory.mktemp("cache")))
        found = Predictor.fit(rows, TARGET, valid=rows, backbone="none", seed=2, settings=merge(SMALL, more))
    torch.set_flush_denormal(False)  # training counts the smallest floats as zero; other tests draw them
    return found


def test_evidence_and_gaze_lie_on_the_object(predictor: Predictor, tmp_path: Path) -> None:
    gaze, evidence, meaningful = [], [], []
    for number in range(4):
        row = scene(number)
        for index, found in enumerate(predictor.predict(row)[0]["objects"]):
            e = predictor.explain({"photo": row["photo"]}, choice=index)
            (image,) = e.images
            assert e.answer.startswith(found["label"])
            assert image.box is not None
            np.testing.assert_allclose(np.array(image.box).clip(0, 1) * 64, found["box"], atol=0.01)
            assert e.value == pytest.approx(e.original, abs=1e-4)
            assert e.baseline < 0.1
            gaze.append(image.gaze_inside)
            left, top, right, bottom = image.box
            strong = np.argwhere(image.heat >= 0.5 * image.heat.max()) + 0.5
            y, x = (strong / len(image.heat)).T
            margin = 1 / len(image.heat)  # a cell reaches beyond its center
            within = (x >= left - margin) & (x <= right + margin) & (y >= top - margin) & (y <= bottom + margin)
            evidence.append(within.mean())
            meaningful.append(bool(e.meaningful))
    assert len(gaze) >= 6
    assert np.mean(gaze) > 0.5
    assert np.mean(evidence) > 0.7
    assert np.mean(meaningful) > 0.8


def test_page_image_and_json(predictor: Predictor, tmp_path: Path) -> None:
    e = predictor.explain({"photo": scene(0)["photo"]}, out=tmp_path)
    page = (tmp_path / "explanation.html").read_text(encoding="utf-8")
    assert page.count('class="box"') == 3
    assert "where the query looked" in page
    assert (tmp_path / "explanation.png").read_bytes().startswith(b"\x89PNG")
    shown = json.loads(json.dumps(e.to_dict(), allow_nan=False))["images"][0]
    assert np.shape(shown["gaze"]) == (FINEST, FINEST)
    with pytest.raises(InputError, match="99"):
        predictor.explain({"photo": scene(0)["photo"]}, choice=99)


@pytest.mark.parametrize(
    "detection",
    [{}, {"deformable": False}, {"architecture": "detr", "encoder_layers": 1}],
    ids=["points", "cells", "detr"],
)
def test_every_architecture_tells_where_its_queries_look(detection: dict[str, Any]) -> None:
    rows = scenes(3)
    engine = make_engine(
        rows, TARGET, inputs={"photo": "image"}, settings=merge(SMALL, {"detection": {"threshold": 0.99, **detection}})
    )
    batch = Batch.collate(encode_all(engine, rows[:1], with_targets=False))
    model = engine.runner.model
    head = model.head_of("objects")
    maps = [looked_at(head, query=query, forward=lambda: model(batch, ["objects"])) for query in range(4)]
    assert all(0.3 < gaze.sum() < 1 + 1e-5 and (gaze >= 0).all() for gaze in maps)
    if detection.get("architecture") == "detr":
        coarsest = model.encode(batch).tokens["image"].transpose(1, 2).unflatten(2, (head.grid, head.grid))
        with torch.no_grad():
            own = head.model(coarsest, need_weights=True)["looked_at"]  # type: ignore[operator, union-attr]
        np.testing.assert_allclose(maps[2], own[-1, 0, :, 2].mean(0).numpy(), atol=1e-6)
    e = explain_record(engine, Record(rows[0], Location(row=1)))
    assert e.answer.startswith("no object; nearest")
    assert e.images[0].gaze is not None


def test_score_is_that_of_the_best_box_of_the_label() -> None:
    """Two queries, two classes, one layer; boxes by hand."""
    answer = ObjectAnswer("a", label=1, box=(0.0, 0.0, 0.5, 1.0), softmax=False)
    outputs = {
        "logits": np.array([[[9.0, 0.0], [-9.0, 2.0]]]),  # (N, Q, C)
        "boxes_cxcywh": np.array([[[0.25, 0.5, 0.5, 1.0], [0.5, 0.5, 1.0, 1.0]]]),
        "frame": np.ones(6),
    }
    reading = Reading(Prediction([]), [outputs], [], FieldText("", ()))
    assert answer.probability(reading) == pytest.approx(max(0.5 * 1.0, 1 / (1 + np.exp(-2.0)) * 0.5))
    assert answer.query(reading) == 0
