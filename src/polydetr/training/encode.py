"""The rows of a run, encoded before the first step: each split into a file of tokens."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

from polydetr.config.sections import Config
from polydetr.core.access import FileAccess
from polydetr.core.documents import EncodedDocument
from polydetr.core.examples import Example
from polydetr.core.files import cache_dir, write_json
from polydetr.core.predictions import Evaluation, RowResult
from polydetr.core.records import Record, Rejection, Row, access_of
from polydetr.data.store import ExampleStore, StoredExamples, trim_cache
from polydetr.engine.engine import Engine
from polydetr.engine.measure import encode_positives, evaluate_results
from polydetr.errors import Location, RowError, SchemaError
from polydetr.modalities.base import Modality, Notify, ReadsFiles
from polydetr.tasks.capabilities import NamesFiles

_PLACE = ("file", "row", "line")
_REJECTED_SHOWN = 5


@dataclass
class Splits:
    """The rows of a run; ``rejected`` are those left out with ``on_error: skip``, each with its place and reason."""

    train: list[Record]
    valid: list[Record]
    test: list[Record] | None = None
    rejected: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class MeasuredRows:
    """Rows that are measured again and again: encoded once, their windows read from a file.

    positives: target → what belongs to the rows, each distinct one once (``measure.encode_positives``).
    """

    documents: Sequence[EncodedDocument]
    positives: Mapping[str, Sequence[EncodedDocument]]

    @property
    def records(self) -> list[Record]:
        return [record for document in self.documents for record in document.records]

    def every(self, step: int) -> MeasuredRows:
        """Every ``step``-th document."""
        return MeasuredRows(self.documents[::step], {})

    def with_examples(self, change: Callable[[Iterator[Example]], Iterator[Example]]) -> MeasuredRows:
        """The same rows with other examples, one for each, in order."""
        positives = {target: on_disk(documents, change) for target, documents in self.positives.items()}
        return MeasuredRows(on_disk(self.documents, change), positives)


def on_disk(
    documents: Iterable[EncodedDocument], change: Callable[[Iterator[Example]], Iterator[Example]] = iter
) -> list[EncodedDocument]:
    """The documents with their examples, or what ``change`` makes of those, in a file of this process alone.

    Raises:
        SaveError: the file cannot be written.
    """
    kept: list[EncodedDocument] = []

    def examples() -> Iterator[Example]:
        for document in documents:
            kept.append(replace(document, examples=range(len(document.examples))))  # type: ignore[arg-type]
            yield from document.examples

    path = cache_dir() / "encoded" / f"measured-{secrets.token_hex(8)}.arrow"
    store = ExampleStore.write(change(examples()), path)
    with suppress(OSError):  # it is open: where the system does not allow this, it goes when the cache is trimmed
        path.unlink()
    stored, start = [], 0
    for document in kept:
        places = range(start, start + len(document.examples))
        stored.append(replace(document, examples=StoredExamples(store, places)))
        start = places.stop
    return stored


@dataclass(frozen=True)
class EncodedRows:
    """All rows of a run, encoded."""

    train: ExampleStore
    valid: MeasuredRows
    test: MeasuredRows | None


def encode_rows(engine: Engine, splits: Splits, config: Config, data_hash: str, *, notify: Notify) -> EncodedRows:
    """Every row of the run, once; those that are left out are added to ``splits.rejected``.

    Raises:
        RowError: a row cannot be read, and ``on_error`` is "raise". SchemaError: no training row is left.
        SaveError: a file cannot be written.
    """
    train = encode_training_rows(engine, splits, config, data_hash, notify=notify)
    valid = encode_measured_rows(engine, splits.valid, config, splits.rejected)
    test = encode_measured_rows(engine, splits.test, config, splits.rejected) if splits.test else None
    return EncodedRows(train, valid, test)


def measure(engine: Engine, rows: MeasuredRows) -> tuple[list[RowResult], dict[str, Evaluation]]:
    """The engine's predictions for the rows, and every task's evaluation of them."""
    results = list(engine.answered(rows.documents))
    return results, evaluate_results(engine, results, positives=rows.positives)


def encode_training_rows(
    engine: Engine, splits: Splits, config: Config, data_hash: str, *, notify: Notify
) -> ExampleStore:
    """The training rows as tokens in an Arrow file, made once for the same rows, tokenizer and settings.

    Raises:
        RowError: a row cannot be read, and ``on_error`` is "raise".
        SchemaError: no row is left. SaveError: the file cannot be written.
    """
    path = cache_dir() / "encoded" / f"{_key(engine, splits.train, config, data_hash)}.arrow"
    account_path = path.with_suffix(".json")
    if path.exists() and account_path.exists():
        path.touch()
        store = ExampleStore(path)
    else:
        found: dict[str, list[Any]] = {"rejected": [], "warnings": []}
        documents = _documents(engine, splits.train, config, found)
        examples = (example for document in documents for example in document.examples)
        first = next(examples, None)
        if first is None:
            reasons = [entry["reason"] for entry in found["rejected"][:1]]
            raise SchemaError(f"no training row can be read: {''.join(reasons) or 'there are none'}.")
        store = ExampleStore.write(chain([first], examples), path)
        write_json(account_path, {**found, "rejected": _in_order(found["rejected"])})
        trim_cache(path.parent, keep=path)
        for stray in path.parent.glob("*.json"):
            if not stray.with_suffix(".arrow").exists():
                stray.unlink(missing_ok=True)
    account: dict[str, list[Any]] = json.loads(account_path.read_text(encoding="utf-8"))
    splits.rejected += account["rejected"]
    rejected = {tuple(entry.get(part) for part in _PLACE) for entry in account["rejected"]}
    splits.train = [r for r in splits.train if tuple(getattr(r.location, part) for part in _PLACE) not in rejected]
    warnings: dict[tuple[str, str | None], list[str]] = {}
    for kind, column, message in account["warnings"]:
        warnings.setdefault((kind, column), []).append(message)
    for (kind, column), messages in warnings.items():
        where = f"column {column!r}: " if column else ""
        what = "labels that cannot be learned as they stand" if kind == "label" else kind.replace("_", " ")
        example = "" if kind == "missing" else f", for example: {messages[0]}"
        notify(f"{where}{what} in {len(messages)} of the training rows{example}")
    return store


def encode_measured_rows(
    engine: Engine, records: Sequence[Record], config: Config, rejected: list[dict[str, Any]]
) -> MeasuredRows:
    """The rows that can be read and measured, encoded once for all evaluations of the run: a bad one is found before
    the training, not after its first epoch.

    Raises:
        RowError: a row cannot be read, and ``on_error`` is "raise". SaveError: the file cannot be written.
    """
    account: dict[str, list[Any]] = {"rejected": [], "warnings": []}
    documents = on_disk(_documents(engine, records, config, account))
    rejected += _in_order(account["rejected"])
    rows = [record for document in documents for record in document.records]
    positives = {}
    for target in engine.encoder.positives:
        golds = [gold for document in documents for gold in document.golds[target]]
        positives[target] = on_disk(encode_positives(engine, target, golds, rows))
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


def _key(engine: Engine, records: Sequence[Record], config: Config, data_hash: str) -> str:
    state = {
        "data": data_hash,
        "modalities": {n: m.state() for n, m in engine.encoder.modalities.items()},
        "tasks": {t: task.state() for t, task in engine.tasks.items()},
        "context": engine.encoder.context,
        "on_error": config.on_error,
        "version": version("polydetr"),
        "tokenizer": [m.fingerprint() for m in engine.encoder.modalities.values()],
        "files": [_files(m, records) for m in engine.encoder.modalities.values()],
        "target_files": [
            _target_files(task, records) for task in engine.tasks.values() if isinstance(task, NamesFiles)
        ],
        "format": 2,  # of the store
    }
    return hashlib.sha256(json.dumps(state, sort_keys=True, default=str).encode()).hexdigest()[:24]


def _documents(
    engine: Engine, records: Sequence[Record], config: Config, account: dict[str, list[Any]]
) -> Iterator[EncodedDocument]:
    """The rows with their targets; warnings and rejected rows are added to ``account``."""
    on_error = "raise" if config.on_error == "raise" else "return"
    for item in engine.encode(records, with_targets=True, on_error=on_error):
        if isinstance(item, EncodedDocument):
            account["warnings"] += [[f.kind, f.column, str(f)] for f in item.warnings]
            yield item
        elif item.error is not None:
            account["rejected"].append(rejected_row(item.record, locate(item.error, item.record)))


def _in_order(rejected: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By row: threads that read ahead finish in any order."""
    return sorted(rejected, key=lambda entry: entry.get("row") or entry.get("line") or 0)


def locate(error: RowError, record: Record) -> RowError:
    """The same error with the file and the row of ``record``."""
    column = error.location.column if error.location else None
    return RowError(error.message, location=replace(record.location, column=column), hint=error.hint)


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
    lines = (json.dumps(entry, ensure_ascii=False, default=str) + "\n" for entry in rejected)
    path.write_text("".join(lines), encoding="utf-8")
