"""Whether backbones stay frozen where the user left that open: beside a table, where there are few rows of images.

An image backbone that is tuned on a few hundred rows learns them by heart long before it learns the task, and its
gradients drown what the table says: of 375 rows with four photos and four numbers the tuned one explains less of the
variance than the numbers alone, the frozen one more (``benchmarks/mixed.py``). Its features are then computed once.
"""

from __future__ import annotations

from polydetr.config.sections import Config
from polydetr.model.build import Assembly
from polydetr.training.pilot import backbone_groups, may_freeze

FEW = 1500
"""Rows up to which they stay frozen."""
_OPEN = {"freeze_backbones", "freeze_layers", "few_rows"}


def stays_frozen(config: Config, assembly: Assembly, rows: int) -> bool:
    """Whether a run on so many training rows freezes its backbones by itself: they read images, a table's columns add
    up beside them, and no setting says how they are trained.
    """
    settings = config.training
    if settings.freeze_backbones or settings.lora.rank or _OPEN & settings.model_fields_set or rows > FEW:
        return False
    beside_a_table = bool(assembly.model.additive) and "image" in backbone_groups(assembly)
    return beside_a_table and may_freeze(assembly)
