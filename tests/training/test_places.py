"""Where a run writes: its place is its own, and a cache that cannot be written is done without."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from tiny_runs import TRAIN, Watched, train

from polydetr import Predictor
from polydetr.data.store import ExampleStore
from polydetr.errors import OutputError, PolydetrError
from polydetr.inference.folder import LAST
from polydetr.training.places import place_of_run
from polydetr.tuning.places import DATABASE, Place

FLIPPED = [{**row, "label": "bad" if row["label"] == "good" else "good"} for row in TRAIN]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLYDETR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def at_first_step(action) -> Watched:
    return Watched(lambda info: action() if info.step == 1 else None)


@pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
def test_a_second_run_into_one_place_is_refused_at_once_and_the_first_is_whole(tmp_path):
    expected = train(tmp_path / "alone").predict_proba(TRAIN[:4])
    second = Watched()

    def intrude() -> None:
        with pytest.raises(OutputError, match=rf"out' is being written by process {os.getpid()}"):
            train(tmp_path / "out", train=FLIPPED, display=second)

    first = train(tmp_path / "out", display=at_first_step(intrude))
    assert not second.notes  # not even its rows were read
    assert first.predict_proba(TRAIN[:4]) == expected
    assert Predictor.load(tmp_path / "out").predict_proba(TRAIN[:4]) == expected
    assert sorted(os.listdir(tmp_path)) == ["alone", "cache", "out"]


@pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
def test_the_same_run_twice_at_once_without_a_place(tmp_path):
    found, second = [], Watched()

    def again() -> None:
        thread = threading.Thread(target=lambda: found.append(train(display=second).predict_proba(TRAIN[:4])))
        thread.start()
        thread.join()

    assert train(display=at_first_step(again)).predict_proba(TRAIN[:4])
    assert len(found) == 1
    assert sum("keeps its checkpoint elsewhere" in note for note in second.notes) == 1


@pytest.mark.parametrize("with_out", [True, False])
def test_a_cache_that_cannot_be_made_is_told_once(tmp_path, monkeypatch, with_out):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("POLYDETR_CACHE", str(tmp_path / "file/cache"))
    shown = Watched()
    predictor = train(tmp_path / "out" if with_out else None, display=shown, test=TRAIN[:5], epochs=0.1)
    assert predictor.predict(TRAIN[:2])
    told = [note for note in shown.notes if "POLYDETR_CACHE" in note]
    assert told == [
        f"the run does without a cache: '{tmp_path}/file/cache/encoded': Not a directory "
        "(POLYDETR_CACHE names another folder)"
    ]


def test_a_full_cache_is_done_without(tmp_path, cache, monkeypatch):
    real = ExampleStore.__dict__["write"].__func__
    tried: list[Path] = []

    def write(examples, path):
        tried.append(path.parent)
        if cache in path.parents:
            next(iter(examples))  # it was half written
            error = OSError(errno.ENOSPC, "No space left on device")
            from polydetr.errors import SaveError

            raise SaveError("cannot write") from error
        return real(examples, path)

    plain = train(tmp_path / "plain", epochs=0.2).predict_proba(TRAIN[:4])
    monkeypatch.setattr(ExampleStore, "write", staticmethod(write))
    shown = Watched()
    found = train(tmp_path / "out", train=list(TRAIN), display=shown, epochs=0.2, seed=0)
    assert found.predict_proba(TRAIN[:4]) == plain
    assert any("does without a cache" in note and "No space left on device" in note for note in shown.notes)
    assert cache / "encoded" in tried


@pytest.mark.parametrize("damage", ["rows", "account"])
def test_a_damaged_file_of_the_cache_is_made_anew(tmp_path, cache, damage):
    expected = train(tmp_path / "one", epochs=0.2).predict_proba(TRAIN[:4])
    (path,) = (cache / "encoded").glob("*.arrow" if damage == "rows" else "*.json")
    path.write_bytes(path.read_bytes()[:20])
    assert train(tmp_path / "two", epochs=0.2).predict_proba(TRAIN[:4]) == expected


def test_a_model_is_replaced_when_told_and_its_score_stands_beside_the_new_one(tmp_path):
    train(tmp_path / "out")
    before = (tmp_path / "out/polydetr.json").read_bytes()
    with pytest.raises(OutputError, match=r"holds a model already \(valid label accuracy [\d.]+\).*--overwrite"):
        train(tmp_path / "out", train=FLIPPED)
    with pytest.raises(OutputError, match="holds a model already"):  # a finished run has nothing to resume
        train(tmp_path / "out", resume=True)
    assert (tmp_path / "out/polydetr.json").read_bytes() == before
    shown = Watched()
    train(tmp_path / "out", train=FLIPPED, display=shown, overwrite=True)
    assert shown.notes[0] == f"the model will be saved in {str(tmp_path / 'out')!r}"
    assert any(note.startswith("replaces the model of 20") for note in shown.notes)
    assert any("valid label accuracy: " in note and " before, " in note for note in shown.notes)
    assert (tmp_path / "out/polydetr.json").read_bytes() != before


@pytest.mark.parametrize(
    ("left", "found"),
    [
        (["reviews-20260101-000000"], "reviews-20260101-000000"),
        (["reviews-20260101-000000-2", "reviews-de-20260102-000000"], "reviews-20260101-000000-2"),
        (["reviews-de-20260102-000000", "reviews-better"], None),
    ],
)
@pytest.mark.parametrize("verb", ["train", "tune"])
def test_without_a_place_the_latest_run_on_that_very_file_is_resumed(tmp_path, monkeypatch, verb, left, found):
    monkeypatch.chdir(tmp_path)
    for name in left:
        path = Path("runs", f"{name}.checkpoint" if verb == "train" else f"{name}.study")
        path.mkdir(parents=True)
        (path / (LAST if verb == "train" else DATABASE)).touch()

    def place() -> Path:
        if verb == "train":
            return place_of_run("reviews.csv", resume=True)
        return Place.of(None, None, None, rows="reviews.csv", resume=True).out

    if found is None:
        with pytest.raises(OutputError, match="nothing to resume"):
            place()
    else:
        assert place() == Path("runs", found)


def test_a_start_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(PolydetrError):
        train(tmp_path / "out", train=[{**row, "text": None} for row in TRAIN])
    with pytest.raises(PolydetrError):
        train(tmp_path / "out", backbone=str(tmp_path))
    assert sorted(os.listdir(tmp_path)) in ([], ["cache"])
