"""Validated configuration. A YAML file, keyword arguments and ``--set key=value`` fill the same objects."""

from __future__ import annotations

from polydetr.config.loading import (
    PRESETS,
    config_error,
    fault_lines,
    for_tasks,
    load_config,
    load_config_mapping,
    merge,
    names_of,
    parse_settings,
)
from polydetr.config.sections import (
    AugmentConfig,
    Config,
    HistoryConfig,
    ImageConfig,
    ModelConfig,
    TableConfig,
    TextConfig,
)

__all__ = [
    "PRESETS",
    "AugmentConfig",
    "Config",
    "HistoryConfig",
    "ImageConfig",
    "ModelConfig",
    "TableConfig",
    "TextConfig",
    "config_error",
    "fault_lines",
    "for_tasks",
    "load_config",
    "load_config_mapping",
    "merge",
    "names_of",
    "parse_settings",
]
