"""The rows of a run, read before the first step: training rows into a file of tokens, the others checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

from polydetr.config import Config
from polydetr.core.ahead import ahead
from polydetr.core.examples import Example
from polydetr.core.files import cache_dir, write_json
from polydetr.core.records import Record, Rejection, Row, folder_of
from polydetr.data.store import ExampleStore, trim_cache
from polydetr.engine.encode import task_row
from polydetr.engine.engine import Engine
from polydetr.errors import Location, RowError, SchemaError
from polydetr.modalities.base import Modality
from polydetr.modalities.capabilities import ReadsFiles

Note = Callable[[str], None]
_PLACE = ("file", "row", "line")
_REJECTED_SHOWN = 5


@dataclass
class Splits:
    """The rows of a run; ``rejected`` are those left out with ``on_error: skip``, each with its place and reason."""

    train: list[Record]
    valid: list[Record]
    test: list[Record] | None = None
    rejected: list[dict[str, Any]] = field(default_factory=list)


def encode_training_rows(engine: Engine, splits: Splits, config: Config, data_hash: str, *, note: Note) -> ExampleStore:
    """The training rows as tokens in an Arrow file, made once for the same rows, tokenizer and settings.

    Raises:
        RowError: a row cannot be read, and ``on_error`` is "raise".
        SchemaError: no row is left. SaveError: the file cannot be written.
    """
    path = cache_dir() / "encoded" / f"{_key(engine, splits.train, config, data_hash)}.arrow"
    account = path.with_suffix(".json")
    if path.exists() and account.exists():
        path.touch()
        store = ExampleStore(path)
    else:
        found: dict[str, list[Any]] = {"rejected": [], "warnings": []}
        examples = _examples(engine, splits.train, config, found)
        first = next(examples, None)
        if first is None:
            reasons = [entry["reason"] for entry in found["rejected"][:1]]
            raise SchemaError(f"no training row can be read: {''.join(reasons) or 'there are none'}.")
        store = ExampleStore.write(chain([first], examples), path)
        found["rejected"] = _in_order(found["rejected"])
        write_json(account, found)
        trim_cache(path.parent, keep=path)
        for stray in path.parent.glob("*.json"):
            if not stray.with_suffix(".arrow").exists():
                stray.unlink(missing_ok=True)
    kept: dict[str, list[Any]] = json.loads(account.read_text(encoding="utf-8"))
    splits.rejected += kept["rejected"]
    gone = {tuple(entry.get(part) for part in _PLACE) for entry in kept["rejected"]}
    splits.train = [r for r in splits.train if tuple(getattr(r.location, part) for part in _PLACE) not in gone]
    for (kind, column), rows in _by_kind(kept["warnings"]).items():
        where = f"column {column!r}: " if column else ""
        what = "labels that cannot be learned as they stand" if kind == "label" else kind.replace("_", " ")
        example = "" if kind == "missing" else f", for example: {rows[0]}"
        note(f"{where}{what} in {len(rows)} of the training rows{example}")
    return store


def check_rows(
    engine: Engine, records: Sequence[Record], config: Config, rejected: list[dict[str, Any]]
) -> list[Record]:
    """The rows that can be read and measured: a bad one is found before the training, not after its first epoch.

    Raises:
        RowError: a row cannot be read, and ``on_error`` is "raise".
    """
    found: dict[str, list[Any]] = {"rejected": [], "warnings": []}
    good = []

    def encode(group: list[Record]) -> list[Sequence[Record]]:
        return [kept for kept, _ in _encoded(engine, group, config, found)]

    for kept in ahead(encode, engine.encoder.documents(records), workers=engine.encoder.workers):
        for rows in kept:
            good += rows
    rejected += _in_order(found["rejected"])
    return good


def _files(modality: Modality, records: Sequence[Record]) -> str:
    """What the files are like that the rows merely name."""
    if not isinstance(modality, ReadsFiles):
        return ""
    folders: dict[Path | None, list[Row]] = {}
    for record in records:
        folders.setdefault(folder_of(record), []).append(record.row)
    return "".join(modality.content_key(rows, folder=folder) for folder, rows in folders.items())


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
        "target_files": [task.content_key([task_row(task, r) for r in records]) for task in engine.tasks.values()],
    }
    return hashlib.sha256(json.dumps(state, sort_keys=True, default=str).encode()).hexdigest()[:24]


def _examples(
    engine: Engine, records: Sequence[Record], config: Config, found: dict[str, list[Any]]
) -> Iterator[Example]:
    def encode(group: list[Record]) -> list[tuple[Sequence[Record], Sequence[Example]]]:
        return list(_encoded(engine, group, config, found))

    for encoded in ahead(encode, engine.encoder.documents(records), workers=engine.encoder.workers):
        for _, examples in encoded:
            yield from examples


def _encoded(
    engine: Engine, group: list[Record], config: Config, found: dict[str, list[Any]]
) -> Iterator[tuple[Sequence[Record], Sequence[Example]]]:
    """A document's rows and windows; where one of its rows cannot be read, each row alone, and that one rejected."""
    try:
        encoded = engine.encoder.encode(group, with_targets=True)
        for i, record in enumerate(group):  # what measuring will ask for
            for task in engine.tasks.values():
                task.gold(task_row(task, record), encoded.texts[i] if encoded.texts else None)
    except RowError as error:
        if len(group) > 1:
            for record in group:
                yield from _encoded(engine, [record], config, found)
            return
        located = locate(error, group[0])
        if config.on_error == "raise":
            raise located from None
        found["rejected"].append(rejected_row(group[0], located))
        return
    found["warnings"] += [[f.kind, f.column, str(f)] for f in encoded.warnings]
    yield encoded.records, encoded.examples


def _in_order(rejected: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By row: threads that read ahead come back as they please."""
    return sorted(rejected, key=lambda entry: entry.get("row") or entry.get("line") or 0)


def _by_kind(findings: Sequence[Sequence[Any]]) -> dict[tuple[str, str | None], list[str]]:
    grouped: dict[tuple[str, str | None], list[str]] = {}
    for kind, column, message in findings:
        grouped.setdefault((kind, column), []).append(message)
    return grouped


def locate(error: RowError, record: Record) -> RowError:
    """The same error with the file and the row of ``record``."""
    column = error.location.column if error.location else None
    return RowError(error.message, location=replace(record.location, column=column), hint=error.hint)


def rejected_row(record: Record, error: RowError) -> dict[str, Any]:
    """A line of ``reports/rejected.jsonl``."""
    return {**Rejection(error.location or record.location, error.message).to_dict(), "content": dict(record.row)}


def rejected_lines(rejected: Sequence[Mapping[str, Any]], *, listed: bool) -> list[str]:
    """What to tell of the rows that were left out: how many, the first few, and where all of them are ``listed``."""
    where = "; all of them, with the reason: reports/rejected.jsonl in the model folder" if listed else ""
    lines = [f"{len(rejected)} rows are left out{where}"]
    for entry in rejected[:_REJECTED_SHOWN]:
        place = Location(**{part: entry.get(part) for part in (*_PLACE, "column")})
        lines.append(f"  {Rejection(place, entry['reason'])}")
    return lines


def write_rejected(path: Path, rejected: Sequence[Mapping[str, Any]]) -> None:
    """One JSON object a row that was left out: its place, the reason, and the row itself where it could be read.

    Raises:
        OSError: the file cannot be written.
    """
    lines = (json.dumps(entry, ensure_ascii=False, default=str) + "\n" for entry in rejected)
    path.write_text("".join(lines), encoding="utf-8")
