"""Layouts of well-known data sets, brought to the one that the tasks read. A row of any other layout passes untouched.

- CLUENER: ``{"text", "label": {type: {surface: [[start, end inclusive]]}}}`` → ``entities``: [{start, end, label}],
  end exclusive
- rows of Python objects: names of columns that are no text, bytes that are text, bins and periods of pandas → text
- Hugging Face question answering: ``answers: {"text": [...], "answer_start": [...]}`` → ``answers``: [{text, start}]
- a question marked ``is_impossible`` has no answers, whatever stands beside the mark
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from polydetr.core.records import ReadReport
from polydetr.errors import Location, RowError
from polydetr.values.spans import NOT_FOUND, place_of, read_offset

MAX_DEPTH = 60
"""Lists within lists, at most: no row of any task has more, and Python's own functions end in a RecursionError."""
_LARGEST = 10**4000
_FLAT = frozenset((str, int, float, bool, type(None)))
_NESTED = (dict, list, tuple, Mapping)


def check_values(row: Mapping[str, Any], *, halves: bool = True) -> None:
    """Raises RowError for what no row may hold: half a character, of which JSON can write (\\ud83d) and no tokenizer
    takes any, lists or mappings within one another without end, numbers that Python refuses to write out.

    halves: False where no text can hold half a character, which then need not be looked for.
    """
    if halves:
        _check_all(row, 0)
        return
    for value in row.values():
        if type(value) not in _FLAT and isinstance(value, _NESTED):
            _check_depth(value, 1)


def _check_all(value: Any, depth: int) -> None:
    if isinstance(value, str):
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                half = f"\\u{ord(value[error.start]):04x}"
                raise RowError(f"holds half a character ({half}), which no text can.") from None
    elif isinstance(value, int):
        if not -_LARGEST < value < _LARGEST:
            raise RowError("holds a number of thousands of digits.")
    elif isinstance(value, _NESTED):
        _refuse_depth(depth)
        for part in (*value, *value.values()) if isinstance(value, Mapping) else value:
            if type(part) is not float and not (type(part) is str and part.isascii()):
                _check_all(part, depth + 1)


def _check_depth(value: Any, depth: int) -> None:
    _refuse_depth(depth)
    for part in value.values() if isinstance(value, Mapping) else value:
        if type(part) not in _FLAT and isinstance(part, _NESTED):
            _check_depth(part, depth + 1)


def _refuse_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise RowError(f"holds lists or objects within one another, more than {MAX_DEPTH} deep.")


_PLAIN = frozenset((str, int, float, bool, type(None), list, dict))


def plain_row(row: Mapping[Any, Any]) -> Mapping[str, Any]:
    """A row of Python objects with names and values that files have too.

    Raises:
        RowError: two names are the same text.
    """
    if all(type(name) is str and type(value) in _PLAIN for name, value in row.items()):
        return row
    plain = {str(name): _plain_value(value) for name, value in row.items()}
    if len(plain) < len(row):
        twice = Counter(map(str, row)).most_common(1)[0][0]
        raise RowError(f"two columns are called {twice!r}, one by a text and one by a number.", hint="Rename one.")
    return plain


def _plain_value(value: Any) -> Any:
    if isinstance(value, bytes):
        return _text_of(value)
    return str(value) if type(value).__name__ in ("Interval", "Period", "UUID") else value


def _text_of(value: bytes) -> str | bytes:
    """The text that the bytes are; the bytes themselves where they are none, as those of an image are."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return value
    is_image = re.match(r"P[1-7]\s", text) or text.startswith("/* XPM")  # the two kinds of images that are text
    return value if is_image or any(c < " " and c not in "\t\r\n" for c in text) else text


def usual_shape(row: Mapping[str, Any], location: Location, report: ReadReport) -> Mapping[str, Any]:
    """The row in the layout that the tasks read; answers and entities are aligned with their text, see ``align``. A
    label that is not quite of its layout stays as it is: its task refuses it, and none hinders a prediction.
    """
    try:
        return _in_usual_shape(row, location, report)
    except (TypeError, KeyError, ValueError, AttributeError):
        return row


def _in_usual_shape(row: Mapping[str, Any], location: Location, report: ReadReport) -> Mapping[str, Any]:
    label, answers = row.get("label"), row.get("answers")
    if not isinstance(label, dict) and answers is None:
        return row
    text, context = row.get("text"), row.get("context")
    if isinstance(label, dict) and isinstance(text, str) and all(isinstance(v, dict) for v in label.values()):
        rest = {k: v for k, v in row.items() if k != "label"}
        return {**rest, "entities": _cluener(text, label, location, report)}
    impossible = row.get("is_impossible")
    if isinstance(answers, dict) and isinstance(context, str) and "text" in answers:
        starts = answers.get("answer_start", ())
        starts = [*starts, *[None] * (len(answers["text"]) - len(starts))]
        pairs = [{"text": t, "answer_start": s} for t, s in zip(answers["text"], starts, strict=False)]
        return {**row, "answers": usual_answers(context, pairs, impossible, location, report)}
    if isinstance(answers, (list, tuple)) and _is_true(impossible):
        return {**row, "answers": usual_answers("", answers, impossible, location, report)}
    return row


def usual_answers(
    context: str, answers: Sequence[Mapping[str, Any]], impossible: Any, location: Location, report: ReadReport
) -> list[dict[str, Any]]:
    """Answers of SQuAD's layout as [{text, start}], those that can be pointed at first; none to a question marked as
    impossible, which is reported.

    Raises:
        TypeError, KeyError, ValueError: an answer is not of this layout.
    """
    if answers and _is_true(impossible):
        message = f"the question is marked as impossible, so {answers[0]!r:.60} is not its answer"
        report.note("answers of impossible questions", message, location)
        return []
    placed = []
    for answer in answers:
        start = read_offset(answer.get("answer_start"))
        placed.append(
            {"text": answer["text"], "start": align(context, answer["text"], start, "answer", location, report)}
        )
    return sorted(placed, key=lambda a: a["start"] == NOT_FOUND)


def _is_true(mark: Any) -> bool:
    return str(mark).strip().lower() in ("true", "1", "yes")


def _cluener(text: str, label: Mapping[str, Any], location: Location, report: ReadReport) -> list[dict[str, Any]]:
    entities = []
    for kind, surfaces in label.items():
        for surface, places in surfaces.items():
            for start, last in places:
                begin = align(text, surface, start, "entity", location, report)
                if begin == NOT_FOUND:  # the offsets are all that is left to go by
                    entities.append({"start": start, "end": last + 1, "label": kind})
                else:
                    entities.append({"start": begin, "end": begin + len(surface), "label": kind})
    return sorted(entities, key=lambda e: (e["start"], e["end"]))


def align(text: str, part: str, start: int | None, what: str, location: Location, report: ReadReport) -> int:
    """Where ``part`` begins in ``text``: at ``start``, or at its occurrence nearest to that, or NOT_FOUND where it does
    not occur; the last two are reported. what: "answer" or "entity", for the report.
    """
    place = place_of(text, part, start)
    if place == NOT_FOUND:
        report.note(f"{what} not in its text", f"{what} {part!r:.60} does not occur in the text", location)
    elif start is not None and place != start:
        report.note(f"{what} realigned", f"{what} {part!r:.60} stands at {place}, not at {start}", location)
    return place
