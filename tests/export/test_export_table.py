"""Every task with every modality, exported and asked beside PyTorch: rows are encoded to the same bits, the same
code decodes, the answers are equal and the scores within 1e-4.

A graph is recorded with sizes that no row has, and compared on rows made at random while it is exported; the rows here
are fewer and more, shorter and longer. Which pairs passed, and how far the scores lay apart, is printed at the end:

    pytest tests/export/test_export_table.py -m "slow or not slow"
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polydetr import Predictor
from polydetr.core.examples import Example
from polydetr.core.runner import Outputs, Runner
from polydetr.inference.model import LoadedModel
from polydetr.runtime.runner import OnnxRunner
from task_pairs import PAIRS, assert_alike, save_pair
from tiny_models import as_records, same_arrays

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
CLOSE = 1e-4
QUICK = {("embedding", "table"), ("classification", "image"), ("classification", "history")}
"""Among them every modality but texts, which test_export.py has, and a graph of a second side."""


class Recorder:
    """Keeps what a runner is given and what it says."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.examples: list[Example] = []
        self.outputs: list[Outputs] = []

    def run(
        self, examples: Sequence[Example], targets: Sequence[str], *, seed: int, numbers: Sequence[int]
    ) -> list[Outputs]:
        found = self.runner.run(examples, targets, seed=seed, numbers=numbers)
        self.examples += examples
        self.outputs += found
        return found


@pytest.fixture(scope="module")
def passed(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    lines: list[str] = []
    yield lines
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("", f"{len(lines)} of {len(PAIRS)} pairs exported (largest difference):", *lines, sep="\n  ")


def marked(pair: tuple[str, str]) -> Any:
    return pytest.param(*pair, marks=[] if pair in QUICK else [pytest.mark.slow], id="-".join(pair))


@pytest.mark.parametrize(("task", "modality"), [marked(pair) for pair in PAIRS])
def test_an_exported_pair_answers_as_the_model(
    task: str, modality: str, tmp_path: Path, passed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # batches side by side, also where there is one core
    rows = save_pair(task, modality, tmp_path / "model")
    torch_model = Predictor.load(tmp_path / "model", precision="fp32")
    exported = torch_model.export(tmp_path / "exported")
    onnx_model = LoadedModel.load(tmp_path / "exported")
    assert isinstance(onnx_model._engine.runner, OnnxRunner)
    check_examples_and_decoding(torch_model, onnx_model, rows)
    onnx_model._engine.runner.batch_tokens = 64  # so that several batches run side by side
    for few in (rows, rows[2:3], rows[5:6], [rows[6], rows[0], rows[3]]):
        assert_alike(onnx_model.predictions(few), torch_model.predictions(few), within=CLOSE)
    assert_alike(onnx_model.evaluate(rows), torch_model.evaluate(rows), within=CLOSE)
    if task == "embedding":
        sides = [model.embed(rows, side="target") for model in (torch_model, onnx_model)]
        np.testing.assert_allclose(*sides, atol=CLOSE)
    assert exported.rows_are == "random"
    assert exported.rows > 20
    assert exported.largest_difference <= CLOSE
    passed.append(f"{task} × {modality} ({exported.largest_difference:.1e})")


def check_examples_and_decoding(torch_model: LoadedModel, onnx_model: LoadedModel, rows: list[dict[str, Any]]) -> None:
    """Bit by bit: what both runners are given, and what both engines decode from the same outputs."""
    records = as_records(rows)
    recorders = [Recorder(model._engine.runner) for model in (torch_model, onnx_model)]
    for measured in (False, True):
        for model, recorder in zip((torch_model, onnx_model), recorders, strict=True):
            list(model._engine.with_runner(recorder).run(records, with_targets=measured))
    ours, theirs = (recorder.examples for recorder in recorders)
    assert len(ours) == len(theirs) >= 2 * len(rows)
    for a, b in zip(ours, theirs, strict=True):
        assert same_arrays(a.groups, b.groups)
        assert same_arrays(a.targets, b.targets)
        assert same_arrays(a.positives, b.positives)
        assert (a.num_tokens, a.weight, a.padding) == (b.num_tokens, b.weight, b.padding)
    decoded = []
    for model in (torch_model, onnx_model):
        documents = list(model._engine.encode(records))
        windows = iter(recorders[0].outputs)
        outputs = [[next(windows) for _ in document.examples] for document in documents]  # type: ignore[union-attr]
        decoded.append([result.predictions for result in model._engine.answers(documents, outputs)])  # type: ignore[arg-type]
    assert_alike(decoded[1], decoded[0], within=0.0)
