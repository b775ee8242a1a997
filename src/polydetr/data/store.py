"""Encoded examples on disk: an Arrow file, memory-mapped, so that the next run need not tokenize again and memory stays
small.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from polydetr.core.examples import Arrays, Example
from polydetr.core.files import make_folder
from polydetr.errors import DataFileError, SaveError

_FLUSH = 1000
_FLUSH_BYTES = 64 << 20
"""Examples are written out after so many, or as soon as they hold as much: images are large."""
MAX_CACHE_BYTES = 2 << 30
_KINDS: dict[str, Callable[[Example], Mapping[str, Arrays]]] = {
    "group": lambda example: example.groups,
    "target": lambda example: example.targets,
    "positive": lambda example: example.positives,
}
_Column = tuple[str, str, str, str]
"""Kind, owner (a group or target), the array's name, and its shape as ``_shape_name`` writes it."""


class ExampleStore:
    """A read-only list of examples. ``lengths[i]`` is example i's number of tokens.

    Raises:
        DataFileError: the file is not a whole one of these.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            meta = json.loads(table.schema.metadata[b"polydetr"])
            columns, self._padding = meta["columns"], meta["padding"]
        except (OSError, pa.ArrowInvalid, KeyError, TypeError) as error:
            raise DataFileError(f"{str(path)!r} is not a file of tokenized rows: {error}", hint="Delete it.") from None
        self._columns: list[_Column] = [tuple(c) for c in columns]  # type: ignore[misc]
        self.lengths = table.column("length").to_numpy()
        self.weights = table.column("weight").to_numpy()
        # Chunk by chunk, as they lie in the mapped file: joining them would copy all into memory.
        chunks = table.to_batches()
        self._starts = np.cumsum([0, *(len(chunk) for chunk in chunks)])
        self._flat = [[_flat(chunk.column(_key(*c[:3]))) for c in self._columns] for chunk in chunks]

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(index)
        chunk = int(np.searchsorted(self._starts, index, side="right")) - 1
        row = index - int(self._starts[chunk])
        parts: dict[str, dict[str, dict[str, np.ndarray]]] = {kind: {} for kind in _KINDS}
        for (kind, owner, name, shape), (values, offsets) in zip(self._columns, self._flat[chunk], strict=True):
            array = values[offsets[row] : offsets[row + 1]]
            parts[kind].setdefault(owner, {})[name] = array if shape == "vector" else array.reshape(_shape(shape))
        weight, cost = float(self.weights[index]), int(self.lengths[index])
        return Example(parts["group"], parts["target"], parts["positive"], weight, cost, self._padding)

    @staticmethod
    def write(examples: Iterable[Example], path: Path) -> ExampleStore:
        """Streams examples to ``path``; the file appears only when it is whole.

        Raises:
            SaveError: the disk is full or the folder cannot be written.
        """
        partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}.partial")
        try:
            make_folder(path.parent)
            _write(examples, partial)
            os.replace(partial, path)
        except OSError as error:
            raise SaveError(f"cannot write the tokenized data to {str(path)!r}: {error.strerror or error}") from error
        finally:
            with suppress(OSError):
                partial.unlink()
        return ExampleStore(path)


class StoredExamples(Sequence[Example]):
    """Some neighboring examples of a store, read when they are asked for."""

    def __init__(self, store: ExampleStore, places: range) -> None:
        self.store, self.places = store, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return StoredExamples(self.store, self.places[index])
        return self.store[self.places[index]]


def _key(kind: str, owner: str, name: str) -> str:
    return f"{kind}/{owner}/{name}"


def _write(examples: Iterable[Example], path: Path) -> None:
    """One Arrow record batch per chunk; arrays lie flat, as lists of numbers, and get their shapes back when read."""
    chunks = _chunks(examples)
    first = next(chunks, [])
    columns = _columns_of(first[0]) if first else []
    fields = [pa.field("length", pa.int32()), pa.field("weight", pa.float32())]
    for kind, owner, name, _ in columns:
        dtype = pa.from_numpy_dtype(_array(first[0], kind, owner, name).dtype)
        fields.append(pa.field(_key(kind, owner, name), pa.large_list(dtype)))
    schema = pa.schema(fields, metadata=_metadata(columns, first[0].padding if first else {}))
    with pa.ipc.new_file(str(path), schema) as writer:
        for rows in chain([first], chunks):
            data = [
                pa.array([e.num_tokens for e in rows], pa.int32()),
                pa.array([e.weight for e in rows], pa.float32()),
            ]
            for kind, owner, name, _ in columns:
                arrays = [_array(e, kind, owner, name).reshape(-1) for e in rows]
                offsets = np.cumsum([0, *map(len, arrays)])
                data.append(pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(arrays))))
            writer.write_batch(pa.record_batch(data, schema=schema))


def _chunks(examples: Iterable[Example]) -> Iterator[list[Example]]:
    """``_FLUSH`` examples at a time, fewer where they hold ``_FLUSH_BYTES``."""
    rows: list[Example] = []
    size = 0
    for example in examples:
        rows.append(example)
        size += sum(a.nbytes for arrays in example.groups.values() for a in arrays.values())
        if len(rows) >= _FLUSH or size >= _FLUSH_BYTES:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows


def _metadata(columns: Sequence[_Column], padding: Mapping[str, Mapping[str, int]]) -> dict[bytes, bytes]:
    """What holds for all examples of the file, as Arrow keeps it."""
    plain = {target: dict(fills) for target, fills in padding.items()}
    return {b"polydetr": json.dumps({"columns": columns, "padding": plain}).encode()}


def _columns_of(example: Example) -> list[_Column]:
    return [
        (kind, owner, name, _shape_name(np.asarray(array)))
        for kind, arrays_of in _KINDS.items()
        for owner, arrays in arrays_of(example).items()
        for name, array in arrays.items()
    ]


def _shape_name(array: np.ndarray) -> str:
    """ "scalar", "vector", or the shape of one entry ("3x160x160") where entries are more than numbers."""
    if array.ndim < 2:
        return "vector" if array.ndim else "scalar"
    return "x".join(map(str, array.shape[1:]))


def _shape(name: str) -> tuple[int, ...]:
    return () if name == "scalar" else (-1, *map(int, name.split("x")))


def _array(example: Example, kind: str, owner: str, name: str) -> np.ndarray:
    return np.asarray(_KINDS[kind](example)[owner][name])


def _flat(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """(values, offsets): row i of the column is ``values[offsets[i] : offsets[i + 1]]``."""
    return column.values.to_numpy(zero_copy_only=False), column.offsets.to_numpy()


def trim_cache(folder: Path, *, keep: Path, limit: int = MAX_CACHE_BYTES) -> None:
    """Deletes the least recently used files of the cache until it is within ``limit`` bytes; ``keep`` stays, and so
    does what the system will not delete while another process reads it.
    """
    files: list[tuple[float, int, Path]] = []
    for path in folder.glob("*.arrow"):
        with suppress(FileNotFoundError):  # another process may be tidying the same cache
            status = path.stat()
            files.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= limit:
            return
        if path != keep:
            with suppress(PermissionError):
                path.unlink(missing_ok=True)
                total -= size
