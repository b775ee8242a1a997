"""A label for every word (named entities, parts of speech), answered as character spans of the original string."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from polydetr.core.examples import IGNORE_INDEX, Arrays
from polydetr.core.layout import FieldText, Layouts
from polydetr.core.mistakes import Mark, Mistake
from polydetr.core.predictions import Baseline, Details, Evaluation, Figures, Prediction, label_of
from polydetr.core.records import Row
from polydetr.core.tables import AnswerColumn, confidence, listed
from polydetr.errors import SchemaError
from polydetr.metrics.calibration import expected_calibration_error
from polydetr.metrics.entities import Key, entity_report
from polydetr.metrics.figures import ClassFigures
from polydetr.metrics.suspicion import class_thresholds, is_suspicious
from polydetr.metrics.tokens import token_report
from polydetr.tasks.base import (
    NOTHING_KNOWN,
    Labels,
    LearnedState,
    Task,
    TaskContext,
    TaskOptions,
    WindowView,
    details_of,
    log_softmax,
    spans_schema,
)
from polydetr.tasks.confidence import withhold_items
from polydetr.tasks.explained import Answer, Counterpart, Reading
from polydetr.tasks.gold_spans import items_of, rows_in, span_of, spans_in, spans_of_tags, tags_in
from polydetr.tasks.span_mistakes import KINDS, AnsweredSpans, span_mistakes
from polydetr.values.spans import Span
from polydetr.values.tags import iob2_to_word_spans, is_span_tag, mark_spans, spans_to_iob2, types_of

_IMPOSSIBLE = -1e9


@dataclass(frozen=True)
class GoldTags:
    """A row's true tags, one per word, and its true spans; problems: messages about spans that do not begin and end at
    word borders.
    """

    tags: Sequence[str]
    spans: Sequence[Span]
    problems: Sequence[str] = ()


@dataclass(frozen=True)
class TagDetails(Details):
    """One entry per word: its tag, its characters (start, end), and the tag's calibrated probability."""

    tags: Sequence[str]
    words: Sequence[tuple[int, int]]
    word_probability: Sequence[float]


class TaggingTask(Task):
    """A word is labeled at its first token. Only valid IOB2 is decoded: an I- tag continues its own type."""

    kind: ClassVar[str] = "tagging"
    per_token: ClassVar[bool] = True
    reads_document: ClassVar[bool] = True
    padded: ClassVar[Mapping[str, int]] = {"labels": IGNORE_INDEX}
    rescales: ClassVar[bool] = True

    class Options(TaskOptions):
        scheme: Literal["auto", "iob1", "iob2", "bioes"] = Field(
            default="auto", description="how the tags of the training rows mark their spans"
        )
        labels: list[str] | None = Field(
            default=None, description="the names of the tags, in order, where the rows hold their numbers"
        )

    class Learned(LearnedState):
        labels: Labels = Field(min_length=1, max_length=4096)  # pairs of them are a table
        plain: bool
        scheme: Literal["auto", "iob1", "iob2", "bioes"]

    options: Options

    def __init__(self, target: str, options: Options, *, context: TaskContext = NOTHING_KNOWN) -> None:
        super().__init__(target, options, context=context)
        self._set_labels([])
        self.plain = False  # labels without B-/I-: parts of speech, not entities
        self.scheme = options.scheme

    # -- before training --------------------------------------------------------------------------------------------

    @property
    def primary_metric(self) -> str:  # type: ignore[override]
        return "accuracy" if self.plain else "entity_f1"

    def learn(self, rows: Sequence[Row]) -> list[str]:
        present = [v for row in rows if (v := items_of(row, self.target, self.options.labels)) is not None]
        if not present:
            raise self.missing_everywhere("tags or spans")
        counts = Counter(item for v in present for item in v if isinstance(item, str))
        self.plain = bool(counts) and self.scheme == "auto" and not mark_spans(counts)
        messages = []
        if self.plain:
            self._set_labels(sorted(counts))
            messages += self._doubts(counts)
        else:
            types = types_of(counts)
            types |= {span_of(s, self.target).label for v in present for s in v if not isinstance(s, str)}
            if not types:
                raise SchemaError(
                    f"target {self.target!r} has no entity in any of {len(present)} training rows: nothing to learn"
                )
            # Every type gets both tags, so that each valid sequence can be decoded whatever the training rows show.
            self._set_labels(["O", *(f"{p}-{t}" for t in sorted(types) for p in "BI")])
        return messages + self.missing_in_some(present, rows)

    def _doubts(self, counts: Counter[str]) -> list[str]:
        """Why plain labels of words may have been meant as tags of entities."""
        how = f"{self.target!r} is read as plain labels, not entities,"
        if all(tag.isdigit() for tag in counts):
            names = f"train --set tasks.{self.target}.labels='[O, B-PER, I-PER]'"
            return [f"{how} because its tags are numbers; name them in order where they have names: {names}"]
        odd = [tag for tag in counts if not is_span_tag(tag)]
        if odd and len(odd) < len(counts) - ("O" in counts):
            share = f"{sum(counts[t] for t in odd)} of {counts.total()}"
            return [
                f"{how} because of tags like {min(odd)!r} ({share}); correct them, or set tasks.{self.target}.scheme"
            ]
        if "O" in counts:
            return [f"{how} although 'O' is among them: write the first word of an entity B-PER, the others I-PER"]
        return []

    def _set_labels(self, labels: Sequence[str]) -> None:
        self.labels = list(labels)
        self._index = {label: i for i, label in enumerate(self.labels)}
        self._allowed = _allowed_pairs(self.labels)

    def gold(self, row: Row, text: FieldText | None) -> GoldTags | None:
        """Tags in IOB2 (plain ones as they are); None also of a text without any word.

        Raises:
            RowError: the number of tags is not the number of words, a tag is outside its scheme, or a span outside the
            text.
        """
        assert text is not None
        items = items_of(row, self.target, self.options.labels)
        if items is None:
            return None
        if items and not isinstance(items[0], str):
            spans, problems = spans_in(items, text, self.target)
            tags, unfit = spans_to_iob2(text.words, spans)
            return GoldTags(tags, spans, problems + unfit)
        tags = tags_in(items, text, self.target, scheme="plain" if self.plain else self.scheme)
        if not tags:  # nothing to measure by
            return None
        return GoldTags(tags, [] if self.plain else spans_of_tags(tags, text))

    def unseen(self, gold: GoldTags) -> list[str]:
        """A span counts once, by its first tag."""
        unknown = (tag for tag in gold.tags if not tag.startswith("I-") and tag not in self._index)
        return [tag.removeprefix("B-") for tag in unknown]

    def problems(self, gold: GoldTags | None) -> Sequence[str]:
        return gold.problems if gold else ()

    def encode_target(self, view: WindowView) -> Arrays:
        layout = view.layout
        assert layout is not None
        labels = np.full(len(layout.row), IGNORE_INDEX, dtype=np.int16)
        for row in rows_in(layout, len(view.golds)):
            if view.golds[row] is not None:
                ids = np.array([self._index.get(tag, IGNORE_INDEX) for tag in view.golds[row].tags], dtype=np.int16)
                here = np.flatnonzero(layout.first & (layout.row == row))
                labels[here] = ids[layout.word[here]]
        return {"labels": labels}

    # -- answers ------------------------------------------------------------------------------------------------------

    def decode(self, outputs: Sequence[Arrays], layouts: Layouts, texts: Sequence[FieldText]) -> list[Prediction]:
        scores = self._word_scores(outputs, layouts, texts)
        return [self._answer(log_softmax(s, self.temperature), text) for s, text in zip(scores, texts, strict=True)]

    def _word_scores(self, outputs: Sequence[Arrays], layouts: Layouts, texts: Sequence[FieldText]) -> list[np.ndarray]:
        """(words, C) logits of each row; of overlapping windows, that with most context around a word counts."""
        scores = [np.zeros((len(text.words), len(self.labels)), dtype=np.float32) for text in texts]
        margins = [np.full(len(text.words), -1, dtype=np.int64) for text in texts]
        for output, layout in zip(outputs, layouts, strict=True):
            assert layout is not None
            for row in rows_in(layout, len(texts)):
                here = np.flatnonzero(layout.first & (layout.row == row))
                words = layout.word[here]
                better = layout.margin[here] > margins[row][words]
                margins[row][words[better]] = layout.margin[here][better]
                scores[row][words[better]] = output["logits"][here][better]
        return scores

    def _answer(self, log_p: np.ndarray, text: FieldText) -> Prediction:
        path = self._best_path(log_p)
        tags = [self.labels[i] for i in path]
        confidence = np.exp(log_p[np.arange(len(path)), path])
        spans = [(i, i + 1, tag) for i, tag in enumerate(tags)] if self.plain else iob2_to_word_spans(tags)
        entities = []
        for first, last, label in spans:
            start, end = text.words[first][0], text.words[last - 1][1]
            probability = self.calibration(
                float(confidence[first:last].min())
            )  # a span's confidence is that of its least certain word
            entities.append(
                {"start": start, "end": end, "label": label, "text": text.text[start:end], "probability": probability}
            )
        probability = float(confidence.min()) if len(confidence) else None
        return Prediction(entities, probability, TagDetails(tags, list(text.words), confidence.tolist()))

    def answer_schema(self) -> dict[str, Any]:
        return spans_schema(self.marked_labels)

    def answer_columns(self, *, probabilities: bool = False) -> list[AnswerColumn]:
        columns = listed(self.target, lambda span: f"{span['text']} [{span['label']}]")
        return [*columns, confidence(self.target)]

    @property
    def marked_labels(self) -> list[str]:
        return self.labels if self.plain else sorted(types_of(self.labels))

    def marks(self, prediction: Prediction) -> list[Span]:
        return [Span(s["start"], s["end"], label_of(s), s["probability"]) for s in prediction.value]

    def _best_path(self, log_p: np.ndarray) -> np.ndarray:
        """(words, C) → (words,): the most probable valid sequence of labels (Viterbi 1967)."""
        path = log_p.argmax(-1) if len(log_p) else np.zeros(0, dtype=np.int64)
        if self.plain or not len(path):
            return path
        allowed = self._allowed
        if allowed[0, path[0] + 1] and allowed[path[:-1] + 1, path[1:] + 1].all():
            return path  # the unconstrained best is valid, so it is the constrained best
        penalty = np.where(allowed[1:, 1:], 0.0, _IMPOSSIBLE)
        score = log_p[0] + np.where(allowed[0, 1:], 0.0, _IMPOSSIBLE)
        back = np.zeros(log_p.shape, dtype=np.int64)
        for i in range(1, len(log_p)):
            ways = score[:, None] + penalty
            back[i] = ways.argmax(0)
            score = ways.max(0) + log_p[i]
        path = np.zeros(len(log_p), dtype=np.int64)
        path[-1] = score.argmax()
        for i in range(len(log_p) - 1, 0, -1):
            path[i - 1] = back[i, path[i]]
        return path

    @property
    def answer_unit(self) -> str:
        return "word" if self.plain else "entity"

    def judge(self, prediction: Prediction, gold: GoldTags) -> list[tuple[float, bool]]:
        """Every answered entity, or the label of every word where labels mark no entities."""
        if self.plain:
            right = [tag == true for tag, true in zip(details_of(prediction, TagDetails).tags, gold.tags, strict=True)]
        else:
            true = {span.key for span in gold.spans}
            right = [Span(e["start"], e["end"], e["label"]).key in true for e in prediction.value]
        return [(e["probability"], r) for e, r in zip(prediction.value, right, strict=True)]

    def withhold(self, prediction: Prediction, least: float) -> Prediction:
        return withhold_items(prediction, least)

    def baseline(self, golds: Sequence[GoldTags]) -> Baseline | None:
        """Of no entity at all; of plain tags, of the most frequent one."""
        if not self.plain:
            return Baseline("entity_f1", 0.0) if any(gold.spans for gold in golds) else None
        counts = Counter(tag for gold in golds for tag in gold.tags)
        tag, count = counts.most_common(1)[0] if counts else ("", 0)
        return Baseline("accuracy", count / counts.total(), tag) if len(counts) > 1 else None

    def evaluate(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> Evaluation:
        pairs = self.labeled(predictions, golds)
        answers = [details_of(p, TagDetails) for p, _ in pairs]
        tokens = token_report([g.tags for _, g in pairs], [answer.tags for answer in answers])
        correct = [
            t == g for answer, (_, gold) in zip(answers, pairs, strict=True)
            for t, g in zip(answer.tags, gold.tags, strict=True)
        ]  # fmt: skip
        confidence = [c for answer in answers for c in answer.word_probability]
        metrics = {
            "accuracy": tokens.accuracy,
            "macro_f1": tokens.macro.f1,
            "weighted_f1": tokens.weighted.f1,
            "ece": expected_calibration_error(confidence, correct),
        }
        tables = {"tokens": tokens.to_text()}
        data: dict[str, Any] = {"tokens": tokens.to_dict()}
        figures = ClassFigures(tokens, confidence, correct)
        if not self.plain:
            spans = [[Span(e["start"], e["end"], e["label"]) for e in p.value] for p, _ in pairs]
            report = entity_report([g.spans for _, g in pairs], spans)
            metrics = {"entity_f1": report.entity_f1, **metrics}
            tables["entities"] = report.to_text()
            data["entities"] = report.to_dict()
            figures = replace(figures, entities=report)
        return Evaluation(metrics, tables, data, figures)

    @property
    def mistake_kinds(self) -> Mapping[str, str]:
        return (
            {"wrong label": "Words under another label than theirs, the most confident first."} if self.plain else KINDS
        )

    def mistakes(
        self, predictions: Sequence[Prediction], golds: Sequence[Any], figures: Figures
    ) -> Iterator[tuple[int, Mistake]]:
        rows = [(i, p, g) for i, (p, g) in enumerate(zip(predictions, golds, strict=True)) if g is not None]
        if self.plain:
            return _word_mistakes([(i, details_of(p, TagDetails), gold.tags) for i, p, gold in rows])
        return span_mistakes([_answered_spans(i, details_of(p, TagDetails), p.value, g.spans) for i, p, g in rows])

    # -- state ---------------------------------------------------------------------------------------------------------

    def answer_of(self, reading: Reading, choice: Any, *, counterpart: Counterpart) -> Answer:
        """choice: the number of an entity, from 0."""
        from polydetr.tasks.explained_spans import TagAnswer

        return TagAnswer.of(self, reading, details_of(reading.prediction, TagDetails), choice)

    def learned(self) -> dict[str, Any]:
        return {"labels": self.labels, "plain": self.plain, "scheme": self.scheme}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._set_labels(state["labels"])
        self.plain, self.scheme = state["plain"], state["scheme"]


def _allowed_pairs(labels: Sequence[str]) -> np.ndarray:
    """allowed[i + 1, j + 1]: label j may follow label i; row 0 stands for the beginning."""
    table = np.ones((len(labels) + 1, len(labels) + 1), dtype=bool)
    for j, label in enumerate(labels):
        if label.startswith("I-"):
            table[:, j + 1] = [False, *(before[2:] == label[2:] and before[:2] in ("B-", "I-") for before in labels)]
    return table


def _answered_spans(
    row: int, details: TagDetails, answered: Sequence[Mapping[str, Any]], gold: Sequence[Span]
) -> AnsweredSpans:
    """There is nothing at a span by the least probability with which its words have the tags that they were given."""

    def nothing_at(key: Key) -> float:
        words = zip(details.words, details.word_probability, strict=True)
        return min((float(p) for (start, end), p in words if start < key[1] and end > key[0]), default=0.0)

    words = zip(details.words, details.tags, details.word_probability, strict=True)
    taken = {at for span in gold for at in range(span.start, span.end)}
    nothing = [
        float(p if tag == "O" else 1 - p) for (start, end), tag, p in words if taken.isdisjoint(range(start, end))
    ]
    return AnsweredSpans(row, gold, answered, nothing_at, nothing)


def _word_mistakes(rows: Sequence[tuple[int, TagDetails, Sequence[str]]]) -> Iterator[tuple[int, Mistake]]:
    """Of labels of words: the number of a row, its answer, its true labels."""
    thresholds = class_thresholds(
        (tag, p)
        for _, answer, gold in rows
        for tag, p, true in zip(answer.tags, answer.word_probability, gold, strict=True)
        if tag == true
    )
    for row, answer, gold in rows:
        words = zip(answer.words, answer.tags, answer.word_probability, gold, strict=True)
        for (start, end), tag, p, true in words:
            if tag != true:
                yield row, Mistake(
                    "wrong label", p, true, tag, (true, tag), p,
                    suspicious=is_suspicious(thresholds, of_label=1 - p, answer=tag, of_answer=p),
                    marks=(Mark(start, end, true, "gold", True), Mark(start, end, tag, "answer", True)),
                )  # fmt: skip
