"""What a study varies: a dimension per key of the configuration, some only where another key has a certain value."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any

from polydetr.config.loading import split_key
from polydetr.config.sections import Config

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

Number = int | float
_DIGITS = 3
"""Of a number from a range: nobody wants to read, or to write down, a learning rate of 17 digits."""
MOST_CHOICES = 1000


@dataclass(frozen=True)
class Dimension:
    """One key that is varied: ``choices``, or the numbers from ``low`` to ``high``, both included.

    log: drawn evenly by the logarithm. step: between the numbers that are drawn; None: any. whole: whole numbers alone.
    when: other key → its values for which this one matters; for all others it stays as it is.
    """

    key: str
    choices: tuple[Any, ...] = ()
    low: Number = 0
    high: Number = 0
    log: bool = False
    step: Number | None = None
    whole: bool = False
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def holds(self, values: Mapping[str, Any], config: Config) -> bool:
        """Whether it matters with these varied ``values``, and what the configuration says of all other keys."""
        return all(
            (values[key] if key in values else value_at(config, key)) in wanted for key, wanted in self.when.items()
        )

    def distribution(self) -> BaseDistribution:
        """The same for Optuna. Choices are JSON texts there: what a database keeps, and 1 is not True."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices:
            return CategoricalDistribution([_category(choice) for choice in self.choices])
        if self.whole:
            return IntDistribution(int(self.low), int(self._last()), log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, self._last(), log=self.log, step=self.step)

    def read(self, drawn: Any) -> Any:
        """The setting that Optuna's value stands for."""
        if self.choices:
            return next(choice for choice in self.choices if _category(choice) == drawn)
        if self.whole:
            return int(drawn)
        return min(max(float(f"{drawn:.{_DIGITS}g}"), float(self.low)), float(self.high))

    def drawn(self, value: Any) -> Any:
        """Optuna's value for a setting; None where it lies outside."""
        if self.choices:
            category = _category(value)
            return category if category in map(_category, self.choices) else None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not self.low <= value <= self._last():
            return None
        off_step = self.step and abs((value - self.low) / self.step - round((value - self.low) / self.step)) > 1e-9
        return None if off_step else value

    def to_dict(self) -> dict[str, Any]:
        """As reports show it, and as it is compared with that of another study."""
        more = {"when": {key: list(values) for key, values in self.when.items()}} if self.when else {}
        if self.choices:
            return {"key": self.key, "kind": "choice", "values": list(self.choices), **more}
        step = {"step": self.step} if self.step else {}
        return {"key": self.key, "kind": "range", "low": self.low, "high": self.high, "log": self.log, **step, **more}

    def __str__(self) -> str:
        if self.choices:
            what = ", ".join(_category(choice).strip('"') for choice in self.choices)
        else:
            what = f"{self.low:g} … {self.high:g}{' log' if self.log else ''}"
            what += f" step {self.step:g}" if self.step else ""
        only = " and ".join(f"{key}: {' or '.join(map(_category, v))}" for key, v in self.when.items())
        return f"{self.key} {what}{f' (when {only})' if only else ''}"

    def _last(self) -> Number:
        """The largest number that the steps reach."""
        if not self.step:
            return self.high
        reached = self.low + self.step * int((self.high - self.low) / self.step + 1e-9)
        return reached if self.whole else float(f"{reached:.12g}")


@dataclass(frozen=True)
class Space:
    """All dimensions, each behind those that its condition names. config: what the trials vary."""

    dimensions: tuple[Dimension, ...]
    config: Config

    def ask(self, trial: Trial) -> dict[str, Any]:
        """Dotted key → value, of the dimensions that matter in this trial.

        trial: whose sampler draws the values.
        """
        settings: dict[str, Any] = {}
        for dimension in self.dimensions:
            if dimension.holds(settings, self.config):
                settings[dimension.key] = dimension.read(_suggest(trial, dimension))
        return settings

    def defaults(self) -> dict[str, Any]:
        """Optuna's values for the configuration as it is, by key, where they lie in the space: what trial 0 is to the
        sampler, though its settings are none.
        """
        values: dict[str, Any] = {}
        for dimension in self.dimensions:
            drawn = dimension.drawn(value_at(self.config, dimension.key))
            if drawn is not None and dimension.holds({}, self.config):
                values[dimension.key] = drawn
        return values

    def whole(self, settings: Mapping[str, Any]) -> str:
        """The same text for trials that train the same: settings, and what all other keys are."""
        values = {d.key: settings.get(d.key, value_at(self.config, d.key)) for d in self.dimensions}
        return json.dumps(values, sort_keys=True, default=str)

    def to_list(self) -> list[dict[str, Any]]:
        return [dimension.to_dict() for dimension in self.dimensions]


def value_at(config: Config, key: str) -> Any:
    """What the configuration says under a dotted key; None where a section of names lacks it."""

    def inner(section: Any, part: str) -> Any:
        return section.get(part) if isinstance(section, Mapping) else getattr(section, part, None)

    return reduce(inner, split_key(key), config)


def in_order(dimensions: Iterable[Dimension]) -> tuple[tuple[Dimension, ...], list[str]]:
    """The dimensions, each behind those that its condition names; and keys whose conditions go round in a circle."""
    left, done = list(dimensions), []
    keys = {dimension.key for dimension in left}
    known: set[str] = set()
    while left:
        free = [d for d in left if all(key in known or key not in keys for key in d.when)]
        if not free:
            return tuple(done), [d.key for d in left]
        done += free
        known |= {d.key for d in free}
        left = [d for d in left if d.key not in known]
    return tuple(done), []


def _suggest(trial: Trial, dimension: Dimension) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    space = dimension.distribution()
    if isinstance(space, CategoricalDistribution):
        return trial.suggest_categorical(dimension.key, space.choices)
    if isinstance(space, IntDistribution):
        return trial.suggest_int(dimension.key, space.low, space.high, step=space.step, log=space.log)
    assert isinstance(space, FloatDistribution)
    return trial.suggest_float(dimension.key, space.low, space.high, step=space.step, log=space.log)


def _category(choice: Any) -> str:
    return json.dumps(choice, sort_keys=True, default=str, ensure_ascii=False)
