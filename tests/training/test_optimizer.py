"""The optimizer against torch's own, and the promises it adds: masters, lazy rows, exact resume, running mean."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from polydetr.errors import ConfigError, ModelFolderError
from polydetr.training.optimizer import MasterAdamW, parameter_groups


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.ModuleDict({"words": nn.Embedding(29, 7), "norm": nn.LayerNorm(7)})
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(7, 7), nn.LayerNorm(7)) for _ in range(3))

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.embeddings["norm"](self.embeddings["words"](ids))
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = Backbone()
        self.head = nn.Linear(7, 5)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.backbone(ids))


def _train(model: Model, optimizer: MasterAdamW | torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        ids = torch.randint(0, 11, (13,), generator=generator)
        loss = nn.functional.cross_entropy(model(ids).float(), ids % 5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _groups(model: Model, **changes: float) -> list[dict]:
    return parameter_groups(model, lr=1e-2, head_lr=3e-2, weight_decay=0.1, **changes)  # type: ignore[arg-type]


def test_float32_equals_torch_adamw() -> None:
    ours, theirs = Model(), Model()
    _train(ours, MasterAdamW(_groups(ours), clip_norm=1e9), range(8))
    _train(theirs, torch.optim.AdamW([{k: v for k, v in g.items() if k != "names"} for g in _groups(theirs)]), range(8))
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter, theirs.get_parameter(name), atol=1e-6, rtol=1e-6, msg=name)


def test_clipping_equals_torch_clipping() -> None:
    ours, theirs = Model(), Model()
    limit = 0.05
    optimizer = MasterAdamW(_groups(ours), clip_norm=limit)
    reference = torch.optim.AdamW([{k: v for k, v in g.items() if k != "names"} for g in _groups(theirs)])
    for step in range(4):
        ids = torch.randint(0, 11, (13,), generator=torch.Generator().manual_seed(step))
        for model, optim in ((ours, optimizer), (theirs, reference)):
            optim.zero_grad()
            nn.functional.cross_entropy(model(ids), ids % 5).backward()
        norm = nn.utils.clip_grad_norm_(theirs.parameters(), limit)
        optimizer.step()
        reference.step()
        assert norm > limit
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter, theirs.get_parameter(name), atol=1e-6, rtol=1e-5, msg=name)


def test_a_step_with_infinite_gradients_changes_nothing() -> None:
    model = Model()
    optimizer = MasterAdamW(_groups(model))
    before = copy.deepcopy(model.state_dict())
    _train(model, optimizer, range(1))
    assert not torch.equal(model.head.weight, before["head.weight"])
    kept = copy.deepcopy(model.state_dict())
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, math.inf)
    optimizer.step()
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())


def test_masters_gather_steps_too_small_for_bfloat16() -> None:
    weight = nn.Parameter(torch.ones(3, 3, dtype=torch.bfloat16))
    group = {"params": [weight], "names": ["w"], "lr": 1e-4, "weight_decay": 0.0}
    optimizer = MasterAdamW([group], clip_norm=1e9)
    for _ in range(100):  # each step is 1e-4; the next number below 1 in bfloat16 is 4e-3 away
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    master = optimizer.state_tensors()["master/w"]
    torch.testing.assert_close(master, torch.full((3, 3), 0.99), atol=1e-5, rtol=0)
    assert torch.equal(weight, master.bfloat16())


def test_bfloat16_follows_float32_and_weights_equal_rounded_masters() -> None:
    model = Model().bfloat16()
    optimizer = MasterAdamW(_groups(model))
    exact = Model()
    _train(model, optimizer, range(10))
    _train(exact, MasterAdamW(_groups(exact)), range(10))
    tensors = optimizer.state_tensors()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, tensors[f"master/{name}"].bfloat16())
        torch.testing.assert_close(parameter.float(), exact.get_parameter(name), atol=0.15, rtol=0.1, msg=name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_resume_is_exact_to_the_bit(dtype: torch.dtype) -> None:
    settings = {"clip_norm": 0.5, "ema_decay": 0.9}
    straight = Model().to(dtype)
    optimizer = MasterAdamW(_groups(straight), **settings)
    _train(straight, optimizer, range(10))

    first = Model().to(dtype)
    halfway = MasterAdamW(_groups(first), **settings)
    _train(first, halfway, range(5))
    model_bytes, state_bytes = save(first.state_dict()), save(halfway.state_tensors())

    second = Model().to(dtype)
    resumed = MasterAdamW(_groups(second), **settings)
    second.load_state_dict(load(model_bytes))
    resumed.load_state_tensors(load(state_bytes))
    _train(second, resumed, range(5, 10))
    for name, value in straight.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    theirs = resumed.state_tensors()
    assert all(torch.equal(value, theirs[name]) for name, value in optimizer.state_tensors().items())


def test_foreign_state_is_refused_by_name() -> None:
    model = Model()
    optimizer = MasterAdamW(_groups(model))
    state = {name: value for name, value in optimizer.state_tensors().items() if name != "exp_avg/head.bias"}
    with pytest.raises(ModelFolderError, match=r"'exp_avg/head\.bias'"):
        optimizer.load_state_tensors(state)


def test_running_mean_is_swapped_in_and_out() -> None:
    model = Model()
    optimizer = MasterAdamW(_groups(model), ema_decay=0.5)
    mean = model.head.weight.detach().clone()
    for step in range(3):
        _train(model, optimizer, range(step, step + 1))
        keep = min(0.5, (2 + step) / (11 + step))
        mean = keep * mean + (1 - keep) * model.head.weight.detach()
    last = model.head.weight.detach().clone()
    with optimizer.averaged():
        torch.testing.assert_close(model.head.weight.detach(), mean)
        assert not torch.equal(model.head.weight, last)
    assert torch.equal(model.head.weight, last)


def test_groups_hold_rates_decay_and_frozen_parts() -> None:
    model = Model()
    groups = parameter_groups(model, lr=1.0, head_lr=7.0, layer_decay=0.5, weight_decay=0.1)
    found = {name: (g["lr"], g["weight_decay"]) for g in groups for name in g["names"]}
    assert found.keys() == dict(model.named_parameters()).keys()
    assert found["backbone.embeddings.words.weight"] == (0.125, 0.0)
    assert found["backbone.layers.0.0.weight"] == (0.25, 0.1)
    assert found["backbone.layers.2.0.weight"] == (1.0, 0.1)
    assert found["backbone.layers.2.0.bias"] == (1.0, 0.0)
    assert found["backbone.layers.2.1.weight"] == (1.0, 0.0)
    assert found["head.weight"] == (7.0, 0.1)

    frozen = parameter_groups(model, lr=1.0, freeze_embeddings=True, freeze_layers=2)
    names = {name for group in frozen for name in group["names"]}
    assert {name.split(".")[0] + name.split(".")[2][:1] for name in names if "backbone" in name} == {"backbone2"}
    assert not model.backbone.embeddings["words"].weight.requires_grad
    assert not model.backbone.layers[1][0].weight.requires_grad


def test_freezing_everything_is_refused() -> None:
    model = nn.ModuleDict({"backbone": Backbone()})
    with pytest.raises(ConfigError, match="nothing is left to train with freeze_embeddings=True, freeze_layers=3"):
        parameter_groups(model, lr=1.0, freeze_embeddings=True, freeze_layers=3)
