"""Frozen backbones: features computed once stand for what the backbone would make of every row, and none is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_runs import film_rows, write_encoder

from polydetr.config import load_config
from polydetr.data.store import ExampleStore
from polydetr.engine.engine import Engine
from polydetr.model.build import build_engine
from polydetr.nn.batch import Batch
from polydetr.schema.infer import infer_schema
from polydetr.training import features
from tiny_models import as_records, encode_all

ROWS = [{"text": row["text"], "answer": f"{row['text']} number {i}"} for i, row in enumerate(film_rows(11))]


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """Both sides of an embedding, read by one small pretrained encoder."""
    config = load_config(
        {"model": {"num_layers": 1}}, backbone=str(write_encoder(tmp_path / "encoder")), target={"answer": "embedding"}
    )
    schema = infer_schema(ROWS, targets=config.target, inputs={"text": "text"})
    return build_engine(config, schema, as_records(ROWS), note=lambda line: None)


def test_every_split_that_is_measured_is_read_from_features(engine: Engine, tmp_path: Path) -> None:
    store = ExampleStore.write(iter(encode_all(engine, ROWS, with_targets=True)), tmp_path / "rows.arrow")
    valid, test = as_records(ROWS[:4]), as_records(ROWS[4:])
    frozen, _ = features.with_features(engine, store, [valid, test])
    engine.model.embedders["text"].backbone = torch.nn.Identity()  # nothing can be read anew
    with pytest.raises(TypeError):
        list(engine.run(test))
    for split in (valid, test):
        found = list(frozen.run(split, with_targets=True))
        assert [result.record for result in found] == split


def test_no_row_is_lost_between_chunks(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_AT_ONCE", 4)
    examples = encode_all(engine, ROWS, with_targets=True)
    store = ExampleStore.write(iter(examples), tmp_path / "rows.arrow")
    valid = as_records(ROWS)
    frozen, train = features.with_features(engine, store, [valid])
    assert len(train) == len(ROWS)
    assert len(list(frozen.run(valid, with_targets=True))) == len(ROWS)
    with torch.no_grad():
        direct = engine.model(Batch.collate(examples))["answer"]
        again = engine.model(Batch.collate([train[i] for i in range(len(train))]))["answer"]
    assert set(train[0].groups["text"]) == set(train[0].groups["answer/text"]) == {"features"}
    for side in ("vector", "positive"):
        torch.testing.assert_close(again[side], direct[side], rtol=1e-4, atol=1e-5)
