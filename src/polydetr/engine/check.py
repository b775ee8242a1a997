"""The input contract: rows compared with the schema that was saved in training.

What is unusual is counted by kind and column. ``Strictness`` (see ``RowEncoder``) decides what is an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from polydetr.core.records import ReadReport, Record
from polydetr.engine.encode import RowEncoder
from polydetr.errors import Location, RowError, quoted

_EXAMPLES = 3


@dataclass
class ContractReport:
    """What is unusual in ``rows`` rows: ``counts[kind, column]``, the first messages of each, and the messages of the
    rows that are rejected for it (with strictness "normal").
    """

    rows: int = 0
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    rejected: list[str] = field(default_factory=list)

    def add(self, kind: str, column: str | None, message: str) -> None:
        key = kind, column or ""
        self.counts[key] += 1
        shown = self.examples.setdefault(key, [])
        if len(shown) < _EXAMPLES:
            shown.append(message)

    def reject(self, encoder: RowEncoder, location: Location | None, message: str) -> None:
        column = location.column if location else None
        self.add(encoder.fault_in(column), column, message)
        self.rejected.append(message)

    def to_dict(self) -> dict[str, Any]:
        """JSON's own types."""
        return {
            "rows": self.rows,
            "findings": [
                {"kind": kind, "column": column or None, "count": n, "examples": self.examples[kind, column]}
                for (kind, column), n in self.counts.most_common()
            ],
            "rejected": {"count": len(self.rejected), "examples": self.rejected[:_EXAMPLES]},
        }

    def lines(self) -> list[str]:
        """For a person: a line per kind and column, with its first example."""
        out = [
            f"{kind.replace('_', ' ')}{f' in column {quoted(column)}' if column else ''}: {n} of {self.rows} rows "
            f"(first: {self.examples[kind, column][0]})"
            for (kind, column), n in self.counts.most_common()
        ]
        if self.rejected:
            out.append(f"{len(self.rejected)} of {self.rows} rows are rejected")
        return out or [f"all {self.rows} rows are as the model was trained to read them"]


def check_records(encoder: RowEncoder, records: Iterable[Record], read: ReadReport) -> ContractReport:
    """Encodes rows without predicting, and counts their warnings and errors. Constant memory. read: filled while
    ``records`` are read; rows that are rejected there count, too.
    """
    report = ContractReport()
    for record in records:
        report.rows += 1
        try:
            for finding in encoder.encode([record], with_targets=False).warnings:
                report.add(finding.kind, finding.column, f"{record.location}: {finding}")
        except RowError as error:
            report.reject(encoder, error.location, str(error))
    for rejection in read.rejected:
        report.rows += 1
        report.reject(encoder, rejection.location, str(rejection))
    return report
