"""``search:`` of a configuration, read into a space. All faults at once, each with its key and the nearest one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from polydetr.config.loading import config_error, join_key, split_key
from polydetr.config.sections import Config
from polydetr.core.plugs import TASKS
from polydetr.errors import ConfigError, did_you_mean, quoted, shown
from polydetr.schema.spec import Schema
from polydetr.tasks.options import read_options
from polydetr.training.trial_settings import REFUSED, with_settings
from polydetr.tuning.space import MOST_CHOICES, Dimension, Space, in_order, value_at

_WORDS = ("choices", "low", "high", "log", "step", "when")


def read_space(search: Mapping[str, Any], config: Config, schema: Schema | None = None) -> Space:
    """The space that ``search`` describes. schema: where it is known already, the options of tasks are checked too.

    Raises:
        ConfigError: with every fault found, each on a line of its own: unknown keys, values that are none, empty
            ranges, conditions that cannot hold, keys that are not varied.
    """
    faults: list[str] = []
    dimensions = []
    for parts, given in _leaves(search, (), faults):
        key = join_key(parts)
        if fault := _refused(parts):
            faults.append(fault)
        elif dimension := _dimension(key, given, config, schema, faults):
            dimensions.append(dimension)
    twice = {d.key for d in dimensions if sum(other.key == d.key for other in dimensions) > 1}
    faults += [f"search.{key} stands twice; write it once" for key in sorted(twice)]
    faults += _impossible(dimensions, config)
    ordered, circle = in_order(dimensions)
    if circle:
        faults.append(f"search: the conditions of {', '.join(circle)} wait for one another")
    if faults:
        raise config_error(list(dict.fromkeys(faults)))
    return Space(ordered, config)


def all_keys(section: type[BaseModel] = Config, above: tuple[str, ...] = ()) -> Iterator[str]:
    """Every dotted key that a configuration has, without the options of tasks."""
    for name, info in section.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from all_keys(inner, (*above, name))
        else:
            yield join_key((*above, name))


def _leaves(
    search: Mapping[Any, Any], above: tuple[str, ...], faults: list[str]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(parts of the key, what stands there) of all that is varied."""
    for name, given in search.items():
        # The name of a target may hold a dot.
        own = [str(name)] if above == ("tasks",) else split_key(str(name)) or [str(name)]
        parts = (*above, *own)
        if isinstance(given, Mapping) and not _is_leaf(parts, given):
            if not given:
                faults.append(f"search.{join_key(parts)} is empty")
            yield from _leaves(given, parts, faults)
        else:
            yield parts, given


def _is_leaf(parts: tuple[str, ...], given: Mapping[Any, Any]) -> bool:
    """Whether a mapping describes the values of this key, not a section of keys."""
    if any(word in given for word in _WORDS):
        return True
    if parts[0] == "backbone":
        return False
    return join_key(parts) in set(all_keys()) - {"tasks"} or (parts[0] == "tasks" and len(parts) > 2)


def _refused(parts: Sequence[str]) -> str | None:
    """Why a key is not varied; None where it may be. The sections of the key count."""
    for depth in range(1, len(parts) + 1):
        if reason := REFUSED.get(join_key(parts[:depth])):
            return f"search.{shown(join_key(parts))} is not varied: {reason}"
    if parts[0] == "tasks" and parts[-1] == "metric":
        return f"search.{shown(join_key(parts))} is not varied: all trials are compared by the same metric"
    return None


def _dimension(key: str, given: Any, config: Config, schema: Schema | None, faults: list[str]) -> Dimension | None:
    """The dimension, or None where it has a fault, which is told."""
    described = given if isinstance(given, Mapping) else {"choices": given}
    if not isinstance(given, Mapping | list | tuple):
        faults.append(
            f"search.{shown(key)} = {quoted(given)}: write the values to choose from, [a, b], or a range, "
            "{low: a, high: b}; what is not varied stands outside of search"
        )
        return None
    before = len(faults)
    if fault := _unknown(key, config, schema):
        faults.append(f"search: {fault}")
        return None
    for word in described:
        if word not in _WORDS:
            faults.append(f"search.{shown(key)}: {quoted(word)} is unknown. {did_you_mean(str(word), _WORDS)}")
    when = _conditions(key, described.get("when"), config, schema, faults)
    is_range = "low" in described or "high" in described
    found = None
    if is_range and "choices" in described:
        faults.append(f"search.{shown(key)}: choices, or low and high, not both")
    elif is_range:
        found = _range(key, described, config, schema, faults)
    elif "choices" in described:
        found = _choices(key, described, config, schema, faults)
    elif len(faults) == before:
        faults.append(f"search.{shown(key)}: neither choices nor low and high are given")
    return None if found is None or len(faults) > before else replace(found, when=when)


def _choices(
    key: str, described: Mapping[str, Any], config: Config, schema: Schema | None, faults: list[str]
) -> Dimension:
    given = described["choices"]
    if not isinstance(given, list | tuple) or not given:
        faults.append(f"search.{shown(key)}: there is nothing to choose from in {quoted(given)}; write [a, b]")
        return Dimension(key)
    if len(given) > MOST_CHOICES:
        faults.append(f"search.{shown(key)}: {len(given):,} choices are more than {MOST_CHOICES:,}; give a range")
        return Dimension(key)
    faults += [
        f"search.{shown(key)}: {word} is for ranges, low to high" for word in ("log", "step") if word in described
    ]
    values = [_value(key, choice, config, schema, faults) for choice in given]
    if len({json.dumps(value, sort_keys=True, default=str) for value in values}) < len(values):
        faults.append(f"search.{shown(key)}: a choice stands twice in {quoted(given)}")
    return Dimension(key, choices=tuple(values))


def _range(
    key: str, described: Mapping[str, Any], config: Config, schema: Schema | None, faults: list[str]
) -> Dimension:
    before = len(faults)
    ends: list[Any] = []
    for word in ("low", "high"):
        if described.get(word) is None:
            faults.append(f"search.{shown(key)}: a range has low and high; {word} is missing")
        else:
            ends.append(_value(key, described[word], config, schema, faults))
    if len(faults) > before:
        return Dimension(key)
    if any(isinstance(end, bool) or not isinstance(end, int | float) for end in ends):
        faults.append(f"search.{shown(key)}: has no range, for its values are no numbers; write choices")
        return Dimension(key)
    (low, high), log, step = ends, described.get("log", False), _number(described.get("step"))
    whole = isinstance(low, int) and isinstance(high, int)
    if low >= high:
        faults.append(f"search.{shown(key)}: the range is empty, low {low:g} is not below high {high:g}")
    if not isinstance(log, bool):
        faults.append(f"search.{shown(key)}: log = {quoted(log)}: expected true or false")
    elif log and low <= 0:
        faults.append(f"search.{shown(key)}: low {low:g}: a log range begins above 0")
    if step is not None:
        if not isinstance(step, int | float) or isinstance(step, bool) or step <= 0 or (whole and step != int(step)):
            kind = "a whole number" if whole else "a number"
            faults.append(f"search.{shown(key)}: step = {quoted(step)}: expected {kind} above 0")
        elif log is True:
            faults.append(f"search.{shown(key)}: a log range has no steps; write choices")
        elif low < high and step > high - low:
            faults.append(f"search.{shown(key)}: a step of {step:g} leads out of the range, {low:g} to {high:g}")
    return Dimension(key, low=low, high=high, log=log is True, step=step, whole=whole)


def _number(given: Any) -> Any:
    """YAML 1.1 reads 1e-4 as text."""
    try:
        return float(given) if isinstance(given, str) else given
    except ValueError:
        return given


def _value(key: str, given: Any, config: Config, schema: Schema | None, faults: list[str]) -> Any:
    """The value as the configuration reads it; a fault where it does not."""
    changed, lines = _tried(key, given, config, schema)
    faults += [f"search: {line}" for line in lines]
    return value_at(changed, key) if changed is not None else given


def _tried(key: str, given: Any, config: Config, schema: Schema | None) -> tuple[Config | None, list[str]]:
    try:
        changed = with_settings(config, {key: given})
        if schema is not None and split_key(key)[0] == "tasks":
            read_options(changed, schema)
    except ConfigError as error:
        return None, [line.removeprefix("  - ") for line in error.message.splitlines()[1:]]
    return changed, []


def _unknown(key: str, config: Config, schema: Schema | None) -> str | None:
    """That there is no such key, with the nearest one; None where there is."""
    parts, known = split_key(key), list(all_keys())
    if parts and (key in known or _takes_any_name(parts, schema)):
        return None
    if parts and parts[0] == "tasks":
        if schema is None and len(parts) == 3:
            return None
        tasks = {target.name: target.task for target in schema.targets} if schema is not None else {}
        if len(parts) != 3:
            return f"unknown key {quoted(key)}: the options of a task are tasks.TARGET.OPTION"
        if parts[1] not in tasks:
            return f"tasks.{shown(parts[1])}: {quoted(parts[1])} is not a target. {did_you_mean(parts[1], tasks)}"
        fields = TASKS[tasks[parts[1]]].Options.model_fields
        return f"unknown key {quoted(key)}. {did_you_mean(parts[2], fields)}"
    same = [other for other in known if parts and parts[-1] in split_key(other)]
    hint = f"Did you mean {quoted(same[0])}?" if same else did_you_mean(key, known, limit=100)
    return f"unknown key {quoted(key)}. {hint}"


def _takes_any_name(parts: Sequence[str], schema: Schema | None) -> bool:
    if parts[0] == "backbone":
        return len(parts) == 2
    if parts[0] == "tasks" and schema is not None and len(parts) == 3:
        of_task = {target.name: TASKS[target.task].Options.model_fields for target in schema.targets}
        return parts[2] in of_task.get(parts[1], ())
    return False


def _conditions(
    key: str, given: Any, config: Config, schema: Schema | None, faults: list[str]
) -> dict[str, tuple[Any, ...]]:
    """Other key → its values, as the configuration reads them."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        faults.append(f"search.{shown(key)}: when = {quoted(given)}: expected {{key: value}} or {{key: [a, b]}}")
        return {}
    found: dict[str, tuple[Any, ...]] = {}
    for name, wanted in _flat(given, ()):
        if name == key:
            faults.append(f"search.{shown(key)}: when names the key itself")
        elif fault := _unknown(name, config, schema):
            faults.append(f"search.{shown(key)}: when: {fault}")
        else:
            values = wanted if isinstance(wanted, list | tuple) else [wanted]
            found[name] = tuple(_value(name, value, config, schema, faults) for value in values)
    return found


def _flat(given: Mapping[Any, Any], above: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for name, value in given.items():
        parts = (*above, *(split_key(str(name)) or [str(name)]))
        if isinstance(value, Mapping):
            yield from _flat(value, parts)
        else:
            yield join_key(parts), value


def _impossible(dimensions: Sequence[Dimension], config: Config) -> list[str]:
    """A line per condition that no trial fulfils."""
    varied = {dimension.key: dimension for dimension in dimensions}
    lines = []
    for dimension in dimensions:
        for key, wanted in dimension.when.items():
            other = varied.get(key)
            as_it_is = value_at(config, key) in wanted and (other is None or bool(other.when))
            if not as_it_is and (other is None or all(other.drawn(value) is None for value in wanted)):
                there = f"is {quoted(value_at(config, key))}" if other is None else f"is varied over {other}"
                values = " or ".join(quoted(value) for value in wanted)
                lines.append(f"search.{shown(dimension.key)}: when {key} is {values}, which it never is: it {there}")
    return lines
