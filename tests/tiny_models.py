"""Engines of a few thousand weights, made without a download, and a loop that teaches them eight rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from polydetr.config.loading import load_config, merge
from polydetr.core.examples import Example
from polydetr.core.predictions import RowResult
from polydetr.core.records import Record
from polydetr.engine.engine import Engine
from polydetr.engine.measure import evaluate_results
from polydetr.engine.outputs import json_value
from polydetr.errors import Location
from polydetr.model.build import Assembly, build_model
from polydetr.nn.batch import Batch
from polydetr.schema.infer import infer_schema

SMALL = {"model": {"embed_dim": 32, "num_layers": 1, "num_heads": 2, "dropout": 0.0}, "text": {"vocab_size": 300}}


def as_records(rows: Sequence[Mapping[str, Any]], document: str | None = None) -> list[Record]:
    return [Record(row, Location(file="rows.jsonl", row=i), document) for i, row in enumerate(rows, start=1)]


def make_assembly(
    rows: Sequence[Mapping[str, Any]],
    target: Mapping[str, str],
    *,
    inputs: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    notes: list[str] | None = None,
) -> Assembly:
    """An untrained model whose vocabulary and labels come from ``rows``."""
    config = load_config(merge(SMALL, settings or {}), target=dict(target), inputs=inputs, backbone="none")
    schema = infer_schema(list(rows), targets=config.target, inputs=config.inputs)
    return build_model(config, schema, as_records(rows), notify=(notes if notes is not None else []).append)


def make_engine(rows: Sequence[Mapping[str, Any]], target: Mapping[str, str], **how: Any) -> Engine:
    """What answers by ``make_assembly``."""
    return make_assembly(rows, target, **how).engine


def encode_all(
    engine: Engine, rows: Sequence[Mapping[str, Any]], *, with_targets: bool, document: str | None = None
) -> list[Example]:
    found = []
    for group in engine.encoder.documents(as_records(rows, document)):
        found += engine.encoder.encode(group, with_targets=with_targets).examples
    return found


def batch_loss(engine: Engine, batch: Batch) -> torch.Tensor:
    """Of all layers, as in training."""
    outputs = engine.runner.model(batch, last_only=False)
    heads = {target: engine.runner.model.head_of(target) for target in engine.tasks}
    terms = {t: head.loss(outputs[t], batch.targets[t], batch.weights) for t, head in heads.items()}
    return engine.runner.model.total_loss(terms, engine.tasks)


def overfit(
    engine: Engine,
    rows: Sequence[Mapping[str, Any]],
    *,
    steps: int = 60,
    lr: float = 1e-2,
    document: str | None = None,
) -> None:
    """Full-batch training until the rows are known by heart. The heads' own dropout is switched off."""
    torch.manual_seed(0)
    batch = Batch.collate(encode_all(engine, rows, with_targets=True, document=document))
    optimizer = torch.optim.AdamW(engine.runner.model.parameters(), lr=lr)
    engine.runner.model.eval()
    for _ in range(steps):
        optimizer.zero_grad()
        batch_loss(engine, batch).backward()
        optimizer.step()


def answers(engine: Engine, rows: Sequence[Mapping[str, Any]], **options: Any) -> list[RowResult]:
    return list(engine.run(as_records(rows), **options))


def plain_answers(engine: Engine, results: Sequence[RowResult]) -> list[dict[str, Any]]:
    """Predictions as they can be compared: values as JSON."""
    return [
        {t: (json_value(engine.tasks[t], p.value), p.probability, asdict(p.details)) for t, p in r.predictions.items()}
        for r in results
    ]


def metrics(engine: Engine, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    results = answers(engine, rows, with_targets=True)
    return {target: dict(evaluation.metrics) for target, evaluation in evaluate_results(engine, results).items()}


def same_arrays(first: Mapping[str, Mapping[str, np.ndarray]], second: Mapping[str, Mapping[str, np.ndarray]]) -> bool:
    """Equal names, types and bits."""
    if {o: set(a) for o, a in first.items()} != {o: set(a) for o, a in second.items()}:
        return False
    pairs = [(first[o][n], second[o][n]) for o in first for n in first[o]]
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def strict_json(value: Any) -> Any:
    """Through JSON and back; NaN and infinity are no JSON."""
    return json.loads(json.dumps(value, allow_nan=False))
