"""Every pair of a task and a modality that is exported, with rows to train and to ask it with."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent / "model"))
from test_export_graphs import KINDS, OF_TASK, PAIRS, SIZES, rows_of

__all__ = ["INPUTS", "PAIRS", "SETTINGS", "rows_of"]

SETTINGS: Mapping[str, Any] = {**SIZES, "training": {"precision": "fp32", "patience": 0}, "tasks": OF_TASK}
"""``tasks`` by the kind of task, whose options they are."""
INPUTS: Mapping[tuple[str, str], dict[str, str]] = {
    (modality, task): {name: KINDS[name] for name in rows_of(task, modality)[0] if name != "y"}
    for task, modality in PAIRS
}
"""Modality, task → column → kind."""
