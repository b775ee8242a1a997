"""Holding out: determinism, shares, and that nothing that belongs together is parted."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polydetr.core.records import Record
from polydetr.data.splits import split_records
from polydetr.data.text_keys import normalize
from polydetr.errors import Location, SchemaError


def records(rows, documents=None):
    return [Record(r, Location(row=i), documents[i] if documents else None) for i, r in enumerate(rows)]


def test_the_same_seed_gives_the_same_split_and_another_another():
    data = records([{"text": f"t{i}", "y": i % 3} for i in range(100)])
    first, again, other = (split_records(data, 0.2, seed=s, stratify_by="y") for s in (0, 0, 1))
    assert first == again
    assert first != other
    assert len(first[1]) == 20
    assert sorted(r.location.row for half in first for r in half) == list(range(100))


def test_classes_keep_their_shares():
    data = records([{"text": f"t{i}", "y": "rare" if i % 10 == 0 else "usual"} for i in range(200)])
    kept, held = split_records(data, 0.25, stratify_by="y")
    assert Counter(r.row["y"] for r in held) == {"usual": 45, "rare": 5}
    assert Counter(r.row["y"] for r in kept) == {"usual": 135, "rare": 15}


def test_many_small_classes_still_yield_the_fraction_and_a_class_of_one_stays():
    data = records([{"text": f"t{i}", "y": i // 3} for i in range(90)] + [{"text": "only", "y": "single"}])
    kept, held = split_records(data, 0.1, stratify_by="y")
    assert 7 <= len(held) <= 10
    assert "single" in {r.row["y"] for r in kept}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=40), st.integers(0, 5), st.floats(0.05, 0.9))
def test_no_text_stands_on_both_sides(letters, seed, fraction):
    data = records([{"text": c.upper() if i % 2 else f" {c} "} for i, c in enumerate(letters)])
    if len(set(letters)) < 2:
        with pytest.raises(SchemaError, match="takes two"):
            split_records(data, fraction, seed=seed)
        return
    kept, held = split_records(data, fraction, seed=seed)
    assert kept
    assert held
    assert not {normalize(r.row["text"]) for r in kept} & {normalize(r.row["text"]) for r in held}


def test_documents_stay_whole():
    data = records([{"tokens": [str(i)]} for i in range(60)], [str(i // 6) for i in range(60)])
    kept, held = split_records(data, 0.3)
    assert len(held) == 18
    assert not {r.document for r in kept} & {r.document for r in held}


def test_wrong_calls_say_what_is_wrong():
    data = records([{"text": "a"}, {"text": "b"}])
    with pytest.raises(SchemaError, match="between 0 and 1"):
        split_records(data, 1.5)
    with pytest.raises(SchemaError, match="no column 'y' to split by"):
        split_records(data, 0.5, stratify_by="y")
