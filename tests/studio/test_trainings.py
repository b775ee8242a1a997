"""Trainings as processes of their own: one at a time, ended by Ctrl-C, every value in one argument."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from film_models import plain_rows
from polydetr.core.files import json_text
from polydetr.errors import InputError
from polydetr.inference.folder import LAST, MANIFEST
from polydetr.inference.runs import list_runs, running_runs
from polydetr.studio.looked_at import look_at
from polydetr.studio.run_words import seconds_left, share_done
from polydetr.studio.trainings import Started, Trainings, Wanted

unix = pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent to a process of its own on Unix alone")


def rows_in(folder: Path, count: int = 200) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{json_text(row)}\n" for row in plain_rows(count)), encoding="utf-8")
    return path


def test_every_value_stands_in_one_argument_with_its_option(tmp_path: Path) -> None:
    wanted = Wanted("x", Path("r.csv"), ["--out", "a b; rm -rf"], backbone="none", preset="fast", minutes=1.5)
    words = wanted.arguments(tmp_path / "out", tmp_path / "r.csv")
    assert words[0] == "train"
    assert all(word.startswith("--") and "=" in word for word in words[1:])
    assert "--target=--out" in words
    assert "--target=a b; rm -rf" in words
    assert "--time-limit=90s" in words


def test_names_are_made_safe_and_free(tmp_path: Path) -> None:
    trainings = Trainings(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine-2.checkpoint").mkdir()
    assert trainings.free_name("mine") == "mine-3"
    assert trainings.free_name("../../etc") == "______etc"
    assert trainings.free_name("<script>") == "_script_"
    assert trainings.free_name("银行") == "银行"


def test_nothing_to_learn_is_refused_and_the_file_stays(tmp_path: Path) -> None:
    file = rows_in(tmp_path / ".incoming-a")
    with pytest.raises(InputError, match="no column"):
        asyncio.run(Trainings(tmp_path).start(Wanted("x", file, [])))
    assert file.exists()


def test_of_two_that_are_started_at_once_one_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Any] = []

    async def process(*words: str, **_: Any) -> Any:
        begun.append(words)
        return SimpleNamespace(wait=asyncio.Event().wait)

    async def scene() -> list[Any]:
        trainings = Trainings(tmp_path)
        wanted = [Wanted(name, rows_in(tmp_path / f".incoming-{name}", 3), ["label"]) for name in ("a", "b")]
        found = await asyncio.gather(*map(trainings.start, wanted), return_exceptions=True)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        return found

    monkeypatch.setattr(asyncio, "create_subprocess_exec", process)
    first, second = asyncio.run(scene())
    assert isinstance(first, Started)
    assert isinstance(second, InputError)
    assert len(begun) == 1


@unix
def test_a_training_runs_is_seen_and_keeps_its_state_when_it_is_stopped(tmp_path: Path) -> None:
    ended: list[Started] = []

    async def scene() -> None:
        trainings = Trainings(tmp_path, ended=ended.append)
        file = rows_in(tmp_path / ".incoming-a", 2000)
        wanted = Wanted("first", file, ["label"], backbone="none", preset="best")
        started = await trainings.start(wanted)
        assert not file.exists()
        assert (tmp_path / "first.data" / "rows.jsonl").exists()
        with pytest.raises(InputError, match="under way"):
            await trainings.start(Wanted("second", file, ["label"]))
        until = time.monotonic() + 120
        while time.monotonic() < until:
            await asyncio.sleep(0.2)
            runs = running_runs(tmp_path)
            if runs and runs[0].progress.get("step", 0) > 2 and runs[0].history:
                break
        assert trainings.running is started, started.tail()
        assert [run.name for run in runs] == ["first"]
        assert 0 < share_done(runs[0].progress) < 1
        assert (seconds_left(runs[0].progress) or 0) > 0
        assert runs[0].curve
        await trainings.close()
        assert started.code not in (None, 0)
        with pytest.raises(InputError, match="under way"):
            await trainings.start(Wanted("third", file, ["label"]))

    asyncio.run(scene())
    assert [one.name for one in ended] == ["first"]
    assert (tmp_path / "first.checkpoint" / LAST).exists()
    assert not (tmp_path / "first" / MANIFEST).exists()
    assert [(run.name, run.state) for run in list_runs(tmp_path)] == [("first", "stopped")]
    assert running_runs(tmp_path) == []
    assert "--resume" in ended[0].tail()


@unix
def test_one_that_does_not_end_by_ctrl_c_is_killed_with_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubborn = (
        "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    )
    monkeypatch.setattr("polydetr.studio.trainings.GRACE_S", 0.3)

    async def scene() -> int | None:
        trainings = Trainings(tmp_path)
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", stubborn, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        await process.stdout.readline()
        trainings.last = Started("x", tmp_path / "x", tmp_path / "log", process)
        trainings._waiting = asyncio.get_running_loop().create_task(trainings._wait(trainings.last))
        await trainings.close()
        return trainings.last.code

    assert asyncio.run(scene()) == -signal.SIGKILL


def test_what_inspect_says_is_data(tmp_path: Path) -> None:
    found = look_at(rows_in(tmp_path))
    assert found.rows == 200
    assert found.targets == ["label"]
    assert {one.name: one.kind for one in found.columns} == {"text": "text", "label": "→ classification"}
    assert "good (100)" in found.labels["label"]
    assert any("repeat the input" in line for line in found.findings)


@pytest.mark.parametrize(
    ("name", "content"), [("a.csv", b""), ("a.csv", b"\x00\x01\x02" * 50), ("a.yaml", b"train: x")]
)
def test_a_file_that_is_none_is_refused_in_the_readers_words(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError):
        look_at(path)
