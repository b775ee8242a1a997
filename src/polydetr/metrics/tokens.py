"""The token table: precision, recall and F1 of every tag, ``O`` included.

Most tokens are ``O``, so the micro average looks better than the tagger is: read it beside the entity report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from polydetr.errors import InputError, Location, RowError
from polydetr.metrics.classification import ClassReport, classification_report

_PREFIX_ORDER = {prefix: i for i, prefix in enumerate("BIMESLU")}


def token_report(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> ClassReport:
    """Token-level scores over all sentences; equal to ``sklearn.metrics.classification_report`` on the flattened tags.

    gold, predicted: one sequence of tags per sentence, of equal lengths. The rows are B-LOC, I-LOC, B-MISC, ..., O; the
    foot has the micro, macro and weighted averages (micro F1 = token accuracy).

    Raises:
        InputError: different numbers of sentences, or no token at all.
        RowError: one sentence has more or fewer predicted tags than gold ones; says which.
    """
    if len(gold) != len(predicted):
        raise InputError(
            f"{len(gold)} gold sentences but {len(predicted)} predicted: give one tag sequence for each sentence."
        )
    for i, (g, p) in enumerate(zip(gold, predicted, strict=True)):
        if len(g) != len(p):
            raise RowError(
                f"{len(g)} gold tags but {len(p)} predicted: the token table needs one tag for each token.",
                location=Location(row=i + 1),
            )
    flat_gold, flat_predicted = list(chain.from_iterable(gold)), list(chain.from_iterable(predicted))
    labels = sorted({*flat_gold, *flat_predicted}, key=tag_order)
    report = classification_report(flat_gold, flat_predicted, labels=labels)
    return replace(report, footer=("micro avg", "macro avg", "weighted avg"))


def tag_order(tag: str) -> tuple[bool, str, int, str]:
    """Sorts by type, then by place in the entity (B before I); ``O`` comes last."""
    prefix, _, kind = tag.partition("-")
    return (tag == "O", kind or tag, _PREFIX_ORDER.get(prefix, len(_PREFIX_ORDER)), tag)
