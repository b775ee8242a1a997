"""Explanations of embeddings: what in a row, and in its history, makes it like what belongs to it."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from polydetr.engine.engine import Engine
from polydetr.errors import InputError
from polydetr.explain import Explanation, explain_record
from tiny_models import as_records, make_engine, overfit

NAMES = ("lamp", "rug", "cup", "pen", "hat", "fork")
FILLER = ("one", "two", "tree", "four", "five")


def visits(count: int) -> list[dict[str, Any]]:
    """Four items seen, one of which says what is bought: the one from a real category."""
    rng = random.Random(0)
    found = []
    for number in range(count):
        wanted = NAMES[number % len(NAMES)]
        seen = [{"name": rng.choice(FILLER)} for _ in range(3)]
        seen.insert(rng.randrange(4), {"name": wanted})
        found.append({"seen": seen, "bought": {"name": wanted}})
    return found


@pytest.fixture(scope="module")
def engine() -> Engine:
    rows = visits(150)
    made = make_engine(rows, {"bought": "embedding"}, inputs={"seen": "history"})
    overfit(made, rows, steps=60, lr=5e-3)
    return made


def explain(engine: Engine, row: dict[str, Any], **options: Any) -> Explanation:
    return explain_record(engine, as_records([row])[0], **options)


def test_item_that_tells_what_is_bought_is_the_strongest(engine: Engine) -> None:
    found = [(row, explain(engine, row)) for row in visits(12)]
    right = [row["seen"][max(e.items, key=lambda item: item.score).index] == row["bought"] for row, e in found]
    meaningful = [bool(e.meaningful) for _, e in found]
    assert sum(meaningful) >= 8
    assert all(is_right for is_right, means in zip(right, meaningful, strict=True) if means)
    for row, e in found:
        assert (e.quantity, e.measure) == ("cosine", "similarity")
        (answer,) = engine.of_positives("bought").run(as_records([row]))
        (asked,) = engine.run(as_records([row]))
        cosine = float(np.dot(answer.predictions["bought"].value, asked.predictions["bought"].value))
        assert e.value == pytest.approx(cosine, abs=1e-4)
        assert "changes the similarity of this answer" in e.statement


def test_another_counterpart_may_be_named_and_one_is_needed(engine: Engine) -> None:
    row = visits(1)[0]
    other = explain(engine, row, choice={"name": "fork"})
    assert other.value < explain(engine, row).value
    with pytest.raises(InputError, match=r"no 'bought'.*choice="):
        explain(engine, {"seen": row["seen"]})


def test_generation_has_no_explanation_and_says_so() -> None:
    rows = [{"kind": kind, "picture": np.full((4, 4), 40 * i, np.uint8)} for i, kind in enumerate("abab")]
    engine = make_engine(rows, {"picture": "generation"}, inputs={"kind": "category"})
    with pytest.raises(InputError, match="'generation' has no explanation"):
        explain(engine, rows[0])
