"""Saving touches what is the model's own and nothing else, whatever stands at the place."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import threading
import time
from pathlib import Path

import pytest

from polydetr import Predictor
from polydetr.errors import ModelFolderError, OutputError, SaveError
from polydetr.inference import load
from polydetr.inference.folder import MANIFEST, SEAL, WEIGHTS, seal_of
from polydetr.inference.writing import WritingWarning
from polydetr.model.folder import reserved

SAVED = Path(__file__).parent / "saved_by_old"
pytestmark = pytest.mark.skipif(os.name != "posix", reason="links and rights of POSIX")


def rows_of(name: str) -> list[dict]:
    return json.loads((SAVED / name / "rows.json").read_text(encoding="utf-8"))[:3]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAVED / "text" / "model", tmp_path / "model"))


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def test_a_linked_folder_stays_a_link(model, tmp_path):
    (tmp_path / "far").mkdir()
    model.rename(tmp_path / "far/real")
    model.symlink_to("far/real")
    loaded = Predictor.load(model)
    (tmp_path / "far/real" / WEIGHTS).unlink()
    loaded.save(model)
    assert model.is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["far", "model"]
    assert os.listdir(tmp_path / "far") == ["real"]
    assert Predictor.load(tmp_path / "far/real").predict(rows_of("text"))


def test_files_of_others_are_kept_and_own_ones_go(model):
    (model / "notes.txt").write_text("mine")
    (model / ".git").mkdir()
    (model / ".git/HEAD").write_text("ref")
    (model / "link").symlink_to("/nowhere")
    (model / "reports").mkdir()
    (model / "reports/mine.txt").write_text("mine too")
    manifest = json.loads((model / MANIFEST).read_text(encoding="utf-8"))
    manifest["files"]["reports/old.txt"] = {"sha256": "0" * 64, "bytes": 1}
    (model / "reports/old.txt").write_text("x")
    (model / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    Predictor.load(SAVED / "text" / "model").save(model)
    added = names(model) - {MANIFEST, WEIGHTS, "backbone.json", "tokenizer.json"}
    assert added == {"notes.txt", ".git/HEAD", "link", "reports/mine.txt"}
    assert (model / "reports/mine.txt").read_text() == "mine too"
    assert os.readlink(model / "link") == "/nowhere"
    assert os.listdir(model.parent) == ["model"]


@pytest.mark.parametrize("given_back", [False, True])
def test_what_a_killed_save_left_is_put_in_order(model, given_back):
    loaded = Predictor.load(model)
    old = model.with_name(f".model.{'0' * 16}.old")
    (model / "notes.txt").write_text("mine")
    (model.with_name(f".model.{'1' * 16}.new")).mkdir()
    for other in (".model.v2.new", ".model.new"):  # names of somebody else's folders
        model.with_name(other).mkdir()
    model.rename(old)
    if not given_back:  # killed after the second move: the new model is there, the old one not yet gone
        shutil.copytree(old, model, ignore=shutil.ignore_patterns("notes.txt"))
    loaded.save(model)
    assert (model / "notes.txt").read_text() == "mine"
    assert sorted(os.listdir(model.parent)) == [".model.new", ".model.v2.new", "model"]


@pytest.mark.parametrize("what", ["pipe", "file", "link to a file", "link to itself"])
def test_what_is_no_folder_is_refused_and_left_alone(model, tmp_path, what):
    place = tmp_path / "place"
    if what == "pipe":
        os.mkfifo(place)
    elif what == "file":
        place.write_text("mine")
    else:
        place.symlink_to("place" if what == "link to itself" else model / MANIFEST)
    before = place.lstat().st_ino, place.lstat().st_mode
    with pytest.raises(OutputError, match="exists and is not a polydetr model"):
        Predictor.load(model).save(place)
    with pytest.raises(OutputError, match="exists and is not a polydetr model"), reserved(place):
        pass
    assert (place.lstat().st_ino, place.lstat().st_mode) == before


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_all_files_have_the_rights_that_the_user_gives(model, tmp_path, mask):
    (model / "README.md").write_text("card")
    (model / "reports").mkdir()
    (model / "reports/valid.json").write_text("{}")
    loaded = Predictor.load(model)
    before = os.umask(mask)
    try:
        loaded.save(tmp_path / "copy")
    finally:
        os.umask(before)
    found = {name: stat.S_IMODE((tmp_path / "copy" / name).stat().st_mode) for name in names(tmp_path / "copy")}
    assert {"README.md", "reports/valid.json", WEIGHTS, MANIFEST} <= found.keys()
    assert set(found.values()) == {0o666 & ~mask}
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o777 & ~mask


@pytest.mark.parametrize("remark", ["", "my own remark"])
def test_a_model_that_is_saved_twice_keeps_card_and_reports(model, remark):
    (model / "README.md").write_text("card")
    (model / "reports").mkdir()
    (model / "reports/valid.json").write_text("{}")
    Predictor.load(model).save(model)  # in today's format
    (model / "README.md").write_text(f"card {remark}")
    loaded = Predictor.load(model)
    for _ in range(2):
        loaded.save(model)
        assert loaded.info == json.loads((model / MANIFEST).read_text(encoding="utf-8"))
        assert (model / "README.md").read_text() == f"card {remark}"
        assert (model / "reports/valid.json").exists()


def test_a_folder_keeps_its_rights(model):
    model.chmod(0o700)
    Predictor.load(model).save(model)
    assert stat.S_IMODE(model.stat().st_mode) == 0o700


def test_saves_into_one_place_at_once_leave_one_whole_model(model, tmp_path):
    loaded, errors = Predictor.load(model), []
    answers = loaded.predict(rows_of("text"))

    def save() -> None:
        try:
            for _ in range(3):
                loaded.save(tmp_path / "shared")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=save) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sorted(os.listdir(tmp_path)) == ["model", "shared"]
    assert Predictor.load(tmp_path / "shared").predict(rows_of("text")) == answers


def test_a_place_is_reserved_once_under_all_its_names(model, tmp_path):
    (tmp_path / "link").symlink_to("model")
    with reserved(model):
        told = f"link' is being written by process {os.getpid()}"
        with pytest.raises(OutputError, match=told), reserved(tmp_path / "link"):
            pass
        with reserved(tmp_path / "other"):
            pass
    assert sorted(os.listdir(tmp_path)) == ["link", "model"]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.* no longer holds the model")  # but one that the child saved, in today's format
def test_a_save_that_is_killed_leaves_a_whole_model_and_the_files_of_others(model):
    """A few of those in benchmarks/kills.py."""
    loaded = Predictor.load(model)
    answers = loaded.predict_proba(rows_of("text"))
    (model / "notes.txt").write_text("mine")
    half = tries = 0
    while tries < 8 or (not half and tries < 60):  # on a busy machine a child has perhaps not begun to save
        child = os.fork()
        if child == 0:
            while True:
                loaded.save(model)
        time.sleep(0.01 + 0.006 * tries)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        tries += 1
        half += bool(list(model.parent.glob(".model.*.new")))
        try:
            whole = Predictor.load(model).predict_proba(rows_of("text")) == answers
        except ModelFolderError as error:
            whole = "An interrupted save left the model" in str(error)
        assert whole
        loaded.save(model)
        assert (model / "notes.txt").read_text() == "mine"
        assert os.listdir(model.parent) == ["model"]
    assert half, "no kill fell into a save"


# -- a model in use, while its folder changes ------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_copy_answers_as_the_loaded_model_after_its_folder_holds_another(model, tmp_path, precision):
    (model / "README.md").write_text("card of the first")
    import torch

    loaded = Predictor.load(model, precision=precision)
    before = loaded.predict_proba(rows_of("text"))
    other = Predictor.load(model, precision="fp32")
    with torch.no_grad():
        for parameter in other._engine.runner.model.parameters():
            parameter.mul_(-1.5)
    other.save(model)
    (model / "README.md").write_text("card of the second")
    with pytest.warns(WritingWarning, match=r"model' no longer holds the model: its card, reports and kept rows are"):
        loaded.save(tmp_path / "copy")
    assert Predictor.load(tmp_path / "copy", precision=precision).predict_proba(rows_of("text")) == before
    assert not (tmp_path / "copy/README.md").exists()  # it was of the other one


def test_weights_overwritten_in_place_are_never_taken_for_those_in_use(model, tmp_path):
    import torch
    from safetensors.torch import load_file, save

    loaded = Predictor.load(model, precision="bf16")
    weights = {name: tensor * -1.5 for name, tensor in load_file(model / WEIGHTS).items()}
    with (model / WEIGHTS).open("r+b") as file:  # the same file, as cp writes it
        file.write(save({name: tensor.to(torch.float32) for name, tensor in weights.items()}))
    with pytest.raises((ModelFolderError, SaveError), match="was overwritten since"):
        loaded.save(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("times", [1, 2])
def test_a_folder_that_is_replaced_while_it_is_loaded_is_read_again_once(model, tmp_path, monkeypatch, times):
    others = [Path(shutil.copytree(model, tmp_path / f"other{i}")) for i in range(times)]
    for i, other in enumerate(others):
        manifest = json.loads((other / MANIFEST).read_text(encoding="utf-8")) | {"created": f"later {i}"}
        manifest[SEAL] = seal_of(manifest)
        (other / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    read_parts = load.read_parts

    def swapping(*args):
        if others:
            shutil.rmtree(model)
            others.pop(0).rename(model)
        return read_parts(*args)

    monkeypatch.setattr(load, "read_parts", swapping)
    if times == 1:
        assert Predictor.load(model).info["created"] == "later 0"
    else:
        with pytest.raises(ModelFolderError, match="model' was replaced while it was loaded, twice"):
            Predictor.load(model)


# -- links in a model that is saved elsewhere ------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["README.md", "reports/more", "reports/deep/key.txt"])
def test_a_link_out_of_the_folder_is_not_copied(model, tmp_path, where):
    (tmp_path / "private").mkdir()
    (tmp_path / "private/key").write_text("secret")
    (model / where).parent.mkdir(parents=True, exist_ok=True)
    (model / where).symlink_to(tmp_path / ("private" if where == "reports/more" else "private/key"))
    with pytest.raises(ModelFolderError, match=rf"{Path(where).name}' is a link that leads out of the folder"):
        Predictor.load(model).save(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_pipe_among_the_reports_is_refused(model, tmp_path):
    (model / "reports").mkdir()
    os.mkfifo(model / "reports/pipe")
    with pytest.raises(ModelFolderError, match="pipe' is not an ordinary file"):
        Predictor.load(model).save(tmp_path / "copy")
