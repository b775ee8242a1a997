"""What stands around the graphs: the folder, what is refused before work begins, models of many parts, the verb."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import polydetr
from film_models import Quiet, film_rows
from polydetr import Predictor
from polydetr.errors import ConfigError, OutputError, PolydetrError, SaveError
from polydetr.export import export as exporting
from polydetr.inference.folder import EXPORT_FORMAT, MANIFEST, WEIGHTS, read_manifest
from polydetr.inference.model import LoadedModel
from polydetr.runtime.runner import OnnxRunner
from task_pairs import WORDS, assert_alike, image, save_model, save_pair, sentence
from tiny_models import encode_all

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "model"
    save_pair("classification", "text", folder)
    return folder


@pytest.fixture(scope="module")
def exported(model: Path) -> Path:
    """Beside the model, as the verb writes it."""
    out = model.with_name("model-onnx")
    Predictor.load(model).export(out)
    return out


@pytest.fixture
def no_recording(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graphs that were recorded for ``exported``, for what goes on after that."""
    import onnx

    monkeypatch.setattr(exporting, "recorded", lambda *_: {"model.onnx": onnx.load(exported / "model.onnx")})


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


# -- the folder -------------------------------------------------------------------------------------------------------


def test_it_holds_all_but_the_weights_and_says_how_it_was_made(model: Path, exported: Path) -> None:
    assert names(exported) == names(model) - {WEIGHTS} | {"model.onnx"}
    manifest, before = read_manifest(exported), read_manifest(model)
    assert {name: manifest[name] for name in ("schema", "tasks", "modalities", "context", "model")} == {
        name: before[name] for name in ("schema", "tasks", "modalities", "context", "model")
    }
    said = manifest["export"]
    assert (said["format"], said["runtime"], said["precision"], said["opset"]) == (EXPORT_FORMAT, "onnx", "fp32", 20)
    assert set(said["versions"]) == {"polydetr", "torch", "numpy", "onnx", "onnxscript", "onnxruntime"}
    assert said["of"] == before["manifest_sha256"]
    assert said["compared"]["rows"] > 20
    assert said["compared"]["largest_difference"] < 1e-5
    import onnx

    graph = onnx.load(exported / "model.onnx")
    assert graph.opset_import[0].version == said["opset"]
    assert graph.ir_version == said["ir_version"]
    sizes = [[d.dim_param or d.dim_value for d in entry.type.tensor_type.shape.dim] for entry in graph.graph.input]
    assert sizes == [["batch", "text length"]] * len(sizes)


def test_nothing_in_it_tells_where_it_was_made(exported: Path) -> None:
    places = [str(Path(module.__file__ or "").parent).encode() for module in (polydetr, torch)]
    for path in exported.iterdir():
        content = path.read_bytes()
        assert not any(place in content for place in (*places, b"stack_trace", b'File "'))


# -- refused before work begins ---------------------------------------------------------------------------------------


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "plan", lambda *_: pytest.fail("work had begun"))


@pytest.mark.usefixtures("no_work")
def test_what_is_there_is_not_overwritten_unasked(model: Path, exported: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(model)
    with pytest.raises(OutputError, match=r"holds an exported model already.*--overwrite"):
        predictor.export(exported)
    for out in (model, model.parent / "." / "model"):
        with pytest.raises(OutputError, match=r"a trained model, whose weights would be lost"):
            predictor.export(out, overwrite=True)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "one.txt").write_text("dear", encoding="utf-8")
    for out in (tmp_path / "letters", tmp_path / "letters" / "one.txt"):
        with pytest.raises(OutputError, match="is not a polydetr model: it is not overwritten"):
            predictor.export(out, overwrite=True)
    assert names(tmp_path / "letters") == {"one.txt"}


@pytest.mark.usefixtures("no_work")
def test_an_exported_model_is_not_exported_again(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"exported already.*the model that it was made from"):
        Predictor.load(exported).export(tmp_path / "again")


def test_an_exported_model_cannot_be_saved_as_a_trained_one(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"graphs in place of weights.*Copy its folder"):
        Predictor.load(exported).save(tmp_path / "again")


@pytest.mark.usefixtures("no_work")
def test_what_one_file_cannot_hold_is_refused(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "MOST_BYTES", 1000)
    with pytest.raises(PolydetrError, match=r"its weights take .* GB, and one file of ONNX holds 2"):
        Predictor.load(model).export(tmp_path / "out")


@pytest.mark.usefixtures("no_work")
def test_packages_that_are_missing_are_named_with_the_extra(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name.startswith("onnxs") else found(name))
    with pytest.raises(ConfigError, match=r"needs 'onnxscript'.*pip install 'polydetr.*\[export\]'"):
        Predictor.load(model).export(tmp_path / "out")


def test_layers_that_make_no_graph_are_refused_by_name(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from polydetr.heads.classification import ClassificationHead

    forward = ClassificationHead.forward

    def branching(self: Any, encoded: Any) -> Any:
        outputs = forward(self, encoded)
        return outputs if float(outputs["logits"].sum()) > 0 else {"logits": -outputs["logits"]}

    monkeypatch.setattr(ClassificationHead, "forward", branching)
    with pytest.raises(PolydetrError, match=r"the target 'y' \(classification\) makes no graph .*branch on the values"):
        Predictor.load(model).export(tmp_path / "out")
    assert names(tmp_path) <= {"polydetr-cache"}


def test_a_modality_that_makes_no_graph_is_refused_by_name(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from polydetr.embedders.text import TextEmbedder

    forward = TextEmbedder.forward

    def branching(self: Any, group: Any) -> Any:
        assert int(group.values["input_ids"].max()) >= 0
        return forward(self, group)

    monkeypatch.setattr(TextEmbedder, "forward", branching)
    with pytest.raises(PolydetrError, match=r"the modality 'text' makes no graph"):
        Predictor.load(model).export(tmp_path / "out")


# -- whole or not at all ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_recording")
def test_graphs_that_differ_from_the_model_are_not_written(
    model: Path, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in exported.iterdir()}
    run = OnnxRunner.run

    def shifted(self: OnnxRunner, *arguments: Any, **options: Any) -> Any:
        found = run(self, *arguments, **options)
        return [{t: {n: x + np.float32(0.01) for n, x in named.items()} for t, named in one.items()} for one in found]

    monkeypatch.setattr(OnnxRunner, "run", shifted)
    with pytest.raises(PolydetrError, match=r"differ from the model by 0\.01, more than 0\.001: nothing is written"):
        Predictor.load(model).export(exported, overwrite=True)
    assert {path.name: path.read_bytes() for path in exported.iterdir()} == before
    assert names(exported.parent) == {"model", "model-onnx"} | {
        f"{folder.name}/{name}" for folder in (model, exported) for name in names(folder)
    }


@pytest.mark.usefixtures("no_recording")
def test_a_full_disk_leaves_what_was_there(model: Path, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in exported.iterdir()}

    def full(path: Path, content: bytes) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "save_bytes", full)
    with pytest.raises(SaveError, match=r"No space left on device.*What was there before is untouched"):
        Predictor.load(model).export(exported, overwrite=True)
    assert {path.name: path.read_bytes() for path in exported.iterdir()} == before


# -- models of many parts ---------------------------------------------------------------------------------------------


def mixed_rows() -> list[dict[str, Any]]:
    return [
        {
            "text": sentence(i), "photo": [image(i), image(i + 1)][: 1 + i % 2] if i != 3 else None,
            "size": None if i == 4 else float(i), "color": WORDS[i % 2],
            "seen": [{"title": WORDS[(i + k) % 5], "price": float(k)} for k in range(i % 4)],
            "kind": WORDS[i % 2], "worth": float(i), "like": {"title": WORDS[i % 5], "price": 1.0},
            "said": f"a {WORDS[i % 5]} thing", "drawn": image(i + 50)[:, :, 0],
        }
        for i in range(1, 9)
    ]  # fmt: skip


SETTINGS = {
    "model": {"embed_dim": 16, "num_heads": 2}, "text": {"max_tokens": 12, "overlap": 4},
    "image": {"size": 16, "patch_size": 8}, "history": {"max_items": 3, "item_tokens": 8},
    "tasks": {"drawn": {"image_size": 8, "patch_size": 4, "sampling_steps": 3}},
}  # fmt: skip
SOME = {"text": "text", "size": "number", "color": "category"}
ALL = {**SOME, "photo": "image", "seen": "history"}
MIXED = [
    pytest.param({"kind": "classification", "worth": "regression", "said": "embedding"}, SOME, id="text and table"),
    pytest.param(
        {"kind": "classification", "worth": "regression", "like": "embedding", "drawn": "generation"}, ALL,
        id="everything", marks=pytest.mark.slow,
    ),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("targets", "inputs"), MIXED)
def test_several_targets_modalities_and_windows_in_one_model(
    targets: dict[str, str], inputs: dict[str, str], tmp_path: Path
) -> None:
    """With what an embedding belongs to, which other arrays hold than those of the inputs, and steps of generation."""
    rows = mixed_rows()
    settings = SETTINGS if "drawn" in targets else {k: v for k, v in SETTINGS.items() if k != "tasks"}
    save_model(rows, targets, inputs, settings, tmp_path / "model")
    torch_model = Predictor.load(tmp_path / "model", precision="fp32")
    done = torch_model.export(tmp_path / "exported")
    assert done.graphs == ("model.onnx", "positive-1.onnx", *(["step-1.onnx"] if "drawn" in targets else []))
    onnx_model = LoadedModel.load(tmp_path / "exported")
    assert len(encode_all(torch_model._engine, rows, with_targets=False)) > len(rows)
    assert_alike(onnx_model.predictions(rows, seed=3), torch_model.predictions(rows, seed=3))
    assert_alike(onnx_model.predictions(rows[2:3]), torch_model.predictions(rows[2:3]))
    assert_alike(onnx_model.evaluate(rows), torch_model.evaluate(rows))
    sides = [model.embed(rows, side="target") for model in (onnx_model, torch_model)]
    np.testing.assert_allclose(*sides, atol=1e-4)


def test_a_fitted_model_is_exported_with_its_masters(tmp_path: Path) -> None:
    """It computes in bf16; the graphs are those of the weights in float32, and its reports and card go along."""
    settings = {"model": {"embed_dim": 32, "num_layers": 1, "num_heads": 2}, "training": {"precision": "bf16"}}
    fitted = Predictor.fit(
        film_rows(20), {"label": "classification"}, inputs="text", valid=film_rows(10, start=50),
        out=tmp_path / "model", backbone="none", settings=settings, epochs=1, display=Quiet(),
    )  # fmt: skip
    fitted.export(tmp_path / "exported")
    assert {"README.md", "reports/history.json"} <= names(tmp_path / "exported")
    texts = [row["text"] for row in film_rows(6, start=80)]
    expected = Predictor.load(tmp_path / "model", precision="fp32").predictions(texts)
    assert_alike(LoadedModel.load(tmp_path / "exported").predictions(texts), expected)


# -- the verb ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_recording")
def test_the_verb_writes_beside_the_model_and_says_how_close_the_graphs_are(model: Path, run: Run) -> None:
    out = model.with_name("model-onnx")
    code, printed, said = run("export", model, "--overwrite")
    assert (code, printed) == (0, "")
    assert "model.onnx" in said
    assert "largest difference from PyTorch on" in said
    assert f"polydetr predict {out} FILE" in said
    assert run("export", model)[0] == 2


@pytest.mark.usefixtures("no_recording")
def test_the_verb_prints_one_json_document(model: Path, exported: Path, run: Run) -> None:
    out = exported
    code, printed, _ = run("export", model, "--overwrite", "--json")
    written = json.loads(printed)
    assert code == 0
    assert written["folder"] == str(out)
    assert written["graphs"] == ["model.onnx"]
    assert written["largest_difference"] < 1e-5
    assert (out / MANIFEST).exists()
