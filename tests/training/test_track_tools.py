"""TensorBoard, Weights & Biases and MLflow for real, read back: two trials of a study, one of them resumed, no network.

They start three times, each in processes of their own: the slowest part, so that all tests look at the same records.
"""

from __future__ import annotations

import io
import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from PIL import Image
from wandb_records import runs_in

from polydetr.training import tracking
from polydetr.training.callbacks import StepInfo
from polydetr.training.tracked import Record
from polydetr.training.tracking import Trackers, encoded, make_trackers

ALL = ("tensorboard", "wandb", "mlflow")
CONFIG = {"seed": 3, "train": "a.csv", "training": {"lr": 1e-4, "lora": {"rank": 0}}, "long": "x" * 600}
STUDY = "wine/study 1"

WATCHED = """
import socket
log = {log!r}
near = ("127.0.0.1", "::1", "localhost", None)
def watched(real, where):
    def call(*given, **more):
        host = where(given)
        if host not in near:
            with open(log, "a") as file:
                print(host, file=file)
            raise OSError("no network in this test")
        return real(*given, **more)
    return call
far = lambda given: given[1][0] if given[0].family in (socket.AF_INET, socket.AF_INET6) else None
socket.socket.connect = watched(socket.socket.connect, far)
socket.socket.connect_ex = watched(socket.socket.connect_ex, far)
socket.getaddrinfo = watched(socket.getaddrinfo, lambda given: given[0])
"""
ASKS = "import urllib.request as u\ntry: u.urlopen('http://example.invalid')\nexcept OSError: pass"
CONNECTS = "import socket; socket.create_connection(('192.0.2.1', 80))"


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (7, 5), "red").save(buffer, "PNG")
    return buffer.getvalue()


def told(trackers: Trackers, steps: range) -> None:
    """What a training tells."""
    trackers.note("reads [text]; 花 | <b>")
    for step in steps:
        trackers.step(StepInfo(0.1, step, 0.1, 1.0 / step, 100.0, "", 1.0, 1e-3))
    metrics = {"the label": {"f1": 0.7}}
    trackers.evaluation({"step": steps[-1], "train_loss": 0.5, "valid_loss": 0.6, "metrics": metrics})
    table = {"name": "valid/label/samples", "columns": ("row", "p"), "rows": [["a | b <c>", 0.25], ["花", None]]}
    records = [
        Record("text", {"name": "valid/label/classes", "text": "  a  1\n  b  2 <&>"}),
        Record("table", table),
        Record("picture", {"name": "report/valid-confusion", "png": encoded(png())}),
        Record("summary", {"values": {"model_folder": "/models/a", "test/label/f1": 0.9}}),
    ]
    trackers.records(iter(records))


@dataclass
class Home:
    """Where Python's connections are written down, and those that a proxy was asked for."""

    log: Path
    asked: list[bytes]
    site: Path


@contextmanager
def at_home(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Home]:
    """Watches every process that is started: Python's own connections from within, by a module that every interpreter
    runs at its start; those of W&B's service, which is no Python, by a proxy.
    """
    home = Home(folder / "connections", [], folder)
    (folder / "sitecustomize.py").write_text(WATCHED.format(log=str(home.log)))
    patch.syspath_prepend(folder)
    for name in ("PYTEST_CURRENT_TEST", "CI"):  # MLflow reports nothing where it sees these
        patch.delenv(name, raising=False)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0.1)

        def listen() -> None:
            while not over.is_set():
                try:
                    connection, _ = proxy.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.settimeout(2)
                    home.asked.append(connection.recv(300))

        thread = threading.Thread(target=listen)
        thread.start()
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"):
            patch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        try:
            yield home
        finally:
            over.set()
            thread.join()


@dataclass
class Written:
    """The folder of all records, what the user was told, which connections were tried."""

    folder: Path
    notes: list[str]
    home: Home


@dataclass
class Store:
    """MLflow's, read without MLflow, which takes seconds to be imported."""

    folder: Path

    def rows(self, query: str, *given: str) -> list[Any]:
        with closing(sqlite3.connect(self.folder / "mlflow.db")) as store:
            return store.execute(query, given).fetchall()

    def run(self, name: str) -> str:
        """Its only run of this name."""
        ((run,),) = self.rows("select run_uuid from runs where name = ?", name)
        return run

    def status(self, run: str) -> str:
        ((status,),) = self.rows("select status from runs where run_uuid = ?", run)
        return status


@contextmanager
def quick_folder() -> Iterator[Path]:
    """In memory where possible: MLflow makes its store in hundreds of writes, each of which waits for the disk."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() and os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def written() -> Iterator[Written]:
    """trial-000 in all three tools; trial-001, interrupted and resumed, in those that start soon."""
    for kind in ALL:
        pytest.importorskip(kind if kind != "mlflow" else "alembic")
    notes: list[str] = []
    with quick_folder() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking, "EVERY_SECONDS", 0.0)
        patch.setattr(tracking, "CLOSE_SECONDS", 120.0)
        for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
            patch.delenv(name)
        records = folder / "tracking.runs"
        given: dict[str, Any] = {"config": CONFIG, "group": STUDY, "notify": notes.append}
        (folder / "site").mkdir()
        with at_home(folder / "site", patch) as home:
            whole = make_trackers(ALL, records, name="trial-000", **given)
            stopped = make_trackers(ALL[:2], records, name="trial-001", **given)
            told(whole, range(1, 4))
            told(stopped, range(1, 7))
            whole.close()
            stopped.close("interrupted")
            resumed = make_trackers(ALL[:2], records, name="trial-001", resumed=True, **given)
            told(resumed, range(4, 9))
            resumed.close()
            yield Written(records, notes, home)


def tensorboard_of(written: Written, name: str):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = written.folder.glob(f"tensorboard/wine*/{name}")
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_nothing_fails(written):
    assert written.notes == []


def test_tensorboard_shows_scalars_texts_tables_and_pictures(written):
    events = tensorboard_of(written, "trial-000")
    assert [(p.step, p.value) for p in events.Scalars("train/loss")] == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert events.Scalars("valid/the label/f1")[0].value == pytest.approx(0.7)
    image = events.Images("report/valid-confusion")[0]
    assert (image.width, image.height, image.encoded_image_string) == (7, 5, png())
    texts = {"settings", "valid/label/classes", "valid/label/samples", "summary", "messages"}
    assert set(events.Tags()["tensors"]) == texts

    def text(tag: str) -> str:
        return events.Tensors(tag)[0].tensor_proto.string_val[0].decode()

    assert "    training:\n      lr: 0.0001" in text("settings")  # indented: shown as it stands
    assert text("valid/label/classes") == "      a  1\n      b  2 <&>"
    assert text("valid/label/samples").splitlines() == [
        "| row | p |", "| --- | --- |", "| a \\| b &lt;c> | 0.25 |", "| 花 | None |",
    ]  # fmt: skip
    assert "| model_folder | /models/a |" in text("summary")


def test_the_file_of_wandb_holds_settings_metrics_tables_and_the_model_s_place(written):
    (run,) = [run for run in runs_in(written.folder) if run["name"] == "trial-000"]
    assert (run["project"], run["group"], run["exit"]) == ("polydetr", STUDY, 0)
    assert run["config"]["training"] == {"lr": 1e-4, "lora": {"rank": 0}}
    assert [run["history"][step]["train/loss"] for step in (1, 2, 3)] == [1.0, 0.5, pytest.approx(1 / 3)]
    assert run["history"][3]["valid/the label/f1"] == 0.7
    assert (run["summary"]["model_folder"], run["summary"]["test/label/f1"]) == ("/models/a", 0.9)
    (place,) = written.folder.glob(f"wandb/offline-run-*-{run['id']}")
    table = json.loads((place / "files" / run["history"][3]["valid/label/samples/path"]).read_text())
    assert (table["columns"], table["data"]) == (["row", "p"], [["a | b <c>", 0.25], ["花", None]])
    with Image.open(place / "files" / run["history"][3]["report/valid-confusion/path"]) as image:
        assert image.size == (7, 5)
    page = (place / "files" / run["history"][3]["valid/label/classes/path"]).read_text()
    assert "  b  2 &lt;&amp;&gt;" in page


def test_the_store_of_mlflow_holds_settings_metrics_tables_and_the_model_s_place(written):
    store = Store(written.folder)
    run = store.run("trial-000")
    assert store.status(run) == "FINISHED"
    params = dict(store.rows("select key, value from params where run_uuid = ?", run))
    assert (params["training.lr"], params["train"], params["long"]) == ("0.0001", "a.csv", "x" * 500)
    latest = dict(store.rows("select key, value from latest_metrics where run_uuid = ?", run))
    assert (latest["valid/the label/f1"], latest["test/label/f1"]) == (0.7, 0.9)
    points = store.rows("select step, value from metrics where key = 'train/loss' and run_uuid = ? order by step", run)
    assert points == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    tags = dict(store.rows("select key, value from tags where run_uuid = ?", run))
    assert tags["polydetr.model_folder"] == "/models/a"
    place = written.folder / "mlflow-artifacts" / run / "artifacts"
    files = {p.relative_to(place).as_posix() for p in place.rglob("*") if p.is_file()}
    kept = {"valid/label/classes.txt", "valid/label/samples.json", "report/valid-confusion.png", "messages.txt"}
    assert files == kept
    assert json.loads((place / "valid/label/samples.json").read_text())["data"][0] == ["a | b <c>", 0.25]
    assert (place / "messages.txt").read_text() == "reads [text]; 花 | <b>"


def test_the_trials_of_a_study_stand_together(written):
    folders = sorted(written.folder.glob("tensorboard/*/*"))
    assert [p.name for p in folders] == ["trial-000", "trial-001"]
    assert folders[0].parent == folders[1].parent
    assert {run["group"] for run in runs_in(written.folder)} == {STUDY}
    store = Store(written.folder)
    assert store.rows("select value from tags where key = 'mlflow.parentRunId'") == [(store.run(STUDY),)]


def test_a_resumed_run_goes_on_with_its_records(written):
    steps = [p.step for p in tensorboard_of(written, "trial-001").Scalars("train/loss")]
    assert steps == [1, 2, 3, 4, 5, 6, 7, 8]  # those after the checkpoint only once
    first, second = (run for run in runs_in(written.folder) if run["name"] == "trial-001")
    assert first["id"] == second["id"]  # which wandb sync puts together
    assert (first["exit"], second["exit"]) == (130, 0)


@pytest.mark.slow
def test_mlflow_nests_trials_that_begin_at_once_and_goes_on_with_a_resumed_run(monkeypatch):
    pytest.importorskip("alembic")
    monkeypatch.setattr(tracking, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(tracking, "CLOSE_SECONDS", 120.0)
    notes: list[str] = []
    given: dict[str, Any] = {"config": CONFIG, "group": STUDY, "notify": notes.append}
    with quick_folder() as folder:
        store, names = Store(folder), ["trial-000", "trial-001", "trial-002"]
        runs = [make_trackers(("mlflow",), folder, name=name, **given) for name in names]
        for trackers in runs:
            told(trackers, range(1, 7))
        for trackers in runs:
            trackers.close("interrupted")
        stopped = store.run(names[1])
        assert store.status(stopped) == "KILLED"
        resumed = make_trackers(("mlflow",), folder, name=names[1], resumed=True, **given)
        told(resumed, range(4, 9))
        resumed.close()
        assert notes == []
        assert (store.run(names[1]), store.status(stopped)) == (stopped, "FINISHED")
        parents = store.rows("select value from tags where key = 'mlflow.parentRunId'")
        assert parents == [(store.run(STUDY),)] * 3


def test_nothing_leaves_the_machine(written):
    home = written.home
    assert home.asked == []
    assert not home.log.exists()
    assert len(runs_in(written.folder)) == 3  # and all was written nevertheless


def test_what_would_leave_the_machine_is_seen(tmp_path, monkeypatch):
    with at_home(tmp_path, monkeypatch) as home:
        environment = os.environ | {"PYTHONPATH": str(home.site)}
        subprocess.run([sys.executable, "-c", ASKS], env=environment, check=True)
        subprocess.run([sys.executable, "-c", CONNECTS], env=environment, check=False, capture_output=True)
    assert home.asked
    assert "192.0.2.1" in home.log.read_text()


def test_no_key_is_asked_for(tmp_path, monkeypatch):
    """Online, where no key is known: told, and the run goes on."""
    pytest.importorskip("wandb")
    monkeypatch.setattr(tracking, "CLOSE_SECONDS", 120.0)
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody is there
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    notes: list[str] = []
    trackers = make_trackers(("wandb",), tmp_path / "runs", config=CONFIG, name="run", notify=notes.append)
    told(trackers, range(1, 3))
    trackers.close()
    (note,) = notes
    assert "track: wandb is switched off, the run goes on without it: UsageError: No API key configured" in note


def test_names_that_mlflow_refuses_are_changed():
    from polydetr.training.trackers.mlflow import _name

    assert _name("valid/the label (%)/f1") == "valid/the label ___/f1"
    assert _name("../x//y") == "x/y"
    assert _name("//") == "_"
    assert len(_name("x" * 300)) == 250
