"""Rows that a page works through, kept within the service for a while, by a random name in the address."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from polydetr.serving.rows import Item

MOST_ROWS = 5_000
"""Rows of one set; of a longer file, the first."""


@dataclass(frozen=True)
class RowSet:
    """model: whose rows they are; name: of their file; person: who brought them; messages: what was left out."""

    model: str
    items: Sequence[Item]
    name: str = ""
    person: str = ""
    messages: Sequence[str] = ()


@dataclass
class RowSets:
    """count, size: how many sets, and about how many bytes of them, are held: the oldest leave first. age_s: how long
    one is held after it was last looked at.
    """

    count: int = 100
    size: int = 512 << 20
    age_s: float = 24 * 3600.0
    now: Callable[[], float] = time.monotonic
    _held: OrderedDict[str, tuple[float, int, RowSet]] = field(default_factory=OrderedDict, repr=False)

    def put(self, rows: RowSet) -> str:
        """The name under which ``get`` finds them."""
        name = secrets.token_urlsafe(16)
        self._held[name] = (self.now(), sum(map(_size, rows.items)), rows)
        self._drop()
        return name

    def get(self, name: str, model: str) -> RowSet | None:
        """What was put under this name for this model; None where it is too old, or never was."""
        self._drop()
        found = self._held.get(name)
        if found is None or found[2].model != model:
            return None
        self._held[name] = (self.now(), *found[1:])
        self._held.move_to_end(name)
        return found[2]

    def _drop(self) -> None:
        held = sum(size for _, size, _ in self._held.values())
        while self._held:
            began, size, _ = next(iter(self._held.values()))
            many = len(self._held) > self.count or (held > self.size and len(self._held) > 1)
            if not many and self.now() - began <= self.age_s:
                return
            self._held.popitem(last=False)
            held -= size


def _size(value: Any) -> int:
    """Bytes that a value takes, about."""
    if isinstance(value, str | bytes):
        return 50 + len(value) * (1 if isinstance(value, bytes) else 2)
    if isinstance(value, Mapping):
        return 100 + sum(_size(key) + _size(one) for key, one in value.items())
    if isinstance(value, list | tuple):
        return 60 + sum(map(_size, value))
    return 32
