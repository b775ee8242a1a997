"""Files in folders and in the folders below: the one way in which readers list them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from polydetr.core.records import ReadReport
from polydetr.errors import DataFileError, Location
from polydetr.values.files import is_image_name

_TRAINING = frozenset({"train", "training"})
_OTHERS = frozenset({"val", "valid", "validation", "dev", "test", "testing"})


def files_below(folder: Path, *, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """All files, by name, those of a folder before those of its folders. Hidden ones are passed over (macOS leaves a
    ._1.png beside 1.png), and links that lead back to a folder ``above``.

    Raises:
        DataFileError: a folder cannot be read.
    """
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        entries = sorted((e for e in os.scandir(folder) if not e.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        raise DataFileError(f"cannot be read: {error.strerror}.", location=Location(str(folder))) from None
    yield from (folder / entry.name for entry in entries if not entry.is_dir())
    for entry in entries:
        if entry.is_dir():
            yield from files_below(folder / entry.name, above=(*above, real))


def image_files(folder: Path) -> list[Path]:
    """The images in ``folder`` and below, in the order of ``files_below``."""
    return [file for file in files_below(folder) if is_image_name(file.name) and file.is_file()]


def names_apart(files: Sequence[Path]) -> list[str]:
    """The files' names without suffix; where two have the same one, with their folders from the common one on."""
    stems = [file.stem for file in files]
    if len(set(stems)) == len(stems):
        return stems
    common = os.path.commonpath([file.absolute().parent for file in files])
    return [file.absolute().relative_to(common).with_suffix("").as_posix() for file in files]


def parts_among(names: Sequence[str]) -> list[str]:
    """Those of the names of folders that are parts of one data set (train, valid, ...); [] where they are not."""
    lowered = {name.lower() for name in names}
    together = lowered & _TRAINING and lowered & _OTHERS
    return sorted(name for name in names if name.lower() in _TRAINING | _OTHERS) if together else []


def note_others(files: Sequence[Path], report: ReadReport, *, but: frozenset[str] = frozenset()) -> None:
    """Counts the files that are no images; but: suffixes that belong there all the same."""
    for file in files:
        if not is_image_name(file.name) and file.suffix.lower() not in but:
            report.note("files that are no images", f"{file.name!r} is passed over", Location(str(file)))
