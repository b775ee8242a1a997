"""One row, explained: predict, attribute, check by deletion, look at the attention."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from polydetr.batch import Arrays, Batch, Example
from polydetr.data.records import Record
from polydetr.encoding import EncodedDocument
from polydetr.errors import InputError, Location, RowError, did_you_mean
from polydetr.explain.answers import Answer, Reading, ValueAnswer, answer_of
from polydetr.explain.attention import attention_between_words, attention_layers, rollout
from polydetr.explain.deletion import deletion_check
from polydetr.explain.gradients import Attribution, TextPath, integrated_gradients
from polydetr.explain.result import ROLLOUT, ExplainedWord, Explanation
from polydetr.explain.words import TokenWords, Words
from polydetr.inference import Engine
from polydetr.layout import FieldText, Layout, Row
from polydetr.modalities.text import TextModality
from polydetr.model import PolyModel
from polydetr.tasks.base import Prediction, Task

ATTENTION_WORDS = 256
"""Beyond so many words the table of attention is left out: it grows with their square."""


def explain_record(
    engine: Engine,
    record: Record,
    *,
    target: str | None = None,
    choice: str | int | None = None,
    draws: int = 10,
    seed: int = 0,
) -> Explanation:
    """Why the model answers ``target`` (the only one, or the first) as it does for this row, read alone.

    choice: another label to explain (classification), or the number of an entity, from 0 (tagging; the surest when
    not given).
    draws: how often random words are deleted, for the check. All is computed in float32, whatever precision the model
    serves in.

    Raises:
        InputError: there is no such target or choice, or the model does not read text.
        RowError: the row cannot be read, or has no word.
    """
    task = _task(engine, target)
    modality = engine.encoder.modalities.get("text")
    if not isinstance(modality, TextModality):
        raise InputError("this model reads no text; only answers to text can be explained")
    engine = Engine(_float32(engine.model), engine.encoder, engine.tasks)
    document = engine.encoder.encode([record], with_targets=False)
    words = Words(record.row, modality.fields)
    if not len(words):
        raise RowError("the text has no word: there is nothing to explain", location=record.location)
    (reading,) = _read(engine, task, [record.row], record.location)
    answer = answer_of(task, reading, choice)
    windows = [
        words.of_window(layout, example.groups["text"]["input_ids"], modality.backbone.sep_id)
        for layout, example in zip(reading.layouts, document.examples, strict=True)
    ]
    attribution = _attribute(engine.model, document, windows, task, answer, pad_id=modality.backbone.pad_id)
    scores = np.zeros(len(words))
    for tokens, found in zip(windows, attribution.scores, strict=True):
        np.add.at(scores, tokens.word, tokens.share * found[tokens.token])
    seen = sorted({int(w) for tokens in windows for w in tokens.word})
    deletion = None
    if answer.probability(reading) >= answer.floor:
        deletion = deletion_check(
            lambda rows: _read(engine, task, rows, record.location),
            record.row, words, answer, scores=scores, seen=seen, draws=draws, seed=seed,
        )  # fmt: skip
    attention, notes = _attention(engine.model, document, windows, len(words))
    return Explanation(
        target=task.target,
        task=task.kind,
        prediction=reading.prediction.value,
        answer=answer.shown,
        quantity=answer.quantity,
        value=attribution.value,
        baseline=attribution.baseline,
        completeness_error=abs(float(scores.sum()) - (attribution.value - attribution.baseline)),
        is_complete=attribution.is_complete,
        words=_explained(words, scores, {words.number(i) for i in answer.words}),
        deletion=deletion,
        attention=attention,
        notes=(
            *map(str, document.warnings),
            *notes,
            *_remarks(answer, attribution, deletion, answer.probability(reading)),
        ),
    )


def _task(engine: Engine, target: str | None) -> Task:
    if target is None:
        return next(iter(engine.tasks.values()))
    if target not in engine.tasks:
        raise InputError(f"the model has no target {target!r}. {did_you_mean(target, engine.tasks)}")
    return engine.tasks[target]


def _float32(model: PolyModel) -> PolyModel:
    """The model itself where it computes in float32, else a copy that does."""
    if all(p.dtype == torch.float32 for p in model.parameters()) and not model.training:
        return model
    return copy.deepcopy(model).float().eval()


class _Listener:
    """Stands in for a task in the engine, and hands on the raw outputs beside what the task makes of them."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def decode(
        self, outputs: Sequence[Arrays], layouts: Sequence[Layout | None], texts: Sequence[FieldText], num_rows: int
    ) -> list[Prediction]:
        (prediction,) = self.task.decode(outputs, layouts, texts, num_rows)
        reading = Reading(prediction, outputs, [layout for layout in layouts if layout is not None], texts[0])
        return [Prediction(None, None, {"reading": reading})]


def _read(engine: Engine, task: Task, rows: Sequence[Row], location: Location) -> list[Reading]:
    """What the model says to each row, in one run of the path that every prediction takes."""
    listening = Engine(engine.model, engine.encoder, {task.target: cast(Task, _Listener(task))})
    records = (Record(row, location) for row in rows)
    return [result.predictions[task.target].details["reading"] for result in listening.run(records)]


def _attribute(
    model: PolyModel,
    document: EncodedDocument,
    windows: Sequence[TokenWords],
    task: Task,
    answer: Answer,
    *,
    pad_id: int,
) -> Attribution:
    device = next(model.parameters()).device
    blank = [_blanked(e, tokens, pad_id=pad_id) for e, tokens in zip(document.examples, windows, strict=True)]
    batch, blanks = Batch.collate(document.examples).to(device), Batch.collate(blank).to(device)
    path = TextPath(model, batch, target=task.target, score=answer.score, blank=blanks)
    return integrated_gradients(path.value_and_gradient, path.x, path.baseline, at_once=path.at_once)


def _blanked(example: Example, tokens: TokenWords, *, pad_id: int) -> Example:
    """The same window with every word blanked: [PAD] in its place, and no word shape."""
    text = dict(example.groups["text"])
    fill: Mapping[str, int] = {"input_ids": pad_id, "shape_ids": 0}
    for name, value in fill.items():
        if name in text:
            text[name] = np.where(tokens.special, text[name], np.array(value, dtype=text[name].dtype))
    return Example({**example.groups, "text": text}, {}, example.weight)


def _attention(
    model: PolyModel, document: EncodedDocument, windows: Sequence[TokenWords], count: int
) -> tuple[dict[str, Any], list[str]]:
    """Tables between words by part of the model, and what is to be said about those that are missing."""
    if count > ATTENTION_WORDS:
        return {}, [f"Attention is not shown: {count} words, and the table is made for up to {ATTENTION_WORDS}."]
    device = next(model.parameters()).device
    tables: dict[str, list[np.ndarray]] = {}
    for example in document.examples:
        layers = attention_layers(model, Batch.collate([example]).to(device))
        rolled: dict[str, Tensor] = {name: rollout(part) for name, part in layers.items()}
        if layers:
            rolled[ROLLOUT] = rollout([weights for part in layers.values() for weights in part])
        for name, table in rolled.items():
            tables.setdefault(name, []).append(table[0].cpu().numpy())
    notes = []
    if not hasattr(model.embedders["text"].backbone, "layers"):
        notes.append("Attention inside this backbone is not shown: only BERT-like backbones can be looked into.")
    return {name: attention_between_words(parts, windows, count) for name, parts in tables.items()}, notes


def _explained(words: Words, scores: np.ndarray, in_answer: set[int]) -> tuple[ExplainedWord, ...]:
    return tuple(
        ExplainedWord(p.field, p.start, p.end, p.text, float(score), i in in_answer)
        for i, (p, score) in enumerate(zip(words.places, scores, strict=True))
    )


def _remarks(answer: Answer, attribution: Attribution, deletion: object, probability: float) -> list[str]:
    notes = []
    if probability < answer.floor:
        notes.append(
            "The model is hardly surer of this answer than chance: do not rely on this attribution. "
            "Nothing was deleted."
        )
    elif deletion is None:
        notes.append("The deletion check needs two words beside the answer; there are fewer.")
    elif isinstance(answer, ValueAnswer):
        notes.append(
            "A number has no probability: the deletion check counts the likelihood of the number relative to "
            "the whole text's, under a normal distribution as wide as the training values."
        )
    elif answer.words:
        notes.append("The words of the answer itself are never deleted.")
    if not attribution.is_complete:
        off = abs(attribution.value - attribution.baseline)
        notes.append(f"The scores miss their sum by {attribution.error:.3g} of {off:.3g}: take small ones with care.")
    return notes
