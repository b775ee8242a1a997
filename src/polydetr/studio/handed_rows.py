"""Rows that one page hands to another within the service: by a random name in the address, for a while."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from polydetr.serving.contract import Reply, Row
from polydetr.serving.rows import Item

MOST_ROWS = 5_000
"""Rows of one set; of a longer file, the first."""


@dataclass(frozen=True)
class Handed:
    """A row with the answer that it was given. version: of the model that gave it; person: who asked."""

    model: str
    version: str
    row: Row
    reply: Reply
    person: str = ""

    @property
    def size(self) -> int:
        return _size(self.row) + _size(self.reply)


@dataclass(frozen=True)
class RowSet:
    """model: whose rows they are; name: of their file; person: who brought them; messages: what was left out."""

    model: str
    items: Sequence[Item]
    name: str = ""
    person: str = ""
    messages: Sequence[str] = ()

    @property
    def size(self) -> int:
        return sum(map(_size, self.items))


class _Rows(Protocol):
    """Of a model; ``size``: bytes that they take, about."""

    @property
    def model(self) -> str: ...

    @property
    def size(self) -> int: ...


R = TypeVar("R", bound=_Rows)


@dataclass
class HandedRows(Generic[R]):
    """count, size: how many, and how many bytes of them, are held at once: those leave first that nobody looked at for
    the longest time, but never the newest. age_s: how long one is held after it was last looked at.
    """

    count: int = 500
    size: int = 512 << 20
    age_s: float = 24 * 3600.0
    now: Callable[[], float] = time.monotonic
    _held: OrderedDict[str, tuple[float, int, R]] = field(default_factory=OrderedDict, repr=False)

    def put(self, rows: R) -> str:
        """The name under which ``get`` finds them."""
        name = secrets.token_urlsafe(16)
        self._held[name] = (self.now(), rows.size, rows)
        self._drop()
        return name

    def get(self, name: str, model: str) -> R | None:
        """What was put under this name for this model; None where it is too old, or never was. It stays, so that a page
        can be loaded again.
        """
        self._drop()
        if name not in self._held or self._held[name][-1].model != model:
            return None
        _, size, rows = self._held.pop(name)
        self._held[name] = (self.now(), size, rows)
        return rows

    def __len__(self) -> int:
        return len(self._held)

    def _drop(self) -> None:
        held = sum(size for _, size, _ in self._held.values())
        while self._held:
            looked_at, size, _ = next(iter(self._held.values()))
            is_too_much = len(self._held) > self.count or (held > self.size and len(self._held) > 1)
            if not is_too_much and self.now() - looked_at <= self.age_s:
                return
            self._held.popitem(last=False)
            held -= size


def _size(value: Any) -> int:
    if isinstance(value, str | bytes):
        return 50 + len(value) * (1 if isinstance(value, bytes) else 2)
    if isinstance(value, Mapping):
        return 100 + sum(_size(key) + _size(one) for key, one in value.items())
    if isinstance(value, list | tuple):
        return 60 + sum(map(_size, value))
    return 32
