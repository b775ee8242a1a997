"""When to believe an answer: probabilities that answers are right, learned apart from the weights, and answers
withheld.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polydetr.core.plugs import TASKS
from polydetr.core.predictions import Prediction
from polydetr.tasks.base import Task
from polydetr.tasks.capabilities import Conforms, Judged, MarksText
from polydetr.tasks.classification import ClassDetails
from polydetr.tasks.confidence import MOST_ANSWERS, Calibration, SavedCalibration, withhold_items, withhold_row
from polydetr.tasks.entities import GoldSpans
from polydetr.tasks.qa import Answer, GoldAnswers
from polydetr.tasks.regression import RegressionTask
from polydetr.tasks.tagging import GoldTags, TagDetails
from polydetr.values.objects import Objects
from polydetr.values.spans import Span

TAG = {"start": 0, "end": 4, "text": "Anna", "label": "PER"}
PLACE = {"start": 8, "end": 12, "text": "Rome", "label": "LOC"}
BOX = {"box": [0.0, 0.0, 10.0, 10.0], "label": "cup"}


def task_of(kind: str, **learned: Any) -> Any:
    task: Task = TASKS[kind]("target", TASKS[kind].Options())
    for name, value in learned.items():
        setattr(task, name, value)
    return task


def tagged(**more: Any) -> Prediction:
    items = [{**TAG, "probability": 0.9, "score": 0.9}, {**PLACE, "probability": 0.4, "score": 0.4}]
    return Prediction(items, 0.4, TagDetails(["B-PER", "B-LOC"], [(0, 4), (8, 12)], [0.9, 0.4]))


JUDGED = {
    "classification": (task_of("classification"), Prediction("yes", 0.7, ClassDetails({})), "no", [(0.7, False)]),
    "several labels": (
        task_of("classification", multi_label=True), Prediction(["a", "b"], 0.7), ["b", "a"], [(0.7, True)]
    ),
    "qa": (
        task_of("qa"), Prediction({"text": "the Rome", "start": 8, "end": 12}, 0.6), GoldAnswers([Answer("Rome", 8)]),
        [(0.6, True)],
    ),
    "qa without an answer": (
        task_of("qa"), Prediction({"text": "", "start": None, "end": None}, 0.6), GoldAnswers([]), [(0.6, True)]
    ),
    "tagging": (
        task_of("tagging"), tagged(), GoldTags(["B-PER", "O"], [Span(0, 4, "PER")]), [(0.9, True), (0.4, False)]
    ),
    "words": (
        task_of("tagging", plain=True), tagged(), GoldTags(["B-PER", "O"], []), [(0.9, True), (0.4, False)]
    ),
    "entities": (
        task_of("entities"), Prediction([{**TAG, "probability": 0.8}]), GoldSpans([Span(0, 4, "LOC")], [], []),
        [(0.8, False)],
    ),
    "detection": (
        task_of("detection", labels=["cup"]),
        Prediction([{**BOX, "probability": 0.8}, {**BOX, "box": [50.0, 50.0, 60.0, 60.0], "probability": 0.3}]),
        Objects(({"box": (0, 0, 10, 12), "label": "cup"},)),
        [(0.8, True), (0.3, False)],
    ),
}  # fmt: skip


def test_every_task_is_judged_or_conforms_or_answers_with_no_probability() -> None:
    kinds = {kind: TASKS[kind]("t", TASKS[kind].Options()) for kind in TASKS}
    without = {kind for kind, task in kinds.items() if not isinstance(task, Judged | Conforms)}
    assert without == {"embedding", "generation"}


@pytest.mark.parametrize("name", JUDGED)
def test_each_answer_is_right_or_wrong_and_can_be_withheld(name: str) -> None:
    task, prediction, gold, expected = JUDGED[name]
    assert isinstance(task, Judged)
    assert list(task.judge(prediction, gold)) == expected
    least = expected[-1][0]
    assert task.withhold(prediction, least) == prediction
    withheld = task.withhold(prediction, least + 0.01)
    if task.answer_unit == "row":
        assert withheld.abstained
        assert withheld.value == prediction.value  # the best guess stays beside it
    else:
        assert withheld.value[-1]["abstained"] is True
        assert all("abstained" not in item for item in withheld.value[:-1])
        labels = [item["label"] for item in prediction.value]
        if isinstance(task, MarksText):
            assert [span.label for span in task.marks(withheld)] == [*labels[:-1], f"{labels[-1]} withheld"]


def test_a_crowd_is_neither_right_nor_wrong() -> None:
    task, prediction, _, _ = JUDGED["detection"]
    crowd = Objects(({"box": (0, 0, 10, 12), "label": "cup", "crowd": True},))
    assert list(task.judge(prediction, crowd)) == [(0.3, False)]


def test_scores_become_probabilities_that_hold_on_other_rows() -> None:
    random = np.random.default_rng(0)
    score = random.random(6000)
    right = random.random(6000) < score**2  # the score claims too much
    calibration = Calibration.fit(list(zip(score[:2000].tolist(), right[:2000].tolist(), strict=True)), rescale=True,
                                  rows=500, apart=True)  # fmt: skip
    for low in (0.2, 0.5, 0.8):
        here = (score[2000:] >= low) & (score[2000:] < low + 0.1)
        said = np.mean([calibration(s) for s in score[2000:][here]])
        assert said == pytest.approx(right[2000:][here].mean(), abs=0.06)
    again = SavedCalibration(**json.loads(json.dumps(calibration.to_dict()))).restored()
    assert again.to_dict() == calibration.to_dict()
    assert again(0.7) == calibration(0.7)
    assert len(calibration.right) <= MOST_ANSWERS


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60), st.floats(0.5, 1))
def test_the_threshold_gives_the_accuracy_on_its_own_rows(answers: list[tuple[float, bool]], wanted: float) -> None:
    calibration = Calibration.fit(answers, rescale=False, rows=len(answers), apart=True)
    chosen = calibration.threshold(wanted)
    assert chosen is not None
    kept = [right for p, right in zip(calibration.probability, calibration.right, strict=True) if p >= chosen.threshold]
    assert np.mean(kept) == pytest.approx(chosen.accuracy)
    assert chosen.accuracy >= wanted - 1e-9 or not chosen.reached
    low, high = chosen.coverage_interval
    assert low <= chosen.coverage <= high + 1e-9


def test_where_all_answers_together_are_right_enough_none_is_withheld() -> None:
    calibration = Calibration.fit([(0.6, True), (0.9, True)], rescale=False, rows=2, apart=True)
    assert calibration.threshold(0.95).threshold == 0  # type: ignore[union-attr]
    assert Calibration().threshold(0.95) is None


def test_withholding_leaves_the_prediction_it_was_given_as_it_is() -> None:
    row, items = Prediction("yes", 0.2), Prediction([{**TAG, "probability": 0.2}])
    withhold_row(row, 0.5), withhold_items(items, 0.5)
    assert not row.abstained
    assert "abstained" not in items.value[0]


def test_a_quantity_has_an_interval_once_rows_have_told_its_width() -> None:
    task = RegressionTask("y", RegressionTask.Options())
    golds = [float(i) for i in range(30)]
    predictions = [Prediction(g + (-1) ** int(g) * g / 30) for g in golds]
    assert task.decode([{"logits": np.zeros(1)}], [None], [])[0].details.interval is None  # type: ignore[attr-defined]
    assert "too few" in task.conform(predictions[:5], golds[:5])[0]
    assert "90%" in task.conform([*predictions, Prediction(0.0)], [*golds, None])[0]
    low, high = task.decode([{"logits": np.zeros(1)}], [None], [])[0].details.interval  # type: ignore[attr-defined]
    assert high - low == pytest.approx(2 * task.half_width)
    metrics = task.evaluate(predictions, golds).metrics
    assert metrics["interval_coverage"] == pytest.approx(28 / 30)
    other = RegressionTask.from_state(json.loads(json.dumps(task.state())))
    assert other.half_width == task.half_width  # type: ignore[attr-defined]
