"""A model folder keeps what its training rows looked like."""

from __future__ import annotations

from pathlib import Path

from film_models import SETTINGS
from polydetr import LoadedModel, Predictor
from polydetr.engine.profile import profiles_in


def test_the_profile_is_that_of_the_training_rows(tmp_path: Path) -> None:
    rows = [{"text": "word " * (1 + i % 5), "price": i, "label": "ab"[i % 2]} for i in range(60)]
    how = {"backbone": "none", "epochs": 1, "out": tmp_path / "m", "settings": SETTINGS}
    Predictor.fit(rows[:50], target="label", valid=rows[50:], inputs={"text": "text", "price": "number"}, **how)
    profiles = profiles_in(LoadedModel.load(tmp_path / "m").info)
    assert set(profiles) == {"text", "price"}
    assert profiles["price"].rows == 50
    assert profiles["price"].edges[0] < 10 < 40 < profiles["price"].edges[-1]
