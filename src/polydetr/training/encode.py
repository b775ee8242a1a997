"""The rows of a run, encoded before the first step: each split into a file of tokens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from polydetr import __version__
from polydetr.config.sections import Config
from polydetr.core.access import FileAccess
from polydetr.core.documents import EncodedDocument
from polydetr.core.examples import Example
from polydetr.core.files import cache_dir, json_text
from polydetr.core.predictions import Evaluation, RowResult
from polydetr.core.records import Record, Rejection, Row, access_of
from polydetr.data.store import ExampleStore
from polydetr.engine.engine import Engine
from polydetr.engine.measure import encode_positives, evaluate_results, left_out_labels
from polydetr.errors import Location, RowError, SchemaError, shown
from polydetr.modalities.base import Modality, Notify, ReadsFiles
from polydetr.tasks.capabilities import CountsLabels, NamesFiles
from polydetr.training.check import check_labels
from polydetr.training.row_store import keep_account, kept_with_account, on_disk, stored

_PLACE = ("file", "row", "line")
_REJECTED_SHOWN = 5
MIN_PARTED = 40
"""From so many validation documents on, half of them choose the weights and the other half calibrate."""


@dataclass
class Splits:
    """The rows of a run; ``rejected`` are those left out with ``on_error: skip``, each with its place and reason.

    is_held_out: whether the validation rows were taken from the training rows. unlabelled: rows without labels.
    """

    train: list[Record]
    valid: list[Record]
    test: list[Record] | None = None
    rejected: list[dict[str, Any]] = field(default_factory=list)
    is_held_out: bool = False
    unlabelled: list[Record] = field(default_factory=list)

    @property
    def given(self) -> list[Record]:
        """The training rows as they were given, with those that were held out."""
        return [*self.train, *self.valid] if self.is_held_out else self.train

    def with_all_rows(self) -> Splits:
        """Nothing held out: the rows given are those to train on and, where none were named, those to measure by."""
        return replace(self, train=[*self.given], valid=[*self.given] if self.is_held_out else self.valid)


@dataclass(frozen=True)
class MeasuredRows:
    """Rows that are measured again and again: encoded once, their windows read from a file.

    positives: target → what belongs to the rows, each distinct one once (``measure.encode_positives``). is_unseen:
    whether no row took part in choosing the weights that answer it (``few_rows``).
    """

    documents: Sequence[EncodedDocument]
    positives: Mapping[str, Sequence[EncodedDocument]]
    is_unseen: bool = False

    @property
    def records(self) -> list[Record]:
        return [record for document in self.documents for record in document.records]

    def every(self, step: int) -> MeasuredRows:
        """Every ``step``-th document."""
        return MeasuredRows(self.documents[::step], {})

    @property
    def is_parted(self) -> bool:
        """Whether one half of the documents chooses the weights and the other half calibrates. What belongs to rows
        (``positives``) is not parted.
        """
        return len(self.documents) >= MIN_PARTED and not self.positives and not self.is_unseen

    @property
    def choosing(self) -> MeasuredRows:
        """The rows by which the best weights are chosen."""
        return self.every(2) if self.is_parted else self

    @property
    def calibrating(self) -> np.ndarray:
        """(rows,) bool: which rows calibrate; all where they are not parted."""
        return np.array(
            [not self.is_parted or i % 2 == 1 for i, document in enumerate(self.documents) for _ in document.records]
        )

    def with_examples(
        self,
        change: Callable[[Iterator[Example]], Iterator[Example]],
        *,
        notify: Notify,
        in_time: Callable[[Iterable[EncodedDocument]], Iterable[EncodedDocument]] = iter,
    ) -> MeasuredRows:
        """The same rows, or the first that are ``in_time``, with other examples, one for each, in order."""

        def changed(documents: Sequence[EncodedDocument]) -> list[EncodedDocument]:
            return on_disk(lambda: documents, change, notify=notify)

        positives = {target: changed(documents) for target, documents in self.positives.items()}
        return MeasuredRows(on_disk(lambda: in_time(self.documents), change, notify=notify), positives)


@dataclass(frozen=True)
class EncodedRows:
    """All rows of a run, encoded."""

    train: ExampleStore
    valid: MeasuredRows
    test: MeasuredRows | None


InTime = Callable[[Sequence[Record], str], Iterator[Record]]
"""The rows of a split, "training", "validation" or "test", up to where a time limit leaves no more time for them."""


def encode_rows(
    engine: Engine, splits: Splits, config: Config, data_hash: str, *, notify: Notify, in_time: InTime | None = None
) -> EncodedRows:
    """Every row of the run, once, or those that are ``in_time``; those that are left out are added to
    ``splits.rejected``.

    Raises:
        RowError: a row cannot be read, and ``on_error`` is "raise". SchemaError: no training row is left, they teach
        nothing, or there are none to measure on. SaveError: a file cannot be written.
    """
    train = encode_training_rows(engine, splits, config, data_hash, notify=notify, in_time=in_time)

    def measured(records: Sequence[Record], split: str) -> MeasuredRows:
        return encode_measured_rows(
            engine, records, config, splits.rejected, split=split, notify=notify, in_time=in_time
        )

    valid = measured(splits.valid, "validation")
    test = measured(splits.test, "test") if splits.test else None
    for split, rows in (("valid", valid), ("test", test)):
        if rows is None:
            continue
        for warning in check_labels(rows.documents, engine.tasks, split=split):
            notify(warning)
        for target, task in engine.tasks.items():
            golds = [gold for document in rows.documents for gold in document.golds[target]]
            for message in left_out_labels(task, rows.records, golds):
                notify(f"{split} rows: {message}")
    return EncodedRows(train, valid, test)


def measure(engine: Engine, rows: MeasuredRows) -> tuple[list[RowResult], dict[str, Evaluation]]:
    """The engine's predictions for the rows, and every task's evaluation of them."""
    results = list(engine.answered(rows.documents))
    return results, evaluate_results(engine, results, positives=rows.positives)


def encode_training_rows(
    engine: Engine, splits: Splits, config: Config, data_hash: str, *, notify: Notify, in_time: InTime | None = None
) -> ExampleStore:
    """The training rows as tokens in an Arrow file, made once for the same rows, tokenizer and settings. Of rows that
    have to be ``in_time`` there may be a part alone, which no later run is to find.

    Raises:
        RowError: a row cannot be read, and ``on_error`` is "raise".
        SchemaError: no row is left. SaveError: the file cannot be written.
    """
    name = f"{encoding_key(engine, splits.train, config, data_hash)}.arrow"
    account: dict[str, list[Any]] = {}
    counting = {target: task for target, task in engine.tasks.items() if isinstance(task, CountsLabels)}
    labeled: dict[str, list[tuple[Location, Any]]] = {}

    read: list[Record] = []

    def examples() -> Iterator[Example]:
        read.clear()
        account.update(rejected=[], warnings=[])
        labeled.update({target: [] for target in counting})
        records = splits.train if in_time is None else in_time(splits.train, "training")
        documents = _gathered(documents_of(engine, _counted(records, read), config, account), labeled)
        found = (example for document in documents for example in document.examples)
        first = next(found, None)
        if first is None:
            reasons = [entry["reason"] for entry in account["rejected"][:1]]
            raise SchemaError(f"no training row can be read: {''.join(reasons) or 'there are none'}.")
        return chain([first], found)

    store = kept_with_account(cache_dir() / "encoded" / name, account)
    if store is None:
        store = stored(examples, name if in_time is None else None, notify=notify)
        splits.train = read
        account["rejected"] = _in_order(account["rejected"])
        account["messages"] = [
            line for target, golds in labeled.items() for line in counting[target].learned_from(golds)
        ]
        if store.path.name == name:
            keep_account(store.path, account)
    for message in account["messages"]:
        notify(message)
    splits.rejected += account["rejected"]
    rejected = {tuple(entry.get(part) for part in _PLACE) for entry in account["rejected"]}
    splits.train = [r for r in splits.train if tuple(getattr(r.location, part) for part in _PLACE) not in rejected]
    for line in _warning_lines(account["warnings"], "training"):
        notify(line)
    return store


def _counted(records: Iterable[Record], read: list[Record]) -> Iterator[Record]:
    """The records, each of them noted in ``read``."""
    for record in records:
        read.append(record)
        yield record


def _warning_lines(warnings: Sequence[Sequence[Any]], split: str) -> list[str]:
    """A message per kind of warning and column, with its first example. warnings: kind, column and message of each."""
    by_kind: dict[tuple[str, str | None], list[str]] = {}
    for kind, column, message in warnings:
        by_kind.setdefault((kind, column), []).append(message)
    lines = []
    for (kind, column), messages in by_kind.items():
        where = f"column {column!r}: " if column else ""
        if kind == "label":
            what = f"{len(messages)} labels of the {split} rows are not as they should be"
        else:
            what = f"{kind.replace('_', ' ')} in {len(messages)} of the {split} rows"
        example = "" if kind == "missing" else f", for example: {messages[0]}"
        lines.append(f"{where}{what}{example}")
    return lines


def encode_measured_rows(
    engine: Engine,
    records: Sequence[Record],
    config: Config,
    rejected: list[dict[str, Any]],
    *,
    split: str,
    notify: Notify,
    in_time: InTime | None = None,
) -> MeasuredRows:
    """The rows that can be read and measured, encoded once for all evaluations of the run: a bad one is found before
    the training, not after its first epoch.

    Raises:
        RowError: a row cannot be read, and ``on_error`` is "raise". SaveError: the file cannot be written.
    """
    account: dict[str, list[Any]] = {}

    def encoded() -> Iterator[EncodedDocument]:
        account.update(rejected=[], warnings=[])
        return documents_of(engine, records if in_time is None else in_time(records, split), config, account)

    documents = on_disk(encoded, notify=notify)
    rejected += _in_order(account["rejected"])
    for line in _warning_lines([warning for warning in account["warnings"] if warning[0] == "label"], split):
        notify(line)
    rows = [record for document in documents for record in document.records]
    positives = {}
    for target in engine.encoder.positives:
        golds = [gold for document in documents for gold in document.golds[target]]
        encoded_positives = encode_positives(engine, target, golds, rows)
        positives[target] = on_disk(lambda found=encoded_positives: found, notify=notify)
    return MeasuredRows(documents, positives)


def _files(modality: Modality, records: Sequence[Record]) -> str:
    """A key of the content of the files that the rows name; "" for a modality that reads none."""
    if not isinstance(modality, ReadsFiles):
        return ""
    by_access: dict[FileAccess, list[Row]] = {}
    for record in records:
        by_access.setdefault(access_of(record), []).append(record.row)
    return "".join(modality.content_key(rows, access=access) for access, rows in by_access.items())


def _target_files(task: NamesFiles, records: Sequence[Record]) -> str:
    """Likewise of the files that the target names; those that may not be opened reject their rows later."""
    rows = []
    for record in records:
        with suppress(RowError):
            rows.append(task.located(record.row, access_of(record)))
    return task.content_key(rows)


def encoding_key(engine: Engine, records: Sequence[Record], config: Config, data_hash: str) -> str:
    """The same for runs whose rows are encoded to the same tokens and targets, and lie at the same places, which the
    account of them names.
    """
    places = repr([tuple(getattr(record.location, part) for part in _PLACE) for record in records])
    state = {
        "data": data_hash,
        "places": hashlib.sha256(places.encode(errors="surrogatepass")).hexdigest(),
        "modalities": {n: m.state() for n, m in engine.encoder.modalities.items()},
        "tasks": {t: task.state() for t, task in engine.tasks.items()},
        "context": engine.encoder.context,
        "on_error": config.on_error,
        "version": __version__,
        "tokenizer": [m.fingerprint() for m in engine.encoder.modalities.values()],
        "files": [_files(m, records) for m in engine.encoder.modalities.values()],
        "target_files": [
            _target_files(task, records) for task in engine.tasks.values() if isinstance(task, NamesFiles)
        ],
        "format": 3,  # of the store
    }
    return hashlib.sha256(json.dumps(state, sort_keys=True, default=str).encode()).hexdigest()[:24]


def documents_of(
    engine: Engine, records: Iterable[Record], config: Config, account: dict[str, list[Any]]
) -> Iterator[EncodedDocument]:
    """The rows with their targets; warnings and rejected rows are added to ``account``."""
    on_error = "raise" if config.on_error == "raise" else "return"
    for item in engine.encode(records, with_targets=True, on_error=on_error):
        if isinstance(item, EncodedDocument):
            account["warnings"] += [[f.kind, f.column, str(f)] for f in item.warnings]
            yield item
        elif item.error is not None:
            account["rejected"].append(rejected_row(item.record, item.error.at(item.record.location)))


def _gathered(
    documents: Iterable[EncodedDocument], labeled: Mapping[str, list[tuple[Location, Any]]]
) -> Iterator[EncodedDocument]:
    """The documents; the gold values of the targets in ``labeled`` are added there, with the places of their rows."""
    for document in documents:
        for target, golds in labeled.items():
            golds += zip((record.location for record in document.records), document.golds[target], strict=True)
        yield document


def _in_order(rejected: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By row: threads that read ahead finish in any order."""
    return sorted(rejected, key=lambda entry: entry.get("row") or entry.get("line") or 0)


def rejected_row(record: Record, error: RowError) -> dict[str, Any]:
    """A line of ``reports/rejected.jsonl``."""
    return {**Rejection(error.location or record.location, error.message).to_dict(), "content": dict(record.row)}


def rejected_lines(rejected: Sequence[Mapping[str, Any]], *, listed: bool) -> list[str]:
    """Messages about the rows that were left out: how many, the first few, and whether all of them are ``listed``."""
    where = "; all of them, with the reason: reports/rejected.jsonl in the model folder" if listed else ""
    lines = [f"{len(rejected)} rows are left out{where}"]
    for entry in rejected[:_REJECTED_SHOWN]:
        place = Location(**{part: entry.get(part) for part in (*_PLACE, "column")})
        lines.append(f"  {Rejection(place, entry['reason'])}")
    return lines


def write_rejected(path: Path, rejected: Sequence[Mapping[str, Any]]) -> None:
    """One JSON object per row that was left out: its place, the reason, and the row itself where it could be read.

    Raises:
        OSError: the file cannot be written.
    """
    # Images of rows from memory are shown, not written out.
    lines = (json_text(json.loads(json.dumps(entry, default=shown, skipkeys=True))) + "\n" for entry in rejected)
    path.write_text("".join(lines), encoding="utf-8")
