"""One row, explained: predict, attribute, check by deletion, ask without each column, look at the attention."""

from __future__ import annotations

from typing import Any

from polydetr.core.records import Record
from polydetr.engine.engine import Engine
from polydetr.explain.attribution import Attribution
from polydetr.explain.case import Case
from polydetr.explain.deletion import deletion_check
from polydetr.explain.occlusion import occlusion
from polydetr.explain.result import ExplainedWord, Explanation
from polydetr.explain.sources import sources_of
from polydetr.modalities.units import ReadsWords, Scores
from polydetr.tasks.explained import Answer


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

    A model that computes by PyTorch is looked into in float32, whatever precision it serves in. Any other has no
    gradients and shows no attention: its answers are explained by occlusion, through ``Engine.outputs``.

    Raises:
        InputError: there is no such target or choice, or its task has no explanation.
        RowError: the row cannot be read, or has no word where the model reads text alone.
    """
    case = Case.of(engine, record, target=target, choice=choice)
    answer, units = case.answer, case.units
    attribution, scores, smooth = _attribute(case)
    deletion = None
    if case.is_confident:
        deletion = deletion_check(case.read, record.row, units, answer, scores=scores)
    attention, notes = ({}, []) if case.is_mixed or case.insides is None else case.insides.between_words(case)
    if target is None and len(engine.tasks) > 1:
        others = ", ".join(name for name in engine.tasks if name != case.task.target)
        notes.append(f"The model also answers {others}: name a target to have it explained.")
    return Explanation(
        target=case.task.target,
        task=case.task.kind,
        prediction=case.reading.prediction.value,
        answer=answer.shown,
        quantity=answer.quantity if smooth else answer.level_name,
        method="integrated gradients" if smooth else "occlusion",
        value=attribution.value,
        baseline=attribution.baseline,
        completeness_error=abs(float(scores.sum()) - (attribution.value - attribution.baseline)),
        is_complete=attribution.is_complete,
        words=() if units.text is None else _words(units.text, units.split(scores)[units.text.group], answer),
        deletion=deletion,
        measure=answer.measure,
        attention=attention,
        notes=(
            *map(str, case.document.warnings),
            *notes,
            *_notes(case, attribution, smooth=smooth, checked=deletion is not None),
        ),
        original=answer.level(case.reading),
        **sources_of(case, scores),
    )


def _attribute(case: Case) -> tuple[Attribution, Scores, bool]:
    """The attribution of the answer, the score of every unit, and whether gradients gave them."""
    if case.insides is not None and (found := case.insides.attributed(case)):
        return *found, True
    lost = occlusion(case.read, case.record.row, case.units, case.answer)
    return lost, lost.scores, False


def _words(text: ReadsWords, scores: Scores, answer: Answer) -> tuple[ExplainedWord, ...]:
    in_answer = {text.number(i) for i in answer.words}
    return tuple(
        ExplainedWord(p.field, p.start, p.end, p.text, float(score), i in in_answer, p.before)
        for i, (p, score) in enumerate(zip(text.places, scores, strict=True))
    )


def _notes(case: Case, attribution: Attribution, *, smooth: bool, checked: bool) -> list[str]:
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
    if case.insides is None:
        notes.append("No gradients: the model does not compute by PyTorch. A part scores what is lost without it.")
    if smooth and not attribution.is_complete:
        off = abs(attribution.value - attribution.baseline)
        notes.append(f"The scores miss their sum by {attribution.error:.3g} of {off:.3g}: take small ones with care.")
    return notes
