"""A request's body → its rows, by its content type."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from polydetr.core.reading import ReadOptions
from polydetr.engine.encode import Strictness
from polydetr.errors import RowError, listed, nearest, quoted
from polydetr.serving.json_body import json_object
from polydetr.serving.limits import Limits
from polydetr.serving.refusal import Refused, not_kept
from polydetr.serving.rows import Columns, Item, items_of
from polydetr.serving.table_body import FORMATS, SUFFIXES, items_of_file, written

STREAMS = ("application/x-ndjson", "application/jsonl")
"""Content types of rows that are answered while they come."""
FORM = "multipart/form-data"
_LARGE = 1 << 18
"""Bodies from so many bytes on are parsed beside the event loop."""


def content_type(request: Request) -> str:
    """Without its parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def check_reading(request: Request, reading: ReadOptions) -> None:
    """Raises Refused where something is said of a table, and the body is none."""
    given, kind = reading.given(), content_type(request)
    if given and (kind not in FORMATS or kind in STREAMS) and kind != FORM:
        raise Refused(
            400, f"the option {quoted(next(iter(given)))} in the address is of tables, and the body is none.",
            hint="Leave it out, or send text/csv.", reason="query",
        )  # fmt: skip


async def items_of_body(
    request: Request, columns: Columns, limits: Limits, strictness: Strictness, reading: ReadOptions
) -> list[Item]:
    """The rows of a body that is answered as a whole. reading: what a table does not say about itself.

    Raises:
        Refused: it is of no kind that is taken, is not what it claims to be, holds too many rows, or the disk has no
        room for its file.
    """
    try:
        return await _items(request, columns, limits, strictness, reading)
    except OSError as error:
        raise not_kept(error) from error


async def _items(
    request: Request, columns: Columns, limits: Limits, strictness: Strictness, reading: ReadOptions
) -> list[Item]:
    """Raises Refused, OSError."""
    kind = content_type(request)
    if kind == FORM:
        form = await _form(request, limits)
        try:
            return await _of_form(form, columns, limits, strictness, reading)
        finally:
            await form.close()
    if kind != "application/json" and kind not in FORMATS and not kind.startswith("image/"):
        raise Refused(
            415, f"a body of {quoted(kind, 60) if kind else 'no content type'} is not taken.", reason="type",
            hint=f"Taken are application/json, {', '.join(FORMATS)}, {FORM} and image/*.",
        )  # fmt: skip
    body = await request.body()
    if kind.startswith("image/"):
        return items_of([_row_of_image(body, columns)], columns)
    if kind in FORMATS:
        return await asyncio.to_thread(_of_table, body, FORMATS[kind], columns, limits, strictness, reading)
    if len(body) < _LARGE:
        return _of_json(body, columns, limits)
    return await asyncio.to_thread(_of_json, body, columns, limits)


async def _form(request: Request, limits: Limits) -> FormData:
    """Raises Refused, OSError."""
    try:
        return await request.form(max_files=limits.parts, max_fields=limits.parts, max_part_size=limits.body_bytes)
    except ValueError:
        raise Refused(
            400, "the form is not in the charset that its content type names.", hint="Send it as UTF-8.", reason="form"
        ) from None


def _of_json(body: bytes, columns: Columns, limits: Limits) -> list[Item]:
    document = json_object(body)
    if "rows" not in document or len(document) > 1:
        wrong = next((name for name in document if name != "rows"), None)
        near = nearest(wrong, ["rows"]) if wrong else None
        said = f"the body has the key {quoted(wrong, 60)}" if wrong else "the body has no key"
        raise Refused(
            400, f'{said}, expected "rows" and nothing else.', reason="json",
            hint=near or 'Send {"rows": [{...}, ...]}; options stand in the address: predict?explain=1.',
        )  # fmt: skip
    rows = document["rows"]
    if not isinstance(rows, list):
        raise Refused(400, f'"rows" is {quoted(rows, 60)}, expected a list of rows.', hint='{"rows": [{...}, ...]}')
    if len(rows) > limits.rows:
        raise too_many(limits)
    return items_of(rows, columns)


def too_many(limits: Limits) -> Refused:
    """The refusal of more rows than are answered at once."""
    return Refused(
        413, f"the body has more than {limits.rows:,} rows.", reason="rows",
        hint="Send fewer at once, a stream (application/x-ndjson), or a job (POST /v1/jobs).",
    )  # fmt: skip


def _of_table(
    body: bytes, kind: str, columns: Columns, limits: Limits, strictness: Strictness, reading: ReadOptions
) -> list[Item]:
    with written(body, kind) as path:
        items = list(
            islice(items_of_file(path, kind, columns, strictness=strictness, reading=reading), limits.rows + 1)
        )
    if len(items) > limits.rows:
        raise too_many(limits)
    return items


async def _of_form(
    form: FormData, columns: Columns, limits: Limits, strictness: Strictness, reading: ReadOptions
) -> list[Item]:
    """A form is a file of rows, in the part "file"; or one row, its parts its columns; or, for a model that reads one
    column, a row per part.
    """
    parts = form.multi_items()
    names = [name for name, _ in parts]
    if names == ["file"] and "file" not in columns.inputs and isinstance(file := parts[0][1], UploadFile):
        kind = _kind_of(file)
        return await asyncio.to_thread(_of_table, await file.read(), kind, columns, limits, strictness, reading)
    if not parts:
        raise Refused(400, "the form is empty.", hint=f"Its parts are the columns {listed(columns.inputs)}.")
    cells = [(name, await _cell_of(name, part, columns)) for name, part in parts]
    if len(columns.inputs) == 1 and set(names) == set(columns.inputs):
        if len(cells) > limits.rows:
            raise too_many(limits)
        return [c if isinstance(c, RowError) else items_of([{name: c}], columns)[0] for name, c in cells]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise Refused(400, f"the form has the part {quoted(twice, 60)} twice.", hint="Send one row per form.")
    if error := next((c for _, c in cells if isinstance(c, RowError)), None):
        return [error]
    return items_of([dict(cells)], columns)


async def _cell_of(name: str, part: UploadFile | str, columns: Columns) -> Any:
    """What stands in a part: the bytes of an image, or text; a RowError where it is neither."""
    if isinstance(part, str):
        return part
    data = await part.read()
    if name in columns.images:
        return data
    try:
        return data.decode()
    except UnicodeDecodeError:
        return RowError(f"the part {quoted(name, 60)} is a file that is no text, expected text.")


def _kind_of(file: UploadFile) -> str:
    kind = (file.content_type or "").partition(";")[0].strip().lower()
    suffix = "." + (file.filename or "").rpartition(".")[2].lower()
    found = FORMATS.get(kind) or SUFFIXES.get(suffix)
    if found is None:
        raise Refused(
            415, f"the file {quoted(file.filename or '', 60)} is of no kind that is taken.", reason="type",
            hint=f"Its name may end in {', '.join(SUFFIXES)}.",
        )  # fmt: skip
    return found


def _row_of_image(body: bytes, columns: Columns) -> dict[str, bytes]:
    images = [name for name in columns.inputs if name in columns.images]
    if len(images) != 1 or len(columns.inputs) != 1:
        raise Refused(
            415, "the body is an image, and the model reads more, or other things, than one image.",
            hint=f"Send a form (multipart/form-data) with the parts {listed(columns.inputs)}.", reason="type",
        )  # fmt: skip
    return {images[0]: body}
