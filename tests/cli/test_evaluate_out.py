"""``evaluate --out``: what training writes, for any file."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from film_models import FLAGS, plain_rows, write_csv
from polydetr.cli import app


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated")
    write_csv(folder / "train.csv", plain_rows(60))
    write_csv(folder / "new rows.csv", plain_rows(30, start=200))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYDETR_CACHE", str(folder / "cache"))
        train = [
            "train",
            "--train",
            folder / "train.csv",
            "--target",
            "label",
            "--epochs",
            "1",
            "--out",
            folder / "model",
        ]
        done = CliRunner().invoke(app, [*map(str, train), *FLAGS])
        assert done.exit_code == 0, done.output
        yield folder


def test_it_writes_what_training_writes(run, base, tmp_path):
    out = tmp_path / "deep" / "reports"
    code, _, err = run("evaluate", base / "model", base / "new rows.csv", "--out", out)
    assert code == 0
    assert f"wrote the reports to {out}; the worst mistakes: new_rows-mistakes.html" in err
    written = {path.name.removeprefix("new_rows") for path in out.iterdir()}
    trained = {path.name.removeprefix("valid") for path in (base / "model" / "reports").iterdir()}
    assert written == trained - {"history.json", "learning_curve.png"}
    found = json.loads((out / "new_rows.json").read_text())
    assert found["mistakes"]["rows"] == 30
    assert sum(found["mistakes"]["counts"].values()) == round(30 * (1 - found["metrics"]["accuracy"]))


def test_reports_of_other_rows_and_of_training_stay(run, base, tmp_path):
    out, reports = tmp_path / "out", base / "model" / "reports"
    for folder, count in (("a", 12), ("b", 8)):
        (tmp_path / folder).mkdir()
        write_csv(tmp_path / folder / "new.csv", plain_rows(count, start=300))
    write_csv(tmp_path / "valid.csv", plain_rows(8, start=300))
    _, _, err = run("evaluate", base / "model", tmp_path / "a" / "new.csv", "--out", out)
    assert "called" not in err
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    for _ in range(2):  # its own reports are replaced
        _, _, err = run("evaluate", base / "model", tmp_path / "b" / "new.csv", "--out", out)
        assert "files of other rows that are called 'new': these reports are called 'new-2'" in err
        assert err.rstrip().endswith("; the worst mistakes: new-2-mistakes.html")
    assert {name: (out / name).read_bytes() for name in first} == first
    second = {path.name for path in out.iterdir()} - set(first)
    assert second == {name.replace("new", "new-2", 1) for name in first}
    assert json.loads((out / "new-2.json").read_text())["source"] == str((tmp_path / "b" / "new.csv").resolve())
    before = {path.name: path.read_bytes() for path in reports.iterdir()}
    run("evaluate", base / "model", tmp_path / "valid.csv", "--out", reports)
    assert {name: (reports / name).read_bytes() for name in before} == before
    for name in {path.name for path in reports.iterdir()} - set(before):
        assert name.startswith("valid-2")
        (reports / name).unlink()


def test_the_rows_themselves_are_no_report(run, base, tmp_path):
    rows = tmp_path / "new.json"
    rows.write_text(json.dumps(plain_rows(8, start=300)))
    kept = rows.read_bytes()
    code, _, err = run("evaluate", base / "model", rows, "--out", tmp_path)
    assert code == 0
    assert "new-2-mistakes.html" in err
    assert rows.read_bytes() == kept


def test_json_stays_alone_on_standard_output(run, base, tmp_path):
    code, out, _ = run("evaluate", base / "model", base / "new rows.csv", "--out", tmp_path / "r", "--json")
    assert code == 0
    assert "accuracy" in json.loads(out)["label"]
    assert (tmp_path / "r" / "new_rows-mistakes.html").is_file()


def test_a_reader_that_goes_away_leaves_whole_reports(base, tmp_path):
    call = [
        sys.executable,
        "-m",
        "polydetr",
        "evaluate",
        base / "model",
        base / "new rows.csv",
        "--out",
        tmp_path / "r",
    ]
    with subprocess.Popen(list(map(str, call)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
    assert (tmp_path / "r" / "new_rows-mistakes.html").read_text("utf-8").rstrip().endswith("</html>")


@pytest.mark.parametrize("place", ["file", "pipe"])
def test_a_place_that_is_no_folder_is_refused_before_the_work(run, base, tmp_path, place):
    out = tmp_path / place
    if place == "pipe":
        os.mkfifo(out)
    else:
        out.write_text("mine")
    code, printed, err = run("evaluate", base / "model", base / "new rows.csv", "--out", out)
    assert code == 1
    assert "for the reports cannot be made" in err
    assert not printed
    assert place == "pipe" or out.read_text() == "mine"


def test_the_model_card_shows_the_pictures_and_names_the_files(base):
    card = (base / "model" / "README.md").read_text("utf-8")
    for path in (base / "model" / "reports").iterdir():
        assert f"](reports/{path.name})" in card
    assert "![valid-confusion](reports/valid-confusion.png)" in card


def test_the_loss_of_every_step_is_kept(base):
    history = json.loads((base / "model" / "reports" / "history.json").read_text())
    assert len(history["steps"]["losses"]) == history["evaluations"][-1]["step"] > 1
    assert history["steps"]["steps_per_loss"] == 1
