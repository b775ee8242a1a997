"""The classes of a target: one class for all spellings, answered in the type of the training rows."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from polydetr.core.predictions import Prediction
from polydetr.errors import RowError, SchemaError
from polydetr.tasks.classes import Classes
from polydetr.tasks.classification import ClassificationTask


def learned(given: list[Any], **options: Any) -> tuple[ClassificationTask, list[str]]:
    task = ClassificationTask("y", ClassificationTask.Options(**options))
    return task, task.learn([{"y": label} for label in given])


def answered(task: Any, number: int) -> Prediction:
    logits = np.eye(len(task.labels))[number]
    (prediction,) = task.decode([{"logits": logits}], [], [])
    return prediction


@pytest.mark.parametrize(
    ("labels", "answers"),
    [
        ([1, 0, 1], [0, 1]), ([1.0, None, 0.0], [0, 1]), ([np.int64(4), np.int64(7)], [4, 7]), ([0.5, 1.0], [0.5, 1.0]),
        ([True, False], [False, True]), (["TRUE", "FALSE", "True", "TRUE"], ["FALSE", "TRUE"]),
        (["2.0", "1.0"], ["1.0", "2.0"]), (["b", " a "], ["a", "b"]), ([1, True, "x"], ["1", "True", "x"]),
    ],
)  # fmt: skip
def test_answers_have_the_type_of_the_labels(labels: list[Any], answers: list[Any]) -> None:
    task, _ = learned(labels)
    again = ClassificationTask.from_state(json.loads(json.dumps(task.state())))
    for same in (task, again):
        found = [answered(same, i).value for i in range(len(answers))]
        assert found == answers
        assert [type(value) for value in found] == [type(value) for value in answers]
        assert list(answered(same, 0).details.probabilities) == answers  # type: ignore[attr-defined]


def test_a_label_is_recognized_however_it_is_written() -> None:
    for labels, spellings in (
        ([0, 1] * 3, ["1", "1.0", 1, 1.0, np.float32(1)]),
        (["TRUE", "FALSE"] * 3, ["true", "True", True, np.bool_(True)]),
    ):
        task, _ = learned(labels)
        assert len({repr(task.gold({"y": spelling}, None)) for spelling in spellings}) == 1
        gold: Any = task.gold({"y": spellings[0]}, None)
        assert gold == answered(task, 1).value
        assert not task.unseen(gold)
        assert task.evaluate([answered(task, 1)], [gold]).metrics["accuracy"] == 1.0
    assert task.unseen("maybe") == ["maybe"]


def test_several_labels_keep_their_type_too() -> None:
    task, _ = learned([[1, 2], [2], ["1"]])
    assert task.multi_label
    assert answered(task, 1).value == [1, 2]  # sigmoid(0) is 0.5
    assert task.gold({"y": "1|2.0"}, None) == [1, 2]
    one_list, _ = learned(["a", "b"] * 5)
    with pytest.raises(RowError, match="expected one label"):
        one_list.gold({"y": ["a", "b"]}, None)
    assert one_list.gold({"y": ["a"]}, None) == "a"


def test_a_word_for_missing_is_no_label_among_numbers() -> None:
    task, messages = learned(["0", "1", "NA", "0", "1", "null"])
    assert task.labels == ["0", "1"]
    assert messages[0].startswith("2 of 6 training rows have no 'y'")
    assert task.gold({"y": "n/a"}, None) is None
    named, messages = learned(["high", "low", "NA"] * 3)
    assert named.labels == ["NA", "high", "low"]
    assert any("one class of 'y' is called 'NA'" in message for message in messages)
    listed, _ = learned(["0", "1", "NA"] * 3, labels=["0", "1", "NA"])
    assert listed.gold({"y": "NA"}, None) == "NA"


def test_the_label_set_of_a_configuration_has_any_type() -> None:
    task, _ = learned(["0", "1"], labels=[2, 1, 0])
    assert task.labels == ["2", "1", "0"]
    assert Classes.learn("y", [True, False], [False, True])[0].values == (False, True)
    with pytest.raises(SchemaError, match=r"label 'no' of target 'y' is not in the given label set.*YAML reads yes"):
        learned(["yes", "no"], labels=[True, False])


def test_labels_of_older_models_are_text_and_recognize_what_is_asked() -> None:
    task, _ = learned(["0", "1"])
    state = task.state()
    state.pop("words_missing")
    state["labels"] = ["NA", "True", "true"]
    old: Any = ClassificationTask.from_state(state)
    assert old.gold({"y": "NA"}, None) == "NA"
    assert old.gold({"y": True}, None) == "True"
    assert answered(old, 2).value == "true"
