"""What is predicted, and by which task: the column that bears a usual name, the task that its values call for."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from polydetr.errors import SchemaError, listed
from polydetr.schema.columns import MIN_ROWS, holds_codes, numbers_of, typical
from polydetr.schema.words import beside, span_ends, words_column
from polydetr.values.cells import MOST, is_missing, says_missing
from polydetr.values.tags import BARE_LABEL, mark_spans, types_of

USUAL_TARGETS = ("objects", "tags", "entities", "answers", "label", "labels", "category", "class", "target", "intent",
                 "sentiment", "polarity", "ner_tags", "y")  # fmt: skip
"""Names that a target usually bears, the likeliest first; tried when none is given."""

FEW_NUMBERS = 20
"""At most so many distinct whole numbers are classes; more are a quantity."""
CLASS_NAMES = ("label", "labels", "category", "class", "intent")
"""Names of targets whose whole numbers are classes however many there are, as long as each comes back."""


def usual_target(columns: list[str], messages: list[str], *, needed: bool) -> dict[str, str | None]:
    """The column to predict where none was named. Raises SchemaError where there is none and one is ``needed``."""
    lowered = {c.lower(): c for c in reversed(columns)}
    target = next((lowered[name] for name in USUAL_TARGETS if name in lowered), None)
    if target is None and not needed:
        messages.append("No column to predict was named, and none bears a usual name: name it with target= (--target).")
        return {}
    if target is None:
        raise SchemaError(
            f"no target was named, and none bears a usual name; the columns are {listed(columns)}.",
            hint="Name the column to predict: target='...' (--target ...).",
        )
    messages.append(f"No target was named: {target!r} is taken.")
    return {target: None}


def infer_task(name: str, rows: Sequence[Mapping[str, Any]], messages: list[str], *, is_category: bool = False) -> str:
    """The task that predicts column ``name``; doubts go to ``messages``. is_category: its type says that it holds
    classes. Raises SchemaError where none fits.
    """
    values = [row[name] for row in rows if not is_missing(row.get(name))]
    if not values:
        raise SchemaError(f"target {name!r} is missing in every row.", hint="Name the column that holds the labels.")
    lists = [list(v) for v in values if isinstance(v, (list, tuple, np.ndarray))]
    if len(lists) > len(values) / 2:
        return _task_of_lists(name, lists, rows, messages)
    if isinstance(first := typical(values), Mapping):
        if "text" in first and first.keys() & {"start", "answer_start"}:
            return "qa"
        if "bbox" in first:  # Hugging Face's data sets have corners (Pascal VOC) here, or a corner and sizes (COCO)
            raise SchemaError(
                f"target {name!r} holds boxes as {first!r:.80}, which does not say whether the last two numbers of a "
                "box are its right and bottom or its width and height.",
                hint='Write a list per row, of {"box": [left, top, right, bottom] in pixels, "label": name}.',
            )
        messages.append(f"Target {name!r} holds objects: rows are embedded near theirs.")
        return "embedding"
    if is_category:
        return "classification"
    _check_is_no_tag(name, values)
    distinct = len({str(v) for v in values if not says_missing(v)})
    if (numbers := numbers_of(name, values)) is not None and not holds_codes(values):
        return _task_of_numbers(name, values, numbers, distinct, messages)
    if len(values) >= 2 * MIN_ROWS and distinct > 0.5 * len(values):
        raise SchemaError(
            f"target {name!r} has {distinct} distinct values in {len(values)} rows, which is text rather than classes.",
            hint=f"If they are classes, say {name}:classification; to find them by search, {name}:embedding.",
        )
    return "classification"


def _check_is_no_tag(name: str, values: Sequence[Any]) -> None:
    """Raises SchemaError where every value is one tag of an entity: a row is then a word without its sentence."""
    distinct = sorted({value.strip() for value in values if isinstance(value, str)})
    begins = [tag for tag in distinct if types_of([tag]) - {BARE_LABEL}]
    if begins and "O" in map(str.upper, distinct) and mark_spans(distinct):
        raise SchemaError(
            f"target {name!r} has one tag per row ({begins[0]!r}, 'O'): each row is a word, which would be classified "
            "without its sentence.",
            hint="Write a word and its tag per line, with a blank line after each sentence, into a .conll file; or a "
            f"list of words and one of tags per row. To classify single rows all the same say {name}:classification.",
        )


def _task_of_numbers(
    name: str, values: Sequence[Any], numbers: Sequence[float], distinct: int, messages: list[str]
) -> str:
    """ "classification" for whole numbers that are few, or that come back in a column with the name of classes."""
    if isinstance(typical(values), (dt.timedelta, dt.time)):
        messages.append(f"Target {name!r} holds durations: they are learned and answered in seconds.")
        return "regression"
    if sum(number.is_integer() for number in numbers) < MOST * len(numbers):
        return "regression"
    come_back = distinct <= 0.2 * len(values)
    if distinct <= FEW_NUMBERS or (come_back and name.lower() in CLASS_NAMES):
        how = f"say {name}:regression otherwise"
        messages.append(f"Target {name!r}: {distinct} distinct whole numbers are read as classes ({how}).")
        return "classification"
    if distinct <= 0.5 * len(values):
        how = f"say {name}:classification otherwise"
        messages.append(f"Target {name!r}: {distinct} distinct whole numbers are read as a quantity ({how}).")
    return "regression"


def _task_of_lists(name: str, lists: list[Any], rows: Sequence[Mapping[str, Any]], messages: list[str]) -> str:
    """The task by the first item: objects, spans, answers, one tag per token, or several labels per row."""
    items = [v for v in lists if v]
    first = items[0][0] if items else None
    if first is None:
        by_name = {"answers": "qa", "entities": "tagging", "tags": "tagging", "objects": "detection"}
        if name in by_name:
            return by_name[name]
        raise SchemaError(f"target {name!r} holds nothing but empty lists.")
    if isinstance(first, Mapping):
        if {"box", "label"} <= first.keys():
            return "detection"
        if {"start", "end"} <= first.keys():
            return _task_of_spans(name, items, messages)
        if "text" in first and "label" not in first:
            return "qa"
        raise SchemaError(
            f"target {name!r} holds lists of {first!r:.80}.",
            hint="Expected {box, label} (objects), {start, end, label} (spans) or {text, start} (answers).",
        )
    if isinstance(first, (list, tuple)) and len(first) == 3:
        return _task_of_spans(name, items, messages)
    if (words := words_column(name, rows)) is not None:
        if words != "tokens" or not isinstance(first, str):
            messages.append(f"Target {name!r} has one label for each word of {words!r}: it is read as tagging.")
        return "tagging"
    tags = [tag for labels in items for tag in labels if isinstance(tag, str)]
    repeats = any(len(set(map(str, labels))) < len(labels) for labels in items)
    if mark_spans(tags) and (repeats or types_of(tags) - {BARE_LABEL}):
        return "tagging"
    if repeats and (column := beside(name, lists, rows)) is not None:
        messages.append(f"Target {name!r} has one label for each word of {column!r}: it is read as tagging.")
        return "tagging"
    return "classification"  # several labels per row


def _task_of_spans(name: str, items: list[Any], messages: list[str]) -> str:
    """ "tagging"; "entities" where spans overlap, which cannot all become one tag per word."""
    overlapping = 0
    for spans in items:
        overlapping += any(later[0] < earlier[1] for earlier, later in pairwise(sorted(span_ends(spans))))
    if not overlapping:
        return "tagging"
    messages.append(
        f"Target {name!r}: spans overlap in {overlapping} of {len(items)} rows, so they are found as a set "
        f"({name}:tagging would keep the outer ones alone)."
    )
    return "entities"
