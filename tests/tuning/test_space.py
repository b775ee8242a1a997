"""Search spaces: what the YAML says, what it must not say, and what is searched where it says nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import FixedTrial

from polydetr.config.loading import is_given, load_config
from polydetr.errors import ConfigError
from polydetr.schema.spec import FieldSpec, Schema, TargetSpec
from polydetr.training.trial_settings import with_settings
from polydetr.tuning.default_space import default_space
from polydetr.tuning.identity import differences
from polydetr.tuning.reading import all_keys, read_space
from polydetr.tuning.space import Dimension, Space

CLASSES = Schema((FieldSpec("text", "text"),), (TargetSpec("net.price", "classification"),))


def space_of(search: dict[str, Any], schema: Schema | None = None, **config: Any) -> Space:
    return read_space(search, load_config(config), schema)


def faults_of(search: dict[str, Any], schema: Schema | None = None, **config: Any) -> str:
    with pytest.raises(ConfigError) as found:
        space_of(search, schema, **config)
    return str(found.value)


def test_it_is_written_beside_the_keys_that_it_varies(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        "search:\n"
        "  training:\n"
        "    lr: {low: 1e-5, high: 1.0e-3, log: true, when: {training.freeze_backbones: false}}\n"
        "    freeze_backbones: [false, true]\n"
        "    freeze_layers: {low: 0, high: 5, step: 2}\n"
        "  model.dropout: {low: 0, high: 0.5, step: 0.1}\n"
        "  backbone: [none, minilm]\n"
    )
    config = load_config(tmp_path / "run.yaml")
    space = read_space(config.search, config)
    by_key = {d.key: d for d in space.dimensions}
    assert [d.key for d in space.dimensions].index("training.freeze_backbones") < list(by_key).index("training.lr")
    assert by_key["training.lr"].distribution() == FloatDistribution(1e-5, 1e-3, log=True)
    assert by_key["training.lr"].when == {"training.freeze_backbones": (False,)}
    assert by_key["training.freeze_layers"].distribution() == IntDistribution(0, 4, step=2)
    assert by_key["model.dropout"].distribution() == FloatDistribution(0.0, 0.5, step=0.1)
    assert by_key["backbone"].choices == ("none", "minilm")
    assert str(by_key["training.lr"]) == "training.lr 1e-05 … 0.001 log (when training.freeze_backbones: false)"


def test_conditions_decide_what_a_trial_varies() -> None:
    space = space_of(
        {"training": {"freeze_backbones": [False, True], "lora.rank": {"low": 0, "high": 8, "step": 8,
         "when": {"training": {"freeze_backbones": False}}}}},
    )  # fmt: skip
    no, yes = "false", "true"
    asked = space.ask(FixedTrial({"training.freeze_backbones": no, "training.lora.rank": 8}))
    assert asked == {"training.freeze_backbones": False, "training.lora.rank": 8}
    assert with_settings(space.config, asked).training.lora.rank == 8
    assert space.ask(FixedTrial({"training.freeze_backbones": yes})) == {"training.freeze_backbones": True}
    assert space.defaults() == {"training.freeze_backbones": no, "training.lora.rank": 0}


def test_a_condition_may_rest_on_a_key_that_is_not_varied() -> None:
    search = {"training": {"lr": {"low": 1e-5, "high": 1e-3, "when": {"backbone": ["minilm", "e5-en-pt"]}}}}
    assert space_of(search, backbone="minilm").ask(FixedTrial({"training.lr": 1e-4})) == {"training.lr": 1e-4}
    assert "which it never is: it is 'none'" in faults_of(search, backbone="none")


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"training": {"lrr": [1, 2]}}, "unknown key 'training.lrr'. Did you mean 'training.lr'?"),
        ({"lr": [1, 2]}, "unknown key 'lr'. Did you mean 'training.lr'?"),
        ({"trainig": {"lr": [1, 2]}}, "Did you mean 'training.lr'?"),
        ({"training": {"lr": {"low": 1e-3, "high": 1e-5}}}, "the range is empty, low 0.001 is not below high 1e-05"),
        ({"training": {"lr": {"low": 1e-3, "high": 1e-3}}}, "the range is empty"),
        ({"training": {"lr": {"low": 1e-3}}}, "a range has low and high; high is missing"),
        ({"training": {"weight_decay": {"low": 0, "high": 1, "log": True}}}, "a log range begins above 0"),
        ({"training": {"weight_decay": {"low": 0, "high": 1, "log": "yes"}}}, "expected true or false"),
        ({"training": {"lr": {"low": 1e-4, "high": 1, "log": True, "step": 0.1}}}, "a log range has no steps"),
        ({"model": {"num_layers": {"low": 1, "high": 3, "step": 0.5}}}, "expected a whole number above 0"),
        ({"model": {"num_layers": {"low": 1, "high": 3, "step": 5}}}, "leads out of the range"),
        ({"model": {"num_layers": {"low": 1.5, "high": 3}}}, "model.num_layers = 1.5"),
        ({"model": {"fusion": {"low": 1, "high": 3}}}, "model.fusion = 1"),
        ({"training": {"head_start": {"low": False, "high": True}}}, "its values are no numbers"),
        ({"training": {"lr": []}}, "there is nothing to choose from in []"),
        ({"training": {"lr": 0.1}}, "write the values to choose from, [a, b], or a range"),
        ({"training": {"lr": [0.1, 0.1]}}, "a choice stands twice"),
        ({"training": {"lr": [0.1, -1]}}, "training.lr = -1: input should be greater than 0"),
        ({"model": {"dropout": ["much", 0.1]}}, "model.dropout = 'much'"),
        ({"training": {"lr": {"lo": 1, "high": 2}}}, "'lo' is unknown. Did you mean 'low'?"),
        ({"training": {"lr": {"choices": [1, 2], "low": 1}}}, "not both"),
        ({"training": {"lr": {"choices": [1, 2], "log": True}}}, "log is for ranges"),
        ({"training": {"lr": {"when": {"backbone": "none"}}}}, "neither choices nor low and high"),
        ({"training": {"lr": {"choices": [1, 2], "when": {"backbon": "none"}}}}, "Did you mean 'backbone'?"),
        ({"training": {"lr": {"choices": [1, 2], "when": "always"}}}, "expected {key: value}"),
        ({"training": {"lr": {"choices": [1, 2], "when": {"training.lr": 1}}}}, "names the key itself"),
        ({"training": {}}, "search.training is empty"),
        ({"training.lr": [1, 2], "training": {"lr": [1, 2]}}, "search.training.lr stands twice"),
        ({"target": ["a", "b"]}, "search.target is not varied: it says what is learned"),
        ({"inputs": {"text": ["text", "ignore"]}}, "search.inputs is not varied"),
        ({"seed": [1, 2]}, "luck"),
        ({"tasks": {"label": {"metric": ["accuracy", "macro_f1"]}}}, "compared by the same metric"),
        ({"reading": {"delimiter": [",", ";"]}}, "search.reading.delimiter is not varied"),
        ({"search": [1, 2]}, "search.search is not varied"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_told(search: dict[str, Any], said: str) -> None:
    assert said in faults_of(search)


def test_all_faults_are_told_together() -> None:
    told = faults_of({"training": {"lrr": [1, 2], "lr": {"low": 2, "high": 1}}, "target": ["a"]})
    assert "3 faults" in told
    assert all(key in told for key in ("training.lrr", "training.lr", "target"))


def test_conditions_that_wait_for_one_another() -> None:
    told = faults_of(
        {"model": {"dropout": {"choices": [0, 0.1], "when": {"model.num_layers": 1}},
                   "num_layers": {"choices": [1, 2], "when": {"model.dropout": 0.1}}}}
    )  # fmt: skip
    assert "wait for one another" in told


def test_the_options_of_a_task_are_varied_once_the_columns_are_known() -> None:
    search = {"tasks": {"net.price": {"loss_weight": {"low": 0.5, "high": 2}}}}
    (dimension,) = space_of(search).dimensions
    assert dimension.key == 'tasks."net.price".loss_weight'
    assert space_of(search, CLASSES).dimensions == (dimension,)
    assert with_settings(load_config({}), {dimension.key: 2.0}).tasks == {"net.price": {"loss_weight": 2.0}}
    assert "Did you mean" in faults_of({"tasks": {"net.price": {"loss_weigth": [1, 2]}}}, CLASSES)
    assert "'net.prize' is not a target" in faults_of({"tasks": {"net.prize": {"loss_weight": [1, 2]}}}, CLASSES)
    assert "loss_weight" in faults_of({"tasks": {"net.price": {"loss_weight": ["much", 1]}}}, CLASSES)


def test_numbers_that_people_can_write_down() -> None:
    dimension = Dimension("training.lr", low=1e-5, high=1.23456e-3, log=True)
    assert dimension.read(0.000123456789) == 0.000123
    assert dimension.read(1.23456e-3) == 1.23e-3
    assert Dimension("training.lr", low=0.12345, high=0.2).read(0.12345) == 0.12345  # never below the range


def test_what_two_spaces_have_otherwise() -> None:
    first = space_of({"training": {"lr": {"low": 1e-5, "high": 1e-3}}, "model": {"dropout": [0, 0.1]}})
    second = space_of({"training": {"lr": {"low": 1e-5, "high": 1e-2}}, "model": {"num_layers": [1, 2]}})
    turned = space_of({"model.dropout": [0, 0.1], "training.lr": {"low": 1e-5, "high": 1e-3}})
    assert differences(first.to_list(), turned.to_list()) == []
    lines = differences(first.to_list(), second.to_list())
    assert lines == [
        "model.dropout is varied here, not there",
        "model.num_layers is varied there, not here",
        "training.lr: low 1e-05, high 0.001, log False here, low 1e-05, high 0.01, log False there",
    ]


# -- default spaces ----------------------------------------------------------------------------------------------------


def proposed(
    kinds: tuple[str, ...], task: str = "classification", *, pretrained: tuple[str, ...] = (), rows: int = 500,
    few: bool = False, **config: Any,
) -> Space:  # fmt: skip
    schema = Schema(tuple(FieldSpec(f"c{i}", kind) for i, kind in enumerate(kinds)), (TargetSpec("y", task),))
    given = load_config(config)
    keys = [key for key in all_keys() if is_given(given, key)]
    return default_space(given, schema, pretrained=pretrained, rows=rows, few_rows=few, given=keys)


@pytest.mark.parametrize(
    ("kinds", "task", "pretrained", "has", "lacks"),
    [
        (("text",), "classification", ("text",), {"training.lr", "training.layer_decay", "training.freeze_backbones",
         "training.lora.rank", "training.head_start"}, {"model.embed_dim", "table.numbers"}),
        (("text",), "entities", (), {"model.embed_dim", "model.num_layers"}, {"training.lr", "training.head_start"}),
        (("number", "category"), "regression", (), {"table.numbers", "table.embedding", "model.additive"},
         {"training.label_smoothing", "training.lr"}),
        (("image",), "detection", ("image",), {"training.lr", "image.augment.crop"},
         {"training.freeze_backbones", "training.batch_tokens"}),
        (("text", "number"), "classification", ("text",), {"training.modality_dropout", "table.numbers",
         "training.lr"}, {"model.additive", "model.embed_dim"}),
    ],
)  # fmt: skip
def test_default_spaces_suit_tasks_and_modalities(
    kinds: tuple[str, ...], task: str, pretrained: tuple[str, ...], has: set[str], lacks: set[str]
) -> None:
    space = proposed(kinds, task, pretrained=pretrained)
    keys = {dimension.key for dimension in space.dimensions}
    assert has <= keys
    assert not lacks & keys
    assert "training.head_lr" in keys
    for dimension in space.dimensions:  # every value of every dimension is a configuration
        for value in dimension.choices or (dimension.low, dimension.high):
            with_settings(space.config, {dimension.key: value})
    assert {"training.head_lr", "training.weight_decay"} <= space.defaults().keys()  # the default is a point of it


def test_what_the_user_set_stays() -> None:
    keys = {d.key for d in proposed(("text",), training={"head_lr": 2e-3}, model={"dropout": 0.2}).dimensions}
    assert not {"training.head_lr", "model.dropout"} & keys
    config = load_config({"preset": "best", "training": {"lr": 1e-4}})
    assert is_given(config, "training.lr")
    assert not is_given(config, "training.ema_decay")  # the preset's
    assert not is_given(config, "epochs")
    settings = {"head_lr": 2e-3, "weight_decay": 0.1, "label_smoothing": 0.1}
    with pytest.raises(ConfigError, match="there is nothing to search"):
        proposed(("text",), training=settings, model={"embed_dim": 64, "num_layers": 1, "dropout": 0.0})


def test_frozen_backbones_leave_out_what_only_matters_to_tuned_ones() -> None:
    keys = {d.key for d in proposed(("text",), pretrained=("text",), training={"freeze_backbones": True}).dimensions}
    assert not {"training.lr", "training.layer_decay", "training.lora.rank"} & keys
    keys = {d.key for d in proposed(("text",), pretrained=("text",), training={"freeze_backbones": False}).dimensions}
    assert "training.lr" in keys


def test_few_rows_may_also_be_trained_by_steps() -> None:
    space = proposed(("text",), pretrained=("text",), few=True)
    by_key = {dimension.key: dimension for dimension in space.dimensions}
    assert by_key["training.few_rows"].choices == (None, False)
    assert space.ask(FixedTrial({"training.few_rows": "null"})) == {"training.few_rows": None}
    with_settings(space.config, {"training.few_rows": None})
