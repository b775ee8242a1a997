"""What inspection finds, on data where the answer is known."""

import json

import pytest

from polydetr.data.inspect import inspect_data
from polydetr.data.suspicious import find_suspicious
from polydetr.errors import SchemaError

COLORS = ["red", "blue", "green", "white", "black"]


def reviews(count):
    good = [{"text": f"a {COLORS[i % 5]} and wonderful lovely film {i}", "label": "pos"} for i in range(count)]
    bad = [{"text": f"a {COLORS[i % 5]} and awful dreadful film {i}", "label": "neg"} for i in range(count)]
    return [row for pair in zip(good, bad, strict=True) for row in pair]


def test_duplicates_conflicts_leaks_and_missing_text():
    train = [*reviews(20), {"text": "same words", "label": "pos"}, {"text": "same words", "label": "pos"},
             {"text": " Same  WORDS", "label": "neg"}, {"text": None, "label": "pos"},
             {"text": float("nan"), "label": "neg"},
             {"text": "no label here", "label": None}]  # fmt: skip
    valid = [{"text": "SAME words", "label": "pos"}, {"text": "new words", "label": "neg"}]
    found = inspect_data(train, valid=valid, target="label", suspicious=False)
    split = found.to_dict()["splits"]["train"]
    assert split["rows"] == 46
    assert split["empty_texts"] == 2
    assert split["columns"]["text"]["missing"] == 2
    assert split["duplicates"] == {"exact": 1, "same_text": 2, "examples": [
        {"rows": [41, 42], "text": "same words"}, {"rows": [41, 43], "text": "Same WORDS"}]}  # fmt: skip
    assert split["conflicting_labels"]["count"] == 1
    assert split["conflicting_labels"]["examples"][0]["rows"] == [41, 43]
    assert split["targets"]["label"] == {
        "task": "classification", "missing": 1, "labels": {"pos": 23, "neg": 22}, "imbalance": 1.05
    }  # fmt: skip
    assert found.leaks == [{"splits": ["train", "valid"], "count": 1, "examples": [{"train": 41, "valid": 1}]}]
    text = found.to_text()
    assert "Leak: 1 texts of valid also stand in train (rows 41/1)." in text
    assert "2 rows have no text (empty, None or NaN)" in text
    assert "1 rows have no 'label'" in text


def test_a_wrong_label_is_found_and_explained():
    train = reviews(60)
    train[11] = {**train[11], "label": "pos"}
    found = inspect_data(train, target="label")
    suspects = found.suspicious["label"].suspects
    assert [(s.row, s.label, s.suggested) for s in suspects] == [(12, "pos", "neg")]
    assert suspects[0].probability < 0.1 < 0.6 < suspects[0].suggested_probability
    assert "row 12: 'pos'" in found.to_text()


def test_the_search_for_wrong_labels_keeps_its_time_and_needs_enough_rows():
    texts, labels = zip(*((r["text"], r["label"]) for r in reviews(60)), strict=True)
    stopped = find_suspicious(texts, labels, range(1, 121), time_limit=-1.0)
    assert stopped.judged == 0
    assert "stopped after" in stopped.note
    assert find_suspicious(texts[:9], labels[:9], range(9)).note == "too few rows of each label to judge"


def test_a_huge_word_is_reported_and_does_not_blow_up():
    train = [*reviews(5), {"text": "x" * 300_000, "label": "pos"}]
    text = inspect_data(train, target="label").to_text()
    assert "row 11: column 'text' holds a word of 300,000 characters" in text
    assert len(text) < 10_000


def test_lengths_and_a_leaking_column():
    train = [{**r, "stars": "5 stars" if r["label"] == "pos" else "1 star"} for r in reviews(20)]
    found = inspect_data(train, target="label", suspicious=False)
    column = found.to_dict()["splits"]["train"]["columns"]["text"]
    assert column["words"] == {"median": 7, "p95": 7, "max": 7}
    assert column["distinct"] == 40
    assert any("'stars'" in n and "gives the answer away" in n for n in found.schema.messages)


def test_numbers_tags_and_answers_are_summed_up_by_kind():
    found = inspect_data(
        [{"text": f"t {i}", "y": v} for i, v in enumerate(["1.5", "2.5", "x"] * 8)], target="y:regression"
    )
    target = found.to_dict()["splits"]["train"]["targets"]["y"]
    assert target["numbers"]["mean"] == pytest.approx(2.0)
    assert target["not_numbers"]["count"] == 8
    assert "8 values of 'y' are not numbers (row 3: 'x')" in found.to_text()
    found = inspect_data([{"tokens": ["a", "b", "c"], "tags": ["B-X", "I-X", "B-Y"]}, {"tokens": ["d"], "tags": ["O"]}])
    assert found.splits["train"].targets["tags"].counts == {"X": 1, "Y": 1}
    objects = [{"image": f"{i}.png", "objects": [{"box": [0, 0, 2, 2], "label": "cat"}] * i} for i in range(3)]
    assert inspect_data(objects).splits["train"].targets["objects"].counts == {"cat": 3}
    found = inspect_data(
        [{"text": f"question {i}", "reply": f"answer {i}"} for i in range(5)], target="reply:embedding"
    )
    assert not found.splits["train"].targets["reply"].counts
    qa = [{"question": "q", "context": "c d", "answers": a} for a in ([{"text": "c", "start": 0}], [])]
    assert inspect_data(qa).splits["train"].targets["answers"].counts == {"answer": 1, "no answer": 1}


def test_rejected_rows_and_json(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"word {i},{'ab'[i % 2]}\n" for i in range(10)) + "odd\n")
    found = inspect_data(path)
    out = json.loads(json.dumps(found.to_dict()))
    assert out["splits"]["train"]["reading"]["rejected"][0]["line"] == 12
    assert "1 rejected rows" in found.to_text()
    with pytest.raises(SchemaError, match="Did you mean 'label'"):
        inspect_data(path, target="labels")


def test_labels_are_counted_as_training_reads_them():
    labels = [("0", "TRUE"), ("1.0", "true"), ("NA", "False")] * 10
    rows = [{"text": f"words {i}", "a": a, "b": b} for i, (a, b) in enumerate(labels)]
    found = inspect_data(rows, target=["a", "b"], suspicious=False).splits["train"].targets
    assert (dict(found["a"].counts), found["a"].missing) == ({"0": 10, "1": 10}, 10)
    assert dict(found["b"].counts) == {"True": 20, "False": 10}


def test_a_word_for_what_is_missing_is_no_label_among_numbers():
    rows = [{"text": f"note {i % 40} about {'rain' if i % 2 else 'sun'}", "y": "NA" if i % 4 == 0 else str(i % 2)}
            for i in range(120)]  # fmt: skip
    inspection = inspect_data(rows, target="y:classification")
    column = inspection.splits["train"].columns["y"].to_dict()
    assert (column["missing"], column["distinct"]) == (30, 2)
    assert inspection.splits["train"].targets["y"].to_dict()["labels"] == {"1": 60, "0": 30}
    assert inspection.splits["train"].conflicts == 0
    assert inspection.suspicious["y"].judged == 90
    words = [row | {"y": f"class {row['y']}" if row["y"] != "NA" else "NA"} for row in rows]  # here it is a name
    assert inspect_data(words, target="y:classification").splits["train"].columns["y"].to_dict()["distinct"] == 3


def test_spellings_of_one_label_are_no_conflict():
    rows = [{"text": f"t{i // 2}", "y": ("3", 3.0)[i % 2] if i < 10 else ("TRUE", True)[i % 2]} for i in range(20)]
    train = inspect_data(rows, target="y:classification").splits["train"]
    assert (train.same_text, train.exact_duplicates, train.conflicts) == (10, 10, 0)


def test_groups_that_stand_in_two_splits_are_a_leak():
    rows = [{"text": f"t{i}", "patient": i // 2, "y": "ab"[i % 2]} for i in range(20)]
    inspection = inspect_data(rows[:12], test=rows[9:], target="y", group="patient")
    assert inspection.schema.names("text") == ["text"]
    assert [f.modality for f in inspection.schema.inputs if f.name == "patient"] == ["ignore"]
    (shared,) = inspection.to_dict()["shared_groups"]
    assert shared == {"splits": ["train", "test"], "count": 2, "examples": [{"train": 9, "test": 1},
                                                                           {"train": 11, "test": 2}]}  # fmt: skip
    assert "Leak: 2 groups of test also stand in train" in inspection.to_text()
    with pytest.raises(SchemaError, match=r"no column 'patients'.* Did you mean 'patient'"):
        inspect_data(rows, group="patients")
