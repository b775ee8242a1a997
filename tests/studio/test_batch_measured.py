"""A labeled file that was answered is measured as ``evaluate`` measures it, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from film_models import film_rows
from polydetr.inference.model import LoadedModel
from polydetr.inference.service import ServiceModel
from polydetr.serving.answered_rows import AnsweredRows
from polydetr.serving.contract import Ask, ModelInfo
from polydetr.serving.jobs import Job
from polydetr.studio import batch_measured
from polydetr.studio.batch_measured import MEASURED, Measured
from polydetr.studio.measuring_process import measure

ROWS = [{**row, "minutes": 80 + i % 30} for i, row in enumerate(film_rows(30))]


def answered(folder: Path, rows: list[Any]) -> AnsweredRows:
    """As they would have been answered; the second could not be."""
    kept = AnsweredRows(folder / "rows")
    with kept.open():
        for number, row in enumerate(rows, start=1):
            error = {"error": {"message": "no."}} if number == 2 else {"prediction": {}}
            kept.write([row], [{"row": number, **error}])
    return kept


@pytest.mark.filterwarnings("ignore::polydetr.inference.model.MeasureWarning")
def test_the_figures_are_those_of_evaluate(several_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    found = measure(several_folder, answered(tmp_path, ROWS).path, out)
    good = [row for number, row in enumerate(ROWS, start=1) if number != 2]
    expected = LoadedModel.load(several_folder).evaluate(good)
    assert {t: one["metrics"] for t, one in found["targets"].items()} == expected
    predicted = LoadedModel.load(several_folder).predict(ROWS)
    wrong = {
        n for n, (row, one) in enumerate(zip(ROWS, predicted, strict=True), start=1) if one["label"] != row["label"]
    }
    assert set(map(int, found["targets"]["label"]["wrong"])) == wrong - {2}
    pages = [(out / name).read_text("utf-8") for name in found["pages"]]
    assert found["pages"]
    assert all("<script" not in page for page in pages)


def test_a_text_of_a_row_opens_no_file(several_folder: Path, tmp_path: Path) -> None:
    """What was sent names no file of this machine: rows are rejected, or answered as the text that they are."""
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret text")
    out = tmp_path / "out"
    out.mkdir()
    measure(several_folder, answered(tmp_path, [{**row, "text": str(secret)} for row in ROWS]).path, out)
    assert not [file for file in out.iterdir() if b"the secret text" in file.read_bytes()]


def fleet_of(folder: Path) -> Any:
    info = ModelInfo("m", "v1", ServiceModel.load(folder).info, {}, {}, "torch", folder=str(folder))
    return SimpleNamespace(models=lambda: {"m": info})


def job_of(folder: Path, rows: list[Any]) -> Job:
    job = Job("id", "person:", "m", "csv", "", Ask(), folder / "job")
    job.folder.mkdir()
    job.answered = answered(job.folder, rows)
    return job


def test_a_job_without_labels_is_not_measured(several_folder: Path, tmp_path: Path) -> None:
    job = job_of(tmp_path, [{"text": "a", "minutes": 1, "label": ""}])
    asyncio.run(batch_measured.measure(fleet_of(several_folder), job))
    assert MEASURED not in job.facts


@pytest.mark.parametrize("broken", [False, True], ids=["whole", "broken"])
def test_a_job_is_measured_by_a_process(several_folder: Path, tmp_path: Path, broken: bool) -> None:
    job, fleet = job_of(tmp_path, ROWS), fleet_of(several_folder)
    if broken:
        folder = tmp_path / "gone"
        fleet = SimpleNamespace(models=lambda: {"m": ModelInfo(
            "m", "v1", ServiceModel.load(several_folder).info, {}, {}, "torch", folder=str(folder)
        )})  # fmt: skip
    asyncio.run(batch_measured.measure(fleet, job))
    found: Measured = job.facts[MEASURED]
    if broken:
        assert found.state == "failed"
        assert found.error is not None
        return
    assert (found.state, found.version) == ("done", "v1")
    assert set(found.targets) == {"label", "stars", "entities"}
    name, value, ends = found.metrics("label")[0]
    assert name == "accuracy"
    assert ends is not None
    assert ends[0] <= value <= ends[1], "of few rows there is an interval"
    assert all((found.folder / page).is_file() for page in found.pages)
    json.dumps(found.targets)


def test_a_job_that_is_forgotten_ends_its_process(several_folder: Path, tmp_path: Path) -> None:
    async def run() -> None:
        job = job_of(tmp_path, ROWS)
        task = asyncio.create_task(batch_measured.measure(fleet_of(several_folder), job))
        while MEASURED not in job.facts:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < 2.0
        assert MEASURED not in job.facts
        assert not (job.folder / "measured" / "measured.json").exists()

    asyncio.run(run())
