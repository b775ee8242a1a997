"""Plain text: a row per line, for a model that reads one column of text."""

from __future__ import annotations

import json
from collections.abc import Iterator

from polydetr.core.reading import ExpectedColumns
from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.source import Source
from polydetr.errors import DataFileError, Location, listed


def read_plain_text(source: Source, *, report: ReadReport, expected: ExpectedColumns) -> Iterator[Record]:
    """The lines that are not blank, each as the one column of text that is expected ("text" where none is known).

    Raises:
        DataFileError: the model reads several columns of text, or none.
    """
    texts = ("text",) if expected.texts is None else expected.texts
    if len(texts) != 1:
        read = f"the columns {listed(expected.inputs)}" if expected.inputs else "none"
        raise DataFileError(
            f"is plain text, one text per line; the model reads {read}.",
            location=Location(source.name),
            hint="Give a table or JSON lines with these columns.",
        )
    return _lines(source, texts[0], report)


def _lines(source: Source, column: str, report: ReadReport) -> Iterator[Record]:
    blank: Location | None = None
    for number, line in enumerate(source.lines(), start=1):
        if not line.strip():
            blank = blank or Location(source.name, line=number)
            continue
        if blank is not None:
            report.note("blank lines are no rows", "a line between the texts is blank", blank)
            blank = None
        report.rows += 1
        yield Record({column: line.rstrip("\r\n")}, Location(source.name, report.rows, line=number))


def holds_json(lines: list[str]) -> bool:
    """Whether the first line begins a document of JSON, or is a row of it: a text may begin with a bracket, too."""
    first = next((line.strip() for line in lines if line.strip()), "")
    if first in ("[", "{", "[{"):
        return True
    try:
        return isinstance(json.loads(first), dict | list)
    except (ValueError, RecursionError):
        return False
