"""Without --out a run is kept under runs/NAME-DATE; what is there is replaced only when told."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from film_models import FLAGS, plain_rows, write_csv

SMALL = ("--target", "label", "--epochs", "1", *FLAGS)


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "film reviews.csv", plain_rows(60))
    return "film reviews.csv"


def test_without_a_folder_a_run_is_kept_under_its_name_and_date(rows: str, run: Callable) -> None:
    code, _, err = run("train", rows, *SMALL)
    assert code == 0
    said = re.match(r"the model will be saved in '(runs/film_reviews-\d{8}-\d{6})'", err)
    assert said, err
    assert f"saved to {said[1]}" in err
    assert run("predict", said[1], rows)[0] == 0
    assert run("train", rows, *SMALL)[0] == 0
    assert len(list(Path("runs").iterdir())) == 2  # the first one is still there


def test_to_resume_without_a_folder_takes_the_run_that_was_stopped(rows: str, run: Callable) -> None:
    code, _, err = run("train", rows, *SMALL, "--resume")
    assert (code, Path("runs").exists()) == (2, False)
    assert "no run on 'film reviews.csv' was stopped" in err
    stopped = Path("runs/film_reviews-20260101-000000.checkpoint/last.safetensors")
    stopped.parent.mkdir(parents=True)
    stopped.write_bytes(b"")
    code, _, err = run("train", rows, *SMALL, "--resume")
    assert "the model will be saved in 'runs/film_reviews-20260101-000000'" in err
    assert "cannot be read" in err  # it is an empty file


def test_a_model_is_replaced_only_when_told(rows: str, run: Callable) -> None:
    assert run("train", rows, *SMALL, "--out", "model")[0] == 0
    code, _, err = run("train", rows, *SMALL, "--out", "model")
    assert code == 2
    assert "'model' holds a model already" in err
    assert "--overwrite" in err
    code, _, err = run("train", rows, *SMALL, "--out", "model", "--overwrite")
    assert code == 0
    assert "replaces the model of" in err


def test_a_wrong_file_leaves_no_folder(run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("train", "nothing.csv")[0] == 2
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("verb", [(), ("train",), ("predict",), ("backbones",), ("data", "fetch")])
def test_help_has_a_short_name(verb: tuple[str, ...], run: Callable) -> None:
    assert run(*verb, "-h") == run(*verb, "--help")
    assert "Usage: polydetr" in run(*verb, "-h")[1]
