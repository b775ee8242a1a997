"""Question answering by the official definitions, and regression scores against scikit-learn and SciPy."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from polydetr.errors import InputError
from polydetr.metrics.qa import (
    best_no_answer_threshold,
    cmrc_exact,
    cmrc_f1,
    longest_common_run,
    normalize_squad,
    qa_report,
    segment_cmrc,
    squad_f1,
)
from polydetr.metrics.regression import regression_report


def test_squad_normal_form():
    assert normalize_squad("The  U.S. President's a-team, an apple!") == "us presidents ateam apple"


def test_squad_scores_by_hand():
    report = qa_report([["the Eiffel Tower", "Paris"], ["1889"]], ["eiffel tower in Paris", "in 1889."])
    assert report.exact_match == 0
    assert report.f1 == pytest.approx((2 * 2 / (2 + 4) + 2 / 3) / 2)
    assert report.language == "en"
    assert report.no_answer_accuracy is None
    assert squad_f1("a the", "") == 1  # both are empty once normalised


def test_no_answer_counts_for_both_scores_and_apart():
    report = qa_report([[], [""], ["x y"]], ["", "wrong", "x"])
    assert (report.exact_match, report.f1) == (pytest.approx(1 / 3), pytest.approx((1 + 0 + 2 / 3) / 3))
    assert (report.has_answer_total, report.no_answer_total, report.no_answer_accuracy) == (1, 2, 0.5)


def test_chinese_units_and_contiguous_overlap():
    assert segment_cmrc("于1998年，加入NBA《火箭》队") == [
        *"于",
        "1998",
        *"年加入",
        "nba",
        *"火箭队",
    ]
    assert cmrc_exact("《红楼梦》", "红楼梦") == 1
    assert cmrc_f1("北京大学", "北大") == pytest.approx(2 * 1 / (2 + 4))  # 北 or 大: contiguous, so 1, not 2
    assert cmrc_f1("一九九八年", "在一九九八年") == pytest.approx(2 * 5 / 11)
    report = qa_report([["北京大学", "北大"], ["上海"]], ["北大", "上海市"])
    assert report.language == "zh"
    assert (report.exact_match, report.f1) == (0.5, pytest.approx((1 + 4 / 5) / 2))


texts = st.text(st.sampled_from("ab北京大， 1"), max_size=8)


@given(st.lists(st.tuples(st.lists(texts, max_size=3), texts), min_size=1, max_size=5))
def test_scores_are_bounded_and_a_gold_answer_is_perfect(rows):
    gold, predicted = map(list, zip(*rows, strict=True))
    report = qa_report(gold, predicted)
    assert 0 <= report.exact_match <= report.f1 <= 1
    copied = qa_report(gold, [next((a for a in answers if a), "") for answers in gold])
    assert copied.exact_match == copied.f1 == 1


@given(st.text("abc", max_size=7), st.text("abc", max_size=7))
def test_longest_common_run_against_all_substrings(first, second):
    runs = {first[i:j] for i in range(len(first) + 1) for j in range(i, len(first) + 1)}
    assert longest_common_run(first, second) == max(len(run) for run in runs if run in second)


def test_no_answer_threshold_by_hand_and_against_every_threshold():
    gold, predicted = [["u"], ["v"], [], []], ["u", "x", "y", "z"]
    threshold, score = best_no_answer_threshold(gold, predicted, [0.1, 0.9, 0.5, 0.5])
    assert (threshold, score) == (0.1, 0.75)
    random = np.random.default_rng(0)
    gold = [["u"] if random.random() < 0.5 else [] for _ in range(60)]
    predicted = ["u" if random.random() < 0.7 else "v" for _ in gold]
    scores = random.integers(0, 8, 60) / 8

    def total(t):
        final = ["" if s > t else p for s, p in zip(scores, predicted, strict=True)]
        return qa_report(gold, final).f1

    threshold, score = best_no_answer_threshold(gold, predicted, scores)
    assert total(threshold) == pytest.approx(score) == pytest.approx(max(total(t) for t in [-1, *scores]))


def test_all_unanswerable_is_left_unanswered():
    threshold, score = best_no_answer_threshold([[], []], ["a", "b"], [0.2, 0.3])
    assert threshold < 0.2
    assert score == 1


def test_wrong_calls_are_named():
    with pytest.raises(InputError, match="1 questions but 2 predictions"):
        qa_report([["a"]], ["a", "b"])
    with pytest.raises(InputError, match="one per question"):
        best_no_answer_threshold([["a"]], ["a"], [0.1, 0.2])


numbers = st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=2, max_size=30)


@given(numbers)
def test_regression_matches_scikit_learn_and_scipy(rows):
    gold, predicted = (np.array(side, float) / 4 for side in zip(*rows, strict=True))
    report = regression_report(gold, predicted)
    assert report.rmse == pytest.approx(sk.root_mean_squared_error(gold, predicted))
    assert report.mae == pytest.approx(sk.mean_absolute_error(gold, predicted))
    assert report.median_absolute_error == pytest.approx(sk.median_absolute_error(gold, predicted))
    assert report.r2 == pytest.approx(sk.r2_score(gold, predicted))
    if len(set(gold)) > 1 and len(set(predicted)) > 1:
        assert report.spearman == pytest.approx(scipy.stats.spearmanr(gold, predicted).statistic)
    else:
        assert report.spearman == 0


def test_regression_report_and_its_errors():
    out = regression_report([1, 2, 3], [1, 2, 3]).to_dict()
    assert (out["rmse"], out["r2"], out["spearman"], out["total"]) == (0, 1, pytest.approx(1), 3)
    for predicted, r2 in ((0.1, 1), (0.2, 0)):  # the mean of three tenths is next to a tenth
        assert regression_report([0.1] * 3, [predicted] * 3).r2 == r2
    with pytest.raises(InputError, match="predicted row 2 is nan"):
        regression_report([1, 2], [1, float("nan")])
    with pytest.raises(InputError, match="of one length"):
        regression_report([1, 2], [1])
