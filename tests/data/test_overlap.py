"""Rows that stand in two splits are told, by their content."""

import pytest

from polydetr.core.records import Record
from polydetr.data import copies
from polydetr.data.copies import Compared, Content, content_keys
from polydetr.data.inspect import inspect_data
from polydetr.data.overlap import overlap_lines
from polydetr.data.splits import Holding, split_records
from polydetr.errors import Location


def records(rows):
    return [Record(row, Location(row=i)) for i, row in enumerate(rows, 1)]


def lines(train, valid, compared, **how):
    return overlap_lines({"train": records(train), "valid": records(valid)}, compared, **{"sources": {}, **how})


def test_only_images_of_one_size_are_read_and_only_as_far_as_it_takes(tmp_path, monkeypatch):
    for name, content in {
        "a": b"1" * 5000,
        "b": b"1" * 5000,
        "c": b"1" * 4999 + b"2",
        "d": b"3" * 5000,
        "e": b"4",
    }.items():
        (tmp_path / name).write_bytes(content)
    a, b, c, d, e, absent = (tmp_path / name for name in ("a", "b", "c", "d", "e", "absent"))
    held = Content.of(b"1" * 5000)
    keys = content_keys([a, b, c, d, e, absent, held])
    assert keys[a] == keys[b] == keys[held]
    assert len({keys[a], keys[c], keys[d], keys[e], keys[absent]}) == 5
    assert [len(keys[one]) for one in (a, c, d, e, absent)] == [3, 3, 2, 1, 1]


def test_copies_between_splits_are_told_with_their_rows():
    train = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    told = lines(train, [{"a": 3, "b": "x"}, {"a": 2, "b": " Y"}], Compared(("a", "b")))
    assert told == ["1 of 2 valid rows have a copy in train (the same inputs, text or image; valid row 2 repeats train "
                    "row 2): the scores on them will be too good"]  # fmt: skip
    assert lines(train, [{"a": 3, "b": "x"}], Compared(("a", "b"))) == []
    (told,) = lines(train, [{"a": 3, "b": "x"}], Compared(("a",)), group="b")
    assert told.startswith("1 of 1 valid rows belong to a 'b' of which train has rows too, for example 'x'")


def test_rows_that_are_parted_and_then_compared_are_read_once(monkeypatch):
    cells = []
    monkeypatch.setattr(copies, "_cell", lambda value, cell=copies._cell: cells.append(value) or cell(value))
    compared = Compared(("a", "b"), texts=("b",))
    train, valid = split_records(records({"a": i // 2, "b": f"t{i}"} for i in range(40)), 0.2,
                                 holding=Holding(compared))  # fmt: skip
    assert overlap_lines({"train": train, "valid": valid}, compared, sources={}) == []
    assert len(cells) == 80


def test_the_same_file_given_twice_is_told(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("a,label\n" + "".join(f"{i / 3:.2f},{i % 2}\n" for i in range(30)))
    rows = [{"a": i} for i in range(4)]
    (told,) = lines(rows, rows, Compared(("a",)), sources={"train": file, "valid": str(tmp_path / "." / "rows.csv")})
    assert "are the same rows, given twice" in told
    found = inspect_data(str(file), valid=str(file), target="label", suspicious=False)
    assert "Leak: train and valid are the same rows, given twice." in found.to_text()


@pytest.mark.parametrize("column", ["text", None])
def test_inspection_compares_images_by_content_and_not_by_name(column, tmp_path):
    for split, names in {"train": "abc", "test": "bcd"}.items():
        (tmp_path / split).mkdir()
        for i, name in enumerate(names):
            (tmp_path / split / f"{i}.png").write_bytes(b"not much of a picture " + name.encode())
    rows = {
        split: [{"photo": str(tmp_path / split / f"{i}.png"), "label": "xy"[i % 2]} for i in range(3)]
        for split in ("train", "test")
    }
    for split, own in rows.items():
        if column:
            for i, row in enumerate(own):
                row[column] = f"a caption of its own, of {split} {i}"
    rows["train"].append(dict(rows["train"][0]))
    found = inspect_data(rows["train"], test=rows["test"], target="label", suspicious=False)
    assert found.shared_images == [
        {"splits": ["train", "test"], "count": 2, "examples": [{"train": 2, "test": 1}, {"train": 3, "test": 2}]}
    ]
    assert "Leak: 2 images of test also stand in train (rows 2/1, 3/2)." in found.to_text()
    assert found.leaks[0]["count"] == 0
    assert found.splits["train"].same_text == found.splits["train"].exact_duplicates == 1
