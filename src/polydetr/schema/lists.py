"""Which columns hold lists, however they write them; decided by the column, so that every row is read alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, get_args

import numpy as np

from polydetr.core.records import Row
from polydetr.errors import SchemaError
from polydetr.schema.columns import numbers_of
from polydetr.schema.doubts import joined_labels
from polydetr.schema.words import beside
from polydetr.values.cells import is_missing
from polydetr.values.lists import MARKS, ListColumn, ListForm, read_list, read_vector, split_items
from polydetr.values.tags import mark_spans

_MOST = 0.9
_OF_LISTS = (None, "classification", "tagging", "entities", "qa", "detection")
"""Tasks whose targets may hold lists; None: the task is yet to be inferred."""
_READ_AS_LISTS = (None, "text", "history")


def find_lists(
    rows: Sequence[Row],
    *,
    targets: Mapping[str, str | None],
    inputs: Mapping[str, str | None],
    options: Mapping[str, Mapping[str, Any]],
    messages: list[str],
) -> dict[str, ListColumn]:
    """Column → how it writes lists, for the columns that hold them; how they are read is added to ``messages``.

    inputs: column → modality, where the user named it; options: those of the targets (``tasks.<target>``).

    Raises:
        SchemaError: the labels that were named are not as many as the places of a target's vectors.
    """
    found: dict[str, ListColumn] = {}
    for name in dict.fromkeys(chain.from_iterable(rows)):
        values = [row[name] for row in rows if not is_missing(row.get(name))]
        if name in targets:
            column = _of_target(name, values, rows, targets[name], options.get(name, {}), messages)
        else:
            column = _of_input(values) if inputs.get(name) in _READ_AS_LISTS else None
        if column is not None:
            found[name] = column
            if column.form == "brackets" and isinstance(values[0], str):
                messages.append(f"Column {name!r} writes lists as text and is read as lists: {values[0]!r:.60}.")
    return found


def _of_input(values: Sequence[Any]) -> ListColumn | None:
    """Lists of texts, numbers of items or mappings between brackets. Others (vectors of measures) stay text."""
    lists = _in_brackets(values)
    items = chain.from_iterable(lists or ())
    return ListColumn() if lists and all(isinstance(item, (str, int, Mapping)) for item in items) else None


def _of_target(
    name: str,
    values: Sequence[Any],
    rows: Sequence[Row],
    task: str | None,
    options: Mapping[str, Any],
    messages: list[str],
) -> ListColumn | None:
    several = options.get("multi_label")
    if not values or task not in _OF_LISTS or several is False:
        return None
    lists, form = _in_brackets(values), "brackets"
    if lists is None:
        form = _parted_by(name, values, rows, task) or (_likeliest_mark(values) if several else None)
        if form is None:
            messages += joined_labels(name, values) if task in (None, "classification") else []
            return None
        lists = [split_items(str(value), form) for value in values]
    if task not in (None, "classification"):
        return ListColumn(form)
    places = _places(name, lists, rows, options, messages)
    if form == "brackets" or places:
        return ListColumn(form, places)
    if form == "blanks" or mark_spans(chain.from_iterable(lists)):
        messages.append(f"Target {name!r} is read as one tag per word: {values[0]!r:.60}.")
    else:
        joined = next((value for value in values if len(split_items(str(value), form)) > 1), values[0])
        how = f"train --target {name}:classification --set tasks.{name}.multi_label=false"
        messages.append(
            f"Target {name!r}: {joined!r:.60} is read as several labels, parted by {form!r} (otherwise: {how})."
        )
    return ListColumn(form)


def _in_brackets(values: Sequence[Any]) -> list[Sequence[Any]] | None:
    """The lists of a column in which (nearly) every value is one, or writes one between brackets; else None. A mapping
    alone is no list.
    """
    read = [read_list(value) if isinstance(value, str) else value for value in values]
    lists: list[Any] = [value for value in read if isinstance(value, (list, tuple, np.ndarray))]
    return lists if any(map(len, lists)) and len(lists) >= _MOST * len(values) else None


def _parted_by(name: str, values: Sequence[Any], rows: Sequence[Row], task: str | None) -> ListForm | None:
    """The mark between the items of a column whose texts join several: tags, zeros and ones, or labels that occur in
    other values too.
    """
    if not all(isinstance(value, str) for value in values):
        return None
    for form in get_args(ListForm)[1:]:
        parts = [split_items(value, form) for value in values]
        if sum(len(items) > 1 for items in parts) < _MOST * len(parts):
            continue
        same_length = len({len(items) for items in parts}) == 1
        of_words = mark_spans(chain.from_iterable(parts)) or (form == "blanks" and beside(name, parts, rows))
        if of_words and task != "classification":
            return form
        if same_length and all(map(read_vector, parts)) and numbers_of(name, values) is None:
            return form
    if task not in (None, "classification") or numbers_of(name, values) is not None:
        return None
    return next((form for form in MARKS if _recurs({value.strip() for value in values}, form)), None)


def _likeliest_mark(values: Sequence[Any]) -> ListForm:
    """The mark that parts the most values into several labels, where the user says that there are several."""
    return max(MARKS, key=lambda mark: sum(len(split_items(str(value), mark)) > 1 for value in values))


def _recurs(values: Iterable[str], form: ListForm) -> bool:
    """Whether the parts of (nearly) all distinct values that the mark parts occur in other values too."""
    parts = [split_items(value, form) for value in values]
    counts = Counter(chain.from_iterable(map(set, parts)))
    joined = [items for items in parts if len(items) > 1]
    recurring = sum(all(counts[item] > 1 for item in items) for items in joined)
    return bool(joined) and recurring >= _MOST * len(joined)


def _places(
    name: str, lists: Sequence[Sequence[Any]], rows: Sequence[Row], options: Mapping[str, Any], messages: list[str]
) -> tuple[str, ...]:
    """The names of the labels where every list is a vector of zeros and ones; () where they are not."""
    size, count = Counter(map(len, lists)).most_common(1)[0]
    if size < 2 or len(lists) < 2 or count < _MOST * len(lists) or any(read_vector(one) is None for one in lists):
        return ()
    if beside(name, lists, rows):
        return ()
    labels = options.get("labels") or [str(place) for place in range(size)]
    if len(labels) != size:
        raise SchemaError(
            f"target {name!r} holds vectors of {size} zeros and ones, and {len(labels)} labels are named.",
            hint=f"Name one for each place: tasks.{name}.labels.",
        )
    how = "" if options.get("labels") else f"; name them in order: train --set tasks.{name}.labels='[...]'"
    messages.append(
        f"Target {name!r} holds vectors of zeros and ones: each of the {size} places is a label, "
        f"{labels[0]!r} to {labels[-1]!r}{how}."
    )
    return tuple(map(str, labels))
