"""What the loop keeps and when it ends: the fp32 masters, the lower loss of equal scores, time for the last looks."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import Watched, train

from polydetr.model.build import Assembly
from polydetr.training import loop
from polydetr.training.checkpoint import MOST_LOSSES, Progress
from polydetr.training.encode import MeasuredRows
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

    def validate(assembly: Assembly, rows: MeasuredRows) -> loop.ValidScore:
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
    monkeypatch.setattr(loop, "validate", lambda assembly, rows: loop.ValidScore(*next(scores), {}))
    shown, rows = Watched(), {}
    if of_a_table:  # whose start stands where nothing beats it
        table = [{"size": float(i * 37 % 60), "label": "ab"[i * 37 % 60 > 25]} for i in range(60)]
        rows = {"train": table[20:], "valid": table[:20]}
    settings = {"training": {"precision": "fp32", "evaluations_per_epoch": 1}}
    found = train(display=shown, epochs=4, settings=settings, **rows)
    assert found.info["training"]["best_step"] == shown.entries[best]["step"]
    assert len([note for note in shown.notes if "the lowest loss" in note]) == 1
