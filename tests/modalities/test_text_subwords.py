"""Scripts without spaces are read in the backbone's own subwords and answered by character."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from polydetr import embedders
from polydetr.config.loading import load_config
from polydetr.config.sections import TextConfig
from polydetr.core.examples import Example
from polydetr.embedders.text_subwords import SubwordReader, subwords_of_positions
from polydetr.engine.engine import Engine
from polydetr.explain import explain_record
from polydetr.modalities import text as text_modality
from polydetr.modalities.base import Needs
from polydetr.modalities.text import TextModality
from polydetr.modalities.text_subwords import cut_run, joins_characters, place_of, runs
from polydetr.model.build import build_model
from polydetr.nn.batch import Batch
from polydetr.schema.infer import infer_schema
from polydetr.training.features import features_of
from tiny_models import answers, as_records, overfit
from tiny_pieces import backbone

NEEDS = Needs(by_word=True, alone=True)


def modality(**options: Any) -> TextModality:
    config = TextConfig(**{"max_tokens": 64, "overlap": 8, **options.pop("config", {})})
    return TextModality(options.pop("fields", ("text",)), backbone(), config=config, needs=NEEDS, **options)


def shown(found: TextModality, arrays: Any) -> list[str]:
    """The subwords that the backbone reads, without [CLS] and [SEP]."""
    ids = arrays["input_ids"][arrays["first_position"] != 0] if "first_position" in arrays else arrays["input_ids"]
    return [str(found.spec.tokenizer.id_to_token(int(i))) for i in ids[1:-1]]


def read(found: TextModality, text: object) -> Any:
    (window,) = found.encode([{"text": text}]).windows
    return window


def test_the_backbone_reads_what_its_tokenizer_makes_of_the_whole_text() -> None:
    found = modality()
    for text in ("北京大学的学生", "the cat 北京大学", "U.S. 12.5%", "的 北京"):
        whole = backbone().tokenizer.encode(text, add_special_tokens=False).tokens
        assert shown(found, read(found, text).arrays) == [piece for piece in whole if piece != "▁"]


def test_a_word_start_mark_that_a_tokenizer_always_makes_is_left_out() -> None:
    found = modality()
    parts = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always", split=False)]
    found.spec.tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
    assert shown(found, read(found, "the北京.").arrays) == ["▁the", "北京", "."]


def test_every_character_keeps_a_position_of_its_own() -> None:
    found = modality()
    window = read(found, "北京大学")
    layout = window.layout
    assert layout.word[1:-1].tolist() == [0, 1, 2, 3]
    assert layout.first[1:-1].all()
    assert list(zip(layout.start[1:-1].tolist(), layout.end[1:-1].tolist(), strict=True)) == [
        (0, 1),
        (1, 2),
        (2, 3),
        (3, 4),
    ]
    assert window.arrays["first_position"].tolist() == [1, 1, 0, 1, 0, 1]
    assert window.arrays["place"].tolist() == [0, place_of(0, 2), place_of(1, 2), place_of(0, 2), place_of(1, 2), 0]


def test_runs_are_neighboring_words_of_a_script_without_spaces() -> None:
    text = "的 cat北京2"
    words = [(0, 1), (2, 5), (5, 6), (6, 7), (7, 8)]
    assert list(runs(text, words)) == [(0, 1), (1, 2), (2, 4), (4, 5)]


def test_subwords_and_words_may_cross() -> None:
    """Ready-made tokens need not end where a subword does, and a word may hold several."""
    found = cut_run([(7, 0, 2), (8, 2, 4), (9, 4, 5)], [(0, 3), (3, 5)], unknown=3)
    assert found == [
        [(7, 0, 2, True, 0), (8, 2, 3, True, place_of(0, 2))],
        [(8, 0, 1, False, place_of(1, 2)), (9, 1, 2, True, 0)],
    ]


def test_a_word_that_the_tokenizer_drops_is_read_as_unknown() -> None:
    found = cut_run([(7, 0, 1), (8, 2, 3)], [(0, 1), (1, 2), (2, 3)], unknown=3)
    assert found == [[(subword, 0, 1, True, 0)] for subword in (7, 3, 8)]


def test_places_beyond_the_fourth_are_one() -> None:
    assert place_of(0, 1) == 0
    assert place_of(4, 9) == place_of(3, 9)
    assert len({place_of(i, 4) for i in range(4)}) == 4


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="北京大学的生东タワー字 aU.S5%ｶﾞ\u0301", max_size=60))
def test_any_text_has_one_first_token_per_word_and_a_first_position_per_subword(text: str) -> None:
    found = modality(config={"max_tokens": 16, "overlap": 4})
    encoded = found.encode([{"text": text}])
    words: set[int] = set()
    for window in encoded.windows:
        layout, arrays = window.layout, window.arrays
        assert layout is not None
        words |= set(layout.word[layout.first].tolist())
        assert arrays["first_position"][layout.row < 0].all()
        assert arrays["first_position"][1], "a window that begins inside a subword reads the subword"
        follows = arrays["first_position"] == 0
        assert (arrays["input_ids"][follows] == arrays["input_ids"][np.flatnonzero(follows) - 1]).all()
        for word, start in zip(layout.word[layout.first], layout.start[layout.first], strict=True):
            assert start == encoded.texts[0].words[word][0]
    assert words == set(range(len(encoded.texts[0].words)))


def batch_of(found: TextModality, *texts: str) -> Any:
    return Batch.collate([Example({"text": read(found, text).arrays}) for text in texts]).groups["text"]


def test_a_text_is_read_alike_alone_and_beside_others() -> None:
    found = modality()
    embedder = embedders.build(found, embed_dim=None, others={}).eval()
    torch.nn.init.normal_(embedder.piece_reader.down.weight)
    texts = ["北京大学的学生", "the cat", "北京"]
    together = embedder(batch_of(found, *texts))
    for i, text in enumerate(texts):
        alone = embedder(batch_of(found, text))
        assert torch.allclose(together.tokens[i][together.mask[i]], alone.tokens[0], atol=1e-5)


def test_positions_of_one_subword_start_alike_and_can_be_distinguished() -> None:
    found = modality()
    embedder = embedders.build(found, embed_dim=None, others={}).eval()
    group = batch_of(found, "北京的")
    before = embedder(group).tokens[0]
    assert torch.equal(before[1], before[2])
    torch.nn.init.normal_(embedder.piece_reader.down.weight)
    after = embedder(group).tokens[0]
    assert not torch.allclose(after[1], after[2])
    assert torch.equal(after[3], before[3]), "a subword of one character is what the backbone says"


def test_the_backbone_sees_the_subwords_and_no_more() -> None:
    found = modality()
    embedder = embedders.build(found, embed_dim=None, others={}).eval()
    tokens = embedder(batch_of(found, "北京大学")).tokens[0]
    ids = torch.tensor([[0, *(found.spec.tokenizer.token_to_id(p) for p in ("北京", "大学")), 2]])
    shapes = embedder.shape_embedding(torch.tensor([[0, 7, 7, 0]]))
    plain = embedder.backbone(ids, torch.ones(1, 4, dtype=torch.bool), torch.zeros_like(ids), extra=shapes)[0]
    assert torch.allclose(tokens, plain[[0, 1, 1, 2, 2, 3]], atol=1e-6)


def test_all_hidden_is_no_error() -> None:
    found = modality()
    group = batch_of(found, "北京")
    hidden = type(group)(group.values, torch.zeros_like(group.mask), group.positions)
    assert torch.isfinite(embedders.build(found, embed_dim=None, others={})(hidden).tokens).all()


def test_positions_share_their_subword() -> None:
    first, mask = torch.tensor([[1, 0, 1, 1, 0]]), torch.tensor([[True, True, True, True, False]])
    subword, share = subwords_of_positions(first, mask)
    assert subword.tolist() == [[0, 0, 1, 2, 2]]
    assert share.tolist() == [[0.5, 0.5, 1, 1, 0]]


def test_the_reader_changes_shared_subwords_alone() -> None:
    reader = SubwordReader(4)
    torch.nn.init.ones_(reader.down.bias)
    hidden = torch.zeros(1, 2, 4)
    assert reader(hidden, torch.tensor([[0, 1]])).detach()[0, :, 0].tolist() == [0.0, 1.0]


def test_a_vocabulary_of_single_characters_needs_no_positions() -> None:
    single = Tokenizer(models.WordPiece({"[UNK]": 0, "北": 1, "cat": 2}, unk_token="[UNK]"))
    assert not joins_characters(single)
    assert joins_characters(backbone().tokenizer)
    assert "first_position" not in read(modality(config={"pieces": False}), "北京").arrays


def test_without_subwords_a_character_is_still_no_word_start() -> None:
    found = modality(config={"pieces": False})
    assert shown(found, read(found, "北京U.S.").arrays) == ["北", "京", "<unk>", ".", "S", "."]


def test_a_model_folder_from_before_reads_as_it_was_trained(tmp_path: Path) -> None:
    now = modality()
    now.save_files(tmp_path)
    again = TextModality.from_state(now.state(), tmp_path, others={})
    assert shown(again, read(again, "北京大学").arrays) == ["北京", "大学"]
    state = {k: v for k, v in modality(encoding=2).state().items() if k != "encoding"}
    old = TextModality.from_state(state, _saved_before(tmp_path), others={})
    assert shown(old, read(old, "北京").arrays) == ["北", "▁", "京"]


def _saved_before(folder: Path) -> Path:
    modality(encoding=2).save_files(folder)
    return folder


@pytest.mark.parametrize("text", ["北京大学 the", " 北京", "the 北京"])
def test_a_copy_reads_whole_texts_as_before(text: str) -> None:
    expected = backbone().tokenizer.encode(text, add_special_tokens=False).ids
    twin = modality().over(("other",))
    (window,) = twin.encode([{"other": text}]).windows
    assert window.arrays["input_ids"][1:-1].tolist() == expected


# -- a whole model ------------------------------------------------------------------------------------------------

ROWS = [
    {"text": "北京大学的学生", "entities": [(0, 3, "PLACE"), (5, 7, "PERSON")]},
    {"text": "学生的北京", "entities": [(0, 2, "PERSON"), (3, 5, "PLACE")]},
    {"text": "the cat 大学", "entities": [(9, 10, "PLACE")]},
]


def engine(monkeypatch: pytest.MonkeyPatch, **text: Any) -> Engine:
    monkeypatch.setattr(text_modality, "choose_text_spec", lambda *_, **__: backbone())
    config = load_config({"text": text}, target={"entities": "tagging"})
    schema = infer_schema(ROWS, targets=config.target, inputs={"text": "text"})
    made = build_model(config, schema, as_records(ROWS), notify=lambda _: None).engine
    made.runner.model.eval()
    return made


def test_an_entity_may_end_inside_a_subword(monkeypatch: pytest.MonkeyPatch) -> None:
    made = engine(monkeypatch)
    overfit(made, ROWS, steps=80)
    for row, result in zip(ROWS, answers(made, ROWS), strict=True):
        found = [(e["start"], e["end"], e["label"]) for e in result.predictions["entities"].value]
        assert found == row["entities"]


def test_frozen_backbones_keep_the_places_of_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    made = engine(monkeypatch)
    valid = as_records(ROWS)
    examples = [
        e for group in made.encoder.documents(valid) for e in made.encoder.encode(group, with_targets=True).examples
    ]
    torch.nn.init.normal_(made.runner.model.embedders["text"].piece_reader.down.weight)
    featured = features_of(made.runner, examples, ["text"])
    for plain, computed in zip(examples, featured, strict=True):
        assert set(computed.groups["text"]) == {"features", "place"}
        first, second = (made.runner.model(Batch.collate([e]))["entities"]["logits"] for e in (plain, computed))
        assert torch.allclose(first, second, atol=1e-5)


def test_an_explanation_speaks_of_characters_and_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    made = engine(monkeypatch, max_tokens=16, overlap=4)
    overfit(made, ROWS, steps=80)
    torch.nn.init.normal_(made.runner.model.embedders["text"].backbone.embeddings.words.weight, std=0.2)
    (record,) = as_records([{"text": "北京大学的学生the cat北京大学的学生的北京"}])
    found = explain_record(made, record, choice=0)
    assert [word.text for word in found.words][:4] == ["北", "京", "大", "学"]
    assert found.is_complete
    assert sum(word.score for word in found.words) == pytest.approx(found.value - found.baseline, abs=0.02)
    assert any(word.score for word in found.words)
    table = np.array(found.attention["backbone"])
    assert table.shape == (len(found.words), len(found.words))
    assert (table >= 0).all()
    assert (table.sum(1) <= 1 + 1e-6).all()
    assert table[2, 0] == pytest.approx(table[2, 1]), "characters of one piece share what it receives"
