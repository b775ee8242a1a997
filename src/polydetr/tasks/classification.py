"""One label per row, or several at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import AfterValidator, Field

from polydetr.core.examples import IGNORE_INDEX, Arrays
from polydetr.core.layout import FieldText, Layouts
from polydetr.core.mistakes import Mistake
from polydetr.core.predictions import Baseline, Details, Evaluation, Figures, Prediction
from polydetr.core.records import Row
from polydetr.core.tables import AnswerColumn, CellKind, confidence, predicted
from polydetr.errors import Location, RowError, SchemaError
from polydetr.metrics.calibration import expected_calibration_error
from polydetr.metrics.classification import classification_report, multilabel_report
from polydetr.metrics.entities import best_threshold
from polydetr.metrics.figures import ClassFigures
from polydetr.metrics.separation import auroc
from polydetr.tasks.base import (
    NOTHING_KNOWN,
    LearnedState,
    Task,
    TaskContext,
    TaskOptions,
    WindowView,
    details_of,
    distinct,
    labels_schema,
    log_softmax,
)
from polydetr.tasks.class_mistakes import KINDS, KINDS_OF_SEVERAL, class_mistakes, mistakes_of_several
from polydetr.tasks.classes import Classes, Label
from polydetr.tasks.confidence import withhold_row
from polydetr.tasks.explained import Answer, Counterpart, Reading
from polydetr.values.cells import is_missing, says_missing

IN_SCOPE_SHARE = 0.95
"""Share of the validation rows that count as in scope."""
MIN_TUNING_ROWS = 40
"""With fewer validation rows no energy threshold is set."""
MIN_TUNING_LABELS = 20
"""With fewer labels on the validation rows the threshold of several labels stays where it is."""


@dataclass(frozen=True)
class ClassDetails(Details):
    """probabilities: by label, in the type of the answers, calibrated. energy: -log Σ exp(logit), higher for rows
    unlike the training rows; None for multi-label targets. in_scope: whether the row is like the training rows; None
    where that is not known.
    """

    probabilities: Mapping[Label, float]
    energy: float | None = None
    in_scope: bool | None = None


class ClassificationTask(Task):
    """Softmax over one label set, or one sigmoid per label where a row carries several."""

    kind: ClassVar[str] = "classification"
    answer_unit: ClassVar[str] = "row"

    class Options(TaskOptions):
        labels: list[Label] | None = Field(
            default=None, description="the label set, when the data do not show all of it"
        )
        class_weights: Literal["none", "balanced"] = Field(
            default="none",
            description="balanced: rare classes count as much as frequent ones; of several labels per row, "
            "having each as much as lacking it",
        )
        multi_label: bool | None = Field(
            default=None, description="several labels per row; null: inferred from the data"
        )
        threshold: float | None = Field(
            default=None,
            ge=0,
            le=1,
            description="of several labels, the probability from which one is answered; null: tuned on validation rows",
        )

    class Learned(LearnedState):
        labels: Annotated[list[Label], AfterValidator(distinct)] = Field(min_length=1)
        words_missing: bool = False
        multi_label: bool
        class_weights: list[Annotated[float, Field(ge=0)]] | None
        threshold: float = Field(ge=0, le=1)
        energy_threshold: float | None = None

    options: Options

    def __init__(self, target: str, options: Options, *, context: TaskContext = NOTHING_KNOWN) -> None:
        super().__init__(target, options, context=context)
        self.classes = Classes(target)
        self.multi_label = bool(options.multi_label)
        self.class_weights: list[float] | None = None
        self.threshold = 0.5 if options.threshold is None else options.threshold
        self.energy_threshold: float | None = None

    @property
    def primary_metric(self) -> str:  # type: ignore[override]
        """Of several labels it counts each, at the threshold that suits: they are seldom all right, and rare ones
        seldom reach one half.
        """
        return "best_micro_f1" if self.multi_label else "accuracy"

    @property
    def tunes_answers(self) -> bool:
        return self.multi_label and self.options.threshold is None

    # -- before training --------------------------------------------------------------------------------------------

    def learn(self, rows: Sequence[Row]) -> list[str]:
        present = [value for row in rows if not is_missing(value := row.get(self.target))]
        if not present:
            raise self.missing_everywhere("the labels")
        if self.options.multi_label is None:
            self.multi_label = 2 * sum(isinstance(v, (list, tuple, np.ndarray)) for v in present) > len(present)
        labels = [label for value in present for label in self._labels_of(value)]
        self.classes, counts = Classes.learn(self.target, labels, self.options.labels)
        if self.classes.words_missing:
            present = [value for value in present if not says_missing(value)]
        if len(self.labels) < 2 and not self.multi_label:
            raise SchemaError(
                f"target {self.target!r} has one class only, {self.labels[0]!r}, in all {len(present)} labeled "
                "training rows; "
                "a classifier needs two",
                hint="Add rows of another class, or list all classes in tasks.<target>.labels.",
            )
        if self.options.class_weights == "balanced":
            self.class_weights = self._balanced(counts, rows=len(present))
        messages = [*self.missing_in_some(present, rows), *self._word_for_missing()]
        single = self.multi_label and all(isinstance(v, (list, tuple, np.ndarray)) and len(v) == 1 for v in present)
        if single and self.options.multi_label is None:  # as annotation tools write the one class of a row
            messages.append(
                f"every list of {self.target!r} holds one label; where that is the one class of its row, learn it as "
                f"such: tasks.{self.target}.multi_label: false"
            )
        rare = [label for label in self.labels if 0 < counts[label] < 3]
        if rare:
            messages.append(
                f"{len(rare)} labels of {self.target!r} have fewer than 3 training rows, for example {rare[0]!r}"
            )
        return messages

    def _balanced(self, counts: Mapping[str, int], *, rows: int) -> list[float]:
        """A factor per label. counts: of the labels; rows: those that are labeled."""
        found = [max(1, counts[label]) for label in self.labels]
        if self.multi_label:  # rows without the label over rows with it, on the rows with it; 0 would unlearn a label
            return [max(1, rows - n) / n for n in found]
        # n / (C · n_c), the "balanced" heuristic of King and Zeng (2001), as in scikit-learn
        return [sum(counts.values()) / (len(found) * n) for n in found]

    def _word_for_missing(self) -> list[str]:
        """A message where a class is called by a word that often stands for a missing label."""
        how = "if it means that there is no label, leave the cell empty"
        return [f"one class of {self.target!r} is called {n!r}; {how}" for n in self.labels if says_missing(n)]

    @property
    def labels(self) -> list[str]:
        """The names of the classes, in the order of the network's outputs."""
        return self.classes.names

    def _labels_of(self, value: Any) -> list[Any]:
        """The labels of a row, as they stand there, without those that are missing."""
        if self.multi_label:
            parts = value.split("|") if isinstance(value, str) else value
            return [part for part in parts if not is_missing(part)]
        if isinstance(value, (list, tuple, np.ndarray)) and len(value) == 1:
            return [] if is_missing(value[0]) else [value[0]]
        if isinstance(value, (list, tuple, dict, np.ndarray)):
            raise RowError(
                f"{value!r:.80} is a {type(value).__name__}, expected one label",
                location=Location(column=self.target),
                hint="For several labels per row set tasks.<target>.multi_label: true.",
            )
        return [value]

    def encode_target(self, view: WindowView) -> Arrays:
        gold = view.golds[0]
        if self.multi_label:
            labels = np.zeros(len(self.labels), dtype=np.float32)
            for label in gold or ():
                if (index := self.classes.index(label)) is not None:
                    labels[index] = 1.0
            return {"labels": labels, "known": np.array(gold is not None, dtype=np.float32)}
        index = None if gold is None else self.classes.index(gold)
        return {"label": np.array(IGNORE_INDEX if index is None else index, dtype=np.int64)}

    def gold(self, row: Row, text: FieldText | None) -> Label | list[Label] | None:
        value = row.get(self.target)
        if is_missing(value):
            return None
        labels = [self.classes.read(label) for label in self._labels_of(value)]
        return [label for label in labels if label is not None] if self.multi_label else next(iter(labels), None)

    def unseen(self, gold: Label | list[Label]) -> list[str]:
        labels = gold if isinstance(gold, list) else [gold]
        return [self.classes.name(label) for label in labels if self.classes.index(label) is None]

    # -- answers ------------------------------------------------------------------------------------------------------

    def decode(self, outputs: Sequence[Arrays], layouts: Layouts, texts: Sequence[FieldText]) -> list[Prediction]:
        logits = outputs[0]["logits"].astype(np.float64)
        if len(outputs) > 1:  # a long text is read in windows; their logits are averaged
            logits = np.mean([o["logits"].astype(np.float64) for o in outputs], axis=0)
        values = self.classes.values
        if self.multi_label:
            p = 1 / (1 + np.exp(-logits / self.temperature))
            chosen = [label for label, q in zip(values, p, strict=True) if q >= self.threshold]
            probability = float(np.prod(np.where(p >= self.threshold, p, 1 - p)))
            probability = self.calibration(probability)
            return [Prediction(chosen, probability, ClassDetails(dict(zip(values, map(float, p), strict=True))))]
        p = np.exp(log_softmax(logits, self.temperature))
        best = int(p.argmax())
        # The energy (Liu et al. 2020, arXiv 2010.03759) detects rows of unknown classes better than the probability
        # does.
        energy = -float(np.logaddexp.reduce(logits))
        in_scope = None if self.energy_threshold is None else energy <= self.energy_threshold
        details = ClassDetails(dict(zip(values, map(float, p), strict=True)), energy, in_scope)
        return [Prediction(values[best], float(p[best]), details)]

    def answer_schema(self) -> dict[str, Any]:
        label = labels_schema(self.classes.values)
        return {"type": "array", "items": label} if self.multi_label else label

    def answer_columns(self, *, probabilities: bool = False) -> list[AnswerColumn]:
        values, target = self.classes.values, self.target
        kinds: dict[type, CellKind] = {bool: "truth", int: "whole"}
        kind: CellKind = "nested" if self.multi_label else kinds.get(type(values[0]), "text")
        columns = [predicted(target, kind), confidence(target)]
        if self.energy_threshold is not None:
            outside: Callable[[Prediction], Any] = lambda p: details_of(p, ClassDetails).in_scope is False  # noqa: E731
            columns.append(AnswerColumn(f"{target}_out_of_scope", "truth", outside))
        if not probabilities:
            return columns

        def column(label: Label) -> AnswerColumn:
            return AnswerColumn(
                f"{target}_probability_{label}", "number", lambda p: details_of(p, ClassDetails).probabilities[label]
            )

        return [*columns, *map(column, values)]

    def tune(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> list[str]:
        """Sets the energy above which a row counts as out of scope: 5 % of the validation rows lie there. Of several
        labels per row it sets the probability from which one is answered, where micro F1 is largest.
        """
        if self.tunes_answers:
            scores, correct = self._by_label(
                [(p, gold) for p, gold in zip(predictions, golds, strict=True) if gold is not None]
            )
            if sum(correct) < MIN_TUNING_LABELS:
                return []
            self.threshold, f1 = best_threshold(scores, correct, sum(correct))
            how = f"from a probability of {self.threshold:.3f} on (micro F1 {f1:.3f}, validation rows)"
            return [f"{self.target!r}: labels are answered {how}"]
        energies = [energy for p in predictions if (energy := details_of(p, ClassDetails).energy) is not None]
        if len(energies) >= MIN_TUNING_ROWS:
            self.energy_threshold = float(np.quantile(energies, IN_SCOPE_SHARE))
        return []

    def _by_label(self, pairs: Sequence[tuple[Prediction, Any]]) -> tuple[list[float], list[bool]]:
        """Of every row and label: its probability, and whether the row has it. Labels that training never saw are left
        out: no threshold finds them.
        """
        known = [(details_of(p, ClassDetails).probabilities, {*map(self.classes.index, gold)}) for p, gold in pairs]
        scores = [q for p_of, _ in known for q in p_of.values()]
        return scores, [number in gold for p_of, gold in known for number in range(len(p_of))]

    @property
    def rescales(self) -> bool:
        """One label has the probability of its softmax; a set of labels, one that no temperature fits."""
        return self.multi_label

    def judge(self, prediction: Prediction, gold: Any) -> list[tuple[float, bool]]:
        right = set(prediction.value) == set(gold) if self.multi_label else prediction.value == gold
        return [(prediction.probability or 0.0, right)]

    def withhold(self, prediction: Prediction, least: float) -> Prediction:
        return withhold_row(prediction, least)

    def evaluate(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> Evaluation:
        pairs = self.labeled(predictions, golds)
        name = self.classes.name
        if self.multi_label:
            gold, predicted = [[*map(name, g)] for _, g in pairs], [[*map(name, p.value)] for p, _ in pairs]
            report = multilabel_report(gold, predicted, self._occurring(chain(*gold, *predicted)))
            correct = [set(p) == set(g) for p, g in zip(predicted, gold, strict=True)]
        else:
            gold, predicted = [name(g) for _, g in pairs], [name(p.value) for p, _ in pairs]
            report = classification_report(gold, predicted, self._occurring(chain(gold, predicted)))
            correct = [p == g for p, g in zip(predicted, gold, strict=True)]
        confidence = [p.probability or 0.0 for p, _ in pairs]
        metrics = {
            "accuracy": report.accuracy,
            "macro_f1": report.macro.f1,
            "micro_f1": report.micro.f1,
            "weighted_f1": report.weighted.f1,
            "ece": expected_calibration_error(confidence, correct),
            **(self._best_f1(pairs) if self.multi_label else self._separation(pairs)),
        }
        figures = ClassFigures(report, confidence, correct)
        return Evaluation(metrics, {"classes": report.to_text()}, {"classes": report.to_dict()}, figures)

    def baseline(self, golds: Sequence[Any]) -> Baseline | None:
        """Of the most frequent label: its share; where a row has several, its micro F1, 2·TP / (answers + labels)."""
        counts = Counter(chain.from_iterable(golds) if self.multi_label else golds)
        if len(counts) < 2:
            return None
        label, count = counts.most_common(1)[0]
        if self.multi_label:
            return Baseline("micro_f1", 2 * count / (len(golds) + counts.total()), label)
        return Baseline("accuracy", count / len(golds), label)

    def _occurring(self, answers: Iterable[str]) -> list[str]:
        """The labels over which scores are averaged: those of gold and predicted rows, unseen ones last."""
        occurring = set(answers) or set(self.labels)
        return [label for label in self.labels if label in occurring] + sorted(occurring - set(self.labels))

    def _best_f1(self, pairs: Sequence[tuple[Prediction, Any]]) -> dict[str, float]:
        """``best_micro_f1``: at the threshold that suits these very rows best; what the network knows, whichever
        threshold is set.
        """
        scores, correct = self._by_label(pairs)
        return {"best_micro_f1": best_threshold(scores, correct, sum(len(gold) for _, gold in pairs))[1]}

    def _separation(self, pairs: Sequence[tuple[Prediction, Label]]) -> dict[str, float]:
        """``auroc`` of the energy as a detector of rows whose label training never saw (out of scope); where there are
        no such rows and two classes, of the second class's probability. Empty where it is undefined.
        """
        numbers = [self.classes.index(gold) for _, gold in pairs]
        positives = [number is None for number in numbers]
        scores = [details_of(p, ClassDetails).energy or 0.0 for p, _ in pairs]
        if not any(positives) and len(self.labels) == 2:
            positives = [number == 1 for number in numbers]
            scores = [details_of(p, ClassDetails).probabilities[self.classes.values[1]] for p, _ in pairs]
        return {"auroc": auroc(scores, positives)} if any(positives) and not all(positives) else {}

    @property
    def mistake_kinds(self) -> Mapping[str, str]:
        return KINDS_OF_SEVERAL if self.multi_label else KINDS

    def mistakes(
        self, predictions: Sequence[Prediction], golds: Sequence[Any], figures: Figures
    ) -> Iterator[tuple[int, Mistake]]:
        rows = [
            (i, p.value, gold, details_of(p, ClassDetails).probabilities)
            for i, (p, gold) in enumerate(zip(predictions, golds, strict=True))
            if gold is not None
        ]
        return (mistakes_of_several if self.multi_label else class_mistakes)(rows, self.classes)

    # -- state ---------------------------------------------------------------------------------------------------------

    def answer_of(self, reading: Reading, choice: Any, *, counterpart: Counterpart) -> Answer:
        """choice: a label."""
        from polydetr.tasks.explained_rows import ClassAnswer

        return ClassAnswer.of(self, reading, choice)

    def learned(self) -> dict[str, Any]:
        return {
            "labels": list(self.classes.values),
            "words_missing": self.classes.words_missing,
            "multi_label": self.multi_label,
            "class_weights": self.class_weights,
            "threshold": self.threshold,
            "energy_threshold": self.energy_threshold,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.classes = Classes(self.target, tuple(state["labels"]), state["words_missing"])
        self.multi_label, self.class_weights = state["multi_label"], state["class_weights"]
        self.threshold, self.energy_threshold = state["threshold"], state["energy_threshold"]
