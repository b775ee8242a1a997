"""What a fleet survives: processes that end, models that are replaced, asked in the shadow, taken back, or vanish, more
requests than it can answer, and its own end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from fleet_cases import SAVED, Loop, changed, close_to, copied, profiled, rows_of

from polydetr.errors import InputError, ModelFolderError
from polydetr.serving.contract import Ask, Busy, TooLate, Unavailable, UnknownModel
from polydetr.serving.fleet import ModelFleet

ROWS = rows_of("text")


class Events:
    """What a fleet told of itself."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, event: str, about: Mapping[str, Any]) -> None:
        self.told.append((event, dict(about)))

    def __contains__(self, event: str) -> bool:
        return any(name == event for name, _ in self.told)


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of models: a, b (the same), turned (which often answers otherwise), table, and what is none."""
    root = tmp_path_factory.mktemp("models")
    for name in ("a", "b"):
        copied("text", root / name)
    profiled(root / "a", ROWS * 30)
    changed(copied("text", root / "turned"), turned=["heads."])
    copied("table", root / "table")
    (root / "empty").mkdir()
    (copied("text", root / "broken") / "model.safetensors").write_bytes(b"cut")
    (root / "out").symlink_to(SAVED / "text" / "model")
    return root


@pytest.fixture(scope="module")
def events() -> Events:
    return Events()


@pytest.fixture(scope="module")
def fleet(loop: Loop, root: Path, events: Events) -> Iterator[ModelFleet]:
    fleet = loop(ModelFleet.start({"text": root / "a"}, root=root, queue_rows=200, notify=events))
    yield fleet
    loop(fleet.stop(grace_s=5))


def pid_of(fleet: ModelFleet) -> int:
    return fleet._dispatcher.pids[0]


def answered(loop: Loop, fleet: ModelFleet, rows: list[dict[str, Any]] = ROWS) -> list[dict[str, Any]]:
    return loop(fleet.answer("text", rows, Ask(), timeout_s=60))


class Load:
    """Requests that go on in the background, and what became of them."""

    def __init__(self, fleet: ModelFleet) -> None:
        self._fleet, self._ending = fleet, False
        self.answered, self.failed = 0, list[Exception]()

    @contextlib.asynccontextmanager
    async def going_on(self, *, clients: int = 4) -> Any:
        tasks = [asyncio.create_task(self._ask(number)) for number in range(clients)]
        try:
            yield
        finally:
            self._ending = True
            await asyncio.gather(*tasks)

    async def _ask(self, number: int) -> None:
        while not self._ending:
            try:
                rows = ROWS[number : number + 3]
                replies = await self._fleet.answer("text", rows, Ask(), timeout_s=60)
                assert [reply["row"] for reply in replies] == [1, 2, 3]
                self.answered += 1
            except Exception as error:
                self.failed.append(error)


def test_models_are_replaced_under_load_without_one_failed_request(
    loop: Loop, fleet: ModelFleet, root: Path, events: Events
) -> None:
    before = answered(loop, fleet)
    first = fleet.models()["text"].version

    async def run() -> tuple[Load, list[int]]:
        load, files = Load(fleet), []
        async with load.going_on():
            for number in range(6):
                info = await fleet.replace("text", ("b", "turned")[number % 2])
                files.append(len(os.listdir(f"/proc/{pid_of(fleet)}/fd")))
                assert info.previous is not None
                assert info.previous != info.version
        return load, files

    load, files = loop(run())
    assert load.answered > 0
    assert load.failed == []
    assert len(set(files)) == 1
    assert "model_replaced" in events
    assert not close_to(answered(loop, fleet), before)
    info = loop(fleet.roll_back("text"))
    assert info.previous is None
    assert close_to(answered(loop, fleet), before)
    with pytest.raises(InputError, match="no earlier version"):
        loop(fleet.roll_back("text"))
    info = loop(fleet.replace("text", "a"))
    assert info.version == first


def test_only_the_model_that_answers_and_the_one_before_it_stay_in_memory(loop: Loop, fleet: ModelFleet) -> None:
    for name in ("b", "turned", "b", "a"):
        loop(fleet.replace("text", name))
    answered(loop, fleet)
    assert len(fleet._dispatcher.lanes[0].process.loaded) == 2


@pytest.mark.parametrize(
    ("folder", "error", "said"),
    [
        ("absent", InputError, "no folder 'absent'"),
        ("", InputError, "no folder"),
        (".", InputError, "no folder"),
        ("../models/a", InputError, "no folder"),
        ("a/../../x", InputError, "no folder"),
        ("/etc", InputError, "no folder"),
        ("a\0b", InputError, "no folder"),
        ("x" * 5000, InputError, "no folder"),
        ("out", InputError, "no folder"),
        ("empty", ModelFolderError, "'empty' is not a polydetr model"),
        ("broken", ModelFolderError, "model.safetensors"),
        ("table", ModelFolderError, "does not replace 'text'"),
    ],
)
def test_what_does_not_replace_a_model_is_refused(
    loop: Loop, fleet: ModelFleet, root: Path, folder: str, error: type[Exception], said: str
) -> None:
    before = fleet.models()["text"]
    with pytest.raises(error, match=re.escape(said)) as refused:
        loop(fleet.replace("text", folder))
    assert str(root) not in str(refused.value)
    assert fleet.models()["text"] == before
    assert "prediction" in answered(loop, fleet)[0]
    with pytest.raises(UnknownModel):
        loop(fleet.replace("absent", "a"))


def test_a_choice_of_optimize_that_does_not_hold_is_told(
    loop: Loop, fleet: ModelFleet, events: Events, root: Path
) -> None:
    (root / "b" / "optimized.json").write_text("{")
    loop(fleet.replace("text", "b"))
    loop(fleet.roll_back("text"))
    (root / "b" / "optimized.json").unlink()
    (about,) = [about for event, about in events.told if event == "model_warned"]
    assert about["process"] == 0
    assert re.search(r"b/optimized.json' cannot be read: .*polydetr optimize MODEL", about["warning"])


def test_a_shadow_is_asked_in_idle_times_and_its_differences_are_counted(
    loop: Loop, fleet: ModelFleet, events: Events
) -> None:
    before = answered(loop, fleet)
    info = loop(fleet.replace("text", "turned", shadow=True))
    assert info.shadow not in (None, info.version)
    assert close_to(answered(loop, fleet, [*ROWS, {"text": 3}])[: len(ROWS)], before)

    async def until_compared() -> str:
        for _ in range(200):
            await asyncio.sleep(0.02)
            if 'shadow_rows_total{model="text",result="different",target="intent"}' in fleet.measurements():
                break
        return fleet.measurements()

    found = loop(until_compared())
    counts = {
        (result, target): float(count)
        for result, target, count in re.findall(
            r'shadow_rows_total{model="text",result="(\w+)",target="(\w*)"} (\S+)', found
        )
    }
    assert counts["different", "intent"] > 0
    assert counts["different", "intent"] + counts["same", "intent"] == len(ROWS)
    assert counts["same", "error"] == 1
    differs = [about for event, about in events.told if event == "shadow_differs"]
    assert differs
    assert not any(row["text"] in str(differs) for row in ROWS)
    assert loop(fleet.roll_back("text")).shadow is None
    assert close_to(answered(loop, fleet), before)


def test_rows_unlike_the_training_rows_show_in_the_figures(loop: Loop, fleet: ModelFleet) -> None:
    loop(fleet.replace("text", "a"))

    def drift() -> float:
        (found,) = re.findall(r'polydetr_drift_psi{column="text",model="text"} (\S+)', fleet.measurements())
        return float(found)

    for _ in range(40):
        answered(loop, fleet)
    alike = drift()
    for _ in range(200):
        answered(loop, fleet, [{"text": row["text"] * 5} for row in ROWS])
    print(f"PSI of like rows {alike:.3f}, of five times as long ones {drift():.3f}")
    assert alike < 0.1
    assert drift() > 0.25


def test_a_model_whose_folder_vanishes_goes_on_answering(loop: Loop, fleet: ModelFleet, root: Path) -> None:
    copied("text", root / "gone")
    loop(fleet.replace("text", "gone"))
    shutil.rmtree(root / "gone")
    assert "prediction" in answered(loop, fleet)[0]
    with pytest.raises(InputError):
        loop(fleet.replace("text", "gone"))
    loop(fleet.roll_back("text"))
    assert "prediction" in answered(loop, fleet)[0]


def test_a_process_that_is_killed_is_started_again_and_no_request_fails(
    loop: Loop, fleet: ModelFleet, events: Events
) -> None:
    expected = answered(loop, fleet)

    async def run() -> tuple[Load, float]:
        load = Load(fleet)
        async with load.going_on():
            await asyncio.sleep(0.2)
            killed = time.monotonic()
            os.kill(pid_of(fleet), signal.SIGKILL)
            await asyncio.sleep(0.1)
            assert fleet.models()["text"].state == "loading"
            await fleet.answer("text", ROWS, Ask(), timeout_s=60)
            took = time.monotonic() - killed
        return load, took

    load, took = loop(run())
    print(f"ready again after {took:.2f} s, with torch")
    assert load.failed == []
    assert load.answered > 0
    assert {"process_ended", "process_ready"} <= {event for event, _ in events.told}
    assert fleet.models()["text"].state == "ready"
    assert close_to(answered(loop, fleet), expected)


def test_a_full_queue_refuses_at_once_and_says_when_to_come_again(loop: Loop, fleet: ModelFleet) -> None:
    async def run() -> list[Any]:
        each = [fleet.answer("text", ROWS, Ask(), timeout_s=60) for _ in range(60)]
        return await asyncio.gather(*each, return_exceptions=True)

    replies = loop(run())
    refused = [reply for reply in replies if isinstance(reply, Busy)]
    assert len(refused) == 60 - 200 // len(ROWS)
    assert all(1 <= error.retry_after <= 60 for error in refused)
    assert all(len(reply) == len(ROWS) for reply in replies if not isinstance(reply, Busy))
    assert len(loop(fleet.answer("text", ROWS * 60, Ask(), timeout_s=60))) == 60 * len(ROWS)  # alone, it is taken


def test_signals_of_a_terminal_do_not_reach_the_processes(loop: Loop, fleet: ModelFleet) -> None:
    pid = pid_of(fleet)
    assert os.getpgid(pid) != os.getpgid(0)
    for one in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, one)
    assert "prediction" in answered(loop, fleet)[0]
    assert pid_of(fleet) == pid


def test_the_end_answers_what_was_accepted_and_leaves_nothing(loop: Loop, root: Path, tmp_path: Path) -> None:
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))

    async def run() -> tuple[list[int], list[Any]]:
        fleet = await ModelFleet.start({"text": root / "a"}, workers=2)
        pids = fleet._dispatcher.pids
        each = [asyncio.create_task(fleet.answer("text", ROWS * 3, Ask(), timeout_s=60)) for _ in range(10)]
        await asyncio.sleep(0.01)
        await fleet.stop(grace_s=60)
        with pytest.raises(Unavailable, match="ending"):
            await fleet.answer("text", ROWS, Ask(), timeout_s=1)
        return pids, await asyncio.gather(*each)

    pids, replies = loop(run())
    assert len(pids) == 2
    assert [len(reply) for reply in replies] == [3 * len(ROWS)] * 10
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert len(os.listdir("/proc/self/fd")) == files
    assert threading.active_count() <= threads + 1


FRONT = """
import asyncio, sys
from polydetr.serving.fleet import ModelFleet

async def main():
    fleet = await ModelFleet.start({"text": sys.argv[1]})
    print(*fleet._dispatcher.pids, "torch" in sys.modules, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_processes_end_when_the_front_is_killed(root: Path) -> None:
    """And the front never imports torch."""
    with subprocess.Popen([sys.executable, "-c", FRONT, root / "a"], stdout=subprocess.PIPE, text=True) as front:
        assert front.stdout is not None
        pid, has_torch = front.stdout.readline().split()
        front.kill()
        front.wait()
    assert has_torch == "False"
    until = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and "Z (zombie)" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_fleet_of_a_folder_that_is_no_model_does_not_start(loop: Loop, tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError):
        loop(ModelFleet.start({"text": tmp_path}))


def test_what_the_time_is_over_for_is_dropped_before_it_is_computed(loop: Loop, fleet: ModelFleet) -> None:
    async def run() -> None:
        os.kill(pid_of(fleet), signal.SIGSTOP)
        asked = asyncio.create_task(fleet.answer("text", ROWS, Ask(), timeout_s=0.2))
        with pytest.raises(TooLate):
            await asked
        os.kill(pid_of(fleet), signal.SIGCONT)

    turns = re.compile(r"polydetr_turn_rows_sum (\S+)")
    before = turns.findall(fleet.measurements())
    loop(run())
    answered(loop, fleet, ROWS[:1])
    assert float(turns.findall(fleet.measurements())[0]) == float(before[0]) + 1
