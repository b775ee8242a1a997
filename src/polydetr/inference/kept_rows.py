"""Some of the validation rows, encoded, in the model folder: what another way to compute the model is proved by.

They are what the model read, with their labels. Texts stand there only where an answer points into them (``per_token``
tasks); otherwise a row is its tokens, its pixels, its numbers.

rows.safetensors    the arrays of all windows one behind the other, column by column; in its header, as JSON, what they
                    belong to and the labels
"""

from __future__ import annotations

import json
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from polydetr.core.documents import EncodedDocument
from polydetr.core.examples import Arrays, Example
from polydetr.core.files import json_text, save_bytes
from polydetr.core.layout import FieldText, Layout
from polydetr.core.predictions import Evaluation, RowResult
from polydetr.core.records import ReadReport, Record
from polydetr.engine.engine import Engine, Item
from polydetr.engine.measure import encode_positives, evaluate_results
from polydetr.errors import COPY_AGAIN, ConfigError, Location, ModelFolderError
from polydetr.inference.folder import own_file
from polydetr.tasks.base import Task

_T = TypeVar("_T")
ROWS = "rows.safetensors"
MAX_ROWS = 500
MAX_BYTES = 8 << 20
"""Of their arrays: images are large."""
READ_BYTES = 512 << 20
"""The same where they only stand in memory, for as long as something is proved by them."""
FORMAT = 1
_ROW = "row"
"""How a kept row is called in messages; the file that it came from is not known any more."""
_LAYOUT = ("row", "start", "end", "word", "first", "margin")
_KINDS: Mapping[str, Callable[[Example], Mapping[str, Arrays]]] = {
    "group": lambda example: example.groups,
    "target": lambda example: example.targets,
    "positive": lambda example: example.positives,
}


@dataclass(frozen=True)
class KeptRows:
    """Encoded documents with their labels. positives: target → what belongs to the rows, each distinct one once
    (``engine.measure.encode_positives``).
    """

    documents: Sequence[EncodedDocument]
    positives: Mapping[str, Sequence[EncodedDocument]] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(len(document.records) for document in self.documents)

    @property
    def have_labels(self) -> bool:
        """Whether any of them has a label of any target."""
        return any(gold is not None for d in self.documents for golds in d.golds.values() for gold in golds)

    @property
    def examples(self) -> list[Example]:
        """All windows of the rows."""
        return [example for document in self.documents for example in document.examples]

    def measured(self, engine: Engine) -> tuple[list[RowResult], dict[str, Evaluation]]:
        """The engine's answers to them, and their evaluation by target.

        Raises:
            SchemaError: none of them has a label.
        """
        results = list(engine.answered(self.documents))
        return results, evaluate_results(engine, results, positives=self.positives)


# -- which ------------------------------------------------------------------------------------------------------------


def chosen_rows(
    documents: Sequence[EncodedDocument],
    positives: Mapping[str, Sequence[EncodedDocument]],
    tasks: Mapping[str, Task],
    *,
    most: int = MAX_ROWS,
    most_bytes: int = MAX_BYTES,
) -> KeptRows | None:
    """Documents at equal distances with at most so many rows and bytes; None where there are none, or where a task's
    labels cannot be kept (``gold`` of an outside task says no type for them).
    """
    if any(_adapter(task) is None for task in tasks.values()):
        return None
    return _chosen(documents, positives, tasks, most=most, most_bytes=most_bytes)


def _chosen(
    documents: Sequence[EncodedDocument],
    positives: Mapping[str, Sequence[EncodedDocument]],
    tasks: Mapping[str, Task],
    *,
    most: int,
    most_bytes: int,
) -> KeptRows | None:
    rows = sum(len(document.records) for document in documents)
    if not rows or not most:
        return None
    bytes_per_row = sum(_size(document) for document in _every(documents, 16)) / max(
        1, sum(len(document.records) for document in _every(documents, 16))
    )
    wanted = min(most, int(most_bytes / max(1.0, bytes_per_row)))
    chosen, count, size = [], 0, 0
    for document in _every(documents, max(1, len(documents) * wanted // rows)):
        count, size = count + len(document.records), size + _size(document)
        if count > most or size > most_bytes:
            break
        chosen.append(_plain(document, tasks))
    kept = {target: _positives_of(chosen, target, found, documents) for target, found in positives.items()}
    return KeptRows(chosen, kept) if chosen else None


def encoded_rows(engine: Engine, records: Iterable[Record], report: ReadReport, *, skip: bool) -> KeptRows | None:
    """The same of rows that are read now, ``MAX_ROWS`` and ``READ_BYTES`` at most; None where there are none. About
    twice as many are in memory, however many there are. skip: those that cannot be read are rejected into ``report``.

    Raises:
        RowError: one of those that are chosen cannot be read, unless ``skip``. ConfigError: they are too large.
    """
    groups = _thinned(engine.encoder.documents(records), len, 2 * MAX_ROWS)
    items = engine.encode(chain(*groups), with_targets=True, on_error="return" if skip else "raise")
    documents = _thinned(_good(items, report), _size, 2 * READ_BYTES)
    rows = [record for document in documents for record in document.records]
    positives = {}
    for target in engine.encoder.positives:
        golds = [gold for document in documents for gold in document.golds[target]]
        positives[target] = encode_positives(engine, target, golds, rows)
    kept = _chosen(documents, positives, engine.tasks, most=MAX_ROWS, most_bytes=READ_BYTES)
    if documents and kept is None:
        raise ConfigError(
            f"these rows are too large to prove anything by: the first takes {_size(documents[0]) >> 20} MB, encoded, "
            f"and all together may take {READ_BYTES >> 20}.",
            hint="Name others: --rows FILE (rows=FILE).",
        )
    return kept


def _good(items: Iterable[Item], report: ReadReport) -> Iterator[EncodedDocument]:
    for item in items:
        if isinstance(item, EncodedDocument):
            yield item
        elif item.error is not None:
            report.reject(item.error.location or item.record.location, item.error.message)


def _thinned(items: Iterable[_T], size: Callable[[_T], int], most: int) -> list[_T]:
    """Every k-th of them, k a power of two: no more than about ``most`` together, in one pass."""
    kept, total, step = list[_T](), 0, 1
    for number, item in enumerate(items):
        if number % step:
            continue
        kept.append(item)
        total += size(item)
        while total > most and len(kept) > 1:
            kept, step = kept[::2], 2 * step
            total = sum(map(size, kept))
    return kept


def _every(documents: Sequence[EncodedDocument], count: int) -> list[EncodedDocument]:
    """So many of them, or all, at equal distances."""
    count = min(count, len(documents))
    return [documents[i * len(documents) // count] for i in range(count)]


def _size(document: EncodedDocument) -> int:
    """Bytes of the arrays of its windows."""
    kinds = [arrays_of(example) for example in document.examples for arrays_of in _KINDS.values()]
    return sum(np.asarray(a).nbytes for owners in kinds for arrays in owners.values() for a in arrays.values())


def _plain(document: EncodedDocument, tasks: Mapping[str, Task]) -> EncodedDocument:
    """Without the rows themselves, without warnings, and without texts that no answer points into."""
    texts = document.texts if any(task.per_token for task in tasks.values()) else ()
    records = [Record({}, Location()) for _ in document.records]
    return EncodedDocument(records, list(document.examples), document.layouts, texts, (), document.golds)


def _positives_of(
    chosen: Sequence[EncodedDocument],
    target: str,
    positives: Sequence[EncodedDocument],
    documents: Sequence[EncodedDocument],
) -> list[EncodedDocument]:
    """Those among all ``positives`` that belong to the chosen rows, in the order in which they first occur there."""
    keys = dict.fromkeys(gold.key for document in documents for gold in document.golds[target] if gold is not None)
    of_key = dict(zip(keys, positives, strict=True))
    wanted = dict.fromkeys(gold.key for document in chosen for gold in document.golds[target] if gold is not None)
    return [_plain(of_key[key], {}) for key in wanted]


# -- their file -------------------------------------------------------------------------------------------------------


def write_rows(rows: KeptRows, folder: Path, tasks: Mapping[str, Task]) -> None:
    """Writes them into a model folder that is not sealed yet. Raises SaveError."""
    tensors: dict[str, np.ndarray] = {}
    parts = {"rows": _described(rows.documents, tensors, tasks)}
    parts |= {f"of {target}": _described(found, tensors, {}) for target, found in rows.positives.items()}
    header = {"format": FORMAT, "parts": parts}
    from safetensors.numpy import save

    save_bytes(folder / ROWS, save(tensors, metadata={"polydetr": json_text(header)}))


def _described(
    documents: Sequence[EncodedDocument], tensors: dict[str, np.ndarray], tasks: Mapping[str, Task]
) -> dict[str, Any]:
    """What is said of the documents in the header; their arrays are added to ``tensors``, under numbers."""

    def added(arrays: Iterable[np.ndarray]) -> int:
        found = [np.asarray(array) for array in arrays]
        tensors[str(len(tensors))] = np.ascontiguousarray(np.concatenate(found) if found else np.zeros(0))
        return len(tensors) - 1

    examples = [example for document in documents for example in document.examples]
    layouts = [layout for document in documents for layout in document.layouts]
    first = examples[0] if examples else Example({})
    columns = []
    for kind, arrays_of in _KINDS.items():
        for owner, arrays in arrays_of(first).items():
            for name in arrays:
                column = [np.asarray(arrays_of(example)[owner][name]) for example in examples]
                scalar = column[0].ndim == 0
                lengths = None if scalar else added([np.array([len(a) for a in column], np.int64)])
                columns.append([kind, owner, name, added(np.atleast_1d(a) for a in column), lengths])
    placed = [layout for layout in layouts if layout is not None]
    return {
        "windows": [len(document.examples) for document in documents],
        "rows": [len(document.records) for document in documents],
        "weights": [example.weight for example in examples],
        "costs": [example.cost for example in examples],
        "padding": {target: dict(fills) for target, fills in first.padding.items()},
        "columns": columns,
        "layout_lengths": [None if layout is None else len(layout.row) for layout in layouts],
        "layouts": {name: added([getattr(layout, name) for layout in placed]) for name in _LAYOUT} if placed else {},
        "texts": [[[text.text, [list(word) for word in text.words]] for text in d.texts] for d in documents],
        "golds": {target: _golds(task, documents, added) for target, task in tasks.items()},
    }


def _golds(
    task: Task, documents: Sequence[EncodedDocument], added: Callable[[Iterable[np.ndarray]], int]
) -> dict[str, Any]:
    """The labels of one target: as JSON in the form that ``gold`` returns, or, where they are arrays, as an array."""
    golds = [gold for document in documents for gold in document.golds[task.target]]
    if any(isinstance(gold, np.ndarray) for gold in golds):
        known = [gold is not None for gold in golds]
        return {"known": known, "array": added(gold[None] for gold in golds if gold is not None)}
    adapter = _adapter(task)
    assert adapter is not None
    return {"values": [adapter.dump_python(gold, mode="json") for gold in golds]}


def _adapter(task: Task) -> TypeAdapter[Any] | None:
    """What reads and writes the labels of a task: by the type that its ``gold`` returns. None where it says none."""
    try:
        kind = typing.get_type_hints(type(task).gold).get("return", Any)
        return None if kind is Any else TypeAdapter(kind, config=ConfigDict(arbitrary_types_allowed=True))
    except (PydanticUserError, NameError, TypeError):
        return None


# -- read -------------------------------------------------------------------------------------------------------------


def read_rows(folder: Path, tasks: Mapping[str, Task]) -> KeptRows | None:
    """The rows that the folder keeps; None where it keeps none, as older folders do.

    Raises:
        ModelFolderError: they cannot be read.
    """
    if not (folder / ROWS).exists():
        return None
    from safetensors import SafetensorError, safe_open  # nothing but a proof needs it

    path = own_file(folder, ROWS)
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})["polydetr"])
            tensors = [file.get_tensor(str(i)) for i in range(len(file.keys()))]
        if header["format"] > FORMAT:
            raise ModelFolderError(
                f"{str(folder / ROWS)!r} is in format {header['format']}, this version reads up to {FORMAT}.",
                hint="Upgrade polydetr: pip install --upgrade polydetr.",
            )
        parts = header["parts"]
        documents = _restored(parts.pop("rows"), tensors, tasks)
        return KeptRows(documents, {n.removeprefix("of "): _restored(p, tensors, {}) for n, p in parts.items()})
    except (OSError, SafetensorError, ValidationError, ValueError, KeyError, TypeError, IndexError) as error:
        reason = f"{type(error).__name__}: {error!s:.200}"
        raise ModelFolderError(f"{str(folder / ROWS)!r} cannot be read: {reason}.", hint=COPY_AGAIN) from error


def _restored(
    part: Mapping[str, Any], tensors: Sequence[np.ndarray], tasks: Mapping[str, Task]
) -> list[EncodedDocument]:
    """The inverse of ``_described``."""
    windows, rows = part["windows"], part["rows"]
    parts: list[dict[str, dict[str, dict[str, np.ndarray]]]] = [{k: {} for k in _KINDS} for _ in range(sum(windows))]
    for kind, owner, name, place, lengths in part["columns"]:
        array = tensors[place]
        cut = list(array) if lengths is None else _parted(array, tensors[lengths])
        for found, value in zip(parts, cut, strict=True):
            found[kind].setdefault(owner, {})[name] = np.asarray(value)
    examples = [
        Example(p["group"], p["target"], p["positive"], weight, cost, part["padding"])
        for p, weight, cost in zip(parts, part["weights"], part["costs"], strict=True)
    ]
    layouts = iter(_layouts(part, tensors))
    golds = {target: iter(_restored_golds(task, part["golds"][target], tensors)) for target, task in tasks.items()}
    left, documents = iter(examples), []
    for i, (count, number) in enumerate(zip(windows, rows, strict=True)):
        texts = [FieldText(text, [tuple(word) for word in words]) for text, words in part["texts"][i]]
        documents.append(
            EncodedDocument(
                [Record({}, Location(file=_ROW, row=i + 1)) for _ in range(number)],
                [next(left) for _ in range(count)],
                [next(layouts) for _ in range(count)],
                texts,
                (),
                {target: [next(every) for _ in range(number)] for target, every in golds.items()},
            )
        )
    return documents


def _parted(array: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    return np.split(array, np.cumsum(lengths)[:-1])


def _layouts(part: Mapping[str, Any], tensors: Sequence[np.ndarray]) -> list[Layout | None]:
    lengths = part["layout_lengths"]
    known = np.array([length for length in lengths if length is not None], np.int64)
    if not part["layouts"]:
        return [None] * len(lengths)
    columns = [_parted(tensors[part["layouts"][name]], known) for name in _LAYOUT]
    each = (Layout(*arrays) for arrays in zip(*columns, strict=True))
    return [None if length is None else next(each) for length in lengths]


def _restored_golds(task: Task, saved: Mapping[str, Any], tensors: Sequence[np.ndarray]) -> list[Any]:
    if "array" in saved:
        each = iter(tensors[saved["array"]])
        return [next(each) if known else None for known in saved["known"]]
    adapter = _adapter(task)
    if adapter is None:
        raise ValueError(f"labels of the task {task.kind!r} cannot be read")
    return [adapter.validate_python(value) for value in saved["values"]]
