"""Layouts of well-known data sets, brought to the one that the tasks read. A row of any other layout passes untouched.

- CLUENER: ``{"text", "label": {type: {surface: [[start, end inclusive]]}}}`` → ``entities``: [{start, end, label}],
  end exclusive
- rows of Python objects: names of columns that are no text, bytes that are text, bins and periods of pandas → text
- Hugging Face question answering: ``answers: {"text": [...], "answer_start": [...]}`` → ``answers``: [{text, start}]
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from polydetr.core.records import ReadReport
from polydetr.errors import Location, RowError

NOT_FOUND = -1
"""``start`` of an answer whose text does not occur in its passage: it still counts as a reference, but cannot be
pointed at.
"""


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
    """The row in the layout that the tasks read; answers and entities are aligned with their text, see ``align``."""
    text, label, context, answers = (row.get(name) for name in ("text", "label", "context", "answers"))
    if isinstance(label, dict) and isinstance(text, str) and all(isinstance(v, dict) for v in label.values()):
        rest = {k: v for k, v in row.items() if k != "label"}
        return {**rest, "entities": _cluener(text, label, location, report)}
    if isinstance(answers, dict) and isinstance(context, str) and {"text", "answer_start"} <= answers.keys():
        pairs = zip(answers["text"], answers["answer_start"], strict=False)
        aligned = [{"text": t, "start": align(context, t, s, "answer", location, report)} for t, s in pairs]
        return {**row, "answers": aligned}
    return row


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
