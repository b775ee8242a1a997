"""What is learned of the items of a history from the training rows: their fields, and the scale of their ages."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from polydetr.core.records import Row
from polydetr.errors import ConfigError, RowError, SchemaError, did_you_mean, listed
from polydetr.schema.columns import holds_words, infer_modality, typical
from polydetr.schema.spec import FieldSpec
from polydetr.values.cells import is_missing, read_number

if TYPE_CHECKING:
    from polydetr.config.sections import HistoryConfig

ITEM_TEXT = "text"
"""The field under which an item that is a string is read, where items have no text field of another name."""
ITEM_NUMBER = "item"
"""The field under which an item that is a whole number is read: its name, a category."""
_NAMES_ITEM = re.compile(
    r"(?:(?:.*[_\s.:-])?(?:id|item|product|article|movie|film|track|song|book|page|video|sku|asin|isbn)"
    r"(?:[_\s-]?(?:id|no|nr|num|number|code))?|.*[a-z]I[dD])",
    re.IGNORECASE,
)
SAMPLE = 20_000
"""Distinct items from which their fields, scales and categories are learned."""


def as_list(value: Any) -> Sequence[Any]:
    """The items of a cell; none where it holds neither items nor a single item."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (str, Mapping)):
        return [value]
    return value if isinstance(value, (list, tuple)) else ()


def item_row(item: Any, text_field: str) -> Row | None:
    """An item as a row: a mapping, a string (under ``text_field``), or the whole number that names it; None where it is
    none of them.
    """
    if isinstance(item, Mapping):
        return item
    if isinstance(item, str):
        return {text_field: item}
    whole = isinstance(item, (int, float, np.number)) and not isinstance(item, bool) and float(item).is_integer()
    return {ITEM_NUMBER: int(item)} if whole else None


def distinct_items(fields: Sequence[FieldSpec], rows: Sequence[Row], *, most: int = 1) -> list[Row]:
    """Every item that occurs, as a row, at most ``most`` times: repetitions tell nothing more about its fields."""
    by_value: dict[str, list[Row]] = {}
    for row in rows:
        for field in fields:
            for item in as_list(row.get(field.name)):
                if (as_row := item_row(item, ITEM_TEXT)) is not None and len(by_value) < SAMPLE:
                    same = by_value.setdefault(repr(item), [])
                    if len(same) < most:
                        same.append(as_row)
    return [item for same in by_value.values() for item in same]


def item_fields(items: Sequence[Row], fields: Sequence[FieldSpec], config: HistoryConfig) -> list[FieldSpec]:
    """How each field of the items is read: as ``history.fields`` has it, or as a column with these values would be.

    Raises:
        SchemaError: no item can be read. ConfigError: a field is named that no item has.
    """
    values: dict[str, list[Any]] = {}
    for item in items:
        for name, value in item.items():
            if not is_missing(value):
                values.setdefault(name, []).append(value)
    for name, key in [(config.age, "history.age"), *((n, "history.fields") for n in config.fields or ())]:
        if name is not None and name not in values:
            raise ConfigError(f"{key}: no item has a field {name!r}", hint=did_you_mean(name, values))
    specs = []
    for name in config.fields or values:
        if name == config.age:
            continue
        kind = (config.fields or {}).get(name)
        if kind is None:
            is_text = name == ITEM_TEXT and isinstance(values[name][0], str)
            kind = "text" if is_text else _kind_of(name, values[name], alone=len(values) == 1)
        if kind not in ("ignore", "history"):
            specs.append(FieldSpec(name, kind))
    if not specs:
        names = ", ".join(repr(f.name) for f in fields)
        known = listed(values) or "none"
        raise SchemaError(
            f"the items of {names} have no field that can be read; their fields are: {known}",
            hint="Name them: history.fields = {title: text}. "
            "An item is a mapping, a text, or a whole number that names it.",
        )
    return specs


def how_to_name(specs: Sequence[FieldSpec], items: Sequence[Row]) -> str:
    """How to say that whole numbers are names; "" where no field has them."""
    for spec in specs:
        values = [value for item in items if not is_missing(value := item.get(spec.name))]
        if spec.modality == "number" and _holds_whole(values):
            fields = ", ".join(f"{s.name}: {'category' if s is spec else s.modality}" for s in specs)
            return f"; where {spec.name!r} is a name, say history.fields: {{{fields}}}"
    return ""


def _kind_of(name: str, values: Sequence[Any], *, alone: bool) -> str:
    """How a field of items is read: what names the item is a category, since it comes back in many histories, though
    not in the distinct items; else as a column would be. alone: items have no other field.
    """
    kind = infer_modality(name, values)[0]
    names_item = _NAMES_ITEM.fullmatch(name) and not isinstance(typical(values), Mapping)
    by_code = names_item and (kind == "ignore" or (kind == "text" and not holds_words(values)))
    by_number = (names_item or alone) and kind == "number" and _holds_whole(values)
    return "category" if by_code or by_number else kind


def _holds_whole(values: Sequence[Any]) -> bool:
    """Whether all values are whole numbers, which may be names as well as quantities."""
    return all(str(value).removesuffix(".0").isdecimal() for value in values)


def _ages(items: Sequence[Row], name: str) -> Iterator[float]:
    for item in items:
        try:
            age = read_number(item.get(name), column=name)
        except RowError:
            continue  # ``encode`` raises for it, with its place
        if age is not None:
            yield math.log1p(max(age, 0.0))


def age_scale(items: Sequence[Row], name: str | None) -> tuple[float, float]:
    """Mean and standard deviation of log(1 + age) over the items; (0, 1) where no age is known."""
    ages = np.array(list(_ages(items, name)) if name is not None else [])
    if not len(ages):
        return 0.0, 1.0
    return float(ages.mean()), float(ages.std()) or 1.0
