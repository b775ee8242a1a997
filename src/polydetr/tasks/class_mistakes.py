"""Which labels of rows are answered wrongly, and which of them may be wrong themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from polydetr.core.mistakes import Mistake
from polydetr.metrics.suspicion import class_thresholds, is_suspicious
from polydetr.tasks.classes import Classes, Label

KINDS: Mapping[str, str] = {
    "wrong label": "Rows answered with another label than theirs, the most confident first.",
    "unseen label": "Rows of a label that training never saw: no answer can be right. The most confident first.",
}
KINDS_OF_SEVERAL: Mapping[str, str] = {
    "label too many": "Labels answered that the row does not have, the most probable first.",
    "label missing": "Labels of the row that were not answered, the least probable first.",
    "unseen label": "Labels that training never saw: they cannot be answered.",
}
_SHOWN = 3

Rows = Sequence[tuple[int, Any, Any, Mapping[Label, float]]]
"""Number, answer, gold value and the probability of every label, of each row."""


def class_mistakes(rows: Rows, classes: Classes) -> Iterator[tuple[int, Mistake]]:
    """Of rows with one label each."""
    known = [(classes.index(gold), p) for _, _, gold, p in rows]
    thresholds = class_thresholds((i, p[classes.values[i]]) for i, p in known if i is not None)
    for row, answer, gold, probabilities in rows:
        if answer == gold:
            continue
        index, best = classes.index(gold), probabilities[answer]
        of_gold = 0.0 if index is None else probabilities[classes.values[index]]
        place, names = classes.index(answer), (classes.name(gold), classes.name(answer))
        yield (
            row,
            Mistake(
                kind="unseen label" if index is None else "wrong label",
                severity=best,
                gold=names[0],
                answer=names[1],
                labels=names,
                confidence=best,
                suspicious=index is not None
                and is_suspicious(thresholds, of_label=of_gold, answer=place, of_answer=best),
                scores=_highest(probabilities, classes, also=None if index is None else classes.values[index]),
            ),
        )


def mistakes_of_several(rows: Rows, classes: Classes) -> Iterator[tuple[int, Mistake]]:
    """Of rows with several labels: each label that is answered and not there, or there and not answered.

    To have a label and not to have it are two classes, each with a threshold of its own.
    """
    thresholds = class_thresholds(
        ((label, label in gold), p if label in gold else 1 - p)
        for _, _, gold, probabilities in rows
        for label, p in probabilities.items()
    )
    for row, answer, gold, probabilities in rows:
        own = ", ".join(map(classes.name, gold))
        for label in sorted({*answer, *gold} - ({*answer} & {*gold}), key=str):
            unseen = classes.index(label) is None
            p = 0.0 if unseen else probabilities[label]
            sure = p if label in answer else 1 - p
            kind = "unseen label" if unseen else "label too many" if label in answer else "label missing"
            yield (
                row,
                Mistake(
                    kind=kind,
                    severity=sure,
                    gold=own,
                    answer=", ".join(map(classes.name, answer)),
                    labels=(classes.name(label),),
                    confidence=sure,
                    suspicious=not unseen
                    and is_suspicious(thresholds, of_label=1 - sure, answer=(label, label in answer), of_answer=sure),
                    scores=((classes.name(label), p),),
                ),
            )


def _highest(
    probabilities: Mapping[Label, float], classes: Classes, *, also: Label | None
) -> tuple[tuple[str, float], ...]:
    """The most probable labels, and the row's own."""
    best = sorted(probabilities, key=lambda label: -probabilities[label])[:_SHOWN]
    if also is not None and also not in best:
        best.append(also)
    return tuple((classes.name(label), float(probabilities[label])) for label in best)
