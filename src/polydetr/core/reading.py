"""How rows are read: the one set of options of every reader, verb and configuration, and how hints speak of it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from polydetr.errors import SchemaError


@dataclass(frozen=True)
class ReadOptions:
    """What a file does not say about itself; None: it is recognized.

    format: a name of ``data.readers.FORMATS``. encoding: of a text file that is neither UTF-8 nor marked UTF-16.
    delimiter, header, columns: of a table of text; ``header=False``: the first line is data; columns: their names.
    images: the folder of the images that the rows name: their paths begin there, and nothing outside of it is opened.
    scheme: of the tags of a column file: IOB1, IOB2, BIOES, BMES, "plain" (labels without spans), or "auto". split: the
    part of a YOLO data.yaml ("train", "val", "test"), or several, of which the first that it has is read; None: what
    fits the role of the rows. on_error: "raise"
    at a row that cannot be read, or "skip": it is left out and reported; None: what the verb does by itself.

    Raises:
        SchemaError: a value that none of them can be.
    """

    format: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    header: bool | None = None
    columns: Sequence[str] | None = None
    images: str | Path | None = None
    scheme: str = "auto"
    split: str | Sequence[str] | None = None
    on_error: Literal["raise", "skip"] | None = None

    def __post_init__(self) -> None:
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n'):
            raise SchemaError(f"the delimiter is {self.delimiter!r}, expected one character, such as ; or a tab.")
        if isinstance(self.columns, str) or (self.columns is not None and not all(self.columns)):
            raise SchemaError(f"columns are {self.columns!r}, expected a list of names.")
        if self.on_error not in (None, "raise", "skip"):
            raise SchemaError(f"on_error is {self.on_error!r}, expected 'raise' or 'skip'.")

    def given(self) -> dict[str, Any]:
        """The options that were set, by name."""
        defaults = {f.name: f.default for f in fields(self)}
        return {name: value for name, value in asdict(self).items() if value != defaults[name]}


@dataclass
class Leaps:
    """Parts of a file that are not read, so that a time limit leaves rows from all of it: whoever takes the rows sets
    ``skip``, and the reader passes over so many bytes, to the end of the line there, before it gives the next row.

    size: of the file in bytes, 0 where its reader knows no leaps; offset: where the next line begins. lines: how many
    were passed over; count: of the leaps made.
    """

    size: int = 0
    offset: int = 0
    skip: int = 0
    lines: int = 0
    count: int = 0


@dataclass(frozen=True)
class ExpectedColumns:
    """The columns that a file should have: what a run is to predict, or what a model reads, in the order of its
    training rows. They tell a header from data, and name the columns of a file that has none.

    texts: the inputs that hold text, where rows are asked, so that a file may be plain text; None: that is not known.
    """

    inputs: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    texts: tuple[str, ...] | None = None

    def __contains__(self, name: str) -> bool:
        return name in self.inputs or name in self.targets


def option(name: str, value: Any = "...") -> str:
    """How an option of reading is given, for hints: on the command line, where every verb that reads rows takes it, and
    in Python, where every function that does takes ``reading``.
    """
    keyword = "..." if value == "..." else repr(value)
    return f"{_on_command_line(name, value)} (ReadOptions({name}={keyword}))"


def _on_command_line(name: str, value: Any) -> str:
    if name == "on_error":
        return "--skip-errors"
    if isinstance(value, bool):
        return f"--{'' if value else 'no-'}{name}"
    shown = ",".join(value) if isinstance(value, (list, tuple)) else str(value)
    return f"--{name} {shown if shown == '...' else shlex.quote(shown)}"


SKIP = option("on_error", "skip")
"""How rows that cannot be read are left out."""
SAY_IMAGES = option("images", "FOLDER")
"""How the folder of the images is named, for the messages about them."""
