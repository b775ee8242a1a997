"""Entities in a text: a set of spans with types, which may lie inside one another, one per query.

Sources: Tan et al. 2021 (arXiv 2105.08901), and what ``nn.span_set`` names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from polydetr.core.examples import IGNORE_INDEX, Arrays
from polydetr.core.layout import FieldText, Layouts
from polydetr.core.mistakes import Mistake
from polydetr.core.predictions import Baseline, Details, Evaluation, Figures, Prediction, label_of
from polydetr.core.records import Row
from polydetr.core.tables import AnswerColumn, listed
from polydetr.errors import SchemaError
from polydetr.metrics.entities import Key, best_threshold, entity_report, nested_recall
from polydetr.metrics.figures import SpanFigures
from polydetr.tasks.base import (
    NOTHING_KNOWN,
    DecoderOptions,
    Labels,
    LearnedState,
    Task,
    TaskContext,
    WindowView,
    details_of,
    label_set,
    spans_schema,
)
from polydetr.tasks.confidence import withhold_items
from polydetr.tasks.explained import Answer, Counterpart, Reading
from polydetr.tasks.gold_spans import items_of, rows_in, span_of, spans_in, spans_of_tags, tags_in
from polydetr.tasks.span_answers import Candidate, merged, settled
from polydetr.tasks.span_mistakes import KINDS, AnsweredSpans, span_mistakes
from polydetr.values.spans import Nesting, Span, nesting_of, num_span_queries
from polydetr.values.tags import fit_to_words, iob2_to_word_spans, is_span_tag, spans_to_iob2

LEAST_SCORE = 0.05
"""Spans of a lower score are never answered, whatever the threshold."""


class EntitiesOptions(DecoderOptions):
    """Spans of text with types, which may be nested."""

    scheme: Literal["auto", "iob1", "iob2", "bioes"] = Field(
        default="auto", description="how the tags of the training rows mark their spans"
    )
    hidden_dim: int | None = Field(default=None, ge=16, le=1024, description="default: 128")
    decoder_layers: int | None = Field(
        default=None, ge=0, le=24, description="default: 3; 0 answers with the proposed spans as they are"
    )
    max_words: int = Field(
        default=24, ge=1, le=512, description="longest span that is proposed; the decoder may make it longer"
    )
    queries_per_word: float = Field(
        default=1.0, gt=0, le=4, description="spans that can be found, by words of the text; and 8 more"
    )
    tagging: float = Field(
        default=0.5,
        ge=0,
        le=1000,
        description="weight of learning, besides, one tag per word for the outermost spans; 0 = off",
    )


@dataclass(frozen=True)
class SpanDetails(Details):
    """all: each span above the least score, {"start", "end", "label", "text", "score"}, in the order of the text."""

    all: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class GoldSpans:
    """A row's true spans, each once. spans: in characters, as in the row; words: as (first word, last word, label);
    flat: IOB2 tags of the outermost ones, one per word; problems: messages about spans that cannot be learned as they
    are.
    """

    spans: Sequence[Span]
    words: Sequence[tuple[int, int, str]]
    flat: Sequence[str]
    problems: Sequence[str] = ()


class EntitiesTask(Task):
    """Rows hold lists of {"start", "end", "label"} in characters, or tags, one per word; [] is a text without entities,
    a missing value a text that is not labeled.
    """

    kind: ClassVar[str] = "entities"
    per_token: ClassVar[bool] = True
    reads_document: ClassVar[bool] = True
    primary_metric: ClassVar[str] = "entity_f1"
    padded: ClassVar[Mapping[str, int]] = {"spans": IGNORE_INDEX, "labels": IGNORE_INDEX, "tags": IGNORE_INDEX}
    tunes_answers: ClassVar[bool] = True
    answer_unit: ClassVar[str] = "entity"
    rescales: ClassVar[bool] = True

    class Learned(LearnedState):
        labels: Labels
        nesting: Nesting
        threshold: float = Field(ge=0, le=1)

    Options = EntitiesOptions
    options: EntitiesOptions

    def __init__(self, target: str, options: EntitiesOptions, *, context: TaskContext = NOTHING_KNOWN) -> None:
        super().__init__(target, options.shared(context.decoder), context=context)
        self.labels: list[str] = []
        self.nesting: Nesting = "any"
        self.threshold = options.threshold if options.threshold is not None else 0.5

    @property
    def max_words(self) -> int:
        return self.options.max_words

    # -- before training ----------------------------------------------------------------------------------------------

    def learn(self, rows: Sequence[Row]) -> list[str]:
        present = [items for row in rows if (items := items_of(row, self.target)) is not None]
        if not present:
            raise self.missing_everywhere("spans or tags")
        texts = [_unplaced_spans(items, self.target) for items in present]
        counts = Counter(span.label for spans in texts for span in spans)
        if not counts and not self.options.labels:
            odd = [item for items in present for item in items if not is_span_tag(item)]
            raise SchemaError(
                f"target {self.target!r} has no entity in any of {len(present)} training rows: nothing to learn",
                hint=f"Write {odd[0]!r} as O, B-PER or I-PER, or take plain labels: {self.target}:tagging."
                if odd
                else None,
            )
        self.labels = label_set(self.target, self.options.labels, counts)
        self.nesting = nesting_of(texts)
        how = {
            "none": "apart from one another, and so are those answered; tagging is faster",
            "nested": "some inside others, never across",
            "any": "some across others",
        }
        message = f"{counts.total()} spans of {len(self.labels)} types, {how[self.nesting]}"
        return [message, *self.missing_in_some(present, rows)]

    def gold(self, row: Row, text: FieldText | None) -> GoldSpans | None:
        """Raises RowError: the label is neither spans nor tags, or a span lies outside the text."""
        assert text is not None
        items = items_of(row, self.target)
        if items is None:
            return None
        problems: list[str] = []
        if items and isinstance(items[0], str):
            spans = spans_of_tags(tags_in(items, text, self.target, scheme=self.options.scheme), text)
        else:
            spans, problems = spans_in(items, text, self.target)
        unique = list(dict.fromkeys(spans))
        if len(unique) < len(spans):
            problems.append(f"{len(spans) - len(unique)} spans are given twice: they count once")
        fitted, unfit = fit_to_words(text.words, unique)
        problems += unfit
        words = list(dict.fromkeys((first, last - 1, span.label) for first, last, span in fitted))
        most = int(num_span_queries(np.float32(len(text.words)), self.options.queries_per_word))
        if len(words) > most:
            problems.append(
                f"{len(words)} spans in {len(text.words)} words, of which {most} can be found "
                f"(tasks.{self.target}.queries_per_word)"
            )
        return GoldSpans(unique, words, spans_to_iob2(text.words, unique)[0], problems)

    def unseen(self, gold: GoldSpans) -> list[str]:
        return [span.label for span in gold.spans if span.label not in self.labels]

    def problems(self, gold: GoldSpans | None) -> Sequence[str]:
        return gold.problems if gold else ()

    def encode_target(self, view: WindowView) -> Arrays:
        """spans int64 (T, 2), first and last word in the window; labels int64 (T,); tags int16 (L,): at the first token
        of each word the number of its tag in ``tag_set``, elsewhere, and in rows without a label, ``IGNORE_INDEX``.
        """
        layout = view.layout
        assert layout is not None
        index = {label: i for i, label in enumerate(self.labels)}
        tag_index = {tag: i for i, tag in enumerate(self.tag_set)}
        begins = np.flatnonzero(layout.first)
        tags = np.full(len(layout.row), IGNORE_INDEX, dtype=np.int16)
        spans: list[tuple[int, int]] = []
        labels: list[int] = []
        for row in rows_in(layout, len(view.golds)):
            gold: GoldSpans | None = view.golds[row]
            if gold is None:
                continue
            places = np.flatnonzero(layout.row[begins] == row)
            words: list[int] = layout.word[begins[places]].tolist()
            # A tag of an unknown type becomes "O": its word belongs to a labeled row.
            tags[begins[places]] = [tag_index.get(gold.flat[word], 0) for word in words]
            place_of = dict(zip(words, places.tolist(), strict=True))
            for first, last, label in gold.words:
                if first in place_of and last in place_of and label in index:
                    spans.append((place_of[first], place_of[last]))
                    labels.append(index[label])
        return {
            "spans": np.array(spans, dtype=np.int64).reshape(-1, 2),
            "labels": np.array(labels, dtype=np.int64),
            "tags": tags,
        }

    @property
    def tag_set(self) -> list[str]:
        return ["O", *(f"{prefix}-{label}" for label in self.labels for prefix in "BI")]

    # -- answers ------------------------------------------------------------------------------------------------------

    def decode(self, outputs: Sequence[Arrays], layouts: Layouts, texts: Sequence[FieldText]) -> list[Prediction]:
        """Spans in the order of the text, outer ones first."""
        placed = [layout for layout in layouts if layout is not None]
        candidates = merged(outputs, placed, len(texts), least=LEAST_SCORE)
        return [
            self._answer(settled(of_row, self.nesting), text) for of_row, text in zip(candidates, texts, strict=True)
        ]

    def _answer(self, candidates: Sequence[Candidate], text: FieldText) -> Prediction:
        every = []
        for first, last, label, score in candidates:
            start, end = text.words[first][0], text.words[last][1]
            span = {"start": start, "end": end, "label": self.labels[label], "text": text.text[start:end]}
            every.append({**span, "score": score})
        every.sort(key=lambda one: (one["start"], -one["end"]))
        answered = [one for one in every if one["score"] >= self.threshold]
        value = [{**one, "probability": self.calibration(one["score"])} for one in answered]
        return Prediction(value, None, SpanDetails(every))

    def answer_schema(self) -> dict[str, Any]:
        return spans_schema(self.labels)

    def answer_columns(self, *, probabilities: bool = False) -> list[AnswerColumn]:
        return listed(self.target, lambda span: f"{span['text']} [{span['label']}]")

    @property
    def marked_labels(self) -> list[str]:
        return self.labels

    def marks(self, prediction: Prediction) -> list[Span]:
        return [Span(s["start"], s["end"], label_of(s), s["probability"]) for s in prediction.value]

    def judge(self, prediction: Prediction, gold: GoldSpans) -> list[tuple[float, bool]]:
        """Every answered span."""
        true = {span.key for span in gold.spans}
        return [(one["probability"], _span(one).key in true) for one in prediction.value]

    def withhold(self, prediction: Prediction, least: float) -> Prediction:
        return withhold_items(prediction, least)

    def baseline(self, golds: Sequence[GoldSpans]) -> Baseline | None:
        """Of no entity at all."""
        return Baseline("entity_f1", 0.0) if any(gold.spans for gold in golds) else None

    def evaluate(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> Evaluation:
        pairs = self.labeled(predictions, golds)
        gold = [g.spans for _, g in pairs]
        predicted = [[_span(one) for one in p.value] for p, _ in pairs]
        report, inner = entity_report(gold, predicted), nested_recall(gold, predicted)
        metrics = {
            "entity_f1": report.entity_f1, "precision": report.micro.precision, "recall": report.micro.recall,
            "macro_f1": report.macro.f1,
        }  # fmt: skip
        table = report.to_text()
        if inner.possible:
            metrics["nested_recall"] = inner.recall
            table += f"{'nested':>12}  {inner.correct} of {inner.possible} spans inside others: {inner.recall:.3f}\n"
        data = {"entities": report.to_dict(), "nested": inner.to_dict(), "threshold": self.threshold}
        return Evaluation(metrics, {"entities": table}, data, SpanFigures(report))

    @property
    def mistake_kinds(self) -> Mapping[str, str]:
        return KINDS

    def mistakes(
        self, predictions: Sequence[Prediction], golds: Sequence[Any], figures: Figures
    ) -> Iterator[tuple[int, Mistake]]:
        def none_at(details: SpanDetails, key: Key) -> float:
            return 1 - self.calibration(max((s["score"] for s in details.all if _span(s).key == key), default=0.0))

        return span_mistakes(
            [
                AnsweredSpans(i, gold.spans, p.value, partial(none_at, details_of(p, SpanDetails)))
                for i, (p, gold) in enumerate(zip(predictions, golds, strict=True))
                if gold is not None
            ]
        )

    def tune(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> list[str]:
        pairs = [(p, g) for p, g in zip(predictions, golds, strict=True) if g is not None]
        scores, correct = [], []
        for prediction, gold in pairs:
            true = {span.key for span in gold.spans}
            spans = details_of(prediction, SpanDetails).all
            scores += [one["score"] for one in spans]
            correct += [_span(one).key in true for one in spans]
        if self.options.threshold is not None or not any(correct):
            return []
        self.threshold, f1 = best_threshold(scores, correct, sum(len(gold.spans) for _, gold in pairs))
        return [f"{self.target!r}: answered from a score of {self.threshold:.3f} on (F1 {f1:.3f}, validation rows)"]

    # -- state ---------------------------------------------------------------------------------------------------------

    def answer_of(self, reading: Reading, choice: Any, *, counterpart: Counterpart) -> Answer:
        """choice: the number of a span, from 0."""
        from polydetr.tasks.explained_spans import EntityAnswer

        return EntityAnswer.of(reading, choice)

    def learned(self) -> dict[str, Any]:
        return {"labels": self.labels, "nesting": self.nesting, "threshold": self.threshold}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.labels, self.nesting, self.threshold = state["labels"], state["nesting"], state["threshold"]


def _unplaced_spans(items: Sequence[Any], target: str) -> list[Span]:
    """Spans in characters, or of tags in words: enough to know the types and the nesting."""
    if items and isinstance(items[0], str):
        return [Span(first, last, label) for first, last, label in iob2_to_word_spans(items)]
    return [span_of(item, target) for item in items]


def _span(answer: Mapping[str, Any]) -> Span:
    return Span(answer["start"], answer["end"], answer["label"])
