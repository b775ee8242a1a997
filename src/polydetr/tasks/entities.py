"""Entities in a text: a set of spans with types, which may lie inside one another, found by queries, one each.

Sources: Tan et al. 2021 (arXiv 2105.08901), and what ``nn.span_set`` names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polydetr.config import Config, EntitiesConfig, TaskConfig
from polydetr.core.examples import IGNORE_INDEX, Arrays
from polydetr.core.layout import FieldText, Layout
from polydetr.core.predictions import Evaluation, Prediction
from polydetr.core.records import Row
from polydetr.errors import SchemaError
from polydetr.metrics.entities import best_threshold, entity_report, nested_recall
from polydetr.nn.matcher import Matcher, SetTargets
from polydetr.nn.set_loss import SetCriterion
from polydetr.nn.span_geometry import SpanGeometry
from polydetr.nn.span_set import NO_SPAN, SpanSizes
from polydetr.tasks.base import Task, WindowView
from polydetr.tasks.entities_head import EntitiesHead
from polydetr.tasks.gold_spans import items_of, rows_in, span_of, spans_in, spans_of_tags, tags_in
from polydetr.tasks.span_answers import Candidate, merged, settled
from polydetr.values.spans import Nesting, Span, nesting_of
from polydetr.values.tags import fit_to_words, iob2_to_word_spans, spans_to_iob2

LEAST_SCORE = 0.05
"""Spans less sure than this are never answered, whatever the threshold."""


@dataclass(frozen=True)
class GoldSpans:
    """A row's true spans, each once: in characters as they were given, and as (first word, last word, label); flat:
    the tags of the outermost ones, one a word.
    """

    spans: Sequence[Span]
    words: Sequence[tuple[int, int, str]]
    flat: Sequence[str]
    problems: Sequence[str] = ()

    @property
    def tags(self) -> list[str]:
        """The labels, one a span."""
        return [span.label for span in self.spans]


class EntitiesTask(Task):
    """Rows hold lists of {"start", "end", "label"} in characters, or tags, one a word; [] is a text without entities,
    a missing value one that nobody looked at.
    """

    kind: ClassVar[str] = "entities"
    per_token: ClassVar[bool] = True
    reads_words: ClassVar[bool] = True
    reads_document: ClassVar[bool] = True
    primary_metric: ClassVar[str] = "entity_f1"
    options: ClassVar[frozenset[str]] = frozenset({"scheme", "labels"})
    tunes: ClassVar[bool] = True

    def __init__(self, target: str, config: TaskConfig) -> None:
        super().__init__(target, config)
        self.labels: list[str] = []
        self.nesting: Nesting = "any"
        self.entities = EntitiesConfig()
        self.threshold = 0.5

    # -- before training --------------------------------------------------------------------------------------------

    def configure(self, config: Config) -> None:
        self.entities, detection = config.entities, config.detection
        if config.model.share_decoder:
            same = {
                name: value
                for name in ("hidden_dim", "decoder_layers")
                if (value := getattr(detection, name)) is not None and getattr(config.entities, name) is None
            }
            self.entities = config.entities.model_copy(update=same)
        self.threshold = config.entities.threshold if config.entities.threshold is not None else self.threshold

    def learn(self, rows: Sequence[Row]) -> list[str]:
        given = [items for items in (items_of(row, self.target) for row in rows) if items is not None]
        if not given:
            raise self.missing_everywhere("spans or tags")
        texts = [_unplaced_spans(items, self.target) for items in given]
        counts = Counter(span.label for spans in texts for span in spans)
        if not counts and not self.config.labels:
            raise SchemaError(
                f"target {self.target!r} has no entity in any of {len(given)} training rows: nothing to learn"
            )
        self.labels = self.label_set(counts)
        self.nesting = nesting_of(texts)
        how = {
            "none": "apart from one another, and so are those answered; tagging is faster",
            "nested": "some inside others, never across",
            "any": "some across others",
        }
        notes = [f"{counts.total()} spans of {len(self.labels)} types, {how[self.nesting]}"]
        if missing := len(rows) - len(given):
            notes.append(f"{missing} of {len(rows)} training rows have no {self.target!r}: they do not train it")
        return notes

    def gold(self, row: Row, text: FieldText | None) -> GoldSpans | None:
        """Raises RowError: the label is neither spans nor tags, or a span lies outside the text."""
        assert text is not None
        items = items_of(row, self.target)
        if items is None:
            return None
        if items and isinstance(items[0], str):
            spans = spans_of_tags(tags_in(items, text, self.target, scheme=self.config.scheme), text)
        else:
            spans = spans_in(items, text, self.target)
        problems = []
        unique = list(dict.fromkeys(spans))
        if len(unique) < len(spans):
            problems.append(f"{len(spans) - len(unique)} spans are given twice: they count once")
        fitted, unfit = fit_to_words(text.words, unique)
        problems += [problem.message for problem in unfit]
        words = list(dict.fromkeys((first, last - 1, span.label) for first, last, span in fitted))
        most = int(self._sizes(1).num_queries(torch.tensor(len(text.words))))
        if len(words) > most:
            problems.append(
                f"{len(words)} spans in {len(text.words)} words, of which {most} can be found "
                "(entities.queries_per_word)"
            )
        return GoldSpans(unique, words, spans_to_iob2(text.words, unique)[0], problems)

    def problems(self, gold: GoldSpans | None) -> Sequence[str]:
        return gold.problems if gold else ()

    def encode_target(self, view: WindowView) -> Arrays:
        """spans_per_object int64 (T, 2), first and last word in the window; labels_per_object (T,); tags_per_token:
        at the first token of each word its tag among ``tag_set``, elsewhere, and in rows without a label, ignored.
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
            # A tag of a type that training never saw says at least that the word is looked at.
            tags[begins[places]] = [tag_index.get(gold.flat[word], 0) for word in words]
            place_of = dict(zip(words, places.tolist(), strict=True))
            for first, last, label in gold.words:
                if first in place_of and last in place_of and label in index:
                    spans.append((place_of[first], place_of[last]))
                    labels.append(index[label])
        return {
            "spans_per_object": np.array(spans, dtype=np.int64).reshape(-1, 2),
            "labels_per_object": np.array(labels, dtype=np.int64),
            "tags_per_token": tags,
        }

    @property
    def tag_set(self) -> list[str]:
        return ["O", *(f"{prefix}-{label}" for label in self.labels for prefix in "BI")]

    # -- tensors ------------------------------------------------------------------------------------------------------

    @property
    def named_labels(self) -> Sequence[str]:
        return self.labels

    def _sizes(self, embed_dim: int) -> SpanSizes:
        settings = self.entities
        given = {name: getattr(settings, name) for name in ("hidden_dim", "decoder_layers")}
        return SpanSizes(
            max(1, len(self.labels)), embed_dim, max_words=settings.max_words,
            queries_per_word=settings.queries_per_word, **{k: v for k, v in given.items() if v is not None},
        )  # fmt: skip

    def build_head(self, embed_dim: int) -> nn.Module:
        return EntitiesHead(self._sizes(embed_dim), num_tags=len(self.tag_set) if self.entities.tagging else 0)

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], weights: Tensor) -> dict[str, Tensor]:
        words, tags = outputs["words"].long(), targets["tags_per_token"]
        known = (words >= 0) & (tags.gather(1, words.clamp(min=0)) != IGNORE_INDEX)
        labels = targets["labels_per_object"]
        wanted = SetTargets(labels, labels != IGNORE_INDEX, {"spans": targets["spans_per_object"]})
        terms = {"proposals": _proposal_loss(outputs["proposal_logits"], wanted, known)}
        if "start_logits" in outputs:
            terms["set"] = self._set_loss(outputs, wanted, known)
        if "tag_logits" in outputs:
            here = tags != IGNORE_INDEX
            total = F.cross_entropy(outputs["tag_logits"][here].float(), tags[here], reduction="sum")
            terms["tags"] = self.entities.tagging * total / here.sum().clamp(min=1)
        return terms

    def _set_loss(self, outputs: Mapping[str, Tensor], wanted: SetTargets, known: Tensor) -> Tensor:
        layers = {name: outputs[name].permute(2, 0, 1, 3).float() for name in ("logits", "start_logits", "end_logits")}
        # What a query that begins where nobody looked answers is neither right nor wrong.
        unknown = ~known.gather(1, outputs["seeds"][..., 0].long().clamp(min=0))
        layers["logits"] = layers["logits"].masked_fill(unknown[..., None], NO_SPAN)
        criterion = SetCriterion(SpanGeometry(), classification="varifocal", matcher=Matcher("focal", class_weight=2.0))
        return criterion(layers, wanted).total / len(layers["logits"])

    # -- answers ------------------------------------------------------------------------------------------------------

    def decode(
        self, outputs: Sequence[Arrays], layouts: Sequence[Layout | None], texts: Sequence[FieldText], num_rows: int
    ) -> list[Prediction]:
        """Spans in the order of the text, outer ones first; ``details["all"]`` holds those below the threshold too."""
        placed = [layout for layout in layouts if layout is not None]
        found = merged(outputs, placed, [len(text.words) for text in texts], least=LEAST_SCORE)
        return [self._answer(settled(one, self.nesting), text) for one, text in zip(found, texts, strict=True)]

    def _answer(self, candidates: Sequence[Candidate], text: FieldText) -> Prediction:
        every = []
        for first, last, label, score in candidates:
            start, end = text.words[first][0], text.words[last][1]
            every.append(
                {
                    "start": start, "end": end, "label": self.labels[label], "text": text.text[start:end],
                    "score": score,
                }
            )  # fmt: skip
        every.sort(key=lambda one: (one["start"], -one["end"]))
        return Prediction([one for one in every if one["score"] >= self.threshold], None, {"all": every})

    def evaluate(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> Evaluation:
        pairs = [(p, g) for p, g in zip(predictions, golds, strict=True) if g is not None]
        if not pairs:
            raise SchemaError(f"no row has a value for target {self.target!r}: nothing to measure")
        gold = [g.spans for _, g in pairs]
        found = [[_span(one) for one in p.value] for p, _ in pairs]
        report, inner = entity_report(gold, found), nested_recall(gold, found)
        metrics = {
            "entity_f1": report.entity_f1, "precision": report.micro.precision, "recall": report.micro.recall,
            "macro_f1": report.macro.f1,
        }  # fmt: skip
        table = report.to_text()
        if inner.possible:
            metrics["nested_recall"] = inner.recall
            table += f"{'nested':>12}  {inner.correct} of {inner.possible} spans inside others: {inner.recall:.3f}\n"
        data = {"entities": report.to_dict(), "nested": inner.to_dict(), "threshold": self.threshold}
        return Evaluation(metrics, {"entities": table}, data, {"entities": report})

    def tune(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> list[str]:
        pairs = [(p, g) for p, g in zip(predictions, golds, strict=True) if g is not None]
        scores, correct = [], []
        for prediction, gold in pairs:
            true = {span.key for span in gold.spans}
            scores += [one["score"] for one in prediction.details["all"]]
            correct += [_span(one).key in true for one in prediction.details["all"]]
        if self.entities.threshold is not None or not any(correct):
            return []
        self.threshold, f1 = best_threshold(scores, correct, sum(len(gold.spans) for _, gold in pairs))
        return [f"{self.target!r}: answered from a score of {self.threshold:.3f} on (F1 {f1:.3f}, validation rows)"]

    # -- state ---------------------------------------------------------------------------------------------------------

    def learned(self) -> dict[str, Any]:
        return {
            "labels": self.labels, "nesting": self.nesting, "threshold": self.threshold,
            "entities": self.entities.model_dump(),
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        self.labels, self.nesting = list(state["labels"]), state["nesting"]
        self.threshold, self.entities = float(state["threshold"]), EntitiesConfig(**state["entities"])


def _proposal_loss(logits: Tensor, wanted: SetTargets, known: Tensor) -> Tensor:
    """Cross-entropy of every span of rows that are ``known`` (B, W) with every type, over the number of true spans;
    logits (B, W, M, C).
    """
    longest = logits.shape[2]
    truth = torch.zeros_like(logits, dtype=torch.float32)
    first, last = wanted.geometry["spans"].unbind(-1)
    example, target = (wanted.mask & (last - first < longest)).nonzero(as_tuple=True)
    start, length = first[example, target], (last - first)[example, target]
    truth[example, start, length, wanted.labels[example, target]] = 1.0
    each = F.binary_cross_entropy_with_logits(logits.float(), truth, reduction="none")
    return (each * known[..., None, None]).sum() / wanted.mask.sum().clamp(min=1)


def _unplaced_spans(items: Sequence[Any], target: str) -> list[Span]:
    """Spans in characters, or of tags in words: enough to know types and how spans lie."""
    if items and isinstance(items[0], str):
        return [Span(first, last, label) for first, last, label in iob2_to_word_spans(items)]
    return [span_of(item, target) for item in items]


def _span(answer: Mapping[str, Any]) -> Span:
    return Span(answer["start"], answer["end"], answer["label"])
