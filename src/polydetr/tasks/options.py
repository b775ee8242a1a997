"""The options of each target, validated by the class of its task, which the schema names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from polydetr.config.loading import config_error, fault_lines
from polydetr.config.sections import Config
from polydetr.core.plugs import TASKS
from polydetr.errors import did_you_mean
from polydetr.schema.spec import Schema
from polydetr.tasks.base import OLD_SECTIONS, TaskOptions


def read_options(config: Config, schema: Schema) -> dict[str, TaskOptions]:
    """Target → its options.

    Raises:
        ConfigError: with every fault found, each on a line of its own.
    """
    targets = {spec.name: spec.task for spec in schema.targets}
    lines = [_no_target(name, targets) for name in config.tasks if name not in targets]
    for kind in OLD_SECTIONS:
        _, faults = _validated(kind, getattr(config, kind), {}, target=None)
        lines += faults
    options: dict[str, TaskOptions] = {}
    for target, kind in targets.items():
        section = getattr(config, kind) if kind in OLD_SECTIONS else {}
        read, faults = _validated(kind, section, config.tasks.get(target, {}), target=target)
        lines += [line for line in faults if line not in lines]
        if read is not None:
            options[target] = read
    if lines:
        raise config_error(lines)
    return options


def _no_target(name: str, targets: Iterable[str]) -> str:
    dotted = next((target for target in targets if target.startswith(f"{name}.")), None)
    quoted = f"A name with a dot is quoted: train --set 'tasks.\"{dotted}\".KEY=VALUE'."
    return f"tasks.{name}: {name!r} is not a target. {quoted if dotted else did_you_mean(name, targets)}"


def old_keys(config: Config, schema: Schema) -> list[str]:
    """One message per key in an old section: where it belongs."""
    return [
        f"{kind}.{key}: write it as tasks.{spec.name}.{key}"
        for kind in OLD_SECTIONS
        for key in getattr(config, kind)
        for spec in schema.targets
        if spec.task == kind
    ]


def _validated(
    kind: str, section: Mapping[str, Any], own: Mapping[str, Any], *, target: str | None
) -> tuple[TaskOptions | None, list[str]]:
    """Options, or a line per fault; section: defaults of an old section, own: what stands under ``tasks.<target>``."""
    if not section and target is None:
        return None, []
    of_task = TASKS[kind].Options
    try:
        return of_task(**{**section, **own}), []
    except ValidationError as error:
        lines = []
        for fault in error.errors():
            name = str(fault["loc"][0]) if fault["loc"] else ""
            place = f"tasks.{target}" if name in own or (own and not section) else kind
            if fault["type"] == "extra_forbidden" and place != kind:
                what = f"{place}.{name} = {fault['input']!r}: the task {kind!r} has no such option"
                lines.append(f"{what}. {did_you_mean(name, of_task.model_fields)}")
            else:
                lines += fault_lines([fault], of_task, place=place)
        return None, lines
