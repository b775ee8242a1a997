"""Answered rows as a file: what the API answers, in every format that answers are written in."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from polydetr.serving.answer_table import AnswersAsTable
from polydetr.serving.answered_rows import AnsweredRow, AnsweredRows
from polydetr.serving.refusal import json_bytes
from polydetr.serving.rows import Columns

TYPES = {
    ".csv": "text/csv", ".tsv": "text/tab-separated-values", ".jsonl": "application/x-ndjson",
    ".parquet": "application/vnd.apache.parquet",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}  # fmt: skip
"""Suffix → content type."""
_AT_ONCE = 500


def saved(rows: AnsweredRows, columns: Columns, suffix: str, *, only: Sequence[int] | None = None) -> Path:
    """A file of the rows with their answers; whoever asked removes it. only: the numbers of those wanted, in the order
    wanted. A table has the columns of all rows; JSON lines are the replies.

    Raises:
        OSError. SaveError: this kind of file cannot hold them.
    """
    chosen = rows.all() if only is None else _chosen(rows, only)
    with tempfile.NamedTemporaryFile(prefix="polydetr-", suffix=suffix, delete=False) as file:
        try:
            if suffix == ".jsonl":
                file.writelines(json_bytes(_without_cells(row)) + b"\n" for row in chosen)
            else:
                table = AnswersAsTable(file, own=list(rows.names), suffix=suffix)
                while some := list(islice(chosen, _AT_ONCE)):
                    table.write([row.item(columns) for row in some], [row.reply for row in some])
                table.close()
        except BaseException:
            with suppress(OSError):
                Path(file.name).unlink()
            raise
    return Path(file.name)


def _chosen(rows: AnsweredRows, only: Iterable[int]) -> Iterator[AnsweredRow]:
    for number in only:
        yield from rows.read(number, 1)


def _without_cells(row: AnsweredRow) -> dict[str, object]:
    return {name: value for name, value in row.reply.items() if name != "cells"}
