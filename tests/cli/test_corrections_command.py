"""From an answer that a person repaired to a training row: the command line, with a real model and a real store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from film_models import FLAGS, film_rows, plain_rows, write_csv
from polydetr import Predictor
from polydetr.cli import corrections as command
from polydetr.cli.app import app
from polydetr.errors import PolydetrError
from polydetr.inference.folder import SEAL
from polydetr.inference.service import ServiceModel
from polydetr.serving.contract import ModelInfo
from polydetr.serving.describe import answer_schemas, column_schemas
from polydetr.studio.corrections import Corrections
from polydetr.web.store.database import Database

SMALL = {"model": {"embed_dim": 16, "num_layers": 1, "num_heads": 2}, "training": {"few_rows": False}}
TARGETS = {"label": "classification", "stars": "regression", "entities": "entities"}


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> ModelInfo:
    """A model with three targets, as a door describes it."""
    folder = tmp_path_factory.mktemp("corrected") / "film"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYDETR_CACHE", str(folder.parent / "cache"))
        Predictor.fit(film_rows(40), TARGETS, inputs={"text": "text"}, backbone="none", epochs=1, out=folder,
                      settings=SMALL)  # fmt: skip
    model = ServiceModel.load(folder)
    return ModelInfo("film", str(model.info[SEAL]), model.info, column_schemas(model), answer_schemas(model), "torch")


@pytest.fixture
def store(info: ModelInfo, tmp_path: Path) -> str:
    """The address of a store in which two rows of the training file and one that is new were corrected."""
    address = str(tmp_path / "store.db")
    database = Database.open(address)
    kept, rows = Corrections(database), plain_rows(40)
    for row, target, value in (
        (rows[0], "label", "good"), (rows[1], "label", "bad"), ({"text": "=1+1 a new evening"}, "label", "so-so"),
        (rows[0], "stars", 5),
    ):  # fmt: skip
        kept.save(id=str(uuid4()), info=info, row=row, target=target, value=value, person="Ada", new_label=True,
                  answer={"prediction": "good" if target == "label" else 4.0})  # fmt: skip
    database.close()
    return address


def call(*arguments: Any) -> tuple[int, str, str]:
    """Exit code or error, output, standard error."""
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    if isinstance(done.exception, PolydetrError):
        return done.exception.exit_code, done.output, str(done.exception)
    return done.exit_code, done.stdout, done.stderr


def test_they_are_listed(store: str) -> None:
    code, shown, said = call("corrections", "list", "--store", store, "--model", "film")
    assert code == 0
    assert "'Ada'  repaired  'label': 'good' → 'bad'" in shown
    assert "'Ada'  confirmed  'label': 'good'" in shown
    assert "4 corrections" in said
    _, shown, _ = call("corrections", "list", "--store", store, "--model", "film", "--target", "stars", "--json")
    (one,) = json.loads(shown)
    assert (one["target"], one["value"], one["person"], one["kind"]) == ("stars", 5, "Ada", "repaired")


def test_they_are_written_and_a_training_takes_them(store: str, tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    code, _, said = call("corrections", "export", "--store", store, "--model", "film", "--out", out, "--people")
    assert code == 0
    assert "4 corrections of 3 rows in" in said
    assert f"polydetr train FILE --corrections {out}" in said
    assert sorted(path.name for path in tmp_path.glob("rows*")) == ["rows.jsonl", "rows.people.jsonl"]
    train = write_csv(tmp_path / "train.csv", plain_rows(40))
    for number, corrections in enumerate((out, store)):
        code, _, said = call(
            "train", train, "--target", "label", "--corrections", corrections, "--epochs", 1, "--out",
            tmp_path / f"model-{number}", "--set", "training.few_rows=false", *FLAGS,
        )  # fmt: skip
        assert code == 0, said
        assert "3 corrections: " in said
        assert " rows repaired, 1 added" in said or "), 1 added" in said
        kept = Predictor.load(tmp_path / f"model-{number}").info
        assert "so-so" in kept["tasks"]["label"]["labels"]
        assert "Ada" not in json.dumps(kept, default=str)
        assert kept["config"]["corrections"] in ("rows.jsonl", "corrections.jsonl")


@pytest.mark.parametrize(("arguments", "said"), [
    (("--model", "flim"), "there are no corrections of 'flim'. Did you mean 'film'?"),
    (("--model", "film", "--store", "absent.db"), "there is no store 'absent.db'"),
])  # fmt: skip
def test_what_is_not_there_is_told_and_not_made(store: str, arguments: tuple[str, ...], said: str) -> None:
    for verb in (("list",), ("export", "--out", "rows.jsonl")):
        code, _, told = call("corrections", *verb, "--store", store, *arguments)
        assert code == 2
        assert said in told
    assert not Path("absent.db").exists()


def test_a_store_with_several_models_wants_one_named(store: str, info: ModelInfo, tmp_path: Path) -> None:
    database = Database.open(store)
    other = ModelInfo("other", "seal", info.description, info.columns, info.answers, "torch")
    row = {"text": "another"}
    Corrections(database).save(id=str(uuid4()), info=other, row=row, target="label", value="bad", person="Ben")
    database.close()
    train = write_csv(tmp_path / "train.csv", plain_rows(40))
    code, _, told = call("train", train, "--target", "label", "--corrections", store, "--out", tmp_path / "model")
    assert code == 2
    assert "has corrections of 2 models. Name one: --corrections" in told
    with command.corrections_file(f"{store}#other") as file:
        assert file is not None
        assert Path(file).read_text("utf-8") == '{"text": "another", "label": "bad"}\n'
    assert not Path(file).exists()
