"""Entities as a set: nested spans learned and answered, windows merged exactly, labels that are not as they should."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polydetr import Predictor
from polydetr.core.layout import FieldText, Layout
from polydetr.core.predictions import Prediction
from polydetr.errors import ConfigError, InputError, RowError, SchemaError
from polydetr.modalities.text import _cuts
from polydetr.nn.batch import Batch
from polydetr.tasks.entities import EntitiesTask, SpanDetails
from polydetr.tasks.explained import Reading
from polydetr.tasks.span_answers import Candidate, merged, settled, window_candidates
from polydetr.values.spans import go_together
from tiny_models import answers, as_records, batch_loss, encode_all, make_engine, metrics, overfit

TARGET = {"entities": "entities"}
SMALL = {"entities": {"hidden_dim": 32, "decoder_layers": 2}}
NAMES = ["Anna", "Bob", "Carla", "Dan", "Eva", "Finn"]


def span(text: str, part: str, label: str) -> dict[str, Any]:
    return {"start": text.index(part), "end": text.index(part) + len(part), "label": label}


def row(name: str, place: str = "Turin") -> dict[str, Any]:
    text = f"Then the mayor of {place} met {name}."
    mayor = f"the mayor of {place}"
    return {"text": text, "entities": [span(text, mayor, "PER"), span(text, place, "LOC"), span(text, name, "PER")]}


ROWS = [row(name, "New Oslo" if i % 2 else "Turin") for i, name in enumerate(NAMES)]


def engine_of(rows: list[dict[str, Any]], notes: list[str] | None = None, **more: Any) -> Any:
    return make_engine(rows, TARGET, inputs={"text": "text"}, settings={**SMALL, **more}, notes=notes)


def learned(rows: list[dict[str, Any]], **more: Any) -> Any:
    engine = engine_of(rows, **more)
    overfit(engine, rows)
    return engine


def keys(found: list[dict[str, Any]]) -> set[tuple[int, int, str]]:
    return {(one["start"], one["end"], one["label"]) for one in found}


# -- the whole way ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder = tmp_path_factory.mktemp("entities")
    patch = pytest.MonkeyPatch()
    patch.setenv("POLYDETR_CACHE", str(folder / "cache"))
    given = {
        "model": {"embed_dim": 32, "num_layers": 1, "num_heads": 2, "dropout": 0.0},
        "training": {"batch_tokens": 64, "head_lr": 1e-2, "precision": "fp32", "patience": 0},
        "text": {"vocab_size": 300},
    }
    Predictor.fit(
        ROWS * 4,
        target=TARGET,
        valid=ROWS,
        backbone="none",
        epochs=8,
        out=folder / "model",
        settings={**SMALL, **given},
    )
    patch.undo()
    torch.set_flush_denormal(False)  # training counts the smallest floats as zero; other tests draw them
    return Predictor.load(folder / "model")


def test_nested_spans_are_found_in_characters_of_the_original(predictor: Predictor) -> None:
    text = "Then  the mayor of\tNew Oslo met Bob."
    found = predictor.predict([{"text": text}])[0]["entities"]
    assert keys(found) == keys(
        [span(text, "the mayor of\tNew Oslo", "PER"), span(text, "New Oslo", "LOC"), span(text, "Bob", "PER")]
    )
    assert all(text[one["start"] : one["end"]] == one["text"] for one in found)
    assert all(0 <= one["score"] <= 1 for one in found)
    assert [(one["start"], -one["end"]) for one in found] == sorted((one["start"], -one["end"]) for one in found)


def test_measured_by_exact_span_and_type(predictor: Predictor) -> None:
    scores = predictor.evaluate(ROWS)["entities"]
    assert all(scores[name] == 1 for name in ("entity_f1", "precision", "recall", "macro_f1", "nested_recall"))
    evaluation = predictor.evaluation(ROWS)["entities"]
    assert "nested  6 of 6 spans inside others" in evaluation.tables["entities"]
    assert evaluation.data["entities"]["types"]["LOC"]["f1"] == 1.0


def test_an_entity_is_explained_by_the_other_words(predictor: Predictor) -> None:
    found = predictor.predict(ROWS[0])[0]["entities"]
    for number, one in enumerate(found):
        e = predictor.explain(ROWS[0], choice=number)
        assert (e.task, e.method, e.measure) == ("entities", "occlusion", "score")
        assert e.answer.startswith(f"{one['text']} = {one['label']}")
        assert e.value == e.original == pytest.approx(one["score"], abs=1e-4)
        own = [word for word in e.words if word.in_answer]
        assert (own[0].start, own[-1].end) == (one["start"], one["end"])
        assert all(word.score == 0 for word in own)
        assert e.deletion is not None
    chosen = max(found, key=lambda one: one["score"])
    assert predictor.explain(ROWS[0]).answer.startswith(chosen["text"])
    with pytest.raises(InputError, match="this row has 3 entities"):
        predictor.explain(ROWS[0], choice=3)


def test_an_entity_is_followed_to_its_new_place() -> None:
    """Its word is the third; without the first two, and answered as one word more, half of it is found."""
    text = FieldText("a b c d", ((0, 1), (2, 3), (4, 5), (6, 7)))
    spans = [{"start": 4, "end": 5, "label": "X", "text": "c", "score": 0.8}]
    reading = Reading(Prediction(spans, None, SpanDetails(spans)), [], [], text)
    task = EntitiesTask("entities", EntitiesTask.Options())
    answer = task.answer_of(reading, None, counterpart=lambda: np.zeros(1))
    assert (answer.words, answer.label) == ((2,), "X")
    shorter = FieldText("c d", ((0, 1), (2, 3)))
    later = [{"start": 0, "end": 3, "label": "X", "score": 0.6}, {"start": 0, "end": 1, "label": "Y", "score": 0.9}]
    reading = Reading(Prediction([], None, SpanDetails(later)), [], [], shorter)
    assert answer.moved(lambda i: i - 2).probability(reading) == pytest.approx(0.6 / 2)


def test_the_threshold_is_tuned_kept_and_may_be_given(predictor: Predictor) -> None:
    assert 0 < predictor._engine.tasks["entities"].threshold < 1
    given = engine_of(ROWS, entities={"threshold": 0.9, **SMALL["entities"]})
    task = given.tasks["entities"]
    results = answers(given, ROWS, with_targets=True)
    golds = [task.gold(r.record.row, r.text) for r in results]
    assert task.tune([r.predictions["entities"] for r in results], golds) == []
    assert task.threshold == 0.9


# -- how spans may lie ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spans", "nesting", "said"),
    [
        ([(0, 4, "A"), (5, 8, "A")], "none", "apart from one another"),
        ([(0, 8, "A"), (5, 8, "B")], "nested", "some inside others"),
        ([(0, 8, "A"), (0, 8, "B")], "nested", "some inside others"),
        ([(0, 8, "A"), (5, 12, "B")], "any", "some across others"),
    ],
)
def test_how_spans_lie_is_learned(spans: list[Any], nesting: str, said: str) -> None:
    notes: list[str] = []
    engine = engine_of([{"text": "some more words", "entities": spans}], notes)
    assert engine.tasks["entities"].nesting == nesting
    assert any(said in note for note in notes)


def test_answers_keep_to_how_the_training_spans_lie() -> None:
    outer, inner = Candidate(0, 4, 0, 0.9), Candidate(1, 2, 0, 0.8)
    across, again = Candidate(3, 6, 0, 0.7), Candidate(0, 4, 0, 0.6)
    every = [again, across, inner, outer]
    assert settled(every, "none") == [outer]
    assert settled(every, "nested") == [outer, inner]
    assert settled(every, "any") == [outer, inner, across]


def test_two_types_of_the_same_words_are_both_found() -> None:
    rows = [{"text": f"the {n} Bank", "entities": [(0, len(n) + 9, "ORG"), (0, len(n) + 9, "PLACE")]} for n in NAMES]
    engine = engine_of(rows)
    overfit(engine, rows, steps=120, lr=5e-3)
    assert metrics(engine, rows)["entities"]["entity_f1"] == 1.0


def test_tags_are_spans_too() -> None:
    rows = [{"text": f"{n} met Al Gore", "entities": ["B-PER", "O", "B-PER", "I-PER"]} for n in NAMES]
    engine = learned(rows)
    assert engine.tasks["entities"].nesting == "none"
    assert metrics(engine, rows)["entities"]["entity_f1"] == 1.0


def test_a_span_longer_than_any_proposal_is_reached_by_the_decoder() -> None:
    rows = [
        {"text": f"so {n} the very old king of all the land went", "entities": [(3, 37 + len(n), "PER")]} for n in NAMES
    ]
    assert rows[0]["text"][3:41] == "Anna the very old king of all the land"
    engine = learned(rows, entities={"max_words": 4, **SMALL["entities"]})
    assert metrics(engine, rows)["entities"]["entity_f1"] == 1.0


# -- windows ----------------------------------------------------------------------------------------------------------


def document(lengths: list[int], width: int, overlap: int) -> list[Layout]:
    """Windows of rows of so many words of one token each, as the text modality cuts them."""
    tables = [np.zeros((6, length)) for length in lengths]
    layouts = []
    for spans, left, right in _cuts(tables, width, overlap):
        rows = np.concatenate([np.full(b - a, row) for row, a, b in spans])
        words = np.concatenate([np.arange(a, b) for _, a, b in spans])
        inside = np.arange(len(rows))
        margin = np.minimum(inside if left else 1 << 20, inside[::-1] if right else 1 << 20)
        ones = np.ones(len(rows), dtype=bool)
        layouts.append(Layout(rows, words, words, words, ones, np.broadcast_to(margin, len(rows))))
    return layouts


def seen(layout: Layout, spans: list[tuple[int, int, int]]) -> dict[str, np.ndarray]:
    """What a model answers that knows the true (row, first, last) and sees this window: those that lie in it whole."""
    place = {(int(r), int(w)): i for i, (r, w) in enumerate(zip(layout.row, layout.word, strict=True))}
    whole = [(place[r, a], place[r, b]) for r, a, b in spans if (r, a) in place and (r, b) in place]
    queries, words = len(whole) + 2, len(layout.row)
    output = {
        "seeds": np.full((queries, 2), -1.0), "logits": np.full((queries, 1, 2), -9.0),
        "start_logits": np.zeros((queries, 1, words)), "end_logits": np.zeros((queries, 1, words)),
    }  # fmt: skip
    for query, (first, last) in enumerate(whole):
        output["seeds"][query] = 0, 0
        output["logits"][query, 0, (first + last) % 2] = 3.0
        output["start_logits"][query, 0, first] = output["end_logits"][query, 0, last] = 9.0
    return output


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_windows_find_what_one_window_finds_each_span_once(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=4))
    width = data.draw(st.integers(8, 40))
    overlap = data.draw(st.integers(4, max(4, width // 2)))
    reach = min(overlap, width // 2)  # a longer span need not lie whole in any window
    spans = set()
    for _ in range(data.draw(st.integers(0, 12))):
        row = data.draw(st.integers(0, len(lengths) - 1))
        first = data.draw(st.integers(0, lengths[row] - 1))
        spans.add((row, first, data.draw(st.integers(first, min(lengths[row], first + reach) - 1))))
    layouts = document(lengths, width, overlap)
    outputs = [seen(layout, sorted(spans)) for layout in layouts]
    found = merged(outputs, layouts, len(lengths), least=0.5)
    assert sorted((row, c.first, c.last) for row, each in enumerate(found) for c in each) == sorted(spans)


def test_of_two_windows_the_one_with_more_context_speaks() -> None:
    layouts = document([12], 8, 4)
    outputs = [seen(layout, [(0, 4, 5)]) for layout in layouts]
    outputs[1]["logits"][0, 0] = [9.0, -9.0]  # where it stands at the window's very edge
    found = merged(outputs, layouts, 1, least=0.5)[0]
    assert [(c.first, c.last, c.label) for c in found] == [(4, 5, 1)]


def test_a_span_never_runs_from_one_row_into_the_next() -> None:
    layouts = document([3, 3], 10, 2)
    output = seen(layouts[0], [(0, 1, 1)])
    output["end_logits"][0, 0] = np.eye(6)[4] * 9.0
    assert merged([output], layouts, 2, least=0.5) == [[], []]


def of_a_table(outputs: list[Any], layouts: list[Layout], lengths: list[int], *, least: float) -> list[list[Candidate]]:
    """What ``merged`` means, by a table of windows × words, which no long text has room for."""
    margins = [np.full((len(layouts), length), -1) for length in lengths]
    for number, layout in enumerate(layouts):
        for r, word, margin in zip(layout.row, layout.word, layout.margin, strict=True):
            margins[r][number, word] = margin
    found: list[list[Candidate]] = [[] for _ in lengths]
    for number, (output, layout) in enumerate(zip(outputs, layouts, strict=True)):
        for first, last, label, score in window_candidates(output, len(layout.row), least=least):
            r, a, b = int(layout.row[first]), int(layout.word[first]), int(layout.word[last])
            if r == layout.row[last] and np.minimum(margins[r][:, a], margins[r][:, b]).argmax() == number:
                found[r].append(Candidate(a, b, label, score))
    return found


def of_every_pair(candidates: list[Candidate], nesting: Any) -> list[Candidate]:
    """What ``settled`` means: each candidate beside every other."""
    kept: list[Candidate] = []
    for one in sorted(candidates, key=lambda c: -c.score):
        known = any(one[:3] == c[:3] for c in kept)
        if not known and all(go_together((c.first, c.last + 1), (one.first, one.last + 1), nesting) for c in kept):
            kept.append(one)
    return kept


@given(st.integers(0, 2**32 - 1), st.sampled_from(["none", "nested", "any"]))
@settings(max_examples=60, deadline=None)
def test_answers_equal_those_of_whole_tables_to_the_bit(seed: int, nesting: Any) -> None:
    rng = np.random.default_rng(seed)
    lengths = [int(n) for n in rng.integers(1, 40, rng.integers(1, 4))]
    layouts = document(lengths, int(rng.integers(6, 30)), int(rng.integers(0, 12)))
    outputs = []
    for layout in layouts:
        queries, words = int(rng.integers(1, 9)), len(layout.row)
        ends = {f"{end}_logits": rng.normal(size=(queries, 1, words)).round(1) for end in ("start", "end")}
        seeds = rng.integers(-1, 2, (queries, 2)).astype(float)
        outputs.append({"seeds": seeds, "logits": rng.normal(size=(queries, 1, 3)).round(1), **ends})
    found = merged(outputs, layouts, len(lengths), least=0.3)
    assert found == of_a_table(outputs, layouts, lengths, least=0.3)
    assert [settled(each, nesting) for each in found] == [of_every_pair(each, nesting) for each in found]


def test_memory_and_time_grow_with_the_text_and_not_with_its_square() -> None:
    layouts = document([30_000], 16, 4)
    outputs = []
    for layout in layouts:
        ends = {f"{end}_logits": np.eye(len(layout.row))[[3, 9], None] for end in ("start", "end")}
        outputs.append({"seeds": np.zeros((2, 2)), "logits": np.full((2, 1, 1), 2.0), **ends})
    tracemalloc.start()
    began = time.perf_counter()
    found = settled(merged(outputs, layouts, 1, least=0.5)[0], "none")
    seconds, (_, peak) = time.perf_counter() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) > 2 * len(layouts) - 5
    assert peak < 60e6, f"{peak / 1e6:.0f} MB: a table of windows × words has {len(layouts) * 30_000 * 8 / 1e6:.0f}"
    assert seconds < 15, f"{seconds:.1f} s"


def test_the_best_ends_are_the_best_pair_in_order() -> None:
    torch.manual_seed(0)
    start, end = np.random.default_rng(0).normal(size=(2, 7, 1, 9))
    output = {"seeds": np.zeros((7, 2)), "logits": np.full((7, 1, 1), 5.0), "start_logits": start, "end_logits": end}
    found = {(c.first, c.last) for c in window_candidates(output, 9, least=0.0)}
    pairs = [(a, b) for a in range(9) for b in range(a, 9)]
    assert found == {max(pairs, key=lambda p: start[q, 0, p[0]] + end[q, 0, p[1]]) for q in range(7)}


def test_a_long_text_is_learned_and_answered_through_windows() -> None:
    text = " ".join(f"number {i} is {NAMES[i % 6]} of Old Turin ." for i in range(12))
    places = [i for i in range(len(text)) if text.startswith("Old Turin", i)]
    spans = [{"start": p, "end": p + 9, "label": "LOC"} for p in places]
    rows = [{"text": text, "entities": spans}]
    engine = learned(rows, text={"max_tokens": 40, "overlap": 16, "vocab_size": 300})
    assert len(encode_all(engine, rows, with_targets=True)) > 3
    assert keys(answers(engine, rows)[0].predictions["entities"].value) == keys(spans)


def test_neighboring_rows_of_a_document_are_read_together_and_answered_apart() -> None:
    engine = engine_of(ROWS)
    overfit(engine, ROWS, document="one")
    records = as_records(ROWS, document="one")
    assert len(list(engine.encoder.documents(records))) == 1
    found = [keys(r.predictions["entities"].value) for r in engine.run(records)]
    assert found == [keys(each["entities"]) for each in ROWS]


# -- labels that are not as they should be --------------------------------------------------------------------------


def task_of(*spans: Any, text: str = "the old mayor of Turin", **options: Any) -> tuple[EntitiesTask, Any]:
    engine = engine_of([{"text": text, "entities": [(0, 3, "A"), (4, 7, "B")]}], **options)
    task = engine.tasks["entities"]
    return task, task.gold({"entities": list(spans)}, FieldText(text, [(0, 3), (4, 7), (8, 13), (14, 16), (17, 22)]))


def test_a_span_given_twice_counts_once_and_is_reported() -> None:
    task, gold = task_of((0, 3, "A"), (0, 3, "A"), (0, 3, "B"))
    assert gold.words == [(0, 0, "A"), (0, 0, "B")]
    assert task.problems(gold) == ["1 spans are given twice: they count once"]


def test_spans_inside_words_are_fitted_and_reported() -> None:
    task, gold = task_of((5, 10, "A"), (7, 8, "B"))
    assert gold.words == [(1, 2, "A")]
    assert [problem.split(" was ")[0] for problem in task.problems(gold)] == [
        "span 5-10 (A)",
        "span 7-8 (B) covers no word",
    ]


def test_more_spans_than_can_be_found_are_reported_and_learned_as_far_as_it_goes() -> None:
    text = " ".join("abcdefgh")
    every = [(a, b, "A") for a in range(0, 15, 2) for b in range(a + 1, 16, 2)]  # 36 spans of 8 words
    rows = [{"text": text, "entities": every}]
    engine = engine_of(rows)
    example = engine.encoder.encode(as_records(rows), with_targets=True)
    assert any("36 spans in 8 words, of which 16 can be found" in str(warning) for warning in example.warnings)
    longer = engine.encoder.encode(as_records([{"text": text * 4, "entities": [(0, 1, "A")]}]), with_targets=True)
    for batch in (example.examples, [*example.examples, *longer.examples]):  # the second pads the queries of the first
        loss = batch_loss(engine, Batch.collate(batch))
        assert float(loss.detach()) < 100
        loss.backward()


def test_rows_without_labels_teach_nothing() -> None:
    """In one window with a labeled row: neither its words nor what is proposed there changes the loss."""
    rows = [ROWS[0], {"text": "Then Bob met Dan.", "entities": None}]
    engine = engine_of(ROWS)
    examples = engine.encoder.encode(as_records(rows, document="one"), with_targets=True).examples
    assert len(examples) == 1
    batch = Batch.collate(examples)
    outputs = {name: t.clone() for name, t in engine.runner.model(batch, last_only=False)["entities"].items()}
    head, targets = engine.runner.model.head_of("entities"), batch.targets["entities"]
    before = head.loss(outputs, targets, batch.weights)
    first_words = len(answers(engine, rows[:1])[0].text.words)
    outputs["proposal_logits"][:, first_words:] += 5.0
    elsewhere = outputs["seeds"][0, :, 0] >= first_words
    assert bool(elsewhere.any())
    outputs["logits"][0, elsewhere] += 5.0
    after = head.loss(outputs, targets, batch.weights)
    assert before.keys() == after.keys() == {"proposals", "set", "tags"}
    for name, term in before.items():
        torch.testing.assert_close(after[name], term, rtol=1e-5, atol=1e-6)


def test_empty_texts_and_empty_lists_are_rows_like_others() -> None:
    rows = [*ROWS, {"text": "", "entities": []}, {"text": "Nobody was there.", "entities": []}]
    engine = learned(rows)
    assert metrics(engine, rows)["entities"]["entity_f1"] == 1.0
    assert answers(engine, rows)[-2].predictions["entities"].value == []


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("PER", "neither a list of tags nor a list of spans"),
        ([{"start": 0, "label": "A"}], "is not a span"),
        ([{"start": 5, "end": 4, "label": "A"}], "lies outside the text"),
        ([(0, 400, "A")], "lies outside the text of 22 characters"),
        (["O", "B-A"], "2 tags for 5 words"),
        (["O", (0, 3, "A")], "neither"),
    ],
)
def test_what_is_no_label_is_an_error_with_its_place(value: Any, message: str) -> None:
    engine = engine_of(ROWS)
    with pytest.raises(RowError, match=message) as caught:
        encode_all(engine, [{"text": "the old mayor of Turin", "entities": value}], with_targets=True)
    assert (caught.value.location.file, caught.value.location.row, caught.value.location.column) == (
        "rows.jsonl", 1, "entities",
    )  # fmt: skip


def test_nothing_to_learn_from_is_said() -> None:
    with pytest.raises(SchemaError, match="has no entity in any of 1 training rows"):
        engine_of([{"text": "words", "entities": []}])
    with pytest.raises(SchemaError, match="missing in every training row"):
        EntitiesTask("entities", EntitiesTask.Options()).learn([{"entities": None}])
    with pytest.raises(SchemaError, match=r"label 'PER' .* not in the given label set. Did you mean 'PERS'"):
        engine_of(ROWS, tasks={"entities": {"labels": ["PERS", "LOC"]}})


def test_a_misspelt_setting_is_suggested() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'entities.taging'. Did you mean 'tagging'"):
        engine_of(ROWS, entities={"taging": 0})
