"""Text of any script and length becomes tokens that know their characters."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polydetr import embedders
from polydetr.config.sections import TextConfig
from polydetr.core.layout import FieldText, Layout
from polydetr.engine.encode import MAX_DOCUMENT_ROWS, RowEncoder
from polydetr.errors import ConfigError, RowError
from polydetr.modalities.base import Needs
from polydetr.modalities.text import TextModality
from polydetr.modalities.text_tokens import SHAPES, word_shape
from polydetr.specs.scratch import scratch_spec
from polydetr.tasks.tagging import TaggingTask
from tiny_models import answers, as_records, make_engine, overfit

CORPUS = [
    "the cat sat on the mat near Oslo",
    "北京 大学 的 学生",
    "สวัสดี ชาวโลก",
    "مرحبا بالعالم",
    "US us Us 12.5 %",
] * 3


def modality(
    fields: Sequence[str] = ("text",), *, by_word: bool = True, lowercase: bool = False, **config: object
) -> TextModality:
    backbone = scratch_spec(CORPUS, vocab_size=400, hidden_dim=8, max_positions=64, lowercase=lowercase)
    return TextModality(
        fields,
        backbone,
        config=TextConfig(**{"max_tokens": 32, "overlap": 8, **config}),
        needs=Needs(by_word=by_word, alone=True),
    )


BY_WORD, WHOLE = modality(by_word=True), modality(by_word=False)


def layouts_of(found: TextModality, *rows: object) -> list[Layout]:
    encoded = found.encode([{"text": row} for row in rows])
    return [w.layout for w in encoded.windows if w.layout is not None]


SCRIPTS = [
    "北京大学的学生住在上海。",
    "東京タワーへ行きました",
    "สวัสดีชาวโลก",
    "مَرْحَبًا بالعالم",
    "👨\u200d👩\u200d👧 likes 👍🏽 ❤\ufe0f",
    "cafe\u0301 na\u00efve Zu\u0308rich",
    "Ｆｕｌｌ　ｗｉｄｔｈ　１２３",
    "zero\u200bwidth \ufeffmark",
    "line\r\nbreak\ttab",
    "  leading and trailing  \n",
    "\x00control\x07",
    "",
    "   ",
    "[SEP] is not a separator [CLS]",
]


@pytest.mark.parametrize("text", SCRIPTS)
@pytest.mark.parametrize("by_word", [True, False])
def test_tokens_point_into_the_original_string(text: str, by_word: bool) -> None:
    check_offsets(BY_WORD if by_word else WHOLE, text)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=120), st.booleans())
def test_tokens_of_any_text_point_into_it(text: str, by_word: bool) -> None:
    check_offsets(BY_WORD if by_word else WHOLE, text)


def check_offsets(found: TextModality, text: str) -> None:
    encoded = found.encode([{"text": text}])
    seen: set[int] = set()
    words: set[int] = set()
    for window in encoded.windows:
        layout = window.layout
        assert layout is not None
        assert len(layout.row) <= found.max_tokens
        real = layout.row >= 0
        assert (layout.start[real] >= 0).all()
        assert (layout.start[real] <= layout.end[real]).all()
        assert (layout.end[real] <= len(text)).all()
        assert window.arrays["input_ids"][0] == found.spec.cls_id
        assert window.arrays["input_ids"][-1] == found.spec.sep_id
        assert found.spec.sep_id not in window.arrays["input_ids"][1:-1]
        for start, end in zip(layout.start[real], layout.end[real], strict=True):
            seen.update(range(start, end))
        words.update(layout.word[layout.first].tolist())
        for start, word in zip(layout.start[layout.first], layout.word[layout.first], strict=True):
            assert start >= encoded.texts[0].words[word][0]
    if found.tokens.by_word:  # each word has one first token, and each character of a word's ends is some token's
        assert words == set(range(len(encoded.texts[0].words)))
        assert all({a, b - 1} <= seen for a, b in encoded.texts[0].words)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from(["the", "cat", "sat", "北京", "x", "12.5"]), max_size=60), min_size=1, max_size=5
    ),
    st.booleans(),
)
def test_windows_cover_every_token_with_the_promised_overlap(rows: list[list[str]], by_word: bool) -> None:
    found = BY_WORD if by_word else WHOLE
    layouts = layouts_of(found, *(" ".join(r) for r in rows))
    whole = [found.tokens.table(t).shape[1] for t in found.encode([{"text": " ".join(r)} for r in rows]).texts]
    keys = [
        {(r, s, e) for r, s, e in zip(x.row.tolist(), x.start.tolist(), x.end.tolist(), strict=False) if r >= 0}
        for x in layouts
    ]
    assert len(set().union(*keys)) == sum(whole)
    for left, right in itertools.pairwise(keys):
        assert len(left & right) >= 8
    for layout in layouts:
        assert (layout.margin[layout.row >= 0] >= 0).all()


def test_a_very_long_token_is_read_in_bounded_time_and_windows() -> None:
    started = time.process_time()
    for text in ("x" * 300_000, "é\u0301" * 150_000, " " * 300_000, "字" * 30_000):
        for found in (BY_WORD, WHOLE):
            assert all(len(layout.row) <= 32 for layout in layouts_of(found, text))
    assert time.process_time() - started < 20


@pytest.mark.parametrize("value", [None, float("nan"), 3, b"bytes", ["a", 1], {"a": 1}])
def test_what_is_no_text_is_an_error_that_names_row_and_column(value: object) -> None:
    encoder = RowEncoder({"text": BY_WORD}, {}, context=False)
    with pytest.raises(RowError, match=r"rows\.jsonl, row 2, column 'text'") as caught:
        encoder.encode(as_records([{"text": "good"}, {"text": value}]), with_targets=False)
    assert repr(value)[:20] in str(caught.value)


def test_ready_made_tokens_are_the_words() -> None:
    for tokens in (["New York", "is", "big"], np.array(["New York", "is", "big"]), ["北京", "大学"]):
        encoded = BY_WORD.encode([{"text": tokens}])
        assert [encoded.texts[0].text[a:b] for a, b in encoded.texts[0].words] == list(tokens)
        assert encoded.windows[0].layout.first.sum() == len(tokens)  # type: ignore[union-attr]


def test_two_fields_stand_in_one_sequence() -> None:
    found = modality(("question", "context"))
    window = found.encode([{"question": "the cat", "context": "sat on"}]).windows[0]
    ids, segment = window.arrays["input_ids"].tolist(), window.arrays["segment_ids"].tolist()
    sep = found.spec.sep_id
    assert [i for i, token in enumerate(ids) if token == sep] == [ids.index(sep), len(ids) - 1]
    assert segment == [0] * (ids.index(sep) + 1) + [1] * (len(ids) - ids.index(sep) - 1)
    assert (window.layout.row >= 0).tolist() == [False] * (ids.index(sep) + 1) + [True] * (
        len(ids) - ids.index(sep) - 2
    ) + [False]  # type: ignore[union-attr]


def test_a_long_prompt_is_reported_and_stands_whole_where_there_is_room() -> None:
    found = modality(("question", "context"))
    long = "the cat sat on the mat near Oslo " * 10
    cut = found.encode([{"question": long, "context": long}])
    assert len(cut.warnings) == 1
    assert "'question' has" in str(cut.warnings[0])
    assert all(len(w.arrays["input_ids"]) <= 32 for w in cut.windows)
    roomy = found.encode([{"question": " ".join(["the"] * 25), "context": "cat"}])
    assert not roomy.warnings
    assert len(roomy.windows) == 1


def test_short_prompts_stay_whole_beside_a_long_one() -> None:
    found = modality(("a", "b", "c"), max_tokens=32)
    encoded = found.encode([{"a": "the cat", "b": "the cat sat " * 20, "c": "mat " * 50}])
    assert [str(w).split(" has")[0] for w in encoded.warnings] == ["'b'"]


def test_too_small_a_window_for_the_fields_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"text\.max_tokens = 8"):
        modality(tuple("abcde"), max_tokens=8)


def test_letter_case_survives_an_uncased_vocabulary() -> None:
    found = modality(lowercase=True)
    upper, lower = (found.encode([{"text": t}]).windows[0].arrays for t in ("US", "us"))
    assert np.array_equal(upper["input_ids"], lower["input_ids"])
    assert not np.array_equal(upper["shape_ids"], lower["shape_ids"])
    assert "shape_ids" not in modality(word_shape=False).encode([{"text": "US"}]).windows[0].arrays


@pytest.mark.parametrize(
    ("word", "kind"),
    [("us", "lower"), ("Us", "title"), ("US", "upper"), ("A", "title"), ("iPod", "mixed"), ("12.5", "digit"),
     ("%", "symbol"), ("北", "unspaced"), ("مرحبا", "other"), ("", "symbol")],
)  # fmt: skip
def test_word_shapes(word: str, kind: str) -> None:
    assert SHAPES[word_shape(word)] == kind


def test_both_ways_of_tokenising_find_the_same_words() -> None:
    text = "  The cat sat, near Oslo  12.5 % 北京!"
    first = [layouts_of(found, text)[0] for found in (BY_WORD, WHOLE)]
    starts = [dict(zip(x.word[x.first].tolist(), x.start[x.first].tolist(), strict=True)) for x in first]
    assert starts[0] == starts[1]


# -- documents ----------------------------------------------------------------------------------------------------


def tagger() -> TaggingTask:
    task = TaggingTask("tags", TaggingTask.Options())
    task.learn([{"tags": ["B-PER", "O"]}])
    return task


def test_neighboring_rows_of_a_document_are_read_together_when_configured() -> None:
    rows = [{"text": f"the cat {i}"} for i in range(3)]
    for context, count in ((True, 1), (False, 3)):
        encoder = RowEncoder({"text": BY_WORD}, {"tags": tagger()}, context=context)
        assert len(list(encoder.documents(as_records(rows, document="d")))) == count
    encoder = RowEncoder({"text": BY_WORD}, {"tags": tagger()}, context=True)
    assert len(list(encoder.documents(as_records(rows)))) == 3
    mixed = as_records(rows[:2], "a") + as_records(rows[:1], "b")
    assert [len(g) for g in encoder.documents(mixed)] == [2, 1]
    assert set(layouts_of(BY_WORD, "the cat", "sat")[0].row.tolist()) == {-1, 0, 1}


def test_a_document_without_end_is_read_in_bounded_parts() -> None:
    encoder = RowEncoder({"text": BY_WORD}, {"tags": tagger()}, context=True)
    groups = list(encoder.documents(as_records([{"text": "the"}] * (2 * MAX_DOCUMENT_ROWS + 5), "d")))
    assert [len(g) for g in groups] == [MAX_DOCUMENT_ROWS, MAX_DOCUMENT_ROWS, 5]


def test_context_changes_what_a_sentence_is_read_as() -> None:
    rows = [{"tokens": ["Anna", "met", "Bob"], "tags": ["B-PER", "O", "B-PER"]}] * 4
    for context in (True, False):
        engine = make_engine(
            rows, {"tags": "tagging"}, inputs={"tokens": "text"}, settings={"text": {"context": context}}
        )
        alone = next(iter(engine.run(as_records(rows[:1], "d"))))
        among = next(iter(engine.run(as_records([rows[0], {"tokens": ["so", "what"]}], "d"))))
        same = np.allclose(
            alone.predictions["tags"].details.word_probability,
            among.predictions["tags"].details.word_probability,
            atol=1e-6,
        )
        assert same != context


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from(["the", "cat", "sat", "mat", "Oslo", "北京", "12.5"]), min_size=1, max_size=90),
    st.integers(0, 15),
)
def test_merged_windows_equal_the_whole_text_for_a_model_without_positions(tokens: list[str], overlap: int) -> None:
    """Scores that depend on the token alone must not depend on where the windows were cut."""
    found = modality(max_tokens=24, overlap=overlap)
    wide = TextModality(("text",), found.spec, config=TextConfig(max_tokens=64, overlap=8), needs=Needs(by_word=True))
    wide.max_tokens = 10_000
    task = tagger()
    table = np.random.default_rng(0).normal(size=(found.spec.tokenizer.get_vocab_size(), 3)).astype(np.float32)
    results = []
    for which in (found, wide):
        encoded = which.encode([{"text": tokens}])
        outputs = [{"logits": table[w.arrays["input_ids"]]} for w in encoded.windows]
        results.append(task.decode(outputs, [w.layout for w in encoded.windows], encoded.texts))
    assert results[0] == results[1]


@settings(max_examples=40, deadline=None)
@given(st.text(min_size=1, max_size=80), st.integers(0, 2**31))
def test_entities_of_any_text_are_substrings_of_it(text: str, seed: int) -> None:
    encoded = BY_WORD.encode([{"text": text}])
    rng = np.random.default_rng(seed)
    outputs = [{"logits": rng.normal(size=(len(w.arrays["input_ids"]), 3)).astype(np.float32)} for w in encoded.windows]
    prediction = tagger().decode(outputs, [w.layout for w in encoded.windows], encoded.texts)[0]
    for entity in prediction.value:
        assert 0 <= entity["start"] < entity["end"] <= len(text)
        assert text[entity["start"] : entity["end"]] == entity["text"]
        assert entity["text"] == entity["text"].strip()


def test_a_long_text_is_tagged_to_its_last_word() -> None:
    sentence = ["Anna", "met", "a", "cat"]
    rows = [
        {"tokens": sentence, "tags": ["B-PER", "O", "O", "O"]},
        {"tokens": sentence * 2, "tags": ["B-PER", "O", "O", "O"] * 2},
    ] * 2
    engine = make_engine(
        rows, {"tags": "tagging"}, inputs={"tokens": "text"}, settings={"text": {"max_tokens": 16, "overlap": 4}}
    )
    overfit(engine, rows, steps=40)
    found = answers(engine, [{"tokens": sentence * 20}])[0].predictions["tags"].value
    assert [e["text"] for e in found] == ["Anna"] * 20


def test_the_vocabulary_made_from_texts_is_the_same_every_time() -> None:
    first, second = (scratch_spec(CORPUS, vocab_size=150, hidden_dim=8, max_positions=64) for _ in range(2))
    assert first.tokenizer.to_str() == second.tokenizer.to_str()
    assert first.tokenizer.get_vocab_size() <= 150


def test_an_embedder_adds_shapes_only_after_training_has_moved_them() -> None:
    embedder = embedders.build(BY_WORD, embed_dim=None, others={})
    assert embedder.shape_embedding is not None
    assert not embedder.shape_embedding.weight.any()
    assert embedder.embed_dim == 8
    assert isinstance(embedders.build(BY_WORD, embed_dim=16, others={}).project, torch.nn.Linear)


def test_the_backbone_drops_what_the_configuration_has() -> None:
    config = BY_WORD.config.model_copy(update={"dropout": 0.5})
    modality = TextModality(["text"], BY_WORD.spec, config=config, needs=Needs(by_word=True))
    ids, mask = torch.tensor([[5, 6, 7]]), torch.ones(1, 3, dtype=torch.bool)
    encoder = embedders.build(modality, embed_dim=None, others={}).backbone.train()
    assert not torch.equal(encoder(ids, mask), encoder(ids, mask))


def test_a_text_says_its_words() -> None:
    assert BY_WORD.encode([{"text": "a b"}]).texts[0] == FieldText("a b", [(0, 1), (2, 3)])
