"""Class and token reports against scikit-learn, and properties that hold for any labels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from polydetr.errors import InputError, RowError
from polydetr.metrics.classification import classification_report, multilabel_report
from polydetr.metrics.separation import auroc
from polydetr.metrics.tokens import token_report

TAGS = ["B-LOC", "I-LOC", "B-MISC", "I-MISC", "B-ORG", "I-ORG", "B-PER", "I-PER", "O"]


def noisy(labels, rows, *, keep, seed):
    random = np.random.default_rng(seed)
    gold = random.choice(labels, rows)
    predicted = np.where(random.random(rows) < keep, gold, random.choice(labels, rows))
    return gold.tolist(), predicted.tolist()


pairs = st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("abcde")), min_size=1, max_size=40)


@pytest.mark.parametrize("labels", [["no", "yes"], ["a much longer label than the foot", "b", "c"]])
def test_classification_text_is_scikit_learns(labels):
    gold, predicted = noisy(labels, 97, keep=0.6, seed=1)
    assert classification_report(gold, predicted).to_text() == sk.classification_report(
        gold, predicted, digits=3, zero_division=0
    )


def test_a_subset_of_labels_shows_the_micro_average():
    gold, predicted = noisy(list("abcd"), 101, keep=0.5, seed=2)
    ours = classification_report(gold, predicted, labels=["c", "a"])
    assert ours.to_text() == sk.classification_report(gold, predicted, labels=["c", "a"], digits=3, zero_division=0)


def test_token_table_is_the_articles_layout_and_scikit_learns_numbers():
    gold, predicted = noisy(TAGS, 7 * 53, keep=0.8, seed=3)
    report = token_report(np.reshape(gold, (53, 7)).tolist(), np.reshape(predicted, (53, 7)).tolist())
    assert [row.label for row in report.rows] == TAGS
    truth = sk.classification_report(gold, predicted, output_dict=True, zero_division=0)
    for row in (*report.rows, report.macro, report.weighted):
        theirs = truth[row.label]
        assert (row.precision, row.recall, row.f1, row.support) == pytest.approx(
            (theirs["precision"], theirs["recall"], theirs["f1-score"], theirs["support"])
        )
    assert report.micro.f1 == pytest.approx(truth["accuracy"])
    text = sk.classification_report(gold, predicted, labels=TAGS, digits=3).splitlines()
    ours = report.to_text().splitlines()
    assert ours[: 2 + len(TAGS)] == text[: 2 + len(TAGS)]
    assert [line.split()[0] for line in ours[-3:]] == ["micro", "macro", "weighted"]
    assert len({len(line) for line in ours if line}) == 1


def test_token_table_of_wide_labels_lines_up():
    text = token_report([["B-人名", "O"]], [["B-人名", "O"]]).to_text()
    row = next(line for line in text.splitlines() if "人名" in line)
    assert len(row) + 2 == len(text.splitlines()[-1])  # two characters take two columns each


def test_token_report_names_the_uneven_sentence():
    with pytest.raises(RowError, match=r"row 2: 2 gold tags but 1 predicted"):
        token_report([["O"], ["O", "O"]], [["O"], ["O"]])
    with pytest.raises(InputError, match="1 gold sentences but 0 predicted"):
        token_report([["O"]], [])


@given(pairs)
def test_single_scores_match_scikit_learn(rows):
    gold, predicted = map(list, zip(*rows, strict=True))
    report = classification_report(gold, predicted)
    assert report.accuracy == pytest.approx(sk.accuracy_score(gold, predicted))
    assert report.macro.f1 == pytest.approx(sk.f1_score(gold, predicted, average="macro", zero_division=0))
    assert report.weighted.f1 == pytest.approx(sk.f1_score(gold, predicted, average="weighted", zero_division=0))
    labels = sorted({*gold, *predicted})
    if len(labels) > 1:
        truth = sk.confusion_matrix(gold, predicted, labels=labels)
        np.testing.assert_array_equal(report.confusion, truth)


@given(pairs, st.randoms())
def test_scores_are_bounded_and_blind_to_row_order(rows, random):
    gold, predicted = map(list, zip(*rows, strict=True))
    report = classification_report(gold, predicted)
    assert all(0 <= value <= 1 for r in report.rows for value in (r.precision, r.recall, r.f1))
    random.shuffle(rows)
    assert classification_report(*map(list, zip(*rows, strict=True))) == report
    perfect = classification_report(gold, gold)
    assert perfect.accuracy == perfect.macro.f1 == perfect.weighted.f1 == perfect.micro.f1 == 1


def test_report_is_plain_json():
    report = classification_report(["x", "y", "y"], ["x", "x", "y"])
    out = report.to_dict()
    assert out["labels"]["y"] == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2}
    assert out["confusion"] == {"labels": ["x", "y"], "matrix": [[1, 0], [1, 1]]}
    assert [row.support for row in report.rows] == [1, 2]


@given(st.lists(st.tuples(st.sets(st.sampled_from("abc")), st.sets(st.sampled_from("abc"))), min_size=1, max_size=20))
def test_multilabel_matches_scikit_learn(rows):
    gold, predicted = map(list, zip(*rows, strict=True))
    report = multilabel_report(gold, predicted, labels=list("abc"))
    truth, found = ([[label in row for label in "abc"] for row in side] for side in (gold, predicted))
    truth, found = np.array(truth, int), np.array(found, int)
    for name, value in (("micro", report.micro.f1), ("macro", report.macro.f1)):
        assert value == pytest.approx(sk.f1_score(truth, found, average=name, zero_division=0))
    assert [r.f1 for r in report.rows] == pytest.approx(sk.f1_score(truth, found, average=None, zero_division=0))
    assert report.accuracy == pytest.approx(sk.accuracy_score(truth, found))


ranked = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40).filter(
    lambda rows: len({positive for _, positive in rows}) == 2
)


@given(ranked)
def test_ranking_scores_match_scikit_learn_with_ties(rows):
    scores, positives = map(list, zip(*rows, strict=True))
    assert auroc(scores, positives) == pytest.approx(sk.roc_auc_score(positives, scores))


def test_auroc_says_what_is_missing():
    with pytest.raises(InputError, match="of 2 rows 2 are positive"):
        auroc([1, 2], [True, True])
    with pytest.raises(InputError, match="one finite score per row"):
        auroc([1, float("nan")], [True, False])


@pytest.mark.parametrize(("gold", "predicted", "message"), [([], [], "at least one row"), (["a"], [], "1 gold rows")])
def test_empty_and_uneven_rows_are_refused(gold, predicted, message):
    with pytest.raises(InputError, match=message):
        classification_report(gold, predicted)
