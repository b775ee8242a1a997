"""Which column is read as what, and which is predicted by which task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from polydetr.core.plugs import MODALITIES, TASKS
from polydetr.errors import SchemaError, did_you_mean
from polydetr.values.lists import ListColumn

IGNORE = "ignore"
"""The kind of a column that no modality reads."""


def column_kinds() -> tuple[str, ...]:
    """What a column may be read as: what the modalities take, those of outside packages among them."""
    return (*(kind for modality in MODALITIES.values() for kind in sorted(modality.reads)), IGNORE)


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """An input column and how it is read; "ignore": known, and left out."""

    name: str
    modality: str

    def __post_init__(self) -> None:
        # One after the other, so that only the modalities up to the one that reads the column are imported.
        if self.modality != IGNORE and not any(self.modality in kind.reads for kind in MODALITIES.values()):
            hint = did_you_mean(self.modality, column_kinds())
            raise SchemaError(f"column {self.name!r}: unknown modality {self.modality!r}.", hint=hint)


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """A column to predict and the task that does it."""

    name: str
    task: str

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise SchemaError(f"target {self.name!r}: unknown task {self.task!r}.", hint=did_you_mean(self.task, TASKS))


@dataclass(frozen=True, slots=True)
class Schema:
    """Inputs in their reading order, targets, and messages to the user about how they were chosen ("notes" in JSON).

    lists: the columns that hold lists, and how text writes them.
    """

    inputs: tuple[FieldSpec, ...]
    targets: tuple[TargetSpec, ...]
    messages: tuple[str, ...] = field(default=(), compare=False)
    lists: Mapping[str, ListColumn] = field(default_factory=dict)

    def names(self, modality: str) -> list[str]:
        """The input columns of one modality, in order."""
        return [f.name for f in self.inputs if f.modality == modality]

    def to_dict(self) -> dict[str, Any]:
        return {
            "inputs": [{"name": f.name, "modality": f.modality} for f in self.inputs],
            "targets": [{"name": t.name, "task": t.task} for t in self.targets],
            "notes": list(self.messages),
            "lists": {name: column.to_dict() for name, column in self.lists.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Schema:
        """Raises SchemaError where a key is missing or of another kind."""
        try:
            inputs = tuple(FieldSpec(f["name"], f["modality"]) for f in data["inputs"])
            targets = tuple(TargetSpec(t["name"], t["task"]) for t in data["targets"])
            lists = {
                name: ListColumn(column["form"], tuple(column["places"]), bool(column["empty"]))
                for name, column in data.get("lists", {}).items()
            }
            return cls(inputs, targets, tuple(data.get("notes", ())), lists)
        except (KeyError, TypeError, AttributeError) as error:
            raise SchemaError(f"not a schema: {error!r}. Expected inputs, targets and notes.") from None
