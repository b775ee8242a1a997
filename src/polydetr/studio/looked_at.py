"""What ``polydetr inspect`` says of a file, as data for a page: columns, how they would be read, labels, cautions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polydetr.data.inspect import inspect_data
from polydetr.data.statistics import shorten
from polydetr.errors import DataFileError, bounded, shown
from polydetr.schema.spec import IGNORE
from polydetr.web.components.number_text import number_text

MOST_COLUMNS = 300
_LABELS, _LINE = 12, 300
_NO_TARGET = "No column to predict was named"
"""Which a page asks for itself."""


@dataclass(frozen=True)
class Column:
    """kind: the modality by which it is read, "→ TASK" of a target, "ignore". distinct: as text, "200,000+"."""

    name: str
    kind: str
    missing: int
    distinct: str
    example: str


@dataclass(frozen=True)
class LookedAt:
    """targets: those that are guessed, or were named; labels: target → its labels or numbers in a line; findings: a
    sentence for each thing to be careful with, the gravest first.
    """

    rows: int
    columns: Sequence[Column]
    targets: Sequence[str]
    labels: Mapping[str, str]
    findings: Sequence[str]


def look_at(file: Path, targets: Sequence[str] | None = None) -> LookedAt:
    """Reads the file once. Blocks. It does not look for doubtful labels, which takes half a minute.

    Raises:
        DataFileError, SchemaError: it cannot be read, in the words of its reader.
    """
    if file.suffix.lower() in (".yaml", ".yml"):
        raise DataFileError(
            f"{file.name!r} is a configuration, expected rows.", hint="Send a table of rows, such as CSV."
        )
    inspection = inspect_data(str(file), target=list(targets) if targets else None, suspicious=False)
    from polydetr.data.inspect_view import findings  # brings what draws tables on a terminal

    schema, split = inspection.schema, inspection.splits["train"]
    kinds = {f.name: f.modality for f in schema.inputs} | {t.name: f"→ {t.task}" for t in schema.targets}
    columns = []
    for name, stats in list(split.columns.items())[:MOST_COLUMNS]:
        info = stats.to_dict()
        distinct = f"{info['distinct']:,}{'+' if info['distinct_capped'] else ''}"
        example = info["examples"][0] if info["examples"] else ""
        columns.append(Column(name, kinds.get(name, IGNORE), stats.missing, distinct, shorten(str(example), 80)))
    labels = {name: line for name, stats in split.targets.items() if (line := _labels(stats.to_dict()))}
    lines = [bounded(line)[:_LINE] for line in findings(inspection) if not line.startswith(_NO_TARGET)]
    return LookedAt(split.rows, columns, [t.name for t in schema.targets], labels, lines)


def _labels(info: Mapping[str, Any]) -> str:
    """The most frequent labels with their counts, or the bounds of numbers."""
    if "numbers" in info:
        return ", ".join(f"{name} {number_text(value)}" for name, value in info["numbers"].items())
    counts = info.get("labels") or {}
    said = [f"{shown(str(label), 40)} ({count:,})" for label, count in list(counts.items())[:_LABELS]]
    return ", ".join(said) + (f", … ({len(counts):,})" if len(counts) > _LABELS else "")
