"""What is known of few rows and their classes before anything is learned (``few_rows``)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from polydetr.core.examples import Example
from polydetr.model.build import Assembly
from polydetr.tasks.classification import ClassificationTask


def copies_together(folds: np.ndarray, rows: Sequence[Sequence[Example]]) -> np.ndarray:
    """The folds, with rows that the model cannot tell apart in one: a copy of a row would answer it by heart."""
    first: dict[bytes, int] = {}
    together = folds.copy()
    for number, windows in enumerate(rows):
        arrays = [array for window in windows for arrays in window.groups.values() for array in arrays.values()]
        key = hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).digest()
        together[number] = folds[first.setdefault(key, number)]
    return together if len(np.unique(together)) > 1 else folds


def class_names(assembly: Assembly, target: str) -> list[Example]:
    """The names of the classes, each as a row; none where the model reads other things than text, or the classes have
    numbers for names.
    """
    modalities, task = assembly.engine.encoder.modalities, assembly.engine.tasks[target]
    assert isinstance(task, ClassificationTask)
    names = [re.sub(r"[\W_]+", " ", label).strip() for label in task.labels]
    if list(modalities) != ["text"] or not all(re.search(r"[^\W\d]", name) for name in names):
        return []
    reader = modalities["text"].over(["label"])
    return [Example({"text": reader.encode([{"label": name}]).windows[0].arrays}) for name in names]
