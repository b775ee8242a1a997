"""A correction: what a person says is right for one row and one target of a served model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from polydetr.errors import InputError, quoted
from polydetr.studio.correction_values import TargetForm

Kind = Literal["confirmed", "repaired", "withdrawn"]
"""Withdrawn: the first correction of a row was undone; such a state is history, and no training row."""


@dataclass(frozen=True)
class Correction:
    """One revision of what is right for a row.

    id: made by whoever saves, so that saving again does not double it. version: the seal of the model that was
    corrected. row: its inputs, images as bytes; row_key: what names them. answer: what the model said, {"prediction",
    "probability"}. value: as ``correction_values.check`` gives it; None where it was withdrawn. person, at: who, and
    when (UTC). revision: from 1, per model, row and target. undoes: the id of the revision that this one takes back.
    """

    id: str
    model: str
    version: str
    row: Mapping[str, Any]
    row_key: str
    target: str
    form: TargetForm
    answer: Mapping[str, Any]
    value: Any
    kind: Kind
    person: str
    at: datetime
    revision: int
    undoes: str | None = None


class Conflict(InputError):
    """Somebody else saved another value for the same row in between; ``theirs`` is what stands there now."""

    def __init__(self, theirs: Correction) -> None:
        self.theirs = theirs
        said = "withdrew the correction of" if theirs.kind == "withdrawn" else f"said {quoted(theirs.value, 80)} of"
        super().__init__(
            f"{theirs.person} {said} this row's {quoted(theirs.target, 40)} at {theirs.at:%Y-%m-%d %H:%M:%S} UTC.",
            hint="Look at it, then save yours over it, or leave it.",
        )
