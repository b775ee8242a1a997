"""The runner over ONNX Runtime: chosen by what a folder holds, safe in threads, without a trace of PyTorch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polydetr import Predictor
from polydetr.core.examples import Example
from polydetr.errors import ConfigError, ModelFolderError, PolydetrError
from polydetr.inference.folder import EXPORT_FORMAT, MANIFEST, SEAL, seal_of
from polydetr.inference.model import LoadedModel
from polydetr.model.runner import TorchRunner
from polydetr.runtime.runner import OnnxRunner
from task_pairs import assert_alike, rows_of, save_model, save_pair
from tiny_models import encode_all

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
ROWS = [{**row, "kind": i % 2 == 0} for i, row in enumerate(rows_of("tagging", "text"))]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model of two targets that read a text, and what it was exported to."""
    folder = tmp_path_factory.mktemp("runtime")
    settings = {"text": {"max_tokens": 48, "overlap": 8}, "model": {"embed_dim": 16}}
    save_model(ROWS, {"y": "tagging", "kind": "classification"}, {"text": "text"}, settings, folder / "model")
    Predictor.load(folder / "model", precision="fp32").export(folder / "exported")
    return folder / "model", folder / "exported"


@pytest.fixture
def exported(folders: tuple[Path, Path]) -> LoadedModel:
    return LoadedModel.load(folders[1])


def runner_of(model: LoadedModel) -> OnnxRunner:
    runner = model._engine.runner
    assert isinstance(runner, OnnxRunner)
    return runner


# -- choosing ---------------------------------------------------------------------------------------------------------


def test_a_folder_is_computed_by_what_it_holds(folders: tuple[Path, Path]) -> None:
    trained, exported = folders
    for runner in ("auto", "torch"):
        assert isinstance(LoadedModel.load(trained, runner=runner)._engine.runner, TorchRunner)
    for runner in ("auto", "onnx"):
        assert isinstance(LoadedModel.load(exported, runner=runner)._engine.runner, OnnxRunner)
    with pytest.raises(ConfigError, match=r"no weights of PyTorch's.*the model that it was exported from"):
        LoadedModel.load(exported, runner="torch")
    with pytest.raises(ConfigError, match=r"not exported.*polydetr export MODEL"):
        LoadedModel.load(trained, runner="onnx")
    with pytest.raises(ConfigError, match=r"runner 'onxx' is not known.*Did you mean 'onnx'"):
        LoadedModel.load(exported, runner="onxx")


def test_its_precision_is_that_of_the_export(folders: tuple[Path, Path]) -> None:
    assert isinstance(runner_of(LoadedModel.load(folders[1], precision="fp32")), OnnxRunner)
    with pytest.raises(ConfigError, match="'bf16': the model was exported in fp32"):
        LoadedModel.load(folders[1], precision="bf16")
    with pytest.raises(ConfigError, match="precision='fp23' is unknown"):
        LoadedModel.load(folders[1], precision="fp23")  # type: ignore[arg-type]


# -- computing --------------------------------------------------------------------------------------------------------


def test_an_empty_batch_never_reaches_a_graph(exported: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polydetr.runtime.sessions.Graph.__call__", lambda *_: pytest.fail("the graph was run"))
    assert runner_of(exported).run([], ["y", "kind"], seed=0, numbers=[]) == []
    assert exported.predict([]) == []
    assert [answer["error"] is not None for answer in exported.stream([{"text": None}])] == [True]


def test_answers_depend_neither_on_the_batches_nor_on_the_threads(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for threads, batch_tokens in (("1", 512), ("1", 1), ("3", 32), ("3", 1)):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        model = LoadedModel.load(folders[1])
        runner = runner_of(model)
        runner.batch_tokens = batch_tokens
        found.append(model.predictions(ROWS * 3))
    for answers in found[1:]:
        assert_alike(answers, found[0], within=1e-5)


def test_eight_threads_at_once_get_the_answers_that_they_get_alone(exported: LoadedModel) -> None:
    runner_of(exported).batch_tokens = 32
    alone = exported.predictions(ROWS)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: exported.predictions(ROWS), range(16)):
            assert_alike(found, alone, within=1e-5)


def test_one_target_alone_is_answered_alike(exported: LoadedModel) -> None:
    examples = encode_all(exported._engine, ROWS, with_targets=False)
    runner, numbers = runner_of(exported), range(len(examples))
    both = runner.run(examples, ["y", "kind"], seed=0, numbers=numbers)
    alone = runner.run(examples, ["kind"], seed=0, numbers=numbers)
    assert [set(outputs) for outputs in alone] == [{"kind"}] * len(examples)
    assert_alike(alone, [{"kind": outputs["kind"]} for outputs in both], within=1e-6)


def test_what_no_graph_reads_is_refused(exported: LoadedModel) -> None:
    example = Example({"image": {"pixels": np.zeros((1, 3, 16, 16), np.uint8)}})
    with pytest.raises(PolydetrError, match=r"no graph of the exported model reads .*image\.pixels"):
        runner_of(exported).run([example], ["y"], seed=0, numbers=[0])


def test_no_more_batches_are_computed_at_once_than_there_are_cores(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    model = LoadedModel.load(folders[1])
    runner = runner_of(model)
    runner.batch_tokens = 1
    forward, running, most = runner._forward, [0], [0]

    def counted(*arguments: Any, **options: Any) -> Any:
        running[0] += 1
        most[0] = max(most[0], running[0])
        try:
            return forward(*arguments, **options)
        finally:
            running[0] -= 1

    monkeypatch.setattr(runner, "_forward", counted)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: model.predict(ROWS), range(8)))
    assert most[0] == 2


SHAPES = """
import sys
import numpy as np
from polydetr.core.examples import Example
from polydetr.core.records import Record
from polydetr.errors import Location
from polydetr.inference.model import LoadedModel
model = LoadedModel.load(sys.argv[1])
runner, random = model._engine.runner, np.random.default_rng(0)
runner.batch_tokens = 1 << 30
(window,) = model._engine.encoder.encode([Record({"text": sys.argv[2]}, Location())], with_targets=False).examples

def ask(count, length):
    example = Example({"text": {name: array[:length] for name, array in window.groups["text"].items()}})
    runner.run([example] * count, ["y"], seed=0, numbers=range(count))

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

ask(1, 5)
before = resident()
for _ in range(150):
    ask(int(random.integers(1, 4000)), int(random.integers(2, window.num_tokens)))
print((resident() - before) >> 20)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc to ask for the memory held")
def test_memory_does_not_grow_with_every_new_shape(folders: tuple[Path, Path]) -> None:
    """ONNX Runtime's arena keeps what each shape took, here 107 MB (36 without it). In a process of its own, where
    nothing else has told the system to keep what is freed.
    """
    asked = subprocess.run(
        [sys.executable, "-c", SHAPES, str(folders[1]), ROWS[-1]["text"]],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert int(asked.stdout) < 90


FORKED = """
import json, os, sys
from polydetr.inference.model import LoadedModel
model, rows = LoadedModel.load(sys.argv[1]), json.loads(sys.argv[2])
before = model.predict(rows)
child = os.fork()
if not child:
    os._exit(0 if model.predict(rows) == before else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_answers_too(folders: tuple[Path, Path]) -> None:
    texts = json.dumps([row["text"] for row in ROWS * 40])
    asked = subprocess.run(
        [sys.executable, "-c", FORKED, str(folders[1]), texts], capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "2"},
    )  # fmt: skip
    assert asked.stdout.strip() == "0", asked.stderr


def test_where_a_fork_would_wait_for_ever_it_is_refused(exported: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = runner_of(exported)
    runner.in_fork = False  # as with images on several cores
    monkeypatch.setattr(os, "getpid", lambda: runner._process + 1)
    with pytest.raises(PolydetrError, match=r"forked after it was loaded.*spawn"):
        exported.predict([ROWS[0]])


# -- without PyTorch --------------------------------------------------------------------------------------------------

HEAVY = "torch,scipy,sklearn,pyarrow,matplotlib,rich,lightning_fabric,transformers,pandas,polars,onnx,onnxscript"
ASK = """
import json, sys
blocked = set(sys.argv[1].split(","))
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
from polydetr.inference.model import LoadedModel
model = LoadedModel.load(sys.argv[2])
rows = json.loads(sys.argv[3])
answers = list(model.stream(rows))
assert not {name.partition(".")[0] for name in sys.modules} & blocked
print(json.dumps({"answers": answers, "rows": model.check(rows).rows}))
"""


def ask_without(folder: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What another process answers, in which nothing heavy can be imported."""
    asked = subprocess.run(
        [sys.executable, "-W", "error", "-c", ASK, HEAVY, str(folder), json.dumps(rows)],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert asked.returncode == 0, asked.stderr
    return json.loads(asked.stdout)


def test_rows_are_answered_where_nothing_heavy_can_be_imported(folders: tuple[Path, Path]) -> None:
    rows = [{"text": row["text"]} for row in ROWS]
    found = ask_without(folders[1], rows)
    assert_alike(found["answers"], list(LoadedModel.load(folders[0], precision="fp32").stream(rows)))
    assert found["rows"] == len(rows)


@pytest.mark.slow
def test_images_are_generated_where_nothing_heavy_can_be_imported(tmp_path: Path) -> None:
    rows = save_pair("generation", "table", tmp_path / "model")
    model = Predictor.load(tmp_path / "model")
    model.export(tmp_path / "exported")
    rows = [{"size": row["size"], "color": row["color"]} for row in rows]
    assert ask_without(tmp_path / "exported", rows)["answers"] == list(model.stream(rows))


# -- damaged folders --------------------------------------------------------------------------------------------------


@pytest.fixture
def change(folders: tuple[Path, Path], tmp_path: Path) -> Callable[..., Path]:
    """A copy of the exported folder whose description says otherwise under "export", and is sealed again."""

    def change(**changed: Any) -> Path:
        copy = tmp_path / "copy"
        copy.mkdir()
        for path in folders[1].iterdir():
            if path.is_file():
                (copy / path.name).write_bytes(path.read_bytes())
        manifest = json.loads((copy / MANIFEST).read_text(encoding="utf-8"))
        manifest["export"] |= changed
        manifest[SEAL] = seal_of(manifest)
        (copy / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
        return copy

    return change


def test_a_folder_of_a_newer_exporter_is_refused_by_name(change: Callable[..., Path]) -> None:
    newer = change(format=EXPORT_FORMAT + 1, versions={"polydetr": "7.1"})
    with pytest.raises(ModelFolderError, match=r"exported in format 3 by polydetr 7\.1.*reads up to format 2.*Upgrade"):
        LoadedModel.load(newer)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"format": "x"}, "exported in format 'x'"),
        ({"runtime": "tensorrt"}, "exported for 'tensorrt', which this version does not know"),
        ({"graphs": {}}, "no description of a model: export.graphs"),
        ({"graphs": {"../model.onnx": {"reads": [], "gives": {}}}}, "no description of a model: export.graphs"),
        ({"graphs": {"other.onnx": {"reads": [], "gives": {}}}}, "lacks 'other.onnx'"),
        ({"graphs": {"model.onnx": {"reads": []}}}, "either what a graph reads and gives, or whose step it is"),
        ({"graphs": {"model.onnx": {"reads": [], "gives": {}}}}, "not the graph that was described"),
        ({"graphs": {"model.onnx": {"step_of": "y"}}}, "generates images of 'y', which is no target that has any"),
        ({"precision": "int8", "format": 1}, "exported in int8 by an earlier version.*Export the model again"),
        ({"precision": "fp16"}, "no description of a model: export.precision"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(
    change: Callable[..., Path], changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelFolderError, match=message):
        LoadedModel.load(change(**changed))


def test_a_graph_that_is_none_or_not_the_one_that_was_saved_is_refused(change: Callable[..., Path]) -> None:
    folder = change()
    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ModelFolderError, match=r"model\.onnx' is not the file that was saved"):
        LoadedModel.load(folder)
    (folder / "model.onnx").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelFolderError, match=r"expected \d+: truncated or changed"):
        LoadedModel.load(folder)


def test_where_the_package_is_missing_it_is_named(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"needs the package onnxruntime.*pip install onnxruntime"):
        LoadedModel.load(folders[1])
