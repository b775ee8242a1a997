"""A small part of ``benchmarks/fuzz_http.py``: requests drawn from the description, and mutated bodies."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polydetr.inference.service import ServiceModel
from polydetr.serving.limits import Limits

FUZZ = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "fuzz_http.py"))
SAVED = Path(__file__).parents[1] / "model" / "saved_by_old"
LIMITS = Limits(body_bytes=4_000_000)


def test_drawn_requests_are_answered_as_described(running: Callable[..., Any]) -> None:
    pytest.importorskip("schemathesis")
    drawn, wrong = FUZZ["draw_cases"](running(limits=LIMITS).url, cases=50, seed=0)
    assert wrong == []
    assert drawn >= 50


@pytest.mark.parametrize("name", ["film", "detection", "table"])
def test_mutated_bodies_are_answered_or_refused(
    running: Callable[..., Any], several: ServiceModel, film: ServiceModel, name: str
) -> None:
    models = {"film": film} if name == "film" else {name: ServiceModel.load(SAVED / name / "model")}
    service = running(models, limits=LIMITS)
    statuses, wrong = FUZZ["send_bodies"](service.url, FUZZ["columns_of"](service.url), seed=0, bodies=300)
    assert wrong == []
    assert statuses.total() == 300
    assert statuses[200] > 20
    assert statuses[400] > 20
