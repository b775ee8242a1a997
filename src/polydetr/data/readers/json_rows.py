"""JSON lines, streamed; whole JSON documents: a list of rows, question answering in SQuAD's layout (v1.1, v2.0; CMRC
and DRCD have the same), or COCO's images with boxes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from polydetr.core.access import IN_MEMORY, FileAccess
from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.coco import is_coco, read_coco
from polydetr.data.readers.shapes import NOT_FOUND, align, usual_shape
from polydetr.data.readers.source import Source, refuse
from polydetr.errors import DataFileError, Location


def read_jsonl(source: Source, *, report: ReadReport, skip: bool) -> Iterator[Record]:
    """One JSON object per line; blank lines are passed over. A line that is not one is a RowError (or rejected)."""
    row = 0
    for line, text in enumerate(source.lines(), 1):
        if not text.strip():
            continue
        row += 1
        location = Location(source.name, row=row, line=line)
        try:
            value = json.loads(text.lstrip("\ufeff"))
        except (ValueError, RecursionError) as error:
            reason = (
                f"is not JSON: {error.msg} at column {error.colno}"
                if isinstance(error, json.JSONDecodeError)
                else str(error)
            )
            refuse(f"{reason}: {shorten(text)}", location, report, skip=skip)
            continue
        half = _half_character(text, value)
        if half:
            refuse(f"holds half a character ({half}), which no text can.", location, report, skip=skip)
            continue
        if not isinstance(value, dict):
            reason = f"holds {_kind(value)}, expected one object ({{...}}) with a field per column."
            refuse(reason, location, report, skip=skip)
            continue
        report.rows += 1
        yield Record(usual_shape(value, location, report), location)


def read_json(
    source: Source, *, report: ReadReport, skip: bool, only: str | None = None, access: FileAccess = IN_MEMORY
) -> Iterator[Record]:
    """The whole document at once. only: "squad" or "coco", where nothing else is expected; access: see ``read_coco``.

    Raises:
        DataFileError: not JSON, or no rows in it.
    """
    try:
        value = json.loads("".join(source.lines()))
    except json.JSONDecodeError as error:
        hint = "One object per line? Then pass format='jsonl' (--format jsonl)." if error.msg == "Extra data" else None
        location = Location(source.name, line=error.lineno)
        raise DataFileError(
            f"is not JSON: {error.msg} at column {error.colno}.", location=location, hint=hint
        ) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        raise DataFileError(f"cannot be read as JSON: {error}.", location=Location(source.name)) from None
    location = Location(source.name)
    if is_coco(value) and only != "squad":
        return read_coco(value, source, report=report, skip=skip, access=access)
    if only == "coco":
        raise DataFileError(f"holds {_kind(value)}, expected COCO's images and annotations.", location=location)
    if isinstance(value, dict):
        data = value.get("data")
        if isinstance(data, list) and any(isinstance(d, dict) and "paragraphs" in d for d in data):
            return _squad(data, source.name, report, skip)
        value = data if isinstance(data, list) else [value] if not _is_table(value) else value
    if only == "squad" or not isinstance(value, list):
        raise DataFileError(
            f"holds {_kind(value)}, expected a list of rows or SQuAD's {{'data': [{{'paragraphs': ...}}]}}.",
            location=location,
        )
    if not value:
        raise DataFileError("is empty, expected rows of data.", location=location)
    return read_rows(value, name=source.name, report=report, skip=skip)


def read_rows(rows: Any, *, name: str | None, report: ReadReport, skip: bool) -> Iterator[Record]:
    """Rows that are already Python objects: mappings, or Records, which pass as they are."""
    for number, row in enumerate(rows, 1):
        if isinstance(row, Record):
            report.rows += 1
            yield row
            continue
        location = Location(name, row=number)
        if not isinstance(row, Mapping):
            refuse(f"holds {_kind(row)}, expected a mapping of field name to value.", location, report, skip=skip)
            continue
        report.rows += 1
        yield Record(usual_shape(row, location, report), location)


def _squad(articles: list[Any], name: str, report: ReadReport, skip: bool) -> Iterator[Record]:
    """One record per question; ``document`` is the article."""
    row = 0
    for number, article in enumerate(articles, 1):
        if not isinstance(article, dict) or not isinstance(article.get("paragraphs"), list):
            refuse(f"article {number} has no list of paragraphs.", Location(name), report, skip=skip)
            continue
        document = str(article.get("title") or article.get("id") or number)
        for paragraph in article["paragraphs"]:
            for question in paragraph.get("qas", []):
                row += 1
                location = Location(name, row=row)
                try:
                    record = Record(_question(paragraph["context"], question, location, report), location, document)
                except (KeyError, TypeError) as error:
                    refuse(f"question {question!r:.80} in {document!r} lacks {error}.", location, report, skip=skip)
                    continue
                report.rows += 1
                yield record


def _question(context: str, question: Mapping[str, Any], location: Location, report: ReadReport) -> dict[str, Any]:
    answers = []
    for answer in question.get("answers", []):
        start = align(context, answer["text"], answer["answer_start"], "answer", location, report)
        answers.append({"text": answer["text"], "start": start})
    answers.sort(key=lambda a: a["start"] == NOT_FOUND)  # those that can be pointed at come first
    return {
        "id": str(question.get("id", location.row)),
        "question": question["question"],
        "context": context,
        "answers": answers,
        "is_impossible": bool(question.get("is_impossible", False)),
    }


def _half_character(text: str, value: Any) -> str:
    """The first lone surrogate: JSON can write one (\\ud83d), but it is no character and no tokenizer takes it."""
    if "\\ud" not in text.lower():
        return ""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        return f"\\u{ord(error.object[error.start]):04x}"
    return ""


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
    return "null" if value is None else f"{names.get(type(value), type(value).__name__)} ({shorten(repr(value))})"


def shorten(text: str, width: int = 60) -> str:
    text = text.strip()
    return text if len(text) <= width else text[: width - 1] + "…"
