"""The paired bootstrap: sign, interval and share of what is known, and the same draws for both sides."""

from __future__ import annotations

import numpy as np
import pytest

from polydetr.core.predictions import Prediction, RowResult
from polydetr.core.records import Record
from polydetr.errors import Location
from polydetr.tasks.classification import ClassDetails, ClassificationTask
from polydetr.training.bootstrap import (
    FEWEST_DRAWS,
    LEAST_DRAWS,
    MOST_DRAWS,
    draws,
    evaluations_of,
    gain_between,
    resampled_scores,
)


@pytest.fixture
def tasks():
    task = ClassificationTask("label", ClassificationTask.Options())
    task.learn([{"label": "a"}, {"label": "b"}])
    return {"label": task}


def answered(golds, right, *, per_document=1):
    """Rows of which ``right`` says whether each is answered right, as many in a document."""
    rows = []
    for number, (gold, is_right) in enumerate(zip(golds, right, strict=True)):
        value = gold if is_right else {"a": "b", "b": "a"}[gold]
        prediction = Prediction(value, 0.9, ClassDetails({value: 0.9, {"a": "b", "b": "a"}[value]: 0.1}))
        rows.append(
            RowResult(Record({"label": gold}, Location(row=number)), {"label": prediction}, golds={"label": gold})
        )
    return [rows[i : i + per_document] for i in range(0, len(rows), per_document)]


def scores_of(tasks, right):
    golds = ["ab"[i % 2] for i in range(len(right))]
    return resampled_scores(tasks, answered(golds, right), seed=3)


def test_the_interval_is_that_of_paired_differences(tasks):
    """Of 200 rows the best answers 30 better and 10 worse: mean 0.1, standard error by the known formula."""
    default, best = np.ones(200, bool), np.ones(200, bool)
    default[:30], best[30:40] = False, False
    scores = [scores_of(tasks, side) for side in (default, best)]
    found = gain_between(*scores, difference=float(np.mean(best) - np.mean(default)), rows=200)
    apart = best.astype(float) - default
    error = apart.std() / np.sqrt(200)
    assert found.difference == pytest.approx(0.1)
    assert found.low == pytest.approx(0.1 - 1.645 * error, abs=0.01)
    assert found.high == pytest.approx(0.1 + 1.645 * error, abs=0.01)
    assert found.share_better > 0.99
    turned = gain_between(*scores[::-1], difference=float(np.mean(default) - np.mean(best)), rows=200)
    assert (turned.difference, turned.low, turned.high) == pytest.approx((-0.1, -found.high, -found.low), abs=0.005)
    assert turned.share_better < 0.01


def test_models_that_answer_alike_gain_nothing_whatever_their_rows(tasks):
    right = np.arange(30) % 3 > 0
    found = gain_between(scores_of(tasks, right), scores_of(tasks, right), difference=0.0, rows=30)
    assert (found.difference, found.low, found.high, found.share_better) == (0.0, 0.0, 0.0, 0.0)


def test_rows_of_one_document_are_drawn_together(tasks):
    """All rows of a document are right or wrong together, so the score is known as from so many documents."""
    right = np.repeat(np.arange(20) % 2 == 0, 5)
    golds = ["a"] * len(right)
    alone = resampled_scores(tasks, answered(golds, right), seed=0).std()
    together = resampled_scores(tasks, answered(golds, right, per_document=5), seed=0).std()
    assert together == pytest.approx(np.sqrt(5) * alone, rel=0.15)


def test_where_the_time_is_over_the_first_draws_have_to_do(tasks):
    rows = answered(["a", "b"] * 20, [True, False, True, True] * 10)
    scores = resampled_scores(tasks, rows, seed=0, until=0.0)
    assert scores.tolist() == resampled_scores(tasks, rows, seed=0)[:FEWEST_DRAWS].tolist()


def test_a_draw_without_a_label_counts_for_nothing(tasks):
    rows = answered(["a", "b"], [True, True])
    rows[1] = [RowResult(rows[1][0].record, rows[1][0].predictions, golds={"label": None})]
    scores = resampled_scores(tasks, rows, seed=0)
    assert np.isnan(scores).mean() == pytest.approx(0.25, abs=0.05)
    assert set(scores[~np.isnan(scores)]) == {1.0}
    assert gain_between(scores, scores - 1, difference=-1.0, rows=2).high == -1.0
    assert evaluations_of(tasks, rows)["label"].metrics["accuracy"] == 1.0


def test_many_rows_are_drawn_less_often():
    counts = [sum(1 for _ in draws(rows, seed=0)) for rows in (10, 1000, 10_000)]
    assert counts[0] == MOST_DRAWS > counts[1] > counts[2] == LEAST_DRAWS
