"""YAML within bounds: whatever a text holds, it is a value or a named fault, quickly."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path
from typing import Any

import pytest

from polydetr.config.loading import load_config, parse_settings
from polydetr.config.yaml_text import YamlFault, read_yaml
from polydetr.data.readers import read_records
from polydetr.errors import MESSAGE_LIMIT, ConfigError, DataFileError

LAUGHS = "\n".join(
    ["l0: &l0 [x, x, x, x, x, x, x, x]", *(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 8)}]" for i in range(1, 12))]
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("a: 1\nb: [x, 2.5, null, 2001-01-02]", {"a": 1, "b": ["x", 2.5, None, dt.date(2001, 1, 2)]}),
        ("a: &here {b: 1}\nc: *here", {"a": {"b": 1}, "c": {"b": 1}}),
        ("a: &here {b: 1, c: 2}\nd: {<<: *here, c: 3}", {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}),
        ("1: one\ntrue: yes", {1: "one"} | {True: True}),
    ],
)
def test_what_yaml_can_say_is_read(text: str, value: Any) -> None:
    if text.startswith("1:"):  # True equals 1: to Python the key stands twice
        with pytest.raises(YamlFault, match="twice"):
            read_yaml(text)
    else:
        assert read_yaml(text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr: 1\nlr: 2", "^lr: stands twice"),
        ("training: {lr: 1}\nseed: 3\ntraining: {epochs: 2}", "^training: stands twice"),
        ("a: {b: 1, b: 2}", r"^a\.b: stands twice"),
        ("a: {when: 2020-13-40}", r"^a\.when: '2020-13-40' cannot be read as a date"),
        ("a: " + "7" * 6000, "^a: '7777.* cannot be read as a number, it has too many digits"),
        ("a: " + "[" * 3000, "more than 40 deep"),
        ("a: &a [*a]", "^a: .*more than 40 deep"),
        (LAUGHS, "values, aliases written out"),
        (LAUGHS.replace("[", "{<<: [").replace("]", "]}").replace("x", "{x: 1}"), "values, aliases written out"),
        ("a: !!python/object:os.system {}", r"^a: the tag"),
        ("a: !mine 3", r"^a: "),
        ("[1, 2]: 3", "cannot be a key"),
        ("a: [", "not valid YAML: line"),
        ("a: \x01", "not valid YAML"),
    ],
)
def test_what_is_no_value_is_a_fault_with_its_key(text: str, message: str) -> None:
    began = time.perf_counter()
    with pytest.raises(YamlFault, match=message):
        read_yaml(text)
    assert time.perf_counter() - began < 5  # not the hours that a million million words take


def test_a_configuration_file_and_a_setting_name_the_key(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("train: a.csv\nmodel: {embed_dim: 64}\nmodel: {num_heads: 2}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"run\.yaml: model: stands twice"):
        load_config(path)
    for setting in ("out=1999-66-66", "seed=" + "1" * 5000, "seed=" + "[" * 999, "a." * 5000 + "b=1"):
        with pytest.raises(ConfigError, match=setting[:4]) as caught:
            parse_settings([setting])
        assert len(str(caught.value)) <= MESSAGE_LIMIT


def test_numbers_beyond_all_sense_are_faults() -> None:
    wrong = {
        "seed": 10**30,
        "epochs": float("inf"),
        "time_limit": "9" * 400 + "h",
        "model": {"num_heads": 10**12, "embed_dim": 10**9},
        "text": {"vocab_size": 10**12},
        "training": {"batch_tokens": 10**15, "lr": 1e12},
    }
    with pytest.raises(ConfigError) as caught:
        load_config(wrong)
    message = str(caught.value)
    assert message.startswith("8 faults")
    for key in ("seed", "epochs", "time_limit", "model.num_heads", "text.vocab_size", "training.lr"):
        assert f"  - {key} = " in message


def test_thousands_of_faults_are_told_in_one_short_message() -> None:
    began = time.perf_counter()
    with pytest.raises(ConfigError) as caught:
        load_config({f"key_{i}" + "x" * 500: i for i in range(20_000)})
    assert time.perf_counter() - began < 10
    message = str(caught.value)
    assert message.startswith("20000 faults in the configuration:")
    assert len(message) <= MESSAGE_LIMIT
    assert message.count("\n  - ") <= 13
    assert message.endswith(" more")


def test_classes_of_boxes_are_refused_by_name_where_their_yaml_is_no_value(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    file = tmp_path / "data.yaml"
    for names, message in (("names: {0: cat, 0: dog}", "names.0: stands twice"), (LAUGHS + "\nnames: *l11", "written")):
        file.write_text(f"train: images\n{names}\n", encoding="utf-8")
        with pytest.raises(DataFileError, match=message):
            list(read_records(tmp_path))
