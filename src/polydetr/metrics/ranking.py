"""How high the relevant candidate of each query ranks: recall@k, mean reciprocal rank, nDCG@k.

Shapes: N queries, M candidates. Candidates are ordered by score; of equal scores the relevant one ranks last, so that a
model which gives every candidate the same score is not flattered. Higher is better throughout.
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


RECALL_AT, NDCG_AT = (1, 10), (10,)
"""The depths k of a report."""


def report_of_ranks(ranks: ArrayLike, *, candidates: int) -> RankingReport:
    """The scores of N queries with one relevant candidate each, from its rank (N,), counted from 1 (``rank_of``).

    MRR = mean of 1 / rank (Voorhees 1999); recall@k = share of ranks ≤ k; nDCG@k (Järvelin and Kekäläinen 2002): with
    one relevant candidate the ideal DCG is 1, so that it is 1 / log₂(rank + 1) within the first k, else 0.

    Raises:
        InputError: there is no rank, or one is not between 1 and ``candidates``.
    """
    ranks = np.asarray(ranks)
    if ranks.ndim != 1 or not len(ranks) or ranks.min() < 1 or ranks.max() > candidates:
        raise InputError(f"ranks must be at least one number from 1 to {candidates}, got {ranks!r:.80}.")
    return RankingReport(
        mrr=float((1 / ranks).mean()),
        recall={k: float((ranks <= k).mean()) for k in RECALL_AT},
        ndcg={k: float(np.where(ranks <= k, 1 / np.log2(ranks + 1.0), 0.0).mean()) for k in NDCG_AT},
        queries=len(ranks),
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
