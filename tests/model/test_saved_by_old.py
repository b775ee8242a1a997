"""Models that the first format's code saved, before numbers and tensors were parted, load and answer as they did then
(``saved_by_old/make.py``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polydetr import Predictor
from polydetr.core.plugs import MODALITIES, TASKS

SAVED = Path(__file__).parent / "saved_by_old"
NAMES = sorted(path.name for path in SAVED.iterdir() if (path / "model").is_dir())


def same(found: Any, expected: Any, *, within: float, where: str = "") -> None:
    """Equal texts and structures; numbers within ``within``, coordinates of boxes within their last digit."""
    if isinstance(expected, dict):
        # Since then a span and a box have a probability beside their score, and an answer names its image.
        assert found.keys() - {"probability", "image"} == expected.keys() - {"probability", "image"}, where
        for key, value in expected.items():
            same(found[key], value, within=0.011 if key == "box" else within, where=f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for i, value in enumerate(expected):
            same(found[i], value, within=within, where=f"{where}[{i}]")
    elif isinstance(expected, float) and not isinstance(found, bool):
        assert found == pytest.approx(expected, abs=within, rel=within), where
    else:
        assert found == expected, where


def told_apart(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the sentences for people, which may be worded anew."""
    return [{key: value for key, value in answer.items() if key != "warnings"} for answer in answers]


@pytest.mark.parametrize("name", NAMES)
def test_it_answers_as_it_did(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(SAVED / name)
    expected = json.loads(Path("answers.json").read_text(encoding="utf-8"))
    rows = json.loads(Path("rows.json").read_text(encoding="utf-8"))
    predictor = Predictor.load("model", precision="fp32")
    if name == "generation":  # its noise has been another since (ADR 10)
        (image,) = predictor.predict(rows[:1])[0].values()
        assert list(np.shape(image)) == expected["shape"]
        return
    within = 1e-4 if name == "table" else 1e-5
    same(told_apart(list(predictor.stream(rows))), told_apart(expected["stream"]), within=within)
    for target, metrics in predictor.evaluate(rows).items():
        known = {metric: value for metric, value in expected["metrics"][target].items() if value is not None}
        same({metric: metrics[metric] for metric in known}, known, within=1e-4, where=target)
    # Saved anew, it is the same model.
    predictor.save(tmp_path / "again")
    again = Predictor.load(tmp_path / "again", precision="fp32")
    assert list(again.stream(rows)) == list(predictor.stream(rows))


def test_every_task_and_modality_is_among_them() -> None:
    manifests = [json.loads((SAVED / name / "model" / "polydetr.json").read_text(encoding="utf-8")) for name in NAMES]
    kinds = {state["kind"] for manifest in manifests for state in manifest["tasks"].values()}
    assert kinds == set(TASKS)
    assert {name for manifest in manifests for name in manifest["modalities"]} == set(MODALITIES)
