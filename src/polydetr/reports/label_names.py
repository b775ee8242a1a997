"""Labels as diagrams show them: short, told apart, and in characters that can be drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from polydetr.errors import escaped
from polydetr.reports.fonts import undrawable
from polydetr.reports.style import shorten


def label_names(labels: Iterable[str], *, limit: int = 24) -> dict[str, str]:
    """Label → its name in a diagram, at most ``limit`` columns wide, no two alike.

    A long one is cut in its middle; of those that would then look alike, what they differ in is kept. One with a
    character that no font has is called by its number among all labels, sorted: "label 3" (see ``key_of``).
    """
    ordered = sorted(set(labels))
    names = {
        label: f"label {i}" if undrawable(escaped(label)) else shorten(label, limit, keep_end=True)
        for i, label in enumerate(ordered, start=1)
    }
    alike: dict[str, list[str]] = defaultdict(list)
    for label, name in names.items():
        alike[name].append(label)
    for name, group in alike.items():
        if len(group) > 1:
            names |= _told_apart(name, group, limit, taken=set(names.values()))
    return names


def _told_apart(name: str, group: Sequence[str], limit: int, *, taken: set[str]) -> Mapping[str, str]:
    """Names that begin where the labels begin to differ; numbered where even these are alike."""
    letters = enumerate(zip(*group, strict=False))
    first = next((i for i, at in letters if len(set(at)) > 1), min(map(len, group)))
    start = max(0, first - limit // 4)
    found = {label: "…" * (start > 0) + shorten(label[start:], limit - 1, keep_end=True) for label in group}
    if len({*found.values()}) == len(group) and not {*found.values()} & taken:
        return found
    number, room = 0, limit - 2 - len(str(len(group) + len(taken)))
    for label in group:
        number += 1
        while (numbered := f"{shorten(name, room)} #{number}") in taken:
            number += 1
        found[label] = numbered
        taken.add(numbered)
    return found


def key_of(labels: Iterable[str]) -> list[str]:
    """A line for each label that diagrams call by a number, with what it stands for."""
    return [f"{name}: {escaped(label)}" for label, name in label_names(labels).items() if undrawable(escaped(label))]
