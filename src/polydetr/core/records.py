"""One row of the user's data, and the report of reading rows: what was repaired, what was rejected."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polydetr.core.access import IN_MEMORY, FileAccess
from polydetr.errors import Location, bounded

Row = Mapping[str, Any]

_EXAMPLES_PER_KIND = 5


@dataclass(frozen=True, slots=True)
class Record:
    """``row`` maps field name → value; ``location`` says where it stands; ``document`` groups rows that belong
    together; ``access``: where its paths begin, if not at the file of its location (see ``access_of``); ``read``: the
    row as it was read, where ``row`` has lists in place of the text that wrote them.
    """

    row: Mapping[str, Any]
    location: Location
    document: str | None = None
    access: FileAccess | None = None
    read: Row | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that could not be used, and why."""

    location: Location
    reason: str
    about: Mapping[str, Any] = field(default_factory=dict)
    """What names it beside its location: its image, its id."""

    def __str__(self) -> str:
        return f"{self.location}: {self.reason}" if str(self.location) else self.reason

    def to_dict(self) -> dict[str, Any]:
        place = {k: getattr(self.location, k) for k in ("file", "row", "line", "column")}
        return {**{k: v for k, v in place.items() if v is not None}, "reason": self.reason}


@dataclass
class ReadReport:
    """The report of reading rows: how many could be used, which were rejected, and what was repaired (``problems``:
    kind → count; ``examples``: the first messages of each kind). declared: column → what its type in a data frame or a
    Parquet file says it is ("category").
    """

    rows: int = 0
    rejected: list[Rejection] = field(default_factory=list)
    problems: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    declared: dict[str, str] = field(default_factory=dict)

    def note(self, kind: str, message: str, location: Location | None = None) -> None:
        """Counts something that was repaired or is worth knowing; no row is lost by it."""
        self.problems[kind] += 1
        shown = self.examples.setdefault(kind, [])
        if len(shown) < _EXAMPLES_PER_KIND:
            shown.append(bounded(f"{location}: {message}" if location else message))

    def reject(self, location: Location, reason: str, about: Mapping[str, Any] | None = None) -> None:
        """about: what names the row beside its location, see ``Rejection``."""
        self.rejected.append(Rejection(location, bounded(reason), about or {}))

    def note_all(self, other: ReadReport, *, kind: str) -> None:
        """Counts what ``other`` noted, and what it rejected as this ``kind``: no rows here, but parts of some."""
        self.problems.update(other.problems)
        for name, examples in other.examples.items():
            shown = self.examples.setdefault(name, [])
            shown += examples[: _EXAMPLES_PER_KIND - len(shown)]
        for rejection in other.rejected:
            self.note(kind, rejection.reason, rejection.location)

    def to_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "rejected": [r.to_dict() for r in self.rejected],
            "problems": {kind: {"count": n, "examples": self.examples[kind]} for kind, n in self.problems.items()},
        }

    def notes(self) -> list[str]:
        """For a person: one line per kind of problem, with its first example."""
        return [f"{kind}: {n} (first: {self.examples[kind][0]})" for kind, n in self.problems.items()]

    def lines(self) -> list[str]:
        """``notes``, and a line about the rejected rows."""
        out = self.notes()
        if self.rejected:
            out.append(f"{len(self.rejected)} rejected rows (first: {self.rejected[0]})")
        return out


@dataclass(frozen=True, slots=True)
class Finding:
    """A warning about a row that can be read.

    kind: "missing", "wrong_type", "unreadable", "unseen_category", "truncated", "out_of_range" or "label".
    """

    kind: str
    column: str | None
    message: str

    def __str__(self) -> str:
        return bounded(self.message)


@functools.lru_cache(maxsize=256)
def _access_of_file(file: str) -> FileAccess:
    path = Path(file)
    return FileAccess(path if path.is_dir() else path.parent) if path.exists() else IN_MEMORY


def access_of(record: Record) -> FileAccess:
    """Where relative paths in the row begin: as its reader says, else at the folder of the file it stands in; for rows
    from memory, at the working directory.
    """
    if record.access is not None:
        return record.access
    return _access_of_file(record.location.file) if record.location.file else IN_MEMORY
