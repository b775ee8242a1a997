"""Embedding: the loss against its formula, both sides of a row, and search that finds what belongs together."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from polydetr import Predictor, ReadingWarning, ReadOptions
from polydetr.core.predictions import Prediction
from polydetr.engine.engine import Engine
from polydetr.errors import InputError, RowError, SchemaError
from polydetr.heads.embedding import EmbeddingHead
from polydetr.nn.batch import Batch
from polydetr.schema.infer import infer_schema
from polydetr.tasks.base import TaskContext, TaskOptions
from polydetr.tasks.embedding import EmbeddingTask, Positive
from tiny_models import answers, as_records, batch_loss, encode_all, make_engine, metrics, overfit

WORDS = ["amber", "birch", "cobalt", "dune", "ember", "fjord", "grove", "harbour"]
ROWS = [{"title": f"the {w} boat", "body": f"a {WORDS[i - 3]} sail over {w}"} for i, w in enumerate(WORDS)]
Rows = list[dict[str, Any]]


@pytest.fixture
def engine() -> Engine:
    return make_engine(ROWS, {"body": "embedding"}, inputs={"title": "text"})


def literal_loss(
    a: np.ndarray, p: np.ndarray, scale: float, keys: list[int], anchors: list[int], known: list[bool]
) -> float:
    """Row by row, as the docstring of the module says."""
    total, count = 0.0, 0
    for i in range(len(a)):
        if not known[i]:
            continue
        others = [j for j in range(len(a)) if known[j] and keys[j] != keys[i] and anchors[j] != anchors[i]]
        forth = [math.exp(scale * a[i] @ p[j]) for j in [i, *others]]
        back = [math.exp(scale * p[i] @ a[j]) for j in [i, *others]]
        total += -0.5 * (math.log(forth[0] / sum(forth)) + math.log(back[0] / sum(back)))
        count += 1
    return total / max(1, count)


def vectors(seed: int, size: int = 7, dim: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(size, dim, generator=generator), dim=-1)


@pytest.mark.parametrize("known", [[True] * 7, [True, False, True, True, False, True, True], [False] * 7])
def test_the_loss_is_info_nce_both_ways_without_false_negatives(known: list[bool]) -> None:
    task = EmbeddingHead()
    keys, anchors = [1, 2, 1, 3, 4, 5, 6], [1, 2, 3, 4, 5, 5, 6]  # rows 0 and 2 share a positive, 4 and 5 an anchor
    a, p, log_scale = vectors(0), vectors(1), torch.full((7,), 1.3)
    targets = {
        "known": torch.tensor(known, dtype=torch.float32),
        "positive": torch.tensor(keys),
        "anchor": torch.tensor(anchors),
    }
    found = task.loss({"vector": a, "positive": p, "log_scale": log_scale}, targets, torch.ones(7))["contrastive"]
    expected = literal_loss(a.numpy(), p.numpy(), math.exp(1.3), keys, anchors, known)
    assert float(found) == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_the_scale_is_held_below_a_hundred() -> None:
    task = EmbeddingHead()
    targets = {"known": torch.ones(7), "positive": torch.arange(7), "anchor": torch.arange(7)}
    a, p = vectors(0), vectors(1)
    losses = [
        float(
            task.loss({"vector": a, "positive": p, "log_scale": torch.full((7,), s)}, targets, torch.ones(7))[
                "contrastive"
            ]
        )
        for s in (math.log(100.0), 9.0)
    ]
    assert losses[0] == losses[1]


def test_windows_of_one_row_share_its_weight() -> None:
    task = EmbeddingHead()
    targets = {"known": torch.ones(7), "positive": torch.arange(7), "anchor": torch.arange(7)}
    outputs = {"vector": vectors(0), "positive": vectors(1), "log_scale": torch.zeros(7)}
    weights = torch.tensor([1.0, 0, 0, 0, 0, 0, 0])
    alone = float(task.loss(outputs, targets, weights)["contrastive"])
    assert alone != pytest.approx(float(task.loss(outputs, targets, torch.ones(7))["contrastive"]))


# -- two sides of a row ---------------------------------------------------------------------------------------------


def test_the_inputs_never_see_the_target(engine: Engine) -> None:
    examples = encode_all(engine, ROWS, with_targets=True)
    assert set(examples[0].groups) == {"text"}
    assert set(examples[0].positives) == {"body"}
    other = encode_all(engine, [{**row, "body": "something else"} for row in ROWS], with_targets=True)
    with torch.no_grad():
        first, second = (engine.runner.model(Batch.collate(found))["body"] for found in (examples, other))
    torch.testing.assert_close(first["vector"], second["vector"])
    assert not torch.allclose(first["positive"], second["positive"], atol=1e-3)
    torch.testing.assert_close(first["positive"].norm(dim=1), torch.ones(8))


def test_both_sides_go_through_one_tower(engine: Engine) -> None:
    """The same text has the same vector on either side, and search embeds it as training did."""
    rows = [{"title": row["title"], "body": row["title"]} for row in ROWS]
    with torch.no_grad():
        outputs = engine.runner.model(Batch.collate(encode_all(engine, rows, with_targets=True)))["body"]
    torch.testing.assert_close(outputs["vector"], outputs["positive"])
    found = [r.predictions["body"].value for r in engine.of_positives("body").run(as_records(rows))]
    np.testing.assert_allclose(np.array(found), outputs["positive"].numpy(), atol=1e-5)
    names = [name for name in engine.runner.model.state_dict() if "words.weight" in name]
    assert len(names) == 1


def test_a_row_without_a_positive_gives_no_loss(engine: Engine) -> None:
    half = [row if i % 2 else {**row, "body": None} for i, row in enumerate(ROWS)]
    whole = batch_loss(engine, Batch.collate(encode_all(engine, half, with_targets=True)))
    known = batch_loss(engine, Batch.collate(encode_all(engine, half[1::2], with_targets=True)))
    assert float(whole.detach()) == pytest.approx(float(known.detach()), rel=1e-4)


def test_a_text_longer_than_a_window_is_read_whole_and_reported() -> None:
    rows = [{"title": w, "body": f"{w} " * (10 if i else 100)} for i, w in enumerate(WORDS)]
    engine = make_engine(
        rows, {"body": "embedding"}, inputs={"title": "text"}, settings={"text": {"max_tokens": 32, "overlap": 4}}
    )
    document = engine.encoder.encode(as_records(rows[:1]), with_targets=True)
    assert [(f.kind, f.column) for f in document.warnings] == [("truncated", "body")]
    assert len(document.examples) == 1
    assert len(engine.encoder.of_positives("body").encode(as_records(rows[:1]), with_targets=False).examples) > 1


# -- scores ---------------------------------------------------------------------------------------------------------


def test_every_row_searches_all_distinct_positives() -> None:
    task = EmbeddingTask("body", TaskOptions())
    near = {7: [1.0, 0.0], 8: [0.0, 1.0], 9: [-1.0, 0.0]}
    golds = [Positive(key, np.array(near[key], np.float32)) for key in (7, 8, 7, 9)]
    predictions = [Prediction(v) for v in ([1.0, 0.0], [1.0, 0.1], [0.9, 0.0], [-1.0, 0.0])]
    evaluation = task.evaluate([*predictions, Prediction([0.0, 1.0])], [*golds, None])
    assert evaluation.metrics == pytest.approx(
        {"mrr": (1 + 0.5 + 1 + 1) / 4, "recall@1": 0.75, "recall@10": 1.0, "ndcg@10": (3 + 1 / math.log2(3)) / 4}
    )
    assert evaluation.data["retrieval"] == {"queries": 4, "candidates": 3}
    with pytest.raises(SchemaError, match="nothing to measure"):
        task.evaluate(predictions[:1], [None])


def test_values_that_differ_in_white_space_alone_are_one() -> None:
    task = EmbeddingTask("answer", TaskOptions())
    answers = ["Take a seat.", "Take a seat. ", "Take  a\nseat.", "Leave."]
    assert "2 distinct values" in task.learn([{"answer": answer} for answer in answers])[0]
    keys = [task.gold({"answer": answer}, None).key for answer in answers]
    assert len(set(keys)) == 2
    items = [{"title": "a  seat", "tags": ["x "]}, {"title": "a seat", "tags": ["x"]}, {"title": "a sea"}]
    task.learn([{"answer": item} for item in items])
    assert len({task.gold({"answer": item}, None).key for item in items}) == 2
    images = ["a  b.png", "a b.png"]
    task.learn([{"answer": image} for image in images])
    assert len({task.gold({"answer": image}, None).key for image in images}) == 2


def test_it_learns_to_find_unseen_rows() -> None:
    """Titles and bodies share one rare word, in other words around it: what is learned must carry over."""
    pairs = [(a, b) for a in WORDS for b in WORDS if a != b]
    rows = [{"title": f"the {a} boat of {b}", "body": f"{b} saw it and {a} too"} for a, b in pairs]
    train, test = rows[::2], rows[1::2]
    engine = make_engine(train, {"body": "embedding"}, inputs={"title": "text"})
    before = metrics(engine, test)["body"]
    overfit(engine, train, lr=5e-3, steps=40)
    after = metrics(engine, test)["body"]
    assert after["mrr"] > max(0.7, before["mrr"])


def test_unreadable_positives_are_refused_with_their_place(engine: Engine) -> None:
    with pytest.raises(RowError, match=r"rows.jsonl, row 1, column 'body': 5 is int, expected a string"):
        answers(engine, [{"title": "a", "body": 5}], with_targets=True)


@pytest.mark.parametrize(
    ("values", "said"),
    [([None, None], "missing in every"), (["a", "a"], "the same in all 2"), ([1.5, 2.5], "a float")],
)
def test_targets_that_cannot_be_embedded(values: list[Any], said: str) -> None:
    rows = [{"title": w, "body": value} for w, value in zip(WORDS, values, strict=False)]
    with pytest.raises(SchemaError, match=said):
        make_engine(rows, {"body": "embedding"}, inputs={"title": "text"})


def test_what_a_target_is_read_as() -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    cases: list[tuple[Any, tuple[str, ...], str]] = [
        ("a text", ("text",), "text"),
        ("film", ("history",), "history"),
        ({"title": "film"}, ("text",), "history"),
        ("photo.png", ("text",), "image"),
        (picture, ("text",), "image"),
    ]
    for value, inputs, view in cases:
        task = EmbeddingTask("next", TaskOptions(), context=TaskContext(inputs))
        task.learn([{"next": value}])
        assert task.positive_modality == view
        assert EmbeddingTask.from_state(task.state()).positive_modality == view


def test_objects_are_embedded_unless_said_otherwise() -> None:
    schema = infer_schema([{"text": "a b", "next": {"title": "x"}}] * 3, targets={"next": None})
    assert [target.task for target in schema.targets] == ["embedding"]
    assert "objects" in schema.messages[0]


# -- the public face ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """A history of items that finds the next one; bare strings and mappings mix."""
    monkeypatch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("embedding")
    monkeypatch.setenv("POLYDETR_CACHE", str(folder / "cache"))
    rows = [
        {"seen": [{"title": WORDS[i % 8]}, {"title": WORDS[(i + 1) % 8]}], "next": {"title": WORDS[(i + 2) % 8]}}
        for i in range(40)
    ]
    predictor = Predictor.fit(
        rows, {"next": "embedding"}, valid=rows[:16], inputs={"seen": "history"}, backbone="none", epochs=3,
        out=folder / "m",
        settings={"model": {"embed_dim": 16, "num_layers": 1}, "training": {"batch_tokens": 128, "head_lr": 5e-3}},
    )  # fmt: skip
    monkeypatch.undo()
    return predictor


def test_embed_gives_either_side(trained: Predictor) -> None:
    rows = [{"seen": [{"title": w}, {"title": WORDS[i - 3]}]} for i, w in enumerate(WORDS)]
    queries = trained.embed(rows)
    assert (queries.shape, queries.dtype) == ((8, 16), np.float32)
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1.0, rtol=1e-5)
    items = trained.embed([{"title": w} for w in WORDS], side="target")
    np.testing.assert_array_equal(
        items, trained.embed([{"next": {"title": w}} for w in WORDS], side="target", target="next")
    )
    np.testing.assert_array_equal(items, trained.embed(WORDS, side="target"))
    assert trained.embed([]).shape == (0, 16)
    assert trained.predict(rows[:1])[0]["next"] == pytest.approx(queries[0].tolist(), abs=1e-6)
    assert set(trained.metrics["valid"]["next"]) == {"mrr", "recall@1", "recall@10", "ndcg@10"}
    assert (
        trained.evaluate([{**row, "next": {"title": WORDS[i]}} for i, row in enumerate(rows)])["next"]["recall@10"]
        == 1.0
    )


def test_embed_survives_saving(trained: Predictor, tmp_path: Path) -> None:
    trained.save(tmp_path / "copy")
    again = Predictor.load(tmp_path / "copy")
    rows = [{"seen": [{"title": w}]} for w in WORDS]
    np.testing.assert_array_equal(again.embed(rows), trained.embed(rows))
    np.testing.assert_array_equal(again.embed(WORDS, side="target"), trained.embed(WORDS, side="target"))


def test_wrong_questions_to_embed(trained: Predictor) -> None:
    with pytest.raises(InputError, match="Did you mean 'next'"):
        trained.embed([], target="nxt")
    with pytest.raises(InputError, match="side = 'targets'"):
        trained.embed([], side="targets")  # type: ignore[arg-type]
    with pytest.raises(RowError, match="column 'next'"):
        trained.embed([{"next": 7}], side="target")


@pytest.mark.parametrize(
    ("rows", "side"),
    [
        ([{"seen": [{"title": WORDS[0]}]}, {"seen": 7}, {"seen": [{"title": WORDS[1]}]}], "input"),
        ([WORDS[0], 7, WORDS[1]], "target"),
    ],
)
def test_embed_tells_of_the_rows_that_it_leaves_out(trained: Predictor, rows: list, side: Literal["input", "target"]):
    with pytest.raises(RowError):
        trained.embed(rows, side=side)
    with pytest.warns(ReadingWarning, match=r"^1 of the rows were left out \(first: row 2"):
        found = trained.embed(rows, side=side, reading=ReadOptions(on_error="skip"))
    np.testing.assert_array_equal(found, trained.embed([rows[0], rows[2]], side=side))


def test_a_model_without_an_embedding_raises() -> None:
    engine = make_engine([{"text": w, "y": str(i % 2)} for i, w in enumerate(WORDS)], {"y": "classification"})
    manifest = {"schema": {"inputs": [{"name": "text", "modality": "text"}], "targets": []}}
    with pytest.raises(InputError, match="no embedding target"):
        Predictor(engine, manifest).embed(["a"])
