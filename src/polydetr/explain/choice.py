"""Which answer is explained: the one that was given, or another that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polydetr.errors import InputError, did_you_mean
from polydetr.explain.answers import (
    Answer,
    ClassAnswer,
    LikenessAnswer,
    Reading,
    SpanAnswer,
    TagAnswer,
    ValueAnswer,
    owning_tokens,
)
from polydetr.explain.objects import ObjectAnswer
from polydetr.tasks.base import Task
from polydetr.tasks.classification import ClassDetails, ClassificationTask
from polydetr.tasks.detection import BoxDetails, DetectionTask
from polydetr.tasks.embedding import EmbeddingTask
from polydetr.tasks.qa import QuestionAnsweringTask
from polydetr.tasks.regression import RegressionTask
from polydetr.tasks.tagging import TagDetails, TaggingTask

EXPLAINED: tuple[type[Task], ...] = (
    ClassificationTask, RegressionTask, TaggingTask, QuestionAnsweringTask, DetectionTask, EmbeddingTask,
)  # fmt: skip
_CLEAR = 0.1
"""An object of a smaller score is hardly one."""


def chosen_task(tasks: Mapping[str, Task], target: str | None) -> Task:
    """The task of ``target``; when it is not given, the first that can be explained.

    Raises:
        InputError: there is no such target, or its task has no explanation.
    """
    if target is None:
        target = next((name for name, task in tasks.items() if isinstance(task, EXPLAINED)), next(iter(tasks)))
    if target not in tasks:
        raise InputError(f"the model has no target {target!r}. {did_you_mean(target, tasks)}")
    task = tasks[target]
    if not isinstance(task, EXPLAINED):
        kinds = ", ".join(kind.kind for kind in EXPLAINED)
        raise InputError(
            f"target {target!r} cannot be explained: the task {task.kind!r} has no explanation",
            hint=f"Explained are {kinds}.",
        )
    return task


def answer_of(
    task: Task, reading: Reading, choice: Any = None, *, counterpart: Callable[[], NDArray[np.floating]]
) -> Answer:
    """The predicted answer, or the one that ``choice`` names: a label (classification), or the number of an entity or
    object, from 0 (tagging, detection).

    counterpart: the vector that an embedding is compared with.

    Raises:
        InputError: the task has no such choice, or there is nothing to explain.
    """
    if isinstance(task, ClassificationTask):
        return _class_answer(task, reading, choice)
    if isinstance(task, TaggingTask):
        return _tag_answer(task, reading, choice)
    if isinstance(task, DetectionTask):
        return _object_answer(task, reading, choice)
    if isinstance(task, EmbeddingTask):
        vector = np.asarray(reading.prediction.value)
        other = counterpart()
        return LikenessAnswer(f"likeness to its counterpart ({float(vector @ other):.3f})", other)
    if choice is not None:
        raise InputError(f"choice={choice!r} means nothing for the task {task.kind!r}", hint="Leave it out.")
    if isinstance(task, RegressionTask):
        value = float(reading.prediction.value)
        return ValueAnswer(f"{value:.4g}", value, task.mean, task.std)
    assert isinstance(task, QuestionAnsweringTask), task.kind
    return _span_answer(task, reading)


def _numbered(choice: Any, count: int, name: str) -> int | None:
    """The number of an entity or object that ``choice`` means; the command line gives it as text."""
    if choice is None:
        return None
    number = int(choice) if isinstance(choice, str) and choice.isdecimal() else choice
    if not (isinstance(number, int) and 0 <= number < count):
        raise InputError(f"choice={choice!r}: this row has {count} {name}", hint="Name one by its number, from 0.")
    return number


def _class_answer(task: ClassificationTask, reading: Reading, choice: Any) -> ClassAnswer:
    details = reading.prediction.details
    assert isinstance(details, ClassDetails)
    probabilities = details.probabilities
    if choice is not None and choice not in probabilities:
        raise InputError(f"{choice!r} is not a label of {task.target!r}. {did_you_mean(str(choice), probabilities)}")
    label = str(choice) if choice is not None else max(probabilities, key=lambda name: probabilities[name])
    p = probabilities[label]
    shown = f"{label} ({p:.1%})" if not task.multi_label or p >= task.threshold else f"{label} ({p:.1%}, not given)"
    chance = 0.5 if task.multi_label else 1 / len(task.labels)
    floor = chance + 0.3 * (1 - chance) if choice is None else 0.0
    return ClassAnswer(shown, task.labels.index(label), task.temperature, task.multi_label, floor)


def _tag_answer(task: TaggingTask, reading: Reading, choice: Any) -> TagAnswer:
    entities: list[dict[str, Any]] = reading.prediction.value
    details = reading.prediction.details
    assert isinstance(details, TagDetails)
    number = _numbered(choice, len(entities), "entities")
    if entities:
        chosen = entities[number] if number is not None else max(entities, key=lambda e: e["probability"])
        words = [i for i, (a, b) in enumerate(reading.text.words) if a < chosen["end"] and b > chosen["start"]]
        shown = f"{chosen['text']} = {chosen['label']} ({chosen['probability']:.1%})"
    else:  # why is there none? The word that came nearest to one tells
        sure = details.word_probability
        words = [int(np.argmin(sure))]
        start, end = reading.text.words[words[0]]
        shown = f"no entity; nearest: {reading.text.text[start:end]} = O ({sure[words[0]]:.1%})"
    labels = tuple(task.labels.index(details.tags[i]) for i in words)
    return TagAnswer(shown, tuple(words), labels, task.temperature, tuple(owning_tokens(reading.layouts, words)))


def _span_answer(task: QuestionAnsweringTask, reading: Reading) -> SpanAnswer:
    value, probability = reading.prediction.value, reading.prediction.probability or 0.0
    if value["start"] is None:
        answer = SpanAnswer(f"no answer ({probability:.1%})", (), (0, 0), task.temperature, (0, 0, 0))
        return replace(answer, at=min(answer.places(reading))[1])
    words = [i for i, (a, b) in enumerate(reading.text.words) if a < value["end"] and b > value["start"]]
    edges = (value["start"] - reading.text.words[words[0]][0], value["end"] - reading.text.words[words[-1]][0])
    answer = SpanAnswer(f"{value['text']} ({probability:.1%})", tuple(words), edges, task.temperature, (0, 0, 0))
    return replace(answer, at=max(answer.places(reading))[1])


def _object_answer(task: DetectionTask, reading: Reading, choice: Any) -> ObjectAnswer:
    found, details = reading.prediction.value, reading.prediction.details
    assert isinstance(details, BoxDetails)
    if not details.all:
        raise InputError("the row has no picture: there is no object to explain")
    number = _numbered(choice, len(found), "objects") or 0
    # Objects that are found, and all that were looked at, both begin with the highest-scoring.
    label, score = details.all[number]["label"], float(details.all[number]["score"])
    _, _, boxes = task.highest_scoring(reading.outputs[0]["logits"][-1], reading.outputs[0]["boxes_cxcywh"][-1])
    shown = f"{label} ({score:.1%})" if found else f"no object; nearest: {label} ({score:.1%})"
    if len(found) > 1:
        shown += f", object {number + 1} of {len(found)}"
    left, top, right, bottom = map(float, boxes[number])
    return ObjectAnswer(
        shown,
        label=task.labels.index(label),
        box=(left, top, right, bottom),
        softmax=task.options.architecture == "detr",
        floor=_CLEAR if choice is None else 0.0,
    )
