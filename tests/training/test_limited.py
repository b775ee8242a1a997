"""Whole runs under a time limit, on a clock that only reading, steps and answers move."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_runs import TRAIN, VALID, Watched, film_rows, train, write_encoder

from polydetr.core import clock as core_clock
from polydetr.core.records import Record
from polydetr.errors import Interrupted, Location
from polydetr.model.runner import TorchRunner
from polydetr.training import budget, encode, features, finish, fit, limited, loop, pilot, read, start
from polydetr.training.limited import chosen

LIMIT = 100.0


class Machine:
    """Seconds that parts of a run take; ``now`` is its clock."""

    def __init__(self, *, preparing: float, step: float, answer: float) -> None:
        self.now, self.preparing, self.step, self.answer = 0.0, preparing, step, answer

    def taking(self, seconds: Callable[[Any], float], function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **more: Any) -> Any:
            self.now += seconds(args)
            return function(*args, **more)

        return timed

    def run_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake = SimpleNamespace(
            monotonic=lambda: self.now, process_time=lambda: 0.0, strftime=time.strftime
        )  # fmt: skip
        for module in (fit, loop, budget, limited, pilot, start, core_clock):
            monkeypatch.setattr(module, "time", fake)
        monkeypatch.setattr(fit, "encode_rows", self.taking(lambda _: self.preparing, fit.encode_rows))
        monkeypatch.setattr(pilot, "_step", self.taking(lambda _: self.step, pilot._step))
        monkeypatch.setattr(loop.Loop, "_augmented", self.taking(lambda _: self.step, loop.Loop._augmented))
        run = TorchRunner.run
        monkeypatch.setattr(TorchRunner, "run", self.taking(lambda args: self.answer * len(args[1]), run))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYDETR_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("preparing", "step", "answer"), [(1, 0.2, 0.001), (20, 1, 0.1), (5, 8, 0.5), (60, 0.5, 0.05), (1, 1, 2)]
)
def test_the_whole_run_ends_in_time_and_uses_it(
    monkeypatch: pytest.MonkeyPatch, preparing: float, step: float, answer: float
) -> None:
    machine = Machine(preparing=preparing, step=step, answer=answer)
    machine.run_on(monkeypatch)
    shown = Watched()
    found = train(train=film_rows(400), valid=film_rows(120, start=500), display=shown, epochs=1e5, time_limit=LIMIT)
    assert machine.now <= LIMIT + 10, shown.notes
    assert machine.now > 0.6 * LIMIT, shown.notes
    assert found.metrics["valid"]["label"]["accuracy"] > 0
    plans = [note for note in shown.notes if note.startswith("plan: ")]
    assert len(plans) == 1
    assert " s reading, " in plans[0]


def test_where_answers_get_slower_fewer_rows_are_measured_and_the_run_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(preparing=1, step=0.5, answer=0.01)
    machine.run_on(monkeypatch)

    def at_step(info: Any) -> None:
        machine.answer = 0.3

    shown = Watched(at_step)
    train(train=film_rows(400), valid=film_rows(240, start=500), display=shown, epochs=1e5, time_limit=LIMIT)
    assert machine.now <= LIMIT + 10, shown.notes
    assert any(note.startswith("answering is slower than planned: ") for note in shown.notes)


def test_without_a_limit_nothing_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("planned")

    for module, name in ((fit, "plan_run"), (finish, "fitting"), (fit, "after_training"), (read, "sample")):
        monkeypatch.setattr(module, name, refuse)
    shown = Watched()
    train(display=shown, epochs=1)
    assert not any(note.startswith("plan: ") for note in shown.notes)


def test_backbones_too_slow_to_train_stay_frozen_unless_the_user_said_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = str(write_encoder(tmp_path / "encoder"))
    machine = Machine(preparing=1, step=0.0, answer=0.001)
    machine.run_on(monkeypatch)
    slow = machine.taking(lambda args: 0.1 * len(args[1]), pilot.features_of)  # seconds through the backbone
    for module in (pilot, features):
        monkeypatch.setattr(module, "features_of", slow)
    rows = {"train": film_rows(400), "valid": film_rows(50, start=500), "backbone": encoder}
    frozen, told = Watched(), Watched()
    model = train(display=frozen, time_limit=LIMIT, **rows)
    assert any("the backbones stay as they are" in note for note in frozen.notes)
    assert model.info["training"]["steps"] > 5
    assert model.info["config"]["training"]["freeze_backbones"] is True
    assert machine.now <= LIMIT + 10
    train(display=told, time_limit=LIMIT, settings={"training": {"freeze_backbones": False}}, **rows)
    assert not any("the backbones stay as they are" in note for note in told.notes)


def test_a_resumed_run_keeps_its_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(preparing=1, step=1, answer=0.05)
    machine.run_on(monkeypatch)
    call = {"train": film_rows(400), "valid": film_rows(120, start=500), "epochs": 1e5, "time_limit": LIMIT}

    def stop(info: Any) -> None:
        if info.step == 12:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)

    first = Watched(stop)
    with pytest.raises(Interrupted):
        train(tmp_path / "model", display=first, **call)
    machine.now, machine.step = 0.0, 3.0  # the pilot would find another pace
    second = Watched()
    found = train(tmp_path / "model", display=second, resume=True, **call)
    plans = [[note.partition(";")[2] for note in shown.notes if note.startswith("plan: ")] for shown in (first, second)]
    assert plans[0] == plans[1]
    assert found.info["training"]["steps"] > 12
    assert machine.now <= LIMIT + 10


def test_measuring_paces_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, torch.Tensor] = {}
    measure = limited.measure_paces

    def watched(assembly: Any, *args: Any, **more: Any) -> Any:
        before = {name: tensor.clone() for name, tensor in assembly.model.state_dict().items()}
        random = torch.get_rng_state()
        paces = measure(assembly, *args, **more)
        seen.update({n: t for n, t in assembly.model.state_dict().items() if not torch.equal(t, before[n])})
        assert torch.equal(torch.get_rng_state(), random)
        assert all(parameter.grad is None for parameter in assembly.model.parameters())
        assert not assembly.model.training
        return paces

    monkeypatch.setattr(limited, "measure_paces", watched)
    train(time_limit="20s", epochs=1, settings={"training": {"precision": "fp32"}})
    assert not seen


@pytest.mark.parametrize(
    ("seconds", "chosen_count"), [({4: 2.0, 2: 1.0, 1: 1.5}, 2), ({4: 1.0, 2: 0.9, 1: 0.95}, None)]
)
def test_a_step_is_timed_with_fewer_threads_too(
    monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float], chosen_count: int | None
) -> None:
    machine, count = Machine(preparing=0, step=0, answer=0), 4
    machine.run_on(monkeypatch)

    @contextmanager
    def limited_to(wanted: int | None) -> Iterator[None]:
        nonlocal count
        count = wanted or 4
        yield
        count = 4

    monkeypatch.setattr(pilot, "limited_to", limited_to)
    monkeypatch.setattr(torch, "get_num_threads", lambda: count)

    def step() -> None:
        machine.now += seconds[count]

    assert pilot._threads(step, until=100, slowness=2.0) == chosen_count
    assert pilot._threads(step, until=machine.now + 1, slowness=1.0) is None  # there is no time to find out
    assert pilot._threads(step, until=machine.now + 1, slowness=2.0) == 1
    assert pilot._threads(step, until=machine.now + 100, slowness=5.0) == 1


def test_when_the_limit_is_long_over_the_figures_are_saved_and_the_pictures_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(preparing=0, step=0.1, answer=0.001)
    machine.run_on(monkeypatch)
    train(tmp_path / "drawn", time_limit=LIMIT, epochs=1)
    assert (tmp_path / "drawn" / "reports" / "learning_curve.png").exists()
    machine.now, machine.preparing = 0.0, 200.0
    shown = Watched()
    train(tmp_path / "late", display=shown, time_limit=LIMIT, epochs=1)
    reports = tmp_path / "late" / "reports"
    assert not list(reports.glob("*.png"))
    assert (reports / "valid.json").exists()
    assert (tmp_path / "late" / "README.md").exists()
    assert any(note.startswith("the time limit is over: the pictures") for note in shown.notes)


@pytest.mark.parametrize(("answer", "is_few"), [(0.001, True), (1.0, False)])
def test_few_rows_are_trained_as_such_only_where_there_is_time_to_read_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: float, is_few: bool
) -> None:
    encoder = str(write_encoder(tmp_path / "encoder"))
    machine = Machine(preparing=0, step=0.1, answer=answer)
    machine.run_on(monkeypatch)
    shown = Watched()
    settings = {"training": {"few_rows": True}}
    train(train=film_rows(100), valid=None, backbone=encoder, display=shown, time_limit=LIMIT, settings=settings)
    assert any(note.startswith("few rows: by cross-validation") for note in shown.notes) is is_few
    assert any(note.startswith("plan: ") for note in shown.notes) is not is_few
    assert machine.now <= LIMIT + 10


def test_of_few_rows_no_more_test_rows_are_measured_than_there_is_time_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = str(write_encoder(tmp_path / "encoder"))
    machine = Machine(preparing=0, step=0.1, answer=0.1)
    machine.run_on(monkeypatch)
    shown, settings = Watched(), {"training": {"few_rows": True}}
    model = train(
        train=film_rows(60), valid=None, test=film_rows(1000, start=500), backbone=encoder, display=shown,
        time_limit=LIMIT, settings=settings,
    )  # fmt: skip
    measured = model.info["rows"]["test"]
    assert 20 < measured < 300
    assert any(f"{measured:,} of 1,000 test rows are measured" in note for note in shown.notes)
    assert machine.now <= LIMIT + 10


def test_no_more_unlabelled_rows_are_read_and_answered_than_there_is_time_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = str(write_encoder(tmp_path / "encoder"))
    machine = Machine(preparing=0, step=0.1, answer=0.1)
    machine.run_on(monkeypatch)
    monkeypatch.setattr(read, "READING_SHARE", 0.0)  # the least that is read
    shown, settings = Watched(), {"training": {"few_rows": True}}
    rows = [{"text": row["text"]} for row in film_rows(1000)]
    train(
        train=film_rows(60), valid=None, unlabelled=rows, backbone=encoder, display=shown, time_limit=LIMIT,
        settings=settings,
    )  # fmt: skip
    assert any("of the unlabelled rows the first 200 were read" in note for note in shown.notes)
    assert any(" of 200 unlabelled rows are used" in note for note in shown.notes)
    assert machine.now <= LIMIT + 10


@pytest.mark.slow
def test_rows_that_are_slow_to_encode_are_left_out_when_their_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(preparing=0, step=0.05, answer=0.01)
    machine.run_on(monkeypatch)
    documents = encode.documents_of

    def slower(engine: Any, records: Any, *args: Any) -> Any:  # than the pilot found
        def slow() -> Iterator[Record]:
            for record in records:
                machine.now += 0.5
                yield record

        return documents(engine, slow(), *args)

    monkeypatch.setattr(encode, "documents_of", slower)
    shown = Watched()
    model = train(train=film_rows(900), valid=film_rows(300, start=1000), display=shown, time_limit=LIMIT, epochs=1e5)
    rows = model.info["rows"]
    assert limited.LEAST_TRAINED <= rows["train"] < 200
    assert 8 <= rows["valid"] < 50
    assert any(
        "rows were read in the time planned" in note and f"{rows['train']:,} training" in note for note in shown.notes
    )
    assert machine.now <= LIMIT + 10


def test_a_drawn_sample_is_one_wherever_it_is_cut() -> None:
    rows = [_record(i, "rare" if i in (700, 900) else f"c{i // 400}") for i in range(1000)]
    drawn = chosen(rows, 1000, by="label", seed=3, as_drawn=True)
    assert sorted(r.location.row or 0 for r in drawn) == list(range(1000))
    assert {r.row["label"] for r in drawn[:8]} == {"rare", "c0", "c1", "c2"}
    assert {r.row["label"] for r in drawn[8:40]} == {"c0", "c1", "c2"}


def _record(i: int, label: str, document: str | None = None) -> Record:
    return Record({"label": label}, Location(row=i), document=document)


def test_a_sample_keeps_two_rows_of_each_class_and_the_order() -> None:
    rows = [_record(i, "rare" if i in (700, 900) else f"c{i % 3}") for i in range(1000)]
    part = chosen(rows, 50, by="label", seed=3)
    assert len(part) == 50
    assert [r.location.row for r in part] == sorted(r.location.row or 0 for r in part)
    assert sum(r.row["label"] == "rare" for r in part) == 2
    assert part == chosen(rows, 50, by="label", seed=3)
    assert part != chosen(rows, 50, by="label", seed=4)
    assert chosen(rows, 1000, by="label", seed=3) == rows


def test_a_sample_takes_documents_whole() -> None:
    rows = [_record(i, "a", document=f"d{i // 7}") for i in range(700)]
    part = chosen(rows, 100, by=None, seed=0)
    assert 100 <= len(part) < 107
    found = {r.document for r in part}
    assert len(part) == sum(r.document in found for r in rows)


def test_of_many_rows_a_sample_is_compared_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(preparing=0, step=0.001, answer=0.0001)
    machine.run_on(monkeypatch)
    monkeypatch.setattr(read, "split_records", machine.taking(lambda args: 0.001 * len(args[0]), read.split_records))
    shown = Watched()
    train(train=film_rows(5000), valid=VALID, display=shown, time_limit=LIMIT, epochs=0.01)
    note = next(note for note in shown.notes if note.startswith("time limit: "))
    assert note == "time limit: a sample of 4,000 of 5,000 training rows is used"
    assert len(TRAIN) < limited._PILOT
