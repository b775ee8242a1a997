"""One row, explained: predict, attribute, check by deletion, ask without each column, look at the attention."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from polydetr.core.examples import Example
from polydetr.core.records import Record
from polydetr.engine.engine import Engine
from polydetr.explain.attention import attention_between_words, attention_layers, rollout
from polydetr.explain.case import Case
from polydetr.explain.deletion import deletion_check
from polydetr.explain.gradients import Attribution, JointPath, integrated_gradients
from polydetr.explain.occlusion import occlusion
from polydetr.explain.result import ROLLOUT, ExplainedWord, Explanation
from polydetr.explain.sources import sources_of
from polydetr.heads.explained import Answer
from polydetr.modalities.units import ReadsWords, Scores
from polydetr.model.model import PolyModel

ATTENTION_WORDS = 256
"""Beyond so many words the table of attention is left out: it grows with their square."""


def explain_record(
    engine: Engine,
    record: Record,
    *,
    target: str | None = None,
    choice: Any = None,
) -> Explanation:
    """Why the model answers ``target`` as it does for this row, read alone; when it is not given, the first that can be
    explained.

    choice: another label to explain (classification); the number of an entity or object, from 0 (tagging, entities,
    detection; the highest-scoring when not given); what the row is compared with, in place of the target's own value
    (embedding).

    All is computed in float32, whatever precision the model serves in. A model that does not compute by PyTorch has no
    gradients and shows no attention: its answers are explained by occlusion.

    Raises:
        InputError: there is no such target or choice, or its task has no explanation.
        RowError: the row cannot be read, or has no word where the model reads text alone.
    """
    case = Case.of(engine, record, target=target, choice=choice)
    answer, units = case.answer, case.units
    attribution, scores = _attribute(case)
    deletion = None
    if case.is_confident:
        deletion = deletion_check(case.read, record.row, units, answer, scores=scores)
    attention, notes = ({}, []) if case.is_mixed or case.model is None else _attention(case, case.model)
    if target is None and len(engine.tasks) > 1:
        others = ", ".join(name for name in engine.tasks if name != case.task.target)
        notes.append(f"The model also answers {others}: name a target to have it explained.")
    return Explanation(
        target=case.task.target,
        task=case.task.kind,
        prediction=case.reading.prediction.value,
        answer=answer.shown,
        quantity=answer.quantity if case.gradients else answer.level_name,
        method="integrated gradients" if case.gradients else "occlusion",
        value=attribution.value,
        baseline=attribution.baseline,
        completeness_error=abs(float(scores.sum()) - (attribution.value - attribution.baseline)),
        is_complete=attribution.is_complete,
        words=() if units.text is None else _words(units.text, units.split(scores)[units.text.group], answer),
        deletion=deletion,
        measure=answer.measure,
        attention=attention,
        notes=(*map(str, case.document.warnings), *notes, *_notes(case, attribution, checked=deletion is not None)),
        original=answer.level(case.reading),
        **sources_of(case, scores),
    )


def _attribute(case: Case) -> tuple[Attribution, Scores]:
    """The attribution of the answer, and the score of every unit."""
    if case.gradients is None:
        lost = occlusion(case.read, case.record.row, case.units, case.answer)
        return lost, lost.scores
    model, answer = case.gradients
    parts, examples = case.units.parts, case.document.examples

    def blanked(window: int, example: Example) -> Example:
        blank = {part.group: part.blank(example.groups[part.group], window) for part in parts}
        return replace(example, groups={**example.groups, **blank})

    path = JointPath(
        model,
        case.batch(model),
        blank=case.batch(model, [blanked(window, example) for window, example in enumerate(examples)]),
        entries={part.group: model.embedder_of(part.group).entry() for part in parts},
        target=case.task.target,
        score=answer.score,
    )
    attribution = integrated_gradients(path.value_and_gradient, path.x, path.baseline, at_once=path.at_once)
    by_group = path.by_group(attribution.scores)
    return attribution, np.concatenate([part.scores(by_group[part.group]) for part in parts])


def _attention(case: Case, model: PolyModel) -> tuple[dict[str, Any], list[str]]:
    """The attention between words (W, W) by part of the model, and notes about tables that are missing."""
    text = case.units.text
    assert text is not None
    count, is_known = len(text), True
    if count > ATTENTION_WORDS:
        return {}, [f"Attention is not shown: {count} words, and the table is made for up to {ATTENTION_WORDS}."]
    tables: dict[str, list[np.ndarray]] = {}
    for example in case.document.examples:
        layers, is_known = attention_layers(model, case.batch(model, [example]), group=text.group)
        rolled: dict[str, Tensor] = {name: rollout(part) for name, part in layers.items()}
        if layers:
            rolled[ROLLOUT] = rollout([weights for part in layers.values() for weights in part])
        for name, table in rolled.items():
            tables.setdefault(name, []).append(table[0].cpu().numpy())
    notes = []
    if not is_known:
        notes.append("Attention inside this backbone is not shown: only BERT-like backbones can be looked into.")
    return {name: attention_between_words(parts, text.windows, count) for name, parts in tables.items()}, notes


def _words(text: ReadsWords, scores: Scores, answer: Answer) -> tuple[ExplainedWord, ...]:
    in_answer = {text.number(i) for i in answer.words}
    return tuple(
        ExplainedWord(p.field, p.start, p.end, p.text, float(score), i in in_answer, p.before)
        for i, (p, score) in enumerate(zip(text.places, scores, strict=True))
    )


def _notes(case: Case, attribution: Attribution, *, checked: bool) -> list[str]:
    """Notes about the deletion check, and about the sum of the scores."""
    notes = [case.answer.remark] if case.answer.remark else []
    if not case.is_confident:
        notes.append(
            "The model is hardly more confident of this answer than chance: do not rely on this attribution. "
            "Nothing was deleted."
        )
    elif not checked:
        needed = "two units (words, cells, columns or items)" if case.is_mixed else "two words beside the answer"
        notes.append(f"The deletion check needs {needed}; there are fewer.")
    elif case.answer.words:
        notes.append("The words of the answer itself are never deleted.")
    if case.model is None:
        notes.append("No gradients: the model does not compute by PyTorch. A part scores what is lost without it.")
    if case.gradients and not attribution.is_complete:
        off = abs(attribution.value - attribution.baseline)
        notes.append(f"The scores miss their sum by {attribution.error:.3g} of {off:.3g}: take small ones with care.")
    return notes
