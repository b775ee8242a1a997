"""A file that was dropped: what kind it is, in which encoding its text stands, and how it is called."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath

from polydetr.core.files import file_names
from polydetr.core.installed import is_installed
from polydetr.data.readers import FORMATS
from polydetr.data.readers.source import guess_encoding
from polydetr.errors import RowError, quoted
from polydetr.serving.jobs import Job
from polydetr.serving.refusal import Refused
from polydetr.serving.rows import Columns
from polydetr.serving.table_body import GUESSED, items_of_file

_NEEDED = {"parquet": "pyarrow", "xlsx": "openpyxl"}
"""What reads a format, where that is installed apart."""
_SHOWN = ("csv", "tsv", "jsonl", "json", "parquet", "xlsx", "conll", "txt", "zip")
_TEXT = frozenset({"csv", "tsv", "jsonl", "json", "squad", "conll", "text", "txt"})
_LABELS_APART = frozenset({"conll", "squad", "json", "txt", "zip"})
"""Kinds of files of which some have labels that are read only where that is wanted."""
_LOOKED_AT = 50
_PART = 1 << 20
_LONGEST_NAME = 120


def suffixes() -> list[str]:
    """Of files that are offered to choose from: those that this service can read."""
    return [f".{name}" for name in _SHOWN if name not in _NEEDED or is_installed(_NEEDED[name])]


def kind_of(name: str) -> str:
    """The format of a file by its name, as ``items_of_file`` takes it. Raises Refused."""
    suffix = PurePosixPath(name.lower()).suffix[1:]
    if suffix in GUESSED or suffix == "zip":
        return suffix
    found = FORMATS.get(suffix)
    if found is None:
        raise Refused(
            415, f"the file {quoted(name, 60)} is of no kind that is read.", reason="type",
            hint=f"Its name may end in {', '.join(suffixes())}.",
        )  # fmt: skip
    package = _NEEDED.get(found)
    if package is not None and not is_installed(package):
        raise Refused(
            415, f"{suffix.upper()} is not read by this service.", reason="type",
            hint=f"Send CSV, or install polydetr-core[{found}] there.",
        )  # fmt: skip
    return found


def plain_name(name: str) -> str:
    """What a browser calls the file, without folders and what is no character."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(c for c in last if c.isprintable())[-_LONGEST_NAME:].strip() or "rows"


def file_stem(name: str) -> str:
    """The beginning of names of files about this one: safe on every system."""
    stem = PurePosixPath(name).stem
    return file_names([stem])[stem] or "rows"


def look_at(job: Job, columns: Columns) -> None:
    """Text that is no UTF-8 is read in the encoding that it most likely has, and that is told. A page has nobody at
    hand who would name one; whoever sees wrong characters saves the file as UTF-8.
    """
    if job.kind in _TEXT and (likely := likely_encoding(job.rows)):
        job.reading = replace(job.reading, encoding=likely)
        job.facts["encoding"] = likely
    if job.kind in _LABELS_APART:
        job.labels = has_labels(job, columns)


def has_labels(job: Job, columns: Columns) -> bool:
    """Whether a file whose labels are read apart has some: in its first rows, none of which is the worse for them."""
    rows = items_of_file(job.rows, job.kind, columns, reading=job.reading, labels=True)
    try:
        first = list(islice(rows, _LOOKED_AT))
    except Refused:
        return False
    good = [row for row in first if not isinstance(row, RowError)]
    return len(good) == len(first) and any(row.get(t) is not None for row in good for t in columns.targets)


def likely_encoding(path: Path) -> str | None:
    """None for UTF-8, and for what has a mark. Raises OSError."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        part = file.read(_PART)
        if part.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)) or b"\0" in part[:4096]:
            return None  # what is wrong with UTF-16 without a mark is said where it is read
        while True:
            try:
                decoder.decode(part, final=not part)
            except UnicodeDecodeError as error:
                return guess_encoding(_line_at(error.object, error.start))
            if not part:
                return None
            part = file.read(_PART)


def _line_at(data: bytes, at: int) -> bytes:
    begin, end = data.rfind(b"\n", 0, at) + 1, data.find(b"\n", at)
    return data[begin : end if end >= 0 else len(data)]


def downloads() -> Sequence[str]:
    """The suffixes of files that answers can be had as."""
    return [".csv", ".tsv", ".jsonl", *(f".{name}" for name, package in _NEEDED.items() if is_installed(package))]
