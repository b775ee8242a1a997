"""Extractive question answering: exact match and F1, English and Chinese, with no-answer.

English follows the SQuAD v1.1 / v2.0 definitions (Rajpurkar et al. 2016, arXiv 1606.05250; 2018, arXiv 1806.03822),
Chinese those of CMRC 2018 (Cui et al. 2019, arXiv 1810.07366). All scores are between 0 and 1. An unanswerable question
has no gold answer, and the empty prediction answers it.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from polydetr.errors import InputError
from polydetr.values.spans import is_unspaced

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)
_CMRC_PUNCTUATION = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
_HAN = re.compile(r"[\u4e00-\u9fa5]")
_WESTERN = re.compile(r"\w+(?:[.,]\d+)*|[^\w\s]")


@dataclass(frozen=True, slots=True)
class QaReport:
    """Exact match and F1 over all questions, and apart over those with and without an answer (None where there are
    none).
    """

    exact_match: float
    f1: float
    total: int
    language: str
    has_answer_exact: float | None
    has_answer_f1: float | None
    has_answer_total: int
    no_answer_accuracy: float | None
    no_answer_total: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def qa_report(gold: Sequence[Sequence[str]], predicted: Sequence[str]) -> QaReport:
    """Scores one prediction per question against all its gold answers, the best of them counting.

    gold: the answers of each question; an empty list, or only empty strings, means that there is none. The language is
    Chinese where at least 30 % of the answerable questions have an answer with a character of an unspaced script.

    Raises:
        InputError: lengths differ, or no questions.
    """
    language = language_of(gold, predicted)
    scores = np.array([answer_scores(answers, p, language) for answers, p in zip(gold, predicted, strict=True)])
    answerable = np.array([any(answers) for answers in gold])

    def mean(column: int, rows: np.ndarray) -> float | None:
        return float(scores[rows, column].mean()) if rows.any() else None

    return QaReport(
        exact_match=float(scores[:, 0].mean()),
        f1=float(scores[:, 1].mean()),
        total=len(gold),
        language=language,
        has_answer_exact=mean(0, answerable),
        has_answer_f1=mean(1, answerable),
        has_answer_total=int(answerable.sum()),
        no_answer_accuracy=mean(0, ~answerable),
        no_answer_total=int((~answerable).sum()),
    )


def answer_scores(answers: Sequence[str], predicted: str, language: str) -> tuple[float, float]:
    """(exact match, F1) of one prediction, the maximum over ``answers``; language "en" or "zh"."""
    exact, f1 = (cmrc_exact, cmrc_f1) if language == "zh" else (squad_exact, squad_f1)
    real = [answer for answer in answers if answer] or [""]
    return max(exact(a, predicted) for a in real), max(f1(a, predicted) for a in real)


def normalize_squad(text: str) -> str:
    """SQuAD's normal form: lower case, no ASCII punctuation, no article (a, an, the), single spaces; in this order."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_ASCII_PUNCTUATION)).split())


def squad_exact(gold: str, predicted: str) -> float:
    return float(normalize_squad(gold) == normalize_squad(predicted))


def squad_f1(gold: str, predicted: str) -> float:
    """F1 over the multisets of normalized words; where either side has none, 1 if neither has, else 0."""
    gold_words, words = normalize_squad(gold).split(), normalize_squad(predicted).split()
    if not gold_words or not words:
        return float(gold_words == words)
    return 2 * (Counter(gold_words) & Counter(words)).total() / (len(gold_words) + len(words))


def segment_cmrc(text: str) -> list[str]:
    """CMRC's mixed segmentation: every Han character by itself, the rest in words; lower case, without CMRC's
    punctuation list.

    The official script cuts the non-Chinese runs with NLTK's tokenizer. Here a run of letters and digits (with 1,000.5
    kept whole) or a single symbol is one unit, which differs only inside contractions and abbreviations with full
    stops.
    """
    text = "".join(c for c in text.lower().strip() if c not in _CMRC_PUNCTUATION)
    units: list[str] = []
    for part in re.split(rf"({_HAN.pattern})", text):
        units.extend([part] if _HAN.fullmatch(part) else _WESTERN.findall(part))
    return units


def cmrc_exact(gold: str, predicted: str) -> float:
    """Equal after lower case and removal of CMRC's punctuation; spaces inside count, as in the official script."""
    first, second = ("".join(c for c in t.lower().strip() if c not in _CMRC_PUNCTUATION) for t in (gold, predicted))
    return float(first == second)


def cmrc_f1(gold: str, predicted: str) -> float:
    """F1 with precision = lcs / |predicted|, recall = lcs / |gold|; lcs = length of the longest common *contiguous* run
    of units.
    """
    gold_units, units = segment_cmrc(gold), segment_cmrc(predicted)
    if not gold_units or not units:
        return float(gold_units == units)
    return 2 * longest_common_run(gold_units, units) / (len(gold_units) + len(units))


def longest_common_run(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest run of units that stands in both; O(len(first) · len(second)) time, one row of memory."""
    best, row = 0, [0] * (len(second) + 1)
    for unit in first:
        previous = 0  # the value of the row above, one column to the left
        for j, other in enumerate(second, start=1):
            previous, row[j] = row[j], previous + 1 if unit == other else 0
            best = max(best, row[j])
    return best


def best_no_answer_threshold(
    gold: Sequence[Sequence[str]], predicted: Sequence[str], no_answer_scores: Sequence[float]
) -> tuple[float, float]:
    """The threshold t of the best mean F1 when a question is left unanswered where its no-answer score is above t.

    predicted: the best real answer of each question; no_answer_scores: higher = more likely unanswerable. Returns (t,
    the mean F1 reached). As SQuAD v2.0's ``find_best_thresh``, save that questions of equal score are always decided
    together and a t that leaves everything unanswered is just below the lowest score. Choose it on development data.
    """
    language = language_of(gold, predicted)
    scores = np.asarray(no_answer_scores, np.float64)
    if scores.shape != (len(gold),) or not np.isfinite(scores).all():
        raise InputError(
            f"no_answer_scores must be {len(gold)} finite numbers, one per question; got shape {scores.shape}."
        )
    answered = np.array([answer_scores(g, p, language)[1] for g, p in zip(gold, predicted, strict=True)])
    silent = np.array([float(not any(answers)) for answers in gold])
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    totals = silent.sum() + np.cumsum((answered - silent)[order])
    last_of_tie = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    candidates = np.append(np.nextafter(ordered[0], -np.inf), ordered[last_of_tie])
    reached = np.append(silent.sum(), totals[last_of_tie])
    best = int(reached.argmax())
    return float(candidates[best]), float(reached[best] / len(gold))


def language_of(gold: Sequence[Sequence[str]], predicted: Sequence[str]) -> Literal["en", "zh"]:
    if len(gold) != len(predicted) or not len(gold):
        raise InputError(
            f"{len(gold)} questions but {len(predicted)} predictions: give one (perhaps empty) for each, at least one."
        )
    answerable = [answers for answers in gold if any(answers)]
    chinese = sum(any(is_unspaced(c) for answer in answers for c in answer) for answers in answerable)
    return "zh" if chinese and chinese >= 0.3 * len(answerable) else "en"
