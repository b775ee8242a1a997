"""Reading under a time limit, on a clock that rows move: what is read of a file for which there is no time."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from polydetr.core.reading import Leaps
from polydetr.core.records import Record
from polydetr.data.readers import read_records
from polydetr.training import reading
from polydetr.training.budget import Budget
from polydetr.training.reading import read_in_time

ROWS = 20_000
SORTED = [{"text": f"row {i} of a file in an order", "label": "abcd"[4 * i // ROWS]} for i in range(ROWS)]


class Clock:
    """A row takes a thousandth of a second to read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(reading, "time", SimpleNamespace(monotonic=lambda: self.now))

    def read(self, file: Path, leaps: Leaps) -> Iterator[Record]:
        for record in read_records(str(file), leaps=leaps):
            self.now += 0.001
            yield record


def written(folder: Path, kind: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / f"rows.{kind}"
    with path.open("w", encoding="utf-8", newline="") as file:
        if kind == "jsonl":
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


def read(clock: Clock, file: Path, budget: Budget, *, seconds: float) -> tuple[list[Record], str | None]:
    leaps = Leaps()
    return read_in_time(clock.read(file, leaps), leaps, budget, "read", seconds=seconds, least=100, seed=1)


def budget(kept: dict[str, Any] | None = None) -> Budget:
    return Budget(100.0, 0.0, kept=kept or {})


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_a_sorted_file_gives_rows_of_every_class_in_their_shares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    clock = Clock(monkeypatch)
    found, which = read(clock, written(tmp_path, kind, SORTED), budget(), seconds=4.0)
    assert 3.0 < clock.now < 4.5
    assert which is not None
    assert "from all parts of the file" in which
    assert f"{len(found):,}" in which
    counts = Counter(record.row["label"] for record in found)
    assert set(counts) == set("abcd")
    assert max(counts.values()) < 1.5 * min(counts.values())


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_rows_keep_their_places_and_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    file = written(tmp_path, kind, SORTED)
    found, _ = read(Clock(monkeypatch), file, budget(), seconds=3.0)
    lines = file.read_text(encoding="utf-8").splitlines()
    for record in found:
        assert record.row == SORTED[(record.location.row or 0) - 1]
        assert record.row["text"] in lines[(record.location.line or 0) - 1]
    assert len({record.location.row for record in found}) == len(found)


def test_a_file_that_there_is_time_for_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, "csv", SORTED)
    for seconds in (25.0, 100.0):  # also where a third of the time is not enough
        spent = budget()
        found, which = read(Clock(monkeypatch), file, spent, seconds=seconds)
        assert len(found) == ROWS
        assert which is None
        assert spent.decided == {"read": None}


def test_a_leap_into_a_row_of_several_lines_gives_no_half_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {**row, "text": f'{row["text"]},\nand\n"more", of it'} if i % 150 == 149 else row
        for i, row in enumerate(SORTED)
    ]
    file = written(tmp_path, "csv", rows)
    monkeypatch.setattr(reading, "_MOST_LONG", 1.0)
    found, _ = read(Clock(monkeypatch), file, budget(), seconds=4.0)
    texts = {row["text"] for row in rows}
    assert len(found) > 1000
    assert {record.row["text"] for record in found} <= texts
    assert any("more" in record.row["text"] for record in found)


def test_a_file_of_long_rows_is_read_from_its_beginning_and_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{**row, "text": row["text"] + "\nand more"} for row in SORTED]
    found, which = read(Clock(monkeypatch), written(tmp_path, "csv", rows), budget(), seconds=2.0)
    assert which == f"the first {len(found):,}"
    assert [record.row for record in found] == rows[: len(found)]


def test_a_resumed_run_reads_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, "csv", SORTED)
    first = budget()
    found, _ = read(Clock(monkeypatch), file, first, seconds=4.0)
    kept = json.loads(json.dumps(first.decided))
    again, _ = read(Clock(monkeypatch), file, budget(kept), seconds=0.1)
    assert [record.row for record in again] == [record.row for record in found]
    assert [record.location for record in again] == [record.location for record in found]
