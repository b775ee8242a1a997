"""A whole run and its trackers: what they get, how the run ends, and that it is the same run with them as without."""

from __future__ import annotations

import ast
import io
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from tiny_runs import TRAIN, VALID, Watched, train

from polydetr.core.records import Record as Row
from polydetr.errors import Interrupted, Location, RowError
from polydetr.metrics.figures import BoxFigures
from polydetr.training import places, tracked, tracking
from polydetr.training.trackers import guard

RUNS = "tracking.runs"


@pytest.fixture
def by(tmp_path, monkeypatch):
    """Has the tool "tensorboard" be one of ``bad_trackers``; returns what it was told, a line each."""
    monkeypatch.setenv("POLYDETR_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setattr(tracking, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(tracking, "check_installed", lambda kind: None)

    def use(name: str = "Kept", *, wait: float = 60.0):
        monkeypatch.setattr(tracking, "CLOSE_SECONDS", wait)
        monkeypatch.setattr(tracking, "TRACKERS", {"tensorboard": f"bad_trackers:{name}"})
        return lambda: (tmp_path / RUNS / "said").read_text().splitlines()

    return use


TRACKED = {"track": "tensorboard"}


def test_all_that_a_run_finds_is_recorded(tmp_path, by):
    said = by()
    shown = Watched()
    train(tmp_path / "out", display=shown, settings=TRACKED, epochs=0.2)
    lines = said()
    assert lines[0].startswith("opened out-")
    assert any(note.startswith("tracked by tensorboard as 'out-") for note in shown.notes)
    steps = [line for line in lines if line.startswith("scalars {'train/loss'")]
    assert len(steps) == len(shown.losses)
    evaluations = [line for line in lines if "'valid/label/accuracy'" in line and line.startswith("scalars")]
    assert len(evaluations) == len(shown.entries)
    names = [line.split()[1] for line in lines if line.startswith("picture")]
    reports = {p.stem for p in (tmp_path / "out" / "reports").glob("*.png")}
    assert "valid-confusion" in reports
    assert {f"report/{stem}" for stem in reports} <= set(names)
    assert {"explanation/label/1", "explanation/label/2", "attention/label/1"} <= set(names)
    samples = next(line for line in lines if line.startswith("table valid/label/samples"))
    assert VALID[0]["text"] in samples
    mistakes = next(line for line in lines if line.startswith("table valid/label/worst mistakes"))
    assert "wrong" in mistakes or "gold" in mistakes
    (said_last,) = (line for line in lines if line.startswith("summary"))
    summary = ast.literal_eval(said_last.removeprefix("summary ").rpartition(" ")[0])
    assert summary["model_folder"] == str((tmp_path / "out").resolve())
    assert summary["valid/label/accuracy"] == pytest.approx(shown.entries[-1]["metrics"]["label"]["accuracy"])
    assert "reads text (text)" in "\n".join(lines).partition("text messages")[2]
    assert lines[-1] == "closed finished"


def test_without_a_model_folder_scores_and_tables_are_recorded(tmp_path, by, monkeypatch):
    said = by()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(places, "RUNS", tmp_path)
    train(settings=TRACKED, epochs=0.2)
    assert any(line.startswith("table valid/label/samples") for line in said())
    assert not any("model_folder" in line for line in said())


SAME = {"training": {"precision": "fp32"}}  # not what is measured to be quicker at the moment


@pytest.fixture(scope="module")
def weights_alone(tmp_path_factory) -> bytes:
    """Of the run that nothing tracks."""
    out = tmp_path_factory.mktemp("alone") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYDETR_CACHE", str(out.parent / "cache"))
        train(out, settings=SAME, epochs=0.2)
    return (out / "model.safetensors").read_bytes()


@pytest.mark.parametrize("kind", ["FailsToOpen", "SleepsForEver", "OnAFullDisk"])
def test_a_bad_tracker_changes_nothing_in_the_model(tmp_path, by, kind, monkeypatch, weights_alone):
    monkeypatch.setattr(guard, "PATIENCE", 1.0)
    by(kind, wait=5.0)
    shown = Watched()
    train(tmp_path / "out", display=shown, settings=TRACKED | SAME, epochs=0.2)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == weights_alone
    assert sum(note.startswith("track: ") for note in shown.notes) == 1


def test_ctrl_c_closes_the_record_and_resume_goes_on_with_it(tmp_path, by):
    said = by()

    def stop(info):
        if info.step == 4:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        train(tmp_path / "out", display=Watched(stop), settings=TRACKED)
    assert said()[-1] == "closed interrupted"
    train(tmp_path / "out", settings=TRACKED, resume=True)
    opened = [line for line in said() if line.startswith("opened")]
    assert len(opened) == 2
    assert opened[0] == opened[1]
    assert said()[-1] == "closed finished"
    train(tmp_path / "out", settings=TRACKED, epochs=0.1, overwrite=True)
    another = [line for line in said() if line.startswith("opened")][-1]
    assert another not in opened


def test_a_run_that_fails_is_closed_as_failed(tmp_path, by):
    said = by()
    settings = TRACKED | {"training": {"lr": 1.0, "head_lr": 1.0}}

    def fail(info):
        raise RuntimeError("of the run")

    with pytest.raises(RuntimeError, match="of the run"):
        train(tmp_path / "out", display=Watched(fail), settings=settings)
    assert said()[-1] == "closed failed"


def test_a_limit_of_time_leaves_none_for_explanations(tmp_path, by):
    said = by()
    train(tmp_path / "out", settings=TRACKED, epochs=0.2, time_limit=30)
    assert not any("explanation/" in line for line in said())
    assert any(line.startswith("table valid/label/samples") for line in said())


def test_only_the_first_device_tracks(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "is_first_process", lambda: False)
    config = SimpleNamespace(track=("tensorboard",))
    with tracking.tracked(config, tmp_path / "out", display=Watched()) as trackers:  # type: ignore[arg-type]
        assert not trackers.is_on
    assert not (tmp_path / RUNS).exists()


def test_tensorboard_reads_what_a_run_wrote(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setattr(tracking, "CLOSE_SECONDS", 60.0)
    shown = Watched()
    train(tmp_path / "out", display=shown, settings=TRACKED)
    (folder,) = (tmp_path / RUNS / "tensorboard").iterdir()
    events = EventAccumulator(str(folder))
    events.Reload()
    assert {"train/loss", "train/lr", "valid/loss", "valid/label/accuracy"} <= set(events.Tags()["scalars"])
    points = [(p.step, p.value) for p in events.Scalars("valid/loss")]
    assert points == [(e["step"], pytest.approx(e["valid_loss"], rel=1e-5)) for e in shown.entries]


def test_the_command_line_names_trackers(tmp_path, by, run):
    import json

    said = by()
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in TRAIN))
    small = ["--set", "model.embed_dim=16", "--set", "model.num_layers=1", "--set", "model.num_heads=2"]
    call = ["train", tmp_path / "rows.jsonl", "--target", "label", "--backbone", "none", "--epochs", "0.2", *small]
    code, _, err = run(*call, "--out", tmp_path / "out", "--track", "tensorboard")
    assert (code, said()[-1]) == (0, "closed finished"), err
    code, _, err = run(*call, "--out", tmp_path / "other", "--track", "tensorbord")
    assert code == 2
    assert "'tensorbord' is no tracker. Did you mean 'tensorboard'?" in err


# -- single records ----------------------------------------------------------------------------------------------------


def test_images_are_recorded_with_their_labels_and_with_what_was_found(monkeypatch):
    class Shown:
        def open(self):
            return Image.new("RGB", (64, 48), "white")

    class Damaged:
        def open(self):
            raise RowError("it is damaged")

    images = [Shown(), None, Damaged()]
    monkeypatch.setattr(tracked, "image_of", lambda engine, row: images[row.row["i"]])
    box = {"box": [4, 4, 30, 30], "label": "cat"}
    figures = BoxFigures(
        report=None, gold=[[box]] * 3, predicted=[[box | {"score": 0.9}, box | {"score": 0.1}]] * 3, rows=[0, 1, 2],  # type: ignore[arg-type]
        records=[Row({"i": i}, Location()) for i in range(3)],
    )  # fmt: skip
    records = list(tracked._boxes("valid/objects/samples", None, figures))  # type: ignore[arg-type]
    assert [r.given["name"] for r in records] == ["valid/objects/samples/1 gold", "valid/objects/samples/1 answer"]
    import base64

    with Image.open(io.BytesIO(base64.b64decode(records[0].given["png"]))) as image:
        assert image.width > image.height


def test_two_runs_of_one_name_do_not_share_records(tmp_path):
    names = set()
    for _ in range(3):
        names.add(tracking._name(tmp_path, tmp_path / "out", resume=False)[0])
        time.sleep(0.002)
    assert len(names) == 3
    assert tracking._name(tmp_path, None, resume=True)[0].startswith("model-")
