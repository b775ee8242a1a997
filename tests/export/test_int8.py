"""Graphs in 8-bit integers: a text's scores do not depend on its neighbors, and the proof on labeled rows decides."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from film_models import SETTINGS, Quiet, film_rows, plain_rows
from polydetr import Predictor
from polydetr.cli import main
from polydetr.core.files import sha256_of
from polydetr.errors import ConfigError, PolydetrError
from polydetr.inference.folder import MANIFEST
from polydetr.inference.kept_rows import ROWS

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from onnx import TensorProto, numpy_helper  # noqa: E402
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info  # noqa: E402

from polydetr.export.int8 import LEAST, quantized, rows_of_sum  # noqa: E402
from polydetr.nn.cpu.int8 import computes_int8, linear_int8, pack_int8  # noqa: E402

WIDE: dict[str, Any] = {
    "model": {"embed_dim": LEAST, "num_layers": 1, "num_heads": 2, "dropout": 0.0},
    "text": {"vocab_size": 300, "max_tokens": 64},
    "training": {"batch_tokens": 128, "patience": 0, "head_lr": 1e-3},
}
TEXT = "scene 3 of a warm evening"
OTHERS = ["dull", " ".join(f"a bright and lovely scene {i} of a cold evening" for i in range(4)), "warm", "x" * 40]


def run(model: Any, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def layer(weight: np.ndarray, *, before: str | None = None) -> Any:
    """x (batch, length, I) → x W, behind an activation or none."""
    inputs, outputs = weight.shape
    nodes = [make_node("MatMul", [before or "x", "w"], ["y"])]
    if before:
        nodes.insert(0, make_node(before, ["x"], [before]))
    graph = make_graph(
        nodes, "layer",
        [make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "length", inputs])],
        [make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "length", outputs])],
        [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    return make_model(graph, opset_imports=[make_opsetid("", 20)], ir_version=9)


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(128, 131), (384, 128), (1536, 384)])
@pytest.mark.parametrize("before", [None, "Gelu"])
def test_a_product_is_near_and_row_by_row(shape, before, generator):
    weight = generator.standard_normal(shape, dtype=np.float32) * 0.05
    weight[:, 3] = 0  # an output without weights
    weight[:, 5] = np.abs(weight[:, 5])  # of one sign: a sum far from zero
    x = generator.standard_normal((3, 7, shape[0]), dtype=np.float32)
    x[..., 11] *= 30  # single channels of an encoder are large
    x[0, 0] = 0  # nothing at all
    x[0, 1] = 5  # all alike
    exact, rounded = (run(m, x) for m in (layer(weight, before=before), quantized(layer(weight, before=before))))
    assert not np.array_equal(exact, rounded)
    assert np.linalg.norm(rounded - exact) < 0.03 * np.linalg.norm(exact)
    assert np.abs(rounded[0, 0]).max() == np.abs(rounded[..., 3]).max() == 0
    model = quantized(layer(weight, before=before))
    x[1:, 1:] *= 1000  # neighbors with a range of their own
    np.testing.assert_array_equal(run(model, x)[:, :1], run(model, x[:, :1]))
    np.testing.assert_array_equal(run(model, x)[:1], run(model, x[:1]))


def test_it_is_the_formula_on_every_processor(generator):
    """Sums of products that are as large as they can be, too: without VNNI they are added in 16 bits."""
    weight = generator.standard_normal((384, 256), dtype=np.float32) * 0.05
    weight[:, :8] = 0.05
    x = generator.standard_normal((1, 64, 384), dtype=np.float32)
    x[0, :8] = 3.0
    step = np.abs(weight).max(0) / 64
    high, low = (np.maximum(x[0].max(1, keepdims=True), 0), np.minimum(x[0].min(1, keepdims=True), 0))
    scale = (high - low) / 254
    zero, levels = np.rint(-low / scale), np.rint(weight / step)
    expected = (np.rint(x[0] / scale + zero) @ levels - zero * levels.sum(0)) * step * scale
    found = run(quantized(layer(weight)), x)[0]
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.skipif(not computes_int8(), reason="PyTorch's kernel needs VNNI")
def test_it_is_as_exact_as_in_pytorch(generator):
    weight = generator.standard_normal((384, 256), dtype=np.float32) * 0.05
    x = generator.standard_normal((1, 64, 384), dtype=np.float32)
    x[..., 7] = 20 + x[..., 7]  # of one sign: what a zero per token is for
    exact, ours = run(layer(weight), x)[0], run(quantized(layer(weight)), x)[0]
    with torch.inference_mode():
        packed = pack_int8(torch.from_numpy(weight.T.copy()))
        theirs = linear_int8(torch.from_numpy(x[0].copy()), packed, torch.zeros(256)).numpy()
    np.testing.assert_allclose(ours, theirs, atol=3e-2 * np.abs(theirs).max())
    errors = [np.linalg.norm(found - exact) for found in (ours, theirs)]
    assert errors[0] < 1.5 * errors[1]  # weights have half as many levels, for processors without VNNI


def test_only_what_is_worth_it_is_rounded(generator):
    small = layer(generator.standard_normal((LEAST, LEAST - 1), dtype=np.float32))
    assert quantized(small) is small
    given = layer(generator.standard_normal((LEAST, LEAST), dtype=np.float32))
    before = given.SerializeToString()
    onnx.checker.check_model(quantized(given), full_check=False)
    assert given.SerializeToString() == before


def test_whole_numbers_of_a_sum(generator):
    for sums in (np.zeros(4, np.int64), generator.integers(-50_000, 50_000, 33), np.array([127, -127, 128, 1])):
        rows = rows_of_sum(sums)
        assert rows.dtype == np.int8
        assert np.abs(rows).max() <= 64, "two of them times a byte are summed in 16 bits"
        np.testing.assert_array_equal(rows.sum(0, dtype=np.int64), sums)


# -- whole models -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("int8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYDETR_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture(scope="module")
def trained(base):
    return Predictor.fit(
        film_rows(80), {"label": "classification", "entities": "tagging"}, inputs="text", backbone="none",
        valid=film_rows(30, start=100), out=base / "films", epochs=6, settings=WIDE, display=Quiet(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def exported(trained, base):
    return trained.export(base / "films-int8", int8=True, max_drop=5)


def test_the_proof_is_measured_and_kept(trained, exported):
    entry = json.loads((exported.folder / MANIFEST).read_text())["export"]
    assert entry["precision"] == "int8"
    assert entry["proof"] == json.loads(json.dumps(exported.proof.to_dict()))
    assert exported.proof.rows == 30
    assert {change.target: change.metric for change in exported.proof.changes} == {
        target: task.primary_metric for target, task in trained._engine.tasks.items()
    }
    plain = Predictor.load(trained.folder, precision="fp32").evaluate(film_rows(30, start=100))
    rounded = Predictor.load(exported.folder).evaluate(film_rows(30, start=100))
    for change in exported.proof.changes:  # those of whole rows, read and answered anew
        assert change.before == pytest.approx(plain[change.target][change.metric])
        assert change.after == pytest.approx(rounded[change.target][change.metric])
    weights = sum(path.stat().st_size for path in exported.folder.glob("*.onnx"))
    assert weights < 0.6 * (trained.folder / "model.safetensors").stat().st_size


def scores(model: Predictor, rows: list[str]) -> list[tuple[list[float], list[float]]]:
    found = []
    for answer in model.predictions([{"text": text} for text in rows]):
        label, entities = answer["label"].details, answer["entities"].details
        found.append((list(label.probabilities.values()), list(entities.word_probability)))
    return found


def test_a_text_alone_has_the_scores_that_it_has_among_others(exported):
    model = Predictor.load(exported.folder)
    (alone,) = scores(model, [TEXT])
    for neighbors in (OTHERS, OTHERS[1:2] * 20, OTHERS[:1]):
        among = scores(model, [*neighbors, TEXT, *neighbors])[len(neighbors)]
        for a, b in zip(alone, among, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)


def test_rounding_changes_scores_a_little(trained, exported):
    texts = [row["text"] for row in plain_rows(20, start=300)]
    exact = scores(Predictor.load(trained.folder, precision="fp32"), texts)
    rounded = scores(Predictor.load(exported.folder), texts)
    apart = np.array([np.abs(np.subtract(a[0], b[0])).max() for a, b in zip(exact, rounded, strict=True)])
    assert 0 < apart.max() < 0.2


def test_too_large_a_change_is_refused_with_the_figure(trained, base, monkeypatch):
    out = base / "refused"
    rows = film_rows(30, start=100)
    nothing = np.zeros((1, 1), np.int8)  # the zeros of tokens are not taken off: a wrong product
    monkeypatch.setattr("polydetr.export.int8.rows_of_sum", lambda sums: np.repeat(nothing, len(sums), axis=1))
    with pytest.raises(PolydetrError, match=r"8-bit integers .* points worse on 30 rows, more than 0.5 allows") as told:
        trained.export(out, int8=True, rows=rows)
    assert not out.exists()
    allowed = float(str(told.value.hint).split("--max-drop ")[1].split()[0])
    assert allowed == pytest.approx(float(str(told.value).split(" points worse")[0].split()[-1]), abs=0.11)


def narrow() -> Predictor:
    rows, valid = plain_rows(20), plain_rows(8, start=100)
    return Predictor.fit(rows, "label", valid=valid, backbone="none", epochs=1, settings=SETTINGS, display=Quiet())


def test_without_rows_both_remedies_are_named(trained, base, tmp_path):
    settings = {**WIDE, "training": {**WIDE["training"], "keep_rows": 0}}
    without = Predictor.fit(
        plain_rows(20), "label", valid=plain_rows(8, start=100), out=base / "without", backbone="none",
        epochs=1, settings=settings, display=Quiet(),
    )  # fmt: skip
    assert not (base / "without" / ROWS).exists()
    with pytest.raises(ConfigError, match="no labeled rows to prove this by") as told:
        Predictor.load(base / "without").export(tmp_path / "out", int8=True)
    assert "--rows FILE" in str(told.value.hint)
    assert "train the model again" in str(told.value.hint)
    with pytest.raises(ConfigError, match="none has a label"):
        without.export(tmp_path / "out", int8=True, rows=[{"text": "a", "label": None}, {"text": "b", "label": None}])
    with pytest.raises(ConfigError, match="no linear layer that is large enough"):
        narrow().export(tmp_path / "out", int8=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("max_drop", [-1, 101, float("nan")])
def test_a_limit_is_a_number_of_points(trained, tmp_path, max_drop):
    with pytest.raises(ConfigError, match="points from 0 to 100"):
        trained.export(tmp_path / "out", int8=True, max_drop=max_drop)


def test_the_command_prints_the_change(trained, tmp_path, capsys, monkeypatch):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in film_rows(12, start=200)))
    command = ["polydetr", "export", str(trained.folder), "--int8", "--out", str(tmp_path / "a"), "--max-drop", "30"]
    monkeypatch.setattr("sys.argv", [*command, "--rows", str(rows)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    told = capsys.readouterr().err
    assert "in 8-bit integers, on 12 labeled rows: accuracy of 'label': " in told
    assert "in 8-bit integers, on 12 labeled rows: entity_f1 of 'entities': " in told
    assert json.loads((tmp_path / "a" / MANIFEST).read_text())["export"]["proof"]["rows"] == 12


def test_the_rows_go_along(trained, exported):
    assert sha256_of(exported.folder / ROWS) == sha256_of(trained.folder / ROWS)
