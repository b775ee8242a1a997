"""The runner over PyTorch: side by side, in order, and without a trace in the process around it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polydetr.core.predictions import RowResult
from polydetr.engine.engine import Engine
from polydetr.errors import PolydetrError
from polydetr.model.runner import TorchRunner
from polydetr.nn.batch import Batch
from tiny_models import answers, encode_all, make_engine, plain_answers


@dataclass(frozen=True)
class Case:
    """Eight rows, what is predicted, and what is read."""

    rows: list[dict[str, Any]]
    target: dict[str, str]
    inputs: dict[str, str]


def _image(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)


NAMES = ["Anna", "Bob", "Carla", "Dan", "Eva", "Finn", "Greta", "Hugo"]
CASES = {
    "text": Case(
        [{"text": f"{n} met {NAMES[i - 1]} {'again ' * i}in Oslo", "label": "ab"[i % 2]} for i, n in enumerate(NAMES)],
        {"label": "classification"},
        {"text": "text"},
    ),
    "table": Case(
        [{"size": float(i), "port": "Oslo" if i % 2 else "Turin", "price": 3.0 * i} for i in range(8)],
        {"price": "regression"},
        {"size": "number", "port": "category"},
    ),
    "image": Case(
        [{"photo": _image(i), "label": "ab"[i % 2]} for i in range(8)], {"label": "classification"}, {"photo": "image"}
    ),
}
SETTINGS = {"image": {"size": 16, "patch_size": 4}}


def runner_of(engine: Engine, *, threads: int, batch_tokens: int = 4) -> TorchRunner:
    """With several batches for a few rows."""
    runner = TorchRunner(engine.runner.model, batch_tokens=batch_tokens)  # type: ignore[attr-defined]
    runner.threads = threads
    return runner


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture
def engine(case: Case) -> Engine:
    return make_engine(case.rows, case.target, inputs=case.inputs, settings=SETTINGS)


def test_answers_do_not_depend_on_the_threads(engine: Engine, case: Case) -> None:
    found, numbers = [], []
    for threads in (1, 2, 3):
        seen: list[tuple[int, ...]] = []

        def listen(outputs: Any, batch: Batch, seen: list[tuple[int, ...]] = seen) -> None:
            seen.append(batch.example_ids)

        runner = runner_of(engine, threads=threads).listened_by(listen)
        found.append(plain_answers(engine, answers(engine.with_runner(runner), case.rows)))
        numbers.append(seen)
    assert len(numbers[0]) > 2
    assert numbers[0] == numbers[1] == numbers[2]  # the listener meets the batches in order
    assert found[0] == found[1] == found[2]


def test_the_number_of_threads_of_the_process_is_never_set(
    engine: Engine, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(count: int) -> None:
        raise AssertionError(f"set_num_threads({count})")

    monkeypatch.setattr(torch, "set_num_threads", refuse)
    before = torch.get_num_threads()
    runner = runner_of(engine, threads=2)
    list(engine.with_runner(runner).run([result.record for result in answers(engine, case.rows)]))
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("policy", "own_thread"), [("PASSIVE", False), ("", True)])
def test_where_threads_sleep_one_row_is_computed_by_one_that_is_awake(
    engine: Engine, case: Case, policy: str, own_thread: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    runner = runner_of(engine, threads=2)
    threads: list[str] = []
    runner.model.register_forward_pre_hook(lambda *_: threads.append(threading.current_thread().name))
    plain_answers(engine, answers(engine.with_runner(runner), case.rows[:1]))
    assert [name == threading.current_thread().name for name in threads] == [own_thread]


def test_eight_threads_at_once_get_the_answers_that_they_get_alone(engine: Engine, case: Case) -> None:
    shared = engine.with_runner(runner_of(engine, threads=2))
    alone = plain_answers(engine, answers(shared, case.rows))

    def ask(_: int) -> list[dict[str, Any]]:
        return plain_answers(engine, answers(shared, case.rows))

    with ThreadPoolExecutor(8) as pool:
        assert all(found == alone for found in pool.map(ask, range(24)))


def test_threads_begun_during_a_request_keep_their_own_count(engine: Engine, case: Case) -> None:
    before, counts = torch.get_num_threads(), []
    results: list[RowResult] = []

    def listen(outputs: Any, batch: Batch) -> None:
        thread = threading.Thread(target=lambda: counts.append(torch.get_num_threads()))
        thread.start()
        thread.join()

    runner = runner_of(engine, threads=2).listened_by(listen)
    results += answers(engine.with_runner(runner), case.rows)
    assert len(counts) > 2
    assert set(counts) == {before}


def test_an_error_in_one_batch_ends_the_call_and_the_next_one_works(engine: Engine, case: Case) -> None:
    runner = runner_of(engine, threads=2)
    examples = encode_all(engine, case.rows, with_targets=False)
    with pytest.raises(KeyError):
        runner.run(examples, list(engine.tasks), seed=0, numbers=_Faulty(len(examples)))
    assert len(runner.run(examples, list(engine.tasks), seed=0, numbers=range(len(examples)))) == len(examples)


class _Faulty:
    """Numbers of which one is missing."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        if index == self.count - 1:
            raise KeyError(index)
        return index


FORKED = """
import os, signal, sys, torch
sys.path.insert(0, sys.argv[1])
from test_runner import CASES, SETTINGS, runner_of
from tiny_models import answers, make_engine, plain_answers
torch.set_num_threads(2)
case = CASES["text"]
engine = make_engine(case.rows, case.target, inputs=case.inputs, settings=SETTINGS)
shared = engine.with_runner(runner_of(engine, threads=2))
a = torch.rand(600, 600)
a @ a  # the threads of OpenMP are there
expected = plain_answers(engine, answers(shared, case.rows))
child = os.fork()
if child == 0:
    signal.alarm(30)  # rather than wait for ever
    a @ a
    same = plain_answers(engine, answers(shared, case.rows)) == expected
    os._exit(0 if same and torch.get_num_threads() == 1 else 3)
assert os.waitpid(child, 0)[1] == 0
assert plain_answers(engine, answers(shared, case.rows)) == expected
assert torch.get_num_threads() == 2
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_answers_as_its_parent() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    tests = Path(__file__).parent
    paths = os.pathsep.join([str(tests.parent), environment.get("PYTHONPATH", "")])
    call = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED, str(tests)]
    done = subprocess.run(
        call, env={**environment, "PYTHONPATH": paths}, timeout=60, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_model_on_a_gpu_says_that_a_forked_process_cannot_have_it(
    engine: Engine, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = runner_of(engine, threads=1)
    monkeypatch.setattr(runner, "_process", -1)
    monkeypatch.setattr(runner, "model", _OnGpu())
    with pytest.raises(PolydetrError, match=r"forked after it was loaded.*spawn"):
        answers(engine.with_runner(runner), case.rows)


class _OnGpu:
    """A model as far as its device."""

    def parameters(self) -> Any:
        return iter([self])

    @property
    def device(self) -> torch.device:
        return torch.device("cuda")
