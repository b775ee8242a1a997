"""What a column holds, decided by nine cells in ten: neither one odd cell nor a name alone changes it."""

from __future__ import annotations

import datetime as dt
import random
import re
import uuid
from typing import Any

import pytest

from polydetr.errors import SchemaError
from polydetr.schema.columns import infer_modality
from polydetr.schema.infer import infer_schema

N = 80
RANDOM = random.Random(7)


def kind(values: list[Any], name: str = "x") -> str:
    return infer_modality(name, values)[0]


def drawn(form: str, *ranges: tuple[int, int]) -> list[str]:
    return [form.format(*(RANDOM.randint(*r) for r in ranges)) for _ in range(N)]


def task(values: list[Any], name: str = "y") -> tuple[str, str]:
    schema = infer_schema([{"text": f"some words {i}", name: v} for i, v in enumerate(values)], targets={name: None})
    return schema.targets[0].task, " ".join(schema.messages)


@pytest.mark.parametrize("name", ["paid", "bid", "humid", "Grid", "rapid", "android", "covid", "valid", "price_index"])
def test_a_quantity_is_read_whatever_letters_its_name_ends_in(name: str) -> None:
    assert kind(list(range(300, 300 + N)), name) == "number"


@pytest.mark.parametrize("name", ["id", "ID", "user_id", "userId", "order-id", "order.id", "ISBN", "index"])
def test_an_identifier_by_name_is_left_out_with_a_way_to_keep_it(name: str) -> None:
    modality, reason = infer_modality(name, list(range(300, 300 + N)))
    assert modality == "ignore"
    assert f"--input {name}:number" in reason
    assert kind([*range(300, 300 + N - 2), 300, 301], name) == "ignore"  # a repetition or two change nothing


@pytest.mark.parametrize(
    ("values", "modality"),
    [
        (drawn("{}/{}", (100, 180), (55, 99)), "text"), (drawn("{}.{}kg", (40, 120), (0, 999)), "text"),
        (drawn("{}°C", (10, 40)), "text"), (drawn("{}'{}", (4, 6), (0, 11)), "text"),
        (drawn("{}x{}", (10, 900), (10, 900)), "text"), (drawn("{:02d}:{:02d}", (0, 23), (0, 59)), "number"),
        (drawn("{}/{}/{}", (1, 12), (1, 28), (10, 24)), "date"), (drawn("{}-Mar-{}", (1, 28), (10, 24)), "date"),
        ([str(uuid.UUID(int=RANDOM.getrandbits(128))) for _ in range(N)], "ignore"),
        ([f"A-{i:05d}" for i in range(N)], "ignore"),
    ],
)  # fmt: skip
def test_measures_are_no_identifiers(values: list[str], modality: str) -> None:
    assert kind(values) == modality
    assert kind([*values[:-1], values[0]]) == modality


@pytest.mark.parametrize(
    ("most", "odd", "modality"),
    [
        ([str(300 + 7 * i) for i in range(N)], "0425", "number"), ([i % 9 for i in range(N)], "true", "number"),
        ([["a", "b"]] * N, "a", "history"), ([f"0{i % 90 + 10}" for i in range(N)], "250", "category"),
        ([{"a": 1}] * N, "a", "ignore"), (["yes", "no"] * 40, ["yes"], "category"),
    ],
)  # fmt: skip
def test_one_odd_cell_changes_nothing_wherever_it_stands(most: list[Any], odd: Any, modality: str) -> None:
    assert kind(most) == kind([odd, *most]) == kind([*most, odd]) == modality


def test_numbers_that_are_names_are_categories() -> None:
    assert kind([f"{RANDOM.randint(0, 99999):05d}" for _ in range(300)]) == "category"  # a tenth begin with 0
    assert kind([f"{i % 4}.{j}" for j in (1, 10, 2) for i in range(40)]) == "category"  # sections 1.1 and 1.10
    assert kind([f"{i % 4}.{j}" for j in (1, 3, 2) for i in range(40)]) == "number"
    assert kind(["2_17", "21_7", "3_1"] * 9) == "category"
    assert kind(["true", "FALSE"]) == kind([True, False]) == "category"


def test_the_first_column_of_a_file_without_header_is_left_out_only_where_it_counts() -> None:
    assert kind(list(range(5, 5 + 3 * N, 3)), "column_1") == "ignore"
    assert kind([RANDOM.randint(0, 10**6) for _ in range(N)], "column_1") == "number"


@pytest.mark.parametrize(
    ("value", "modality"),
    [
        ({"bytes": b"\x89PNG", "path": "a.png"}, "image"), ({"bytes": b"\x89PNG", "path": None}, "image"),
        ([{"bytes": None, "path": "a.jpg"}], "image"), ({"bytes": b"RIFF", "path": "a.wav"}, "ignore"),
        ({"path": "a.png"}, "ignore"),
    ],
)  # fmt: skip
def test_images_as_hugging_face_holds_them(value: Any, modality: str) -> None:
    assert kind([value] * N) == modality


def test_objects_of_data_frames_are_read_as_what_they_are() -> None:
    assert kind([dt.timedelta(minutes=i) for i in range(N)]) == kind([dt.time(i % 24) for i in range(N)]) == "number"
    assert kind([1, "a"] * 40) == "category"  # texts are strings alone
    assert infer_modality("x", list(range(4)) * 20, "category") == ("category", "")
    assert infer_modality("x", [7] * N, "category")[0] == "ignore"


@pytest.mark.parametrize(
    ("values", "found", "says"),
    [
        (["01", "02", "10"] * 30, "classification", ""), (["1.1", "1.10", "2.5"] * 30, "classification", ""),
        ([0, 1] * 99 + [0.5], "classification", "3 distinct whole numbers are read as classes"),
        (["0", "NA", "1"] * 30, "classification", "2 distinct whole numbers"),
        ([i % 40 for i in range(400)], "regression", "40 distinct whole numbers are read as a quantity (say y:class"),
        ([dt.timedelta(hours=i % 3) for i in range(N)], "regression", "answered in seconds"),
        (["a", "b"] * 40 + [["a"]], "classification", ""),
    ],
)  # fmt: skip
def test_tasks_of_numbers_and_codes(values: list[Any], found: str, says: str) -> None:
    inferred, messages = task(values)
    assert inferred == found
    assert says in messages


def test_whole_numbers_called_label_are_classes_where_each_comes_back() -> None:
    assert task([i % 40 for i in range(400)], "label")[0] == "classification"
    assert task([i % 40 for i in range(90)], "label")[0] == "regression"
    declared = infer_schema([{"t": f"some words {i}", "y": i % 40} for i in range(90)], targets={"y": None},
                            declared={"y": "category"})  # fmt: skip
    assert declared.targets[0].task == "classification"


def test_codes_flags_and_declared_categories_are_not_promoted_to_text() -> None:
    for values in (["1_12", "11_2"] * 20, ["true", "false"] * 20):
        schema = infer_schema([{"x": v, "y": i % 7 / 3} for i, v in enumerate(values)], targets={"y": None})
        assert schema.names("category") == ["x"]
    rows = [{"x": "red" if i % 2 else "green", "y": i % 7 / 3} for i in range(40)]
    assert infer_schema(rows, targets={"y": None}).names("text") == ["x"]
    assert infer_schema(rows, targets={"y": None}, declared={"x": "category"}).names("category") == ["x"]
    by_hand = infer_schema(rows, targets={"y": None}, inputs={"x": "text"}, declared={"x": "category"})
    assert by_hand.names("text") == ["x"]


def test_where_nothing_is_left_the_error_has_every_reason_and_a_way_out() -> None:
    rows = [{"order_id": i, "same": "x", "y": "ab"[i % 2]} for i in range(40)]
    with pytest.raises(SchemaError) as caught:
        infer_schema(rows, targets={"y": None})
    for part in ("'order_id' is left out: it numbers the rows", "'same' is left out: every row has the same value",
                 "inputs={'order_id': 'number'} (--input order_id:number)"):  # fmt: skip
        assert re.search(re.escape(part), str(caught.value)), part


def test_an_id_numbers_the_rows_however_few_they_are():
    assert infer_modality("id", [7, 9, 4])[0] == "ignore"
    assert infer_modality("id", [7, 9, 7])[0] == "number"
    assert infer_modality("stars", [7, 9, 4])[0] == "number"


@pytest.mark.parametrize(
    "value", [[{"box": [1, 2, 3, 4], "label": "cup"}], [{"start": 0, "end": 3, "label": "PER"}]], ids=["boxes", "spans"]
)
def test_what_was_marked_by_hand_is_no_input(value):
    modality, reason = infer_modality("marked", [value] * 3)
    assert (modality, reason.startswith("it holds annotations")) == ("ignore", True)
    assert infer_modality("seen", [[{"title": "x"}]] * 3)[0] == "history"
