"""Images that are painted for rows: what is learned from them, what decides about them, and how they come out."""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from polydetr import Predictor
from polydetr.cli import main
from polydetr.core.access import FileAccess
from polydetr.engine.engine import Engine
from polydetr.errors import ConfigError, RowError, SchemaError
from polydetr.nn.batch import Batch
from tiny_models import answers, as_records, batch_loss, encode_all, make_engine, metrics

Rows = list[dict[str, Any]]
TARGET, INPUTS = {"picture": "generation"}, {"side": "category"}
FEW_STEPS = {"tasks": {"picture": {"sampling_steps": 2, "guidance": 1.0}}}


def _half(side: str, bright: int = 230) -> np.ndarray:
    """4 x 4 pixels, the left or the right half bright."""
    picture = np.full((4, 4), 20, dtype=np.uint8)
    picture[:, slice(0, 2) if side == "left" else slice(2, 4)] = bright
    return picture


def _rows(count: int = 8) -> Rows:
    return [{"side": s, "picture": _half(s, 200 + i)} for i in range(count) for s in [("left", "right")[i % 2]]]


def _engine(rows: Rows | None = None, **options: Any) -> Engine:
    return make_engine(rows or _rows(), TARGET, inputs=INPUTS, **{"settings": FEW_STEPS, **options})


def _pictures(engine: Engine, rows: Rows) -> np.ndarray:
    return np.stack([r.predictions["picture"].value for r in answers(engine, rows)])


@pytest.fixture(scope="module")
def learned() -> Engine:
    """A model that has seen left and right halves for a few seconds, in training mode: random times, hidden rows."""
    steps = {"tasks": {"picture": {"sampling_steps": 10, "guidance": 2.0}}}
    engine = make_engine(
        _rows(16), TARGET, inputs=INPUTS, settings={**steps, "model": {"num_layers": 2, "embed_dim": 32}}
    )
    torch.manual_seed(0)
    batch = Batch.collate(encode_all(engine, _rows(16), with_targets=True))
    optimizer = torch.optim.AdamW(engine.runner.model.parameters(), lr=5e-3)
    engine.runner.model.train()
    for _ in range(200):
        optimizer.zero_grad()
        batch_loss(engine, batch).backward()
        optimizer.step()
    engine.runner.model.eval()
    return engine


# -- what it has learned ----------------------------------------------------------------------------------------------


def test_the_image_shows_what_the_row_asks_for(learned: Engine) -> None:
    asked = ["left", "right"] * 10
    pictures = _pictures(learned, [{"side": s} for s in asked]).astype(int)
    assert pictures.shape == (20, 4, 4, 1)
    left, right = pictures[:, :, :2].mean((1, 2, 3)), pictures[:, :, 2:].mean((1, 2, 3))
    for s, a, b in zip(asked, left, right, strict=True):
        assert (a - b > 100) == (s == "left"), (s, a, b)
        assert (b - a > 100) == (s == "right"), (s, a, b)


def test_measuring_shows_how_much_of_the_flow_is_known(learned: Engine) -> None:
    found, before = metrics(learned, _rows())["picture"], metrics(_engine(), _rows())["picture"]
    assert found["flow_loss"] < 0.5 * before["flow_loss"]
    assert found["flow_explained"] > 0.6
    assert metrics(learned, _rows()) == metrics(learned, _rows())  # times and noise are fixed


def test_without_guidance_of_the_row_no_row_matters(learned: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guidance 0 paints what the model makes of hidden rows: nothing of the row may leak into that."""
    head = learned.runner.model.heads["target_0"]
    monkeypatch.setattr(head, "guidance", 0.0)
    assert np.array_equal(_pictures(learned, [{"side": "left"}]), _pictures(learned, [{"side": "right"}]))
    monkeypatch.setattr(head, "guidance", 1.0)
    assert not np.array_equal(_pictures(learned, [{"side": "left"}]), _pictures(learned, [{"side": "right"}]))


# -- chance -----------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_images_and_another_seed_others() -> None:
    engine, rows = _engine(), [{"side": "left"}] * 5
    first = _pictures(engine, rows)
    assert np.array_equal(first, _pictures(engine, rows))
    other = _pictures(engine.with_seed(3), rows)
    assert np.array_equal(other, _pictures(engine.with_seed(3), rows))
    assert not any(np.array_equal(a, b) for a in first for b in other)
    assert len(np.unique(first, axis=0)) == 5  # and every row its own


def test_how_rows_travel_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, rows = _engine(), [{"side": s} for s in ("left", "right", "left", "left", "right", "left", "right")]
    together = _pictures(engine, rows).astype(int)
    monkeypatch.setattr(engine.runner, "batch_tokens", 40)
    monkeypatch.setattr("polydetr.engine.engine.CHUNK_TOKENS", 40)
    assert np.abs(_pictures(engine, rows).astype(int) - together).max() <= 1


def test_training_draws_from_the_seeded_generator_that_a_run_resumes() -> None:
    engine = _engine()
    engine.runner.model.train()
    batch = Batch.collate(encode_all(engine, _rows(), with_targets=True))
    torch.manual_seed(5)
    first, second = float(batch_loss(engine, batch).detach()), float(batch_loss(engine, batch).detach())
    torch.manual_seed(5)
    assert first == float(batch_loss(engine, batch).detach()) != second


def test_other_targets_never_see_the_image() -> None:
    """The true image enters the encoder in training: nothing of it may reach the classifier beside it."""
    rows = [{"note": f"note {i}", "kind": "ab"[i % 2], **row} for i, row in enumerate(_rows())]
    engine = make_engine(
        rows, {**TARGET, "kind": "classification"}, inputs={"note": "text", **INPUTS}, settings=FEW_STEPS
    )
    others = [{**row, "picture": 255 - row["picture"]} for row in rows]
    found = [
        engine.runner.model(Batch.collate(encode_all(engine, r, with_targets=True)))["kind"]["logits"]
        for r in (rows, others)
    ]
    assert torch.equal(*found)


# -- what is learned from the rows ------------------------------------------------------------------------------------


def test_size_colors_and_patches_are_learned_and_reported() -> None:
    notes: list[str] = []
    task: Any = _engine(notes=notes).tasks["picture"]
    assert (task.channels, task.size, task.patch_size, task.num_own_tokens) == (1, 4, 1, 16)
    assert "images of 'picture': 4 x 4 pixels, gray, in 16 patches" in notes
    pixels = np.stack([row["picture"] for row in _rows()])
    assert (task.mean, task.std) == pytest.approx((pixels.mean(), pixels.std()))


def test_large_images_in_color_are_made_small() -> None:
    rows = [
        {**row, "picture": np.dstack([np.kron(row["picture"], np.ones((25, 50), np.uint8))] * 3)} for row in _rows()
    ]
    for row in rows:
        row["picture"][..., 2] = 7
    engine = _engine(rows)
    task: Any = engine.tasks["picture"]
    assert (task.channels, task.size, task.num_own_tokens) == (3, 32, 64)
    gold = task.gold(rows[0], None)
    assert gold.shape == (3, 32, 32)
    assert (gold[2] == 7).all()
    assert _pictures(engine, [{"side": "left"}]).shape == (1, 32, 32, 3)


def test_its_tokens_count_in_the_size_of_a_batch() -> None:
    assert [example.num_tokens for example in encode_all(_engine(), _rows(), with_targets=True)] == [17] * 8


def test_images_may_be_files(tmp_path: Path) -> None:
    path = tmp_path / "left.png"
    Image.fromarray(_half("left")).save(path)
    task = _engine().tasks["picture"]
    assert np.array_equal(task.gold({"picture": str(path)}, None), _half("left")[None])
    assert np.array_equal(task.gold({"picture": path.read_bytes()}, None), _half("left")[None])


def test_relative_paths_begin_at_the_file_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pictures").mkdir()
    for side in ("left", "right"):
        Image.fromarray(_half(side)).save(tmp_path / "pictures" / f"{side}.png")
    table = tmp_path / "rows.csv"
    table.write_text("side,picture\n" + "".join(f"{s},pictures/{s}.png\n" for s in ["left", "right"] * 10))
    settings = {"model": {"embed_dim": 8, "num_layers": 1}, "training": {"precision": "fp32"}, **FEW_STEPS}
    predictor = Predictor.fit(
        str(table), TARGET, valid=str(table), inputs=INPUTS, backbone="none", epochs=1, settings=settings
    )
    monkeypatch.chdir(tmp_path / "pictures")
    assert predictor.evaluate(table)["picture"] == pytest.approx(predictor.metrics["valid"]["picture"])
    task = _engine().tasks["picture"]
    rows = [task.located({"picture": "pictures/left.png"}, FileAccess(tmp_path))]
    before = task.content_key(rows)
    Image.fromarray(_half("right", 77)).save(tmp_path / "pictures" / "left.png")
    assert task.content_key(rows) != before


@pytest.mark.parametrize("value", ["nowhere.png", 7, np.zeros((4, 4, 2), np.uint8), [_half("left")] * 2])
def test_what_is_no_image_is_an_error_that_names_the_column(value: Any) -> None:
    with pytest.raises(RowError) as error:
        _engine().encoder.encode(as_records([{"side": "left", "picture": value}]), with_targets=True)
    assert error.value.location is not None
    assert (error.value.location.column, error.value.location.row) == ("picture", 1)


def test_a_column_without_images_cannot_be_learned() -> None:
    with pytest.raises(SchemaError, match="'picture' is missing in every"):
        make_engine([{"side": "left", "picture": None}] * 4, TARGET, inputs=INPUTS)


def test_patches_that_do_not_fit_the_size_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"tasks.picture.patch_size = 3 does not divide the size of the images, 4"):
        _engine(settings={"tasks": {"picture": {"patch_size": 3}}})


def test_generated_images_are_not_mistaken_for_measured_ones() -> None:
    engine = _engine()
    painted = [r.predictions["picture"] for r in answers(engine, _rows())]
    with pytest.raises(ValueError, match="generated, not measured"):
        engine.tasks["picture"].evaluate(painted, [row["picture"] for row in _rows()])


# -- the whole way ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder, trained for two epochs."""
    base = tmp_path_factory.mktemp("generation")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYDETR_CACHE", str(base / "cache"))
        settings = {"model": {"embed_dim": 16, "num_layers": 1}, "training": {"precision": "fp32"}, **FEW_STEPS}
        Predictor.fit(
            _rows(40), TARGET, test=_rows(6), inputs=INPUTS, backbone="none", epochs=2, out=base / "model",
            settings=settings,
        )  # fmt: skip
    return base / "model"


def test_a_saved_model_generates_the_same_images(folder: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(folder)
    assert set(predictor.metrics["test"]["picture"]) == {"flow_loss", "flow_explained"}
    assert predictor.evaluate(_rows(6)) == {"picture": pytest.approx(predictor.metrics["test"]["picture"])}
    rows = [{"side": "left"}, {"side": "right"}]
    found = predictor.predict(rows, seed=4)
    assert found[0]["picture"].dtype == np.uint8
    predictor.save(tmp_path / "copy")
    again = Predictor.load(tmp_path / "copy").predict(rows, seed=4)
    assert all(np.array_equal(a["picture"], b["picture"]) for a, b in zip(found, again, strict=True))


def _call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["polydetr", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_the_command_line_writes_images_beside_its_answers(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows.csv").write_text("side\nleft\nright\n")
    out = tmp_path / "answers.jsonl"
    assert _call(monkeypatch, "predict", folder, tmp_path / "rows.csv", "--out", out, "--seed", 2) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["prediction"]["picture"] for line in lines] == [
        "answers.jsonl-files/00001-picture.png",
        "answers.jsonl-files/00002-picture.png",
    ]
    assert _call(monkeypatch, "predict", folder, tmp_path / "rows.csv", "--out", tmp_path / "answers.csv") == 0
    expected = Predictor.load(folder).predict([{"side": "left"}, {"side": "right"}], seed=2)
    for line, answer in zip(lines, expected, strict=True):
        found = np.asarray(Image.open(tmp_path / line["prediction"]["picture"]))
        assert np.array_equal(found, answer["picture"][:, :, 0])


def test_on_standard_output_the_image_stands_in_the_text(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_text("side\nleft\n")
    assert _call(monkeypatch, "predict", folder, tmp_path / "rows.csv") == 0
    value = json.loads(capsys.readouterr().out)["prediction"]["picture"]
    kind, _, content = value.partition(",")
    assert kind == "data:image/png;base64"
    expected = Predictor.load(folder).predict([{"side": "left"}])[0]["picture"]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))), expected[:, :, 0])
