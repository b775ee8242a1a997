"""By which metric the trials are compared, where that is not each target's first one."""

from __future__ import annotations

from collections.abc import Sequence

from polydetr.config.loading import join_key
from polydetr.config.sections import Config
from polydetr.core.records import Record
from polydetr.engine.engine import Engine
from polydetr.errors import ConfigError, did_you_mean, quoted
from polydetr.training.encode import encode_measured_rows
from polydetr.training.metric_names import check_named, metric_names
from polydetr.training.trial_settings import with_settings


def by_metric(config: Config, metric: str | None, engine: Engine, valid: Sequence[Record]) -> Config:
    """The configuration in which every target that has this metric is judged by it (``tasks.NAME.metric``).

    engine: of a model that need not be trained; valid: rows that show which metrics there are.

    Raises:
        ConfigError: no target has it, or one lacks the metric that the configuration names for it.
    """
    rows = encode_measured_rows(engine, valid, config, [], split="validation", notify=lambda message: None)
    names = metric_names(engine, rows)
    named = {target: task for target, task in engine.tasks.items() if task.options.metric and not metric}
    check_named(named, names)
    if metric is None:
        return config
    having = [target for target, known in names.items() if metric in known]
    if not having:
        known = [name for target in names.values() for name in target]
        raise ConfigError(
            f"metric = {quoted(metric)}: no target has it.", hint=did_you_mean(metric, dict.fromkeys(known))
        )
    return with_settings(config, {join_key(("tasks", target, "metric")): metric for target in having})
