"""Rows that one page hands to another within the service: by a random name in the address, for a while."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from polydetr.serving.contract import Reply, Row


@dataclass(frozen=True)
class Handed:
    """A row with the answer that it was given. version: of the model that gave it; person: who asked."""

    model: str
    version: str
    row: Row
    reply: Reply
    person: str = ""


@dataclass
class Handover:
    """count, size: how many rows, and bytes of them, are held at once: the oldest leave first. age_s: how long one is
    held.
    """

    count: int = 500
    size: int = 256 << 20
    age_s: float = 3600.0
    now: Callable[[], float] = time.monotonic
    _held: OrderedDict[str, tuple[float, int, Handed]] = field(default_factory=OrderedDict, repr=False)
    _bytes: int = field(default=0, repr=False)

    def put(self, handed: Handed) -> str:
        """The name under which ``take`` finds it."""
        name, size = secrets.token_urlsafe(16), _size(handed.row) + _size(handed.reply)
        self._held[name] = (self.now(), size, handed)
        self._bytes += size
        self._drop()
        return name

    def get(self, name: str, model: str) -> Handed | None:
        """What was put under this name for this model; None where it is too old, or never was. It stays, so that a page
        can be loaded again.
        """
        self._drop()
        found = self._held.get(name)
        return found[2] if found is not None and found[2].model == model else None

    def __len__(self) -> int:
        return len(self._held)

    def _drop(self) -> None:
        while self._held:
            began, size, _ = next(iter(self._held.values()))
            if len(self._held) <= self.count and self._bytes <= self.size and self.now() - began <= self.age_s:
                return
            self._held.popitem(last=False)
            self._bytes -= size


def _size(value: Any) -> int:
    """Bytes that a value holds, about."""
    if isinstance(value, str | bytes):
        return 50 + len(value) * (1 if isinstance(value, bytes) else 2)
    if isinstance(value, Mapping):
        return 100 + sum(_size(key) + _size(one) for key, one in value.items())
    if isinstance(value, list | tuple):
        return 60 + sum(map(_size, value))
    return 32
