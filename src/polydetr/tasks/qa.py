"""The answer to a question as a span of a passage, or that the passage holds none (Rajpurkar et al. 2018, arXiv
1806.03822).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from polydetr.core.examples import IGNORE_INDEX, Arrays
from polydetr.core.layout import FieldText, Layout, Layouts
from polydetr.core.mistakes import Mark, Mistake
from polydetr.core.predictions import Baseline, Details, Evaluation, Figures, Prediction
from polydetr.core.records import Row
from polydetr.core.tables import AnswerColumn, confidence, predicted
from polydetr.errors import Location, RowError, SchemaError
from polydetr.metrics.qa import answer_scores, best_no_answer_threshold, language_of, qa_report
from polydetr.metrics.suspicion import class_thresholds, is_suspicious
from polydetr.tasks.base import LearnedState, Task, TaskOptions, WindowView, details_of, log_softmax
from polydetr.tasks.confidence import withhold_row
from polydetr.tasks.explained import Answer as Explained
from polydetr.tasks.explained import Counterpart, Reading, no_choice
from polydetr.values.cells import is_missing
from polydetr.values.spans import NOT_FOUND, Span, place_of, read_offset

_NEVER = -1e9
"""The log probability of the impossible; finite, so that it may stand in JSON."""


class Answer(NamedTuple):
    """``text`` stands at character ``start`` of the passage; None where that is not known."""

    text: str
    start: int | None


@dataclass(frozen=True)
class GoldAnswers:
    """A row's true answers, those that stand in the passage first; the others count as references, and no model can
    point to them. None at all: the passage holds no answer. problems: a message per answer whose start is not right.
    """

    answers: Sequence[Answer]
    problems: Sequence[str] = ()

    @property
    def texts(self) -> list[str]:
        return [answer.text for answer in self.answers]


@dataclass(frozen=True)
class QaDetails(Details):
    """advantage: log probability of the best span minus that of no answer; candidate: the text of the best span, also
    where it is not answered.
    """

    no_answer_probability: float
    advantage: float
    candidate: str


class QuestionAnsweringTask(Task):
    """The passage is the last text field, the question the one before it. Long passages are read in windows; the
    highest-scoring window answers.
    """

    kind: ClassVar[str] = "qa"
    per_token: ClassVar[bool] = True
    primary_metric: ClassVar[str] = "f1"
    tunes_answers: ClassVar[bool] = True
    answer_unit: ClassVar[str] = "row"
    rescales: ClassVar[bool] = True

    class Options(TaskOptions):
        max_answer_tokens: int = Field(
            default=48, ge=1, le=8192, description="longest answer that question answering may give"
        )

    class Learned(LearnedState):
        no_answer: bool
        no_answer_threshold: float

    options: Options
    no_answer: bool = False
    """Whether the training rows have questions without an answer."""
    no_answer_threshold: float = 0.0
    """A span is answered from this advantage on; fitted on the validation rows."""

    def learn(self, rows: Sequence[Row]) -> list[str]:
        answers = [self._answers(row) for row in rows]
        labeled = [a for a in answers if a is not None]
        if not any(labeled):
            raise SchemaError(
                f"no training row has an answer in {self.target!r}", hint='Expected [{"text": "...", "start": 0}].'
            )
        empty = sum(not a for a in labeled)
        self.no_answer = empty > 0
        message = f"{empty} of {len(rows)} training questions have no answer: the model learns to say so"
        return ([message] if empty else []) + self.missing_in_some(labeled, rows)

    def _answers(self, row: Row) -> list[Answer] | None:
        """[]: the passage holds no answer; None: the row is not labeled."""
        value: Any = row.get(self.target)
        if is_missing(value):
            return None
        try:
            return [answer for item in _each(value) if (answer := _answer_of(item)).text.strip()]
        except (TypeError, KeyError, ValueError, IndexError):
            raise RowError(
                f'{value!r:.80} is not a list of answers, expected [{{"text": "...", "start": 0}}]',
                location=Location(column=self.target),
            ) from None

    def encode_target(self, view: WindowView) -> Arrays:
        """First and last token of the answer; 0 where this window does not hold all of it, ``IGNORE_INDEX`` where no
        answer stands in the passage.
        """
        layout, gold = view.layout, view.golds[0]
        assert layout is not None
        start = end = 0
        inside = np.flatnonzero(layout.row >= 0)
        first = gold.answers[0] if gold is not None and gold.answers else None
        if gold is None or (first is not None and first.start is None):
            start = end = IGNORE_INDEX
        elif first is not None and first.start is not None and len(inside):
            begin, finish = first.start, first.start + len(first.text)
            if layout.start[inside[0]] <= begin and finish <= layout.end[inside[-1]]:
                start = int(inside[layout.end[inside] > begin][0])
                end = int(inside[layout.start[inside] < finish][-1])
        return {"start": np.array(start, dtype=np.int64), "end": np.array(end, dtype=np.int64)}

    def gold(self, row: Row, text: FieldText | None) -> GoldAnswers | None:
        answers = self._answers(row)
        if answers is None or text is None:
            return None if answers is None else GoldAnswers(answers)
        problems: list[str] = []
        placed = []
        for written, start in answers:
            answer = written.strip()  # white space belongs to no word
            place = place_of(text.text, answer, start)
            said = f"answer {answer!r:.60} does not stand"
            if place == NOT_FOUND:
                problems.append(f"{said} in the passage: it counts where answers are measured, and trains nothing")
            elif start is not None and not text.text[start:].lstrip().startswith(answer):
                problems.append(f"{said} at {start} but at {place}, where it is taken")
            placed.append(Answer(answer, None if place == NOT_FOUND else place))
        return GoldAnswers(sorted(placed, key=lambda answer: answer.start is None), problems)

    def problems(self, gold: GoldAnswers | None) -> Sequence[str]:
        return gold.problems if gold else ()

    def decode(self, outputs: Sequence[Arrays], layouts: Layouts, texts: Sequence[FieldText]) -> list[Prediction]:
        text = texts[0]
        best: tuple[float, int, int] | None = None
        null = np.inf
        for output, layout in zip(outputs, layouts, strict=True):
            assert layout is not None
            start = log_softmax(output["start_logits"][: len(layout.row)], self.temperature)
            end = log_softmax(output["end_logits"][: len(layout.row)], self.temperature)
            null = min(null, float(start[0] + end[0]))
            span = self._best_span(start, end, layout)
            if span and (best is None or span[0] > best[0]):
                best = span
        if best is None or (self.no_answer and best[0] - null < self.no_answer_threshold):
            value: dict[str, Any] = {"text": "", "start": None, "end": None}
            probability = float(np.exp(null))
        else:
            begin, finish = best[1], best[2]
            value = {"text": text.text[begin:finish], "start": begin, "end": finish}
            probability = float(np.exp(best[0]))
        advantage = float(best[0] - null) if best else _NEVER
        candidate = text.text[best[1] : best[2]] if best else ""
        probability = self.calibration(probability)
        return [Prediction(value, probability, QaDetails(float(np.exp(null)), advantage, candidate))]

    def answer_schema(self) -> dict[str, Any]:
        """Where there is no answer, its text is empty."""
        place = {"type": ["integer", "null"]}
        return {
            "type": "object",
            "properties": {"text": {"type": "string"}, "start": place, "end": place},
            "required": ["text", "start", "end"],
        }

    def answer_columns(self, *, probabilities: bool = False) -> list[AnswerColumn]:
        def column(name: Literal["start", "end"]) -> AnswerColumn:
            return AnswerColumn(f"{self.target}_{name}", "whole", lambda p: p.value[name])

        text = predicted(self.target, "text", lambda p: p.value["text"])
        return [text, confidence(self.target), column("start"), column("end")]

    @property
    def marked_labels(self) -> list[str]:
        return [self.target]

    def marks(self, prediction: Prediction) -> list[Span]:
        start, end = prediction.value["start"], prediction.value["end"]
        return [] if start is None else [Span(start, end, self.target, prediction.probability)]

    def _best_span(self, start: np.ndarray, end: np.ndarray, layout: Layout) -> tuple[float, int, int] | None:
        """(log probability, first character, end character) of a window's best span of at most ``max_answer_tokens``
        tokens.
        """
        inside = np.flatnonzero(layout.row >= 0)  # one span: the passage
        if not len(inside):
            return None
        length = self.options.max_answer_tokens
        ends = np.concatenate([end[inside], np.full(length - 1, _NEVER)])
        ways = np.lib.stride_tricks.sliding_window_view(ends, length)  # ways[i, k]: the answer is k + 1 tokens long
        total = start[inside] + ways.max(1)
        first = int(total.argmax())
        last = first + int(ways[first].argmax())
        return float(total[first]), int(layout.start[inside[first]]), int(layout.end[inside[last]])

    def judge(self, prediction: Prediction, gold: GoldAnswers) -> list[tuple[float, bool]]:
        """Right: an exact match with one of the reference answers."""
        report = qa_report([gold.texts], [prediction.value["text"]])
        return [(prediction.probability or 0.0, report.exact_match == 1)]

    def withhold(self, prediction: Prediction, least: float) -> Prediction:
        return withhold_row(prediction, least)

    def baseline(self, golds: Sequence[GoldAnswers]) -> Baseline | None:
        """Of no answer at all: the share of the questions that have none."""
        share = sum(not gold.answers for gold in golds) / len(golds)
        return Baseline("f1", share, "no answer" if share else None) if share < 1 else None

    def evaluate(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> Evaluation:
        pairs = self.labeled(predictions, golds)
        report = qa_report([gold.texts for _, gold in pairs], [p.value["text"] for p, _ in pairs])
        numbers = {k: float(v) for k, v in report.to_dict().items() if isinstance(v, float)}
        return Evaluation(numbers, {}, {"qa": report.to_dict()})

    @property
    def mistake_kinds(self) -> Mapping[str, str]:
        return {
            "elsewhere": "Answers that share no word with the true one, the most confident first.",
            "cut wrong": "Answers that share words with the true one, the most confident first.",
            "answered in vain": "Answers to questions that the passage does not answer, the most confident first.",
            "not answered": 'Questions answered by "no answer" whose answer is there, the most confident first.',
        }

    def mistakes(
        self, predictions: Sequence[Prediction], golds: Sequence[Any], figures: Figures
    ) -> Iterator[tuple[int, Mistake]]:
        rows = [(i, p, g) for i, (p, g) in enumerate(zip(predictions, golds, strict=True)) if g is not None]
        language = language_of([gold.texts for _, _, gold in rows], [p.value["text"] for _, p, _ in rows])
        scores = [answer_scores(gold.texts, p.value["text"], language) for _, p, gold in rows]
        right = (p for (_, p, _), (exact, _) in zip(rows, scores, strict=True) if exact == 1)
        thresholds = class_thresholds((p.value["start"] is None, p.probability or 0.0) for p in right)
        for (row, prediction, gold), (exact, f1) in zip(rows, scores, strict=True):
            answer, sure = prediction.value, prediction.probability or 0.0
            if exact == 1:
                continue
            if not gold.texts:
                kind = "answered in vain"
            elif answer["start"] is None:
                kind = "not answered"
            else:
                kind = "cut wrong" if f1 > 0 else "elsewhere"
            marks = [
                Mark(a.start, a.start + len(a.text), "", "gold", True) for a in gold.answers if a.start is not None
            ]
            if answer["start"] is not None:
                marks.append(Mark(answer["start"], answer["end"], "", "answer", True))
            yield row, Mistake(
                kind, sure, " / ".join(dict.fromkeys(gold.texts)), answer["text"], (), sure,
                is_suspicious(thresholds, of_label=1 - sure, answer=answer["start"] is None, of_answer=sure),
                marks=tuple(dict.fromkeys(marks)), note=f"F1 {f1:.2f}" if 0 < f1 < 1 else "",
            )  # fmt: skip

    def tune(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> list[str]:
        if not self.no_answer or all(gold is None for gold in golds):
            return []
        pairs = self.labeled(predictions, golds)
        details = [details_of(p, QaDetails) for p, _ in pairs]
        threshold, _ = best_no_answer_threshold(
            [gold.texts for _, gold in pairs], [d.candidate for d in details], [-d.advantage for d in details]
        )
        self.no_answer_threshold = -threshold
        return [
            f"{self.target}: answers 'no answer' unless a span is better by {self.no_answer_threshold:.2f} "
            "(log probability)"
        ]

    def answer_of(self, reading: Reading, choice: Any, *, counterpart: Counterpart) -> Explained:
        from polydetr.tasks.explained_spans import SpanAnswer

        no_choice(self, choice)
        return SpanAnswer.of(self, reading)

    def learned(self) -> dict[str, Any]:
        return {"no_answer": self.no_answer, "no_answer_threshold": self.no_answer_threshold}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.no_answer, self.no_answer_threshold = state["no_answer"], state["no_answer_threshold"]


def _each(value: Any) -> Sequence[Any]:
    """The answers of a cell: a list of them, one, or a mapping of lists of texts and starts."""
    if isinstance(value, str):
        raise TypeError("a text")
    if not isinstance(value, Mapping):
        return list(value)
    if isinstance(value["text"], str):
        return [value]
    starts = value.get("start", value.get("answer_start", [None] * len(value["text"])))
    return [{"text": text, "start": start} for text, start in zip(value["text"], starts, strict=True)]


def _answer_of(item: Any) -> Answer:
    """An answer from a mapping of text and start, or from its text alone."""
    if isinstance(item, str):
        return Answer(item, None)
    start = read_offset(item["start"] if "start" in item else item.get("answer_start"))
    return Answer(str(item["text"]), None if start == NOT_FOUND else start)
