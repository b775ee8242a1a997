"""Parquet and data frames; lists of rows; that frames are recognised without importing their libraries."""

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


def test_a_parquet_text_that_is_none_is_a_named_error(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": pa.array([b"fine", b"\xa5\xff"]).cast(pa.binary()).view(pa.string())}), path)
    with pytest.raises(DataFileError, match=r"a\.parquet: is damaged"):
        list(read_records(path))
