"""Tables: rows to arrays, arrays to tokens, and what is kept of them."""

from __future__ import annotations

import datetime as dt
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polydetr import Predictor, embedders
from polydetr.config.loading import load_config
from polydetr.config.sections import Config
from polydetr.core.examples import Example
from polydetr.errors import ModelFolderError, RowError
from polydetr.modalities.base import BuildContext
from polydetr.modalities.table import TableModality
from polydetr.modalities.table_columns import DATE_PARTS, MISSING, RARE, UNSEEN
from polydetr.nn.batch import Batch
from polydetr.schema.spec import FieldSpec

ROWS = [
    {"size": 1, "colour": "red", "day": "2024-01-01"},
    {"size": 2, "colour": "blue", "day": "2024-05-02"},
    {"size": "3", "colour": "red", "day": "2023-07-01"},
    {"size": "n/a", "colour": "blue", "day": None},
]
KINDS = {"size": "number", "colour": "category", "day": "date"}


def build(rows: list[dict[str, Any]], kinds: dict[str, str], **table: Any) -> tuple[TableModality, list[str]]:
    notes: list[str] = []
    config: Config = load_config({"table": table})
    fields = [FieldSpec(name, kind) for name, kind in kinds.items()]
    made = TableModality.build(fields, BuildContext(rows, config, notify=notes.append))
    return made, notes


def arrays(modality: TableModality, row: dict[str, Any]) -> dict[str, np.ndarray]:
    return dict(modality.encode([row]).windows[0].arrays)


def batch(modality: TableModality, rows: list[dict[str, Any]]) -> Batch:
    return Batch.collate([Example({"table": arrays(modality, row)}) for row in rows])


def test_a_row_is_one_token_a_column() -> None:
    table, notes = build(ROWS, KINDS, numbers="standard")
    assert not notes
    assert table.fields == ("size", "colour", "day")
    found = arrays(table, {"size": 2, "colour": "red", "day": "2024-01-01"})
    assert {name: (a.dtype.name, a.shape) for name, a in found.items()} == {
        "column": ("int16", (3,)), "number": ("float32", (3, DATE_PARTS)), "code": ("int32", (3,)),
    }  # fmt: skip
    assert found["column"].tolist() == [0, 1, 2]
    assert not found["number"][0].any()  # two is the mean
    assert not found["number"][1].any()
    assert found["number"][2, 1:].tolist() == [0, 1, 0, 1, 0, 1, 0, 1]  # a Monday, the first of January, midnight
    blue = MISSING + RARE + 1  # the number column before it has one code; equally frequent names stand by the alphabet
    assert found["code"].tolist() == [0, blue + 1, 0]
    assert table.encode([ROWS[0]]).windows[0].layout is None


def test_a_missing_cell_is_flagged_and_an_empty_row_has_no_tokens() -> None:
    table, _ = build(ROWS, KINDS)
    group = table.encode([{"size": "NA", "colour": "red"}])
    assert [(f.kind, f.column) for f in group.warnings] == [("missing", "size"), ("missing", "day")]
    code = group.windows[0].arrays["code"]
    assert code[0] == MISSING
    assert code[2] == table.offsets[2] + MISSING
    assert not group.is_empty
    empty = table.encode([{"size": None, "colour": " ", "other": 1}])
    assert empty.is_empty
    assert {name: a.shape for name, a in empty.windows[0].arrays.items()} == {
        "column": (0,), "number": (0, DATE_PARTS), "code": (0,),
    }  # fmt: skip
    assert len(empty.warnings) == 3


def test_new_categories_and_far_numbers_are_reported() -> None:
    table, _ = build(ROWS, KINDS)
    group = table.encode([{"size": 1e9, "colour": "green", "day": dt.date(1900, 1, 1)}])
    assert [(f.kind, f.column) for f in group.warnings] == [
        ("out_of_range", "size"), ("unseen_category", "colour"), ("out_of_range", "day"),
    ]  # fmt: skip
    assert group.windows[0].arrays["code"][1] == table.offsets[1] + UNSEEN


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"size": "large"}, "column 'size': 'large' is not a number"),
        ({"size": math.inf}, "column 'size': inf is infinite"),
        ({"colour": ["red"]}, r"column 'colour': \['red'\] is list, expected a category"),
        ({"day": "soon"}, "column 'day': 'soon' is not a date"),
    ],
)
def test_a_value_of_another_kind_is_an_error_with_its_column(row: dict[str, Any], message: str) -> None:
    table, _ = build(ROWS, KINDS)
    with pytest.raises(RowError, match=message):
        table.encode([{**ROWS[0], **row}])


def test_columns_without_information_are_left_out_with_a_message() -> None:
    rows = [{"a": 1, "same": 5, "none": None}, {"a": 2, "same": 5.0, "none": ""}]
    table, notes = build(rows, {"a": "number", "same": "number", "none": "category"})
    assert table.fields == ("a",)
    assert notes == [
        "column 'same' is left out: it is 5.0 in all 2 training rows",
        "column 'none' is left out: it is empty in all 2 training rows",
    ]
    table, _ = build(rows, {"same": "number"})
    assert table.fields == ()
    assert table.encode(rows[:1]).is_empty


def test_numbers_of_every_type_in_one_column() -> None:
    values = [1, 2.5, True, "1,000", "12%", "$3", None, np.int64(4)]
    table, notes = build([{"x": v} for v in values], {"x": "number"})
    assert not notes
    for value in values:
        assert np.isfinite(table.encode([{"x": value}]).windows[0].arrays["number"]).all()


def test_the_embedder_adds_bias_number_and_code() -> None:
    table, _ = build(ROWS, KINDS, embedding="linear", numbers="standard")
    embedder = embedders.build(table, embed_dim=16, others={})
    rows = [*ROWS, {"size": 3}]
    embedded = embedder(batch(table, rows).groups["table"])
    assert embedded.tokens.shape == (5, 3, 16)
    assert bool(embedded.mask.all())
    bias, weight = embedder.numbers.bias.weight, embedder.numbers.weight.weight
    size = arrays(table, rows[2])["number"][0, 0]
    torch.testing.assert_close(embedded.tokens[2, 0], bias[0] + float(size) * weight[0, :16])
    red = table.offsets[1] + RARE + 2
    torch.testing.assert_close(embedded.tokens[0, 1], bias[1] + embedder.codes.weight[red])
    torch.testing.assert_close(embedded.tokens[3, 0], bias[0])  # missing: nothing but the bias, as long as untrained
    assert embedders.build(table, embed_dim=None, others={}).embed_dim == 64


def test_the_periodic_part_is_for_numbers_that_are_there() -> None:
    table, _ = build(ROWS, KINDS, embedding="periodic")
    torch.manual_seed(0)
    embedder = embedders.build(table, embed_dim=16, others={})
    assert embedder.periodic is not None
    group = batch(table, ROWS).groups["table"]
    plain = embedder.numbers(group.values["number"], group.values["column"]) + embedder.codes(group.values["code"])
    differs = (embedder(group).tokens != plain).any(-1)
    assert differs.tolist() == [[True, False, False]] * 3 + [[False, False, False]]
    no_numbers, _ = build(ROWS, {"colour": "category"}, embedding="periodic")
    assert embedders.build(no_numbers, embed_dim=16, others={}).periodic is None


@pytest.mark.parametrize("embedding", ["linear", "periodic"])
def test_empty_rows_and_empty_tables_are_masked(embedding: str) -> None:
    table, _ = build(ROWS, KINDS, embedding=embedding)
    embedded = embedders.build(table, embed_dim=16, others={})(batch(table, [{}, ROWS[0]]).groups["table"])
    assert embedded.mask.tolist() == [[False] * 3, [True] * 3]
    assert bool(embedded.tokens.isfinite().all())
    nothing, _ = build([{"a": 1}, {"a": 1}], {"a": "number"}, embedding=embedding)
    embedded = embedders.build(nothing, embed_dim=16, others={})(batch(nothing, [{}, {"a": 1}]).groups["table"])
    assert not bool(embedded.mask.any())


def test_gradients_reach_every_column_and_not_the_present_code() -> None:
    table, _ = build(ROWS, KINDS, embedding="periodic")
    embedder = embedders.build(table, embed_dim=16, others={})
    embedder(batch(table, ROWS).groups["table"]).tokens.square().sum().backward()
    assert all(p.grad is not None for p in embedder.parameters())
    gradient = embedder.codes.weight.grad
    assert gradient is not None
    assert not bool(gradient[0].any())
    assert bool((embedder.numbers.bias.weight.grad != 0).any(dim=1).all())  # type: ignore[union-attr]


def test_hidden_cells_become_missing_or_unseen() -> None:
    rows = ROWS * 50
    table, _ = build(rows, KINDS, column_dropout=0.3)
    group = batch(table, rows).groups["table"]
    embedder = embedders.build(table, embed_dim=16, others={})
    first, again = (embedder.augment(group, torch.Generator().manual_seed(5))[0] for _ in range(2))
    assert all(torch.equal(first.values[name], again.values[name]) for name in first.values)
    changed = first.values["code"] != group.values["code"]
    assert 0.2 < changed.float().mean().item() < 0.35
    for i, column in enumerate(table.columns):
        codes = set((first.values["code"][:, i][changed[:, i]] - table.offsets[i]).tolist())
        assert codes == ({MISSING, UNSEEN} if column.kind == "category" else {MISSING})
    assert not bool(first.values["number"][changed].any())
    assert torch.equal(first.values["number"][~changed], group.values["number"][~changed])
    plain, _ = build(rows, KINDS, column_dropout=0.0)
    same, _ = embedders.build(plain, embed_dim=16, others={}).augment(group, torch.Generator())
    assert same is group


@pytest.mark.parametrize("numbers", ["standard", "quantile"])
def test_saved_and_loaded_it_gives_the_same_arrays(tmp_path: Path, numbers: str) -> None:
    table, _ = build([*ROWS, {"colour": "rare"}], KINDS, numbers=numbers)
    state = json.loads(json.dumps(table.state()))
    table.save_files(tmp_path)
    loaded = TableModality.from_state(state, tmp_path, others={})
    assert loaded.fingerprint() == table.fingerprint()
    assert loaded.columns == table.columns
    for row in [*ROWS, {}, {"size": 77, "colour": "rare", "day": "1999-12-31 23:59"}, {"colour": "new"}]:
        before, after = arrays(table, row), arrays(loaded, row)
        assert all(before[name].tobytes() == after[name].tobytes() for name in before)
    weights = embedders.build(table, embed_dim=16, others={}).state_dict()
    embedders.build(loaded, embed_dim=16, others={}).load_state_dict(weights)


def test_other_training_rows_give_another_fingerprint() -> None:
    prints = {
        build(rows, KINDS)[0].fingerprint()
        for rows in (ROWS, [*ROWS, {"size": 4}], [*ROWS, {"colour": "green"}], [*ROWS, {"day": "2020-01-01"}])
    }
    assert len(prints) == 4


def test_a_broken_file_of_columns_is_named(tmp_path: Path) -> None:
    table, _ = build(ROWS, KINDS)
    (tmp_path / "table.json").write_text('[{"kind": "number"', encoding="utf-8")
    with pytest.raises(ModelFolderError, match=r"table\.json: the table's columns cannot be read"):
        TableModality.from_state(table.state(), tmp_path, others={})


def test_several_rows_of_a_document_stand_end_to_end() -> None:
    table, _ = build(ROWS, KINDS)
    group = table.encode([ROWS[0], {}, ROWS[1]])
    assert len(group.windows) == 1
    assert group.windows[0].arrays["column"].tolist() == [0, 1, 2, 0, 1, 2]


CELLS = st.one_of(st.none(), st.floats(allow_infinity=False), st.integers(-(10**9), 10**9), st.booleans())


@settings(max_examples=60, deadline=None)
@given(values=st.lists(CELLS, min_size=1, max_size=8), new=CELLS, numbers=st.sampled_from(["standard", "quantile"]))
def test_encoding_never_raises_for_finite_numbers(values: list[Any], new: Any, numbers: str) -> None:
    table, _ = build([{"x": v, "y": i} for i, v in enumerate(values)], {"x": "number"}, numbers=numbers)
    for value in (*values, new):
        found = arrays(table, {"x": value})
        assert np.isfinite(found["number"]).all()
        assert len(found["code"]) == (bool(table.fields) and value is not None and value == value)


def test_a_table_trains_saves_and_predicts_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"size": f"{1000 * x:,.1f}", "colour": None if i % 9 == 0 else "red" if i % 3 else "blue",
         "day": f"2024-01-{1 + i % 28}", "label": "big" if x > 0 else "small"}
        for i, x in enumerate(rng.normal(size=120))
    ]  # fmt: skip
    tiny = {"model": {"embed_dim": 16, "num_layers": 1}, "training": {"batch_tokens": 64, "head_lr": 5e-3}}
    made = Predictor.fit(
        rows, "label", inputs=KINDS, backbone="none", epochs=4, settings=tiny, out=str(tmp_path / "model")
    )
    answers = made.predict_proba(rows)
    right = [max(a["label"], key=a["label"].get) == row["label"] for a, row in zip(answers, rows, strict=True)]
    assert sum(right) >= 100
    assert Predictor.load(tmp_path / "model").predict_proba(rows) == answers
    with pytest.raises(RowError, match="'large' is not a number"):
        made.predict([{**rows[0], "size": "large"}])
