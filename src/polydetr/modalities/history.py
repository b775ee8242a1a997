"""Histories: lists of items, the latest last; one token per item, embedded by the same weights as the other columns.

An item is a row of its own (text, image, numbers, categories) or a bare string. Its texts and images go through the
embedders of the model's other columns; its numbers and categories through a table of their own, because
the columns of an item are not those of the row. An item that recurs in a batch is embedded once.

Arrays of one row, with N items; P is "text", "image" or "table", and every item is padded to the same length, T_P
entries:

    P.<name>       (N, T_P, ...)  the arrays of that modality, padded
    P.length       int16 (N,)     how many of the T_P entries are real
    item           int64 (N,)     hash of all of the above: the same for the same item
    order          int16 (N,)     0 = the latest; max_items = a single item, given in place of a list
    field          int8 (N,)      which column
    age, age_known float32, int8 (N,)  the scaled logarithm of its age; only where ``history.age`` names the field

token(item) = mean over P of (mean over P's real tokens)  +  order embedding  +  age embedding
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from polydetr.core.access import IN_MEMORY, FileAccess
from polydetr.core.documents import EncodedGroup, Window
from polydetr.core.records import Finding, Row
from polydetr.errors import ConfigError, Location, RowError
from polydetr.modalities.base import BuildContext, Modality, Needs, ReadsFiles, digest
from polydetr.modalities.history_items import (
    ITEM_NUMBER,
    ITEM_TEXT,
    age_scale,
    as_list,
    distinct_items,
    how_to_name,
    item_fields,
    item_row,
)
from polydetr.modalities.history_units import HistoryPart
from polydetr.modalities.image import ImageModality
from polydetr.modalities.table import TableModality
from polydetr.modalities.text import TextModality
from polydetr.schema.spec import FieldSpec
from polydetr.values.cells import is_missing, read_number

if TYPE_CHECKING:
    from polydetr.config.sections import Config, HistoryConfig

_FOLDER = "history"
_ENCODING = 1
"""Raised whenever ``encode`` gives other arrays for the same items."""
_CACHED = 50_000
_BORROWED: dict[str, type[Modality]] = {"text": TextModality, "image": ImageModality}


class _Item(NamedTuple):
    """One item, encoded: its padded arrays, their hash, and its findings."""

    arrays: Mapping[str, np.ndarray]
    key: int
    findings: tuple[Finding, ...]


class _Saved(BaseModel):
    """What a model folder holds of it, beside what every modality has."""

    model_config = ConfigDict(defer_build=True, allow_inf_nan=False)

    item_fields: list[tuple[str, str]]
    table: dict[str, Any] | None
    age_scale: tuple[float, Annotated[float, Field(gt=0)]]
    words: float = Field(ge=0)


class HistoryModality(Modality):
    """item_fields: the columns of an item. others: the model's modalities, of which those of texts and images read
    items too. table: reads the numbers and categories of items. age_scale: mean and standard deviation of log(1 + age).
    words: the average number of words in an item's texts.

    Raises:
        ConfigError: ``history.item_tokens`` leaves no room for an item's texts.
    """

    name: ClassVar[str] = "history"
    reads: ClassVar[frozenset[str]] = frozenset({"history"})
    files: ClassVar[frozenset[str]] = frozenset(f"{_FOLDER}/{name}" for name in TableModality.files)

    def __init__(
        self,
        fields: Sequence[str],
        item_fields: Sequence[FieldSpec],
        *,
        config: HistoryConfig,
        needs: Needs,
        others: Mapping[str, Modality],
        table: TableModality | None = None,
        age_scale: tuple[float, float] = (0.0, 1.0),
        words: float = 0.0,
    ) -> None:
        super().__init__(fields, needs=needs)
        self.item_fields, self.config, self.table = tuple(item_fields), config, table
        self.age_scale, self.words = age_scale, words
        own = {"table": table} if table is not None else {}
        self.parts: dict[str, Modality] = {**_borrowed(self.item_fields, config, others), **own}
        self._cache: dict[str, _Item] = {}

    @classmethod
    def items(
        cls, fields: Sequence[FieldSpec], rows: Sequence[Row], config: Config
    ) -> tuple[list[FieldSpec], list[Row]]:
        if not fields:
            return [], []
        items = distinct_items(fields, rows, most=2)  # a vocabulary leaves out what occurs once
        specs = item_fields(items, fields, config.history)
        return [spec for spec in specs if any(spec.modality in kind.reads for kind in _BORROWED.values())], items

    @classmethod
    def build(cls, fields: Sequence[FieldSpec], context: BuildContext) -> Self:
        """Learns the fields of the items, and their numbers' and ages' scales, from the distinct items.

        Raises:
            SchemaError: no item can be read. ConfigError: ``history.age`` or ``history.fields`` names no field.
        """
        items, config = distinct_items(fields, context.rows), context.config.history
        specs = item_fields(items, fields, config)
        if any(spec.modality == "category" for spec in specs):  # a category must come back to be told apart
            items = distinct_items(fields, context.rows, most=context.config.table.min_count)
        columns = [spec for spec in specs if spec.modality in TableModality.reads]
        table = TableModality.build(columns, BuildContext(items, context.config, notify=context.notify))
        names = ", ".join(f"{spec.name} ({spec.modality})" for spec in specs)
        names += how_to_name(specs, items)
        context.notify(f"items of {', '.join(repr(f.name) for f in fields)} are read by {names}")
        texts = [spec.name for spec in specs if spec.modality in TextModality.reads]
        words = [len(str(item[name]).split()) for item in items for name in texts if item.get(name) is not None]
        return cls(
            [f.name for f in fields],
            specs,
            config=config,
            needs=context.needs,
            others=context.others,
            table=table if table.fields else None,
            age_scale=age_scale(items, config.age),
            words=sum(words) / max(1, len(items)),
        )

    # -- items --------------------------------------------------------------------------------------------------------

    def encode(self, rows: Sequence[Row], *, access: FileAccess = IN_MEMORY) -> EncodedGroup:
        """One window: the latest items of every column. A mapping or a string in place of a list is a single item.

        Raises:
            RowError: a value is no list, or an item cannot be read; the message says which.
        """
        findings: list[Finding] = []
        entries: list[dict[str, np.ndarray]] = []
        for row in rows:
            for number, field in enumerate(self.fields):
                items, single = self._items(row.get(field), field, findings)
                for place, item in enumerate(items):
                    encoded = self._item(item, field, len(items) - place, findings, access)
                    order = self.config.max_items if single else len(items) - 1 - place
                    if encoded is not None:
                        entries.append(self._entry(encoded, item, field, number, order, findings))
        # A row without items has arrays of length 0: those of one empty item, cut off.
        shown = entries or [self._entry(self._encoded({}, IN_MEMORY), None, "", 0, 0, [])]
        arrays = {name: np.stack([entry[name] for entry in shown])[: len(entries)] for name in shown[0]}
        return EncodedGroup([Window(arrays)], (), findings)

    def _items(self, value: Any, field: str, findings: list[Finding]) -> tuple[list[Any], bool]:
        """The items that are read, and whether the value is a single item in place of a list."""
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if is_missing(value) or (isinstance(value, (list, tuple)) and not value):
            findings.append(Finding("missing", field, f"{field!r} is missing"))
            return [], False
        if isinstance(value, (str, Mapping)):
            return [value], True
        if not isinstance(value, (list, tuple)):
            raise RowError(
                f"{value!r:.80} is {type(value).__name__}, expected a list of items",
                location=Location(column=field),
                hint="An item is a mapping of its fields, a string, or a whole number that names it.",
            )
        most = self.config.max_items
        if len(value) > most:
            findings.append(
                Finding("truncated", field, f"{field!r} has {len(value)} items; the latest {most} are read")
            )
        return list(value[-most:]), False

    def _item(self, item: Any, field: str, back: int, findings: list[Finding], access: FileAccess) -> _Item | None:
        """One item, encoded; None, with a finding, where it is empty. back: its number from the end, 1 = the latest."""
        where = f"item {back} from the end of {field!r}"
        if is_missing(item):
            findings.append(Finding("missing", field, f"{where} is missing"))
            return None
        row = item_row(item, self._text_field)
        if row is None or (not isinstance(item, (str, Mapping)) and not self._numbered):
            raise RowError(
                f"{where} is {item!r:.80}, expected a mapping of its fields, a string, or a whole number that names it",
                location=Location(column=field),
            )
        key = "" if self.reads_files else repr([row.get(spec.name) for spec in self.item_fields])
        encoded = self._cache.get(key) if key else None
        if encoded is None:
            try:
                encoded = self._encoded(row, access)
            except RowError as error:
                inner = f", {error.location.column!r}" if error.location and error.location.column else ""
                raise RowError(
                    f"{where}{inner}: {error.message}", location=Location(column=field), hint=error.hint
                ) from None
            if key and len(self._cache) < _CACHED:
                self._cache[key] = encoded
        if not any(encoded.arrays[f"{name}.length"] for name in self.parts):
            findings.append(Finding("missing", field, f"{where} has none of the fields that are read"))
            return None
        findings += [Finding(f.kind, field, f"{where}: {f.message}") for f in encoded.findings]
        return encoded

    @property
    def _numbered(self) -> bool:
        """Whether a whole number names an item."""
        return any(spec.name == ITEM_NUMBER for spec in self.item_fields)

    @property
    def _text_field(self) -> str:
        """The field under which an item that is a string is read."""
        return next((spec.name for spec in self.item_fields if spec.modality in TextModality.reads), ITEM_TEXT)

    def _encoded(self, row: Row, access: FileAccess) -> _Item:
        arrays: dict[str, np.ndarray] = {}
        findings: list[Finding] = []
        key_hash = hashlib.blake2b(digest_size=8)
        for name, part in self.parts.items():
            group = part.encode([row], access=access)
            findings += group.warnings
            room, of_part = self._room(name), group.windows[0].arrays
            length = min(room, len(next(iter(of_part.values()))))
            if len(group.windows) > 1:
                findings.append(Finding("truncated", None, f"the first {length} tokens of its text are read"))
            arrays[f"{name}.length"] = np.array(length, dtype=np.int16)
            for key, array in of_part.items():
                padded = np.zeros((room, *array.shape[1:]), dtype=array.dtype)
                padded[:length] = array[:length]
                arrays[f"{name}.{key}"] = padded
        for key in sorted(arrays):
            key_hash.update(key.encode() + np.ascontiguousarray(arrays[key]).tobytes())
        return _Item(arrays, int.from_bytes(key_hash.digest(), "little", signed=True), tuple(findings))

    def _room(self, name: str) -> int:
        """The padded length of an item in this modality, in tokens, columns, or images (one per field)."""
        part = self.parts[name]
        return part.max_tokens if isinstance(part, TextModality) else len(part.fields)

    def _entry(
        self, encoded: _Item, item: Any, field: str, number: int, order: int, findings: list[Finding]
    ) -> dict[str, np.ndarray]:
        entry = dict(encoded.arrays)
        entry["item"] = np.array(encoded.key, dtype=np.int64)
        entry["order"] = np.array(order, dtype=np.int16)
        entry["field"] = np.array(number, dtype=np.int8)
        if self.config.age is not None:
            age = self._age(item, field, findings) if isinstance(item, Mapping) else None
            mean, std = self.age_scale
            scaled = 0.0 if age is None else (math.log1p(age) - mean) / std
            entry["age"] = np.array(scaled, dtype=np.float32)
            entry["age_known"] = np.array(age is not None, dtype=np.int8)
        return entry

    def _age(self, item: Mapping[str, Any], field: str, findings: list[Finding]) -> float | None:
        assert self.config.age is not None
        age = read_number(item.get(self.config.age), column=field)
        if age is not None and age < 0:
            findings.append(Finding("out_of_range", field, f"an item of {field!r} is {age:g} days old; 0 is taken"))
        return None if age is None else max(age, 0.0)

    # -- state --------------------------------------------------------------------------------------------------------

    @property
    def tokens_per_entry(self) -> int:
        """The cost of an item: not the one token that the encoder attends over, but those from which it is embedded."""
        parts = {name: part.tokens_per_entry * len(part.fields) for name, part in self.parts.items()}
        if "text" in parts:
            parts["text"] = min(self._room("text"), 2 + round(1.4 * self.words))
        return max(1, sum(parts.values()))

    def value_schema(self, column: str) -> dict[str, Any]:
        parts = [(spec.name, part) for spec in self.item_fields for part in [self._part_of(spec.name)] if part]
        fields = {name: part.value_schema(name) for name, part in parts}
        item = {
            "anyOf": [{"type": "object", "properties": fields}, {"type": "string"}, {"type": ["integer", "null"]}],
            "description": "a mapping of its fields, a text, or the number that names it",
        }
        said = f"items, the latest last, of which the last {self.config.max_items} are read"
        return {"anyOf": [{"type": "array", "items": item}, item], "description": said}

    def example_value(self, column: str) -> list[dict[str, Any]]:
        """One item of typical values."""
        parts = [(spec.name, part) for spec in self.item_fields for part in [self._part_of(spec.name)] if part]
        return [{name: part.example_value(name) for name, part in parts}]

    def measure(self, column: str, value: Any) -> float | None:
        """How many items."""
        return None if is_missing(value) else float(len(as_list(value)))

    def _part_of(self, field: str) -> Modality | None:
        return next((part for part in self.parts.values() if field in part.fields), None)

    @property
    def reads_files(self) -> bool:
        return any(isinstance(part, ReadsFiles) and part.reads_files for part in self.parts.values())

    def content_key(self, rows: Sequence[Row], *, access: FileAccess) -> str:
        items = [item for field in self.fields for row in rows for item in as_list(row.get(field))]
        mappings = [item for item in items if isinstance(item, Mapping)]
        readers = [part for part in self.parts.values() if isinstance(part, ReadsFiles)]
        return "".join(part.content_key(mappings, access=access) for part in readers)

    def units(self, row: Row, windows: Sequence[Window]) -> HistoryPart:
        """The items that are read, without those that are too old or empty; see ``units.HasUnits``."""
        arrays = windows[0].arrays
        columns = [self.fields[number] for number in arrays["field"]]
        indices = [
            0 if order == self.config.max_items else len(row[column]) - 1 - int(order)
            for column, order in zip(columns, arrays["order"], strict=True)
        ]
        return HistoryPart(columns, indices, names=[spec.name for spec in self.item_fields])

    def state(self) -> dict[str, Any]:
        return {
            **super().state(),
            "item_fields": [[spec.name, spec.modality] for spec in self.item_fields],
            "config": self.config.model_dump(),
            "table": self.table.state() if self.table is not None else None,
            "age_scale": list(self.age_scale),
            "words": self.words,
        }

    def save_files(self, folder: Path) -> None:
        if self.table is not None:
            (folder / _FOLDER).mkdir(exist_ok=True)
            self.table.save_files(folder / _FOLDER)

    @classmethod
    def from_state(cls, state: Mapping[str, Any], folder: Path, *, others: Mapping[str, Modality]) -> Self:
        from polydetr.config.sections import HistoryConfig

        saved, table = _Saved.model_validate(state), None
        if saved.table is not None:
            table = TableModality.from_state({"needs": {}, **saved.table}, folder / _FOLDER, others={})
        mean, std = saved.age_scale
        return cls(
            state["fields"],
            [FieldSpec(name, modality) for name, modality in saved.item_fields],
            config=HistoryConfig(**state["config"]),
            needs=Needs.from_state(state["needs"]),
            others=others,
            table=table,
            age_scale=(mean, std),
            words=saved.words,
        )

    def fingerprint(self) -> str:
        config, specs = self.config, [(spec.name, spec.modality) for spec in self.item_fields]
        parts = [(name, part.fingerprint()) for name, part in self.parts.items()]
        return digest(_ENCODING, self.fields, specs, parts, config.max_items, config.age, self.age_scale)


def _borrowed(
    item_fields: Sequence[FieldSpec], config: HistoryConfig, others: Mapping[str, Modality]
) -> dict[str, Modality]:
    """The model's modalities for texts and images, for these fields of the items.

    Raises:
        ConfigError: ``history.item_tokens`` leaves no room for an item's texts.
    """
    parts: dict[str, Modality] = {}
    for name, kind in _BORROWED.items():
        fields = [spec.name for spec in item_fields if spec.modality in kind.reads]
        if fields and name in others:
            parts[name] = part = others[name].over(fields)
            if isinstance(part, TextModality):
                parts[name] = part = part.within(config.item_tokens)
                if part.max_tokens < 1 + 3 * len(fields):
                    raise ConfigError(
                        f"history.item_tokens = {config.item_tokens} leaves no room for {len(fields)} texts",
                        hint="Raise it, or name fewer texts in history.fields.",
                    )
    return parts
