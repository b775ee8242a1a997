"""What an explanation speaks of in each modality: its units (words, cells of pictures, columns, items), what stands for
them where they enter the network, and the row without some of them.

Shapes: W windows, K numbers a row of one modality (see ``entries``), U units.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from polydetr.core.examples import Arrays
from polydetr.core.records import Row
from polydetr.explain.entries import Entry, TextEntry, TokenEntry
from polydetr.explain.words import TokenWords, Words
from polydetr.modalities.history import HistoryModality
from polydetr.modalities.table import TableModality
from polydetr.modalities.table_columns import MISSING
from polydetr.modalities.text import TextModality
from polydetr.reports.explained import ExplainedItem

Scores = NDArray[np.float64]


class Part(ABC):
    """One modality's part of one row, none of whose windows lacks it."""

    group: ClassVar[str]
    kind: ClassVar[str]
    """What its units are called where they are counted (``deletion_verdict``)."""
    columns: tuple[str, ...]
    """The column of every unit."""

    def __len__(self) -> int:
        return len(self.columns)

    @abstractmethod
    def entry(self, embedder: nn.Module) -> Entry:
        """Where it enters the network."""

    @abstractmethod
    def blank(self, arrays: Arrays, window: int) -> dict[str, np.ndarray]:
        """The arrays of one window with every unit blanked."""

    @abstractmethod
    def scores(self, found: Scores) -> Scores:
        """(W, K) → (U,): what each unit's vectors received, in all windows."""

    @abstractmethod
    def without(self, row: Row, gone: Collection[int]) -> dict[str, Any]:
        """The row with some units deleted; all others stay what they were."""

    @property
    def seen(self) -> Sequence[int]:
        """The units that the model has read: what is missing is none of them."""
        return range(len(self))

    @property
    def probes(self) -> Sequence[set[int]]:
        """The units that are taken away together to find out what each is worth."""
        return [{unit} for unit in self.seen]


class TextPart(Part):
    """Words; ``windows`` says which tokens stand for them."""

    group: ClassVar[str] = "text"
    kind: ClassVar[str] = "words"

    def __init__(self, modality: TextModality, words: Words, windows: Sequence[TokenWords]) -> None:
        self.words, self.windows, self.pad_id = words, windows, modality.spec.pad_id
        self.columns = tuple(place.field for place in words.places)

    def entry(self, embedder: nn.Module) -> Entry:
        return TextEntry(embedder)

    def blank(self, arrays: Arrays, window: int) -> dict[str, np.ndarray]:
        """[PAD] in the place of every word, and no word shape."""
        special, fill = self.windows[window].special, {"input_ids": self.pad_id, "shape_ids": 0}
        return {
            name: np.where(special, array, np.array(fill[name], dtype=array.dtype)) if name in fill else array
            for name, array in arrays.items()
        }

    def scores(self, found: Scores) -> Scores:
        longest = max(len(tokens.special) for tokens in self.windows)
        result = np.zeros(len(self))
        for tokens, own in zip(self.windows, found.reshape(len(found), longest, -1).sum(-1), strict=True):
            np.add.at(result, tokens.word, tokens.share * own[tokens.token])
        return result

    def without(self, row: Row, gone: Collection[int]) -> dict[str, Any]:
        return self.words.without(row, gone)

    @property
    def seen(self) -> Sequence[int]:
        return sorted({int(word) for tokens in self.windows for word in tokens.word})


class TablePart(Part):
    """Columns of numbers, categories and dates."""

    group: ClassVar[str] = "table"
    kind: ClassVar[str] = "columns"

    def __init__(self, modality: TableModality, arrays: Arrays) -> None:
        self.columns = modality.fields
        self._codes = np.array(modality.offsets[:-1]) + MISSING
        self._missing = arrays["code"] == self._codes

    def entry(self, embedder: nn.Module) -> Entry:
        return TokenEntry(embedder)

    def blank(self, arrays: Arrays, window: int) -> dict[str, np.ndarray]:
        """Every cell missing."""
        code = self._codes[arrays["column"]].astype(arrays["code"].dtype)
        return {**arrays, "number": np.zeros_like(arrays["number"]), "code": code}

    def scores(self, found: Scores) -> Scores:
        return found.reshape(len(found), len(self), -1).sum((0, 2))

    def without(self, row: Row, gone: Collection[int]) -> dict[str, Any]:
        return {**row, **{self.columns[unit]: None for unit in gone}}

    @property
    def seen(self) -> Sequence[int]:
        return np.flatnonzero(~self._missing).tolist()


class HistoryPart(Part):
    """Items of lists; those that are not read (too old, empty) are no units."""

    group: ClassVar[str] = "history"
    kind: ClassVar[str] = "items"

    def __init__(self, modality: HistoryModality, row: Row, arrays: Arrays) -> None:
        fields = [modality.fields[number] for number in arrays["field"]]
        self.columns = tuple(fields)
        self.places = [
            0 if order == modality.config.max_items else len(row[field]) - 1 - int(order)
            for field, order in zip(fields, arrays["order"], strict=True)
        ]
        self._names = [spec.name for spec in modality.item_fields]

    def entry(self, embedder: nn.Module) -> Entry:
        return TokenEntry(embedder)

    def blank(self, arrays: Arrays, window: int) -> dict[str, np.ndarray]:
        """Every item in its place, and nothing in it."""
        empty = {name for name in arrays if name.endswith(".length") or name in ("item", "age", "age_known")}
        return {name: np.zeros_like(array) if name in empty else array for name, array in arrays.items()}

    def scores(self, found: Scores) -> Scores:
        return found.reshape(len(found), len(self), -1).sum((0, 2))

    def without(self, row: Row, gone: Collection[int]) -> dict[str, Any]:
        shorter = dict(row)
        for field in set(self.columns):
            out = {self.places[unit] for unit in gone if self.columns[unit] == field}
            if out:
                value = row[field]
                items = [] if isinstance(value, (str, Mapping)) else list(value)
                shorter[field] = [item for place, item in enumerate(items) if place not in out]
        return shorter

    def explained(self, row: Row, scores: Scores) -> tuple[ExplainedItem, ...]:
        return tuple(
            ExplainedItem(column, place, self._shown(row[column], place), float(score))
            for column, place, score in zip(self.columns, self.places, scores, strict=True)
        )

    def _shown(self, value: Any, place: int) -> str:
        item = value if isinstance(value, (str, Mapping)) else value[place]
        if isinstance(item, str):
            return item
        told = [(name, item.get(name)) for name in self._names]
        return ", ".join(f"{value}" for _, value in told if isinstance(value, (str, int, float))) or "an item"


class Units:
    """The units of all parts of a row, numbered through."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self._starts = np.cumsum([0, *map(len, parts)]).tolist()
        self.text = next((part for part in parts if isinstance(part, TextPart)), None)

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def columns(self) -> list[str]:
        """The column of every unit."""
        return [column for part in self.parts for column in part.columns]

    @property
    def seen(self) -> list[int]:
        """The units that the model has read."""
        return [start + unit for start, part in zip(self._starts, self.parts, strict=False) for unit in part.seen]

    @property
    def probes(self) -> list[set[int]]:
        """All parts', one after another."""
        parts = zip(self._starts, self.parts, strict=False)
        return [{start + unit for unit in probe} for start, part in parts for probe in part.probes]

    @property
    def present(self) -> set[str]:
        """The columns of which something was read; all others are missing."""
        columns = self.columns
        return {columns[unit] for unit in self.seen}

    def split(self, scores: Scores) -> dict[str, Scores]:
        """Group → its own units' scores."""
        cut = np.split(scores, self._starts[1:-1]) if self.parts else []
        return {part.group: own for part, own in zip(self.parts, cut, strict=True)}

    def without(self, row: Row, gone: Collection[int]) -> Row:
        """The row with those units deleted."""
        shorter: Row = row
        for part, own in self._own(gone):
            shorter = part.without(shorter, own) if own else shorter
        return shorter

    def counts(self, gone: Collection[int]) -> dict[str, float]:
        """How many of each kind."""
        return {part.kind: float(len(own)) for part, own in self._own(gone) if own}

    def word(self, index: int) -> int:
        """The unit that is word ``index`` of the windowed text, into which answers point."""
        assert self.text is not None
        return self._starts[self.parts.index(self.text)] + self.text.words.number(index)

    def _own(self, gone: Collection[int]) -> list[tuple[Part, set[int]]]:
        return [
            (part, {unit - start for unit in gone if start <= unit < start + len(part)})
            for start, part in zip(self._starts, self.parts, strict=False)
        ]
