"""The answer to a question as a span of a passage, or that the passage holds none (Rajpurkar et al. 2018, arXiv
1806.03822).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from polydetr.core.examples import IGNORE_INDEX, Arrays
from polydetr.core.layout import FieldText, Layout, Layouts
from polydetr.core.predictions import Details, Evaluation, Prediction
from polydetr.core.records import Row
from polydetr.errors import Location, RowError, SchemaError
from polydetr.metrics.qa import best_no_answer_threshold, qa_report
from polydetr.tasks.base import Task, TaskOptions, WindowView, details_of, log_softmax
from polydetr.values.cells import is_missing

_NEVER = -1e9
"""The log probability of the impossible; finite, so that it may stand in JSON."""


class GoldAnswer(NamedTuple):
    """``text`` stands at character ``start`` of the passage."""

    text: str
    start: int


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

    class Options(TaskOptions):
        max_answer_tokens: int = Field(
            default=48, ge=1, le=8192, description="longest answer that question answering may give"
        )

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

    def _answers(self, row: Row) -> list[GoldAnswer] | None:
        """[]: the passage holds no answer; None: the row is not labeled."""
        value = row.get(self.target)
        if is_missing(value):
            return None
        try:
            return [GoldAnswer(str(a["text"]), int(a["start"])) for a in list(value) if str(a["text"]).strip()]  # type: ignore[arg-type]
        except (TypeError, KeyError, ValueError, IndexError):
            raise RowError(
                f'{value!r:.80} is not a list of answers, expected [{{"text": "...", "start": 0}}]',
                location=Location(column=self.target),
            ) from None

    def encode_target(self, view: WindowView) -> Arrays:
        """First and last token of the answer; 0 where this window does not hold all of it."""
        layout, answers = view.layout, view.golds[0]
        assert layout is not None
        start = end = 0
        inside = np.flatnonzero(layout.row >= 0)
        if answers is None:
            start = end = IGNORE_INDEX
        elif answers and len(inside):
            text = answers[0].text
            begin = answers[0].start + len(text) - len(text.lstrip())  # white space belongs to no token
            finish = begin + len(text.strip())
            if layout.start[inside[0]] <= begin and finish <= layout.end[inside[-1]]:
                start = int(inside[layout.end[inside] > begin][0])
                end = int(inside[layout.start[inside] < finish][-1])
        return {"start": np.array(start, dtype=np.int64), "end": np.array(end, dtype=np.int64)}

    def gold(self, row: Row, text: FieldText | None) -> list[GoldAnswer] | None:
        answers = self._answers(row)
        if answers and text is not None:
            answer, begin = answers[0]
            if begin < 0 or text.text[begin : begin + len(answer)] != answer:
                raise RowError(
                    f"answer {answer!r:.60} does not stand at character {begin} of the passage",
                    location=Location(column=self.target),
                    hint="start counts characters of the passage from 0.",
                )
        return answers

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
        return [Prediction(value, probability, QaDetails(float(np.exp(null)), advantage, candidate))]

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

    def evaluate(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> Evaluation:
        pairs = self.labeled(predictions, golds)
        report = qa_report([_texts(gold) for _, gold in pairs], [p.value["text"] for p, _ in pairs])
        numbers = {k: float(v) for k, v in report.to_dict().items() if isinstance(v, float)}
        return Evaluation(numbers, {}, {"qa": report.to_dict()})

    def tune(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> list[str]:
        if not self.no_answer or all(gold is None for gold in golds):
            return []
        pairs = self.labeled(predictions, golds)
        details = [details_of(p, QaDetails) for p, _ in pairs]
        threshold, _ = best_no_answer_threshold(
            [_texts(gold) for _, gold in pairs], [d.candidate for d in details], [-d.advantage for d in details]
        )
        self.no_answer_threshold = -threshold
        return [
            f"{self.target}: answers 'no answer' unless a span is better by {self.no_answer_threshold:.2f} "
            "(log probability)"
        ]

    def learned(self) -> dict[str, Any]:
        return {"no_answer": self.no_answer, "no_answer_threshold": self.no_answer_threshold}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.no_answer, self.no_answer_threshold = bool(state["no_answer"]), float(state["no_answer_threshold"])


def _texts(answers: Sequence[GoldAnswer]) -> list[str]:
    return [answer.text for answer in answers]
