"""Several labels per row: what chooses the weights, the threshold, and what "balanced" weighs."""

from __future__ import annotations

import numpy as np
import pytest

from polydetr import Predictor
from polydetr.core.predictions import Prediction
from polydetr.metrics.classification import multilabel_report
from polydetr.tasks.classification import ClassificationTask
from polydetr.training.callbacks import Display


def learned(values: list[list[str]], **options: object) -> ClassificationTask:
    task = ClassificationTask("y", ClassificationTask.Options(**options))
    task.learn([{"y": value} for value in values])
    return task


def answered(task: ClassificationTask, probabilities: np.ndarray) -> list[Prediction]:
    logits = np.log(probabilities / (1 - probabilities))
    return [task.decode([{"logits": row}], [None], [])[0] for row in logits]


def hesitant(count: int = 60) -> tuple[np.ndarray, list[list[str]]]:
    """Probabilities that never reach one half, and are right from 0.2 on, mostly."""
    rng = np.random.default_rng(0)
    has = rng.random((count, 3)) < 0.3
    p = np.where(has, rng.uniform(0.15, 0.45, has.shape), rng.uniform(0.01, 0.25, has.shape))
    return p, [["abc"[j] for j in range(3) if row[j]] for row in has]


def test_the_threshold_is_the_one_of_the_best_micro_f1() -> None:
    p, golds = hesitant()
    task = learned([["a"], ["b", "c"], []])
    before = task.evaluate(answered(task, p), golds).metrics
    assert before["micro_f1"] == 0.0
    (message,) = task.tune(answered(task, p), golds)
    after = task.evaluate(answered(task, p), golds)
    f1 = {}
    for threshold in np.arange(0.02, 0.5, 0.001):  # rows without any label count too
        told = [["abc"[j] for j in range(3) if row[j] >= threshold] for row in p]
        f1[threshold] = multilabel_report(golds, told, ["a", "b", "c"]).micro.f1
    assert after.metrics["micro_f1"] == pytest.approx(max(f1.values()), abs=0.01)
    assert after.metrics["micro_f1"] == pytest.approx(before["best_micro_f1"])
    assert f"{task.threshold:.3f}" in message
    restored = ClassificationTask.from_state(task.state())
    assert isinstance(restored, ClassificationTask)
    assert restored.threshold == task.threshold


def test_a_given_threshold_and_few_labels_leave_it_as_it_is() -> None:
    p, golds = hesitant()
    given = learned([["a"], ["b", "c"]], threshold=0.7)
    assert given.threshold == 0.7
    assert not given.tunes_answers
    few = learned([["a"], ["b", "c"]])
    for task, rows in ((given, 60), (few, 10)):
        before = task.threshold
        assert task.tune(answered(task, p[:rows]), golds[:rows]) == []
        assert task.threshold == before


def test_weights_are_chosen_by_labels_not_by_whole_rows() -> None:
    assert learned([["a"], ["b", "c"]]).primary_metric == "best_micro_f1"
    one = ClassificationTask("y", ClassificationTask.Options())
    one.learn([{"y": "a"}, {"y": "b"}])
    assert one.primary_metric == "accuracy"
    assert not one.tunes_answers


def test_a_missing_label_is_no_class() -> None:
    several = learned([["a", None], ["b", float("nan"), " "]])
    assert (several.labels, several.gold({"y": ["a", None]}, None)) == (["a", "b"], ["a"])
    single = learned([["a"], ["b"], [None]], multi_label=False)
    assert (single.labels, single.gold({"y": [None]}, None)) == (["a", "b"], None)


def test_balanced_is_rows_without_a_label_over_rows_with_it() -> None:
    values = [["a", "b"]] * 2 + [["b"]] * 6 + [[]] * 2
    assert learned(values, class_weights="balanced").class_weights == pytest.approx([8 / 2, 2 / 8])
    everywhere = learned([["a"]] * 4 + [["a", "b"]], class_weights="balanced")
    assert everywhere.class_weights == pytest.approx([1 / 5, 4])


def test_a_run_tunes_the_threshold_and_calibrates_what_is_answered_then() -> None:
    rng = np.random.default_rng(1)
    rows = [{"x": float(x), "y": [n for n, t in (("low", 0.0), ("high", 0.3)) if (x > t) == (n == "high")
             and rng.random() < 0.35]} for x in rng.normal(size=400)]  # fmt: skip
    notes: list[str] = []
    display = Display()
    display.note = notes.append  # type: ignore[method-assign]
    predictor = Predictor.fit(
        rows[:280], "y", valid=rows[280:], inputs={"x": "number"}, backbone="none", epochs=3, display=display,
        settings={"model": {"embed_dim": 16, "num_layers": 1}, "training": {"precision": "fp32"}},
    )  # fmt: skip
    assert any("labels are answered from a probability of 0." in note for note in notes)
    assert any("confidence in 'y' rests on" in note for note in notes)
    found = predictor.evaluate(rows[280:])["y"]
    assert found["micro_f1"] == pytest.approx(predictor.metrics["valid"]["y"]["micro_f1"])
    assert found["micro_f1"] == pytest.approx(found["best_micro_f1"], abs=0.02)
    assert found["micro_f1"] > 0.3
