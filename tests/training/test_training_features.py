"""Frozen backbones: features computed once stand for what the backbone would make of every row, and none is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_runs import film_rows, write_encoder

from polydetr.config.loading import load_config
from polydetr.core.records import Record
from polydetr.data.store import ExampleStore
from polydetr.model.build import Assembly, build_model
from polydetr.nn.batch import Batch
from polydetr.schema.infer import infer_schema
from polydetr.training import features
from polydetr.training.encode import EncodedRows, encode_measured_rows, measure
from tiny_models import as_records, encode_all

ROWS = [{"text": row["text"], "answer": f"{row['text']} number {i}"} for i, row in enumerate(film_rows(11))]


@pytest.fixture
def assembly(tmp_path: Path) -> Assembly:
    """Both sides of an embedding, read by one small pretrained encoder."""
    config = load_config(
        {"model": {"num_layers": 1}}, backbone=str(write_encoder(tmp_path / "encoder")), target={"answer": "embedding"}
    )
    schema = infer_schema(ROWS, targets=config.target, inputs={"text": "text"})
    return build_model(config, schema, as_records(ROWS), notify=lambda line: None)


def encoded(assembly: Assembly, tmp_path: Path, valid: list[Record], test: list[Record] | None) -> EncodedRows:
    examples = encode_all(assembly.engine, ROWS, with_targets=True)
    store = ExampleStore.write(iter(examples), tmp_path / "rows.arrow")
    config = load_config({}, target={"answer": "embedding"})
    measured = [
        encode_measured_rows(assembly.engine, rows, config, [], split="validation", notify=print)
        for rows in (valid, test or [])
    ]
    return EncodedRows(store, measured[0], measured[1] if test else None)


def test_every_split_that_is_measured_is_read_from_features(assembly: Assembly, tmp_path: Path) -> None:
    valid, test = as_records(ROWS[:4]), as_records(ROWS[4:])
    frozen = features.with_features(assembly, encoded(assembly, tmp_path, valid, test), notify=print)
    assembly.model.embedders["text"].backbone = torch.nn.Identity()  # nothing can be read anew
    with pytest.raises(TypeError):
        list(assembly.engine.run(test))
    for split, rows in ((valid, frozen.valid), (test, frozen.test)):
        assert rows is not None
        results, evaluations = measure(assembly.engine, rows)
        assert [result.record for result in results] == split
        assert 0 < evaluations["answer"].metrics["mrr"] <= 1


def test_no_row_is_lost_between_chunks(assembly: Assembly, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_AT_ONCE", 4)
    examples = encode_all(assembly.engine, ROWS, with_targets=True)
    frozen = features.with_features(assembly, encoded(assembly, tmp_path, as_records(ROWS), None), notify=print)
    train = frozen.train
    assert len(train) == len(ROWS)
    assert len(measure(assembly.engine, frozen.valid)[0]) == len(ROWS)
    with torch.no_grad():
        direct = assembly.model(Batch.collate(examples))["answer"]
        again = assembly.model(Batch.collate([train[i] for i in range(len(train))]))["answer"]
    assert set(train[0].groups["text"]) == set(train[0].positives["answer"]) == {"features"}
    for side in ("vector", "positive"):
        torch.testing.assert_close(again[side], direct[side], rtol=1e-4, atol=1e-5)
