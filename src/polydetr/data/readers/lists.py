"""Records with the lists that their cells write as text, read as their columns are (``schema.lists``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.source import refuse
from polydetr.errors import RowError
from polydetr.values.lists import ListColumn, read_lists


def with_lists(
    records: Iterable[Record], columns: Mapping[str, ListColumn], *, report: ReadReport, skip: bool = False
) -> Iterator[Record]:
    """The records, one at a time. A cell that holds no list as the others do stays as it is, for its reader to refuse.

    Raises:
        RowError: a vector of another length than those of the training rows (``skip``: rejected into ``report``).
    """
    for record in records:
        try:
            row = read_lists(record.row, columns)
        except RowError as error:
            refuse(
                error.message,
                replace(record.location, column=error.location and error.location.column),
                report,
                skip=skip,
            )
            report.rows -= 1
            continue
        yield record if row is record.row else replace(record, row=row, read=record.row)
