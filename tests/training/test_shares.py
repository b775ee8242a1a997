"""A row counts the same whichever batch it falls into; several targets are compared without their units."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import Watched

from polydetr import Predictor
from polydetr.data.store import ExampleStore
from polydetr.model.build import Assembly
from polydetr.nn.batch import Batch
from polydetr.training.encode import MeasuredRows
from polydetr.training.objective import total_loss, validate
from polydetr.training.shares import BatchShares
from tiny_models import as_records, encode_all, make_assembly


def rows_of_any_length(count: int = 24) -> list[dict[str, Any]]:
    """Every fourth has no class, every third no number."""
    return [
        {
            "text": " ".join(["fine" if i % 2 else "poor"] * (1 + i % 7)),
            "kind": None if i % 4 == 0 else "ab"[i % 2],
            "stars": None if i % 3 == 0 else float(i),
        }
        for i in range(count)
    ]


@pytest.fixture
def assembly() -> Assembly:
    return make_assembly(rows_of_any_length(), {"kind": "classification", "stars": "regression"}, inputs={"text": None})


def epoch_gradient(assembly: Assembly, store: ExampleStore, batches: list[list[int]], *, shared: bool) -> torch.Tensor:
    model = assembly.model.eval()
    shares = BatchShares({target: model.head_of(target) for target in assembly.engine.tasks}, store)
    model.zero_grad()
    for ids in batches:
        batch = Batch.collate([store[i] for i in ids], ids)
        share = shares.of(batch, mean_examples=len(store) / len(batches)) if shared else None
        total_loss(assembly, model(batch), batch, share=share).backward()
    # The balance of the losses has a term for each step, not for each row.
    found = [p.grad for n, p in model.named_parameters() if p.grad is not None and n != "log_variance"]
    return torch.cat([gradient.flatten() for gradient in found])


def test_the_gradient_of_an_epoch_is_the_same_however_rows_are_batched(assembly: Assembly, tmp_path: Path) -> None:
    store = ExampleStore.write(encode_all(assembly.engine, rows_of_any_length(), with_targets=True), tmp_path / "rows")
    few_and_many = [[0], [1], [2, 3], list(range(4, 24))]
    alike = [list(range(i, 24, 4)) for i in range(4)]
    same = [epoch_gradient(assembly, store, batches, shared=True) for batches in (few_and_many, alike)]
    torch.testing.assert_close(*same, rtol=1e-4, atol=1e-6)
    assert float(same[0].norm()) > 1e-3
    means = [epoch_gradient(assembly, store, batches, shared=False) for batches in (few_and_many, alike)]
    assert float((means[0] - means[1]).norm()) > 0.1 * float(means[0].norm())


def test_shares_are_one_on_average(assembly: Assembly, tmp_path: Path) -> None:
    store = ExampleStore.write(encode_all(assembly.engine, rows_of_any_length(), with_targets=True), tmp_path / "rows")
    shares = BatchShares({target: assembly.model.head_of(target) for target in assembly.engine.tasks}, store)
    batches = [[0, 1, 2], [3], list(range(4, 24))]
    found = [shares.of(Batch.collate([store[i] for i in ids]), mean_examples=8.0) for ids in batches]
    for target in ("kind", "stars"):
        assert sum(float(one[target]) for one in found) / 3 == pytest.approx(1.0)
    assert float(found[1]["stars"]) == 0.0  # row 3 has no number


def test_the_validation_loss_is_a_mean_over_rows_not_over_batches(assembly: Assembly) -> None:
    rows = rows_of_any_length()
    documents = [assembly.engine.encoder.encode(group, with_targets=True) for group in
                 assembly.engine.encoder.documents(as_records(rows))]  # fmt: skip
    measured = MeasuredRows(documents, {})
    losses = set()
    for budget in (8, 4096):
        assembly.runner.batch_tokens = budget
        found = validate(assembly, measured, parts=5)
        losses.add((round(found.loss, 5), *(round(loss, 5) for loss in found.parts)))
    assert len(losses) == 1
    # 24 rows in turn: the fourth part has 5, of which one has no number.
    alone = [validate(assembly, MeasuredRows(documents[part::5], {})).loss for part in range(5)]
    assert found.parts == pytest.approx(alone, rel=1e-4)
    assert len(set(found.parts)) == 5
    assert len(validate(assembly, MeasuredRows(documents[:3], {}), parts=5).parts) == 2  # the first has no label


def test_the_unit_of_a_number_does_not_choose_the_weights() -> None:
    """The same rows in cents and in millions: the same scores beside a class, and none in the unit of the number."""
    found = []
    for unit in (1.0, 1e6):
        rows = [{"x": float(i % 9), "stars": unit * (i % 9), "kind": "ab"[i % 2]} for i in range(60)]
        shown = Watched()
        Predictor.fit(
            rows, ["stars:regression", "kind"], inputs={"x": "number"}, backbone="none", epochs=2, display=shown,
            settings={"model": {"embed_dim": 16, "num_layers": 1}, "training": {"precision": "fp32"}},
        )  # fmt: skip
        found.append([entry["score"] for entry in shown.entries])
    assert found[0] == pytest.approx(found[1], rel=1e-3, abs=1e-3)
    assert all(abs(score) < 50 for score in found[1])
