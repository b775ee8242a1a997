"""A run that was killed or stopped goes on as if nothing had happened: same losses, same weights, to the bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tiny_runs import TRAIN, Watched, train

from polydetr.errors import Interrupted, ModelFolderError, OutputError, SaveError
from polydetr.training.checkpoint import LAST, Checkpoints, Progress

EMA = {"training": {"ema_decay": 0.9, "evaluations_per_epoch": 2, "precision": "fp32"}}

KILLED = f"""
import os, signal, sys
sys.path.insert(0, sys.argv[2])
import polydetr.training.loop as loop
from pathlib import Path
from tiny_runs import Watched, train
loop.CHECKPOINT_SECONDS = 0.0
def at_step(info):
    if info.step == 6:
        os.kill(os.getpid(), signal.SIGKILL)
train(Path(sys.argv[1]), display=Watched(at_step), settings={EMA!r})
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYDETR_CACHE", str(tmp_path / "cache"))


def weights_of(out: Path) -> bytes:
    return (out / "model.safetensors").read_bytes()


def stop_at(step: int, times: int = 1):
    def at_step(info):
        if info.step == step:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)

    return Watched(at_step)


def without_clock(history):
    return [{k: v for k, v in entry.items() if k != "seconds"} for entry in history]


def test_a_killed_run_resumes_to_the_same_model(tmp_path):
    whole = Watched()
    expected = train(tmp_path / "whole", display=whole, settings=EMA)
    call = [sys.executable, "-c", KILLED, str(tmp_path / "killed"), str(Path(__file__).parent)]
    assert subprocess.run(call, check=False, capture_output=True).returncode == -signal.SIGKILL
    kept = Checkpoints(tmp_path / "killed.checkpoint").header()["progress"]
    assert 0 < kept["step"] < len(whole.losses)
    assert kept["batch"], "the kill was to fall inside an epoch"

    rest = Watched()
    found = train(tmp_path / "killed", display=rest, settings=EMA, resume=True)

    assert rest.losses == whole.losses[kept["step"] :]
    assert without_clock(found.info["history"]) == without_clock(expected.info["history"])
    assert weights_of(tmp_path / "killed") == weights_of(tmp_path / "whole")
    assert not (tmp_path / "killed.checkpoint").exists()


def test_ctrl_c_keeps_the_state_and_says_how_to_go_on(tmp_path):
    whole, stopped, rest = Watched(), stop_at(4), Watched()
    train(tmp_path / "whole", display=whole)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match=r"after 4 steps; the state of step 4 is kept in '.*out\.check.*--resume"):
        train(tmp_path / "out", display=stopped)
    assert signal.getsignal(signal.SIGINT) is before
    assert not (tmp_path / "out").exists()

    train(tmp_path / "out", display=rest, resume=True)

    assert stopped.losses + rest.losses == whole.losses
    assert weights_of(tmp_path / "out") == weights_of(tmp_path / "whole")


def test_a_second_ctrl_c_does_not_wait(tmp_path):
    with pytest.raises(Interrupted, match="before the first checkpoint; nothing is kept"):
        train(tmp_path / "out", display=stop_at(3, times=2))


@pytest.mark.parametrize(("where", "kept"), [("read.read_splits", False), ("finish.calibrate", True)])
def test_ctrl_c_before_and_after_the_steps_says_whether_something_is_kept(tmp_path, monkeypatch, where, kept):
    def stopped(*given, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"polydetr.training.{where}", stopped)
    with pytest.raises(Interrupted, match=r"^stopped\.") as caught:
        train(tmp_path / "out")
    assert ("What was trained is kept" in str(caught.value)) == kept == (tmp_path / "out.checkpoint").exists()


def test_without_out_a_run_resumes_from_the_cache():
    stopped, rest, whole = stop_at(3), Watched(), Watched()
    with pytest.raises(Interrupted):
        train(display=stopped)
    train(display=rest, resume=True)
    train(display=whole)
    assert stopped.losses + rest.losses == whole.losses


def test_resuming_another_run_is_refused(tmp_path):
    with pytest.raises(Interrupted):
        train(tmp_path / "out", display=stop_at(3))
    with pytest.raises(ModelFolderError, match=r"another configuration, other data.*very same call"):
        train(tmp_path / "out", resume=True, seed=1)
    with pytest.raises(ModelFolderError, match="other data"):
        train(tmp_path / "out", resume=True, train=TRAIN[:-1])


def test_to_resume_where_there_is_no_checkpoint_begins_anew_and_says_so(tmp_path):
    fresh = Watched()
    train(tmp_path / "out", display=fresh, resume=True, epochs=0.1)
    assert any("there is no checkpoint" in note for note in fresh.notes)


def test_an_interrupted_run_is_not_replaced_unless_told(tmp_path):
    with pytest.raises(Interrupted):
        train(tmp_path / "out", display=stop_at(2))
    with pytest.raises(OutputError, match=r"an interrupted run left its state.*--resume.*--overwrite"):
        train(tmp_path / "out", epochs=0.1)
    again = Watched()
    train(tmp_path / "out", display=again, epochs=0.1, overwrite=True)
    assert any("this run starts anew and replaces it" in note for note in again.notes)


def test_the_last_state_is_written_once_a_minute_and_at_the_end(monkeypatch):
    written: list[int] = []
    real = Checkpoints.save_last

    def counted(self, progress: Progress, *rest, **more):
        written.append(progress.step)
        real(self, progress, *rest, **more)

    monkeypatch.setattr(Checkpoints, "save_last", counted)
    shown = Watched()
    train(display=shown, settings=EMA)
    assert len(shown.entries) == 4
    assert written == [len(shown.losses)]


def test_frozen_parameters_are_not_written_and_a_damaged_checkpoint_is_refused(tmp_path):
    from tiny_runs import write_encoder

    backbone = str(write_encoder(tmp_path / "encoder"))
    with pytest.raises(Interrupted):
        train(tmp_path / "out", display=stop_at(2), backbone=backbone)
    last = tmp_path / "out.checkpoint" / LAST
    names = set(load_file(last))
    assert any("backbone.layers.0" in name for name in names)
    assert not any("backbone.embeddings" in name for name in names)  # frozen by default
    last.write_bytes(last.read_bytes()[:-10])
    with pytest.raises(ModelFolderError, match=r"last\.safetensors' cannot be read.*without --resume"):
        train(tmp_path / "out", backbone=backbone, resume=True)


def test_a_failed_write_keeps_the_checkpoint_before_it(tmp_path, monkeypatch):
    import torch

    checkpoints = Checkpoints(tmp_path / "run")
    checkpoints.save_last(Progress(step=1), {"w": torch.ones(3)}, {}, header={"fingerprint": "a"})

    def full(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("polydetr.training.checkpoint.save_file", full)
    with pytest.raises(SaveError, match=r"No space left on device.*checkpoint before it is kept"):
        checkpoints.save_last(Progress(step=2), {"w": torch.zeros(3)}, {}, header={"fingerprint": "a"})
    progress, model, _ = checkpoints.load_last("a")
    assert progress.step == 1
    assert model["w"].tolist() == [1, 1, 1]
    assert [p.name for p in (tmp_path / "run").iterdir()] == [LAST]


def test_the_best_of_one_run_never_meets_the_last_of_another(tmp_path):
    import torch

    first = Checkpoints(tmp_path / "run")
    first.save_last(Progress(step=1), {}, {}, header={"fingerprint": "a"})
    second = Checkpoints(tmp_path / "run")
    second.save_best({"w": torch.ones(2)})
    assert not second.exists()


def test_a_folder_that_cannot_be_written_is_known_before_the_training(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    shown = Watched()
    with pytest.raises(SaveError, match=r"cannot write to .*file.: Not a directory\. Name another place"):
        train(tmp_path / "file" / "out", display=shown)
    assert not shown.losses


def test_only_its_own_files_are_ever_removed(tmp_path):
    import torch

    (tmp_path / "run").mkdir()
    (tmp_path / "run/mine.txt").write_text("mine")
    checkpoints = Checkpoints(tmp_path / "run")
    checkpoints.save_best({"w": torch.ones(2)})
    assert (tmp_path / "run/best.safetensors").stat().st_mode == (tmp_path / "run/mine.txt").stat().st_mode
    checkpoints.discard()
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["mine.txt"]
