"""Nothing is finished by others: modalities, tasks and embedders are whole when they are built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from embedder_cases import WORDS, item, picture
from polydetr import embedders
from polydetr.config.loading import load_config, merge
from polydetr.engine.engine import Engine
from polydetr.modalities.base import Modality
from polydetr.model.build import build_modalities, build_tasks
from polydetr.model.model import PolyModel
from polydetr.model.runner import TorchRunner
from polydetr.schema.infer import infer_schema
from polydetr.tasks.base import Task
from tiny_models import SMALL, as_records, encode_all

BOXES = [{"label": WORDS[0], "box": [2, 2, 12, 14]}]
ROWS = [
    {"note": WORDS[i % 6], "n": i, "photo": picture(i), "seen": [item(i)], "boxes": BOXES, "kind": str(i % 2)}
    for i in range(8)
]
INPUTS = {"note": "text", "n": "number", "photo": "image", "seen": "history"}


def walked(value: Any, seen: dict[int, Any]) -> Any:
    """Everything that hangs on a modality, task or embedder; caches, which only answer sooner, are left out."""
    if id(value) in seen:
        return "seen"
    if isinstance(value, torch.Tensor):
        return "tensor", tuple(value.shape)
    if isinstance(value, Modality | Task | nn.Module) or type(value).__name__ == "TextTokens":
        seen[id(value)] = value
        return {name: walked(v, seen) for name, v in vars(value).items() if name not in ("_read", "_words", "_packed")}
    if isinstance(value, Mapping):
        return {str(key): walked(v, seen) for key, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return type(value).__name__, [walked(v, seen) for v in value]
    return repr(value) if isinstance(value, str | int | float | None | bool) else (type(value).__name__, id(value))


@pytest.mark.parametrize("targets", [{"kind": "classification"}, {"kind": "classification", "boxes": "detection"}])
def test_assembling_a_model_changes_no_part_of_it(targets: dict[str, str]) -> None:
    settings = {"image": {"size": 64, "patch_size": 16}, "history": {"max_items": 2}}
    config = load_config(merge(SMALL, settings), target=targets, inputs=INPUTS, backbone="none")
    schema, records = infer_schema(ROWS, targets=config.target, inputs=config.inputs), as_records(ROWS)
    tasks = build_tasks(config, schema, records, notify=lambda _: None)
    parts = build_modalities(config, schema, ROWS, tasks, notify=lambda _: None)
    before = {name: walked(part, {}) for name, part in (*parts.items(), *tasks.items())}
    alone: dict[str, nn.Module] = {}
    for name, part in parts.items():
        alone[name] = embedders.build(part, embed_dim=32, others=alone)
    built = {name: walked(embedder, {}).keys() for name, embedder in alone.items()}
    model = PolyModel(parts, tasks, config.model)
    model.load_pretrained(parts)
    engine = Engine.of(parts, tasks, TorchRunner(model.eval()), context=False)
    encode_all(engine, ROWS, with_targets=True)
    list(engine.run(records))
    assert {name: walked(part, {}) for name, part in (*parts.items(), *tasks.items())} == before
    assert {name: walked(embedder, {}).keys() for name, embedder in model.embedders.items()} == built
