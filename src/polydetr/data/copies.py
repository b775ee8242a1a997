"""Which rows are copies of one another: rows whose inputs are all equal, rows of the same text, rows that show the same
image. A model that was trained on one of them knows the others by heart.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polydetr.core.files import sha256_of
from polydetr.core.records import Record, Row, access_of
from polydetr.data.text_keys import field_text, fingerprint, normalize
from polydetr.schema.spec import IGNORE, Schema
from polydetr.values.cells import category_name, is_empty
from polydetr.values.decoding import ImageReading
from polydetr.values.images import image_sources

_HEAD = 4096
FEW_VALUES, ROWS_PER_VALUE = 20, 5
"""A column of so few values, each in so many rows on average, holds categories, whatever it is read as."""


@dataclass(frozen=True)
class Compared:
    """The columns by which rows are compared. inputs: all that are read, images left out; texts: those of ``inputs``
    whose repetition makes two rows copies though their other inputs differ; images: likewise, byte by byte.
    """

    inputs: tuple[str, ...]
    texts: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    _known: dict[int, tuple[Record, bytes | None, bytes | None]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @classmethod
    def of(cls, schema: Schema, rows: Sequence[Row] = ()) -> Compared:
        """The inputs of a schema; a text that is one of a few values in ``rows`` is no text to know rows by."""
        inputs = tuple(f.name for f in schema.inputs if f.modality not in (IGNORE, "image"))
        few = repeated_columns(schema.names("text"), rows)
        texts = tuple(name for name in schema.names("text") if name not in few)
        return cls(inputs, texts, tuple(schema.names("image")))

    def fingerprints(self, record: Record) -> tuple[bytes | None, bytes | None]:
        """Of the inputs and of the texts; None where they are empty, and of texts that are all of the inputs. Rows are
        compared when they are parted and when all parts have been read: each is computed once.
        """
        known = self._known.get(id(record))
        if known is None or known[0] is not record:
            cells = {name: _cell(record.row.get(name)) for name in self.inputs}
            texts = [cells[name] for name in self.texts] if self.texts != self.inputs else []
            known = self._known[id(record)] = (record, _of_cells(cells.values()), _of_cells(texts))
        return known[1:]

    def sources(self, record: Record) -> list[Path | Content]:
        """The record's images, those in memory by their content."""
        reading = ImageReading(access_of(record))
        items = (item for name in self.images for item in image_sources(record.row.get(name), reading))
        return [item if isinstance(item, Path) else Content.of(item) for item in items]


def repeated_columns(names: Iterable[str], rows: Sequence[Row]) -> set[str]:
    """Those of the columns that hold a few values again and again."""
    few = set()
    for name in names:
        values = [category_name(row.get(name)) for row in rows if not is_empty(row.get(name))]
        distinct = len(set(values))
        if 0 < distinct <= FEW_VALUES and len(values) >= ROWS_PER_VALUE * distinct:
            few.add(name)
    return few


def copy_keys(records: Sequence[Record], compared: Compared) -> list[list[Hashable]]:
    """Per record the keys that it shares with its copies, and with no other record."""
    sources = [compared.sources(record) for record in records] if compared.images else [[] for _ in records]
    shown = content_keys({source for images in sources for source in images})
    keys: list[list[Hashable]] = []
    for record, own in zip(records, sources, strict=True):
        images = tuple(shown[source] for source in own)
        found: list[Hashable] = [("image", image) for image in images]
        inputs, texts = compared.fingerprints(record)
        if images or inputs is not None:
            found.append(("inputs", inputs, images))
        if texts is not None:
            found.append(("text", texts))
        keys.append(found)
    return keys


def _of_cells(cells: Collection[str]) -> bytes | None:
    return fingerprint("\x1f".join(cells)) if any(cells) else None


def _cell(value: Any) -> str:
    """A value as it is compared: the same for texts that differ in case or blanks alone."""
    text = field_text(value)
    return text if isinstance(value, int | float) else normalize(text).strip("\x1f ")


def shared_rows(ours: Sequence[Collection[Hashable]], theirs: Sequence[Collection[Hashable]]) -> list[tuple[int, int]]:
    """(index in ``ours``, index in ``theirs``) for each of their rows that has a copy among ours, by ``copy_keys``."""
    first: dict[Hashable, int] = {}
    for i, keys in enumerate(ours):
        for key in keys:
            first.setdefault(key, i)
    found = ((min((first[key] for key in keys if key in first), default=None), j) for j, keys in enumerate(theirs))
    return [(i, j) for i, j in found if i is not None]


# -- images -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Content:
    """An image in memory, as far as it takes to compare it: its size in bytes and the digests of its head and whole."""

    size: int
    head: str
    whole: str

    @classmethod
    def of(cls, content: bytes) -> Content:
        return cls(len(content), _digest(content[:_HEAD]), _digest(content))


def content_keys(sources: Iterable[Path | Content]) -> Mapping[Path | Content, Hashable]:
    """Image → a key, the same for the same bytes. A file is read as far as it takes: not at all where no other has its
    size.
    """
    keys: dict[Any, tuple[Hashable, ...]] = {source: (_size(source),) for source in sources}
    for look in (_head, _whole):
        shared = Counter(keys.values())
        keys = {source: (*key, look(source)) if shared[key] > 1 else key for source, key in keys.items()}
    return keys


def _size(source: Path | Content) -> Hashable:
    if isinstance(source, Content):
        return source.size
    try:
        return source.stat().st_size if source.is_file() else str(source)  # what is none is an error when it is read
    except OSError:
        return str(source)


def _head(source: Path | Content) -> str:
    if isinstance(source, Content):
        return source.head
    try:
        with source.open("rb") as file:
            return _digest(file.read(_HEAD))
    except OSError:
        return str(source)


def _whole(source: Path | Content) -> str:
    if isinstance(source, Content):
        return source.whole
    try:
        return sha256_of(source)
    except OSError:
        return str(source)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
