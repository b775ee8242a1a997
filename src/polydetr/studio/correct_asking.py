"""The model's answers to the rows of a queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from polydetr.serving.asking import replies_patiently
from polydetr.serving.contract import Ask
from polydetr.serving.rows import Columns
from polydetr.studio.correct_queue import Case
from polydetr.studio.correction_values import TargetForm
from polydetr.studio.pages import View

AT_ONCE = 64
"""Rows that are asked at once."""
_FEW_LABELS = 200
"""Up to so many, the probability of each is asked, to offer the most probable first."""
_PATIENCE_S = 600.0


async def answer(view: View, forms: Mapping[str, TargetForm], cases: Sequence[Case]) -> None:
    """Has these rows answered by the model as it is now. Raises what ``Fleet.answer`` raises."""
    info = view.info
    few = any(0 < len(form.labels) <= _FEW_LABELS for form in forms.values())
    replies = await replies_patiently(
        view.studio.fleet, info.name, [case.row for case in cases], Ask(probabilities=few),
        columns=Columns.of(info), timeout_s=view.studio.limits.timeout_s, first=1, patience_s=_PATIENCE_S,
    )  # fmt: skip
    for case, reply in zip(cases, replies, strict=True):
        case.reply, case.info = reply, info


def parts(cases: Sequence[Case], first: str) -> list[list[Case]]:
    """Those that were not asked yet, a part at a time; ``first``: the key of the one that is shown at once."""
    wanted = sorted((case for case in cases if case.reply is None), key=lambda case: case.key != first)
    return [wanted[i : i + AT_ONCE] for i in range(0, len(wanted), AT_ONCE)]
