"""A model from a stranger can at worst answer badly (ADR 4): its checksums fit, and it is refused all the same, by
name, before memory is taken, with nothing outside of its folder opened.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polydetr import LoadedModel
from polydetr.errors import BackboneError, ModelFolderError
from polydetr.inference.folder import MANIFEST, SEAL, WEIGHTS, seal_of

SAVED = Path(__file__).parent / "saved_by_old"
DELETE = object()


def copy_of(name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAVED / name / "model", tmp_path / name))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return copy_of("text", tmp_path)


def change(folder: Path, name: str, *place: Any, to: Any) -> None:
    """Changes a value of a JSON file, and makes the checksums fit, as an author would."""
    document = json.loads((folder / name).read_text(encoding="utf-8"))
    *above, last = place
    inside = document
    for key in above:
        inside = inside[key]
    if to is DELETE:
        del inside[last]
    else:
        inside[last] = to
    (folder / name).write_text(json.dumps(document), encoding="utf-8")
    seal(folder)


def seal(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    files = manifest.get("files")
    for name, entry in files.items() if isinstance(files, dict) else ():
        if (folder / name).is_file() and isinstance(entry, dict) and len(entry) == 2:
            content = (folder / name).read_bytes()
            entry |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    manifest.pop(SEAL, None)
    manifest[SEAL] = seal_of(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def task_of(folder: Path) -> str:
    return next(iter(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["tasks"]))


# -- types and ranges --------------------------------------------------------------------------------------------------

WRONG: list[tuple[tuple[Any, ...], Any]] = [
    (("config", "image"), []),
    (("config", "reading"), {"images": 7}),
    (("files",), DELETE),
    (("files",), None),
    (("files",), {}),
    (("files", "tokenizer.json"), 3),
    (("files", "tokenizer.json", "bytes"), DELETE),
    (("files", WEIGHTS), DELETE),
    (("modalities",), []),
    (("modalities", "text", "fields"), {"text": 1}),
    (("tasks",), None),
    (("tasks",), {}),
    (("training",), 3),
    (("prediction",), "x"),
    (("prediction",), {"precision": []}),
    (("schema",), DELETE),
    (("schema", "inputs"), [["text"]]),
    (("schema", "inputs"), [{"name": "text", "modality": "smell"}]),
    (("context",), "yes"),
    (("model", "num_heads"), 0),
    (("metrics",), [1]),
    (("embed_dim",), "wide"),
    (("format_version",), 0),
]


@pytest.mark.parametrize(("place", "value"), WRONG, ids=lambda v: "/".join(v) if isinstance(v, tuple) else str(v)[:9])
def test_a_description_of_another_form(model, place, value):
    change(model, MANIFEST, *place, to=value)
    with pytest.raises(ModelFolderError) as raised:
        LoadedModel.load(model)
    assert len(str(raised.value)) < 1024


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("text", "labels", ["a", "a"]),
        ("text", "labels", "ab"),
        ("text", "temperature", 0),
        ("text", "temperature", None),
        ("text", "threshold", 7),
        ("text", "multi_label", "no"),
        ("table", "deviation", 0),
        ("table", "mean", float("nan")),
        ("qa", "no_answer_threshold", "high"),
        ("embedding", "view", 3),
        ("entities", "nesting", "deep"),
        ("detection", "labels", [1]),
        ("generation", "channels", 2),
        ("generation", "size", 10**6),
    ],
)
def test_what_a_task_has_learned_is_checked(tmp_path, name, key, value):
    folder = copy_of(name, tmp_path)
    change(folder, MANIFEST, "tasks", task_of(folder), key, to=value)
    with pytest.raises(ModelFolderError, match=rf"cannot be loaded: .*{key}"):
        LoadedModel.load(folder)


@pytest.mark.parametrize(
    ("name", "file", "place", "value"),
    [
        ("text", "backbone.json", ("cls_id",), 10**6),
        ("text", "backbone.json", ("max_positions",), 10**6),
        ("text", "backbone.json", ("hidden_dim",), 5),
        ("text", "backbone.json", ("config", "encoder", "norm_eps"), "small"),
        ("text", "backbone.json", ("config",), None),
        ("text", "backbone.json", ("config", "architecture"), "pickle"),
        ("text", "backbone.json", ("hidden_dim",), 2.5),
        ("detection", "vision.json", ("std",), [0, 0, 0]),
        ("detection", "vision.json", ("stride",), 0),
        ("generation", "table.json", (0, "kind"), "program"),
        ("generation", "table.json", (0,), 3),
    ],
)
def test_what_encoders_and_columns_say_of_themselves_is_checked(tmp_path, name, file, place, value):
    folder = copy_of(name, tmp_path)
    change(folder, file, *place, to=value)
    with pytest.raises(ModelFolderError, match=f"{file.partition('.')[0]}") as raised:
        LoadedModel.load(folder)
    assert ": :" not in str(raised.value)
    assert "Value error" not in str(raised.value)


@pytest.mark.parametrize("where", ["folder", "manifest"])
def test_json_without_an_end_is_refused(model, where):
    file = model / ("backbone.json" if where == "folder" else MANIFEST)
    file.write_text("[" * 200_000)
    if where == "folder":
        seal(model)
    with pytest.raises(ModelFolderError, match="cannot be read"):
        LoadedModel.load(model)


# -- sizes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "place", "value"),
    [
        ("backbone.json", ("config", "encoder", "vocab_size"), 10**8),
        ("backbone.json", ("config", "encoder", "num_layers"), 1000),
        (MANIFEST, ("model", "embed_dim"), 10**5),
        (MANIFEST, ("model", "ffn_dim"), 10**9),
        (MANIFEST, ("model", "num_layers"), 48),
    ],
)
def test_claims_that_the_weights_do_not_hold_take_no_memory(model, file, place, value):
    LoadedModel.load(model)  # what loading imports, is imported
    if place[-1] == "num_layers" and file == "backbone.json":
        change(model, file, "num_layers", to=value)
    change(model, file, *place, to=value)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(
        ModelFolderError,
        match=r"(its description and its weights differ|far more layers than|is no description of a model)",
    ):
        LoadedModel.load(model)
    assert time.monotonic() - started < 3
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


def test_weights_that_are_no_numbers_are_refused(model):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(model / WEIGHTS)
    name = next(name for name, tensor in tensors.items() if tensor.dtype == np.float32)
    tensors[name] = np.full_like(tensors[name], np.nan)
    save_file(tensors, model / WEIGHTS)
    seal(model)
    with pytest.raises(ModelFolderError, match="holds values that are not numbers"):
        LoadedModel.load(model)


# -- nothing outside ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../private.txt", "/etc/hostname", "a/../../private.txt", "reports/../../private.txt", ""]
)
def test_names_that_lead_out_are_refused_unopened(model, name, monkeypatch):
    (model.parent / "private.txt").write_text("secret")
    manifest = json.loads((model / MANIFEST).read_text(encoding="utf-8"))
    change(model, MANIFEST, "files", name, to={**manifest["files"][WEIGHTS], "spare": 1})
    opened: list[str] = []
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *a, **k: (opened.append(self.name), real(self, *a, **k))[1])
    with pytest.raises(ModelFolderError, match="not a name of a file in this folder"):
        LoadedModel.load(model)
    assert set(opened) == {MANIFEST}


@pytest.mark.skipif(os.name != "posix", reason="links and pipes of POSIX")
@pytest.mark.parametrize("what", ["link out", "link to zeros", "pipe", "folder"])
@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS, "tokenizer.json"])
def test_what_is_no_file_of_the_folder_is_refused(model, name, what):
    content = (model / name).read_bytes()
    (model / name).unlink()
    if what == "pipe":
        os.mkfifo(model / name)
    elif what == "folder":
        (model / name).mkdir()
    else:
        (model.parent / "outside").write_bytes(content)
        (model / name).symlink_to("/dev/zero" if what == "link to zeros" else model.parent / "outside")
    with pytest.raises(
        ModelFolderError, match=rf"{name}' is (a link that leads out of the folder|not an ordinary file)"
    ):
        LoadedModel.load(model)


@pytest.mark.parametrize(
    ("name", "file"),
    [("text", "tokenizer.json"), ("text", "backbone.json"), ("image", "vision.json"), ("table", "table.json")],
)
def test_a_file_that_is_not_listed_is_refused_unopened(tmp_path, name, file):
    model = copy_of(name, tmp_path)
    manifest = json.loads((model / MANIFEST).read_text(encoding="utf-8"))
    del manifest["files"][file]
    (model / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    seal(model)
    (model / file).unlink()
    (model / file).symlink_to("/dev/zero")
    with pytest.raises(ModelFolderError, match=rf"polydetr.json' does not list '{file}'"):
        LoadedModel.load(model)


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
def test_links_within_the_folder_and_to_it_are_followed(model, tmp_path):
    (model / "parts").mkdir()
    (model / WEIGHTS).rename(model / "parts/weights")
    (model / WEIGHTS).symlink_to("parts/weights")
    (tmp_path / "link").symlink_to(model)
    LoadedModel.load(tmp_path / "link")


def test_a_file_that_may_not_be_read_is_named_with_its_rights(model, monkeypatch):
    (model / WEIGHTS).chmod(0o600)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != WEIGHTS)  # root may read everything
    with pytest.raises(ModelFolderError, match=rf"{WEIGHTS}' may not be read: its rights are -rw-------"):
        LoadedModel.load(model)


# -- libraries below ---------------------------------------------------------------------------------------------------


def test_a_tokenizer_that_panics_is_a_named_error(model):
    broken = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    change(model, "tokenizer.json", "normalizer", to=broken)
    with pytest.raises(ModelFolderError, match=r"tokenizer\.json cannot be read as a tokenizer"):
        LoadedModel.load(model)


def test_a_tokenizer_that_gives_up_on_a_text_rejects_the_row(model):
    class Panic(BaseException):
        pass

    Panic.__module__ = "pyo3_runtime"

    def give_up(*_: object, **__: object) -> None:
        raise Panic("index out of bounds")

    loaded = LoadedModel.load(model)
    tokens = loaded._engine.encoder.modalities["text"].tokens  # type: ignore[attr-defined]
    tokens.spec = dataclasses.replace(tokens.spec, tokenizer=_Odd(tokens.spec.tokenizer, give_up))
    (answer,) = loaded.stream([{"text": "zyzzyva", "body": "zyzzyva"}])
    assert "the model's tokenizer cannot read this text" in answer["error"]


class _Odd:
    def __init__(self, tokenizer: Any, encode: Any) -> None:
        self._tokenizer, self.encode = tokenizer, encode

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def test_ids_beyond_the_vocabulary_reject_the_row(model):
    vocabulary = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    word = next(word for word in vocabulary if word.isalpha() and len(word) > 2)
    change(model, "tokenizer.json", "model", "vocab", word, to=10**6)
    loaded = LoadedModel.load(model)
    field = loaded._engine.encoder.modalities["text"].fields[0]
    (answer,) = loaded.stream([{field: word}])
    assert "it gives ids above" in answer["error"]


def test_settings_that_fetch_or_run_something_never_reach_transformers():
    pytest.importorskip("transformers")
    from polydetr.backbones.wrapped import TransformersEncoder, _configuration

    settings = {
        "model_type": "distilbert", "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16, "vocab_size": 32,
        "_attn_implementation": "somebody/kernel", "attn_implementation": "somebody/kernel", "_name_or_path": "/etc",
        "quantization_config": {"quant_method": "gptq"}, "auto_map": {"AutoModel": "somebody/code--model.Model"},
    }  # fmt: skip
    config = _configuration(settings)
    assert config._attn_implementation in (None, "eager", "sdpa")
    assert not hasattr(config, "quantization_config")
    TransformersEncoder(settings)
    for other in ({"model_type": "timm_wrapper"}, {"model_type": "detr", "use_timm_backbone": True}):
        with pytest.raises(BackboneError, match="timm is not supported"):
            _configuration(other)


ON_META = """
import importlib, pkgutil, torch, polydetr
with torch.device("meta"):
    names = [m.name for m in pkgutil.walk_packages(polydetr.__path__, "polydetr.") if "__main__" not in m.name]
    modules = [importlib.import_module(name) for name in names if not name.startswith("polydetr.apps")]
born = [f"{m.__name__}.{n}" for m in modules for n, v in vars(m).items() if isinstance(v, torch.Tensor) and v.is_meta]
assert not born, born
from polydetr.nn.cpu.int8 import computes_int8, linear_int8, pack_int8
if computes_int8():
    product = linear_int8(torch.ones(2, 64), pack_int8(torch.ones(32, 64)), torch.zeros(32))
    assert product.allclose(torch.tensor(64.0), atol=1)
"""


def test_no_constant_is_born_without_memory_whoever_imports_first():
    """As transformers does, which builds pretrained models on the device "meta", and backbones.text.pretrained."""
    done = subprocess.run([sys.executable, "-c", ON_META], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
