"""Which settings a study may vary, and the configuration of a trial."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from polydetr.config.loading import config_error, fault_lines, merge, split_key
from polydetr.config.sections import Config
from polydetr.errors import ConfigError, did_you_mean

_SAME_ROWS = "all trials learn from the same rows, or their scores could not be compared"
_SAME_BUDGET = "every trial has the same budget, or the longest one would win"
_NOT_OF_THE_MODEL = "it changes nothing about the model"
REFUSED: dict[str, str] = {
    **dict.fromkeys(
        ("train", "valid", "test", "unlabelled", "corrections", "reading", "group", "on_error"), _SAME_ROWS
    ),
    **dict.fromkeys(("training.valid_fraction", "image.root", "image.max_pixels"), _SAME_ROWS),
    **dict.fromkeys(("target", "inputs"), "it says what is learned, not how well"),
    **dict.fromkeys(("epochs", "steps", "time_limit", "training.min_steps"), _SAME_BUDGET),
    "preset": "it stands for other settings: vary these, for example training.ema_decay",
    "seed": "the best of several seeds is luck, which new rows do not have",
    "training.devices": "a study trains on one device",
    **dict.fromkeys(("out", "track", "search"), _NOT_OF_THE_MODEL),
    **dict.fromkeys(("detection", "entities"), "it is an old name: vary tasks.NAME.KEY"),
}
"""Key, or the section it stands in, → why it is not varied."""
ENCODING = ("text", "image", "table", "history", "backbone")
"""Sections that say how rows become tokens; a key in them means that the rows are encoded once for each of its values.
"""
_NOT_ENCODING = ("image.augment", "text.dropout", "table.column_dropout", "table.embedding")


def check_settings(config: Config, keys: Iterable[str]) -> list[str]:
    """The keys, of those that a study varies, with which the rows' encoding changes, so that they are encoded once for
    each value.

    Raises:
        ConfigError: keys that no study may vary, each with its reason, or that are no settings, with the nearest name.
    """
    keys = list(keys)
    faults = [fault for key in keys for fault in _faults(config, key)]
    if faults:
        raise ConfigError("\n".join(faults), hint="Leave these out of the search.")
    return [key for key in keys if _within(key, ENCODING) and not _within(key, _NOT_ENCODING)]


def with_settings(config: Config, settings: Mapping[str, Any]) -> Config:
    """The configuration with the values of dotted keys ("training.lr") in it; what was given stays given, defaults stay
    defaults.

    Raises:
        ConfigError: a key is unknown, or its value is out of bounds.
    """
    values = config.model_dump(exclude_unset=True)
    for key, value in settings.items():
        nested = value
        for part in reversed(split_key(key)):
            nested = {part: nested}
        values = merge(values, nested)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise config_error(fault_lines(error.errors(include_url=False), Config)) from None


def _faults(config: Config, key: str) -> list[str]:
    for refused, reason in REFUSED.items():
        if _within(key, (refused,)):
            return [f"{key}: a study does not vary it: {reason}."]
    return [] if (nearest := _unknown(config, key)) is None else [f"{key}: there is no such setting. {nearest}".strip()]


def _within(key: str, sections: Iterable[str]) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in sections)


def _unknown(config: Config, key: str) -> str | None:
    """The nearest names, where ``key`` leads to no setting."""
    at: Any = config
    for name in split_key(key):
        if not isinstance(at, BaseModel):
            return None  # within a mapping: a task's own options, a modality's backbone
        if name not in type(at).model_fields:
            return did_you_mean(name, type(at).model_fields)
        at = getattr(at, name)
    return f"{key} is a section: vary one of its keys." if isinstance(at, BaseModel) else None
