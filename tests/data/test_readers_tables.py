"""Parquet and data frames; lists of rows; that frames are recognised without importing their libraries."""

import json
import subprocess
import sys

import pytest

from polydetr.core.records import Record
from polydetr.data.readers import ReadReport, read_records
from polydetr.data.readers.tables import frame_kind
from polydetr.errors import DataFileError, RowError, SchemaError
from polydetr.values.cells import is_empty

ROWS = [{"text": "a", "n": 1, "tags": ["x", "y"]}, {"text": None, "n": 2, "tags": []}]


def rows(source, **options):
    return [dict(r.row) for r in read_records(source, **options)]


def test_every_table_gives_the_same_rows(tmp_path):
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=1)
    for source in (ROWS, table, table.to_batches()[0], pandas.DataFrame(ROWS), table.to_pandas(),
                   polars.DataFrame(ROWS),
                   polars.DataFrame(ROWS).lazy(), tmp_path / "a.parquet", iter(ROWS)):  # fmt: skip
        assert rows(source) == ROWS, type(source)
    assert [r.location.row for r in read_records(table)] == [1, 2]


def test_missing_values_of_pandas_become_none():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"a": [1.5, float("nan")], "b": ["x", pandas.NA], "c": [pandas.Timestamp("2024-01-01"), pandas.NaT]}
    )
    assert rows(frame)[1] == {"a": None, "b": None, "c": None}
    assert isinstance(rows(frame)[0]["a"], float)


def test_duplicate_columns_of_a_frame():
    pandas = pytest.importorskip("pandas")
    with pytest.raises(SchemaError, match="column 'a' twice"):
        read_records(pandas.DataFrame([[1, 2]], columns=["a", "a"]))


def test_a_parquet_file_that_is_none(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 and then nothing of the kind")
    with pytest.raises(DataFileError, match="not a readable Parquet file"):
        read_records(path)


def test_a_parquet_file_without_rows(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": pa.array([], pa.string())}), tmp_path / "a.parquet")
    with pytest.raises(DataFileError, match="without rows"):
        read_records(tmp_path / "a.parquet")


def test_records_pass_as_they_are():
    records = list(read_records(ROWS))
    assert list(read_records(records)) == records
    assert isinstance(records[0], Record)


def test_frames_of_a_subclass_are_frames():
    pandas = pytest.importorskip("pandas")

    class Special(pandas.DataFrame):
        pass

    assert frame_kind(Special(ROWS)) == "pandas"
    assert rows(Special(ROWS)) == ROWS


def test_a_type_for_categories_is_kept(tmp_path):
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    import pyarrow as pa
    import pyarrow.parquet as pq

    shop = ["7", "9", "7"]
    frame = pandas.DataFrame({"shop": pandas.Categorical([7, 9, 7]), "n": [1, 2, 3]})
    table = pa.table({"shop": pa.array(shop).dictionary_encode(), "n": [1, 2, 3]})
    frame.to_parquet(tmp_path / "pandas.parquet")
    pq.write_table(table, tmp_path / "arrow.parquet")
    of_polars = [polars.DataFrame({"shop": polars.Series(shop, dtype=kind), "n": [1, 2, 3]})
                 for kind in (polars.Categorical, polars.Enum(["7", "9"]))]  # fmt: skip
    for source in (frame, table, table.to_batches()[0], *of_polars, of_polars[0].lazy(), tmp_path / "pandas.parquet",
                   tmp_path / "arrow.parquet"):  # fmt: skip
        report = ReadReport()
        assert [str(row["shop"]) for row in rows(source, report=report)] == shop
        assert report.declared == {"shop": "category"}, source


def test_objects_of_frames_become_what_files_have():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({3: [b"m", b"\x89PNG"], "band": pandas.cut(pandas.Series([1, 9]), [0, 5, 10])})
    frame["month"] = pandas.period_range("2024-01", periods=2, freq="M")
    expected = [
        {"3": "m", "band": "(0, 5]", "month": "2024-01"},
        {"3": b"\x89PNG", "band": "(5, 10]", "month": "2024-02"},
    ]
    assert rows(frame) == rows(frame.to_dict("records")) == expected
    assert rows([{"x": b"P3 1 1 255 0 0 0"}]) == [{"x": b"P3 1 1 255 0 0 0"}]  # an image as text
    with pytest.raises(RowError, match="row 1: two columns are called '0'"):
        rows([{0: 1, "0": 2}])


def test_what_is_no_source_of_rows_says_so():
    for wrong in ({"text": "a"}, 7, None):
        with pytest.raises(SchemaError, match="Expected a path, a list of rows"):
            read_records(wrong)
    with pytest.raises(RowError, match="row 2: holds a string"):
        rows([{"a": 1}, "b"])
    report = ReadReport()
    assert len(rows([{"a": 1}, None], on_error="skip", report=report)) == 1
    assert report.to_dict()["rejected"] == [
        {"row": 2, "reason": "holds null, expected a mapping of field name to value."}
    ]


def test_what_counts_as_missing():
    assert all(map(is_empty, [None, float("nan"), "", "  \n", []]))
    assert not any(map(is_empty, ["a", 0, 0.0, False, ["a"]]))


def test_reading_csv_imports_nothing_heavy(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\na,b\n")
    heavy = "torch pandas polars pyarrow sklearn rich"
    code = (
        "import sys; from polydetr.data.readers import read_records; list(read_records(sys.argv[1]));"
        f"heavy = set('{heavy}'.split()) & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.csv")], check=True)


def test_other_objects_are_no_frames():
    assert frame_kind([]) is None
    assert frame_kind(type("DataFrame", (), {})()) is None


def test_columns_of_one_name_are_refused_in_a_file_too(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    pq.write_table(table, tmp_path / "rows.parquet")
    for source in (table, tmp_path / "rows.parquet"):
        with pytest.raises(SchemaError, match="has the column 'a' twice"):
            read_records(source)


@pytest.mark.parametrize(("kind", "value"), [("timestamp", 2**60), ("date32", 2**31 - 1)])
def test_a_moment_that_python_has_not_is_named_with_its_column(tmp_path, kind, value):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    day = pa.timestamp("us") if kind == "timestamp" else pa.date32()
    table = pa.table({"a": [1], "day": pa.array([value], day)})
    pq.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(DataFileError, match=r"rows\.parquet, .*day.*holds what Python has no value for"):
        rows(tmp_path / "rows.parquet")
    with pytest.raises(DataFileError, match=r"day.*holds what Python has no value for"):
        rows(table)


def test_parquet_is_known_by_its_first_bytes_whatever_its_suffix(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "rows.csv")
    assert rows(tmp_path / "rows.csv") == [{"a": 1}]


def test_numbers_of_classes_become_the_names_that_the_table_carries(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    names = {"names": ["O", "B-GOOD", "B-CITY"], "_type": "ClassLabel"}
    features = {
        "tags": {"feature": names, "_type": "Sequence"},
        "old": [names],
        "kind": {"names": ["trade", "sport"], "_type": "ClassLabel"},
        "size": {"dtype": "int64", "_type": "Value"},
    }
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    columns = {"tags": [[1, 0, 2], [0]], "old": [[1], [2]], "kind": [1, -1], "size": [1, 2]}
    table = pa.table(columns).replace_schema_metadata(metadata)
    pq.write_table(table, tmp_path / "a.parquet")
    for source in (table, tmp_path / "a.parquet"):
        assert [r.row for r in read_records(source)] == [
            {"tags": ["B-GOOD", "O", "B-CITY"], "old": ["B-GOOD"], "kind": "sport", "size": 1},
            {"tags": ["O"], "old": ["B-CITY"], "kind": None, "size": 2},
        ]
    broken = pa.table(columns).replace_schema_metadata({b"huggingface": b"[1"})
    assert next(iter(read_records(broken))).row["kind"] == 1


@pytest.mark.parametrize("index", [None, "number", ["house", "floor"]])
def test_the_index_of_a_frame_is_no_column(index, tmp_path):
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    import pyarrow as pa

    frame = pandas.DataFrame({"text": list("abcdef"), "label": [0, 1] * 3})
    if isinstance(index, list):
        frame.index = pandas.MultiIndex.from_product([[1, 2], [3, 4, 5]], names=index)
    else:
        frame = frame[frame.text != "b"].rename_axis(index)  # rows taken out: the index is no range any more
    frame.to_parquet(tmp_path / "frame.parquet")
    table = pa.Table.from_pandas(frame)
    for source in (frame, table, table.to_batches()[0], tmp_path / "frame.parquet"):
        report = ReadReport()
        assert {tuple(row) for row in rows(source, report=report)} == {("text", "label")}
        noted = " ".join(report.examples.get("index left out", ()))
        if source is frame and index is None:
            assert not noted
        else:
            assert all(f"'{name or '__index_level_0__'}' is the index" in noted for name in frame.index.names)
    if index is None:  # polars keeps the column, without what pandas said of it
        read = polars.read_parquet(tmp_path / "frame.parquet")
        assert [tuple(row) for source in (read, read.lazy()) for row in rows(source)] == [("text", "label")] * 10


def test_a_range_of_rows_and_broken_metadata_leave_every_column(tmp_path):
    pandas = pytest.importorskip("pandas")
    import pyarrow as pa

    plain = pandas.DataFrame({"text": ["a", "b"], "index": [3, 1]})
    report = ReadReport()
    assert rows(pa.Table.from_pandas(plain), report=report)[0] == {"text": "a", "index": 3}
    for said in (b"{", b'{"index_columns": 7}', b'["index"]', b'{"index_columns": [null, {"kind": "range"}]}'):
        table = pa.table({"text": ["a"], "index": [3]}).replace_schema_metadata({b"pandas": said})
        assert rows(table, report=report) == [{"text": "a", "index": 3}]
    assert not report.problems


def test_a_parquet_text_that_is_none_is_a_named_error(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": pa.array([b"fine", b"\xa5\xff"]).cast(pa.binary()).view(pa.string())}), path)
    with pytest.raises(DataFileError, match=r"a\.parquet: is damaged"):
        list(read_records(path))
