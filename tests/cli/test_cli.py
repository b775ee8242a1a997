"""The command line: every verb, exit codes, one JSON document alone on standard output, no tracebacks."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from film_models import FLAGS, plain_rows, polydetr, write_csv


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    write_csv(folder / "train.csv", plain_rows(60))
    write_csv(folder / "test.csv", plain_rows(12, start=200))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYDETR_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture(scope="module")
def trained(base):
    """A model trained by the command line, and what the process said."""
    done = polydetr("train", "--train", base / "train.csv", "--target", "label", "--test", base / "test.csv",
                    "--epochs", "3", "--out", base / "model", "--json", *FLAGS)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def model(base, trained):
    return base / "model"


def test_train_prints_one_json_document_and_nothing_else(trained, base):
    found = json.loads(trained.stdout)
    assert found["out"] == str(base / "model")
    assert {"accuracy", "macro_f1", "weighted_f1", "ece"} <= set(found["metrics"]["test"]["label"])
    assert found["training"]["steps"] > 0
    assert "epoch 1" in trained.stderr
    assert "held out" in trained.stderr


def test_train_for_people(run, base, tmp_path):
    code, out, err = run("train", "--train", base / "train.csv", "--target", "label:classification", "--epochs", "0.2",
                         "--out", tmp_path / "m", *FLAGS)  # fmt: skip
    assert code == 0
    assert "valid: label classes" in out
    assert re.search(r"valid label: accuracy 0\.\d{4}", out)
    assert f"next: polydetr predict {tmp_path / 'm'} FILE" in err


def test_evaluate(run, model, base):
    code, out, _ = run("evaluate", model, base / "test.csv", "--json")
    assert code == 0
    assert "accuracy" in json.loads(out)["label"]
    code, out, _ = run("evaluate", model, base / "test.csv")
    assert code == 0
    assert "label: classes" in out


def test_evaluate_names_unseen_labels_on_standard_error(run, model, tmp_path):
    file = write_csv(tmp_path / "odd.csv", [*plain_rows(4), {"text": "x y", "label": "odd"}])
    code, out, err = run("evaluate", model, file, "--json")
    assert code == 0
    json.loads(out)
    assert "polydetr: these rows have labels of 'label' that training never saw" in err
    assert "'odd' (1)" in err


def test_predict_a_file_in_order(run, model, base, tmp_path):
    code, out, err = run("predict", model, base / "test.csv")
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert err == ""
    assert [a["row"] for a in answers] == list(range(1, 13))
    assert all(a["prediction"]["label"] in ("good", "bad") for a in answers)
    code, out, _ = run("predict", model, base / "test.csv", "--out", tmp_path / "answers.jsonl")
    assert code == 0
    assert out == ""
    assert [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()] == answers


def test_predict_into_a_table_and_a_page(run, model, base, tmp_path):
    table, page = tmp_path / "answers.csv", tmp_path / "answers.html"
    code, out, err = run("predict", model, base / "test.csv", "--out", table, "--html", page, "--probabilities")
    assert (code, out, err) == (0, "", "")
    head, *rows = table.read_text(encoding="utf-8").splitlines()
    assert head == ("text,label,predicted_label,label_confidence,label_probability_bad,label_probability_good,"
                    "warnings,error")  # fmt: skip
    assert len(rows) == 12
    assert "Answers of model" in page.read_text(encoding="utf-8")
    code, out, _ = run("predict", model, base / "test.csv", "--probabilities")
    assert json.loads(out.splitlines()[0])["probabilities"]["label"].keys() == {"good", "bad"}
    code, _, err = run("predict", model, table, "--out", tmp_path / "again.csv")
    assert code == 0
    assert "the answers stand in 'predicted_label_2', 'label_confidence_2'" in err


def test_predict_texts_of_the_command_line_and_of_a_text_file(run, model, tmp_path):
    code, out, _ = run("predict", model, "--text", "a lovely evening", "--text", "text=a = b")
    assert code == 0
    assert len(out.splitlines()) == 2
    (tmp_path / "new.txt").write_text("a lovely evening\na = b\n", encoding="utf-8")
    code, lines, _ = run("predict", model, tmp_path / "new.txt")
    assert [json.loads(line)["probability"] for line in lines.splitlines()] == [
        json.loads(line)["probability"] for line in out.splitlines()
    ]
    for call in ([], [tmp_path / "new.txt", "--text", "x"]):
        code, out, err = run("predict", model, *call)
        assert (code, out) == (2, "")
        assert "--text" in err


def test_predict_refuses_other_suffixes(run, model, base, tmp_path):
    code, out, err = run("predict", model, base / "test.csv", "--out", tmp_path / "answers.doc")
    assert (code, out) == (2, "")
    assert "answers are not written as '.doc'. End the file's name in one of .csv, .tsv, .parquet, .xlsx, .jsonl" in err
    assert not list(tmp_path.glob("answers*"))


@pytest.mark.skipif(os.name != "posix", reason="/dev/stdout")
@pytest.mark.parametrize("into", ["pipe", "file"])
def test_predict_into_standard_output_by_its_name(model, base, tmp_path, into):
    call = f"{sys.executable} -m polydetr predict {model} {base / 'test.csv'} --out /dev/stdout"
    call += " | cat" if into == "pipe" else f" > {tmp_path / 'log'} && cat {tmp_path / 'log'}"
    done = subprocess.run(["bash", "-c", call], capture_output=True, text=True, check=False)
    assert [json.loads(line)["row"] for line in done.stdout.splitlines()] == list(range(1, 13))


def test_predict_standard_input_and_module(model, trained):
    done = polydetr("predict", model, "-", stdin='{"text": "a lovely one"}\n{"txt"\n{"text": "冷 cold"}\n')
    assert done.returncode == 0
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert ["error" in a for a in answers] == [False, True, False]
    assert done.stderr.strip() == 'polydetr: 1 row was rejected; each has its reason under "error"'


def test_where_every_row_is_rejected_the_exit_code_says_so(run, model, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text,label\na,b,c\nd,e,f\n")
    code, out, err = run("predict", model, path)
    assert (code, out.count('"error"')) == (1, 2)
    assert "2 rows were rejected" in err
    code, out, err = run("predict", model, path, "--skip-errors")
    assert (code, out) == (1, "")
    assert "2 rows were left out (first: " in err
    path.write_text("text,label\na,b,c\na warm evening,good\n")
    assert run("predict", model, path)[0] == 0


@pytest.mark.parametrize("verb", ["evaluate", "predict", "explain", "inspect", "train"])
def test_every_verb_takes_the_ways_to_read(run, model, tmp_path, verb):
    path = tmp_path / "rows"
    rows = "\n".join(f"{row['text']}|{row['label']}" for row in plain_rows(8))
    path.write_text(f"天气很好|good\n{rows}\na|b|c\n", encoding="gb18030")
    with_target = [path, "--target", "label"]
    own = {"inspect": with_target, "train": [*with_target, "--epochs", "1", *FLAGS], "explain": [model, path, "--json"]}
    call = [verb, *own.get(verb, [model, path]), "--format", "csv"]
    how = ["--encoding", "gb18030", "--delimiter", "|", "--no-header", "--columns", "text,label", "--skip-errors"]
    code, _, err = run(*call, *how)
    assert code == 0, err
    code, _, err = run(*call)
    assert code == 2
    assert "pass --encoding gb18030 (ReadOptions(encoding='gb18030'))" in err


def test_out_appears_whole_or_not_at_all(run, model, tmp_path):
    target = tmp_path / "answers.jsonl"
    target.write_text("yesterday's\n")
    bad = tmp_path / "bad.csv"
    bad.write_bytes(b"text\nfine\n" * 5 + b"\xff\xfe\xff\n")
    code, _, err = run("predict", model, bad, "--out", target)
    assert code == 2
    assert "not utf-8" in err
    assert target.read_text() == "yesterday's\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["answers.jsonl", "bad.csv"]
    code, _, err = run("predict", model, bad, "--encoding", "latin-1", "--out", tmp_path / "nowhere" / "x.jsonl")
    assert code == 1
    assert "cannot write" in err


def test_a_reader_that_goes_away(model, base, trained):
    call = f"{sys.executable} -m polydetr predict {model} {base / 'test.csv'} | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", call], capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["row"] == 1
    assert done.stderr == ""


def test_inspect(run, base):
    code, out, _ = run("inspect", base / "train.csv", "--json")
    assert code == 0
    assert json.loads(out)["schema"]["targets"] == [{"name": "label", "task": "classification"}]
    code, out, _ = run("inspect", base / "train.csv", "--test", base / "test.csv")
    assert code == 0
    assert "label" in out


@pytest.mark.parametrize("verb", ["backbones", "data"])
def test_lists(run, verb):
    code, out, _ = run(verb, "list", "--json")
    assert code == 0
    assert len(json.loads(out)) >= 3
    code, out, _ = run(verb, "list")
    assert code == 0
    assert json.loads(json.dumps(out)).count("\n") >= 3
    code, _, err = run(verb, "fetch", "nonsense")
    assert code == 2
    assert "nonsense" in err


# -- wrong calls --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "No such command 'trian'"),
        (["train", "--trian", "x"], "No such option.*--trian"),
        (["train", "--epochs", "many"], "Invalid value for '--epochs'"),
        (["train"], "no training rows were given"),
        (["train", "--train", "nowhere.csv"], "no such file: 'nowhere.csv'"),
        (["train", "nowhere.yaml"], "configuration file 'nowhere.yaml' does not exist"),
        (["train", "--set", "training.lr"], "is not of the form key=value"),
        (["train", "--preset", "bset", "--train", "x"], "preset = 'bset'"),
        (["evaluate", "nowhere", "x.csv"], "there is no model folder 'nowhere'"),
        (["predict"], "Missing argument"),
        (["backbones"], "fetch"),
        ([], "Usage"),
    ],
)
def test_a_wrong_call_is_explained_in_a_line(run, arguments, said):
    code, out, err = run(*arguments)
    assert code == 2
    assert re.search(said, out + err)


def test_an_output_that_holds_something_else_is_left_alone(run, base, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    code, _, err = run("train", "--train", base / "train.csv", "--target", "label", "--out", tmp_path, *FLAGS)
    assert code == 2
    assert "is not a polydetr model: it is not overwritten. Name another folder." in err
    assert "reads" not in err  # known before anything is read
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["notes.txt"]


def test_help_and_version(run):
    import polydetr as package

    for arguments in (["--help"], ["train", "--help"], ["predict", "--help"], ["backbones", "--help"]):
        code, out, _ = run(*arguments)
        assert code == 0
        assert "Usage" in out
    assert run("--version") == (0, f"polydetr {package.__version__}\n", "")


def test_a_fault_of_ours_is_no_traceback(run, monkeypatch, model):
    def broken(*arguments, **more):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("polydetr.inference.model.LoadedModel.load", broken)
    monkeypatch.delenv("POLYDETR_DEBUG", raising=False)
    code, _, err = run("evaluate", model, "x.csv")
    assert code == 1
    assert err.startswith("polydetr: ZeroDivisionError: division by zero")


# -- Ctrl-C ---------------------------------------------------------------------------------------------------------


def test_ctrl_c_then_resume(run, base, tmp_path):
    arguments = ["train", "--train", base / "train.csv", "--target", "label", "--out", tmp_path / "m",
                 "--epochs", "400",
                 "--set", "training.patience=0", *FLAGS]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "polydetr", *map(str, arguments)],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch 2 "):
            process.send_signal(signal.SIGINT)
            break
    started = time.monotonic()
    rest = process.stderr.read()
    process.stderr.close()
    assert process.stdout is not None
    assert process.stdout.read() == ""
    process.stdout.close()
    assert process.wait() == 1
    assert time.monotonic() - started < 20
    assert re.search(r"polydetr: stopped after \d+ steps; the state of step \d+ is kept in .*--resume", rest)
    assert "Traceback" not in rest
    assert (tmp_path / "m.checkpoint/last.safetensors").exists()
    assert not (tmp_path / "m").exists()
    code, _, err = run(*arguments, "--resume", "--json", "--time-limit", "1s")
    assert code == 2, "another time limit is another run"
    assert "made with another configuration" in err
