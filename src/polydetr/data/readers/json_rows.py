"""JSON lines, streamed; whole JSON documents: a list of rows, question answering in SQuAD's layout (v1.1, v2.0; CMRC
and DRCD have the same), COCO's images with boxes, or an export of Label Studio.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from polydetr.core.access import IN_MEMORY, FileAccess
from polydetr.core.memory import free_memory
from polydetr.core.reading import Leaps, option
from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.coco import is_coco, read_coco
from polydetr.data.readers.exports import usual_export
from polydetr.data.readers.foreign import refuse_document
from polydetr.data.readers.label_studio import is_label_studio, read_label_studio
from polydetr.data.readers.shapes import MAX_DEPTH, check_values, plain_row, usual_answers, usual_shape
from polydetr.data.readers.source import Source, refuse, reject
from polydetr.errors import DataFileError, Location, RowError, quoted, shown

_MEMORY_PER_BYTE = 5
"""Of a document: its text, in lines and joined, and the values that it writes (4.3 bytes where these are numbers)."""


def read_jsonl(source: Source, *, report: ReadReport, skip: bool) -> Iterator[Record]:
    """One JSON object per line; blank lines are passed over. A line that is not one is a RowError (or rejected)."""
    row, leaps = 0, source.leaps or Leaps()
    for line, text in enumerate(source.lines(), 1):
        if not text.strip():
            continue
        row += 1
        location = Location(source.name, row=row + leaps.lines, line=line + leaps.lines)
        try:
            values = usual_export(_object(text), location, report)
            if values is None:
                continue
            record = Record(usual_shape(values, location, report), location)
        except BaseException as error:
            reject(error, location, report, skip=skip)
            continue
        report.rows += 1
        yield record


def _object(text: str) -> dict[str, Any]:
    """The object of one line. Raises RowError where it is none."""
    try:
        value = json.loads(text.lstrip("\ufeff"))
    except json.JSONDecodeError as error:
        raise RowError(f"is not JSON: {error.msg} at column {error.colno}: {shorten(text)}") from None
    except ValueError:
        raise RowError(f"holds a number of thousands of digits: {shorten(text)}") from None
    if _may_hold_halves(text) or (len(text) > MAX_DEPTH and text.count("[") + text.count("{") > MAX_DEPTH):
        check_values(value)
    if not isinstance(value, dict):
        raise RowError(f"holds {_kind(value)}, expected one object ({{...}}) with a field per column.")
    return value


def _may_hold_halves(text: str) -> bool:
    """False where JSON can hold no half of a character: to look at every value would take long."""
    return "\\ud" in text or "\\uD" in text


def read_json(
    source: Source,
    *,
    report: ReadReport,
    skip: bool,
    only: str | None = None,
    access: FileAccess = IN_MEMORY,
    labels: bool = True,
) -> Iterator[Record]:
    """The whole document at once. only: "squad", "coco" or "labelstudio", where nothing else is expected; access: see
    ``read_coco``; labels: whether answers (to questions, of Label Studio) are read.

    Raises:
        DataFileError: not JSON, no rows in it, or too large for the memory that is free.
    """
    text = _whole(source)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        hint = f"One object per line? Then pass {option('format', 'jsonl')}." if error.msg == "Extra data" else None
        location = Location(source.name, line=error.lineno)
        raise DataFileError(
            f"is not JSON: {error.msg} at column {error.colno}.", location=location, hint=hint
        ) from None
    except (ValueError, RecursionError) as error:
        reason = "thousands of brackets" if isinstance(error, RecursionError) else "a number of thousands of digits"
        raise DataFileError(f"cannot be read as JSON: it holds {reason}.", location=Location(source.name)) from None
    location = Location(source.name)
    if only == "labelstudio" or (only is None and is_label_studio(value)):
        return read_label_studio(value, source, report=report, skip=skip, access=access, labels=labels)
    if is_coco(value) and only != "squad":
        return read_coco(value, source, report=report, skip=skip, access=access)
    if only == "coco":
        raise DataFileError(f"holds {_kind(value)}, expected COCO's images and annotations.", location=location)
    if only is None:
        refuse_document(value, location)
    if isinstance(value, dict):
        data = value.get("data")
        if isinstance(data, list) and any(isinstance(d, dict) and "paragraphs" in d for d in data):
            return _squad(data, source.name, report, skip, labels=labels, halves=_may_hold_halves(text))
        value = data if isinstance(data, list) else [value] if not _is_table(value) else value
    if only == "squad" or not isinstance(value, list):
        alone = f"An object that is a row by itself is read with {option('format', 'jsonl')}."
        raise DataFileError(
            f"holds {_kind(value)}, expected a list of rows or SQuAD's {{'data': [{{'paragraphs': ...}}]}}.",
            location=location,
            hint=f"Of pandas write to_json(..., orient='records'). {alone}" if isinstance(value, dict) else None,
        )
    if not value:
        raise DataFileError("is empty, expected rows of data.", location=location)
    return read_rows(value, name=source.name, report=report, skip=skip, halves=_may_hold_halves(text))


def _whole(source: Source) -> str:
    """The text of a document. Raises DataFileError where it is too large for the memory that is free."""
    free = free_memory()
    most = None if free is None else free // _MEMORY_PER_BYTE
    size = source.path.stat().st_size if source.path else 0  # one line may be all there is
    lines: list[str] = []
    for line in chain([""], source.lines()):
        if most is not None and size > most:
            raise DataFileError(
                f"is one JSON document of {'' if source.path else 'more than '}{size / 1e6:,.0f} MB, too large for the "
                f"memory that is free ({(free or 0) / 1e9:.1f} GB).",
                location=Location(source.name),
                hint="Write one object per line (JSON lines, .jsonl), which is read row by row, or read it where more "
                "memory is free.",
            )
        lines.append(line)
        size += 0 if source.path else len(line)
    return "".join(lines)


def read_rows(rows: Any, *, name: str | None, report: ReadReport, skip: bool, halves: bool = True) -> Iterator[Record]:
    """Rows that are already Python objects: mappings, or Records, which keep their place. halves: whether their texts
    may hold halves of characters, see ``check_values``.
    """
    for number, row in enumerate(rows, 1):
        known = isinstance(row, Record)
        location = row.location if known else Location(name, row=number)
        try:
            values = row.row if known else _mapping(row)
            check_values(values, halves=halves)
            record = row if known else _usual_record(values, location, report)
            if record is None:
                continue
        except BaseException as error:
            reject(error, location, report, skip=skip)
            continue
        report.rows += 1
        yield record


def _usual_record(values: Mapping[str, Any], location: Location, report: ReadReport) -> Record | None:
    """None for a row of a file that its annotator did not accept; rows in memory are answered, each of them."""
    usual = values if location.file is None else usual_export(values, location, report)
    return None if usual is None else Record(usual_shape(usual, location, report), location)


def _mapping(row: Any) -> Mapping[str, Any]:
    if not isinstance(row, Mapping):
        raise RowError(f"holds {_kind(row)}, expected a mapping of field name to value.")
    return plain_row(row)


def _squad(
    articles: list[Any], name: str, report: ReadReport, skip: bool, *, labels: bool, halves: bool
) -> Iterator[Record]:
    """One record per question; ``document`` is the article. labels: whether what is wrong with an answer matters;
    halves: as ``read_rows`` takes it.
    """
    row = 0
    for number, article in enumerate(articles, 1):
        if not isinstance(article, dict) or not isinstance(article.get("paragraphs"), list):
            refuse(f"article {number} has no list of paragraphs.", Location(name), report, skip=skip)
            continue
        document = str(article.get("title") or article.get("id") or number)
        for place, paragraph in enumerate(article["paragraphs"], 1):
            questions = paragraph.get("qas", []) if isinstance(paragraph, dict) else None
            if not isinstance(questions, list):
                reason = f"paragraph {place} of {quoted(document)} is {quoted(paragraph)}, expected a context and qas."
                refuse(reason, Location(name), report, skip=skip)
                continue
            for question in questions:
                row += 1
                location = Location(name, row=row)
                try:
                    question = question if labels else {**question, "answers": None, "is_impossible": False}
                    check_values({"context": paragraph.get("context"), "question": question}, halves=halves)
                    record = Record(_asked(paragraph, question, document, location, report), location, document)
                except BaseException as error:
                    reject(error, location, report, skip=skip)
                    continue
                report.rows += 1
                yield record


def _asked(
    paragraph: Mapping[str, Any], question: Any, document: str, location: Location, report: ReadReport
) -> dict[str, Any]:
    """The row of one question. Raises RowError where something of it is missing or of another kind."""
    try:
        return _question(paragraph["context"], question, location, report)
    except KeyError as error:
        raise RowError(f"question {quoted(question)} in {quoted(document)} lacks {error}.") from None
    except (TypeError, ValueError, AttributeError):
        raise RowError(
            f"question {quoted(question)} in {quoted(document)}: expected a context of text and "
            '{"question": text, "answers": [{"text": text, "answer_start": number}, ...]}.'
        ) from None


def _question(context: str, question: Mapping[str, Any], location: Location, report: ReadReport) -> dict[str, Any]:
    """The row of one question. A question without the key "answers" is not labeled, unless it is marked as impossible;
    an empty list says that there is no answer.
    """
    if not isinstance(context, str) or not isinstance(question["question"], str):
        raise TypeError
    given, impossible = question.get("answers"), question.get("is_impossible", False)
    if given is None and impossible:
        given = []
    return {
        "id": str(question.get("id", location.row)),
        "question": question["question"],
        "context": context,
        "answers": given if given is None else usual_answers(context, given, impossible, location, report),
        "is_impossible": bool(impossible),
    }


def _is_table(value: dict[str, Any]) -> bool:
    return bool(value) and all(isinstance(v, (list, dict)) for v in value.values())


def _kind(value: Any) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "a string",
        bool: "a truth value",
        int: "a number",
        float: "a number",
    }
    return "null" if value is None else f"{names.get(type(value), type(value).__name__)} ({quoted(value, 60)})"


def shorten(text: str, width: int = 60) -> str:
    return shown(text.strip() if len(text) < 10_000 else text[: width + 1], width)
