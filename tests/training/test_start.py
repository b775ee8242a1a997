"""A run begins with the additive model of its table, the best one, which only something better replaces."""

from __future__ import annotations

import copy
import inspect
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import Watched

from polydetr import Predictor
from polydetr.data.store import ExampleStore
from polydetr.errors import Interrupted
from polydetr.model.build import Assembly
from polydetr.nn.batch import Batch
from polydetr.training import additive, loop, start
from polydetr.training.start import start_from_tables
from tiny_models import encode_all, make_assembly

SETTINGS: dict[str, Any] = {
    "model": {"embed_dim": 16, "num_layers": 1, "num_heads": 2},
    "training": {"precision": "fp32", "batch_tokens": 64, "patience": 0},
}


def rows(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """A number that is a curve of x, plus a level for each color, plus noise; and whether that is much."""
    rng = np.random.default_rng(seed)
    found = []
    for x, y in rng.normal(size=(count, 2)):
        color = ["red", "green", "blue"][rng.integers(3)]
        value = 3 * min(x, 0) + {"red": 2.0, "green": 0.0, "blue": -2.0}[color] + 0.3 * rng.normal()
        missing = rng.random() < 0.1
        found.append({"x": x, "y": None if missing else y, "color": color, "value": value, "much": str(value > 0)})
    return found


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Assembly, ExampleStore, dict[str, float]]:
    assembly = make_assembly(
        rows(200), {"value": "regression", "much": "classification"},
        inputs={"x": "number", "y": "number", "color": "category"}, settings={"model": {"pair_factors": 0}},
    )  # fmt: skip
    store = ExampleStore.write(
        encode_all(assembly.engine, rows(200), with_targets=True), tmp_path_factory.mktemp("start") / "rows"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(additive, "FOLDS", 2)  # λ may be any, and its search takes the longest
        return assembly, store, start_from_tables(assembly, store, seed=0)


@pytest.fixture
def begun(fitted: tuple[Assembly, ExampleStore, dict[str, float]]) -> tuple[Assembly, ExampleStore, dict[str, float]]:
    """A copy for each test: some fit it anew."""
    assembly, store, strengths = fitted
    return copy.deepcopy(assembly), store, strengths


@pytest.fixture
def few_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer strengths and shorter searches than there are, for tests that do not ask which model is the best."""
    monkeypatch.setattr(additive, "STRENGTHS", (30.0, 3.0, 0.3))
    monkeypatch.setattr(additive, "PAIR_STRENGTHS", (1.0,))
    monkeypatch.setattr(additive, "ITERATIONS", 20)
    monkeypatch.setattr(additive, "FOLDS", 2)


def test_it_is_the_minimum_of_the_penalized_loss(begun: tuple[Assembly, ExampleStore, dict[str, float]]) -> None:
    assembly, store, strengths = begun
    model, batch = assembly.model, Batch.collate([store[i] for i in range(len(store))])
    assert strengths.keys() == {"value", "much"}
    for target, strength in strengths.items():
        head, (embedder, sums) = model.head_of(target), model.adder_of(target)
        logits = sums.total(sums(embedder.cells_of(batch.groups["table"])))  # no cell is padding here
        loss = sum(head.loss({"logits": logits}, batch.targets[target], batch.weights).values())
        penalty = sum(p.square().sum() for p in sums.parameters() if p is not sums.bias) * strength / (2 * len(store))
        slopes = torch.autograd.grad(loss + penalty, list(sums.parameters()), retain_graph=True)
        (pull,) = torch.autograd.grad(penalty, [sums.curves.weight])
        assert max(float(s.abs().max()) for s in slopes) < 0.2 * float(pull.abs().max()), target


def test_levels_and_their_gradient_are_those_of_an_embedding() -> None:
    random = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 6, (3, 40), generator=random)  # 0: none
    table, slope = torch.randn(6, 4, generator=random), torch.randn(3, 4, 40, generator=random)
    table[0] = 0.0
    ours, theirs = (table.clone().requires_grad_() for _ in range(2))
    found = additive._Levels(codes, 6).of(ours)
    expected = torch.nn.functional.embedding(codes, theirs, padding_idx=0).transpose(1, 2)
    assert torch.equal(found, expected)
    found.backward(slope)
    expected.backward(slope)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_what_it_answers_is_that_model_and_the_random_network_adds_nothing(
    begun: tuple[Assembly, ExampleStore, dict[str, float]],
) -> None:
    assembly, _, _ = begun
    new = rows(300, seed=1)
    results = list(assembly.engine.answered(encoded(assembly, new)))
    predicted = np.array([result.predictions["value"].value for result in results])
    truth = np.array([row["value"] for row in new])
    assert 1 - np.square(truth - predicted).sum() / np.square(truth - truth.mean()).sum() > 0.93
    right = [result.predictions["much"].value == row["much"] for result, row in zip(results, new, strict=True)]
    assert np.mean(right) > 0.85


def encoded(assembly: Assembly, some: list[dict[str, Any]]) -> list[Any]:
    from tiny_models import as_records

    encoder = assembly.engine.encoder
    return [encoder.encode(group, with_targets=False) for group in encoder.documents(as_records(some))]


def test_cells_act_in_pairs_where_that_answers_other_rows_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A product, and a level of one category that another one scales, are no sum of curves and levels."""

    def made(count: int, *, seed: int, paired: bool) -> list[dict[str, Any]]:
        rng = np.random.default_rng(seed)
        found = []
        for a, b, noise in rng.normal(size=(count, 3)):
            port, kind = rng.integers(4), rng.integers(2)
            value = a * b + (port - 1.5) * (1.0 if kind else -1.0) if paired else a + b + port
            found.append({"a": a, "b": b, "port": f"p{port}", "kind": f"k{kind}", "value": value + 0.2 * noise})
        return found

    for paired in (True, False):
        train, new = made(400, seed=0, paired=paired), made(400, seed=1, paired=paired)
        assembly = make_assembly(train, {"value": "regression"})
        store = ExampleStore.write(encode_all(assembly.engine, train, with_targets=True), tmp_path / str(paired))
        with monkeypatch.context() as patch:
            if paired:  # what is no sum is seen by fewer ways, too; that pairs help nothing takes all of them
                patch.setattr(additive, "STRENGTHS", (10.0, 1.0))
                patch.setattr(additive, "ITERATIONS", 40)
                patch.setattr(additive, "FOLDS", 3)
            start_from_tables(assembly, store, seed=0)
        results = assembly.engine.answered(encoded(assembly, new))
        answers = np.array([result.predictions["value"].value for result in results])
        truth = np.array([row["value"] for row in new])
        assert 1 - np.square(truth - answers).mean() / truth.var() > 0.9
        mix = assembly.model.adder_of("value")[1].mix
        assert mix is not None
        assert bool(mix.any()) == paired


def test_pairs_wait_where_the_time_is_over_and_their_search_looks_at_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assembly = make_assembly(rows(200), {"value": "regression"})
    store = ExampleStore.write(encode_all(assembly.engine, rows(200), with_targets=True), tmp_path / "rows")
    start_from_tables(assembly, store, seed=0, seconds=0.0)
    mix = assembly.model.adder_of("value")[1].mix
    assert mix is not None
    assert not mix.any()
    looks: list[float] = []
    monkeypatch.setattr(additive, "time", SimpleNamespace(monotonic=lambda: looks.append(0.0) or float(len(looks))))
    fitted = start._rows_of(assembly, "value", store, range(200))
    fitted.minimum(fitted.zero.with_factors(2, seed=0), 1.0, until=3.5)
    assert len(looks) == 4 < additive.IN_PARTS


def test_noise_is_answered_by_the_mean(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = [{**{f"x{i}": rng.normal() for i in range(8)}, "value": rng.normal()} for _ in range(60)]
    assembly = make_assembly(noise, {"value": "regression"}, settings={"model": {"pair_factors": 0}})
    store = ExampleStore.write(encode_all(assembly.engine, noise, with_targets=True), tmp_path / "rows")
    assert start_from_tables(assembly, store, seed=0)["value"] >= 100.0


@pytest.mark.usefixtures("few_ways")
def test_a_wide_table_is_fitted_from_fewer_rows(
    begun: tuple[Assembly, ExampleStore, dict[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assembly, store, _ = begun
    seen: list[int] = []
    batch = start._batch

    def watched(store: ExampleStore, some: Any, group: str) -> Batch:
        seen.append(len(some))
        return batch(store, some, group)

    monkeypatch.setattr(start, "_batch", watched)
    sums = assembly.model.adder_of("value")[1]
    monkeypatch.setattr(start, "MOST_NUMBERS", 50 * sums.num_designed * sums.lines.num_embeddings)
    start_from_tables(assembly, store, seed=0)
    assert seen == [50, 50]


@pytest.mark.usefixtures("few_ways")
def test_the_start_is_measured_and_kept_where_nothing_beats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Watched()
    measured = [(0.8, 0.4), (0.9, 0.5), (0.7, 0.3)]  # better in one of the two alone
    calls = iter(measured)

    def validate(*_: Any, parts: int) -> loop.ValidScore:
        score, loss = next(calls)
        return loop.ValidScore(score, loss, {}, [loss] * parts)

    monkeypatch.setattr(loop, "validate", validate)
    predictor = Predictor.fit(
        rows(60), "value", valid=rows(20, seed=1), inputs=["x", "color"], epochs=2, settings=SETTINGS, display=shown
    )
    assert shown.entries[0]["step"] == 0
    assert np.isfinite(shown.entries[0]["train_loss"])
    assert predictor.info["training"]["best_step"] == 0
    assert any("begins with an additive model of the table" in note for note in shown.notes)


@pytest.mark.usefixtures("few_ways")
def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    how: dict[str, Any] = {
        "target": "value", "valid": rows(20, seed=1), "inputs": ["x", "y", "color"], "epochs": 2, "settings": SETTINGS
    }  # fmt: skip

    def stop(info: Any) -> None:
        if info.step == 5:
            os.kill(os.getpid(), signal.SIGINT)

    Predictor.fit(rows(60), out=tmp_path / "whole", display=Watched(), **how)
    with pytest.raises(Interrupted):
        Predictor.fit(rows(60), out=tmp_path / "again", display=Watched(stop), **how)
    Predictor.fit(rows(60), out=tmp_path / "again", display=Watched(), resume=True, **how)
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "again"))
    assert one == other


@pytest.mark.usefixtures("few_ways")
def test_explanations_count_the_sums_and_stay_complete() -> None:
    predictor = Predictor.fit(
        rows(120), "value", valid=rows(20, seed=1), inputs=["x", "y", "color"], epochs=1, settings=SETTINGS,
        display=Watched(),
    )  # fmt: skip
    found = predictor.explain({"x": -2.0, "y": 0.1, "color": "red"})
    assert found.is_complete
    scores = {column.column: abs(column.score) for column in found.columns}
    assert scores["x"] > scores["y"]
    assert scores["color"] > scores["y"]


def test_without_it_the_network_is_what_it_was() -> None:
    settings = {**SETTINGS, "model": {**SETTINGS["model"], "additive": False}}
    shown = Watched()
    Predictor.fit(
        rows(60), "value", valid=rows(20, seed=1), inputs=["x", "color"], epochs=1, settings=settings, display=shown
    )
    assert shown.entries[0]["step"] > 0
    assert not any("additive" in note for note in shown.notes)


def test_when_its_seconds_are_over_no_further_way_is_tried_and_all_rows_are_fitted(
    begun: tuple[Assembly, ExampleStore, dict[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assembly, store, _ = begun
    now, fits = 0.0, list[float]()
    minimum = additive.DesignedRows.minimum

    def timed(rows: Any, weights: Any, strength: float) -> Any:
        nonlocal now
        now += 1.0
        fits.append(strength)
        return minimum(rows, weights, strength)

    monkeypatch.setattr(additive, "ITERATIONS", additive.IN_PARTS)  # what is counted are searches, however short
    monkeypatch.setattr(additive.DesignedRows, "minimum", timed)
    for module in (start, additive):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    chosen = start_from_tables(assembly, store, seed=0)
    whole = len(fits)
    assert start_from_tables(assembly, store, seed=0) == chosen
    fits.clear()
    found = start_from_tables(assembly, store, seed=0, seconds=8.0)
    assert len(fits) < whole / 4
    assert set(found) == set(chosen)
    fits.clear()
    start_from_tables(assembly, store, seed=0, seconds=0.0)
    assert len(fits) == (len(additive.IN_TIME) + 1) * len(chosen)  # one part of the rows left out, then all rows
    sums = assembly.model.adder_of("value")[1]
    assert bool(sums.curves.weight.any())


@pytest.mark.usefixtures("few_ways")
def test_a_start_is_fitted_on_the_cells_of_more_rows_than_were_read_whole(
    begun: tuple[Assembly, ExampleStore, dict[str, float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiny_models import as_records

    assembly, _, _ = begun
    some, more = rows(20), [*rows(400, seed=2), {"x": "no number", "y": 1.0, "color": "red", "value": 1.0, "much": "a"}]
    store = ExampleStore.write(encode_all(assembly.engine, some, with_targets=True), tmp_path / "few")
    cells = start.cells_in_time(assembly, as_records(more), seconds=100.0, seed=0)
    assert len(cells) >= 400
    new = rows(300, seed=1)
    truth = np.array([row["value"] for row in new])

    def error() -> float:
        results = list(assembly.engine.answered(encoded(assembly, new)))
        return float(np.square(truth - [result.predictions["value"].value for result in results]).mean())

    start_from_tables(assembly, store, seed=0)
    of_few = error()
    start_from_tables(assembly, store, seed=0, cells=cells)
    assert error() < 0.7 * of_few
    now = iter(range(1000))
    monkeypatch.setattr(start, "time", SimpleNamespace(monotonic=lambda: float(next(now))))
    assert 3 <= len(start.cells_in_time(assembly, as_records(more), seconds=5.0, seed=0)) <= 6


def test_no_compiler_is_imported_for_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(inspect.unwrap(torch.optim.LBFGS.add_param_group), "__dynamo_disable", raising=False)
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)  # the next import of it fails
    with pytest.raises(ImportError):
        torch.optim.LBFGS([torch.zeros(1)])
    additive._Search([torch.zeros(1)])
