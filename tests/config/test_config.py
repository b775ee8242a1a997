"""One configuration, whether it comes from a file, from arguments or from --set; every fault at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from polydetr.config.loading import PRESETS, load_config, load_config_mapping, merge, names_of, parse_settings
from polydetr.config.sections import Config
from polydetr.errors import ConfigError


def test_a_file_and_arguments_are_the_same_thing(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "train: a.csv\ntarget: label\nbackbone: minilm\ntime_limit: 10m\ntraining: {lr: 0.001, lora: {rank: 4}}\n"
        "tasks: {label: {class_weights: balanced}}\n",
        encoding="utf-8",
    )
    nested = {"training": {"lr": 0.001, "lora": {"rank": 4}}, "tasks": {"label": {"class_weights": "balanced"}}}
    arguments = load_config(nested, train="a.csv", target="label", backbone="minilm", time_limit="10m")
    assert load_config(path) == arguments
    dotted = ["training.lr=1e-3", "training.lora.rank=4", "tasks.label.class_weights=balanced"]
    assert (
        load_config(parse_settings(dotted), train="a.csv", target=["label"], backbone="minilm", time_limit=600)
        == arguments
    )
    assert Config.model_validate(arguments.model_dump()) == arguments


def test_a_preset_or_epochs_beside_a_file_count_as_if_they_stood_in_it(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("target: label\nformat: csv\ntraining: {patience: 7}\n", encoding="utf-8")
    for given in ({"preset": "fast"}, {"epochs": 1}, {"preset": "best", "epochs": 1}):
        beside = load_config(load_config_mapping(path), **given)
        assert beside == load_config({"target": "label", "format": "csv", "training": {"patience": 7}, **given})
    assert load_config(load_config_mapping(path), preset="fast").steps == PRESETS["fast"]["steps"]
    path.write_text("training: {lrr: 1}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"run\.yaml: 1 fault"):
        load_config_mapping(path)


def test_arguments_win_over_the_file_and_presets_lie_below_both(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("preset: fast\nseed: 3\ntraining: {lr: 0.5}\n", encoding="utf-8")
    config = load_config(path, seed=7, backbone=None)
    assert (config.seed, config.epochs, config.training.patience, config.training.lr) == (7, 2, 0, 0.5)
    assert load_config(path, epochs=9).epochs == 9
    assert load_config({"epochs": None}).epochs == PRESETS["balanced"]["epochs"]
    assert all(load_config(preset=name).epochs == found["epochs"] for name, found in PRESETS.items())


def test_every_fault_is_told_with_its_key_and_the_nearest_valid_one() -> None:
    wrong = {
        "trian": "a.csv",
        "training": {"learning_rate": 1, "lora": {"rnak": 1}, "dropuot": 1},
        "text": {"max_tokens": "many"},
        "epochs": -1,
        "preset": "quick",
        "time_limit": "soon",
    }
    with pytest.raises(ConfigError) as caught:
        load_config(wrong)
    message = str(caught.value)
    assert message.startswith("8 faults in the configuration:")
    for part in (
        "unknown key 'trian'. Did you mean 'train'?",
        "unknown key 'training.lora.rnak'. Did you mean 'rank'?",
        "unknown key 'training.learning_rate'.",
        "text.max_tokens = 'many'",
        "epochs = -1",
        "preset = 'quick'",
        "time_limit = 'soon': 'soon' is not a duration: write it like 90s, 10m or 1h30m",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("written", "seconds"), [("90s", 90), ("10m", 600), ("1h30m", 5400), ("1.5h", 5400), ("45", 45), (12.5, 12.5)]
)
def test_durations(written: object, seconds: float) -> None:
    assert load_config({"time_limit": written}).time_limit == seconds


@pytest.mark.parametrize("written", ["", "0s", "ten", "10x", "5m1h", -3])
def test_what_is_no_duration(written: object) -> None:
    with pytest.raises(ConfigError, match="time_limit"):
        load_config({"time_limit": written})


def test_settings_from_the_command_line() -> None:
    assert parse_settings(["a.b=1e-4", "a.c=false", "d=[1, 2]", "e=text", "f=null"]) == {
        "a": {"b": 1e-4, "c": False}, "d": [1, 2], "e": "text", "f": None
    }  # fmt: skip
    for wrong in ("novalue", "=3", "text=[1", "a={"):
        with pytest.raises(ConfigError, match=wrong.split("=")[0] or "="):
            parse_settings([wrong])


def test_names_with_and_without_their_kind() -> None:
    assert names_of("label") == {"label": None}
    assert names_of(3) == names_of([3]) == names_of({3: None}) == {"3": None}
    assert names_of(["a:tagging", "b"]) == {"a": "tagging", "b": None}
    assert names_of(["a:b:number", "c:d:"]) == {"a:b": "number", "c:d": None}
    assert load_config(target=["a:tagging", "b"]).target == {"a": "tagging", "b": None}


def test_sections_merge_and_names_replace() -> None:
    base = {"training": {"lr": 1, "patience": 2}, "target": {"a": None}}
    assert merge(base, {"training": {"lr": 3}, "target": {"b": None}}) == {
        "training": {"lr": 3, "patience": 2}, "target": {"b": None}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"), [("a: [", "not valid YAML"), ("- a\n", "expected keys and values"), ("", "expected keys")]
)
def test_a_file_that_is_no_configuration(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load_config(path)
    with pytest.raises(ConfigError, match="does not exist"):
        load_config(tmp_path / "none.yaml")


def test_the_yaml_file_of_a_data_set_is_no_configuration(tmp_path):
    path = tmp_path / "data.yaml"
    path.write_text("train: images/train\nval: images/val\nnames: [cup]\n")
    with pytest.raises(
        ConfigError, match=r"is the YAML file of a data set.*Train on it: polydetr train --train .*data\.yaml"
    ):
        load_config(path)


def test_the_name_of_a_target_may_hold_a_dot():
    for name in ('"net.price"', "'net.price'", r"net\.price"):
        assert parse_settings([f"tasks.{name}.loss_weight=2"]) == {"tasks": {"net.price": {"loss_weight": 2}}}
    assert parse_settings(['tasks."a=b".loss_weight=2']) == {"tasks": {"a=b": {"loss_weight": 2}}}


def test_columns_may_be_called_by_numbers():
    config = load_config({"target": {3: "regression"}, "inputs": [0, 1], "tasks": {3: {"loss_weight": 2}}})
    assert config.target == {"3": "regression"}
    assert config.inputs == {"0": None, "1": None}
    assert config.tasks == {"3": {"loss_weight": 2}}
