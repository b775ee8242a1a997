"""A batch of every shape that a model may meet: what a graph is recorded with, made without any row of the user's.

What a graph computes does not depend on the values in it, so that zeros and repetitions will do where a modality gives
no tokens for a missing value.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from polydetr.core.examples import Arrays, Example, PaddedGroup, collate
from polydetr.errors import PolydetrError, RowError
from polydetr.modalities.base import Modality
from polydetr.modalities.image import ImageModality

BATCH, FIRST_LENGTH = 3, 5
"""Rows of the batch, and entries of its longest row in the first group; other groups have other lengths, since equal
sizes could be taken for one and the same."""


def batch_for(modalities: Mapping[str, Modality]) -> dict[str, PaddedGroup]:
    """Rows of different lengths, padded to the longest.

    Raises:
        PolydetrError: a modality encodes neither a missing value nor an empty text.
    """
    lengths = {name: 1 if is_single(modality) else FIRST_LENGTH + 2 * i for i, (name, modality) in enumerate(
        modalities.items()
    )}  # fmt: skip
    arrays = {name: _arrays_of(modality) for name, modality in modalities.items()}
    examples = [
        Example({name: _of_length(arrays[name], max(1, length - i)) for name, length in lengths.items()})
        for i in range(BATCH)
    ]
    return dict(collate(examples).groups)


def is_single(modality: Modality) -> bool:
    """Whether a batch has one entry per row of it at most, so that its length is no size of its own."""
    return isinstance(modality, ImageModality) and modality.config.max_images * len(modality.fields) == 1


def _arrays_of(modality: Modality) -> Arrays:
    """The arrays of one row, perhaps of length 0."""
    error: RowError | None = None
    for value in (None, ""):
        try:
            return modality.encode([dict.fromkeys(modality.fields, value)]).windows[0].arrays
        except RowError as refused:
            error = refused
    raise PolydetrError(f"the modality {modality.name!r} cannot be exported: it reads no empty row ({error}).")


def _of_length(arrays: Arrays, length: int) -> Arrays:
    return {
        name: np.resize(array, (length, *array.shape[1:])) if len(array) else
        np.zeros((length, *array.shape[1:]), array.dtype)
        for name, array in arrays.items()
    }  # fmt: skip
