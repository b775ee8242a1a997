"""``Predictor.tune`` and ``polydetr tune``, with real trainings of a second and without."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny_studies import Notes

from film_models import plain_rows, write_csv
from polydetr import Predictor
from polydetr.core.installed import pip_install
from polydetr.core.studies import Gain
from polydetr.errors import ConfigError, Interrupted, PolydetrError, StudyError
from polydetr.training import read
from polydetr.training.callbacks import Display, StepInfo
from polydetr.training.plan import LEAST_MEASURED
from polydetr.training.trials import SharedRows, TrialResult
from polydetr.tuning.times import Times

SEARCH = {"training": {"head_lr": {"low": 1e-4, "high": 2e-2, "log": True}}, "model": {"dropout": [0.0, 0.3]}}
SMALL: dict[str, Any] = {
    "backbone": "none", "epochs": 1, "settings": {
        "model": {"embed_dim": 16, "num_layers": 1, "num_heads": 2},
        "training": {"batch_tokens": 128, "patience": 0, "precision": "fp32"},
    },
}  # fmt: skip
TRAIN, VALID, TEST = plain_rows(60), plain_rows(40, start=100), plain_rows(20, start=200)
YAML = """
train: films.csv
target: label
backbone: none
epochs: 1
model: {embed_dim: 16, num_layers: 1, num_heads: 2}
training: {batch_tokens: 128, patience: 0, precision: fp32}
search:
  training:
    head_lr: {low: 1.0e-4, high: 2.0e-2, log: true}
  model:
    dropout: [0.0, 0.3]
"""


def tune(out: Path, **given: Any) -> Predictor:
    usual = {"train": TRAIN, "target": "label", "valid": VALID, "search": SEARCH, "trials": 3, "display": Notes()}
    return Predictor.tune(out=out, **{**usual, **SMALL, **given})


@pytest.fixture
def films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a file of rows and a configuration."""
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "films.csv", [*TRAIN, *VALID])
    (tmp_path / "run.yaml").write_text(YAML)
    return tmp_path


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """No trial is trained: what they would have been trained with; each ends with an error of its own."""
    asked: list[dict[str, Any]] = []

    def train(self: SharedRows, settings: Mapping[str, Any], **how: Any) -> TrialResult:
        asked.append(dict(settings))
        if len(asked) % 3 == 0:
            raise MemoryError
        raise PolydetrError(f"the loss is not a number at step {len(asked)}", hint="Lower training.lr.")

    monkeypatch.setattr(SharedRows, "train", train)
    return asked


@pytest.mark.filterwarnings("ignore::polydetr.MeasureWarning")
def test_a_study_ends_with_the_best_model_and_a_report(tmp_path: Path) -> None:
    display = Notes()
    predictor = tune(tmp_path / "model", test=TEST, display=display)
    study = predictor.study
    assert study is not None
    assert [trial.number for trial in study.trials] == [0, 1, 2]
    assert dict(study.trials[0].settings) == {}
    assert study.metric == "label accuracy"
    assert study.rows == {"train": 60, "valid": 40}
    assert (study.gain is None) == (study.best == 0)
    assert study.kept in (0, study.best)
    told = predictor.info["tuning"]
    assert told["trial"] == study.kept
    assert told["settings"] == dict(study.trials[study.kept].settings)
    for key, value in told["settings"].items():
        section, name = key.split(".")
        assert predictor.info["config"][section][name] == value
    # The test rows were measured once, by the final model; no trial knows of them.
    assert predictor.metrics["test"]["label"] == predictor.evaluate(TEST)["label"]
    for number in (0, 1, 2):
        assert "test" not in Predictor.load(tmp_path / "model.study" / "trials" / f"{number:03d}").metrics
    files = {path.name for path in (tmp_path / "model.study").iterdir()}
    assert {"report.html", "study.json", "trials.csv", "history.png", "study.db", "trials"} <= files
    assert any(note.startswith("varies training.head_lr") for note in display.notes)
    assert not any(note.startswith("the rows are encoded anew") for note in display.notes)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_study_also_when_it_was_stopped(tmp_path: Path) -> None:
    class Stops(Notes):
        """Ctrl-C at the third step of the second trial."""

        steps = 0

        def step(self, info: StepInfo) -> None:
            self.steps += any(note.startswith("trial 1:") for note in self.notes)
            if self.steps == 3:
                raise KeyboardInterrupt

    whole = tune(tmp_path / "whole")
    with pytest.raises(Interrupted) as stopped:
        tune(tmp_path / "stopped", display=Stops())
    assert "1 trial of the study 'stopped' is kept" in str(stopped.value)
    assert f"--resume --out {tmp_path / 'stopped'}" in str(stopped.value)
    assert [path.name for path in (tmp_path / "stopped.study" / "trials").iterdir()] == ["000"]
    display = Notes()
    resumed = tune(tmp_path / "stopped", resume=True, display=display)
    assert any(note.startswith("trial 1, begun anew: ") for note in display.notes)
    assert whole.study is not None
    assert resumed.study is not None
    for mine, other in zip(whole.study.trials, resumed.study.trials, strict=True):
        assert (mine.settings, mine.score, mine.curve) == (other.settings, other.score, other.curve)
    assert (whole.study.best, whole.study.kept) == (resumed.study.best, resumed.study.kept)
    assert (tmp_path / "whole" / "model.safetensors").read_bytes() == (
        tmp_path / "stopped" / "model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(("share", "kept"), [(0.94, "default"), (0.95, "best")])
def test_the_best_is_kept_only_where_rows_that_chose_nothing_show_it(
    share: float, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polydetr.tuning.tune.gain", lambda *_, until: Gain(0.02, -0.01, 0.05, 20, share))
    display = Notes()
    predictor = tune(tmp_path / "m", search={"training": {"head_lr": {"low": 1e-6, "high": 5e-2}}}, display=display)
    assert predictor.study is not None
    assert predictor.study.best != 0  # the default learns next to nothing in its few steps
    assert predictor.study.kept == (0 if kept == "default" else predictor.study.best)
    said = "the default is kept" if kept == "default" else "and is kept"
    assert any(said in note for note in display.notes)


def test_kept_settings_are_trained_once_more_on_all_rows(tmp_path: Path) -> None:
    predictor = tune(tmp_path / "model", trials=2, refit=True, test=TEST)
    assert predictor.info["training"]["refit_rows"] == 100
    assert set(predictor.metrics) == {"valid", "test"}
    assert predictor.info["tuning"]["trials"] == 2


def test_when_the_time_limit_is_over_a_few_test_rows_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Times, "ends", lambda self: 0.0)
    display, test = Notes(), plain_rows(200, start=200)
    predictor = tune(tmp_path / "m", trials=1, time_limit="60s", test=test, display=display)
    assert f"time limit: {LEAST_MEASURED} of 200 test rows are measured" in display.notes
    right = predictor.metrics["test"]["label"]["accuracy"] * LEAST_MEASURED
    assert right == pytest.approx(round(right))


@pytest.mark.usefixtures("quick_start")
def test_a_key_that_changes_the_encoding_is_varied_and_told(tmp_path: Path) -> None:
    display = Notes()
    rows = [{"size": i % 7 + 0.5, "label": "ab"[i % 7 > 3]} for i in range(80)]
    predictor = tune(
        tmp_path / "m", train=rows, valid=rows[:20], search={"table": {"numbers": ["standard", "quantile"]}},
        trials=9, display=display,
    )  # fmt: skip
    assert predictor.study is not None
    assert [dict(trial.settings) for trial in predictor.study.trials] == [{}, {"table.numbers": "standard"}]
    assert any(note.startswith("the rows are encoded anew for each value of table.numbers") for note in display.notes)
    assert any("no settings are left that were not tried" in note for note in display.notes)


def test_trials_may_be_compared_by_another_metric(tmp_path: Path) -> None:
    predictor = tune(tmp_path / "m", trials=2, metric="macro_f1")
    assert predictor.study is not None
    assert predictor.study.metric == "label macro_f1"
    for trial in predictor.study.trials:
        assert trial.score == trial.metrics["label"]["macro_f1"]
    assert predictor.info["config"]["tasks"] == {"label": {"metric": "macro_f1"}}


def test_without_a_search_a_fitting_space_is_searched(tmp_path: Path) -> None:
    display = Notes()
    predictor = tune(tmp_path / "m", search=None, trials=2, display=display)
    assert predictor.study is not None
    keys = {dimension["key"] for dimension in predictor.study.space}
    assert "training.head_lr" in keys
    assert not {"model.embed_dim", "training.batch_tokens", "training.precision"} & keys  # they were set


# -- the command line -------------------------------------------------------------------------------------------------


def test_the_command_line(films: Path, run: Callable) -> None:
    code, out, err = run("tune", "run.yaml", "--trials", 1, "--json")
    assert code == 0
    told = json.loads(out)
    folder = Path(told["out"])
    assert folder.parent == Path("runs")
    assert told["tuning"]["trials"] == 1
    assert "trial 0: the default" in err
    assert run("predict", folder, "films.csv")[0] == 0
    code, _, err = run("tune", "run.yaml", "--trials", 1, "--out", folder)
    assert code == 2
    assert "holds a model already" in err
    code, out, err = run("tune", "run.yaml", "--trials", 2, "--resume")  # the latest on these rows
    assert code == 0
    assert f"saved to {folder}" in err
    assert "label: accuracy" in out
    assert len(json.loads((Path(f"{folder}.study") / "study.json").read_text())["trials"]) == 2
    assert "trial 1: training.head_lr=" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--trials", 0), "trials = 0: expected at least 1"),
        (("--trials", -3), "trials = -3: expected at least 1"),
        (("--keep", 0), "keep = 0: expected at least 1"),
        (("--set", "search.training.lrr=[1,2]"), "unknown key 'training.lrr'. Did you mean 'training.lr'?"),
        (("--set", "search.training.lr={low: 2, high: 1}"), "the range is empty"),
        (("--set", "search.target=[a, b]"), "search.target is not varied"),
        (("--set", "search.inputs={text: [text, ignore]}"), "search.inputs is not varied"),
        (("--set", "search.tasks={label: {loss_weigth: [1, 2]}}"), "Did you mean 'loss_weight'?"),
        (("--set", "search=7"), "search = 7"),
        (("--storage", "postgresql://me:secret@127.0.0.1:1/x", "--name", "n"), "cannot be used"),
        (("--storage", "mysql://somewhere/x", "--name", "n"), "SQLite or PostgreSQL"),
        (("--storage", "films.csv", "--name", "n"), "the study file 'films.csv' is damaged, or no study"),
        (("--storage", "s.db", "--resume"), "--name NAME"),
        (("--resume",), "there is no study on"),
        (("--out", "films.csv"), "is not a polydetr model"),
        (("--out", "films.csv/model"), "cannot write to"),
        (("--metric", "acuracy"), "metric = 'acuracy': no target has it. Did you mean 'accuracy'?"),
        (("--set", "tasks.label.metric=f2"), "tasks.label.metric = 'f2': the target has no such metric."),
        (("--time-limit", "soon"), "is not a duration"),
    ],
)  # fmt: skip
def test_wrong_calls_end_before_anything_is_trained(
    arguments: tuple, said: str, films: Path, run: Callable, untrained: list
) -> None:
    before = sorted(path.name for path in films.iterdir())
    code, out, err = run("tune", "run.yaml", *arguments)
    assert (code, out) == (2 if "cannot write to" not in said else 1, "")
    assert said in err
    assert untrained == []
    assert sorted(path.name for path in films.iterdir() if path.name != "polydetr-cache") == before
    assert "secret" not in err


def test_several_faults_are_told_together(films: Path, run: Callable) -> None:
    code, _, err = run("tune", "run.yaml", "--trials", 0, "--keep", 0, "--set", "search.training.lrr=[1,2]")
    assert code == 2
    assert "3 faults in the configuration" in err


def test_runs_that_cannot_be_written(films: Path, run: Callable, untrained: list) -> None:
    (films / "runs").write_text("a file in the way")
    code, _, err = run("tune", "run.yaml")
    assert (code, untrained) == (1, [])
    assert "cannot write to 'runs/" in err
    assert "--out FOLDER" in err


def test_trials_that_all_fail_exit_with_1_and_their_reasons(films: Path, run: Callable, untrained: list) -> None:
    code, _, err = run("tune", "run.yaml", "--trials", 4, "--out", "model")
    assert code == 1
    assert len(untrained) == 4
    assert "no trial ended well: 3 × the loss is not a number at step 1; 1 × it needs more memory than there is" in err
    assert not (films / "model").exists()
    assert (films / "model.study" / "study.db").exists()


@pytest.mark.usefixtures("untrained")
def test_studies_of_one_name(films: Path, run: Callable) -> None:
    call = ("tune", "run.yaml", "--trials", 1, "--storage", "shared.db", "--name", "films", "--out", "model")
    assert run(*call)[0] == 1
    code, _, err = run(*call)
    assert code == 2
    assert "shared.db holds a study 'films' already" in err
    assert "--resume" in err
    write_csv(films / "films.csv", plain_rows(70))
    code, _, err = run(*call, "--resume")
    assert code == 2
    assert "the study 'films' in shared.db was made for something else: other training or validation rows" in err
    code, _, err = run(*call, "--resume", "--set", "training.weight_decay=0.5", "--seed", 7)
    assert "seed 7 here, 0 there; training.weight_decay is 0.5 here, 0.01 there" in err
    code, _, err = run(*call, "--overwrite")
    assert (code, "no trial ended well" in err) == (1, True)


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(("first", "then"), [("60s", None), ("60s", "90s"), (None, "60s")])
def test_a_study_goes_on_under_another_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str | None, then: str | None
) -> None:
    monkeypatch.setattr(read, "READING_SHARE", 0.0)  # under a limit, the least that is read
    monkeypatch.setattr(read, "_LEAST_READ", 30)
    with pytest.raises(PolydetrError, match="no trial ended well"):
        tune(tmp_path / "m", trials=1, time_limit=first)
    display = Notes()
    with pytest.raises(PolydetrError, match="no trial ended well"):  # and not: the study was made for something else
        tune(tmp_path / "m", trials=1, time_limit=then, resume=True, display=display)
    assert any("of the training rows the first 30 were read" in note for note in display.notes) == (first is not None)


def test_a_study_that_is_begun_to_be_resumed(films: Path, run: Callable, untrained: list) -> None:
    code, _, err = run("tune", "run.yaml", "--trials", 1, "--resume", "--out", "model")
    assert (code, len(untrained)) == (1, 1)
    assert "there is no study 'model' in model.study/study.db: it is begun" in err


def test_a_missing_package_is_named_with_its_install_line(
    films: Path, run: Callable, untrained: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    code, _, err = run("tune", "run.yaml")
    assert (code, untrained) == (2, [])
    assert pip_install("tune") in err
    assert not (films / "runs").exists()


def test_errors_of_the_python_call(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="trials = 0"):
        tune(tmp_path / "m", trials=0)
    with pytest.raises(StudyError, match="is a folder"):
        tune(tmp_path / "m", storage=str(tmp_path))
    assert isinstance(Notes(), Display)


def test_trials_are_tracked_in_the_group_of_their_study(tmp_path: Path) -> None:
    notes = Notes()
    tune(tmp_path / "model", trials=2, settings={**SMALL["settings"], "track": "tensorboard"}, display=notes)
    where = tmp_path / "model.study" / "tracking.runs"
    trials = {path.parent for path in where.rglob("events.out.tfevents*") if path.stat().st_size > 500}
    assert sorted(path.name.partition("-")[0] for path in trials) == ["000", "001"]
    assert len({path.parent for path in trials}) == 1  # of the study
    assert sum("tracked by tensorboard" in line for line in notes.notes) == 1
    assert not [line for line in notes.notes if line.startswith("track: ")]


def test_a_tracker_that_is_not_installed_ends_the_call_before_anything_is_trained(
    films: Path, run: Callable, untrained: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polydetr.training.tracking._is_installed", lambda name: name != "wandb")
    code, _, errors = run("tune", str(films), "--target", "label", "--track", "tensorboard,wandb")
    assert code == 2
    assert pip_install("wandb") in errors
    assert not untrained
