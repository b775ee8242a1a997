"""Every error that polydetr raises on purpose.

    PolydetrError
    ├── InputError            what the user handed in is wrong (exit code 2)
    │   ├── DataFileError     a file cannot be read as what it claims to be
    │   ├── SchemaError       columns, types or targets do not fit
    │   └── RowError          one row is wrong; says which
    ├── ConfigError           configuration: all faults at once (exit code 2)
    ├── BackboneError         a backbone is unknown, missing, or not the file it should be
    ├── ModelFolderError      a saved model is truncated, tampered with, or from a newer version
    ├── SaveError             writing failed; what was there before is untouched
    │   └── OutputError       the place named for the output holds something else, or another run has it (exit code 2)
    └── Interrupted           stopped by the user; says what was kept and how to go on

A message names the offending value, what was expected, how to fix it and where it stands.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Location:
    """Where a value came from. ``row`` counts data rows from 1, as people do; ``line`` counts lines of the file."""

    file: str | None = None
    row: int | None = None
    column: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        parts = [self.file] if self.file else []
        if self.line is not None:
            parts.append(f"line {self.line}")
        elif self.row is not None:
            parts.append(f"row {self.row}")
        if self.column is not None:
            parts.append(f"column {self.column!r}")
        return ", ".join(parts)


class PolydetrError(Exception):
    """Root of the tree. ``exit_code`` is what the command line returns for it."""

    exit_code = 1

    def __init__(self, message: str, *, location: Location | None = None, hint: str | None = None) -> None:
        self.message = message
        self.location = location
        self.hint = hint
        where = str(location) if location else ""
        text = f"{where}: {message}" if where else message
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


class ConfigError(PolydetrError, ValueError):
    """The configuration is wrong; the message lists every fault found."""

    exit_code = 2


class BackboneError(PolydetrError):
    """A backbone is unknown, cannot be had, or is not the file it should be."""

    exit_code = 2


class ModelFolderError(PolydetrError):
    """A saved model cannot be loaded: truncated, tampered with, or written by a newer version."""

    exit_code = 2


class SaveError(PolydetrError):
    """Writing failed; what was there before is untouched."""


class OutputError(SaveError):
    """The place named for the output holds something else, which is not overwritten, or another run has it."""

    exit_code = 2


class Interrupted(PolydetrError):
    """Stopped by the user; the message says what was kept and how to go on."""


def nearest(value: str, known: Iterable[str]) -> str | None:
    """A closing sentence that names the nearest known value; None where nothing is near."""
    near = difflib.get_close_matches(str(value), [str(k) for k in known], n=1, cutoff=0.6)
    return f"Did you mean {near[0]!r}?" if near else None


def check_choice(name: str, value: str, known: Iterable[str]) -> None:
    """Raises ConfigError where the setting ``name`` has a ``value`` that is not among the ``known`` ones."""
    options = list(known)
    if value not in options:
        raise ConfigError(f"{name}={value!r} is unknown.", hint=did_you_mean(value, options))


def did_you_mean(value: str, known: Iterable[str]) -> str:
    """A closing sentence that names the nearest known value, or lists what is known."""
    options = [str(k) for k in known]
    if near := nearest(value, options):
        return near
    shown = ", ".join(repr(o) for o in options[:12])
    more = f" and {len(options) - 12} more" if len(options) > 12 else ""
    return f"Known: {shown}{more}." if options else "None is known."
