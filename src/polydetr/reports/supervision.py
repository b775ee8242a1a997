"""Found boxes as the arrays that ``supervision.Detections`` takes, without depending on that package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from polydetr.errors import InputError, did_you_mean


def supervision_arrays(objects: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> dict[str, Any]:
    """Keyword arguments for ``supervision.Detections(**arrays)``, for the objects of one image.

    objects: {"box" [left, top, right, bottom] in pixels, "label", "score"}; labels: those of the model, in its order:
    a label's place among them is its ``class_id``.

    Returns ``xyxy`` (N, 4) and ``confidence`` (N,) float32, ``class_id`` (N,) int64, and ``data`` with ``class_name``
    (N,); N may be 0.

    Raises:
        InputError: an object's label is not among ``labels``.
    """
    index = {name: i for i, name in enumerate(labels)}
    names = [str(one["label"]) for one in objects]
    strange = next((name for name in names if name not in index), None)
    if strange is not None:
        raise InputError(f"the label {strange!r} is none of the model's.", hint=did_you_mean(strange, labels))
    return {
        "xyxy": np.array([one["box"] for one in objects], np.float32).reshape(len(objects), 4),
        "confidence": np.array([one["score"] for one in objects], np.float32),
        "class_id": np.array([index[name] for name in names], np.int64),
        "data": {"class_name": np.array(names, dtype=np.str_)},
    }
