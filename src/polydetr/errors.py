"""Every error that polydetr raises on purpose.

    PolydetrError
    ├── InputError            what the user handed in is wrong (exit code 2)
    │   ├── DataFileError     a file cannot be read as what it claims to be
    │   ├── SchemaError       columns, types or targets do not fit
    │   └── RowError          one row is wrong; says which
    ├── ConfigError           configuration: all faults at once (exit code 2)
    ├── BackboneError         a backbone is unknown, missing, or not the file it should be
    ├── ModelFolderError      a saved model is truncated, tampered with, or from a newer version
    ├── StudyError            a study of settings cannot be opened, or is another one (exit code 2)
    ├── StoreError            the store of people cannot be opened, or is another program's (exit code 2)
    │   └── StoreUnavailable  it cannot be reached now; the same call works once it is back
    ├── SaveError             writing failed; what was there before is untouched
    │   └── OutputError       the place named for the output holds something else, or another run has it (exit code 2)
    └── Interrupted           stopped by the user; says what was kept and how to go on

A message names the offending value, what was expected, how to fix it and where it stands. It holds at most
``MESSAGE_LIMIT`` characters and commands no terminal, whatever the data hold: ``shown`` and ``quoted`` are how text of
the data is shown to people.
"""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

MESSAGE_LIMIT = 1000
"""Characters of an error, its place and its hint included."""
_HINT_LIMIT = 300
_FILE_LIMIT = 200
FAULTS_SHOWN = 12
_OF_FILES_SHOWN = 3
_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but line feeds and tabs, what turns the direction of writing, and halves of characters."""


class _Repr(reprlib.Repr):
    """``repr`` of a value of any size, of which no more is turned to text than can be shown."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlong = 3, 400
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = 12
        self.maxstring = self.maxother = MESSAGE_LIMIT

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        """In the mapping's own order."""
        if x and level <= 0:
            return "{...}"
        parts = [f"{self.repr1(k, level - 1)}: {self.repr1(v, level - 1)}" for k, v in islice(x.items(), self.maxdict)]
        return f"{{{', '.join([*parts, *['...'] * (len(x) > self.maxdict)])}}}"

    def repr_int(self, x: int, level: int) -> str:
        """Python refuses to write out numbers of thousands of digits."""
        return super().repr_int(x, level) if x.bit_length() < 10_000 else f"a number of {x.bit_length():,} bits"


_REPR = _Repr()


def escaped(text: str) -> str:
    """``text`` with all that would command a terminal written as escapes; line feeds and tabs stay."""
    return _COMMANDS.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def shown(value: Any, limit: int = 80) -> str:
    """A value of the data on one line, of ``limit`` characters at most: text as it stands, without quotation marks,
    control characters escaped; anything else as by ``repr``.
    """
    text = value[: limit + 1] if isinstance(value, str) else _REPR.repr(value)
    text = escaped(text).replace("\n", "\\n").replace("\t", "\\t")
    return text if len(text) <= limit else text[: limit - 1] + "…"


def quoted(value: Any, limit: int = 80) -> str:
    """As ``shown``, text within quotation marks: ``repr`` with a bound."""
    return shown(_REPR.repr(value[: limit + 1] if isinstance(value, str) else value), limit)


def bounded(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """A whole message, escaped; of a longer one the middle is left out: it begins with the value and ends with the
    remedy.
    """
    if len(text) > limit:
        text = text[:limit] + text[-limit:]
        text = escaped(text)
    else:
        text = escaped(text)
        if len(text) <= limit:
            return text
    tail = limit // 3
    return f"{text[: limit - tail - 5]} ... {text[-tail:]}"


def first_of(lines: Iterable[str], *, limit: int = MESSAGE_LIMIT - 100) -> list[str]:
    """The first dozen lines, as far as they fit into a message, and how many more there are."""
    every = [bounded(line, 300) for line in lines]
    kept, room = [], limit
    for line in every[:FAULTS_SHOWN]:
        room -= len(line) + 5
        if room < 0 and kept:
            break
        kept.append(line)
    more = len(every) - len(kept)
    return [*kept, f"and {more:,} more"] if more else kept


@dataclass(frozen=True, slots=True)
class Location:
    """Where a value came from. ``row`` counts data rows from 1, as people do; ``line`` counts lines of the file."""

    file: str | None = None
    row: int | None = None
    column: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        file = escaped(self.file or "")
        parts = [file if len(file) <= _FILE_LIMIT else "…" + file[-_FILE_LIMIT:]] if file else []
        if self.line is not None:
            parts.append(f"line {self.line}")
        elif self.row is not None:
            parts.append(f"row {self.row}")
        if self.column is not None:
            parts.append(f"column {quoted(self.column)}")
        return ", ".join(parts)


class PolydetrError(Exception):
    """Root of the tree. ``exit_code`` is what the command line returns for it."""

    exit_code = 1

    def __init__(self, message: str, *, location: Location | None = None, hint: str | None = None) -> None:
        self.message = bounded(message)
        self.location = location
        self.hint = hint = bounded(hint, _HINT_LIMIT) if hint else hint
        where = f"{location}: " if location and str(location) else ""
        text = where + bounded(message, MESSAGE_LIMIT - len(where) - len(hint or "") - 2)
        if hint and not text.endswith((".", "!", "?", ":")):
            text += "."
        super().__init__(f"{text} {hint}" if hint else text)


class InputError(PolydetrError, ValueError):
    """What the user handed in is wrong."""

    exit_code = 2


class DataFileError(InputError):
    """A file is missing, empty, in another encoding, or not in the format it claims."""


class SchemaError(InputError):
    """Columns, types or targets do not fit the data."""


class RowError(InputError):
    """One row is wrong; ``location`` says which."""

    def at(self, location: Location) -> RowError:
        """The same error with the file and the row that it came from, where it does not know them."""
        inner = self.location or Location()
        if inner.row is not None or inner.line is not None:
            return self
        return RowError(self.message, location=replace(location, column=inner.column), hint=self.hint)


def row_fault(error: BaseException, location: Location) -> RowError:
    """The guard around everything that is done with one row: whatever fails there is a fault of that row alone, and
    becomes a RowError. An error about more than the row, or a wish to stop, is raised as it is.
    """
    if isinstance(error, RowError):
        return error.at(location)
    if isinstance(error, (PolydetrError, KeyboardInterrupt, SystemExit, GeneratorExit)):
        raise error
    if isinstance(error, RecursionError):
        return RowError("the row is nested too deeply to be read.", location=location)
    if isinstance(error, MemoryError):
        return RowError("the row needs more memory than there is.", location=location)
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return RowError(f"the row cannot be read ({type(error).__name__}: {shown(reason, 200)}).", location=location)


class ConfigError(PolydetrError, ValueError):
    """The configuration is wrong; the message lists every fault found."""

    exit_code = 2


class BackboneError(PolydetrError):
    """A backbone is unknown, cannot be had, or is not the file it should be."""

    exit_code = 2


class ModelFolderError(PolydetrError):
    """A saved model cannot be loaded: truncated, tampered with, or written by a newer version."""

    exit_code = 2


COPY_AGAIN = "Copy the whole model folder again."
"""The remedy of most of them."""


class StudyError(PolydetrError):
    """A study of settings cannot be opened, or was made for something else."""

    exit_code = 2


class StoreError(PolydetrError):
    """The store of people and corrections cannot be opened: no database of ours, damaged, or of a newer version."""

    exit_code = 2


class StoreUnavailable(StoreError):
    """The store cannot be reached at this moment; the same call works once it is back."""

    exit_code = 1


class SaveError(PolydetrError):
    """Writing failed; what was there before is untouched."""


class OutputError(SaveError):
    """The place named for the output holds something else, which is not overwritten, or another run has it."""

    exit_code = 2


class Interrupted(PolydetrError):
    """Stopped by the user; the message says what was kept and how to go on."""


def nearest(value: str, known: Iterable[str]) -> str | None:
    """A closing sentence that names the nearest known value; None where nothing is near."""
    if len(str(value)) > _HINT_LIMIT:  # near to nothing, and slow to compare
        return None
    near = difflib.get_close_matches(str(value), [str(k) for k in known], n=1, cutoff=0.6)
    return f"Did you mean {quoted(near[0])}?" if near else None


def check_choice(name: str, value: str, known: Iterable[str]) -> None:
    """Raises ConfigError where the setting ``name`` has a ``value`` that is not among the ``known`` ones."""
    options = list(known)
    if value not in options:
        raise ConfigError(f"{name}={quoted(value)} is unknown.", hint=did_you_mean(value, options))


def did_you_mean(value: str, known: Iterable[str], *, limit: int = 240) -> str:
    """A closing sentence that names the nearest known value, or lists what is known, in ``limit`` characters."""
    options = [str(k) for k in known]
    if near := nearest(value, options):
        return near
    return f"Known: {listed(options, limit=limit)}." if options else "None is known."


def fault_reason(fault: ErrorDetails) -> str:
    """What pydantic found wrong: of a check of ours its own words."""
    return fault["msg"].removeprefix("Value error, ")


def faults(error: ValidationError) -> str:
    """The first few faults of a file in words, each with its place in the file, where it has one."""
    details = error.errors(include_input=False)
    lines = [": ".join([*filter(None, [".".join(map(str, fault["loc"]))]), fault_reason(fault)]) for fault in details]
    more = f"; and {len(lines) - _OF_FILES_SHOWN} more" if len(lines) > _OF_FILES_SHOWN else ""
    return "; ".join(f"{line:.160}" for line in lines[:_OF_FILES_SHOWN]) + more


def listed(names: Iterable[Any], *, limit: int = 240) -> str:
    """Names in quotation marks, the first dozen of them as far as they fit, and how many more there are."""
    every = list(names)
    kept: list[str] = []
    for name in every[:FAULTS_SHOWN]:
        if kept and sum(map(len, kept)) + 2 * len(kept) + len(str(name)) > limit:
            break
        kept.append(quoted(name, 60))
    more = f" and {len(every) - len(kept):,} more" if len(every) > len(kept) else ""
    return ", ".join(kept) + more
