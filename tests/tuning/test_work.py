"""One process's work on a study: failures, time, folders, and what an interruption leaves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny_studies import Notes, Rows, open_study, summary, work_on

from polydetr.core.studies import TrialRecord
from polydetr.errors import ConfigError, Interrupted, PolydetrError
from polydetr.training.trials import TrialResult
from polydetr.tuning.times import Times
from polydetr.tuning.work import MOST_FAILED, OutOfPlace, reason_of


class Failing(Rows):
    """Fails in the trials of these numbers, with this error."""

    def __init__(self, error: BaseException, numbers: set[int]) -> None:
        super().__init__()
        self.error, self.numbers = error, numbers

    def train(self, settings: Mapping[str, Any], *, out: Path, **how: Any) -> TrialResult:
        if int(out.name) in self.numbers:
            (out.with_name(f"{out.name}.checkpoint")).mkdir(parents=True)
            raise self.error
        return super().train(settings, out=out, **how)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "it needs more memory than there is"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"), "memory"),
        (PolydetrError("the loss is not a number at step 3", hint="Lower it."), "the loss is not a number at step 3"),
        (ConfigError("the backbone has 6 layers."), "the backbone has 6 layers"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
    ],
)
def test_a_trial_that_fails_is_a_failed_trial(error: Exception, reason: str, tmp_path: Path) -> None:
    study, notes = open_study(tmp_path / "s.db"), Notes()
    work_on(study, tmp_path, trials=4, rows=Failing(error, {1}), display=notes).run()
    states = [record.state for record in study.records()]
    assert states == ["complete", "failed", "complete", "complete"]
    assert reason in study.records()[1].reason
    assert any(note.startswith("trial 1 failed: ") for note in notes.notes)
    assert not list((tmp_path / "trials").glob("001*"))
    assert reason in reason_of(error)


def test_a_score_that_is_no_number_is_a_failure(tmp_path: Path) -> None:
    class Lost(Rows):
        def train(self, settings: Mapping[str, Any], *, out: Path, **how: Any) -> TrialResult:
            done = super().train(settings, out=out, **how)
            return TrialResult(float("nan"), done.metrics, done.curve, done.steps, done.seconds, False)

    study = open_study(tmp_path / "s.db")
    work_on(study, tmp_path, trials=2, rows=Lost()).run()
    assert [(r.state, r.reason) for r in study.records()] == [("failed", "its score is not a number")] * 2


def test_trials_that_all_fail_come_to_an_end(tmp_path: Path) -> None:
    study = open_study(tmp_path / "s.db")
    work_on(study, tmp_path, trials=100, rows=Failing(MemoryError(), set(range(100)))).run()
    assert len(study.records()) == MOST_FAILED


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), Interrupted("stopped within a trial.")])
def test_an_interrupted_trial_is_begun_anew_with_the_same_settings(stop: BaseException, tmp_path: Path) -> None:
    study = open_study(tmp_path / "s.db")
    with pytest.raises(type(stop)):
        work_on(study, tmp_path, trials=6, rows=Failing(stop, {3})).run()
    before = summary(study)
    assert [state for _, _, state, *_ in before] == ["complete"] * 3 + ["running"]
    assert study.under_way() == ["nobody"]  # though this process lives
    rows = Rows()
    work_on(study, tmp_path, trials=6, rows=rows).run()
    assert rows.trained[0][0] == before[3][1]
    assert len(rows.trained) == 3
    whole = open_study(tmp_path / "whole.db")
    work_on(whole, tmp_path / "whole", trials=6).run()
    assert summary(study) == summary(whole)


def test_a_folder_that_cannot_be_written_is_no_trials_fault(tmp_path: Path) -> None:
    study = open_study(tmp_path / "s.db")
    (tmp_path / "trials").write_text("a file in the way")
    with pytest.raises(OutOfPlace, match="cannot write to"):
        work_on(study, tmp_path, trials=6).run()
    assert [record.state for record in study.records()] == ["running"]
    (tmp_path / "trials").unlink()
    work_on(study, tmp_path, trials=2).run()
    assert [record.state for record in study.records()] == ["complete", "complete"]


@pytest.mark.parametrize("keep", [1, 3])
def test_only_the_best_models_and_the_defaults_stay_on_the_disk(keep: int, tmp_path: Path) -> None:
    most: list[int] = []

    def look(step: int) -> None:
        most.append(len(list((tmp_path / "trials").iterdir())))

    study = open_study(tmp_path / "s.db")
    work = work_on(study, tmp_path, trials=12, rows=Rows(at=look), keep=keep)
    work.run()
    best = {record.number for record in work.best_of(study.records())[:keep]}
    assert {int(path.name) for path in (tmp_path / "trials").iterdir()} == {0, *best}
    assert max(most) <= keep + 1


def test_a_model_that_another_machine_has_is_trained_again(tmp_path: Path) -> None:
    study, rows, notes = open_study(tmp_path / "s.db"), Rows(), Notes()
    work_on(study, tmp_path / "here", trials=3, rows=rows).run()
    there = work_on(study, tmp_path / "there", trials=3, rows=rows, display=notes)
    assert there.model_of(2).is_dir()
    assert rows.trained[-1][0] == study.records()[2].settings
    assert "trial 2 is trained again" in notes.notes[0]


# -- time -------------------------------------------------------------------------------------------------------------


def ended(number: int, seconds: float) -> TrialRecord:
    return TrialRecord(number, {}, "complete", 0.5, {}, [], 4, seconds)


def test_the_first_trial_plans_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("polydetr.tuning.times.time.monotonic", lambda: now[0])
    times = Times(100.0, 0.0)
    first = times.of_default(alone=False)
    assert first is not None
    assert 30 < first < 40
    now[0] = 10.0
    records = [ended(0, 10.0)]
    while (planned := times.of_next(records))[0]:
        assert planned[1] is not None
        assert planned[1] >= 10.0
        now[0] += 10.0
        records.append(ended(len(records), 10.0))
    assert 80 <= now[0] <= 95  # the end has its time
    assert len(records) == 9
    assert times.of_default(alone=True) == pytest.approx(100 - now[0] - 8.0)
    refitting = Times(100.0, 0.0, refits=True)
    now[0] = 75.0
    assert not refitting.of_next(records)[0]  # for the refit takes as long as a trial
    assert times.of_next(records)[0]


def test_what_a_trial_showed_of_the_end_is_left_for_it(tmp_path: Path) -> None:
    rows = Rows()
    rows.seconds_to_compare = lambda: 95.0  # type: ignore[method-assign]
    study = open_study(tmp_path / "s.db")
    work_on(study, tmp_path, rows=rows, limit=100.0).run()
    assert len(rows.trained) == 1, "no other trial fits before 95 s of answers"


def test_without_a_limit_nothing_is_bounded() -> None:
    times = Times(None, 0.0)
    assert times.of_default(alone=False) is None
    assert times.of_next([ended(0, 1e9)]) == (True, None)


def test_a_limit_shorter_than_a_trial_gives_the_default_alone(tmp_path: Path) -> None:
    study, notes, rows = open_study(tmp_path / "s.db"), Notes(), Rows()
    work = work_on(study, tmp_path, trials=20, limit=0.5, rows=rows, display=notes)
    work.run()
    assert [record.number for record in study.records()] == [0]
    (_, seconds), *_ = rows.trained
    assert seconds is not None
    assert any("the time limit has no room for more" in note for note in notes.notes)
    assert any("the time limit leaves no time for a second trial" in note for note in notes.notes)
