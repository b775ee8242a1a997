"""The columns of a table as a model folder holds them, in JSON terms, and read again: checked, as a file is."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from polydetr.modalities.table_columns import CategoryColumn, Column, DateColumn, NumberColumn
from polydetr.modalities.table_scale import KNOTS, Scale


def column_state(column: Column) -> dict[str, Any]:
    """The column in JSON terms; ``columns_from_state`` is the inverse."""
    state = asdict(column)
    if isinstance(column, CategoryColumn):
        state["rare"] = sorted(column.rare)
    return {"kind": column.kind, **state}


def columns_from_state(states: Any) -> list[Column]:
    """The inverse of ``column_state``, of all columns of a table. Raises ValueError where they have not this form."""
    return [_column(state) for state in _STATES.validate_python(states)]


class _Saved(BaseModel):
    model_config = ConfigDict(defer_build=True, extra="ignore", strict=True, allow_inf_nan=False)


class _Scale(_Saved):
    mean: float
    std: float = Field(gt=0, validation_alias=AliasChoices("std", "deviation"))  # older folders have the longer name
    low: float
    high: float
    knots: list[float] = Field(max_length=KNOTS)

    @model_validator(mode="after")
    def _rises(self) -> _Scale:
        if self.low > self.high or self.knots != sorted(self.knots) or (len(self.knots) == 1 and self.low < self.high):
            raise ValueError("the scale does not rise")
        return self

    def restored(self) -> Scale:
        return Scale(self.mean, self.std, self.low, self.high, tuple(self.knots))


class _Number(_Saved):
    kind: Literal["number"]
    name: str
    scale: _Scale
    comma: bool


class _Category(_Saved):
    kind: Literal["category"]
    name: str
    names: list[str]
    rare: list[str]
    open: bool
    words_missing: bool = False


class _Date(_Saved):
    kind: Literal["date"]
    name: str
    scale: _Scale
    day_first: bool


_STATES = TypeAdapter(list[Annotated[_Number | _Category | _Date, Field(discriminator="kind")]])


def _column(state: _Number | _Category | _Date) -> Column:
    match state:
        case _Number():
            return NumberColumn(state.name, state.scale.restored(), state.comma)
        case _Date():
            return DateColumn(state.name, state.scale.restored(), state.day_first)
        case _Category():
            return CategoryColumn(
                state.name, tuple(state.names), frozenset(state.rare), state.open, state.words_missing
            )
