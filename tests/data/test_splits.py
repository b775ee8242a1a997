"""Holding out: determinism, shares, and that nothing that belongs together is parted."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polydetr.core.records import Record
from polydetr.data.splits import Holding, split_records
from polydetr.data.text_keys import normalize
from polydetr.errors import Location, SchemaError
from polydetr.schema.spec import FieldSpec, Schema, TargetSpec


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


def held_by(rows, schema, *, fraction=0.1, seed=0, group=None):
    data = records(rows)
    holding = Holding.of(schema, data, group=group)
    return split_records(data, fraction, seed=seed, holding=holding)


def schema_of(task="classification", target="y", **inputs):
    return Schema(tuple(FieldSpec(n, m) for n, m in inputs.items()), (TargetSpec(target, task),))


@pytest.mark.parametrize("seed", range(5))
def test_equal_rows_of_numbers_stay_on_one_side(seed):
    rows = [{"a": i / 7, "b": i % 5, "y": "no" if i % 3 else "yes"} for i in range(40) for _ in range(3)]
    kept, held = held_by(rows, schema_of(a="number", b="number"), seed=seed)
    assert 9 <= len(held) <= 15
    assert not {r.row["a"] for r in kept} & {r.row["a"] for r in held}
    assert {r.row["y"] for r in held} == {"yes", "no"}


@pytest.mark.parametrize("kind", ["text", "category"])
@pytest.mark.parametrize("seed", range(5))
def test_training_meets_every_value_of_a_category(kind, seed):
    """Whatever a column of a few repeated values is read as."""
    routes = [f"the long way round by harbor number {i}" for i in range(4)]
    rows = [{"route": routes[i % 4], "km": i * 1.5, "y": i} for i in range(200)]
    rows.append({"route": "by air", "km": 1.0, "y": 3})
    kept, held = held_by(rows, schema_of("regression", route=kind, km="number"), seed=seed)
    assert 18 <= len(held) <= 22
    assert {r.row["route"] for r in kept} == {*routes, "by air"}
    only = [{"route": routes[i % 4], "y": str(i % 2)} for i in range(80)]  # copies must part, or nothing were held out
    kept, held = held_by(only, schema_of(route=kind), seed=seed)
    assert 6 <= len(held) <= 10
    assert {r.row["route"] for r in kept} == set(routes)
    assert {r.row["y"] for r in held} == {"0", "1"}


def test_a_group_stays_on_one_side_and_copies_join_groups():
    rows = [{"scan": i / 3, "patient": i // 10, "y": i % 2} for i in range(200)]
    rows[5] = {**rows[5], "scan": rows[195]["scan"]}  # patients 0 and 19 share a scan
    rows.append({"scan": 777.0, "patient": None, "y": 0})
    sides = []
    for seed in range(8):
        kept, held = held_by(rows, schema_of(scan="number"), seed=seed, group="patient")
        ours, theirs = ({r.row["patient"] for r in side} - {None} for side in (kept, held))
        assert not ours & theirs
        assert len(held) in (20, 21)
        sides.append((0 in ours, 19 in ours))
    assert all(a == b for a, b in sides)
    with pytest.raises(SchemaError, match=r"no column 'pateint' to group by.*Did you mean 'patient'"):
        held_by(rows, schema_of(scan="number"), group="pateint")


@pytest.mark.parametrize("absent", [None, "n/a"])
def test_a_target_with_few_labels_has_one_on_both_sides(absent):
    rows = [{"x": float(i), "y": i % 2, "price": i / 10 if i in (3, 50) else absent} for i in range(100)]
    schema = Schema((FieldSpec("x", "number"),), (TargetSpec("y", "classification"), TargetSpec("price", "regression")))
    for seed in range(6):
        kept, held = held_by(rows, schema, seed=seed)
        assert [sum(isinstance(r.row["price"], float) for r in side) for side in (kept, held)] == [1, 1]
        assert 9 <= len(held) <= 12


def test_rows_of_one_image_stay_together_whatever_its_file_is_called(tmp_path):
    for i in range(12):
        (tmp_path / f"{i}.png").write_bytes(b"the head of a picture" * 300 + bytes([i]))
        (tmp_path / f"copy-{i}.png").write_bytes((tmp_path / f"{i}.png").read_bytes())
    named = [[str(tmp_path / f"{i}.png"), str(tmp_path / f"copy-{i}.png"), (tmp_path / f"{i}.png").read_bytes()]
             for i in range(12)]  # fmt: skip
    rows = [
        {"photo": photo, "note": f"{i} {j}", "y": i % 2} for i, own in enumerate(named) for j, photo in enumerate(own)
    ]
    kept, held = held_by(rows, schema_of(photo="image", note="text"), fraction=0.25)
    pictures = [{r.row["note"].split()[0] for r in side} for side in (kept, held)]
    assert not pictures[0] & pictures[1]
    assert len(held) in (6, 9, 12)


@pytest.mark.parametrize("spellings", [(7, 7.0, "7", "7.0"), (True, "TRUE", "true", "True")])
def test_all_spellings_of_a_group_stay_together(spellings):
    rows = [{"text": f"t{i}", "who": spellings[i % 4] if i < 20 else f"p{i}", "y": "a"} for i in range(60)]
    for seed in range(5):
        kept, held = split_records(records(rows), 0.3, seed=seed, holding=Holding(group="who"))
        sides = [{r.location.row < 20 for r in side} for side in (kept, held)]
        assert (True in sides[0]) + (True in sides[1]) == 1


def test_all_spellings_of_a_label_are_one_class():
    rows = [{"text": f"t{i}", "y": (1, 1.0, "1")[i % 3] if i % 2 else "no"} for i in range(120)]
    held = split_records(records(rows), 0.1, stratify_by="y")[1]
    assert Counter(str(r.row["y"]) == "no" for r in held) == {True: 6, False: 6}


def test_a_word_for_what_is_missing_is_no_label_among_numbers():
    rows = [{"text": f"t{i}", "y": i % 2 if i < 8 else "NA"} for i in range(200)]
    schema = Schema((FieldSpec("text", "text"),), (TargetSpec("y", "classification"),))
    data = records(rows)
    for seed in range(5):
        kept, held = split_records(data, 0.1, seed=seed, holding=Holding.of(schema, data, group=None))
        for side in (kept, held):
            assert any(r.row["y"] != "NA" for r in side)
