"""Ranking scores against what the definitions say, literally, and against ir-measures where it is installed."""

from __future__ import annotations

import math
import runpy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from polydetr.errors import InputError
from polydetr.metrics.ranking import rank_of, report_of_ranks

_BENCHMARKS = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "ranking.py"))
mean_reciprocal_rank, ndcg_at_k, ranking_report, recall_at_k = (
    _BENCHMARKS[name] for name in ("mean_reciprocal_rank", "ndcg_at_k", "ranking_report", "recall_at_k")
)


def literal(scores: list[list[float]], gains: list[list[float]], k: int) -> tuple[float, float, float]:
    """(recall@k, MRR, nDCG@k), candidate by candidate; of equal scores the less relevant comes first."""
    recalls, reciprocals, ndcgs = [], [], []
    for row, worth in zip(scores, gains, strict=True):
        order = sorted(range(len(row)), key=lambda i: (-row[i], worth[i]))
        relevant = [i for i in order if worth[i] > 0]
        recalls.append(sum(i in relevant for i in order[:k]) / len(relevant) if relevant else 0.0)
        reciprocals.append(1 / (order.index(relevant[0]) + 1) if relevant else 0.0)
        reached = sum(worth[i] / math.log2(place + 2) for place, i in enumerate(order[:k]))
        ideal = sum(g / math.log2(place + 2) for place, g in enumerate(sorted(worth, reverse=True)[:k]))
        ndcgs.append(reached / ideal if ideal else 0.0)
    return tuple(sum(values) / len(values) for values in (recalls, reciprocals, ndcgs))  # type: ignore[return-value]


@st.composite
def tables(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 7)))
    scores = draw(hnp.arrays(np.float64, shape, elements=st.integers(-2, 2).map(float)))  # few values: many ties
    return scores, draw(hnp.arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.0, 1.0, 2.0])))


@settings(max_examples=200, deadline=None)
@given(tables(), st.integers(1, 9))
def test_scores_are_what_the_definitions_say(pair: tuple[np.ndarray, np.ndarray], k: int) -> None:
    scores, gains = pair
    found = recall_at_k(scores, gains, k), mean_reciprocal_rank(scores, gains), ndcg_at_k(scores, gains, k)
    assert found == pytest.approx(literal(scores.tolist(), gains.tolist(), k), abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(tables(), st.randoms(use_true_random=False))
def test_ranks_give_the_same_scores_where_one_candidate_is_right(
    pair: tuple[np.ndarray, np.ndarray], random: object
) -> None:
    scores, _ = pair
    right = np.array([random.randrange(scores.shape[1]) for _ in scores])  # type: ignore[attr-defined]
    gains = np.eye(scores.shape[1])[right]
    whole = ranking_report(scores, gains)
    ranks = report_of_ranks(rank_of(scores, right), candidates=scores.shape[1])
    assert ranks.to_dict() == pytest.approx(whole.to_dict(), abs=1e-12)
    assert (ranks.queries, ranks.candidates) == scores.shape


def test_equal_scores_flatter_nobody() -> None:
    assert recall_at_k(np.zeros((1, 4)), [[1, 0, 0, 0]], 1) == 0.0
    assert mean_reciprocal_rank(np.zeros((1, 4)), [[0, 1, 0, 0]]) == 0.25
    assert rank_of([[0.0, 1.0, 1.0]], [1]).tolist() == [2]


def test_a_known_example() -> None:
    scores, gains = [[0.9, 0.5, 0.1], [0.2, 0.8, 0.4]], [[0, 3, 1], [0, 1, 0]]
    assert recall_at_k(scores, gains, 1) == 0.5
    assert mean_reciprocal_rank(scores, gains) == 0.75
    first = (3 / math.log2(3) + 1 / 2) / (3 + 1 / math.log2(3))
    assert ndcg_at_k(scores, gains, 10) == pytest.approx((first + 1) / 2)
    text = ranking_report(scores, gains).to_text()
    assert "2 queries, 3 candidates" in text
    assert "recall@1" in text


@pytest.mark.parametrize(
    ("scores", "gains", "k"),
    [
        ([[1.0]], [[1.0, 0.0]], 1),
        ([1.0], [1.0], 1),
        (np.zeros((0, 3)), np.zeros((0, 3)), 1),
        ([[math.nan]], [[1.0]], 1),
        ([[1.0]], [[-1.0]], 1),
        ([[1.0]], [[1.0]], 0),
    ],
)
def test_what_does_not_fit_is_refused(scores: object, gains: object, k: int) -> None:
    with pytest.raises(InputError):
        recall_at_k(scores, gains, k)  # type: ignore[arg-type]


def test_ranks_that_cannot_be_are_refused() -> None:
    for ranks in ([], [0], [4]):
        with pytest.raises(InputError):
            report_of_ranks(ranks, candidates=3)
    for relevant in ([1], [0, 3], [-1, 0]):
        with pytest.raises(InputError):
            rank_of(np.zeros((2, 3)), relevant)


@pytest.mark.filterwarnings("ignore")
def test_the_same_as_ir_measures() -> None:
    ir_measures = pytest.importorskip("ir_measures", reason="ir-measures is not installed")
    rng = np.random.default_rng(0)
    scores, gains = rng.permuted(np.tile(np.arange(40.0), (25, 1)), axis=1), rng.integers(0, 4, (25, 40)) // 2
    gains[:, 0] = 1  # ir-measures leaves out queries without a relevant candidate
    qrels = [ir_measures.Qrel(f"q{i}", f"d{j}", int(g)) for i, row in enumerate(gains) for j, g in enumerate(row)]
    run = [ir_measures.ScoredDoc(f"q{i}", f"d{j}", float(s)) for i, row in enumerate(scores) for j, s in enumerate(row)]
    names = ("RR", "R@1", "R@10", "nDCG@10")
    measures = {name: ir_measures.parse_measure(name) for name in names}
    found = ir_measures.calc_aggregate(list(measures.values()), qrels, run)
    ours = ranking_report(scores, gains).to_dict()
    assert [ours[name] for name in ("mrr", "recall@1", "recall@10", "ndcg@10")] == pytest.approx(
        [found[measures[name]] for name in names], abs=1e-9
    )
