"""A score that answering without looking reaches too is told, by training and by evaluate alike."""

import warnings

import numpy as np
import pytest

from polydetr.core.predictions import Evaluation
from polydetr.engine.cautions import baseline_data, score_warnings
from polydetr.engine.measure import evaluate_results, evaluation_warnings
from polydetr.tasks.classification import ClassificationTask
from polydetr.tasks.detection import DetectionTask
from polydetr.tasks.entities import EntitiesTask, GoldSpans
from polydetr.tasks.qa import Answer, GoldAnswers, QuestionAnsweringTask
from polydetr.tasks.regression import RegressionTask
from polydetr.tasks.tagging import GoldTags, TaggingTask
from polydetr.values.objects import Objects
from polydetr.values.spans import Span
from tiny_models import as_records, make_engine

GOLDS = ["a"] * 16 + ["b"] * 8


def classifier(**options):
    return ClassificationTask("y", ClassificationTask.Options(**options))


def test_the_most_frequent_class():
    known = baseline_data(classifier(), [*GOLDS, None])
    assert known == {
        "baseline": {"metric": "accuracy", "value": pytest.approx(16 / 24), "answer": "a", "lower_is_better": False}
    }
    worse = Evaluation({"accuracy": 0.5}, data=known)
    (line,) = score_warnings(classifier(), worse, where="the test rows")
    assert line.startswith(
        "'y': accuracy 0.5 on the test rows is no better than 0.6667, which always answering the most"
    )
    assert score_warnings(classifier(), Evaluation({"accuracy": 16 / 24}, data=known), where="these rows")
    assert not score_warnings(classifier(), Evaluation({"accuracy": 0.7}, data=known), where="these rows")


def test_the_most_frequent_of_several_labels():
    """Always answering "a" is right 20 times, of 24 answers and 28 labels: 2 · 20 / (24 + 28)."""
    golds = ([["a"]] * 8 + [["a", "b"]] * 2 + [["b"], ["c"]]) * 2
    (known,) = baseline_data(classifier(multi_label=True), golds).values()
    assert known == {"metric": "micro_f1", "value": pytest.approx(40 / 52), "answer": "a", "lower_is_better": False}


def test_the_mean():
    golds = [1.0, 2.0, 3.0, 6.0] * 5
    task = RegressionTask("price", RegressionTask.Options())
    known = baseline_data(task, golds)
    assert known["baseline"] == {
        "metric": "rmse",
        "value": pytest.approx(np.std(golds)),
        "answer": 3.0,
        "lower_is_better": True,
    }
    (line,) = score_warnings(task, Evaluation({"rmse": 2.5}, data=known), where="these rows")
    assert "rmse 2.5 on these rows is no better than 1.871, which always answering the mean (3)" in line
    assert not score_warnings(task, Evaluation({"rmse": 1.5}, data=known), where="these rows")


def test_few_rows_and_a_single_class_have_no_baseline():
    assert not baseline_data(classifier(), GOLDS[:19])
    assert not baseline_data(classifier(), ["a"] * 20)
    assert not baseline_data(RegressionTask("price", RegressionTask.Options()), [2.0] * 20)


def test_nothing_found_at_all():
    """There is nothing to say where nothing is marked."""
    task = TaggingTask("tags", TaggingTask.Options())
    golds = [GoldTags(["B-X"], [Span(0, 1, "X")])] * 20
    known = baseline_data(task, golds)
    (line,) = score_warnings(task, Evaluation({"entity_f1": 0.0}, data=known), where="the valid rows")
    assert line == "'tags': entity_f1 is 0 on the valid rows: nothing was found of what is marked there"
    assert not score_warnings(task, Evaluation({"entity_f1": 0.01}, data=known), where="the valid rows")
    assert not baseline_data(task, [GoldTags(["O"], [])] * 20)


def test_what_nothing_found_is_worth_to_each_task():
    objects = Objects(({"box": [0, 0, 1, 1], "label": "cup"},))
    detection = DetectionTask("y", DetectionTask.Options())
    assert baseline_data(detection, [objects] * 20)["baseline"] == {
        "metric": "map",
        "value": 0.0,
        "answer": None,
        "lower_is_better": False,
    }
    assert not baseline_data(detection, [Objects(())] * 20)
    entities = EntitiesTask("y", EntitiesTask.Options())
    assert baseline_data(entities, [GoldSpans([Span(0, 1, "X")], [(0, 1, "X")], ["B-X"])] * 20)
    qa = QuestionAnsweringTask("y", QuestionAnsweringTask.Options())
    golds = [GoldAnswers([Answer("x", 0)])] * 15 + [GoldAnswers([])] * 5
    assert baseline_data(qa, golds)["baseline"] == {
        "metric": "f1",
        "value": 0.25,
        "answer": "no answer",
        "lower_is_better": False,
    }
    tags = TaggingTask("y", TaggingTask.Options())
    tags.plain = True
    golds = [GoldTags(["NOUN", "NOUN", "VERB"], [])] * 20
    assert baseline_data(tags, golds)["baseline"] == {
        "metric": "accuracy", "value": pytest.approx(2 / 3), "answer": "NOUN", "lower_is_better": False
    }  # fmt: skip


def test_an_untrained_model_is_measured_with_its_baseline():
    rows = [{"text": f"word {i}", "y": "ab"[i % 3 == 0]} for i in range(24)]
    engine = make_engine(rows, {"y": "classification"})
    found = evaluate_results(engine, list(engine.run(as_records(rows), with_targets=True)))["y"]
    assert found.data["baseline"]["value"] == pytest.approx(16 / 24)
    said = evaluation_warnings(engine.tasks["y"], found, where="these rows")
    assert bool(said) == (found.metrics["accuracy"] <= 16 / 24)


def test_evaluate_says_it(tmp_path):
    from polydetr import MeasureWarning, Predictor

    settings = {"model": {"embed_dim": 16, "num_layers": 1}, "training": {"precision": "fp32", "head_lr": 1e-9}}
    rows = [{"text": f"word {i % 5}", "y": "ab"[i % 2]} for i in range(20)]
    predictor = Predictor.fit(rows, {"y": "classification"}, valid=rows, backbone="none", epochs=1, settings=settings)
    always = predictor.predict([rows[0]])[0]["y"]
    asked = [
        {"text": row["text"], "y": always if i % 4 == 0 else "ab"["ba".index(always)]} for i, row in enumerate(rows)
    ]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        score = predictor.evaluate(asked)["y"]["accuracy"]
    told = [str(w.message) for w in caught if issubclass(w.category, MeasureWarning)]
    assert score < 0.75
    assert any("is no better than 0.75, which always answering the most frequent" in line for line in told)
