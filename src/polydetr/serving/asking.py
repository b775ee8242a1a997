"""A request's options, and the fleet asked with its rows: errors that the door has found keep their places."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from polydetr.core.reading import ReadOptions
from polydetr.errors import RowError, did_you_mean, fault_reason, quoted
from polydetr.serving.contract import Ask, Busy, Fleet, ModelInfo, Reply, TooLate, Unavailable, UnknownModel
from polydetr.serving.refusal import Refused, error_dict
from polydetr.serving.rows import Columns, Item


class AskQuery(BaseModel):
    """What may stand in the query of an address that answers rows."""

    model_config = ConfigDict(extra="forbid")

    strictness: Literal["normal", "strict", "lenient"] = Field(
        "normal",
        description="strict refuses rows unlike those of the training; lenient takes what cannot be read as missing",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="for generated images: another seed, other images")
    min_confidence: float | None = Field(
        None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description='withhold answers less probable than this ("abstained": true)',
    )
    accuracy: float | None = Field(
        None, ge=0, le=1, allow_inf_nan=False,
        description="withhold as many answers as it takes to be right this often, by the validation rows",
    )  # fmt: skip
    probabilities: bool = Field(False, description="also the probability of every class")
    explain: bool = Field(False, description="with each answer, what in the row speaks for it; takes longer")
    target: str | None = Field(
        None, max_length=500, description="of the explanation: which answer, where there are several"
    )
    choice: str | None = Field(
        None, max_length=500, description="of the explanation: another label, or the number of an entity"
    )

    def ask(self, *, cells: bool = False) -> Ask:
        """As the fleet takes it."""
        return Ask(**self.model_dump(include=set(AskQuery.model_fields)), cells=cells)


class FileQuery(AskQuery):
    """The same where the rows may be a file, with what a file does not say about itself."""

    encoding: str | None = Field(None, max_length=60, description="of a table that is not UTF-8, such as latin-1")
    delimiter: str | None = Field(None, max_length=3, description="between the cells of a table: a character, or tab")
    header: bool | None = Field(None, description="whether the first line of a table names its columns")
    columns: str | None = Field(
        None, max_length=10_000, description="the names of a table's columns, in their order: text,label"
    )

    def reading(self) -> ReadOptions:
        """As readers take it. Raises SchemaError."""
        return ReadOptions(
            encoding=self.encoding, header=self.header, delimiter="\t" if self.delimiter == "tab" else self.delimiter,
            columns=None if self.columns is None else [name.strip() for name in self.columns.split(",")],
        )  # fmt: skip


Q = TypeVar("Q", bound=AskQuery)


def query_of(request: Request, kind: type[Q]) -> Q:
    """The options in the address; one that is unknown, wrong or there twice is refused by name. FastAPI's own reading
    of them takes as long as all else that is done for a request of one row.

    Raises:
        Refused.
    """
    given = request.query_params.multi_items()
    try:
        found = kind.model_validate(dict(given))
    except ValidationError as error:
        fault = error.errors()[0]
        name = str(fault["loc"][0])
        option = f"the option {quoted(name, 60)}"
        if fault["type"] == "extra_forbidden":
            said, hint = f"{option} in the address is unknown.", did_you_mean(name, kind.model_fields)
        elif fault["type"] == "missing":
            said, hint = f"the address lacks {option}.", f"Add it: ?{name}=..."
        else:
            said = f"{option} in the address is {quoted(fault['input'], 60)}: {fault_reason(fault)}."
            about = kind.model_fields[name].description
            hint = f"What it does: {about}. Or leave it out." if about else "Leave it out."
        raise Refused(400, said, hint=hint, reason="query") from None
    if len({name for name, _ in given}) < len(given):
        raise Refused(400, "an option stands in the address twice.", hint="Leave one of them out.", reason="query")
    return found


def model_named(fleet: Fleet, name: str) -> ModelInfo:
    """Raises UnknownModel."""
    models = fleet.models()
    if name not in models:
        raise UnknownModel(f"no model {quoted(name, 60)} is served.", hint=did_you_mean(name, models))
    return models[name]


async def replies_to(
    fleet: Fleet, model: str, items: Sequence[Item], ask: Ask, *, timeout_s: float, first: int = 1
) -> list[Reply]:
    """One reply per item, in order, numbered from ``first``. Raises what ``Fleet.answer`` raises."""
    asked = [item for item in items if not isinstance(item, RowError)]
    fleet.unread(model, len(items) - len(asked))
    found = iter(await fleet.answer(model, asked, ask, timeout_s=timeout_s) if asked else ())
    return [
        _of_error(item, number) if isinstance(item, RowError) else _numbered(next(found), number)
        for number, item in enumerate(items, start=first)
    ]


async def replies_patiently(
    fleet: Fleet,
    model: str,
    items: Sequence[Item],
    ask: Ask,
    *,
    columns: Columns,
    timeout_s: float,
    first: int,
    patience_s: float,
) -> list[Reply]:
    """The same for a part of many rows, which can wait: it asks again where too much is waiting or a model is just
    being exchanged, for ``patience_s`` in all, and for one half after the other where all are too many for the time. A
    column that no row of the part has is missing in each of them: that it is in none of all rows cannot be known.
    """
    items, began = _with_all_columns(items, columns), time.monotonic()
    while True:
        try:
            return await replies_to(fleet, model, items, ask, timeout_s=timeout_s, first=first)
        except (Busy, Unavailable) as error:
            wait = min(error.retry_after if isinstance(error, Busy) else 1.0, 10.0)
            if time.monotonic() - began + wait > patience_s:
                raise
            await asyncio.sleep(max(wait, 0.05))
        except TooLate:
            if len(items) < 2:
                raise
            how = {"columns": columns, "timeout_s": timeout_s, "patience_s": patience_s}
            half = len(items) // 2
            replies = await replies_patiently(fleet, model, items[:half], ask, first=first, **how)
            return replies + await replies_patiently(fleet, model, items[half:], ask, first=first + half, **how)


def _with_all_columns(items: Sequence[Item], columns: Columns) -> list[Item]:
    place = next((i for i, item in enumerate(items) if not isinstance(item, RowError)), None)
    found = list(items)
    if place is not None:
        found[place] = {**items[place], **{n: None for n in columns.inputs if n not in items[place]}}  # type: ignore[dict-item]
    return found


def _numbered(reply: Reply, number: int) -> Reply:
    error = reply.get("error")
    if isinstance(error, Mapping):
        place = {k: v for k, v in (error.get("location") or {}).items() if v is not None} | {"row": number}
        told = {k: v for k, v in {**error, "location": place}.items() if v is not None}
        return {**reply, "row": number, "error": told}
    return {**reply, "row": number}


def _of_error(error: RowError, number: int) -> Reply:
    place = error.location
    told: dict[str, Any] = error_dict(error.message, hint=error.hint, location=place)
    told["location"] = told.get("location", {}) | {"row": number}
    return {"row": number, "error": told}
