"""The classes of a target: how a label is recognized however it is written, and in which type it is answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from polydetr.errors import SchemaError, did_you_mean
from polydetr.values.cells import read_category, says_missing, words_are_missing

Label = str | int | float | bool
"""A label as rows have it, and as it is answered: true for true, 3 for 3, "3" for "3"."""


@dataclass(frozen=True)
class Classes:
    """The labels of one target, in the order of the network's outputs.

    target: the column, for messages. values: as the training rows have them, so that answers can be compared with what
    was given. words_missing: whether "NA" and the like are no labels, as they are among labels that are numbers.
    """

    target: str
    values: tuple[Label, ...] = ()
    words_missing: bool = False

    @classmethod
    def learn(cls, target: str, labels: Iterable[Any], configured: Sequence[Label] | None) -> tuple[Self, Counter[str]]:
        """The classes of the training rows (or the ``configured`` ones, in their order), and how many ``labels`` each
        has, by name.

        Raises:
            SchemaError: a label of the training rows is not among the configured ones.
        """
        spellings: dict[str, Counter[Label]] = {}
        for label in labels:
            spellings.setdefault(_key(label, target), Counter())[_plain(label, target)] += 1
        listed = {_key(label, target): label for label in configured or ()}
        words_missing = not listed and words_are_missing(spellings)
        keys = [key for key in spellings if not (words_missing and says_missing(key))]
        if listed and (unknown := sorted(set(keys) - set(listed))):
            raise _not_listed(target, unknown[0], list(listed.values()))
        values = [
            spellings[key].most_common(1)[0][0] if key in spellings else listed[key] for key in listed or sorted(keys)
        ]
        classes = cls(target, _of_one_type(values), words_missing)
        return classes, Counter({classes.names[classes.indices[key]]: spellings[key].total() for key in keys})

    @cached_property
    def names(self) -> list[str]:
        """The labels as text."""
        return [self.name(value) for value in self.values]

    def name(self, label: Any) -> str:
        """A label as text: as it is written, numbers and truth values by their one spelling."""
        return label.strip() if isinstance(label, str) else _key(label, self.target)

    @cached_property
    def indices(self) -> Mapping[str, int]:
        """The number of a class by its one spelling (``read_category``)."""
        return {_key(value, self.target): i for i, value in reversed(list(enumerate(self.values)))}

    def index(self, label: Any) -> int | None:
        """The number of a label's class; None for one that training never saw."""
        return self.indices.get(_key(label, self.target))

    def read(self, label: Any) -> Label | None:
        """A label of a row as it would be answered; None where it is missing."""
        if self.words_missing and says_missing(label):
            return None
        index = self.index(label)
        return _plain(label, self.target) if index is None else self.values[index]


def _key(label: Any, target: str) -> str:
    return read_category(label, column=target) or ""


def _plain(label: Any, target: str) -> Label:
    """A label in a type that JSON has."""
    value = label.item() if isinstance(label, np.generic) else label
    if isinstance(value, str):
        return value.strip()
    return value if isinstance(value, (bool, int, float)) else _key(value, target)


def _of_one_type(values: Sequence[Label]) -> tuple[Label, ...]:
    """Whole numbers that came as decimals, as they do in a column with a gap, are whole; labels that Python holds to be
    equal, 1 and True, are told apart by their names.
    """
    if all(value.is_integer() for value in values if isinstance(value, float)):
        values = [int(value) if isinstance(value, float) else value for value in values]
    return tuple(values) if len(set(values)) == len(values) else tuple(map(str, values))


def _not_listed(target: str, label: str, listed: Sequence[Label]) -> SchemaError:
    names = [str(value) for value in listed]
    hint = did_you_mean(label, names)
    if any(isinstance(value, bool) for value in listed):
        hint += " (YAML reads yes, no, on and off as true and false unless they are quoted.)"
    return SchemaError(f"label {label!r} of target {target!r} is not in the given label set.", hint=hint)
