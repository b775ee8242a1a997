"""A zip archive of rows: images, in labeled folders or not, or a table or annotations with the images that they name.

It is unpacked into a private folder, within bounds that hold whatever the archive claims, and read by the readers of
the project; an image that a row names is then the content of that file of the archive, and never a file elsewhere.
"""

from __future__ import annotations

import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from polydetr.core.access import FileAccess
from polydetr.core.records import Record
from polydetr.data.readers import FORMATS
from polydetr.errors import Location, RowError, quoted
from polydetr.serving.refusal import Refused
from polydetr.serving.rows import Columns
from polydetr.values.files import is_image_name

_MOST_FILES = 100_000
_UNPACKED, _LEAST, _MOST_BYTES = 20, 64 << 20, 1 << 30
"""How many times larger than it came an archive may be once it is unpacked, but always so much, and never more."""
_MOST_IMAGE = 64 << 20
_PART = 1 << 20


@dataclass(frozen=True)
class Archive:
    """An archive that is unpacked. folder: all of it; source: what the readers are given, its one table or file of
    annotations, or a folder; images: the folder that holds all images.
    """

    folder: Path
    source: Path
    images: Path


@contextmanager
def unpacked(path: Path) -> Iterator[Archive]:
    """The archive, while its rows are read.

    Raises:
        Refused: it is no archive, damaged, encrypted, too large, or leads out of its folder. OSError.
    """
    folder = path.parent / "unpacked"
    folder.mkdir(mode=0o700)
    try:
        _unpack(path, folder)
        images = [file.parent for file in folder.rglob("*") if file.is_file() and is_image_name(file.name)]
        yield Archive(folder, _source(folder), Path(os.path.commonpath(images)) if images else folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def with_images(record: Record, columns: Columns, archive: Archive) -> Record:
    """The record with the content of the images that it names. Raises RowError: one is not in the archive."""
    row = dict(record.row)
    own = [name for name in columns.inputs if name in columns.images]
    if len(own) == 1 and own[0] not in row and "image" in row:  # what readers of images call the column
        row = {own[0] if name == "image" else name: cell for name, cell in row.items()}
    beside = archive.source if archive.source.is_dir() else archive.source.parent
    access = FileAccess(folder=beside, root=archive.folder, also=archive.images)
    for name in columns.images & row.keys():
        row[name] = _content(row[name], name, access)
    return replace(record, row=row)


def _content(value: Any, column: str, access: FileAccess) -> Any:
    if isinstance(value, list | tuple):
        return [_content(one, column, access) for one in value]
    if isinstance(value, Mapping) and isinstance(value.get("path"), str) and not value.get("bytes"):
        value = value["path"]  # as Hugging Face's files name an image
    if not isinstance(value, str) or not value.strip() or value.startswith("data:"):
        return value
    try:
        places = [access.path(base, value) for base in access.bases]
        found = next((p for p in places if p is not None and p.is_file()), None)
        if found is not None and found.stat().st_size <= _MOST_IMAGE:
            return found.read_bytes()
    except (OSError, RuntimeError, ValueError):
        found = None
    reason = "is not in the archive" if found is None else f"has more than {_MOST_IMAGE:,} bytes"
    raise RowError(
        f"the image {quoted(PurePosixPath(value).name, 60)} {reason}.", location=Location(column=column),
        hint="Pack the images beside the file that names them.",
    )  # fmt: skip


def _source(folder: Path) -> Path:
    while True:
        entries = list(folder.iterdir())
        if len(entries) != 1 or not entries[0].is_dir():
            break
        folder = entries[0]  # a folder around all of it is no label
    if not entries:
        raise Refused(400, "the archive is empty.", hint="Pack images, or a file of rows with its images.")
    files = [file for file in folder.rglob("*") if file.is_file() and not is_image_name(file.name)]
    tables = [file for file in files if file.suffix[1:].lower() in FORMATS and file.suffix.lower() != ".txt"]
    return tables[0] if len(tables) == 1 else folder


def _unpack(path: Path, folder: Path) -> None:
    most = min(max(_LEAST, _UNPACKED * path.stat().st_size), _MOST_BYTES)
    left = most
    try:
        with zipfile.ZipFile(path) as archive:
            members = [one for one in archive.infolist() if not one.is_dir() and _is_wanted(one.filename)]
            if len(members) > _MOST_FILES:
                raise Refused(413, f"the archive has more than {_MOST_FILES:,} files.", reason="body")
            for member in members:
                target = folder.joinpath(*PurePosixPath(member.filename.replace("\\", "/")).parts)
                if not target.resolve().is_relative_to(folder.resolve()):
                    raise Refused(400, f"the archive leads out of its folder: {quoted(member.filename, 60)}.")
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as packed, target.open("xb") as file:
                    while data := packed.read(min(_PART, left + 1)):
                        left -= len(data)
                        if left < 0:
                            raise Refused(413, f"the archive unpacks to more than {most:,} bytes.", reason="body")
                        file.write(data)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, FileExistsError) as error:
        raise Refused(
            400, f"the archive cannot be unpacked: {error!s:.200}", hint="Pack it as a plain zip.", reason="file"
        ) from None


def _is_wanted(name: str) -> bool:
    """Not what systems add by themselves."""
    return not any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts if part != "..")
