"""The validation rows that a model folder keeps: measured from their file as they were before, for every task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from film_models import SETTINGS, Quiet, plain_rows
from polydetr import MeasureWarning, Predictor, ReadOptions
from polydetr.core.documents import EncodedDocument
from polydetr.engine.engine import Engine
from polydetr.engine.measure import encode_positives
from polydetr.errors import ConfigError, ModelFolderError
from polydetr.inference import kept_rows as room
from polydetr.inference.folder import MANIFEST
from polydetr.inference.kept_rows import MAX_BYTES, ROWS, KeptRows, chosen_rows, read_rows, write_rows
from tiny_models import as_records, make_engine

WORDS = ("amber", "birch", "cobalt", "dune", "ember")
SIZES = {
    "model": {"embed_dim": 16, "num_layers": 1},
    "text": {"max_tokens": 24, "overlap": 4},
    "image": {"size": 16, "patch_size": 8},
}
OF_TASK = {
    "detection": {"num_queries": 4, "hidden_dim": 16, "decoder_layers": 1},
    "entities": {"max_words": 3, "hidden_dim": 16, "decoder_layers": 1},
    "generation": {"image_size": 8, "patch_size": 4},
}
MARK = "Marigold"
"""A word of every text, to look for in the file."""


def image(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def sentence(i: int) -> str:
    return " ".join([MARK, *(WORDS[(i + k) % len(WORDS)] for k in range(2 + 5 * i))])


LABELS: dict[str, Any] = {
    "classification": lambda i: WORDS[i % 2],
    "regression": lambda i: float(i) / 3,
    "tagging": lambda i: [(0, len(MARK), "FLOWER")],
    "entities": lambda i: [(0, len(MARK), "FLOWER"), (0, len(MARK) + 1 + len(sentence(i).split()[1]), "PAIR")],
    "qa": lambda i: [{"text": MARK, "start": 0}],
    "detection": lambda i: [{"box": [2, 2, 9, 11], "label": WORDS[i % 2]}],
    "embedding": lambda i: f"a {WORDS[i % 5]} thing",
    "generation": lambda i: image(i + 50)[:, :, 0],
}


def rows_of(task: str) -> list[dict[str, Any]]:
    rows = []
    for i in range(1, 9):
        inputs: dict[str, Any] = {"photo": image(i)} if task == "detection" else {"text": sentence(i)}
        rows.append({**({"question": "which?"} if task == "qa" else {}), **inputs, "y": LABELS[task](i)})
    rows[-1]["y"] = None if task != "qa" else rows[-1]["y"]
    return rows


def measured(engine: Engine, rows: KeptRows) -> tuple[list[Any], Mapping[str, Any]]:
    results, evaluations = rows.measured(engine)
    return [r.predictions for r in results], {t: dict(e.metrics) for t, e in evaluations.items()}


def kept_of(task: str, **limits: int) -> tuple[Engine, KeptRows | None]:
    rows = rows_of(task)
    kinds = {"text": "text", "question": "text", "photo": "image"}
    inputs = {name: kinds[name] for name in rows[0] if name != "y"}
    engine = make_engine(rows, {"y": task}, inputs=inputs, settings={**SIZES, "tasks": {"y": OF_TASK.get(task, {})}})
    engine.runner.model.eval()
    documents = [d for d in engine.encode(as_records(rows), with_targets=True) if isinstance(d, EncodedDocument)]
    golds = [gold for document in documents for gold in document.golds["y"]]
    positives = {t: encode_positives(engine, t, golds, as_records(rows)) for t in engine.encoder.positives}
    return engine, chosen_rows(documents, positives, engine.tasks, **limits)


@pytest.mark.parametrize("task", LABELS)
def test_they_are_measured_as_before(task, tmp_path):
    engine, rows = kept_of(task)
    assert rows is not None
    assert len(rows) == 8
    write_rows(rows, tmp_path, engine.tasks)
    restored = read_rows(tmp_path, engine.tasks)
    assert restored is not None
    assert len(restored) == 8
    (before, scores), (after, same) = measured(engine, rows), measured(engine, restored)
    assert json.dumps(scores) == json.dumps(same)
    assert repr(before) == repr(after)
    if task not in ("detection", "generation"):  # whose rows are one window each
        assert len(restored.examples) > 8


@pytest.mark.parametrize(("task", "stands"), [("classification", False), ("embedding", False), ("tagging", True)])
def test_a_text_stands_there_only_where_answers_point_into_it(task, stands, tmp_path):
    engine, rows = kept_of(task)
    assert rows is not None
    write_rows(rows, tmp_path, engine.tasks)
    assert (MARK.encode() in (tmp_path / ROWS).read_bytes()) == stands


def test_they_are_few_and_small(tmp_path):
    engine, rows = kept_of("detection", most_bytes=5000)  # of images of 768 bytes
    assert rows is not None
    assert 4 <= len(rows) <= 6
    write_rows(rows, tmp_path, engine.tasks)
    assert (tmp_path / ROWS).stat().st_size < 10_000
    few = kept_of("classification", most=3)[1]
    assert few is not None
    assert len(few) == 3
    assert kept_of("classification", most=0)[1] is None
    embedded = kept_of("embedding", most=2)[1]
    assert embedded is not None
    assert len(embedded.positives["y"]) == 2
    assert MAX_BYTES < 64 << 20  # of which a file of the folder may be


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    out = tmp_path_factory.mktemp("kept") / "films"
    given = {"backbone": "none", "settings": SETTINGS, "display": Quiet(), "epochs": 2}
    return Predictor.fit(plain_rows(40), "label", valid=plain_rows(12, start=100), out=out, **given)


def test_fit_keeps_them_and_a_copy_too(films, tmp_path):
    films.save(tmp_path / "again")
    loaded = Predictor.load(tmp_path / "again", precision="fp32")
    loaded.save(tmp_path / "third")
    for folder in (films.folder, tmp_path / "third"):
        assert ROWS in json.loads((folder / MANIFEST).read_text())["files"]
        rows = read_rows(folder, loaded._engine.tasks)
        assert rows is not None
        assert len(rows) == 12
        expected = films.evaluate(plain_rows(12, start=100))["label"]["accuracy"]
        assert rows.measured(loaded._engine)[1]["label"].metrics["accuracy"] == expected


@pytest.mark.parametrize("count", [1, 9, 10, 100])
def test_of_a_long_file_a_few_rows_at_equal_distances_are_encoded(films, monkeypatch, count):
    monkeypatch.setattr(room, "MAX_ROWS", 5)
    encoded: list[str] = []
    encode = films._engine.encoder.encode
    monkeypatch.setattr(
        films._engine.encoder, "encode", lambda records, **how: (encoded.extend(records), encode(records, **how))[1]
    )
    kept = films._kept_rows({**row, "text": f"{i} {row['text']}"} for i, row in enumerate(plain_rows(count)))
    assert kept is not None
    assert len(kept) == min(count, 5)
    numbers = [int(record.row["text"].split()[0]) for record in encoded]
    assert len(numbers) <= 10
    assert len(set(np.diff(numbers))) <= 1
    assert count - numbers[-1] <= max(1, count // 4)


def test_rows_that_are_too_large_or_cannot_be_read_are_told(films, monkeypatch):
    rows = [*plain_rows(6), {"text": 7, "label": "negative"}]
    with pytest.warns(MeasureWarning, match=r"^1 of the rows were left out \(first: row 7"):
        kept = films._kept_rows(rows, reading=ReadOptions(on_error="skip"))
    assert len(kept) == 6
    with pytest.raises(ConfigError, match="there is none that can be read"):
        films._proving_rows([])
    monkeypatch.setattr(room, "READ_BYTES", 10)
    with pytest.raises(ConfigError, match=r"rows are too large to prove anything by: the first takes .*--rows FILE"):
        films._proving_rows(rows[:6])


def test_a_run_may_keep_none(tmp_path):
    settings = {**SETTINGS, "training": {**SETTINGS.get("training", {}), "keep_rows": 0}}
    fitted = Predictor.fit(
        plain_rows(40), "label", valid=plain_rows(12, start=100), out=tmp_path / "m", backbone="none",
        settings=settings, display=Quiet(), epochs=1,
    )  # fmt: skip
    assert not (tmp_path / "m" / ROWS).exists()
    assert read_rows(tmp_path / "m", fitted._engine.tasks) is None
    Predictor.load(tmp_path / "m")


def test_a_damaged_file_is_named(films, tmp_path):
    films.save(tmp_path / "m")
    whole = (tmp_path / "m" / ROWS).read_bytes()
    for broken in (whole[: len(whole) // 2], b"", whole.replace(b'\\"format\\":', b'\\"formas\\":', 1)):
        (tmp_path / "m" / ROWS).write_bytes(broken)
        with pytest.raises(ModelFolderError, match=ROWS):
            read_rows(tmp_path / "m", films._engine.tasks)
        with pytest.raises(ModelFolderError, match=ROWS):
            Predictor.load(tmp_path / "m")  # it is sealed as every other file
