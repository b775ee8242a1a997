"""CSV and TSV, streamed: RFC 4180 quoting with line breaks inside fields, the delimiter and the header recognized.

Values stay strings; an empty cell is "". Tab-separated files often hold literal quotation marks, so there quoting is
on only where the first megabyte shows that it is used.
"""

from __future__ import annotations

import csv
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from polydetr.core.records import SKIP, ReadReport, Record
from polydetr.data.readers.source import Source, refuse
from polydetr.errors import DataFileError, Location, SchemaError
from polydetr.values.cells import SemicolonCell

_SAMPLE_ROWS = 200
_HEADER_WORDS = frozenset(
    ["text", "label", "sentence", "title", "category", "class", "question", "answer", "id", "target", "tags"]
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the rows are cut."""

    delimiter: str
    quoted: bool

    def reader(self, lines: Iterator[str]):
        csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # one field may be a whole book
        quoting = csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE
        return csv.reader(lines, delimiter=self.delimiter, quoting=quoting, strict=True)


def read_delimited(
    source: Source,
    *,
    report: ReadReport,
    skip: bool,
    delimiter: str | None = None,
    header: bool | None = None,
    columns: Sequence[str] | None = None,
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
    if header is None:
        header = not looks_headerless(first_rows) if columns is None else list(columns) == first_rows[0]
    names = name_columns(source.name, first_rows, header=header, columns=columns, report=report)
    return _rows(source, dialect, names, header, report, skip)


def _rows(
    source: Source, dialect: Dialect, names: list[str], header: bool, report: ReadReport, skip: bool
) -> Iterator[Record]:
    """The records, one at a time; a row with a fault is refused."""
    reader = dialect.reader(source.lines())
    row = 0 if header else 1
    num_rows = 0
    while True:
        line = reader.line_num + 1
        fault = ""
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            cells, fault = [], _quote_fault(str(error), line)
        if not cells and not fault:
            continue  # a blank line
        if row == 0:
            row = 1
            continue
        location = Location(source.name, row=row, line=line)
        row, num_rows = row + 1, num_rows + 1
        if not fault and len(cells) != len(names):
            shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
            fault = f"{len(cells)} fields, expected {len(names)} ({shown})."
        if fault:
            hint = f"Repair the row (quote a field that holds the delimiter), or skip such rows with {SKIP}."
            refuse(fault, location, report, skip=skip, hint=hint)
            continue
        report.rows += 1
        if dialect.delimiter == ";":
            cells = [SemicolonCell(cell) if "," in cell else cell for cell in cells]
        yield Record(dict(zip(names, cells, strict=True)), location)
    if not num_rows:
        raise DataFileError("holds a header and no rows.", location=Location(source.name))


def _quote_fault(error: str, line: int) -> str:
    if "unexpected end" in error:
        return f'the quotation mark (") opened in the row that begins at line {line} is never closed.'
    return f"the row is not valid CSV: {error}."


def sniff_dialect(sample: Sequence[str], delimiter: str | None = None) -> Dialect:
    """How the first rows are cut: at ``delimiter``, else at the one of comma, semicolon and tab under which they agree,
    the first one among them, on the most columns; at commas where they agree under none.
    """
    best, best_score = ",", (0.0, False, 0)
    for candidate in [delimiter] if delimiter else [",", "\t", ";"]:
        rows = sample_rows(sample, Dialect(candidate, _quotes_used(sample, candidate)))
        widths = Counter(map(len, rows))
        width, agreeing = widths.most_common(1)[0] if widths else (1, 0)
        # A header without the mark says that it only stands in the cells: a decimal comma, one in a sentence.
        score = (round(agreeing / max(1, len(rows)), 1), len(rows[0]) == width, width) if width > 1 else (0.0, False, 1)
        if delimiter or score > best_score:
            best, best_score = candidate, score
    return Dialect(best, _quotes_used(sample, best))


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
        rows.extend(r for r in islice(dialect.reader(iter(sample)), _SAMPLE_ROWS) if r)
    return rows


def looks_headerless(rows: Sequence[Sequence[str]]) -> bool:
    """True if the first row is data: a cell of it recurs as a value of its column, or is a number above numbers.

    One recurrence is enough in a short file only: a text column may well hold its own name once.
    """
    if len(rows) < 2 or any(cell.strip().lower() in _HEADER_WORDS for cell in rows[0]):
        return False
    first, rest = rows[0], [r for r in rows[1:] if list(r) != list(rows[0])]  # a header may be repeated half-way
    for i, cell in enumerate(first):
        below = [r[i] for r in rest if i < len(r)]
        recurs = below.count(cell) >= (2 if len(below) >= 20 else 1)
        if cell and below and (recurs or (_is_number(cell) and all(map(_is_number, below)))):
            return True
    return False


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def name_columns(
    file: str, rows: Sequence[Sequence[str]], *, header: bool, columns: Sequence[str] | None, report: ReadReport
) -> list[str]:
    """The column names: given, from the header, or made up for a file without one (two columns: the longer is
    ``text``).
    """
    location = Location(file, line=1)
    if not rows:
        raise DataFileError(
            "no row could be read.", location=location, hint="Is the delimiter right? Pass delimiter=..."
        )
    if columns is not None:
        if len(columns) != len(rows[0]):
            raise SchemaError(f"{len(columns)} column names for {len(rows[0])} columns.", location=location)
        names = list(columns)
    elif header:
        names = [cell.strip() or f"column_{i}" for i, cell in enumerate(rows[0], 1)]
    else:
        names = _default_names(rows)
        message = f"the first line looks like data, so the columns were named {', '.join(names)}"
        report.note(
            "no header", f"{message} (say otherwise with header=True, or name them with columns=[...]).", location
        )
    twice = [n for n, count in Counter(names).items() if count > 1]
    if twice:
        raise SchemaError(
            f"column {twice[0]!r} appears {names.count(twice[0])} times in the header.",
            location=location,
            hint="Rename one of them, or name all columns with columns=[...].",
        )
    return names


def _default_names(rows: Sequence[Sequence[str]]) -> list[str]:
    width = len(rows[0])
    if width == 1:
        return ["text"]
    if width != 2:
        return [f"column_{i}" for i in range(1, width + 1)]
    sizes = [sum(len(r[i]) for r in rows if len(r) == 2) for i in range(2)]
    return ["text", "label"] if sizes[0] >= sizes[1] else ["label", "text"]
