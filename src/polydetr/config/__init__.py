"""Validated configuration. A YAML file, keyword arguments and ``--set key=value`` fill the same objects."""

from __future__ import annotations

from polydetr.config.loading import (
    FOR_TASK,
    PRESETS,
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
    DetectionConfig,
    EntitiesConfig,
    HistoryConfig,
    ImageConfig,
    LoRAConfig,
    ModelConfig,
    TableConfig,
    TaskConfig,
    TextConfig,
    TrainingConfig,
)

__all__ = [
    "FOR_TASK",
    "PRESETS",
    "AugmentConfig",
    "Config",
    "DetectionConfig",
    "EntitiesConfig",
    "HistoryConfig",
    "ImageConfig",
    "LoRAConfig",
    "ModelConfig",
    "TableConfig",
    "TaskConfig",
    "TextConfig",
    "TrainingConfig",
    "for_tasks",
    "load_config",
    "load_config_mapping",
    "merge",
    "names_of",
    "parse_names",
    "parse_settings",
]
