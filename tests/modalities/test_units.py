"""What every modality says of its units, for explanations: one contract for all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from polydetr.core.documents import Window
from polydetr.core.plugs import MODALITIES
from polydetr.modalities.units import HasUnits, Part
from tiny_models import as_records, make_engine

ROW = {
    "title": "a blue top", "body": "for the summer", "price": 2.5, "kind": "b",
    "photo": np.arange(24 * 24 * 3, dtype=np.uint8).reshape(24, 24, 3), "bought": [{"name": "hat"}, {"name": "rug"}],
    "label": "yes",
}  # fmt: skip
OTHER = {**ROW, "price": 1.0, "kind": "a", "label": "no", "bought": [{"name": "cup"}]}
INPUTS = {
    "title": "text", "body": "text", "price": "number", "kind": "category", "photo": "image", "bought": "history",
}  # fmt: skip
SETTINGS = {"image": {"size": 24, "patch_size": 8}}
UNITS = {"text": 6, "image": 64, "table": 2, "history": 2}


@pytest.fixture(scope="module")
def read() -> dict[str, tuple[list[Window], Part]]:
    """Modality → its windows of the row, and its part."""
    engine = make_engine([ROW, OTHER] * 2, {"label": "classification"}, inputs=INPUTS, settings=SETTINGS)
    document = engine.encoder.encode(as_records([ROW])[:1], with_targets=False)
    found = {}
    for name, modality in engine.encoder.read.items():
        assert isinstance(modality, HasUnits)
        pairs = zip(document.examples, document.layouts, strict=True)
        windows = [Window(example.groups[name], layout) for example, layout in pairs]
        found[name] = windows, modality.units(ROW, windows)
    return found


def test_every_modality_is_here(read: dict[str, Any]) -> None:
    assert set(read) == set(UNITS) == set(MODALITIES)


@pytest.mark.parametrize("name", UNITS)
def test_units_stand_in_its_columns(read: dict[str, Any], name: str) -> None:
    _, part = read[name]
    assert part.group == name
    assert len(part) == len(part.columns) == len(part.present) == UNITS[name]
    assert set(part.columns) <= set(INPUTS)
    assert set().union(*part.probes) == set(part.present)
    assert all(isinstance(part.shown(ROW[column]), str) for column in part.columns)


@pytest.mark.parametrize("name", UNITS)
def test_a_blank_is_of_the_same_shape_and_something_else(read: dict[str, Any], name: str) -> None:
    (window,), part = read[name]
    blank = part.blank(window.arrays, 0)
    kinds = {key: (array.shape, array.dtype) for key, array in window.arrays.items()}
    assert {key: (array.shape, array.dtype) for key, array in blank.items()} == kinds
    assert any((blank[key] != array).any() for key, array in window.arrays.items())


@pytest.mark.parametrize("name", UNITS)
def test_scores_are_shared_out_and_nothing_is_lost(read: dict[str, Any], name: str) -> None:
    (window,), part = read[name]
    tokens = len(next(iter(window.arrays.values())))
    found = np.random.default_rng(0).normal(size=(1, tokens, 3 * 24 * 24 if name == "image" else 5))
    if name == "text":  # [CLS] and [SEP] stand for no word
        found[0, part.windows[0].special] = 0
    scores = part.scores(found.reshape(1, -1))
    assert scores.shape == (len(part),)
    assert scores.sum() == pytest.approx(found.sum())


@pytest.mark.parametrize("name", UNITS)
def test_a_row_without_a_unit_keeps_all_other_columns(read: dict[str, Any], name: str) -> None:
    _, part = read[name]
    assert part.without(ROW, set()) == ROW
    shorter = part.without(ROW, {0})
    assert {key for key in ROW if shorter[key] is not ROW[key]} == {part.columns[0]}
