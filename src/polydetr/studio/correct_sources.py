"""Where the rows to correct come from: what was written or dropped, kept validation rows, earlier corrections."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from polydetr.data.readers.source import guess_encoding
from polydetr.errors import InputError, RowError, listed, quoted
from polydetr.serving.contract import ModelInfo
from polydetr.serving.rows import Columns, Item, item_of
from polydetr.serving.table_body import SUFFIXES, items_of_file, written
from polydetr.studio.corrections import Corrections
from polydetr.studio.handed_rows import MOST_ROWS, RowSet

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
"""Files that are a row by themselves, where the model reads one image and nothing else."""
LONGEST = 400_000
"""UTF-16 characters of what is written on the page: it comes in one message, in which some count twice, of at most a
million.
"""


def suffixes(columns: Columns) -> tuple[str, ...]:
    """What files may be called that are dropped."""
    return (*SUFFIXES, *(IMAGES if image_column(columns) else ()))


def image_column(columns: Columns) -> str | None:
    """The one image that the model reads, where it reads nothing else."""
    return columns.inputs[0] if len(columns.inputs) == 1 and columns.inputs[0] in columns.images else None


def text_column(columns: Columns) -> str | None:
    """The one text that the model reads, where it reads nothing else."""
    return columns.inputs[0] if columns.inputs == columns.texts and len(columns.inputs) == 1 else None


def rows_of_lines(info: ModelInfo, said: str, person: str) -> RowSet:
    """A row per line that holds something.

    Raises:
        InputError: there is none.
    """
    columns = Columns.of(info)
    column = text_column(columns)
    lines = [line.strip("\r") for line in said.split("\n") if line.strip()]
    if not lines or column is None:
        raise InputError("there is no text to correct.", hint="Write one, or several, each in a line of its own.")
    rows = _row_set(info, ({column: line} for line in lines), "", person)
    if len(said.encode("utf-16-le", "surrogatepass")) < 2 * LONGEST:
        return rows
    told = f"only the first {LONGEST:,} characters are taken: drop more of them as a file"
    return replace(rows, messages=(*rows.messages, told))


def rows_of_file(info: ModelInfo, name: str, content: bytes, person: str) -> RowSet:
    """The rows of a file, of long ones the first ``MOST_ROWS``; a row that cannot be read stays among them, as an
    error. Blocks.

    Raises:
        InputError: it is of a format that is not read here, or holds no row. Refused: it cannot be read as a whole.
    """
    columns = Columns.of(info)
    suffix = Path(name).suffix.lower()
    if suffix in IMAGES and (column := image_column(columns)):
        return RowSet(info.name, [item_of({column: content}, columns)], name, person)
    if suffix not in SUFFIXES:
        raise InputError(
            f"{quoted(name, 80)} is no file of rows that is read here.",
            hint=f"Expected one that ends in {listed(suffixes(columns))}.",
        )
    content, told = _as_utf8(content) if suffix != ".parquet" else (content, ())
    with written(content, SUFFIXES[suffix]) as path:
        found = _row_set(info, items_of_file(path, SUFFIXES[suffix], columns), name, person)
    return replace(found, messages=(*told, *found.messages))


def _as_utf8(content: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Text that is no UTF-8 is read in the encoding that it most likely has, and that is told: a page has nobody at
    hand who would name one.
    """
    if b"\0" in content[:4096]:
        return content, ()  # what is wrong with UTF-16 without a mark is said where it is read
    try:
        content.decode()
    except UnicodeDecodeError as error:
        begin, end = content.rfind(b"\n", 0, error.start) + 1, content.find(b"\n", error.start)
        likely = guess_encoding(content[begin : end if end >= 0 else len(content)])
        try:
            return content.decode(likely).encode(), (f"its text is read as {likely}",)
        except UnicodeDecodeError:
            pass  # the reader says where it breaks
    return content, ()


def merged(sets: Sequence[RowSet], failures: Sequence[str] = ()) -> RowSet:
    """Several files of one model as one set. failures: why others give no rows."""
    items, told = first_rows(item for one in sets for item in one.items)
    messages = dict.fromkeys([*failures, *(message for one in sets for message in one.messages), *told])
    return RowSet(sets[0].model, items, ", ".join(one.name for one in sets)[:200], sets[0].person, tuple(messages))


def first_rows(items: Iterable[Item]) -> tuple[list[Item], tuple[str, ...]]:
    """As many as are worked through at once, and what is said where there are more."""
    left = iter(items)
    first = list(islice(left, MOST_ROWS))
    longer = next(left, None) is not None
    return first, (f"only the first {MOST_ROWS:,} rows are taken",) if longer else ()


def corrected_rows(corrections: Corrections, model: str, at: str) -> tuple[list[Item], tuple[str, ...]]:
    """What was corrected, the newest first; the row of the key ``at`` is among them, however old, also where its
    correction was withdrawn. Blocks.
    """
    count = corrections.count(model)
    found = corrections.list(model, limit=MOST_ROWS, offset=max(0, count - MOST_ROWS))
    rows: list[Item] = [one.row for one in reversed(found)]
    if at and all(one.row_key != at for one in found):
        rows += [one.row for one in corrections.of_row(model, at).values()][:1]
    return rows, (f"only the newest {MOST_ROWS:,} corrections are shown",) if count > MOST_ROWS else ()


def _row_set(info: ModelInfo, items: Iterable[Item], name: str, person: str) -> RowSet:
    first, told = first_rows(items)
    if not any(not isinstance(item, RowError) for item in first):
        reason = f" The first: {first[0].message}" if first and isinstance(first[0], RowError) else ""
        raise InputError(f"{quoted(name, 80) if name else 'the text'} holds no row that can be read.{reason}")
    return RowSet(info.name, first, name, person, told)
