"""CSV and TSV, streamed: RFC 4180 quoting with line breaks inside fields, the delimiter and the header recognized.

Values stay strings; an empty cell is "". Tab-separated files often hold literal quotation marks, so there quoting is
on only where the first megabyte shows that it is used.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice

from polydetr.core.reading import SKIP, ExpectedColumns, Leaps, option
from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.header import has_header, name_columns
from polydetr.data.readers.quoting import Dialect, cut_rows
from polydetr.data.readers.source import Source, refuse
from polydetr.errors import DataFileError, Location
from polydetr.values.cells import SemicolonCell

_SAMPLE_ROWS = 200
_SEPARATOR = re.compile(r'"?sep=(.)"?\s*')
"""Excel's first line, which names the delimiter of the file."""


def read_delimited(
    source: Source,
    *,
    report: ReadReport,
    skip: bool,
    delimiter: str | None = None,
    header: bool | None = None,
    columns: Sequence[str] | None = None,
    expected: ExpectedColumns = ExpectedColumns(),
) -> Iterator[Record]:
    """One Record per row; ``location`` has the data row and the line where the row begins.

    Raises:
        DataFileError: a header and nothing below it. SchemaError: duplicate column names, or ``columns`` of another
        number. RowError: a row with another number of fields, broken quotes (``skip``: rejected into ``report``
        instead).
    """
    sample = source.head_lines()
    dialect = sniff_dialect(sample, delimiter or ("\t" if source.suffix in (".tsv", ".tab") else None))
    first_rows = sample_rows(sample, dialect)
    name = source.name
    header = has_header(name, first_rows, header=header, columns=columns, expected=expected, report=report)
    names = name_columns(name, first_rows, header=header, columns=columns, expected=expected, report=report)
    return _rows(source, dialect, first_rows, names, header, report, skip)


def _rows(
    source: Source,
    dialect: Dialect,
    sample: Sequence[Sequence[str]],
    names: list[str],
    header: bool,
    report: ReadReport,
    skip: bool,
) -> Iterator[Record]:
    """The records, one at a time; a row with a fault is refused."""
    rows = cut_rows(source.lines(), dialect, sample)
    if header:
        next(rows, None)
    number, width, leaps = 0, len(names), source.leaps or Leaps()
    landed = 0
    for number, (line, cells, fault, warning) in enumerate(rows, 1):
        location = Location(source.name, number + leaps.lines, None, line + leaps.lines)
        if leaps.count > landed:
            if fault or warning or len(cells) != width:  # still inside of a row of several lines
                continue
            landed = leaps.count
        if len(cells) != width and not fault:
            shown = ", ".join(names[:8]) + (", ..." if width > 8 else "")
            fault = f"{len(cells)} fields, expected {width} ({shown})."
        if fault:
            hint = (
                f"Repair the row (quote a field that holds the delimiter, {dialect.delimiter!r}), name another "
                f"delimiter with {option('delimiter')}, or skip such rows with {SKIP}."
            )
            refuse(fault, location, report, skip=skip, hint=hint)
            continue
        if warning:
            report.note(warning, f"{cells[0]!r:.60}", location)
        report.rows += 1
        if dialect.delimiter == ";":
            cells = [SemicolonCell(cell) if "," in cell else cell for cell in cells]
        yield Record(dict(zip(names, cells, strict=True)), location)
    if not number:
        raise DataFileError("holds a header and no rows.", location=Location(source.name))


def sniff_dialect(sample: Sequence[str], delimiter: str | None = None) -> Dialect:
    """How the first rows are cut: at ``delimiter``, else at the one of comma, semicolon and tab under which they
    agree, the first one among them, on the most columns; at bars where the first row agrees with the others under none
    of them, and the rows do under these; at commas where they do not either.
    """
    named = _SEPARATOR.fullmatch(sample[0]) if sample else None
    preamble = 1 if named else 0
    sample, delimiter = sample[preamble:], delimiter or (named[1] if named else None)
    if delimiter is None:
        scores = {candidate: _agreement(sample, candidate) for candidate in (",", "\t", ";")}
        delimiter = max(scores, key=lambda candidate: scores[candidate])
        if not scores[delimiter][1] and _agreement(sample, "|") > max((0.9, False, 1), scores[delimiter]):
            delimiter = "|"
    quoted = _quotes_used(sample, delimiter)
    return Dialect(delimiter, quoted, preamble, spaced=quoted and _quotes_after_blanks(sample, delimiter))


def _quotes_after_blanks(sample: Sequence[str], delimiter: str) -> bool:
    """Whether quotation marks after a delimiter and a blank quote fields, as in ``"a, b", "c"``."""
    dialect = Dialect(delimiter, quoted=True)
    if not any(cell.lstrip(" ")[:1] == '"' for row in sample_rows(sample, dialect) for cell in row if cell[:1] == " "):
        return False
    try:
        rows = list(islice(replace(dialect, spaced=True).reader(iter(sample)), _SAMPLE_ROWS))
    except csv.Error:
        return False
    return len({len(row) for row in rows if row}) == 1


_NO_AGREEMENT = (0.0, False, 1)


def _agreement(sample: Sequence[str], delimiter: str) -> tuple[float, bool, int]:
    """The share of rows that have the most frequent number of columns, whether the first one is among them, and that
    number, if it is above 1.
    """
    widths = [len(r) for r in sample_rows(sample, Dialect(delimiter, _quotes_used(sample, delimiter)))]
    width, agreeing = Counter(widths).most_common(1)[0] if widths else (1, 0)
    # A header without the mark says that it only stands in the cells: a decimal comma, one in a sentence.
    return (round(agreeing / len(widths), 1), widths[0] == width, width) if width > 1 else _NO_AGREEMENT


def _quotes_used(sample: Sequence[str], delimiter: str) -> bool:
    """Comma and semicolon files are quoted. A tab file is unless a lone mark inside a field, or a sample without
    need, says otherwise.
    """
    if delimiter != "\t":
        return True
    cells = [cell for line in sample for cell in line.rstrip("\r\n").split("\t") if '"' in cell]
    if not cells:
        return True
    whole = re.compile(r'"(?:[^"]|"")*"')
    opened = re.compile(r'"(?:[^"]|"")*|(?:[^"]|"")*"')  # a quoted field cut in two by a tab or a line break
    if not all(whole.fullmatch(c) or opened.fullmatch(c) for c in cells):
        return False
    everything = all(whole.fullmatch(c) for c in sample[0].rstrip("\r\n").split("\t"))
    return everything or any('""' in c[1:-1] or not whole.fullmatch(c) for c in cells)


def sample_rows(sample: Sequence[str], dialect: Dialect) -> list[list[str]]:
    """The first rows, for recognizing; a fault ends the sample."""
    rows: list[list[str]] = []
    with suppress(csv.Error):
        rows.extend(r for r in islice(dialect.reader(iter(sample[dialect.preamble :])), _SAMPLE_ROWS) if r)
    return rows
