"""Explanations: planted signals are found, sums are right, and a model that knows nothing is not believed."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polydetr import Predictor
from polydetr.backbones.bert import BertEncoder, BertSizes
from polydetr.backbones.bert_attention import with_attention
from polydetr.config.loading import load_config
from polydetr.core.records import Record
from polydetr.engine.engine import Engine
from polydetr.errors import InputError, Location, RowError
from polydetr.explain import Explanation, explain_record
from polydetr.modalities.text import as_text
from polydetr.modalities.text_units import without_words
from polydetr.model.attention_maps import rollout
from polydetr.model.build import build_model
from polydetr.model.gradients import integrated_gradients
from polydetr.nn.batch import Batch
from polydetr.schema.infer import infer_schema
from polydetr.values.spans import split_words

FILLER = "the a film story was seen by many people in town and it ran for long hours again".split()  # noqa: SIM905
TINY = {
    "model": {"embed_dim": 32, "num_layers": 1, "num_heads": 2},
    "training": {"precision": "fp32", "lr": 1e-2, "head_lr": 1e-2, "batch_tokens": 192},
}


def planted(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Ten words; "splendid" among them makes the row a "yes"."""
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        words = rng.choices(FILLER, k=10)
        if i % 2:
            words[rng.randrange(10)] = "splendid"
        rows.append({"text": " ".join(words), "label": "yes" if i % 2 else "no"})
    return rows


def untrained(rows: list[dict[str, Any]], targets: dict[str, str | None], **settings: Any) -> Engine:
    model = {"embed_dim": 16, "num_layers": 1, "num_heads": 2} | settings.pop("model", {})
    config = load_config({"backbone": "none", "target": targets, "model": model, **settings})
    records = [Record(row, Location(row=i + 1)) for i, row in enumerate(rows)]
    return build_model(
        config, infer_schema(rows, targets=config.target, inputs=None), records, notify=lambda _: None
    ).engine


def explain(engine: Engine, row: dict[str, Any], **options: Any) -> Explanation:
    return explain_record(engine, Record(row, Location(row=1)), **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYDETR_CACHE", str(tmp_path_factory.mktemp("cache")))
        return Predictor.fit(planted(300), "label", backbone="none", epochs=5, settings=TINY)


TAGGED = [
    {"tokens": ["Anna", "went", "to", "Oslo", "today"], "tags": ["B-PER", "O", "O", "B-LOC", "O"]},
    {"tokens": ["Ole", "left", "Bergen", "with", "Anna"], "tags": ["B-PER", "O", "B-LOC", "O", "B-PER"]},
]
ASKED = [
    {
        "question": "Who wrote it?",
        "context": "The book was written by Anna in Oslo.",
        "answers": [{"text": "Anna", "start": 24}],
    },
    {
        "question": "Where is it?",
        "context": "The house stands in Bergen today.",
        "answers": [{"text": "Bergen", "start": 20}],
    },
]


def test_planted_word_comes_first_and_the_check_believes_it(trained: Predictor) -> None:
    found = [trained.explain(row) for row in planted(80, seed=5) if row["label"] == "yes"]
    assert all(e.answer.startswith("yes") for e in found)
    assert np.mean([max(e.words, key=lambda w: w.score).text == "splendid" for e in found]) >= 0.95
    assert np.mean([bool(e.meaningful) for e in found]) >= 0.95
    assert all(e.is_complete for e in found)


def test_untrained_model_claims_nothing() -> None:
    rows = planted(40)
    engine = untrained(rows, {"label": "classification"})
    assert sum(bool(explain(engine, row).meaningful) for row in rows[:20]) <= 1


def test_scores_add_up_to_the_difference(trained: Predictor) -> None:
    e = trained.explain(planted(2)[1])
    assert sum(e.scores) == pytest.approx(e.value - e.baseline, rel=0.05, abs=0.005)
    assert abs(e.value - e.baseline) > 1  # so that the sum says something
    assert 1 / (1 + np.exp(-e.value)) == pytest.approx(e.deletion["original"] if e.deletion else None, abs=1e-6)


def test_quadrature_against_the_closed_form() -> None:
    """F = (w·x)²: the integral from 0 gives x_i w_i (w·x) exactly."""
    w = torch.tensor([[1.0, 2.0, -1.0], [0.5, 0.0, 3.0]])
    x = torch.tensor([[2.0, 1.0, 1.0], [1.0, 5.0, 0.2]])

    def function(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        dot = (points * w).sum((1, 2))
        return dot**2, 2 * dot[:, None, None] * w

    found = integrated_gradients(function, x, torch.zeros_like(x), steps=4)
    np.testing.assert_allclose(found.scores, ((x * w).sum(-1) * (x * w).sum()).numpy(), rtol=1e-5)
    assert found.error < 1e-4


def test_linear_model_against_the_literal_product() -> None:
    """No layer above the embeddings and a mean: each token's part is σ w·(x_t - x'_t) / L."""
    rows = [{"text": r["text"], "value": float(i % 7)} for i, r in enumerate(planted(30))]
    engine = untrained(rows, {"value": "regression"}, model={"num_layers": 0})
    e = explain(engine, rows[3])
    modality, model, task = engine.encoder.modalities["text"], engine.runner.model.eval(), engine.tasks["value"]
    (window,) = modality.encode([rows[3]]).windows
    ids = torch.as_tensor(np.asarray(window.arrays["input_ids"], dtype=np.int64))
    blank = {k: np.array(v) for k, v in window.arrays.items()}
    blank["input_ids"][1:-1] = modality.spec.pad_id  # type: ignore[attr-defined]
    blank["shape_ids"][1:-1] = 0
    from polydetr.core.examples import Example

    with torch.no_grad():
        x, y = (
            model.embedders["text"](Batch.collate([Example({"text": arrays})]).groups["text"]).tokens[0]
            for arrays in (window.arrays, blank)
        )
        weight = next(iter(model.heads.values())).output.weight[0]  # type: ignore[union-attr]
        parts = task.std * ((x - y) @ weight) / len(ids)  # type: ignore[attr-defined]
    assert window.layout is not None
    expected = [float(parts[torch.as_tensor(window.layout.word == i)].sum()) for i in range(len(e.words))]
    np.testing.assert_allclose(e.scores, expected, atol=1e-5)
    assert np.abs(expected).max() > 1e-3
    assert e.value == pytest.approx(e.prediction, rel=1e-4)
    assert any("likelihood" in note for note in e.notes)


def test_tagging_explains_an_entity_and_keeps_it() -> None:
    engine = untrained(TAGGED, {"tags": "tagging"})
    e = explain(engine, TAGGED[0])
    assert e.task == "tagging"
    assert e.is_complete
    assert any(w.in_answer for w in e.words)
    assert e.value <= 0  # a log probability
    with pytest.raises(InputError, match="99"):
        explain(engine, TAGGED[0], choice=99)


def test_question_answering_explains_question_and_passage() -> None:
    engine = untrained(ASKED, {"answers": "qa"})
    row = ASKED[0]
    e = explain(engine, row)
    assert {w.field for w in e.words} == {"question", "context"}
    assert all(row[w.field][w.start : w.end] == w.text for w in e.words)
    assert e.is_complete
    assert e.deletion is None or e.deletion["original"] > 0


def test_several_labels_and_choice() -> None:
    rows = [{"text": r["text"], "label": ["a"] if i % 3 else ["a", "b"]} for i, r in enumerate(planted(12))]
    engine = untrained(rows, {"label": "classification"})
    assert explain(engine, rows[0], choice="b").answer.startswith("b")
    with pytest.raises(InputError, match="'c'"):
        explain(engine, rows[0], choice="c")


def test_chinese_words_are_characters_of_the_original() -> None:
    rows = [{"text": t, "label": k} for t, k in (("这部电影很好看,我喜欢。", "好"), ("这 部电影不好看。", "坏"))] * 3
    e = explain(untrained(rows, {"label": "classification"}), rows[1])
    assert [w.text for w in e.words] == list("这部电影不好看。")
    assert all(rows[1]["text"][w.start : w.end] == w.text for w in e.words)


def test_long_text_through_windows_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = planted(10)
    long = {"text": " ".join(r["text"] for r in rows), "label": "yes"}
    engine = untrained(rows, {"label": "classification"}, text={"max_tokens": 24, "overlap": 6})
    whole = explain(engine, long)
    assert len(whole.words) == 100
    assert whole.is_complete
    assert whole.attention["rollout"].shape == (100, 100)
    assert (whole.attention["rollout"].sum(1) > 0).all()
    monkeypatch.setattr("polydetr.model.gradients.MAX_TOKENS", 48)  # two windows at a time: read twice, same result
    np.testing.assert_allclose(explain(engine, long).scores, whole.scores, atol=1e-5)


def test_attention_rows_and_rollout() -> None:
    rows = planted(8)
    table = explain(untrained(rows, {"label": "classification"}), rows[0]).attention
    assert set(table) == {"encoder", "rollout"}
    assert (table["rollout"] >= 0).all()
    assert (table["rollout"].sum(1) <= 1 + 1e-6).all()
    a = torch.tensor([[[0.5, 0.5], [0.0, 1.0]]])
    assert rollout([a, a])[0].tolist() == [[0.5625, 0.4375], [0.0, 1.0]]  # ((A + I) / 2)² by hand


def test_backbone_attention_is_what_its_layer_computes() -> None:
    torch.manual_seed(0)
    sizes = BertSizes(vocab_size=11, hidden_dim=6, num_layers=2, num_heads=3, ffn_dim=7, max_positions=5)
    encoder = BertEncoder(sizes).eval()
    mask = torch.tensor([[True, True, True, False]])
    with torch.no_grad():
        _, layers = with_attention(encoder, lambda: encoder(torch.tensor([[1, 2, 3, 0]]), mask))
        hidden = encoder.embeddings(torch.tensor([[1, 2, 3, 0]]), None, None)[0]
        q, k, _ = encoder.layers[0].qkv(hidden).chunk(3, -1)  # type: ignore[operator]
        heads = [(q[:3, 2 * h : 2 * h + 2] @ k[:3, 2 * h : 2 * h + 2].T / 2**0.5).softmax(-1) for h in range(3)]
    assert len(layers) == 2
    torch.testing.assert_close(layers[0][0, :3, :3], torch.stack(heads).mean(0))
    assert not encoder.layers[0]._forward_pre_hooks


def test_deleting_leaves_the_other_words_alone() -> None:
    rng = random.Random(1)
    for _ in range(300):
        text = "".join(rng.choices(["a", "b ", "3", ".", "5", " ", "中", "国", "-", "É", ",", "\n"], k=12))
        words = split_words(text)
        gone = {i for i in range(len(words)) if rng.random() < 0.4}
        short = without_words(as_text(text, field="t"), gone)
        kept = [text[a:b] for i, (a, b) in enumerate(words) if i not in gone]
        assert [short[a:b] for a, b in split_words(short)] == kept


def test_float32_whatever_the_model_serves_in() -> None:
    rows = planted(8)
    engine = untrained(rows, {"label": "classification"})
    engine.runner.model.to(torch.bfloat16)
    e = explain(engine, rows[1])
    assert e.is_complete
    assert all(p.dtype == torch.bfloat16 for p in engine.runner.model.parameters())


def test_pages_images_and_json(trained: Predictor, tmp_path: Path) -> None:
    e = trained.explain("<b>splendid</b> & the film", out=tmp_path)
    page = (tmp_path / "explanation.html").read_text(encoding="utf-8")
    assert "<b>" not in page
    assert "&lt;" in page
    assert (tmp_path / "explanation.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(json.dumps(e.to_dict()))["words"][0]["text"] == "<"
    with pytest.raises(RowError, match="no word"):
        trained.explain("  ")
    with pytest.raises(InputError, match="label"):
        trained.explain("a film", target="lable")


def test_command_line(trained: Predictor, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from typer.testing import CliRunner

    from polydetr.cli import app

    trained.save(tmp_path / "model")
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(r) + "\n" for r in planted(4)), encoding="utf-8")
    call = ["explain", str(tmp_path / "model"), str(data), "--row", "2"]
    result = CliRunner().invoke(app, [*call, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "splendid" in result.stdout
    assert "Deleting the" in result.stdout
    assert (tmp_path / "out" / "explanation.png").exists()
    assert json.loads(CliRunner().invoke(app, [*call, "--json"]).stdout)["target"] == "label"
    with pytest.raises(InputError, match="no row 9"):
        CliRunner().invoke(app, [*call[:-1], "9"], catch_exceptions=False)
