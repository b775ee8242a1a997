"""A graph of every task with every modality: any batch, any length, the answers of the model itself.

The pairs are those that the README's table calls "yes". A graph is recorded from some rows and asked for others.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from polydetr.model.graph import NOISY, TIME, GraphModel, PaintingStep, tensors_of
from polydetr.nn.batch import Batch
from tiny_models import encode_all, make_assembly

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
FAILING: dict[tuple[str, str], str] = {}
"""Pairs without a graph, each with the reason."""
WITHOUT_ONNX = {**FAILING, ("entities", "text"): "ONNX knows no aten.sort.stable, by which spans are ranked"}
"""Pairs whose graph does not become ONNX."""


def pairs(failing: Mapping[tuple[str, str], str]) -> list[Any]:
    """All pairs; those that are known to fail must fail."""
    marks = {pair: [pytest.mark.xfail(strict=True, reason=reason)] for pair, reason in failing.items()}
    return [pytest.param(*pair, marks=marks.get(pair, []), id="-".join(pair)) for pair in PAIRS]


LONGEST = {"text": 48, "image": 4, "table": 2, "history": 4}
"""Entries of a row: a window of text, ``max_images``, ``max_items``."""


def image(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def sentence(i: int) -> str:
    return " ".join(WORDS[(i + k) % len(WORDS)] for k in range(3 + i % 4))


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
    asked = {"question": "which one?"} if task == "qa" else {}
    return [{**asked, **input_of(modality, i, one=task == "detection"), "y": label_of(task, i)} for i in range(1, 9)]


KINDS = {"text": "text", "question": "text", "photo": "image", "size": "number", "color": "category", "seen": "history"}


class Pair:
    """A small model of one task and one modality, as a graph module, with the inputs of some of its rows."""

    def __init__(self, task: str, modality: str) -> None:
        self.task, self.modality = task, modality
        self.rows = rows_of(task, modality)
        inputs = {name: KINDS[name] for name in self.rows[0] if name != "y"}
        of_task = {
            "detection": {"num_queries": 6, "hidden_dim": 16, "decoder_layers": 1},
            "generation": {"image_size": 8, "patch_size": 4},
        }.get(task, {})
        torch.manual_seed(0)
        made = make_assembly(self.rows, {"y": task}, inputs=inputs, settings={**SIZES, "tasks": {"y": of_task}})
        self.engine, self.model = made.engine, made.model
        with torch.no_grad():
            for parameter in self.model.parameters():  # layers that begin with zeros would hide what is before them
                parameter.add_(0.05 * torch.randn_like(parameter))
        self.model.eval()
        self.paints = task == "generation"
        self.module: nn.Module = PaintingStep(self.model, "y") if self.paints else GraphModel(self.model, ["y"])

    def inputs(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        batch = Batch.collate(encode_all(self.engine, rows, with_targets=False))
        tensors = tensors_of(batch)
        if self.paints:
            generator = torch.Generator().manual_seed(len(rows))
            tensors[NOISY] = torch.randn(len(rows), 1, 8, 8, generator=generator)
            tensors[TIME] = torch.rand(len(rows), generator=generator)
        return tensors

    def dynamic(self, tensors: dict[str, Tensor]) -> dict[str, dict[int, Any]]:
        """Batch and length of every tensor. Tables have a token per column and detection reads one image per row: of
        these the batch alone.
        """
        batch = torch.export.Dim("batch", min=1, max=64)
        length = torch.export.Dim(self.modality, min=1, max=LONGEST[self.modality])
        fixed = self.modality == "table" or self.task == "detection"
        return {name: {0: batch} if fixed or name in (NOISY, TIME) else {0: batch, 1: length} for name in tensors}


def others(pair: Pair) -> list[list[dict[str, Any]]]:
    """Rows that the graph was not recorded from: fewer and more, shorter and longer."""
    return [pair.rows[3:4] + pair.rows[6:7], pair.rows, [pair.rows[2]]]


def agree(pair: Pair, graph: Any) -> None:
    sizes = set()
    for rows in others(pair):
        given = pair.inputs(rows)
        sizes.add(tuple(given[f"{pair.modality}.mask"].shape))
        with torch.no_grad():
            expected, found = pair.module(given), graph(given)
        assert set(found) == set(expected)
        for name, tensor in expected.items():
            torch.testing.assert_close(torch.as_tensor(found[name]), tensor, rtol=1e-4, atol=1e-4)
    assert len(sizes) > 1


def graph_of(pair: Pair) -> Any:
    given = pair.inputs(pair.rows[:3])
    with torch.no_grad():
        return torch.export.export(pair.module, (given,), dynamic_shapes={"tensors": pair.dynamic(given)}).module()


def onnx_of(pair: Pair, file: Path) -> Any:
    """The same in ONNX, asked through onnxruntime."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    given = pair.inputs(pair.rows[:3])
    with torch.no_grad():
        names = list(pair.module(given))
        torch.onnx.export(
            pair.module, (), file, kwargs={"tensors": given}, dynamic_shapes={"tensors": pair.dynamic(given)},
            dynamo=True, input_names=list(given), output_names=names, external_data=False, verbose=False,
        )  # fmt: skip
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    read = {entry.name for entry in session.get_inputs()}

    def ask(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
        found = session.run(names, {name: t.numpy() for name, t in tensors.items() if name in read})
        return dict(zip(names, found, strict=True))

    return ask


@pytest.mark.parametrize(("task", "modality"), pairs(FAILING))
def test_a_graph_answers_as_the_model(task: str, modality: str) -> None:
    pair = Pair(task, modality)
    agree(pair, graph_of(pair))
    print(f"a graph: {task} of {modality}")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("task", "modality"), pairs(WITHOUT_ONNX))
def test_so_does_its_onnx(task: str, modality: str, tmp_path: Path) -> None:
    pair = Pair(task, modality)
    agree(pair, onnx_of(pair, tmp_path / "model.onnx"))
    print(f"ONNX: {task} of {modality}")
