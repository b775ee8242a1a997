"""A graph of every task with every modality: any batch, any length, the answers of the model itself.

The pairs are those that the README's table calls "yes"; there is none without a graph, and none without ONNX. A graph
is exported from some rows and asked about others. Which pairs passed, and how far the answers lay apart, is printed at
the end. ONNX needs the extra ``export``:

    pytest tests/model/test_export_graphs.py -m "slow or not slow"
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from polydetr.core.graphs import NOISY, TIME
from polydetr.model.graph import GraphModel, PaintingStep
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
OF_TASK = {
    "detection": {"num_queries": 6, "hidden_dim": 16, "decoder_layers": 1},
    "entities": {"max_words": 4, "hidden_dim": 16, "decoder_layers": 1},
    "generation": {"image_size": 8, "patch_size": 4},
}
CLOSE = 1e-4
"""By how much a graph's outputs may differ from the model's."""
LONGEST = {"text": 48, "image": 4, "table": 2, "history": 4}
"""Entries of a row: a window of text, ``max_images``, ``max_items``."""


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


class Pair:
    """A small model of one task and one modality, as a graph module, with the inputs of some of its rows."""

    def __init__(self, task: str, modality: str) -> None:
        self.task, self.modality = task, modality
        self.rows = rows_of(task, modality)
        inputs = {name: KINDS[name] for name in self.rows[0] if name != "y"}
        settings = {**SIZES, "tasks": {"y": OF_TASK.get(task, {})}}
        torch.manual_seed(0)
        assembly = make_assembly(self.rows, {"y": task}, inputs=inputs, settings=settings)
        self.engine, self.model = assembly.engine, assembly.model
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

    @property
    def has_length(self) -> bool:
        """Whether rows differ in length: a table has a token per column, and detection reads one image per row."""
        return self.modality != "table" and self.task != "detection"

    def program(self) -> torch.export.ExportedProgram:
        """The graph of three rows, in which the batch and, where rows have one, the length are dynamic."""
        example = self.inputs(self.rows[:3])
        batch = torch.export.Dim("batch", min=1, max=64)
        sizes = {0: batch}
        if self.has_length:
            sizes[1] = torch.export.Dim(self.modality, min=1, max=LONGEST[self.modality])
        dynamic = {name: {0: batch} if name in (NOISY, TIME) else sizes for name in example}
        with torch.no_grad():
            return torch.export.export(self.module, (example,), dynamic_shapes={"tensors": dynamic})

    def onnx(self, file: Path) -> Any:
        """The same graph in ONNX, run by onnxruntime."""
        onnxruntime = pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
        example = self.inputs(self.rows[:3])
        with torch.no_grad():
            names = list(self.module(example))
        torch.onnx.export(
            self.program(), (), file, input_names=list(example), output_names=names, external_data=False, verbose=False
        )
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        used = {entry.name for entry in session.get_inputs()}

        def run(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
            outputs = session.run(names, {name: t.numpy() for name, t in tensors.items() if name in used})
            return dict(zip(names, outputs, strict=True))

        return run

    @torch.no_grad()
    def largest_difference(self, graph: Any) -> float:
        """Between the outputs of the graph and the module, for rows that the graph was not exported from: fewer and
        more, shorter and longer.
        """
        largest, shapes = 0.0, []
        for rows in (self.rows[3:4] + self.rows[6:7], self.rows, [self.rows[2]], [self.rows[1]]):
            tensors = self.inputs(rows)
            shapes.append(tensors[f"{self.modality}.mask"].shape)
            expected, outputs = self.module(tensors), graph(tensors)
            assert set(outputs) == set(expected)
            for name, tensor in expected.items():
                output = torch.as_tensor(outputs[name])
                torch.testing.assert_close(output, tensor, rtol=CLOSE, atol=CLOSE)
                largest = max(largest, float((output.double() - tensor.double()).abs().max()))
        assert len({batch for batch, *_ in shapes}) == 3
        assert len({length for _, length, *_ in shapes}) > 1 or not self.has_length
        return largest


@pytest.fixture(scope="module")
def passed(request: pytest.FixtureRequest) -> Iterator[dict[str, list[str]]]:
    """Exporter → the pairs that passed, printed after the last of them whether output is captured or not."""
    pairs: dict[str, list[str]] = {}
    yield pairs
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        for exporter, lines in pairs.items():
            title = f"{exporter} passed for {len(lines)} of {len(PAIRS)} pairs (largest difference):"
            print("", title, *lines, sep="\n  ")


def left_to_slow_runs(task: str, modality: str) -> bool:
    """Where head and embedder are both exported by other pairs; a regression has the head of a classification."""
    return task == "regression" or (task == "embedding" and modality != "text")


QUICK = [
    pytest.param(*pair, marks=[pytest.mark.slow] if left_to_slow_runs(*pair) else [], id="-".join(pair))
    for pair in PAIRS
]


@pytest.mark.parametrize(("task", "modality"), QUICK)
def test_a_graph_answers_as_the_model(task: str, modality: str, passed: dict[str, list[str]]) -> None:
    pair = Pair(task, modality)
    difference = pair.largest_difference(pair.program().module())
    passed.setdefault("torch.export", []).append(f"{task} × {modality} ({difference:.1e})")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("task", "modality"), PAIRS)
def test_so_does_its_onnx(task: str, modality: str, tmp_path: Path, passed: dict[str, list[str]]) -> None:
    pair = Pair(task, modality)
    difference = pair.largest_difference(pair.onnx(tmp_path / "model.onnx"))
    passed.setdefault("torch.onnx.export", []).append(f"{task} × {modality} ({difference:.1e})")
