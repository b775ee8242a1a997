"""What is asked by itself: a text, the row of a number, the target of a name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from polydetr.core.records import ReadReport, Record
from polydetr.errors import InputError, RowError, did_you_mean, listed, quoted
from polydetr.schema.spec import IGNORE, Schema


def rows_of_texts(schema: Schema, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Each text is a row of a model that reads one column. Of one that reads several, ``NAME=TEXT`` gives the column
    NAME, and the row ends where a name comes again; a text without a name is the only column of text.

    Raises:
        InputError: nothing says which column a text belongs to.
    """
    names = [field.name for field in schema.inputs if field.modality != IGNORE]
    if len(names) == 1:
        return [{names[0]: text.removeprefix(f"{names[0]}=")} for text in texts]
    of_text = schema.names("text")
    rows: list[dict[str, Any]] = [{}]
    for text in texts:
        name, mark, value = text.partition("=")
        if not mark or name not in names:
            name, value = _only(of_text, text, names), text
        if name in rows[-1]:
            rows.append({})
        rows[-1][name] = value
    return rows


def _only(of_text: Sequence[str], text: str, names: Sequence[str]) -> str:
    if len(of_text) == 1:
        return of_text[0]
    raise InputError(
        f"which column is the text {quoted(text, 60)}? The model reads {listed(names)}.",
        hint=f"Name the column before each text: {quoted(f'{names[0]}=...')}, {quoted(f'{names[-1]}=...')}.",
    )


def row_number(wanted: int, records: Iterable[Record], report: ReadReport) -> Record:
    """Row number ``wanted``, counted from 1; nothing after it is read. report: of the reader, with the rows that it
    rejected, which are counted, too.

    Raises:
        InputError: there is no such row. RowError: it cannot be read.
    """
    good = 0
    for good, record in enumerate(records, start=1):
        number = good + len(report.rejected)
        if number == wanted:
            return record
        if number > wanted:
            break
    else:
        good += 1
    if wanted - good >= len(report.rejected):
        number = good - 1 + len(report.rejected)
        raise InputError(f"there is no row {wanted}: the input has {number}", hint="Rows are counted from 1.")
    bad = report.rejected[wanted - good]
    raise RowError(bad.reason, location=bad.location)


def target_of(target: str | None, known: Sequence[str], *, kind: str) -> str:
    """``target``, or the first of ``known``, the model's targets of one kind of task.

    Raises:
        InputError: the model has none of this kind, or ``target`` is not among them.
    """
    if not known:
        raise InputError(f"this model has no {kind} target", hint=f"Train one: target='column:{kind}'.")
    target = None if target is None else str(target)  # columns of data frames may be called by numbers
    if target is not None and target not in known:
        raise InputError(f"{target!r} is no {kind} target of this model. {did_you_mean(target, known)}")
    return target if target is not None else known[0]
