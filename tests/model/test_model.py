"""The whole model against transformers: the same ids give the same tokens."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from polydetr.config.loading import load_config
from polydetr.model.attention_maps import attention_by_modality
from polydetr.model.build import build_model
from polydetr.model.insides import TorchInsides
from polydetr.nn.batch import Batch
from polydetr.schema.infer import infer_schema
from polydetr.specs.scratch import scratch_spec
from tiny_models import as_records, encode_all, make_engine

ROWS = [
    {"text": "the cat sat on the mat", "label": "a"},
    {"text": "a dog", "label": "b"},
    {"text": "the dog saw the cat near the mat, twice", "label": "a"},
]


@pytest.fixture
def bert_folder(tmp_path: Path) -> Path:
    """A tiny BERT with random weights as transformers saves it."""
    transformers = pytest.importorskip("transformers")
    tokenizer = scratch_spec([r["text"] for r in ROWS] * 2, vocab_size=120, hidden_dim=8, max_positions=64).tokenizer
    torch.manual_seed(1)
    config = transformers.BertConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
        intermediate_size=40, max_position_embeddings=64, initializer_range=0.5,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    tokenizer.save(str(tmp_path / "bert" / "tokenizer.json"))
    return tmp_path / "bert"


def test_encoded_tokens_equal_those_of_transformers(bert_folder: Path) -> None:
    import transformers

    config = load_config(target={"label": "classification"}, backbone=str(bert_folder))
    engine = build_model(
        config, infer_schema(ROWS, targets=config.target), as_records(ROWS), notify=lambda line: None
    ).engine
    engine.runner.model.eval()
    examples = [engine.encoder.encode([r], with_targets=False).examples[0] for r in as_records(ROWS)]
    batch = Batch.collate(examples)
    group = batch.groups["text"]
    reference = transformers.BertModel.from_pretrained(bert_folder, attn_implementation="eager").eval()
    with torch.no_grad():
        ours = engine.runner.model.encode(batch).tokens["text"]
        theirs = reference(
            input_ids=group.values["input_ids"],
            attention_mask=group.mask.long(),
            token_type_ids=group.values["segment_ids"],
        ).last_hidden_state
    assert theirs[group.mask].std() > 0.1
    torch.testing.assert_close(ours[group.mask], theirs[group.mask], rtol=1e-5, atol=1e-5)


def test_fewer_heads_where_the_width_does_not_divide() -> None:
    engine = make_engine(ROWS, {"label": "classification"}, settings={"model": {"embed_dim": 30, "num_heads": 8}})
    encoded = engine.runner.model.encode(Batch.collate(encode_all(engine, ROWS, with_targets=False)))
    assert encoded.tokens["text"].shape[-1] == encoded.pooled.shape[-1] == 30


def test_column_names_may_hold_dots() -> None:
    rows = [{"text": r["text"], "a.b": r["label"]} for r in ROWS]
    engine = make_engine(rows, {"a.b": "classification"}, inputs={"text": "text"})
    assert set(engine.runner.model(Batch.collate(encode_all(engine, rows, with_targets=False)))) == {"a.b"}


def test_in_int8_the_shared_encoder_keeps_its_own_numbers_and_hands_float32_on(bert_folder: Path) -> None:
    rows = [r | {"size": float(i)} for i, r in enumerate(ROWS)]
    config = load_config(target={"label": "classification"}, backbone=str(bert_folder))
    engine = build_model(
        config, infer_schema(rows, targets=config.target), as_records(rows), notify=lambda line: None
    ).engine
    model = engine.runner.model.eval()
    torch.nn.init.normal_(model.encoder.layers[0][0].contract.weight, std=0.3)  # type: ignore[index, union-attr]
    batch = Batch.collate([engine.encoder.encode([r], with_targets=False).examples[0] for r in as_records(rows)])
    with torch.inference_mode():
        exact = model(batch)["label"]["logits"]
        model.use_int8(encoder=torch.bfloat16)
        assert {p.dtype for p in model.encoder.parameters()} == {torch.bfloat16}
        assert {p.dtype for e in model.embedders.values() for p in e.parameters()} == {torch.float32}
        found = model(batch)["label"]["logits"]
        assert found.dtype == torch.float32
        assert 0 < (found - exact).abs().max() < 0.05 * exact.abs().max()
        plain = copy.deepcopy(model).float()  # as ``explain`` does
        assert plain(batch)["label"]["logits"].dtype == torch.float32
        assert attention_by_modality(plain, batch).keys() == {"text", "table"}
        model.use_int8(False)
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        exact = model(batch)["label"]["logits"]  # of weights that were rounded by now
        assert exact.dtype == torch.float32
    assert TorchInsides.of(engine, model).model is model
    for encoder in (torch.bfloat16, torch.float32):
        model.use_int8(encoder=encoder)
        explained = TorchInsides.of(engine, model).model
        with torch.inference_mode():
            torch.testing.assert_close(explained(batch)["label"]["logits"], exact)
        assert any(getattr(module, "int8", False) for module in model.modules())


def test_several_losses_are_balanced_as_in_equation_7_of_kendall() -> None:
    """Σ_t w_t · L_t · exp(-s_t) + ½ s_t with s_t = log σ_t²; at rest exp(-s_t) is 1 / (2 · w_t · L_t)."""
    rows = [{"text": f"{c} word", "a": c, "b": float(i)} for i, c in enumerate("xyxy")]
    settings = {"tasks": {"b": {"loss_weight": 3.0}}}
    engine = make_engine(rows, {"a": "classification", "b": "regression"}, inputs={"text": "text"}, settings=settings)
    balance = engine.runner.model.log_variance
    assert balance is not None
    losses = {"a": 1.7, "b": 0.4}
    terms = {target: {"loss": torch.tensor(value)} for target, value in losses.items()}

    with torch.no_grad():
        balance.copy_(torch.tensor([0.3, -0.7]))
    expected = 1.7 * np.exp(-0.3) + 0.3 / 2 + 3 * 0.4 * np.exp(0.7) - 0.7 / 2
    assert float(engine.runner.model.total_loss(terms, engine.tasks).detach()) == pytest.approx(expected, rel=1e-6)

    with torch.no_grad():
        balance.copy_(torch.log(torch.tensor([2 * 1.7, 2 * 3 * 0.4])))
    (gradient,) = torch.autograd.grad(engine.runner.model.total_loss(terms, engine.tasks), balance)
    torch.testing.assert_close(gradient, torch.zeros(2), rtol=0, atol=1e-6)
