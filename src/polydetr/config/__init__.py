"""Validated configuration. A YAML file, keyword arguments and ``--set key=value`` fill the same objects."""

from __future__ import annotations

from polydetr.config.loading import (
    FOR_TASK,
    PRESETS,
    fault_lines,
    faults_message,
    for_tasks,
    load_config,
    load_config_mapping,
    merge,
    names_of,
    parse_names,
    parse_settings,
)
from polydetr.config.sections import (
    AugmentConfig,
    Config,
    HistoryConfig,
    ImageConfig,
    LoRAConfig,
    ModelConfig,
    TableConfig,
    TextConfig,
    TrainingConfig,
)

__all__ = [
    "FOR_TASK",
    "PRESETS",
    "AugmentConfig",
    "Config",
    "HistoryConfig",
    "ImageConfig",
    "LoRAConfig",
    "ModelConfig",
    "TableConfig",
    "TextConfig",
    "TrainingConfig",
    "fault_lines",
    "faults_message",
    "for_tasks",
    "load_config",
    "load_config_mapping",
    "merge",
    "names_of",
    "parse_names",
    "parse_settings",
]
