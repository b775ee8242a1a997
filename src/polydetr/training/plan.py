"""What a run does with a time limit: arithmetic on measured paces, before the first step.

Let N rows be trained on and V be measured, e, a, f, s the seconds for one row to be encoded, answered, put through the
backbones, and trained on. Of the seconds left, measuring gets V (e + k a), at most a share of them, or V shrinks; then

    everything trained    N e + n s   = the rest, n the rows seen in training
    upper layers          N e + n s'  with s' = s less half of the backbones' backward pass
    frozen backbones      N (e + f)   at most 60 % of the rest, n h the others: h seconds for a row above the backbones

The first of these that sees enough rows is chosen, at the first size of images with which one does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Mode = Literal["all", "upper", "frozen"]

MEASURING_SHARE = 0.25
"""Of the seconds left before the training, what measuring validation and test rows may take."""
FEATURES_SHARE = 0.6
"""Of the seconds for training, what computing features of frozen backbones may take."""
ENOUGH_ROWS = 6000
"""To train backbones pays from so many rows seen, or from ``Open.enough_passes`` over them."""
ENOUGH_STEPS = 60
"""Backbones that are trained for fewer steps than this have barely begun."""
HEAD_STEPS = 600
"""What stands on frozen backbones is trained for about so many steps."""
START_ROWS, START_SHARE = 10_000, 0.5
"""Rows that a table's additive start is given, where encoding them takes at most such a share of the seconds for
training.
"""
LEAST_TRAINED, LEAST_SHARE = 16, 0.25
"""Training rows below which no plan goes, and the share of what is left that more of them may take."""
MIN_MEASURED, HARD_SHARE, LEAST_MEASURED = 40, 0.5, 8
"""Rows of a split are not reduced below so many, for which measuring gets up to half of what is left; never below the
least.
"""


@dataclass(frozen=True)
class Sizes:
    """Rows of the three splits."""

    train: int
    valid: int
    test: int = 0


@dataclass(frozen=True)
class Paces:
    """Seconds per row of this model on this machine now.

    encode: read and made into tokens. answer: predicted and measured. features: through the backbones, forward.
    step: a training step's share. head_step: the same above frozen backbones. batch: rows of a step.
    """

    encode: float
    answer: float
    features: float
    step: float
    head_step: float
    batch: float

    def at(self, scale: float) -> Paces:
        """With images of another size: ``scale`` times as many pixels."""
        head = self.head_step * min(1.0, scale)
        answer, features = self.answer * scale, self.features * scale
        return replace(self, answer=answer, features=features, step=self.step * scale, head_step=head)


@dataclass(frozen=True)
class Open:
    """What the user left open, and what a run costs besides its rows.

    modes: how backbones may be trained, the best first. image_sizes: pixels per side, the wanted one first; empty where
    no image is read. epochs: passes at most; lengthens: whether that may be more, for what stands on frozen backbones.
    enough_passes: over the rows, and enough_steps, from which backbones are trained. passes: how often validation rows
    are answered after the training. rebuild: seconds to build the model again. least: training rows at least. starts:
    whether the run begins with a model of the table that is fitted at once, which many rows improve though training
    never sees them. fixed: seconds for reports and saving.
    """

    modes: Sequence[Mode]
    image_sizes: Sequence[int] = ()
    epochs: float = 5.0
    lengthens: bool = False
    enough_passes: float = 2.0
    enough_steps: int = ENOUGH_STEPS
    passes: float = 4.0
    rebuild: float = 0.0
    least: int = 0
    starts: bool = False
    fixed: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What is done. reading, training, measuring: seconds. answer: those of a validation row. seen: rows that training
    sees, a row counted as often as it comes; epochs: passes at most. encode: seconds to read and encode a row. enough:
    seconds from now on that would be, where the limit is too short to be of use.
    """

    mode: Mode
    rows: Sizes
    image_size: int | None
    reading: float
    training: float
    measuring: float
    answer: float
    seen: float
    epochs: float
    encode: float = 0.0
    enough: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(kept: Mapping[str, Any]) -> Plan:
        return Plan(**{**kept, "rows": Sizes(**kept["rows"])})

    def lines(self, whole: Sizes, *, spent: float) -> list[str]:
        """The plan as messages. whole: the rows that there are; spent: seconds of reading so far."""
        reading, training, measuring = (seconds_text(s) for s in (spent + self.reading, self.training, self.measuring))
        notes = [f"plan: {reading} reading, {training} training, {measuring} measuring"]
        if self.mode == "frozen":
            notes.append("the backbones stay as they are, their features are computed once")
        if self.mode == "upper":
            notes.append("the upper half of the backbones' layers is trained")
        if self.image_size is not None:
            notes.append(f"images of {self.image_size} pixels per side")
        for now, all_of, what in (
            (self.rows.train, whole.train, "a sample of {} of {} training rows"),
            (self.rows.valid, whole.valid, "{} of {} validation rows are measured"),
            (self.rows.test, whole.test, "{} of {} test rows are measured"),
        ):
            if now < all_of:
                notes.append(what.format(f"{now:,}", f"{all_of:,}"))
        lines = ["; ".join(notes)]
        if self.enough is not None:
            lines.append(
                f"the time limit is too short for these rows: about {seconds_text(spent + self.enough)} would be "
                f"enough (--time-limit {_as_duration(spent + self.enough)})"
            )
        return lines


def seconds_text(seconds: float) -> str:
    """8 s, 3 min, 1.5 h."""
    if seconds < 100:
        return f"{max(0, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _as_duration(seconds: float) -> str:
    return f"{math.ceil(seconds)}s" if seconds < 100 else f"{math.ceil(seconds / 60)}m"


def make_plan(left: float, rows: Sizes, paces: Paces, what: Open) -> Plan:
    """The best plan for ``left`` seconds; where none suffices, the one that sees most rows."""
    wanted = what.image_sizes[0] if what.image_sizes else None
    plans: list[Plan] = []
    for mode in what.modes:
        for size in what.image_sizes or (None,):
            scale = (size / wanted) ** 2 if size and wanted else 1.0
            plan = _plan(left, rows, paces.at(scale), what, mode, size if size != wanted else None)
            if _is_enough(plan, paces, rows, what):
                return plan
            plans.append(plan)
    best = max(reversed(plans), key=lambda plan: plan.seen)  # of equal ones the cheapest
    return replace(best, enough=_enough(left, rows, paces, what, best))


def _plan(left: float, rows: Sizes, paces: Paces, what: Open, mode: Mode, size: int | None) -> Plan:
    answer = max(paces.answer - paces.features, 0.1 * paces.answer) if mode == "frozen" else paces.answer
    once = paces.encode + (paces.features if mode == "frozen" else 0.0)
    rebuilt = what.rebuild if size is not None else 0.0
    left = max(0.0, left - what.fixed - rebuilt)
    per_valid, per_test = once + (what.passes + 1.5) * answer, once + answer
    valid, test = _measured(MEASURING_SHARE * left, rows, per_valid, per_test)
    measuring = valid * (what.passes + 1.5) * answer + test * answer
    rest = max(0.0, left - measuring - (valid + test) * once)
    step = _step(paces, mode)
    if mode == "frozen":
        train = min(rows.train, int(FEATURES_SHARE * rest / max(once, 1e-9)))
    else:
        train = min(rows.train, int(rest / max(once + step, 1e-9)))
        if what.starts:
            train = max(train, min(rows.train, START_ROWS, int(START_SHARE * rest / max(once, 1e-9))))
    least = max(what.least, MIN_MEASURED)
    if least * once > LEAST_SHARE * left:
        least = max(LEAST_TRAINED, int(LEAST_SHARE * left / once))
    train = max(min(rows.train, least), train)
    training = max(0.0, rest - train * once)
    seen = training / max(step, 1e-9)
    lengthens = mode == "frozen" and what.lengthens
    epochs = max(what.epochs, HEAD_STEPS * paces.batch / max(1, train)) if lengthens else what.epochs
    if seen > epochs * train:
        seen = epochs * train
        training = seen * step
    reading = rebuilt + (train + valid + test) * once
    sizes = Sizes(train, valid, test)
    return Plan(mode, sizes, size, reading, training, measuring + what.fixed, answer, seen, epochs, encode=paces.encode)


def _measured(seconds: float, rows: Sizes, per_valid: float, per_test: float) -> tuple[int, int]:
    """(validation, test) rows that are read and measured in so many seconds, two thirds of them for the former."""
    both = rows.valid * per_valid + rows.test * per_test
    if both <= seconds:
        return rows.valid, rows.test
    test = _at_least(rows.test, seconds / 3, per_test)
    return _at_least(rows.valid, seconds - test * per_test, per_valid), test


def _at_least(rows: int, seconds: float, each: float) -> int:
    """Rows measured in so many seconds, or a few in somewhat more."""
    fit, with_more = int(seconds / max(each, 1e-9)), int(seconds * HARD_SHARE / MEASURING_SHARE / max(each, 1e-9))
    return min(rows, max(fit, min(MIN_MEASURED, with_more), LEAST_MEASURED))


def _step(paces: Paces, mode: Mode) -> float:
    if mode == "frozen":
        return paces.head_step
    return paces.step if mode == "all" else paces.features + 0.6 * max(0.0, paces.step - paces.features)


def _is_enough(plan: Plan, paces: Paces, rows: Sizes, what: Open) -> bool:
    if plan.mode == "frozen":
        return plan.rows.train >= min(rows.train, ENOUGH_ROWS / 10) and plan.seen >= plan.rows.train
    passes = min(what.enough_passes, what.epochs)
    least = min(what.enough_steps * paces.batch, what.epochs * rows.train)
    return plan.seen >= 0.999 * max(least, min(passes * rows.train, ENOUGH_ROWS))


def _enough(left: float, rows: Sizes, paces: Paces, what: Open, plan: Plan) -> float:
    """Seconds from now on with which the same way would suffice."""
    more = max(left, 1.0)
    while more < 1e7:
        more *= 1.1
        if _is_enough(_plan(more, rows, paces, what, plan.mode, plan.image_size), paces, rows, what):
            break
    return more
