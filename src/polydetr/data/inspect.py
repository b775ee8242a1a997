"""A look at the data before training: columns, labels, duplicates, leaks between splits, suspicious labels."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations, islice
from pathlib import Path
from typing import Any, Literal

from polydetr.config.loading import names_of
from polydetr.core.records import ReadReport, Record
from polydetr.data.leaks import find_leaks
from polydetr.data.readers import TEST_PARTS, VALID_PARTS, read_records
from polydetr.data.statistics import SplitStats
from polydetr.data.suspicious import MAX_ROWS, Suspicion, find_suspicious
from polydetr.data.text_keys import row_text
from polydetr.errors import DataFileError
from polydetr.schema.infer import infer_schema
from polydetr.schema.spec import Schema
from polydetr.values.cells import is_empty, writes_comma

_SAMPLE = 10_000


@dataclass
class Inspection:
    """The findings; ``to_dict`` is plain JSON, ``to_text`` is for reading, and Rich prints the object as tables.

    leaks: texts that stand in two splits. giveaways: a sentence for each column that alone predicts a target.
    """

    schema: Schema
    splits: dict[str, SplitStats]
    reports: dict[str, ReadReport]
    leaks: list[dict[str, Any]] = field(default_factory=list)
    giveaways: list[str] = field(default_factory=list)
    suspicious: dict[str, Suspicion] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": self.schema.to_dict(),
            "splits": {n: {**s.to_dict(), "reading": self.reports[n].to_dict()} for n, s in self.splits.items()},
            "leaks": self.leaks,
            "giveaways": self.giveaways,
            "suspicious_labels": {name: s.to_dict() for name, s in self.suspicious.items()},
        }

    def to_text(self, *, width: int = 110) -> str:
        """The tables as plain text."""
        import io

        from rich.console import Console

        console = Console(file=io.StringIO(), width=width, color_system=None)
        console.print(self.__rich__())
        return console.file.getvalue()  # type: ignore[attr-defined]

    def __rich__(self) -> Any:
        from polydetr.data.inspect_view import as_tables

        return as_tables(self)


def inspect_data(
    train: Any,
    *,
    valid: Any = None,
    test: Any = None,
    target: str | Sequence[str] | Mapping[str, str | None] | None = None,
    inputs: Mapping[str, str | None] | None = None,
    format: str | None = None,
    encoding: str | None = None,
    images: str | Path | None = None,
    on_error: Literal["raise", "skip"] = "skip",
    suspicious: bool = True,
    time_limit: float = 30.0,
    seed: int = 0,
) -> Inspection:
    """Reads each split once and reports what it holds. Memory grows by a fingerprint per row, not by the rows.

    Args:
        train, valid, test: whatever ``read_records`` takes.
        target: a column, "column:task", several such, or a mapping column → task; when None a column of a usual name,
            if there is one.
        inputs: column → modality; inferred when None.
        images: the folder of the images, see ``read_records``.
        suspicious: look for labels that a simple model disagrees with (classification; up to 20,000 rows,
            ``time_limit`` seconds).

    Raises:
        DataFileError, SchemaError: a source cannot be read, a column is not there; RowError with ``on_error="raise"``.
    """
    sources = {n: s for n, s in (("train", train), ("valid", valid), ("test", test)) if s is not None}
    reports = {name: ReadReport() for name in sources}
    inspection: Inspection | None = None
    commas: list[str] = []
    for name, source in sources.items():
        records = read_records(
            source, format=format, encoding=encoding, on_error=on_error, report=reports[name], images=images,
            split={"valid": VALID_PARTS, "test": TEST_PARTS}.get(name),
        )  # fmt: skip
        head = list(islice(records, _SAMPLE))
        if not head:
            raise DataFileError(f"the {name} split has no readable row.", hint=" ".join(reports[name].lines()) or None)
        if inspection is None:
            rows = [r.row for r in head]
            schema = infer_schema(rows, targets=names_of(target), inputs=inputs, needs_target=False)
            inspection = Inspection(schema, {}, reports, giveaways=find_leaks(rows, schema))
            commas = [t.name for t in schema.targets if writes_comma(row.get(t.name) for row in rows)]
        reservoir = _Reservoir(inspection.schema, random.Random(seed)) if suspicious and name == "train" else None
        stats = SplitStats(inspection.schema, _text_columns(inspection.schema), commas)
        for record in chain(head, records):
            number = stats.add(record)
            if reservoir:
                reservoir.offer(record, number)
        inspection.splits[name] = stats
        if reservoir:
            inspection.suspicious = reservoir.suspicious_labels(time_limit=time_limit, seed=seed)
    assert inspection is not None
    inspection.leaks = _shared_texts(inspection.splits)
    return inspection


def _text_columns(schema: Schema) -> list[str]:
    """The columns by which two rows are compared: the texts, or all inputs where there is none."""
    return schema.names("text") or [f.name for f in schema.inputs if f.modality != "ignore"]


class _Reservoir:
    """A uniform sample of at most 20,000 rows (reservoir sampling, Vitter 1985), kept for the search of suspicious
    labels.
    """

    def __init__(self, schema: Schema, rng: random.Random) -> None:
        self._targets = [t.name for t in schema.targets if t.task == "classification"]
        self._columns = _text_columns(schema)
        self._rng = rng
        self._seen = 0
        self._kept: list[tuple[int, str, list[Any]]] = []

    def offer(self, record: Record, row: int) -> None:
        """Takes the record, number ``row``, into the sample with the probability that keeps the sample uniform."""
        if not self._targets:
            return
        self._seen += 1
        place = len(self._kept) if len(self._kept) < MAX_ROWS else self._rng.randrange(self._seen)
        if place < MAX_ROWS:
            text = row_text(record.row, self._columns).replace("\x1f", " ")[:2000]
            item = (row, text, [record.row.get(t) for t in self._targets])
            self._kept[place : place + 1] = [item]

    def suspicious_labels(self, *, time_limit: float, seed: int) -> dict[str, Suspicion]:
        """Target → its suspicious labels; rows without one label of their own do not count."""
        suspicions = {}
        for i, name in enumerate(self._targets):
            labeled = [
                (r, t, v[i]) for r, t, v in self._kept if not is_empty(v[i]) and not isinstance(v[i], (list, tuple))
            ]
            if labeled:
                rows, texts, values = zip(*labeled, strict=True)
                labels = [str(value) for value in values]
                suspicions[name] = find_suspicious(texts, labels, rows, time_limit=time_limit, seed=seed)
        return suspicions


def _shared_texts(splits: Mapping[str, SplitStats]) -> list[dict[str, Any]]:
    """The texts that stand in two splits, a pair of splits at a time: a model was trained on what it is tested on."""
    leaks = []
    for earlier, later in combinations(splits, 2):
        ours, theirs = splits[earlier].first, splits[later].first
        common = [key for key in theirs if key in ours]
        examples = [{earlier: ours[key][0], later: theirs[key][0]} for key in common[:10]]
        leaks.append({"splits": [earlier, later], "count": len(common), "examples": examples})
    return leaks
