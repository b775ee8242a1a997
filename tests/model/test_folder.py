"""The model folder: whole or refused, replaced at once or not at all, free of anything that executes."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from film_models import SETTINGS, Quiet, plain_rows
from polydetr import Predictor
from polydetr.errors import ConfigError, ModelFolderError, SaveError
from polydetr.inference.folder import MANIFEST, SEAL, WEIGHTS, seal_of

ROWS = [row["text"] for row in plain_rows(6)]
READ = ("model.safetensors", "backbone.json", "tokenizer.json")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    base = tmp_path_factory.mktemp("folder")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYDETR_CACHE", str(base / "cache"))
        Predictor.fit(
            plain_rows(40), "label", valid=plain_rows(10, start=50), out=base / "model", backbone="none", epochs=1,
            settings=SETTINGS, display=Quiet(),
        )  # fmt: skip
    return base / "model"


@pytest.fixture
def model(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "model"))


def reseal(folder: Path, **changes) -> None:
    """Changes the description as a newer version would have written it, with a fitting checksum."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8")) | changes
    manifest[SEAL] = seal_of(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def test_what_lies_in_it(model):
    found = {p.relative_to(model).as_posix() for p in model.rglob("*") if p.is_file()}
    assert {MANIFEST, *READ, "README.md", "reports/learning_curve.png", "reports/valid.json"} <= found
    assert {Path(name).suffix for name in found} <= {".json", ".jsonl", ".safetensors", ".md", ".png", ".txt", ".html"}


@pytest.mark.parametrize("name", READ)
def test_a_missing_file_is_named(model, name):
    (model / name).unlink()
    with pytest.raises(ModelFolderError, match=rf"lacks '{re.escape(name)}'.*Copy the whole model folder"):
        Predictor.load(model)


@pytest.mark.parametrize("name", READ)
def test_a_truncated_file_is_named_with_both_sizes(model, name):
    content = (model / name).read_bytes()
    (model / name).write_bytes(content[: len(content) // 2])
    sizes = f"has {len(content) // 2} bytes, expected {len(content)}"
    with pytest.raises(ModelFolderError, match=rf"{re.escape(name)}' {sizes}: truncated"):
        Predictor.load(model)


@pytest.mark.parametrize("name", READ)
def test_one_changed_byte_is_found(model, name):
    content = bytearray((model / name).read_bytes())
    content[-2] ^= 1
    (model / name).write_bytes(content)
    with pytest.raises(
        ModelFolderError, match=rf"{re.escape(name)}' is not the file that was saved \(sha256 differs\)"
    ):
        Predictor.load(model)


@pytest.mark.parametrize(("old", "new"), [('"bad"', '"sad"'), ('"accuracy"', '"accurate"'), ('"files"', '"filed"')])
def test_a_changed_description_is_found(model, old, new):
    text = (model / MANIFEST).read_text(encoding="utf-8")
    assert old in text
    (model / MANIFEST).write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ModelFolderError, match=r"polydetr\.json' was changed after it was saved"):
        Predictor.load(model)


@pytest.mark.parametrize("content", ["{", "[]", "null", "", "\xff\xfe"])
def test_a_description_that_is_none(model, content):
    (model / MANIFEST).write_bytes(content.encode("latin-1"))
    with pytest.raises(ModelFolderError, match=r"polydetr\.json' (cannot be read|holds no description)"):
        Predictor.load(model)


def test_the_card_and_the_reports_may_be_edited(model):
    (model / "README.md").write_text("our own words")
    shutil.rmtree(model / "reports")
    assert Predictor.load(model).predict(ROWS)


def test_a_newer_version_is_named(model):
    reseal(model, format_version=2, versions={"polydetr": "9.1.0"})
    with pytest.raises(
        ModelFolderError, match=r"format 2 by polydetr 9\.1\.0; this version, .*up to format 1.*Upgrade"
    ):
        Predictor.load(model)


def test_unknown_parts_are_refused_not_guessed(model):
    reseal(model, tasks={"label": {"kind": "telepathy", "target": "label"}})
    with pytest.raises(ModelFolderError, match=r"tasks\.label\.config: Field required"):
        Predictor.load(model)


def test_not_a_model(tmp_path):
    with pytest.raises(ModelFolderError, match="there is no model folder"):
        Predictor.load(tmp_path / "nothing")
    (tmp_path / "photos").mkdir()
    with pytest.raises(ModelFolderError, match="is not a polydetr model: it has no"):
        Predictor.load(tmp_path / "photos")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ModelFolderError, match="is not a polydetr model"):
        Predictor.load(tmp_path / "file")
    for name in ("no\0name", "a" * 300):
        with pytest.raises(ModelFolderError, match="there is no model folder"):
            Predictor.load(name)


# -- saving ---------------------------------------------------------------------------------------------------------


def test_saving_again_gives_the_same_bytes_and_keeps_card_and_reports(model, tmp_path):
    for precision in ("fp32", "bf16"):
        copy = tmp_path / precision
        Predictor.load(model, precision=precision).save(copy)
        for name in (*READ, "README.md", "reports/valid.json"):
            assert (copy / name).read_bytes() == (model / name).read_bytes(), name
        assert Predictor.load(copy).predict_proba(ROWS) == Predictor.load(model).predict_proba(ROWS)


def test_saving_over_itself(model):
    before = (model / WEIGHTS).read_bytes()
    Predictor.load(model).save(model)
    assert (model / WEIGHTS).read_bytes() == before
    assert sorted(p.name for p in model.parent.iterdir()) == ["model"]


def test_other_peoples_files_are_not_overwritten(model, tmp_path):
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "chapter.tex").write_text("years of work")
    loaded = Predictor.load(model)
    with pytest.raises(SaveError, match=r"thesis' exists and is not a polydetr model: it is not overwritten"):
        loaded.save(mine)
    with pytest.raises(SaveError, match="not overwritten"):
        loaded.save(mine / "chapter.tex")
    assert (mine / "chapter.tex").read_text() == "years of work"
    with pytest.raises(SaveError, match="no name for a model folder"):
        loaded.save(".")
    with pytest.raises(SaveError, match="cannot be used: File name too long"):
        loaded.save("a" * 300)


def test_a_foreign_folder_is_refused_before_the_training(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x/notes.txt").write_text("mine")
    shown = Quiet()
    with pytest.raises(SaveError, match="not overwritten"):
        Predictor.fit(plain_rows(20), "label", out=tmp_path / "x", backbone="none", settings=SETTINGS, display=shown)
    assert not any("precision" in note for note in shown.notes)


@pytest.mark.parametrize("where", ["save_file", "write_text", "os.replace"])
def test_a_full_disk_leaves_the_old_model(model, monkeypatch, where):
    loaded = Predictor.load(model)
    before = loaded.predict_proba(ROWS)

    def full(*args, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(f"polydetr.model.folder.{where}", full)
        with pytest.raises(SaveError, match=r"No space left on device.*untouched.*Free some disk space"):
            loaded.save(model)
    assert [p.name for p in model.parent.iterdir()] == ["model"]
    assert Predictor.load(model).predict_proba(ROWS) == before


def test_an_interrupted_save_leaves_the_old_model(model, monkeypatch):
    loaded = Predictor.load(model)
    real = os.replace

    def interrupted(source, target):
        if Path(source).name.endswith(".new"):  # the old one has just been moved away
            raise KeyboardInterrupt
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("polydetr.model.folder.os.replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            loaded.save(model)
    assert [p.name for p in model.parent.iterdir()] == ["model"]
    assert Predictor.load(model).predict(ROWS)


def test_a_save_killed_between_its_moves_is_explained_and_mended(model):
    loaded = Predictor.load(model)
    left = model.with_name(f".model.{'0' * 16}.old")
    model.rename(left)
    with pytest.raises(ModelFolderError, match=rf"interrupted save left the model in '.*{left.name}': rename it"):
        Predictor.load(model)
    loaded.folder = left

    def full(*arguments, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("polydetr.model.folder.save_file", full)
        with pytest.raises(SaveError):
            loaded.save(model)
    assert Predictor.load(model).predict(ROWS)


def test_a_disk_that_is_really_full(model, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    size = sum(-(-p.stat().st_size // 4096) * 4096 for p in model.rglob("*") if p.is_file())  # in whole pages
    room = int(size * 1.6) // 4096 * 4096  # one model fits, a second beside it does not
    mounted = os.geteuid() == 0 and shutil.which("mount")
    call = ["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(small)]
    if not mounted or subprocess.run(call, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system takes the rights of root")
    try:
        loaded = Predictor.load(model)
        loaded.save(small / "model")
        before = Predictor.load(small / "model").predict_proba(ROWS)
        with pytest.raises(SaveError, match="No space left on device"):
            loaded.save(small / "model")
        assert [p.name for p in small.iterdir()] == ["model"]
        assert Predictor.load(small / "model").predict_proba(ROWS) == before
    finally:
        subprocess.run(["umount", str(small)], check=True)


# -- loading --------------------------------------------------------------------------------------------------------


def test_precision_on_loading(model):
    import torch

    def dtype(precision):
        return next(Predictor.load(model, precision=precision)._engine.runner.model.parameters()).dtype

    assert dtype("fp32") == torch.float32
    assert dtype("bf16") == torch.bfloat16
    reseal(model, training={"precision": "fp32"})
    assert dtype("auto") == torch.float32
    reseal(model, training={"precision": "bf16"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("polydetr.model.precision.computes_bf16", lambda device: True)
        assert dtype("auto") == torch.bfloat16
        patch.setattr("polydetr.model.precision.computes_bf16", lambda device: False)
        assert dtype("auto") == torch.float32
    with pytest.raises(ConfigError, match=r"precision='bf61' is unknown.*'bf16'"):
        Predictor.load(model, precision="bf61")  # type: ignore[arg-type]


def test_nothing_in_the_package_unpickles_or_runs_what_it_reads():
    forbidden = re.compile(
        r"\b(import|from) (pickle|joblib|dill)\b|\bpickle\.|\btorch\.load\((?!.*weights_only=True)"
        r"|\byaml\.(unsafe_|full_)?load\b|\bnp\.load\b|\bmarshal\b"
        r"|(?<![\w.])eval\(|(?<![\w.])exec\("
    )
    root = Path(__file__).parents[2] / "src" / "polydetr"
    found = [
        f"{path.relative_to(root)}:{number}: {line.strip()}"
        for path in root.rglob("*.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if forbidden.search(line)
    ]
    assert not found
