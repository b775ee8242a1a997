"""A time limit as it is spent: what is left, reading that ends in time, and what an interrupted run had decided."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from polydetr.model.precision import Precision
from polydetr.training.plan import Paces

_T = TypeVar("_T")


@dataclass
class Budget:
    """Seconds of a whole command.

    limit: all of them; began: by ``time.monotonic``. given: settings of the user's, "section.key". kept: what the
    interrupted run that is resumed had decided, by name, which is not measured anew; decided: the same of this run.
    pace: seconds per validation row that is answered, planned and then measured; paces: what was measured before,
    in which precision.
    """

    limit: float
    began: float
    given: frozenset[str] = frozenset()
    kept: Mapping[str, Any] = field(default_factory=dict)
    decided: dict[str, Any] = field(default_factory=dict)
    pace: float = 0.0
    paces: Paces | None = None
    precision: Precision | None = None
    opened: tuple[float, float] = field(default_factory=lambda: (time.monotonic(), time.process_time()))

    def spent(self) -> float:
        return time.monotonic() - self.began

    def left(self) -> float:
        return self.limit - self.spent()

    def slowness(self) -> float:
        """Seconds that pass for one of a single thread's: 1 on an idle machine, 2 where another program has half of it.
        By what one thread did so far (reading); threads that compute side by side hide it, which is no harm.
        """
        passed, computed = time.monotonic() - self.opened[0], time.process_time() - self.opened[1]
        return min(10.0, max(1.0, passed / computed)) if computed > 0.2 else 1.0

    def choose(self, name: str, measured: Any) -> Any:
        """``measured``, or what the resumed run had decided under this name; kept for the checkpoint."""
        self.decided[name] = self.kept.get(name, measured)
        return self.decided[name]

    def within(self, items: Iterable[_T], name: str, *, seconds: float, least: int) -> Iterator[_T]:
        """The items until ``seconds`` have passed, but ``least`` of them; where a run is resumed, as many as it had.
        How many they are is decided under ``name``: None for all.
        """
        end, resumed = time.monotonic() + seconds, name in self.kept
        most = self.kept.get(name)
        self.decided[name] = most
        for count, item in enumerate(items):
            if (count == most) if resumed else (count >= least and time.monotonic() > end):
                self.decided[name] = count
                return
            yield item
