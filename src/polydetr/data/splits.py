"""Holding rows out: the same seed gives the same rows, classes keep their shares, rows that belong together stay
together, and training meets every value of a category.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polydetr.core.records import Record
from polydetr.data.copies import Compared, copy_keys, repeated_columns
from polydetr.errors import SchemaError, nearest
from polydetr.schema.infer import REST
from polydetr.schema.spec import IGNORE, Schema, TargetSpec
from polydetr.values.cells import category_name, is_empty, is_missing, says_missing, words_are_missing

Groups = list[list[int]]
"""Rows, by their index, that stay on one side together."""
Labeled = Sequence[Sequence[bool]]
"""Per target, and there per row: whether the row has a value of it."""


def without_group(inputs: Mapping[str, str | None] | None, group: str | None) -> Mapping[str, str | None] | None:
    """The inputs to infer: without the column of the groups, unless it is named, as its values are never met again."""
    if group is None or (inputs and (group in inputs or REST not in inputs)):
        return inputs
    return {**(inputs or {}), group: IGNORE}


@dataclass(frozen=True)
class Holding:
    """By what rows are held out.

    compared: the columns that tell copies; None: all but ``stratify_by``. stratify_by: a column whose values keep their
    shares on both sides, as far as groups allow. group: a column of which no value stands on both sides. categories:
    columns of which training keeps some row of every value. targets: those of which both sides keep a label.
    """

    compared: Compared | None = None
    stratify_by: str | None = None
    group: str | None = None
    categories: tuple[str, ...] = ()
    targets: tuple[TargetSpec, ...] = ()

    @classmethod
    def of(cls, schema: Schema, records: Sequence[Record], *, group: str | None) -> Holding:
        """What suits the columns of a schema."""
        rows = [record.row for record in records]
        classes = [t.name for t in schema.targets if t.task == "classification"]
        read = [f.name for f in schema.inputs if f.modality in ("category", "text", "number") and f.name != group]
        categories = {*schema.names("category"), *repeated_columns(read, rows), *classes} - {group}
        return cls(
            Compared.of(schema, rows),
            stratify_by=classes[0] if classes else None,
            group=group,
            categories=tuple(sorted(categories)),
            targets=schema.targets,
        )


def split_records(
    records: Sequence[Record], fraction: float, *, seed: int = 0, stratify_by: str | None = None,
    holding: Holding | None = None,
) -> tuple[list[Record], list[Record]]:  # fmt: skip
    """(kept, held out), each in the original order; about ``fraction`` of the rows are held out.

    Rows of one document stay on one side where every record has a document (and there are two or more); otherwise
    copies do (``copies.copy_keys``), unless they repeat so much that this would leave too few rows to hold out. (Across
    documents the same short sentences recur in most of them.) holding: what else is kept; None: ``stratify_by`` alone.

    Raises:
        SchemaError: ``fraction`` not between 0 and 1, an unknown column, or fewer than two groups.
    """
    holding = holding or Holding(stratify_by=stratify_by)
    if not 0 < fraction < 1:
        raise SchemaError(f"the fraction to hold out is {fraction}, expected a number between 0 and 1.")
    for column, purpose in ((holding.stratify_by, "split"), (holding.group, "group")):
        if column is not None and not any(column in r.row for r in records):
            known = dict.fromkeys(name for r in records[:1] for name in r.row)
            raise SchemaError(f"there is no column {column!r} to {purpose} by.", hint=nearest(column, known))
    fixed = _fixed_keys(records, holding)
    copies = [[*own, *more] for own, more in zip(fixed, _copies(records, holding), strict=True)]
    together, apart = _groups(copies), _groups(fixed)
    if len(together if holding.compared is None else apart) < 2:
        raise SchemaError(
            f"{len(records)} rows form {len(together)} group(s) of the same text, document or group; to hold some out "
            "takes two."
        )
    by = _labels(records, holding.stratify_by)
    labeled = [_has_label(records, target) for target in holding.targets]
    held: set[int] = set()
    for groups, kept in _attempts(records, holding, labeled, together, apart):
        chosen = _hold_out(_strata(groups, by), fraction, random.Random(seed), kept)
        chosen |= _labeled(labeled, groups, chosen, kept, random.Random(seed))
        held = max(held, chosen, key=len)
        if held and len(held) >= 0.5 * fraction * len(records):
            break
    if not held:  # every group is too large: one of them is better than none
        held = set(random.Random(seed).choice(together if len(together) > 1 else apart))
    return [r for i, r in enumerate(records) if i not in held], [records[i] for i in sorted(held)]


def _attempts(
    records: Sequence[Record], holding: Holding, labeled: Labeled, together: Groups, apart: Groups
) -> Iterable[tuple[Groups, _Kept]]:
    """Groups to choose from, with copies ``together`` or ``apart``, and what training keeps: the next where the one
    before leaves too few rows to hold out. Copies part before a category loses a value.
    """
    values = _values(records, holding, labeled)
    yield together, _Kept(values)
    if holding.compared is not None:
        yield apart, _Kept(values)
        if len(apart) < len(records):
            yield together, _Kept([[] for _ in records])
            yield apart, _Kept([[] for _ in records])


def _fixed_keys(records: Sequence[Record], holding: Holding) -> list[list[Hashable]]:
    """What rows that are never parted share: the document, the value of the group's column."""
    keys: list[list[Hashable]] = [[] for _ in records]
    if _has_documents(records):
        keys = [[("document", r.document)] for r in records]
    if holding.group is not None:
        for own, record in zip(keys, records, strict=True):
            value = record.row.get(holding.group)
            own += [] if is_empty(value) else [("group", category_name(value))]
    return keys


def _copies(records: Sequence[Record], holding: Holding) -> Sequence[Sequence[Hashable]]:
    if _has_documents(records):
        return [[] for _ in records]
    names = dict.fromkeys(name for record in records for name in record.row)
    compared = holding.compared or Compared(tuple(name for name in names if name != holding.stratify_by))
    return copy_keys(records, compared)


def _has_documents(records: Sequence[Record]) -> bool:
    documents = {r.document for r in records}
    return None not in documents and len(documents) > 1


def _groups(keys: Sequence[Sequence[Hashable]]) -> Groups:
    """Rows that share a key, directly or through other rows, in order of their first row (union by path halving)."""
    parent = list(range(len(keys)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    first: dict[Hashable, int] = {}
    for i, own in enumerate(keys):
        for key in own:
            a, b = root(first.setdefault(key, i)), root(i)
            parent[max(a, b)] = min(a, b)
    groups: dict[int, list[int]] = defaultdict(list)
    for i in range(len(keys)):
        groups[root(i)].append(i)
    return list(groups.values())


# -- what training keeps ----------------------------------------------------------------------------------------------


class _Kept:
    """Values of which some row must stay for training. values: per row the (column, value) pairs that count."""

    def __init__(self, values: Sequence[Sequence[Hashable]]) -> None:
        self.values, self.left = values, Counter(value for own in values for value in own)

    def take(self, members: Sequence[int]) -> bool:
        """Takes the rows from training where every value remains there; whether it did."""
        taken = Counter(value for i in members for value in self.values[i])
        if any(self.left[value] <= count for value, count in taken.items()):
            return False
        self.left.subtract(taken)
        return True


def _values(records: Sequence[Record], holding: Holding, labeled: Labeled) -> list[list[Hashable]]:
    """The values that training keeps: every class; of another column in which most values occur once, those that do
    not.
    """
    kept: list[list[Hashable]] = [[] for _ in records]
    for column in holding.categories:
        values = [_each(record.row.get(column)) for record in records]
        counts = Counter(value for own in values for value in own)
        least = 1 if column == holding.stratify_by or 2 * len(counts) <= len(records) else 2
        for own, row in zip(kept, values, strict=True):
            own += [(column, value) for value in row if counts[value] >= least]
    for target, having in zip(holding.targets, labeled, strict=True):
        for own, has in zip(kept, having, strict=True):
            own += [("labeled", target.name)] if has else []
    return kept


def _each(value: Any) -> list[str]:
    """The category of a cell; several where it is a list of them."""
    if is_empty(value):
        return []
    return [category_name(one) for one in (value if isinstance(value, list | tuple) else [value])]


def _has_label(records: Sequence[Record], target: TargetSpec) -> list[bool]:
    """Whether each row has a value of the target; an empty list is one: nothing is there. Among numbers "NA" is
    none.
    """
    values = [record.row.get(target.name) for record in records]
    words = target.task == "regression" or words_are_missing({name for value in values for name in _each(value)})
    return [not (says_missing if words else is_missing)(value) for value in values]


# -- choosing ---------------------------------------------------------------------------------------------------------


def _labels(records: Sequence[Record], column: str | None) -> list[str]:
    values = [record.row.get(column) if column else None for record in records]
    return ["" if is_empty(value) else category_name(value) for value in values]


def _strata(groups: Groups, labels: Sequence[str]) -> dict[str, Groups]:
    """Label → the groups most of whose rows bear it."""
    strata: dict[str, Groups] = defaultdict(list)
    for members in groups:
        strata[Counter(labels[i] for i in members).most_common(1)[0][0]].append(members)
    return strata


def _hold_out(strata: dict[str, Groups], fraction: float, rng: random.Random, kept: _Kept) -> set[int]:
    """Takes groups of each stratum until its share is reached; what rounding leaves is owed to the next stratum. One
    group of each stratum stays for training.
    """
    held: set[int] = set()
    owed = 0.0
    for label in sorted(strata):
        groups = strata[label][:]
        rng.shuffle(groups)
        owed += fraction * sum(map(len, groups))
        for members in groups[:-1]:
            if owed < 0.5:
                break
            if owed >= len(members) / 2 and kept.take(members):
                held.update(members)
                owed -= len(members)
    return held


def _labeled(labeled: Labeled, groups: Groups, held: set[int], kept: _Kept, rng: random.Random) -> set[int]:
    """Rows to hold out besides, so that a target of which few rows have a label is measured where it can be."""
    more: set[int] = set()
    for has_label in labeled:
        if any(has_label[i] for i in held | more):
            continue
        having = [g for g in groups if any(has_label[i] for i in g)]
        rng.shuffle(having)
        having.sort(key=len)
        more.update(next((members for members in having if kept.take(members)), ()))
    return more
