"""A small model of every task with every modality: the pairs that the README's table calls "yes", with their rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polydetr.config.loading import load_config, merge
from polydetr.inference.model import LoadedModel
from polydetr.model.build import build_model
from polydetr.model.folder import describe_model, save_folder
from polydetr.schema.infer import infer_schema
from tiny_models import SMALL, as_records

WORDS = ("amber", "birch", "cobalt", "dune", "ember")
SIZES = {
    "model": {"embed_dim": 16, "num_layers": 1},
    "text": {"max_tokens": 48, "overlap": 8},
    "image": {"size": 16, "patch_size": 8},
    "history": {"max_items": 4, "item_tokens": 8},
}
TASKS = {
    "text": ("classification", "regression", "tagging", "entities", "qa", "embedding", "generation"),
    "image": ("classification", "regression", "detection", "embedding", "generation"),
    "table": ("classification", "regression", "embedding", "generation"),
    "history": ("classification", "regression", "embedding", "generation"),
}
PAIRS = [(task, modality) for modality, tasks in TASKS.items() for task in tasks]
OF_TASK = {
    "detection": {"num_queries": 6, "hidden_dim": 16, "decoder_layers": 1},
    "entities": {"max_words": 4, "hidden_dim": 16, "decoder_layers": 1},
    "generation": {"image_size": 8, "patch_size": 4},
}


def image(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def sentence(i: int) -> str:
    return " ".join(WORDS[(i + k) % len(WORDS)] for k in range(2 + 2 * i))


def input_of(modality: str, i: int, *, one: bool) -> dict[str, Any]:
    return {
        "text": {"text": sentence(i)},
        "image": {"photo": image(i) if one else [image(i + k) for k in range(1 + (i + 1) % 3)]},
        "table": {"size": float(i), "color": WORDS[i % 2]},
        "history": {"seen": [{"title": WORDS[(i + k) % 5], "price": float(k)} for k in range(1 + (i + 2) % 4)]},
    }[modality]


def label_of(task: str, i: int) -> Any:
    first = len(sentence(i).split()[0])
    return {
        "classification": WORDS[i % 2],
        "regression": float(i),
        "tagging": [(0, first, "WORD")],
        "entities": [(0, first, "WORD"), (0, first + 1 + len(sentence(i).split()[1]), "PAIR")],
        "qa": [{"text": sentence(i).split()[0], "start": 0}],
        "detection": [{"box": [2, 2, 9, 11], "label": WORDS[i % 2]}],
        "embedding": f"a {WORDS[i % 5]} thing",
        "generation": image(i + 50)[:, :, 0],
    }[task]


def rows_of(task: str, modality: str) -> list[dict[str, Any]]:
    question = {"question": "which one?"} if task == "qa" else {}
    return [{**question, **input_of(modality, i, one=task == "detection"), "y": label_of(task, i)} for i in range(1, 9)]


KINDS = {"text": "text", "question": "text", "photo": "image", "size": "number", "color": "category", "seen": "history"}


def save_pair(task: str, modality: str, folder: Path) -> list[dict[str, Any]]:
    """Writes a model of the pair, with random weights, into ``folder``; returns its rows."""
    rows = rows_of(task, modality)
    inputs = {name: KINDS[name] for name in rows[0] if name != "y"}
    save_model(rows, {"y": task}, inputs, {**SIZES, "tasks": {"y": OF_TASK.get(task, {})}}, folder)
    return rows


def save_model(
    rows: Sequence[dict[str, Any]], targets: dict[str, str], inputs: dict[str, str], settings: dict[str, Any],
    folder: Path, *, backbone: Any = "none",
) -> LoadedModel:  # fmt: skip
    """A model folder of random weights; what it has pretrained is kept."""
    config = load_config(merge(SMALL, settings), target=targets, inputs=inputs, backbone=backbone)
    schema = infer_schema(list(rows), targets=config.target, inputs=config.inputs)
    assembly = build_model(config, schema, as_records(rows), notify=lambda message: None)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in assembly.model.named_parameters():
            if backbone == "none" or ".backbone." not in name:  # layers of zeros would hide what is before them
                parameter.add_(0.05 * torch.randn_like(parameter))
    info = describe_model(config, schema, assembly.model)
    save_folder(folder, assembly.engine, assembly.model.state_dict(), {**info, "embed_dim": assembly.model.embed_dim})
    return LoadedModel(assembly.engine, info, folder=folder)


def assert_alike(found: Any, expected: Any, *, within: float = 1e-4, place: str = "") -> None:
    """Equal in all but numbers, which may differ by ``within`` (relative above 1), and pixels, by one level."""
    if dataclasses.is_dataclass(expected) and not isinstance(expected, type):
        found, expected = ({f.name: getattr(x, f.name) for f in dataclasses.fields(x)} for x in (found, expected))
    if isinstance(expected, np.ndarray):
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype), place
        most = 1.0 if expected.dtype == np.uint8 else within * np.maximum(1.0, np.abs(expected))
        assert (np.abs(found.astype(float) - expected.astype(float)) <= most).all(), place
    elif isinstance(expected, Mapping):
        assert list(found) == list(expected), place
        for name in expected:
            assert_alike(found[name], expected[name], within=within, place=f"{place}.{name}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), place
        for i, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_alike(one, other, within=within, place=f"{place}[{i}]")
    elif isinstance(expected, float):
        both_nan = found != found and expected != expected
        assert both_nan or abs(found - expected) <= within * max(1.0, abs(expected)), f"{place}: {found} {expected}"
    else:
        assert found == expected, place
