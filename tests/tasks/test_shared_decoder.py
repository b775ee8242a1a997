"""One decoder for entities of a caption and objects of its image: the same weights, learned from both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from detection_scenes import PLAIN
from polydetr.config.loading import merge
from polydetr.engine.engine import Engine
from polydetr.errors import ConfigError
from polydetr.explain import explain_record
from polydetr.nn.batch import Batch
from polydetr.nn.decoder import SetDecoder
from tiny_models import as_records, batch_loss, encode_all, make_engine, metrics, overfit

BOTH = {"entities": "entities", "objects": "detection"}
INPUTS = {"caption": "text", "photo": "image"}
SETTINGS: dict[str, Any] = {
    "image": {"size": 32, "patch_size": 8, "augment": PLAIN},
    "detection": {"num_queries": 6, "hidden_dim": 32, "decoder_layers": 2, "deformable": False},
    "entities": {"hidden_dim": 32, "decoder_layers": 2},
}


def captioned() -> list[dict[str, Any]]:
    """Images of one square, each with a caption that says where it is: "here lies the lit stone at the left"."""
    rows = []
    for i in range(6):
        left, top, label = 16 * (i % 2), 8 * (i // 3), "lit" if i % 3 else "dim"
        picture = np.full((32, 32), 110, dtype=np.uint8)
        picture[top : top + 14, left : left + 14] = 250 if i % 3 else 0
        side = "right" if left else "left"
        stone = f"the {label} stone at the {side}"
        caption = f"here lies {stone}"
        at = caption.index(side)
        spans = [(10, 10 + len(stone), "THING"), (at, at + len(side), "PLACE")]
        objects = [{"box": [left, top, left + 14, top + 14], "label": label}]
        rows.append({"caption": caption, "photo": picture, "entities": spans, "objects": objects})
    return rows


def engine_of(*, shared: bool, **more: Any) -> Engine:
    settings = merge(merge(SETTINGS, {"model": {"share_decoder": shared}}), more)
    return make_engine(captioned(), BOTH, inputs=INPUTS, settings=settings)


def test_it_is_one_decoder_of_the_same_weights() -> None:
    shared, separate = (engine_of(shared=shared).runner.model for shared in (True, False))
    spans, boxes = shared.heads["target_0"].model, shared.heads["target_1"].model  # type: ignore[union-attr]
    assert isinstance(shared.decoder, SetDecoder)
    assert spans.decoder is shared.decoder
    assert boxes.layers is shared.decoder.layers  # type: ignore[union-attr]
    apart = separate.heads["target_0"].model.decoder, separate.heads["target_1"].model  # type: ignore[union-attr]
    assert {id(p) for p in apart[0].parameters()}.isdisjoint({id(p) for p in apart[1].parameters()})  # type: ignore[union-attr]
    sizes = [sum(p.numel() for p in model.parameters()) for model in (separate, shared)]
    assert sizes[0] - sizes[1] == sum(p.numel() for p in shared.decoder.layers.parameters())
    assert separate.decoder is None


def test_both_targets_teach_it() -> None:
    engine = engine_of(shared=True)
    examples = encode_all(engine, captioned(), with_targets=True)
    taught = {}
    for target in engine.tasks:
        engine.runner.model.zero_grad()
        batch = Batch.collate(examples)
        terms = engine.runner.model.head_of(target).loss(
            engine.runner.model(batch, last_only=False)[target], batch.targets[target], batch.weights
        )
        torch.stack(list(terms.values())).sum().backward()
        taught[target] = {
            n for n, p in engine.runner.model.decoder.layers.named_parameters() if p.grad is not None and p.grad.any()
        }  # type: ignore[union-attr]
    everything = {name for name, _ in engine.runner.model.decoder.layers.named_parameters()}  # type: ignore[union-attr]
    assert taught["entities"] == taught["objects"] == everything


def test_it_stands_once_in_the_file_and_comes_back(tmp_path: Path) -> None:
    engine, other = engine_of(shared=True), engine_of(shared=True)
    torch.manual_seed(7)
    for parameter in engine.runner.model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    save_file(
        engine.runner.model.state_dict(), tmp_path / "weights.safetensors"
    )  # which refuses tensors that stand twice
    other.runner.model.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    batch = Batch.collate(encode_all(engine, captioned(), with_targets=False))
    with torch.no_grad():
        first, second = engine.runner.model(batch), other.runner.model(batch)
    assert all(torch.equal(first[t][name], second[t][name]) for t in first for name in first[t])


@pytest.mark.slow
def test_both_are_learned_by_heart() -> None:
    engine = engine_of(shared=True, detection={"iou_aware": False})  # which pays later
    for steps, lr in ((240, 1.5e-3), (120, 4e-4)):
        overfit(engine, captioned(), steps=steps, lr=lr)
    found = metrics(engine, captioned())
    assert found["entities"]["entity_f1"] == 1.0
    assert found["objects"]["map_50"] > 0.9


def test_the_sizes_of_one_are_taken_by_the_other_and_must_fit() -> None:
    unsaid = merge(
        SETTINGS, {"model": {"share_decoder": True}, "entities": {"hidden_dim": None, "decoder_layers": None}}
    )
    engine = make_engine(captioned(), BOTH, inputs=INPUTS, settings=unsaid)
    assert len(engine.runner.model.decoder.layers) == 2  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="one decoder cannot serve both"):
        engine_of(shared=True, entities={"decoder_layers": 3})
    with pytest.raises(ConfigError, match="no two targets that could share one"):
        engine_of(shared=True, entities={"decoder_layers": 0})
    with pytest.raises(ConfigError, match="goes with detr-fast alone"):
        engine_of(shared=True, detection={"architecture": "detr"})


def test_a_row_without_a_image_still_teaches_spans() -> None:
    engine = engine_of(shared=True)
    rows = [{**row, "photo": None} for row in captioned()]
    loss = batch_loss(engine, Batch.collate(encode_all(engine, rows, with_targets=True)))
    assert float(loss.detach()) > 0
    loss.backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in engine.runner.model.parameters() if p.grad is not None)


def test_both_targets_are_explained() -> None:
    """The layers are the head's own or borrowed: where the query of an object looked is found in both."""
    row = as_records(captioned())[0]
    for shared in (True, False):
        engine = engine_of(shared=shared)
        overfit(engine, captioned(), steps=20)
        box, span = (explain_record(engine, row, target=target) for target in ("objects", "entities"))
        assert box.images[0].gaze is not None
        assert box.images[0].gaze.sum() == pytest.approx(1)
        assert any(word.in_answer for word in span.words)
        assert {column.modality for column in span.columns} == {"text", "image"}
