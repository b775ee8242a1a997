"""Labels that a model contradicts as surely as it is right elsewhere are marked, whatever the task; others are not."""

from __future__ import annotations

import numpy as np
import pytest

from polydetr.core.predictions import Figures, Prediction
from polydetr.metrics.suspicion import ALIKE, far_out
from polydetr.tasks.entities import EntitiesTask, GoldSpans, SpanDetails
from polydetr.tasks.qa import Answer, GoldAnswers, QaDetails, QuestionAnsweringTask
from polydetr.tasks.regression import QuantityDetails, RegressionTask
from polydetr.tasks.tagging import GoldTags, TagDetails, TaggingTask
from polydetr.values.spans import Span

SURE, UNSURE = 0.97, 0.7


def doubts(task, predictions, golds):
    """Row → (kind, whether its label is suspicious)."""
    return {row: (one.kind, one.suspicious) for row, one in task.mistakes(predictions, golds, Figures())}


# -- spans -------------------------------------------------------------------------------------------------------------

TEXT = "Ada met Grace"
WORDS = ((0, 3), (4, 7), (8, 13))


def tagged(tags, probability, spans):
    value = [{"start": s, "end": e, "label": label, "probability": p} for (s, e, label), p in spans.items()]
    return Prediction(value, None, TagDetails(tags, WORDS, probability))


def gold_tags(*spans):
    return GoldTags((), [Span(start, end, "PER") for start, end in spans])


def tagging():
    ada, grace = (0, 3, "PER"), (8, 13, "PER")
    both = tagged(("B-PER", "O", "B-PER"), (0.9, 0.96, 0.9), {ada: 0.9, grace: 0.9})
    one = tagged(("B-PER", "O", "O"), (0.9, 0.96, SURE), {ada: 0.9})
    unsure = tagged(("B-PER", "O", "O"), (0.9, 0.96, UNSURE), {ada: 0.9})
    invented = tagged(("B-PER", "B-PER", "B-PER"), (0.9, SURE, 0.9), {ada: 0.9, (4, 7, "PER"): SURE, grace: 0.9})
    task = TaggingTask("entities", TaggingTask.Options())
    golds = [gold_tags((0, 3), (8, 13))] * 10
    return task, [both] * 7 + [one, unsure, invented], golds


def test_entities_that_a_tagger_surely_misses_or_invents_are_suspicious() -> None:
    found = doubts(*tagging())
    assert found == {7: ("missed", True), 8: ("missed", False), 9: ("invented", True)}


def test_a_missed_span_of_a_set_is_not_judged() -> None:
    """What was never proposed has no probability."""
    answered = {"start": 0, "end": 3, "label": "PER", "text": "Ada", "score": SURE, "probability": SURE}
    predictions = [Prediction([answered], None, SpanDetails([answered]))] * 9
    golds = [GoldSpans([Span(0, 3, "PER"), Span(8, 13, "PER")][: 1 + (row == 8)], (), ()) for row in range(9)]
    assert doubts(EntitiesTask("entities", EntitiesTask.Options()), predictions, golds) == {8: ("missed", False)}


# -- question answering ------------------------------------------------------------------------------------------------


def answered(text, probability):
    at = {"text": text, "start": TEXT.index(text), "end": TEXT.index(text) + len(text)}
    return Prediction(at if text else {"text": "", "start": None, "end": None}, probability, QaDetails(0.0, 0.0, text))


def test_answers_to_questions_are_judged_by_the_right_ones_of_their_kind() -> None:
    some, none = GoldAnswers([Answer("Ada", 0)]), GoldAnswers([])
    rows = [(answered("Ada", 0.95), some)] * 6 + [(answered("", 0.92), none)] * 6
    rows += [
        (answered("Grace", 0.96), some), (answered("Grace", 0.94), some), (answered("Ada", 0.96), none),
        (answered("", 0.93), some), (answered("", 0.91), some),
    ]  # fmt: skip
    predictions, golds = zip(*rows, strict=True)
    assert doubts(QuestionAnsweringTask("answers", QuestionAnsweringTask.Options()), predictions, golds) == {
        12: ("elsewhere", True), 13: ("elsewhere", False), 14: ("answered in vain", True),
        15: ("not answered", True), 16: ("not answered", False),
    }  # fmt: skip


# -- numbers -----------------------------------------------------------------------------------------------------------


def test_a_slip_of_the_decimal_point_is_suspicious_where_large_values_err_more() -> None:
    random = np.random.default_rng(0)
    value = np.exp(random.uniform(3, 9, 400))
    gold = value * np.exp(random.uniform(-0.1, 0.1, 400))
    slips = [5, 77, 300]
    gold[slips] *= 10
    predictions = [Prediction(float(v), None, QuantityDetails()) for v in value]
    found = doubts(RegressionTask("price", RegressionTask.Options()), predictions, gold.tolist())
    assert [row for row, (_, suspicious) in found.items() if suspicious] == slips


def test_few_rows_and_rows_without_spread_tell_nothing() -> None:
    residuals = np.append(np.zeros(ALIKE), 100.0)
    assert not far_out(np.arange(ALIKE + 1.0), residuals).any()
    few = np.append(np.linspace(-1, 1, ALIKE - 2), 100.0)
    assert not far_out(np.arange(ALIKE - 1.0), few).any()
    assert far_out(np.arange(ALIKE + 0.0), np.append(np.linspace(-1, 1, ALIKE - 1), 100.0)).nonzero()[0] == [ALIKE - 1]
    assert far_out(np.zeros(0), np.zeros(0)).shape == (0,)


@pytest.mark.parametrize("times", [1.0, 1000.0])
def test_almost_no_residual_of_a_normal_distribution_is_far_out(times: float) -> None:
    residuals = times * np.random.default_rng(1).normal(size=50_000)
    assert far_out(np.arange(50_000.0), residuals).sum() <= 15
