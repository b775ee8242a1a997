"""Spans of a text and answers in a passage as a person marks them, checked against the text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from polydetr.core.layout import FieldText
from polydetr.errors import RowError, quoted
from polydetr.values.cells import is_missing
from polydetr.values.spans import Span, read_offset, trim
from polydetr.values.tags import fit_to_words

_EXPECTED = 'Expected [{"start": 0, "end": 4, "label": "PER"}]: characters from 0, the end exclusive; [] for none.'
NO_ANSWER: dict[str, Any] = {"text": "", "start": None, "end": None}
"""What says that a passage holds no answer."""


def checked_spans(
    value: Any, text: FieldText, read_label: Callable[..., Any], *, apart: bool, words_have_labels: bool
) -> tuple[list[dict[str, Any]], list[str]]:
    """The spans on whole words, in the order of the text, each once; and what was done to them.

    read_label: of a label; takes ``where``, the beginning of its error. apart: no two may overlap. words_have_labels:
    every word bears exactly one label.

    Raises:
        RowError: no list of spans, one outside of the text, of no word, that says another text than it marks, or
        overlaps another where that cannot be.
    """
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Sequence):
        raise RowError(f"{quoted(value, 60)} is no list of spans.", hint=_EXPECTED)
    spans: dict[tuple[int, int, Any], dict[str, Any]] = {}
    messages: list[str] = []
    for place, one in enumerate(value, 1):
        where = f"span {place}: "
        start, end = _offsets(one, text.text, where)
        fitted = _on_words(Span(start, end, "span"), text, where)
        label = read_label(one.get("label"), where=where)
        if fitted != (start, end):
            told = f"{quoted(text.text[start:end], 40)} was widened to {quoted(text.text[slice(*fitted)], 40)}"
            messages.append(f"{where}{told}, as labels are those of whole words")
        key = (*fitted, label)
        if key in spans:
            messages.append(f"{where}it is there twice, and kept once")
        spans[key] = {"start": key[0], "end": key[1], "label": label, "text": text.text[key[0] : key[1]]}
    found = sorted(spans.values(), key=lambda one: (one["start"], -one["end"], str(one["label"])))
    if apart:
        _check_apart(found)
    if words_have_labels:
        _check_words(found, text)
    return found, messages


def _offsets(one: Any, text: str, where: str) -> tuple[int, int]:
    """Start and end without white space at the ends. Raises RowError."""
    if not isinstance(one, Mapping):
        raise RowError(f"{where}{quoted(one, 60)} is none.", hint=_EXPECTED)
    start, end = (_offset(one.get(name), name, where) for name in ("start", "end"))
    if not 0 <= start < end <= len(text):
        what = "is empty" if start == end else "ends before it starts" if end < start else "lies outside"
        raise RowError(
            f"{where}characters {start} to {end}: it {what}; the text has {len(text)} characters.", hint=_EXPECTED
        )
    if not text[start:end].strip():
        raise RowError(f"{where}characters {start} to {end} are white space alone, expected words.")
    said = one.get("text")
    if isinstance(said, str) and said.strip() != text[start:end].strip():
        raise RowError(
            f"{where}it says {quoted(said, 40)}, but characters {start} to {end} are {quoted(text[start:end], 40)}.",
            hint="Count characters as Unicode has them: one beyond the basic plane is one, not two.",
        )
    return trim(text, start, end)


def _offset(value: Any, name: str, where: str) -> int:
    try:
        offset = None if isinstance(value, bool) else read_offset(value)
    except (ValueError, TypeError, OverflowError):
        offset = None
    if offset is None:
        raise RowError(f"{where}its {name} is {quoted(value, 40)}, expected the number of a character.", hint=_EXPECTED)
    return offset


def _on_words(span: Span, text: FieldText, where: str) -> tuple[int, int]:
    """Its characters, widened to whole words, as training fits them. Raises RowError."""
    fitted, _ = fit_to_words(text.words, [span])
    if not fitted:
        raise RowError(f"{where}{quoted(text.text[span.start : span.end], 40)} holds no word.")
    return text.words[fitted[0].first][0], text.words[fitted[0].last - 1][1]


def _check_apart(spans: Sequence[Mapping[str, Any]]) -> None:
    """Raises RowError where two spans, sorted by their starts, overlap."""
    for before, one in pairwise(spans):
        if one["start"] < before["end"]:
            names = [f"{quoted(span['text'], 40)} ({span['label']})" for span in (before, one)]
            raise RowError(
                f"{names[0]} and {names[1]} overlap, and a word can have one label of this target.",
                hint="Leave one of them out.",
            )


def _check_words(spans: Sequence[Mapping[str, Any]], text: FieldText) -> None:
    """Raises RowError where a word has no label of its own."""
    labeled = {(span["start"], span["end"]) for span in spans}
    bare = next((word for word in text.words if tuple(word) not in labeled), None)
    if bare is not None or len(spans) != len(text.words):
        word = text.text[slice(*bare)] if bare is not None else ""
        raise RowError(f"the word {quoted(word, 40)} has no label of its own: of this target every word has one.")


def checked_answer(value: Any, passage: str) -> dict[str, Any]:
    """The answer where it stands, or ``NO_ANSWER``. value: {"text", "start", "end"}, of which either the text or the
    place may be left out; a text alone; or what is empty, for no answer.

    Raises:
        RowError: it does not stand there, or a text alone stands in several places.
    """
    if isinstance(value, str):
        value = {"text": value}
    if value is not None and not isinstance(value, Mapping):
        raise RowError(f"{quoted(value, 60)} is no answer.", hint='Expected {"text": "...", "start": 0}, or null.')
    value = value or {}
    text, start, end = value.get("text"), value.get("start"), value.get("end")
    if start is None and end is None:
        if is_missing(text):
            return dict(NO_ANSWER)
        start = _only_place(str(text).strip(), passage)
        end = start + len(str(text).strip())
    elif end is None and isinstance(text, str):
        end = _offset(start, "start", "the answer: ") + len(text)
    start, end = _offsets({"start": start, "end": end, "text": text}, passage, "the answer: ")
    return {"text": passage[start:end], "start": start, "end": end}


def _only_place(text: str, passage: str) -> int:
    """Where the text begins. Raises RowError where it stands nowhere, or more than once."""
    count = passage.count(text)
    if count == 1 and passage.find(text, passage.find(text) + 1) < 0:
        return passage.find(text)
    times = f"{count} times" if count > 1 else "more than once" if count else "nowhere"
    raise RowError(
        f"the answer {quoted(text, 60)} stands {times} in the passage.", hint="Mark it there, or say where it starts."
    )
