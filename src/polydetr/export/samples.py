"""Rows made at random, of all lengths that a model may meet, and encoded as any row is: what graphs are compared on
where no row of the validation is at hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from polydetr.core.examples import Example
from polydetr.core.records import Record, Row
from polydetr.engine.encode import RowEncoder
from polydetr.errors import Location, RowError
from polydetr.modalities.base import Modality
from polydetr.modalities.history import HistoryModality
from polydetr.modalities.image import ImageModality
from polydetr.modalities.table import TableModality
from polydetr.modalities.table_columns import CategoryColumn, Column, NumberColumn
from polydetr.modalities.text import TextModality

_MISSING = 0.1
"""Share of the values that are missing."""


def random_examples(encoder: RowEncoder, count: int, *, seed: int = 0) -> list[Example]:
    """The windows of ``count`` rows; fewer where rows of an outside modality cannot be made up."""
    generator = np.random.default_rng(seed)
    examples: list[Example] = []
    for number in range(count):
        row: Row = {}
        for modality in encoder.read.values():
            row |= _row(modality, generator)
        for chosen in (row, {**row, **{f: _text(generator) for f in _fields_of_texts(encoder)}}):
            try:
                record = Record(chosen, Location(file="random rows", row=number + 1))
                examples += encoder.encode([record], with_targets=False).examples
                break
            except RowError:  # nothing is left of it, or its text is missing and has to be there
                continue
    return examples


def _fields_of_texts(encoder: RowEncoder) -> Sequence[str]:
    return [f for modality in encoder.read.values() if isinstance(modality, TextModality) for f in modality.fields]


def _row(modality: Modality, generator: np.random.Generator) -> dict[str, Any]:
    values = _values(modality, generator)
    return {name: None if generator.random() < _MISSING else value for name, value in values.items()}


def _values(modality: Modality, generator: np.random.Generator) -> Mapping[str, Any]:
    """By column; nothing for the columns of an outside modality, which read other things."""
    if isinstance(modality, TextModality):
        return {field: _text(generator) for field in modality.fields}
    if isinstance(modality, ImageModality):
        return {field: _images(modality, generator) for field in modality.fields}
    if isinstance(modality, TableModality):
        return {column.name: _cell(column, generator) for column in modality.columns}
    if isinstance(modality, HistoryModality):
        return {field: _items(modality, generator) for field in modality.fields}
    return {}


def _text(generator: np.random.Generator) -> str:
    """Up to some hundred words; most are short."""
    count = int(generator.geometric(0.05))
    return " ".join(
        "".join(chr(97 + c) for c in generator.integers(0, 26, generator.integers(1, 9))) for _ in range(count)
    )


def _images(modality: ImageModality, generator: np.random.Generator) -> list[np.ndarray]:
    size = modality.config.size
    count = int(generator.integers(1, min(modality.config.max_images, 3) + 1))
    coarse = [generator.integers(0, 256, (*generator.integers(2, 9, 2), 3), dtype=np.uint8) for _ in range(count)]
    return [image.repeat(-(-size // len(image)), 0).repeat(-(-size // image.shape[1]), 1) for image in coarse]


def _cell(column: Column, generator: np.random.Generator) -> Any:
    if isinstance(column, NumberColumn):
        return float(column.scale.mean + column.scale.std * generator.standard_normal())
    if isinstance(column, CategoryColumn):
        return str(generator.choice([*column.names, "none of them"]))
    return f"20{generator.integers(10, 30)}-{generator.integers(1, 13):02}-{generator.integers(1, 29):02}"


def _items(modality: HistoryModality, generator: np.random.Generator) -> list[dict[str, Any]]:
    items = []
    for _ in range(int(generator.integers(1, modality.config.max_items + 2))):
        item: dict[str, Any] = {}
        for part in modality.parts.values():
            item |= _values(part, generator)
        if modality.config.age is not None:
            item[modality.config.age] = float(generator.integers(0, 1000))
        items.append(item)
    return items
