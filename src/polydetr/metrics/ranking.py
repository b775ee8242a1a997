"""How high the right candidates stand: recall@k, mean reciprocal rank, nDCG@k.

Shapes: N queries, M candidates. Candidates are ordered by score; of equal scores the less relevant stands first, so
that a model which gives every candidate the same score is not flattered. Higher is better throughout; a query without
any relevant candidate counts zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polydetr.errors import InputError


@dataclass(frozen=True, slots=True)
class RankingReport:
    """Means over the queries; ``recall`` and ``ndcg`` by their depth k."""

    mrr: float
    recall: dict[int, float]
    ndcg: dict[int, float]
    queries: int
    candidates: int

    def to_dict(self) -> dict[str, Any]:
        """Scores by their standard names: ``mrr``, ``recall@1``, ``ndcg@10``."""
        return {
            "mrr": self.mrr,
            **{f"recall@{k}": value for k, value in self.recall.items()},
            **{f"ndcg@{k}": value for k, value in self.ndcg.items()},
        }

    def to_text(self) -> str:
        lines = [f"{self.queries} queries, {self.candidates} candidates"]
        return "\n".join([*lines, *(f"{name:<12}{value:.4f}" for name, value in self.to_dict().items())])


_RECALL_AT, _NDCG_AT = (1, 10), (10,)  # the ranks k that a report tells


def ranking_report(scores: ArrayLike, gains: ArrayLike) -> RankingReport:
    """Every score at once, from scores (N, M) and gains (N, M): 0 = irrelevant, larger = more relevant.

    Raises:
        InputError: see ``recall_at_k``.
    """
    table, worth = _tables(scores, gains)
    return RankingReport(
        mrr=mean_reciprocal_rank(table, worth),
        recall={k: recall_at_k(table, worth, k) for k in _RECALL_AT},
        ndcg={k: ndcg_at_k(table, worth, k) for k in _NDCG_AT},
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


def report_of_ranks(ranks: ArrayLike, *, candidates: int) -> RankingReport:
    """The same scores where each query has one relevant candidate, from its rank (N,), counted from 1 (``rank_of``).

    With one relevant candidate the ideal DCG is 1, so that nDCG@k = 1 / log₂(rank + 1) within the first k, else 0.

    Raises:
        InputError: there is no rank, or one is not between 1 and ``candidates``.
    """
    found = np.asarray(ranks)
    if found.ndim != 1 or not len(found) or found.min() < 1 or found.max() > candidates:
        raise InputError(f"ranks must be at least one number from 1 to {candidates}, got {found!r:.80}.")
    return RankingReport(
        mrr=float((1 / found).mean()),
        recall={k: float((found <= k).mean()) for k in _RECALL_AT},
        ndcg={k: float(np.where(found <= k, 1 / np.log2(found + 1.0), 0.0).mean()) for k in _NDCG_AT},
        queries=len(found),
        candidates=candidates,
    )


def rank_of(scores: ArrayLike, relevant: ArrayLike) -> NDArray[np.int64]:
    """The rank (N,), from 1, of each query's one relevant candidate.

    scores: (N, M); relevant: (N,) its column. Raises InputError where they do not fit or a score is not finite.
    """
    table, column = np.asarray(scores), np.asarray(relevant)
    if table.ndim != 2 or column.shape != (len(table),) or not np.isfinite(table).all():
        raise InputError(f"rank_of needs finite scores (N, M) and columns (N,), got {table.shape} and {column.shape}.")
    if len(column) and not 0 <= column.min() <= column.max() < table.shape[1]:
        raise InputError(f"columns must be from 0 to {table.shape[1] - 1}, got {column.min()} to {column.max()}.")
    own = table[np.arange(len(table)), column]
    return (table >= own[:, None]).sum(1)  # itself, and all that are no worse


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
