"""What the loop keeps and when it ends: the fp32 masters, the lower loss of equal scores, a table's start."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import Watched, train

from polydetr.errors import Interrupted
from polydetr.model.build import Assembly
from polydetr.training import loop
from polydetr.training.callbacks import StepInfo
from polydetr.training.checkpoint import MOST_LOSSES, Progress
from polydetr.training.encode import MeasuredRows
from polydetr.training.objective import surely_less
from polydetr.training.optimizer import MasterAdamW


def test_a_run_in_bf16_saves_the_float32_masters_not_the_rounded_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    masters: dict[str, torch.Tensor] = {}
    step = MasterAdamW.step

    def watched(self: MasterAdamW) -> None:
        step(self)
        for name, tensor in self.state_tensors().items():
            if name.startswith("master/"):
                masters[name.removeprefix("master/")] = tensor.clone()

    monkeypatch.setattr(MasterAdamW, "step", watched)
    # One evaluation, after the last step: what it saves as the best are the masters of that step.
    train(tmp_path / "out", epochs=1, settings={"training": {"precision": "bf16", "evaluations_per_epoch": 1}})
    saved = load_file(tmp_path / "out" / "model.safetensors")
    assert masters.keys() == saved.keys()
    for name, master in masters.items():
        assert torch.equal(saved[name], master), name
    rounded = [name for name, master in masters.items() if torch.equal(master, master.bfloat16().float())]
    assert len(rounded) < len(masters) / 2, "the masters were to hold more than bfloat16 can"


def test_where_the_weights_are_averaged_their_mean_is_what_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    means: dict[str, torch.Tensor] = {}
    last: dict[str, torch.Tensor] = {}
    step = MasterAdamW.step

    def watched(self: MasterAdamW) -> None:
        step(self)
        for group in self.param_groups:
            last.update({n: p.detach().float() for n, p in zip(group["names"], group["params"], strict=True)})
        for name, tensor in self.state_tensors().items():
            if name.startswith("ema/"):
                means[name.removeprefix("ema/")] = tensor.clone()

    monkeypatch.setattr(MasterAdamW, "step", watched)
    training = {"precision": "bf16", "ema_decay": 0.9, "evaluations_per_epoch": 1}
    train(tmp_path / "out", epochs=1, settings={"training": training})
    saved = load_file(tmp_path / "out" / "model.safetensors")
    assert means.keys() == last.keys() == saved.keys()
    for name, mean in means.items():
        assert torch.equal(saved[name], mean), name
        assert not torch.equal(mean, last[name]), name


def test_of_equal_scores_the_lower_loss_is_the_better_model(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = [(0.5, 0.9), (0.8, 0.6), (0.8, 0.3), (0.8, 0.4), (0.8, 0.3), *[(0.7, 0.1)] * 9]
    seen: list[dict[str, torch.Tensor]] = []

    def validate(assembly: Assembly, rows: MeasuredRows, *, parts: int) -> loop.ValidScore:
        seen.append({name: tensor.detach().clone() for name, tensor in assembly.model.state_dict().items()})
        score, loss = measured[len(seen) - 1]
        return loop.ValidScore(score, loss, {})

    monkeypatch.setattr(loop, "validate", validate)
    shown = Watched()
    settings = {"training": {"patience": 3, "precision": "fp32", "evaluations_per_epoch": 1}}
    found = train(display=shown, epochs=20, settings=settings)
    assert found.info["training"]["best_step"] == shown.entries[2]["step"]
    assert len(seen) == 6  # three more than the best: patience counts from there
    for name, tensor in found._engine.runner.model.state_dict().items():
        assert torch.equal(tensor, seen[2][name]), name


def test_losses_of_a_long_run_are_means_and_a_resumed_run_records_the_same() -> None:
    losses = np.random.default_rng(0).random(9001).tolist()
    whole, first = Progress(), Progress()
    for loss in losses:
        whole.add_loss(loss)
    for loss in losses[:4321]:
        first.add_loss(loss)
    second = Progress(**json.loads(json.dumps(asdict(first))))
    for loss in losses[4321:]:
        second.add_loss(loss)
    assert asdict(second) == asdict(whole)
    assert len(whole.losses) <= MOST_LOSSES
    assert whole.steps_per_loss == 8
    means = np.array(losses[: 8 * len(whole.losses)]).reshape(-1, 8).mean(1)
    assert whole.losses == pytest.approx(means.tolist())


NOTHING = float("nan")
TABLE = [{"size": float(i * 37 % 60), "label": "ab"[i * 37 % 60 > 25]} for i in range(60)]
"""Whose start stands where nothing beats it."""


@pytest.mark.parametrize(
    ("measured", "best"),
    [
        ([(NOTHING, 0.9), (NOTHING, 0.3), (NOTHING, 0.5)], 1),  # images without an object have no score: the loss
        ([(NOTHING, 0.9), (0.1, 0.8), (NOTHING, 0.3)], 1),
        ([(NOTHING, NOTHING), (NOTHING, 0.9), (NOTHING, 0.95)], 1),
    ],
)
@pytest.mark.parametrize("of_a_table", [False, True])
def test_a_score_that_is_no_number_leaves_the_choice_to_the_loss(
    monkeypatch: pytest.MonkeyPatch, measured: list[tuple[float, float]], best: int, of_a_table: bool
) -> None:
    scores = iter([*measured, *[(NOTHING, 0.99)] * 9])

    def validate(assembly: Assembly, rows: MeasuredRows, *, parts: int) -> loop.ValidScore:
        score, loss = next(scores)
        return loop.ValidScore(score, loss, {}, [loss] * parts)

    monkeypatch.setattr(loop, "validate", validate)
    shown = Watched()
    rows = {"train": TABLE[20:], "valid": TABLE[:20]} if of_a_table else {}
    settings = {"training": {"precision": "fp32", "evaluations_per_epoch": 1}}
    found = train(display=shown, epochs=4, settings=settings, **rows)
    assert found.info["training"]["best_step"] == shown.entries[best]["step"]
    assert len([note for note in shown.notes if "the lowest loss" in note]) == 1


@pytest.mark.parametrize(
    ("losses", "score", "best"),
    [
        ([0.1, 0.66], 0.5, 0),  # in one half of the rows far better, in the other worse
        ([0.37, 0.39], 0.5, 1),
        ([0.37, 0.39], 0.49, 0),
    ],
)
@pytest.mark.parametrize("resumed", [False, True])
def test_beside_a_text_the_start_of_a_table_gives_way_to_what_is_better_beyond_luck(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, losses: list[float], score: float, best: int, resumed: bool
) -> None:
    measured = iter([(0.5, [0.4, 0.4]), (score, losses), *[(0.4, [0.9, 0.9])] * 99])

    def validate(assembly: Assembly, rows: MeasuredRows, *, parts: int) -> loop.ValidScore:
        score, (even, odd) = next(measured)
        return loop.ValidScore(score, (even + odd) / 2, {}, [even, odd] * (parts // 2))

    def at_step(info: StepInfo) -> None:
        if resumed and info.step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(loop, "validate", validate)
    shown = Watched(at_step)
    settings = {"training": {"precision": "fp32", "evaluations_per_epoch": 1}}
    rows = [{**row, "note": f"number {i}"} for i, row in enumerate(TABLE)]
    run = partial(train, tmp_path / "out", epochs=2, settings=settings, train=rows[20:], valid=rows[:20])
    if resumed:
        with pytest.raises(Interrupted):
            run(display=shown)
    found = run(display=shown, resume=resumed)
    assert found.info["training"]["best_step"] == shown.entries[best]["step"]


def test_the_start_of_a_table_alone_gives_way_to_what_is_worse_in_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = iter([(0.5, 0.4), (0.5, 0.39), *[(0.4, 0.9)] * 99])
    asked: list[int] = []

    def validate(assembly: Assembly, rows: MeasuredRows, *, parts: int) -> loop.ValidScore:
        asked.append(parts)
        return loop.ValidScore(*next(measured), {})

    monkeypatch.setattr(loop, "validate", validate)
    shown = Watched()
    settings = {"training": {"precision": "fp32", "evaluations_per_epoch": 1}}
    found = train(display=shown, epochs=2, settings=settings, train=TABLE[20:], valid=TABLE[:20])
    assert found.info["training"]["best_step"] == shown.entries[1]["step"]
    assert set(asked) == {0}


def test_a_target_without_a_start_has_no_start_to_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its loss may be one of a whole batch, as that of an embedding is, which parts of the rows do not have."""
    real, asked = loop.validate, list[int]()

    def validate(assembly: Assembly, rows: MeasuredRows, *, parts: int) -> loop.ValidScore:
        asked.append(parts)
        return real(assembly, rows, parts=parts)

    monkeypatch.setattr(loop, "validate", validate)
    rows = [{**row, "note": f"number {i}", "answer": f"it is {i}"} for i, row in enumerate(TABLE)]
    both = {"label": "classification", "answer": "embedding"}
    for target, parts in (({"label": "classification"}, loop.PARTS), (both, 0)):
        asked.clear()
        inputs = {"size": "number", "note": "text"}
        train(epochs=1, target=target, inputs=inputs, train=rows[20:], valid=rows[:20])
        assert set(asked) == {parts}


def test_less_by_luck_is_not_surely_less() -> None:
    drawn = np.random.default_rng(0).normal(0.5, 0.1, (2000, 2, 20))
    assert np.mean([surely_less(losses, than) for losses, than in drawn]) == pytest.approx(0.16, abs=0.02)
    assert np.mean([surely_less(losses - 0.1, than) for losses, than in drawn]) > 0.95
    assert np.mean([surely_less(losses, than, errors=2) for losses, than in drawn]) == pytest.approx(0.03, abs=0.015)
    assert not surely_less([0.1], [0.9])
    assert not surely_less([0.1, 0.2], [0.9, 0.9, 0.9])
    assert not surely_less([0.1, NOTHING], [0.9, 0.9])
    assert surely_less([0.9, 0.9], [0.9, NOTHING])
