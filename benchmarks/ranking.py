"""Ranking scores of any table of scores, with graded relevance and several relevant candidates per query.

Shapes: N queries, M candidates. Candidates are ordered by score; of equal scores the less relevant ranks first, so that
a model which gives every candidate the same score is not flattered. Higher is better throughout; a query without any
relevant candidate counts zero. Where each query has one relevant candidate, the scores are those of
``polydetr.metrics.ranking.report_of_ranks``, by which polydetr measures its own embeddings.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polydetr.errors import InputError
from polydetr.metrics.ranking import NDCG_AT, RECALL_AT, RankingReport


def ranking_report(scores: ArrayLike, gains: ArrayLike) -> RankingReport:
    """Every score at once, from scores (N, M) and gains (N, M): 0 = irrelevant, larger = more relevant.

    Raises:
        InputError: see ``recall_at_k``.
    """
    table, worth = _tables(scores, gains)
    return RankingReport(
        mrr=mean_reciprocal_rank(table, worth),
        recall={k: recall_at_k(table, worth, k) for k in RECALL_AT},
        ndcg={k: ndcg_at_k(table, worth, k) for k in NDCG_AT},
        queries=len(table),
        candidates=table.shape[1],
    )


def recall_at_k(scores: ArrayLike, gains: ArrayLike, k: int) -> float:
    """mean over queries of |relevant among the first k| / |relevant|.

    scores, gains: (N, M); relevant is what has a gain above 0.

    Raises:
        InputError: shapes differ or are empty, a score is not finite, a gain is negative or not finite, or k < 1.
    """
    ordered = _in_order(scores, gains, k) > 0
    found, all_there_are = ordered[:, :k].sum(1), ordered.sum(1)
    return float((found / np.maximum(all_there_are, 1)).mean())


def mean_reciprocal_rank(scores: ArrayLike, gains: ArrayLike) -> float:
    """mean over queries of 1 / rank of the first relevant candidate (Voorhees 1999). Raises as ``recall_at_k``."""
    ordered = _in_order(scores, gains, 1) > 0
    return float(np.where(ordered.any(1), 1 / (ordered.argmax(1) + 1), 0.0).mean())


def ndcg_at_k(scores: ArrayLike, gains: ArrayLike, k: int) -> float:
    """mean over queries of DCG@k / the largest DCG@k there could be, DCG@k = Σ_{i≤k} g_i / log₂(i + 1).

    The gain itself is summed (Järvelin and Kekäläinen 2002, as trec_eval does), not 2^g - 1; for relevance 0 and 1 they
    are the same. Raises as ``recall_at_k``.
    """
    ordered = _in_order(scores, gains, k)
    best = -np.sort(-ordered, axis=1)[:, :k]
    discount = 1 / np.log2(np.arange(2, best.shape[1] + 2))
    reached, ideal = ordered[:, :k] @ discount, best @ discount
    return float((reached / np.where(ideal > 0, ideal, 1.0)).mean())


def _in_order(scores: ArrayLike, gains: ArrayLike, k: int) -> NDArray[np.float64]:
    """The gains (N, M) in the order in which the candidates stand."""
    table, worth = _tables(scores, gains)
    if k < 1:
        raise InputError(f"k = {k}, expected at least 1.")
    return np.take_along_axis(worth, np.lexsort((worth, -table), axis=1), axis=1)


def _tables(scores: ArrayLike, gains: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    table, worth = np.asarray(scores, np.float64), np.asarray(gains, np.float64)
    if table.ndim != 2 or table.shape != worth.shape or not table.size:
        raise InputError(f"scores {table.shape} and gains {worth.shape} must be the same (N, M), neither of them 0.")
    if not np.isfinite(table).all() or not np.isfinite(worth).all() or worth.min() < 0:
        raise InputError("scores must be finite, and gains finite and not negative.")
    return table, worth
