"""A look at the data before training: columns, labels, duplicates, leaks between splits, suspicious labels."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, combinations, islice
from typing import Any

from polydetr.config.loading import names_of
from polydetr.core.reading import ExpectedColumns, ReadOptions
from polydetr.core.records import ReadReport, Record
from polydetr.data.copies import Compared, content_keys
from polydetr.data.leaks import find_leaks
from polydetr.data.overlap import same_file
from polydetr.data.readers import TEST_PARTS, VALID_PARTS, read_records
from polydetr.data.readers.header import header_explained
from polydetr.data.readers.lists import with_lists
from polydetr.data.splits import without_group
from polydetr.data.statistics import SplitStats, labels_of
from polydetr.data.suspicious import MAX_ROWS, Suspicion, find_suspicious
from polydetr.data.text_keys import row_text
from polydetr.errors import DataFileError, SchemaError, nearest
from polydetr.schema.infer import infer_schema
from polydetr.schema.spec import Schema
from polydetr.values.cells import decimal_marks, is_empty, says_missing, words_are_missing

_SAMPLE = 10_000


@dataclass
class Inspection:
    """The findings; ``to_dict`` is plain JSON, ``to_text`` is for reading, and Rich prints the object as tables.

    leaks: texts that stand in two splits; shared_images: images that do, byte for byte; same_files: a sentence for each
    file that was given as two splits; shared_groups: values of the group's column that stand in two.
    giveaways: a sentence for each column that alone predicts a target.
    """

    schema: Schema
    splits: dict[str, SplitStats]
    reports: dict[str, ReadReport]
    leaks: list[dict[str, Any]] = field(default_factory=list)
    shared_images: list[dict[str, Any]] = field(default_factory=list)
    same_files: list[str] = field(default_factory=list)
    shared_groups: list[dict[str, Any]] = field(default_factory=list)
    giveaways: list[str] = field(default_factory=list)
    suspicious: dict[str, Suspicion] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": self.schema.to_dict(),
            "splits": {n: {**s.to_dict(), "reading": self.reports[n].to_dict()} for n, s in self.splits.items()},
            "leaks": self.leaks,
            "shared_images": self.shared_images,
            "same_files": self.same_files,
            "shared_groups": self.shared_groups,
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
    group: str | None = None,
    reading: ReadOptions = ReadOptions(),
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
        group: a column of which no value should stand in two splits, such as a patient; no input unless it is named.
        reading: what the files do not say about themselves; a row that cannot be read is left out and reported where
            ``on_error`` is None.
        suspicious: look for labels that a simple model disagrees with (classification; up to 20,000 rows,
            ``time_limit`` seconds).

    Raises:
        DataFileError, SchemaError: a source cannot be read, a column is not there; RowError with ``on_error="raise"``.
    """
    sources = {n: s for n, s in (("train", train), ("valid", valid), ("test", test)) if s is not None}
    reports = {name: ReadReport() for name in sources}
    inspection: Inspection | None = None
    commas: list[str] = []
    reading = replace(reading, on_error=reading.on_error or "skip")
    expected = ExpectedColumns(tuple(inputs or ()), tuple(names_of(target) or ()))
    numbered: list[str] = []
    for name, source in sources.items():
        records = read_records(
            source, reading=reading, expected=expected, report=reports[name],
            split={"valid": VALID_PARTS, "test": TEST_PARTS}.get(name),
        )  # fmt: skip
        head = list(islice(records, _SAMPLE))
        if not head:
            raise DataFileError(f"the {name} split has no readable row.", hint=" ".join(reports[name].lines()) or None)
        if inspection is None:
            rows = [r.row for r in head]
            declared = reports[name].declared
            with header_explained(reports[name]):
                schema = infer_schema(
                    rows, targets=names_of(target), inputs=without_group(names_of(inputs), group), declared=declared,
                    needs_target=False,
                )  # fmt: skip
            inspection = Inspection(schema, {}, reports, giveaways=find_leaks(rows, schema))
            commas = [t.name for t in schema.targets if decimal_marks(row.get(t.name) for row in rows).comma]
            numbered = [t.name for t in schema.targets if t.task == "regression" or _numbered(rows, t.name)]
        if group is not None and not any(group in r.row for r in head):
            known = dict.fromkeys(column for r in head for column in r.row)
            raise SchemaError(f"there is no column {group!r} to group by in {name}.", hint=nearest(group, known))
        reservoir = (
            _Reservoir(inspection.schema, random.Random(seed), numbered) if suspicious and name == "train" else None
        )
        stats = SplitStats(inspection.schema, _compared(inspection.schema), commas, numbered, group)
        lists = inspection.schema.lists
        for record in with_lists(chain(head, records), lists, report=reports[name], skip=reading.on_error == "skip"):
            number = stats.add(record)
            if reservoir:
                reservoir.offer(record, number)
        inspection.splits[name] = stats
        if reservoir:
            inspection.suspicious = reservoir.suspicious_labels(time_limit=time_limit, seed=seed)
    assert inspection is not None
    contents = content_keys(image for stats in inspection.splits.values() for image in stats.sources)
    for stats in inspection.splits.values():
        stats.compare_images(contents)
    first = {name: {k: row for k, (row, _) in stats.first.items()} for name, stats in inspection.splits.items()}
    inspection.leaks = _shared(first)
    inspection.shared_groups = _shared({name: stats.groups for name, stats in inspection.splits.items()})
    inspection.shared_images = _shared({name: stats.images for name, stats in inspection.splits.items()})
    pairs = combinations(sources, 2)
    inspection.same_files = [
        f"{a} and {b} are the same rows, given twice" for a, b in pairs if same_file(sources[a], sources[b])
    ]
    return inspection


def _compared(schema: Schema) -> Compared:
    """The columns by which two rows are compared: the images and the texts, or all inputs where there is no text."""
    every = Compared.of(schema)
    return replace(every, inputs=every.texts or every.inputs)


def _numbered(rows: Sequence[Mapping[str, Any]], target: str) -> bool:
    """Whether the labels of a target are numbers or truth values."""
    values = (row.get(target) for row in rows)
    return words_are_missing(label for value in values if not is_empty(value) for label in labels_of(value, ""))


def _text_columns(schema: Schema) -> list[str]:
    """The columns that a simple model judges labels by."""
    return schema.names("text") or [f.name for f in schema.inputs if f.modality != "ignore"]


class _Reservoir:
    """A uniform sample of at most 20,000 rows (reservoir sampling, Vitter 1985), kept for the search of suspicious
    labels.
    """

    def __init__(self, schema: Schema, rng: random.Random, numbered: Collection[str]) -> None:
        self._numbered = numbered
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
                (r, t, v[i])
                for r, t, v in self._kept
                if not (says_missing if name in self._numbered else is_empty)(v[i])
                and not isinstance(v[i], (list, tuple))
            ]
            if labeled:
                rows, texts, values = zip(*labeled, strict=True)
                labels = [labels_of(value, "classification")[0] for value in values]
                suspicions[name] = find_suspicious(texts, labels, rows, time_limit=time_limit, seed=seed)
        return suspicions


def _shared(splits: Mapping[str, Mapping[Any, int]]) -> list[dict[str, Any]]:
    """What stands in two splits, a pair of splits at a time: a model was trained on what it is tested on. splits: the
    keys of each, with their row.
    """
    leaks = []
    for (earlier, ours), (later, theirs) in combinations(splits.items(), 2):
        common = [key for key in theirs if key in ours]
        examples = [{earlier: ours[key], later: theirs[key]} for key in common[:10]]
        leaks.append({"splits": [earlier, later], "count": len(common), "examples": examples})
    return leaks
