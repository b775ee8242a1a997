"""What single tasks promise: constrained decoding, spans and answers in any script, weights, scales, messages."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from sklearn.preprocessing import MultiLabelBinarizer

from polydetr.core.examples import IGNORE_INDEX
from polydetr.core.layout import FieldText, Layout
from polydetr.core.predictions import Prediction
from polydetr.errors import ConfigError, RowError, SchemaError
from polydetr.nn.batch import Batch
from polydetr.tasks.base import TaskOptions
from polydetr.tasks.classification import ClassDetails, ClassificationTask
from polydetr.tasks.qa import QuestionAnsweringTask
from polydetr.tasks.regression import RegressionTask
from polydetr.tasks.tagging import TaggingTask
from polydetr.values.spans import split_words
from tiny_models import answers, as_records, batch_loss, encode_all, make_engine, metrics, overfit


def rows_of(target: str, values: list[Any]) -> list[dict[str, Any]]:
    return [{"text": f"row number {i}", target: value} for i, value in enumerate(values)]


# -- classification -------------------------------------------------------------------------------------------------


def classes(values: list[Any], **options: Any) -> ClassificationTask:
    task = ClassificationTask("y", ClassificationTask.Options(**options))
    task.learn(rows_of("y", values))
    return task


def test_a_label_unseen_in_training_counts_as_wrong_and_trains_nothing() -> None:
    rows = [{"text": f"{c} {c} word", "y": c} for c in "abab"]
    engine = make_engine(rows, {"y": "classification"})
    overfit(engine, rows, steps=40)
    new = [*rows, {"text": "a a word", "y": "never seen"}]
    assert metrics(engine, rows)["y"]["accuracy"] == 1.0
    assert metrics(engine, new)["y"]["accuracy"] == pytest.approx(0.8)
    assert int(encode_all(engine, new[-1:], with_targets=True)[0].targets["y"]["label"]) == IGNORE_INDEX


def test_scores_of_several_labels_count_those_that_training_never_saw() -> None:
    task = classes([["food"], ["price"], ["food", "price"]])
    gold = [["food", "place"], ["price"], ["place"], []]
    predicted = [["food"], ["price"], ["food"], []]
    answered = [Prediction(p, 0.9, ClassDetails({})) for p in predicted]
    found = task.evaluate(answered, gold)
    matrix = MultiLabelBinarizer(classes=["food", "price", "place"])
    truth, said = matrix.fit_transform(gold), matrix.transform(predicted)
    for average in ("micro", "macro", "weighted"):
        wanted = f1_score(truth, said, average=average, zero_division=0)
        assert found.metrics[f"{average}_f1"] == pytest.approx(wanted)
    assert found.data["classes"]["labels"]["place"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 2}
    nothing = task.evaluate([Prediction([], 0.9, ClassDetails({}))], [[]])
    assert nothing.metrics["accuracy"] == 1.0


def test_an_unseen_label_among_several_counts_as_wrong() -> None:
    rows = [{"text": f"{c} word", "y": [c]} for c in "abab"]
    engine = make_engine(rows, {"y": "classification"})
    overfit(engine, rows, steps=60)
    assert metrics(engine, [*rows, {"text": "a word", "y": ["a", "new"]}])["y"]["accuracy"] == pytest.approx(0.8)


def test_auroc_is_of_the_second_class_or_of_labels_never_seen() -> None:
    task = classes(["a", "b"])
    answers = [
        Prediction("ab"[p > 0.5], max(p, 1 - p), ClassDetails({"a": 1 - p, "b": p}, energy))
        for p, energy in ((0.9, -3.0), (0.2, -2.0), (0.6, -2.0), (0.7, 0.0))
    ]
    for golds, expected in (
        (["b", "a", "a", "b"], 1.0),
        (["a", "b", "a", "b"], 0.25),
        (["b", "a", "a", "new"], 1.0),
        (["new", "a", "a", "b"], 0.0),
    ):
        assert task.evaluate(answers, golds).metrics["auroc"] == expected
    assert "auroc" not in task.evaluate(answers, ["b"] * 4).metrics


def test_one_class_cannot_be_learned() -> None:
    with pytest.raises(SchemaError, match="one class only, 'a', in all 3 labeled"):
        classes(["a", "a", "a", None])


def test_given_labels_may_be_more_than_the_data_show_but_not_fewer() -> None:
    assert classes(["a", "b"], labels=["c", "b", "a"]).labels == ["c", "b", "a"]
    assert classes(["a", "a"], labels=["a", "b"]).labels == ["a", "b"]
    with pytest.raises(SchemaError, match=r"label 'negativ' .* Did you mean 'negative'\?"):
        classes(["negativ", "positive"], labels=["negative", "positive"])


def test_missing_labels_are_reported_and_whole_floats_are_the_integers_they_were() -> None:
    task = ClassificationTask("y", ClassificationTask.Options())
    notes = task.learn(rows_of("y", [1, 2.0, float("nan"), None, "", 1.0]))
    assert task.labels == ["1", "2"]
    assert "3 of 6 training rows have no 'y'" in notes[0]


def test_several_labels_in_one_label_s_place_are_an_error() -> None:
    with pytest.raises(RowError, match="expected one label"):
        classes([["a", "b"], "b"], multi_label=False)
    assert classes([["a"], "b", ["b"]], multi_label=False).labels == ["a", "b"]  # as annotation tools write one
    assert classes(["a|b", "b"], multi_label=True).labels == ["a", "b"]


# -- regression -----------------------------------------------------------------------------------------------------


def test_numbers_are_standardised_and_given_back_in_their_own_scale() -> None:
    task = RegressionTask("y", TaskOptions())
    task.learn(rows_of("y", [10.0, 20.0, "30", None]))
    assert (task.mean, task.std) == pytest.approx((20.0, np.std([10, 20, 30])))
    outputs = [{"logits": np.array([1.0])}, {"logits": np.array([0.0])}]  # two windows: their mean
    assert task.decode(outputs, [None, None], [])[0].value == pytest.approx(20 + 0.5 * task.std)


@pytest.mark.parametrize(("value", "message"), [("ten", "'ten' is not a number"), (float("inf"), "inf is infinite")])
def test_what_is_no_number_is_an_error_with_its_row(value: Any, message: str) -> None:
    with pytest.raises(RowError, match=rf"rows\.jsonl, row 3, column 'y': {message}"):
        make_engine(rows_of("y", [1.0, 2.0, value]), {"y": "regression"})


def test_a_bad_label_is_left_to_encoding_where_bad_rows_are_skipped() -> None:
    engine = make_engine(rows_of("y", [1.0, 3.0, "ten"]), {"y": "regression"}, settings={"on_error": "skip"})
    task = engine.tasks["y"]
    assert isinstance(task, RegressionTask)
    assert task.mean == 2.0


def test_a_constant_number_cannot_be_learned() -> None:
    for values, told in (([4, 4.0], "is 4 in all 2"), ([0.1, 0.1, 0.1], "is 0.1 in all 3")):
        with pytest.raises(SchemaError, match=f"{told} training rows"):
            RegressionTask("y", TaskOptions()).learn(rows_of("y", values))
    assert RegressionTask("y", TaskOptions()).baseline([0.1, 0.1, 0.1]) is None


# -- tagging --------------------------------------------------------------------------------------------------------


def tagger(*types: str, scheme: str = "auto") -> TaggingTask:
    task = TaggingTask("tags", TaggingTask.Options(scheme=scheme))  # type: ignore[arg-type]
    task.learn([{"tags": [f"B-{t}" for t in types or ("PER", "LOC")]}])
    return task


def text_of(text: str) -> FieldText:
    return FieldText(text, split_words(text))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(0, 2**31))
def test_the_decoded_sequence_is_the_best_valid_one(length: int, seed: int) -> None:
    task = tagger()
    log_p = np.random.default_rng(seed).normal(scale=2, size=(length, 5))

    def valid(path: tuple[int, ...]) -> bool:
        tags = ["O", *(task.labels[i] for i in path)]
        return all(not t.startswith("I-") or p[2:] == t[2:] for p, t in itertools.pairwise(tags))

    paths = [p for p in itertools.product(range(5), repeat=length) if valid(p)]
    best = max(paths, key=lambda p: sum(log_p[i, j] for i, j in enumerate(p)))
    assert tuple(task._best_path(log_p)) == best


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        (["I-PER", "I-PER", "B-PER", "O", "I-LOC"], "iob1"),
        (["B-PER", "I-PER", "B-PER", "O", "B-LOC"], "iob2"),
        (["B-PER", "E-PER", "S-PER", "O", "S-LOC"], "bioes"),
    ],
)
def test_every_notation_becomes_the_same_tags(tags: list[str], scheme: str) -> None:
    for named in ("auto", scheme):
        gold = tagger(scheme=named).gold({"tags": tags}, text_of("Anna Lee Bob in Rome"))
        assert gold is not None
        assert gold.tags == ["B-PER", "I-PER", "B-PER", "O", "B-LOC"]
        assert [(s.start, s.end, s.label) for s in gold.spans] == [(0, 8, "PER"), (9, 12, "PER"), (16, 20, "LOC")]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["O", "O"], "2 tags for 4 words"),
        ([{"start": 0, "end": 99, "label": "PER"}], "span 0-99 .* outside the text of 15 characters"),
        ([{"start": -1, "end": 3, "label": "PER"}], "outside"),
        ([{"start": 3, "end": 3, "label": "PER"}], "empty"),
        ([{"start": 0, "label": "PER"}], "is not a span, expected"),
        ([{"start": 0.5, "end": 2, "label": "PER"}], "is not a span"),
        ([["x", "y", "PER"]], "is not a span"),
        ([{"start": 0, "end": 2, "label": None}], "is not a span"),
        ([{"start": 0, "end": 2, "label": float("nan")}], "is not a span"),
        ([{"start": 0, "end": 2, "label": " "}], "is not a span"),
        ([{"start": 0, "end": 2, "label": ["PER"]}], "is not a span"),
        ([{"start": 0, "end": float("inf"), "label": "PER"}], "is not a span"),
        (["O", {"start": 0, "end": 1, "label": "PER"}], "neither a list of tags nor a list of spans"),
        ("O O O O", "neither a list of tags"),
        (7, "neither a list of tags"),
    ],
)
def test_tags_and_spans_that_do_not_fit_are_errors_with_their_column(value: Any, message: str) -> None:
    with pytest.raises(RowError, match=message) as caught:
        tagger().gold({"tags": value}, text_of("Anna met Bob ok"))
    assert caught.value.location is not None
    assert caught.value.location.column == "tags"


def test_a_tag_outside_the_named_scheme_is_an_error_of_its_row() -> None:
    with pytest.raises(RowError, match="'S-PER' does not belong to the scheme IOB2"):
        tagger(scheme="iob2").gold({"tags": ["S-PER"]}, text_of("Anna"))


def test_spans_inside_words_and_overlapping_ones_are_reported_with_their_row() -> None:
    rows = [
        {"text": "Anna met Bob", "entities": [{"start": 0, "end": 4, "label": "PER"}]},
        {
            "text": "Rosenheim and Bob",
            "entities": [
                {"start": 0, "end": 5, "label": "LOC"},
                {"start": 10, "end": 17, "label": "X"},
                {"start": 14, "end": 17, "label": "PER"},
            ],
        },
    ]
    engine = make_engine(rows, {"entities": "tagging"}, inputs={"text": "text"})
    encoded = engine.encoder.encode(as_records(rows, "d"), with_targets=True)
    assert len(encoded.warnings) == 2
    assert all(str(w).startswith("rows.jsonl, row 2, column 'entities': span ") for w in encoded.warnings)
    assert "fitted to whole words 0-9" in str(encoded.warnings[0])
    assert "overlaps" in str(encoded.warnings[1])
    assert not engine.encoder.encode(as_records(rows, "d"), with_targets=False).warnings
    gold = engine.tasks["entities"].gold(rows[1], encoded.texts[1])
    assert [(s.start, s.end) for s in gold.spans] == [(0, 5), (10, 17), (14, 17)]  # measured as they were given


def test_spans_become_one_tag_a_word_in_scripts_without_spaces() -> None:
    gold = tagger().gold({"tags": [{"start": 2, "end": 4, "label": "LOC"}]}, text_of("我在北京工作"))
    assert gold is not None
    assert gold.tags == ["O", "O", "B-LOC", "I-LOC", "O", "O"]


def test_labels_without_prefixes_are_plain_and_a_stray_one_is_reported() -> None:
    plain = TaggingTask("pos", TaggingTask.Options())
    assert plain.learn([{"pos": ["NOUN", "VERB"]}]) == []
    assert (plain.plain, plain.labels, plain.primary_metric) == (True, ["NOUN", "VERB"], "accuracy")
    with pytest.raises(RowError, match="0 tags for 1 words"):
        plain.gold({"pos": []}, text_of("Anna"))
    stray = TaggingTask("tags", TaggingTask.Options())
    notes = stray.learn([{"tags": ["B-PER", "0", "O"]}, {"tags": ["B-PER", "O"]}])
    assert stray.plain
    assert "because of tags like '0' (1 of 5)" in notes[0]


def test_no_entity_anywhere_cannot_be_learned() -> None:
    with pytest.raises(SchemaError, match="no entity in any of 2 training rows"):
        TaggingTask("tags", TaggingTask.Options()).learn([{"tags": ["O"]}, {"tags": []}])


# -- question answering -----------------------------------------------------------------------------------------------


def qa_rows(context: str, answer: str, count: int = 4) -> list[dict[str, Any]]:
    found = [{"text": answer, "start": context.index(answer)}]
    return [{"question": "where ?", "context": context, "answers": found}] * count


@pytest.mark.parametrize(
    ("context", "answer"),
    [
        ("Anna lives in New York now.", "New York"),
        ("小明在北京大学学习。", "北京大学"),
        ("cafe\u0301 here", "cafe\u0301"),
        ("a  spaced  answer ", " spaced "),
        ("price: 12,000.50 $", "12,000.50"),
    ],
)
def test_an_answer_is_found_again_at_its_tokens(context: str, answer: str) -> None:
    rows = qa_rows(context, answer)
    engine = make_engine(rows, {"answers": "qa"})
    encoded = engine.encoder.encode(as_records(rows[:1]), with_targets=True)
    start, end = (int(encoded.examples[0].targets["answers"][k]) for k in ("start", "end"))
    layout = encoded.layouts[0]
    assert layout is not None
    assert context[layout.start[start] : layout.end[end]] == answer.strip()


def gold_answers(answers: Any, context: str = "The mill stands by the mill pond.") -> Any:
    task = QuestionAnsweringTask("answers", QuestionAnsweringTask.Options())
    return task.gold({"answers": answers}, text_of(context))


def test_an_answer_is_put_where_its_text_stands_and_reported() -> None:
    gold = gold_answers([{"text": "mill", "start": 21}])
    assert [(a.text, a.start) for a in gold.answers] == [("mill", 23)]
    assert gold.problems == ["answer 'mill' does not stand at 21 but at 23, where it is taken"]
    for start in ("23", 23.0, None):
        found = gold_answers([{"text": "pond", "answer_start": 28}, {"text": " mill ", "start": start}])
        assert not found.problems
        assert found.answers[1] == ("mill", 4 if start is None else 23)
    assert gold_answers({"text": ["pond", "mill"], "answer_start": [28, "4"]}).answers == [("pond", 28), ("mill", 4)]


def test_an_answer_that_stands_nowhere_is_a_reference_that_trains_nothing() -> None:
    gold = gold_answers([{"text": "barn", "start": 4}, {"text": "pond", "start": 28}])
    assert gold.answers == [("pond", 28), ("barn", None)]
    assert gold.problems == [
        "answer 'barn' does not stand in the passage: it counts where answers are measured, and trains nothing"
    ]
    rows = [*qa_rows("Anna lives here", "Anna", 3), {"question": "q", "context": "Bob", "answers": [{"text": "Anna"}]}]
    engine = make_engine(rows, {"answers": "qa"})
    (example,) = engine.encoder.encode(as_records(rows)[3:], with_targets=True).examples
    assert example.targets["answers"]["start"] == IGNORE_INDEX
    assert metrics(engine, rows)["answers"]["f1"] >= 0  # measured, all four
    with pytest.raises(RowError, match="is not a list of answers"):
        make_engine([*rows, {"question": "q", "context": "c", "answers": "Anna"}], {"answers": "qa"})


def test_only_the_windows_that_hold_the_whole_answer_point_to_it() -> None:
    context = " ".join(f"w{i}" for i in range(60)) + " the treasure lies"
    rows = qa_rows(context, "treasure")
    engine = make_engine(rows, {"answers": "qa"}, settings={"text": {"max_tokens": 40, "overlap": 8}})
    encoded = engine.encoder.encode(as_records(rows[:1]), with_targets=True)
    starts = [int(e.targets["answers"]["start"]) for e in encoded.examples]
    assert len(starts) > 2
    assert starts[0] == 0
    assert starts[-1] > 0
    assert [e.weight for e in encoded.examples] == [pytest.approx(1 / len(starts))] * len(starts)
    overfit(engine, rows, steps=40)
    assert answers(engine, rows[:1])[0].predictions["answers"].value["text"] == "treasure"


def _layout(size: int, prompt: int) -> Layout:
    row = np.array([-1] * prompt + [0] * (size - prompt - 1) + [-1])
    place = np.where(row == 0, np.arange(size) - prompt, 0)
    return Layout(row, place, place + 1, place, row == 0, np.zeros(size))


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 14), st.integers(1, 5), st.integers(0, 2**31))
def test_the_best_span_is_the_best_of_all_spans_of_its_length(size: int, longest: int, seed: int) -> None:
    task = QuestionAnsweringTask("a", QuestionAnsweringTask.Options(max_answer_tokens=longest))
    start, end = np.random.default_rng(seed).normal(size=(2, size))
    found = task._best_span(start, end, _layout(size, 1))
    ways = [(start[i] + end[j], i - 1, j) for i in range(1, size - 1) for j in range(i, min(i + longest, size - 1))]
    best = max(ways)
    assert found == (pytest.approx(best[0]), best[1], best[2])


def test_the_threshold_decides_between_answer_and_silence() -> None:
    task = QuestionAnsweringTask("a", QuestionAnsweringTask.Options())
    task.no_answer = True
    outputs = [{"start_logits": np.array([2.0, 1.0, 0.0]), "end_logits": np.array([2.0, 1.0, 0.0])}]
    silent = task.decode(outputs, [_layout(3, 1)], [FieldText("x", [(0, 1)])])[0]
    assert silent.value == {"text": "", "start": None, "end": None}
    task.no_answer_threshold = -3.0
    assert task.decode(outputs, [_layout(3, 1)], [FieldText("x", [(0, 1)])])[0].value["text"] == "x"


def test_an_empty_passage_has_no_answer_and_does_not_stop_tuning() -> None:
    rows = [*qa_rows("Anna lives here", "Anna", 2), {"question": "q", "context": "", "answers": []}]
    engine = make_engine(rows, {"answers": "qa"})
    task = engine.tasks["answers"]
    results = answers(engine, rows)
    assert results[2].predictions["answers"].value["text"] == ""
    assert "no answer" in task.tune([r.predictions["answers"] for r in results], [task.gold(r, None) for r in rows])[0]


# -- several targets --------------------------------------------------------------------------------------------------


def test_a_target_without_labels_in_a_batch_moves_no_weight_of_its_own() -> None:
    rows = [{"text": f"{c} word", "a": c, "b": 1.0 * i} for i, c in enumerate("xyxy")]
    engine = make_engine(rows, {"a": "classification", "b": "regression"}, inputs={"text": "text"})
    half = [{**row, "b": None} for row in rows]
    batch_loss(engine, Batch.collate(encode_all(engine, half, with_targets=True))).backward()
    balance = engine.runner.model.log_variance
    assert balance is not None
    assert balance.grad is not None
    assert balance.grad[0] != 0
    assert balance.grad[1] == 0
    heads = dict(engine.runner.model.named_parameters())
    assert not heads["heads.target_1.output.weight"].grad.any()  # type: ignore[union-attr]


def test_loss_weights_scale_a_target() -> None:
    rows = [{"text": f"{c} word", "a": c} for c in "xyxy"]
    losses = []
    for weight in (1.0, 3.0):
        engine = make_engine(rows, {"a": "classification"}, settings={"tasks": {"a": {"loss_weight": weight}}})
        losses.append(float(batch_loss(engine, Batch.collate(encode_all(engine, rows, with_targets=True))).detach()))
    assert losses[1] == pytest.approx(3 * losses[0], rel=1e-5)


def test_an_option_that_the_task_does_not_have_is_an_error() -> None:
    with pytest.raises(
        ConfigError, match=r"tasks\.y\.class_weights = 'balanced': the task 'regression' has no such option"
    ):
        make_engine(
            rows_of("y", [1.5, 2.5]), {"y": "regression"}, settings={"tasks": {"y": {"class_weights": "balanced"}}}
        )
    with pytest.raises(ConfigError, match=r"tasks\.yy: 'yy' is not a target\. Did you mean 'y'\?"):
        make_engine(rows_of("y", ["a", "b"]), {"y": "classification"}, settings={"tasks": {"yy": {}}})
