"""A time limit over a whole study: what one trial gets, whether another one fits, and what the end needs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from polydetr.core.studies import TrialRecord
from polydetr.training.ending import REPORT_SECONDS

_DEFAULT_SHARE = 0.4
"""Of what is left, for the first trial at most: one other fits then, whatever the limit."""
_TAIL_SHARE = 0.03
_LEAST_TAIL = 1.5


@dataclass
class Times:
    """limit: seconds of the whole command, which began at ``began`` by ``time.monotonic``; None where there is none.
    refits: whether the kept settings are trained once more; measuring: seconds that the end takes to answer rows.
    """

    limit: float | None
    began: float
    refits: bool = False
    measuring: float = 0.0

    def left(self) -> float:
        """Of the limit; infinite without one."""
        return float("inf") if self.limit is None else self.limit - (time.monotonic() - self.began)

    def ends(self) -> float:
        """When the measuring ends, by ``time.monotonic``: then the model is drawn and saved."""
        return float("inf") if self.limit is None else self.began + self.limit - 2 * REPORT_SECONDS

    def for_trials(self, longest: float) -> float:
        """What is left without the end: the comparison, the pictures, saving, and, where asked, one more training as
        long as the ``longest`` one of a kept model.
        """
        if self.limit is None:
            return float("inf")
        tail = max(_LEAST_TAIL, _TAIL_SHARE * self.limit) + 2 * REPORT_SECONDS + self.measuring
        return self.left() - tail - (1.2 * longest if self.refits else 0.0)

    def of_default(self, *, alone: bool) -> float | None:
        """Seconds for the first trial; None for as many as it takes. alone: no other one follows."""
        if self.limit is None:
            return None
        left = self.for_trials(0.0)
        return left if alone and not self.refits else left * _DEFAULT_SHARE

    def of_next(self, records: Sequence[TrialRecord]) -> tuple[bool, float | None]:
        """Whether another trial fits, by how long those before it took, and the seconds that it gets at most."""
        if self.limit is None:
            return True, None
        took = [r.seconds for r in records if r.state == "complete" and r.seconds]
        if not took:  # failures are short
            return self.for_trials(0.0) > 0.0, self.for_trials(0.0) * _DEFAULT_SHARE
        expected = max(took[0], sum(took) / len(took))
        left = self.for_trials(max(took))
        return left >= expected, left
