"""Two processes train one model: the first alone writes, and what it writes is whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import VALID, train

from polydetr import Predictor
from polydetr.errors import ConfigError
from polydetr.training.devices import open_devices

TWO_PROCESSES = """
import json, os, signal, sys
from pathlib import Path
folder, tests = Path(sys.argv[1]), sys.argv[2]
sys.path.insert(0, tests)
from polydetr.errors import Interrupted
from polydetr.training import loop
from tiny_runs import Watched, train

rank = int(os.environ.get("LOCAL_RANK", 0))
loop.CHECKPOINT_SECONDS = 0.0
settings = {"training": {"devices": 2, "evaluations_per_epoch": 2, "patience": 3}}
said, wrote = {}, []  # what this process found; the files that it put in their places
replace = os.replace
os.replace = lambda source, target: (wrote.append(str(target)), replace(source, target))[1]

def run(name, **given):
    shown = Watched()
    predictor = train(folder / name, display=shown, settings=settings, epochs=3, **given)
    said[name] = [shown.losses, predictor.metrics, predictor.predict(["a lovely scene"])]

run("whole")
step = loop.Loop._step
def interrupted_in_one(self, *given, **more):
    if rank == 1 and self.state.step == 4:
        os.kill(os.getpid(), signal.SIGINT)
    return step(self, *given, **more)
loop.Loop._step = interrupted_in_one
try:
    run("resumed")
except Interrupted as error:
    said["interrupted"] = [str(error), (folder / "resumed").exists()]
loop.Loop._step = step
run("resumed", resume=True)
(folder / "said" / f"{rank}.json").write_text(json.dumps({**said, "wrote": wrote}))
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYDETR_CACHE", str(tmp_path / "cache"))


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.slow
def test_two_processes_leave_what_one_leaves(tmp_path):
    script, said = tmp_path / "script.py", tmp_path / "said"
    script.write_text(TWO_PROCESSES)
    said.mkdir()
    call = [sys.executable, str(script), str(tmp_path), str(Path(__file__).parent)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MASTER_")} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(call, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    by_rank = [json.loads((said / f"{rank}.json").read_text()) for rank in (0, 1)]

    # Both end with one model; the first alone reports and writes.
    assert by_rank[0].keys() == by_rank[1].keys() == {"whole", "interrupted", "resumed", "wrote"}
    for name in ("whole", "resumed"):
        assert by_rank[0][name][1:] == by_rank[1][name][1:]
        assert by_rank[0][name][0]
        assert by_rank[1][name][0] == []
    assert by_rank[0]["wrote"]
    # Each process encodes the measured rows for itself, into a file that nobody else can open.
    assert not [path for path in by_rank[1]["wrote"] if not Path(path).name.startswith("measured-")]

    # The same files as from one device, nothing beside them, and answers as good.
    alone = train(tmp_path / "alone", settings={"training": {"evaluations_per_epoch": 2}}, epochs=6)
    assert files_of(tmp_path / "whole") == files_of(tmp_path / "alone")
    beside = {path.name for path in tmp_path.iterdir()}
    assert beside == {"script.py", "said", "cache", "whole", "resumed", "alone"}
    loaded = Predictor.load(tmp_path / "whole")
    assert loaded.evaluate(VALID)["label"] == pytest.approx(by_rank[0]["whole"][1]["valid"]["label"], abs=1e-6)
    assert loaded.evaluate(VALID)["label"]["accuracy"] == alone.evaluate(VALID)["label"]["accuracy"] == 1.0
    assert loaded.info["training"]["steps"] == len(by_rank[0]["whole"][0])

    # Ctrl-C in one of them stops both after the same step, and the run goes on to the same model.
    message, folder_was_there = by_rank[0]["interrupted"]
    assert by_rank[1]["interrupted"] == [message, folder_was_there]
    assert "after 5 steps; the state of step 5 is kept" in message
    assert not folder_was_there
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "resumed"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_processes_started_in_another_number_are_refused(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match=r"devices = 2, and this process is one of 3 .*devices: 3"):
        open_devices(2)
    with pytest.raises(ConfigError, match=r"devices = 1, and this process is one of 3"):
        train()


def test_more_gpus_than_there_are_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match=r"devices = 3: this machine has 2"):
        open_devices(3)


def test_one_device_is_used_unless_more_are_asked_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    assert open_devices(1).count == 1
