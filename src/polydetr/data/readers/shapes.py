"""Layouts of well-known data sets, brought to the one that the tasks read. A row of any other layout passes untouched.

- CLUENER: ``{"text", "label": {type: {surface: [[start, end inclusive]]}}}`` → ``entities``: [{start, end, label}],
  end exclusive
- Hugging Face question answering: ``answers: {"text": [...], "answer_start": [...]}`` → ``answers``: [{text, start}]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from polydetr.core.records import ReadReport
from polydetr.errors import Location, RowError, quoted

NOT_FOUND = -1
"""``start`` of an answer whose text does not occur in its passage: it still counts as a reference, but cannot be
pointed at.
"""


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


def usual_shape(row: Mapping[str, Any], location: Location, report: ReadReport) -> Mapping[str, Any]:
    """The row in the layout that the tasks read; answers and entities are aligned with their text, see ``align``."""
    text, label, context, answers = (row.get(name) for name in ("text", "label", "context", "answers"))
    if isinstance(label, dict) and isinstance(text, str) and all(isinstance(v, dict) for v in label.values()):
        rest = {k: v for k, v in row.items() if k != "label"}
        with _expecting("label", label, "{type: {entity: [[start, last], ...]}}"):
            return {**rest, "entities": _cluener(text, label, location, report)}
    if isinstance(answers, dict) and isinstance(context, str) and {"text", "answer_start"} <= answers.keys():
        with _expecting("answers", answers, '{"text": [...], "answer_start": [...]}, as many numbers as texts'):
            pairs = zip(answers["text"], answers["answer_start"], strict=True)
            aligned = [{"text": t, "start": align(context, t, s, "answer", location, report)} for t, s in pairs]
            return {**row, "answers": aligned}
    return row


@contextmanager
def _expecting(column: str, value: Any, expected: str) -> Iterator[None]:
    """Raises RowError where the value does not have the layout that is read inside."""
    try:
        yield
    except (TypeError, ValueError, AttributeError):
        raise RowError(f"{column!r} is {quoted(value)}, expected {expected}.") from None


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


def align(text: str, part: str, start: int, what: str, location: Location, report: ReadReport) -> int:
    """Where ``part`` begins in ``text``: at ``start``, or at its occurrence nearest to that, or NOT_FOUND where it does
    not occur; the last two are reported. what: "answer" or "entity", for the report.
    """
    if start >= 0 and text.startswith(part, start):
        return start
    after = text.find(part, max(0, start))
    before = text.rfind(part, 0, max(0, start) + len(part))
    places = [p for p in (before, after) if p >= 0]
    if not places:
        report.note(f"{what} not in its text", f"{what} {part!r:.60} does not occur in the text", location)
        return NOT_FOUND
    nearest = min(places, key=lambda p: abs(p - start))
    report.note(f"{what} realigned", f"{what} {part!r:.60} stands at {nearest}, not at {start}", location)
    return nearest
