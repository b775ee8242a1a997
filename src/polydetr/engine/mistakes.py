"""The worst mistakes of rows that were answered with their labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from polydetr.core.mistakes import Mistake, Mistakes, ShownMistake, Worst
from polydetr.core.predictions import Evaluation, RowResult
from polydetr.core.records import Record
from polydetr.engine.answered_rows import answered_rows
from polydetr.engine.engine import Engine
from polydetr.errors import RowError, shown
from polydetr.modalities.text import TextModality, as_text
from polydetr.tasks.capabilities import HasPositive, ShowsMistakes

OnMistake = Callable[[str, RowResult, Mistake], None]
"""Is told each mistake that was made: the target, the row, what is wrong."""
SAMPLES = 20
_LONGEST = 2000
"""Characters of another column that are shown."""


def with_mistakes(
    engine: Engine,
    results: Sequence[RowResult],
    evaluations: Mapping[str, Evaluation],
    *,
    most: int = 60,
    told: OnMistake = lambda target, result, mistake: None,
) -> dict[str, Evaluation]:
    """The evaluations with the worst mistakes among ``results``, the rows that they measured; ``most`` of each kind
    (see ``core.mistakes.Worst``), where the task can show any; with samples of the rows.
    told: of all of them.
    """
    samples = tuple(results[:: -(-len(results) // SAMPLES) or 1])
    with_samples = {target: replace(e, samples=samples) for target, e in evaluations.items()}
    return {target: _with_mistakes(engine, target, results, e, most, told) for target, e in with_samples.items()}


def _with_mistakes(
    engine: Engine, target: str, results: Sequence[RowResult], evaluation: Evaluation, most: int, told: OnMistake
) -> Evaluation:
    task = engine.tasks[target]
    if not isinstance(task, ShowsMistakes):
        return evaluation
    golds = [result.golds[target] for result in results]
    worst = Worst(most=most)
    wrong: set[int] = set()
    for row, mistake in task.mistakes([r.predictions[target] for r in results], golds, evaluation.figures):
        worst.add(row, mistake)
        wrong.add(row)
        told(target, results[row], mistake)
    found = Mistakes(
        rows=sum(gold is not None for gold in golds),
        kinds=task.mistake_kinds,
        counts={kind: worst.counts[kind] for kind in task.mistake_kinds},
        suspicious=worst.suspicious,
        shown={
            kind: [_shown(engine, target, results, row, mistake) for row, mistake in worst.of(kind)]
            for kind in task.mistake_kinds
        },
        classes={kind: len(worst.labels[kind]) for kind in task.mistake_kinds},
    )
    return replace(
        evaluation, mistakes=found, data={**evaluation.data, "mistakes": found.to_dict()},
        rows=answered_rows(engine, target, results, wrong),
    )  # fmt: skip


def _shown(engine: Engine, target: str, results: Sequence[RowResult], row: int, mistake: Mistake) -> ShownMistake:
    result = results[row]
    record, text = result.record, result.text.text if result.text is not None else ""
    if isinstance(engine.tasks[target], HasPositive) and mistake.instead is not None:
        own, other = (r.row.get(target) for r in (record, results[mistake.instead].record))
        mistake = replace(mistake, gold=shown(own, _LONGEST), answer=shown(other, _LONGEST))
    return ShownMistake(mistake, record, text, tuple(_columns(engine, record, marked=bool(text))))


def _columns(engine: Engine, record: Record, *, marked: bool) -> Iterator[tuple[str, str]]:
    """The row's inputs but its images and, where it is shown apart, the text that answers point into."""
    for name, modality in engine.encoder.modalities.items():
        fields = modality.fields[:-1] if marked and isinstance(modality, TextModality) else modality.fields
        for field in fields if name != "image" else ():
            value = record.row.get(field)
            if isinstance(modality, TextModality):
                try:
                    value = as_text(value, field=field).text
                except RowError:
                    value = None
            yield field, "" if value is None else value[:_LONGEST] if isinstance(value, str) else shown(value, 300)
