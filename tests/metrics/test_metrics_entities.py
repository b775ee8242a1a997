"""Entity scores against seqeval, and the SemEval ways of matching by hand."""

import numpy as np
import pytest
import seqeval.metrics
from hypothesis import given
from hypothesis import strategies as st

from polydetr.errors import InputError
from polydetr.metrics.entities import best_threshold, entity_report, nested_recall
from polydetr.values.spans import Span


def flat_spans(random, length, *, labels=("LOC", "ORG", "人名")):
    """Random spans over tokens that do not overlap, with their IOB2 tags."""
    tags, spans, start = ["O"] * length, [], 0
    while start < length:
        size = min(int(random.integers(1, 4)), length - start)
        if random.random() < 0.6:
            label = str(random.choice(labels))
            spans.append(Span(start, start + size, label))
            tags[start : start + size] = [f"B-{label}"] + [f"I-{label}"] * (size - 1)
        start += size
    return spans, tags


@pytest.mark.parametrize("seed", range(5))
def test_strict_scores_are_seqevals(seed):
    random = np.random.default_rng(seed)
    gold, predicted = [], []
    for _ in range(31):
        length = int(random.integers(1, 17))
        gold.append(flat_spans(random, length))
        predicted.append(gold[-1] if random.random() < 0.5 else flat_spans(random, length))
    report = entity_report([s for s, _ in gold], [s for s, _ in predicted])
    tags = [t for _, t in gold], [t for _, t in predicted]
    truth = seqeval.metrics.classification_report(*tags, output_dict=True, zero_division=0)
    assert report.entity_f1 == pytest.approx(seqeval.metrics.f1_score(*tags))
    for row in (*report.rows, report.micro, report.macro, report.weighted):
        theirs = truth[row.label]
        assert (row.precision, row.recall, row.f1, row.support) == pytest.approx(
            (theirs["precision"], theirs["recall"], theirs["f1-score"], theirs["support"])
        )
    head = report.to_text().splitlines()[0]
    assert head.split() == ["precision", "recall", "f1-score", "support"]


def test_the_four_ways_of_matching_by_hand():
    gold = [[Span(0, 2, "A"), Span(3, 5, "B"), Span(6, 9, "A"), Span(10, 14, "B"), Span(20, 22, "A")]]
    predicted = [
        [
            Span(0, 2, "A"),  # all right
            Span(3, 5, "A"),  # right bounds, wrong type
            Span(6, 8, "A"),  # overlap, right type
            Span(12, 14, "A"),  # overlap, wrong type
            Span(30, 31, "A"),  # nothing there
        ]
    ]
    report = entity_report(gold, predicted)
    counts = {
        name: tuple(
            getattr(getattr(report, name), k) for k in ("correct", "incorrect", "partial", "missed", "spurious")
        )
        for name in ("strict", "exact", "partial", "type")
    }
    assert counts == {
        "strict": (1, 3, 0, 1, 1),
        "exact": (2, 2, 0, 1, 1),
        "partial": (2, 0, 2, 1, 1),
        "type": (2, 2, 0, 1, 1),
    }
    assert report.strict.f1 == pytest.approx(report.entity_f1) == pytest.approx(1 / 5)
    assert report.partial.precision == report.partial.recall == pytest.approx(3 / 5)
    assert report.accuracy == 0


def test_one_gold_span_is_paired_once_and_with_its_best_partner():
    report = entity_report([[Span(0, 10, "A")]], [[Span(0, 3, "A"), Span(2, 10, "A")]])
    assert (report.partial.partial, report.partial.spurious) == (1, 1)
    both = entity_report([[Span(0, 4, "A"), Span(4, 8, "A")]], [[Span(3, 8, "A"), Span(0, 3, "A")]])
    assert both.partial.partial == 2


def test_nested_spans_and_duplicates():
    nested = [[Span(0, 9, "ORG"), Span(0, 4, "LOC"), Span(0, 9, "LOC")]]
    assert entity_report(nested, nested).entity_f1 == 1
    twice = entity_report([[Span(0, 1, "A")]], [[Span(0, 1, "A"), Span(0, 1, "A", 0.4)]])
    assert (twice.micro.precision, twice.micro.recall, twice.strict.spurious) == (0.5, 1.0, 1)


spans = st.lists(
    st.builds(lambda s, n, label: Span(s, s + n, label), st.integers(0, 8), st.integers(1, 4), st.sampled_from("AB")),
    max_size=6,
)


@given(st.lists(st.tuples(spans, spans), min_size=1, max_size=6), st.randoms())
def test_scores_are_bounded_consistent_and_blind_to_order(rows, random):
    gold, predicted = map(list, zip(*rows, strict=True))
    report = entity_report(gold, predicted)
    total_gold, total_found = sum(map(len, gold)), sum(map(len, predicted))
    for match in (report.strict, report.exact, report.partial, report.type):
        assert (match.possible, match.actual) == (total_gold, total_found)
        assert 0 <= match.f1 <= 1
    assert report.strict.f1 == pytest.approx(report.entity_f1)
    assert report.strict.f1 <= report.exact.f1 <= report.partial.f1 + 1e-12
    assert report.strict.f1 <= report.type.f1
    for row in rows:
        random.shuffle(row[0])
        random.shuffle(row[1])
    random.shuffle(rows)
    shuffled = entity_report(*map(list, zip(*rows, strict=True)))
    assert (shuffled.rows, shuffled.micro, shuffled.strict) == (report.rows, report.micro, report.strict)
    assert entity_report(gold, gold).entity_f1 == (1.0 if total_gold else 0.0)


def test_no_entities_at_all_and_uneven_texts():
    empty = entity_report([[]], [[]])
    assert empty.entity_f1 == 0
    assert empty.accuracy == 1
    assert "micro avg" in empty.to_text()
    with pytest.raises(InputError, match="2 gold texts but 1 predicted"):
        entity_report([[], []], [[]])


def test_report_is_plain_json():
    out = entity_report([[Span(0, 1, "A")]], [[Span(0, 1, "A", 0.9)]]).to_dict()
    assert out["entity_f1"] == 1
    assert out["types"]["A"]["support"] == 1
    assert out["matching"]["partial"]["possible"] == 1


def test_nested_recall_counts_what_lies_inside_another():
    outer, inner, inmost = Span(0, 9, "A"), Span(0, 5, "B"), Span(2, 4, "A")
    across, alone, twin = Span(7, 12, "A"), Span(20, 25, "A"), Span(0, 9, "B")
    gold = [[outer, inner, inmost, across, alone, twin]]
    score = nested_recall(gold, [[outer, inner, alone, Span(2, 4, "B")]])
    assert (score.correct, score.possible) == (1, 2)  # not the outer one, nor one across, nor the same words again
    assert nested_recall([[outer], []], [[outer], []]).possible == 0
    with pytest.raises(InputError, match="1 gold texts but 0 predicted"):
        nested_recall([[outer]], [])


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), max_size=12), st.integers(0, 5))
def test_the_best_threshold_is_the_best_of_all(pairs, missed):
    scores, correct = [score / 8 for score, _ in pairs], [right for _, right in pairs]
    num_gold = sum(correct) + missed
    threshold, f1 = best_threshold(scores, correct, num_gold)

    def f1_at(least):
        kept = [right for score, right in zip(scores, correct, strict=True) if score >= least]
        return 2 * sum(kept) / (len(kept) + num_gold) if kept else 0.0

    assert f1 == pytest.approx(f1_at(threshold))
    assert f1 == pytest.approx(max([f1_at(score) for score in scores], default=0.0))
