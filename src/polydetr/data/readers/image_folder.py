"""A folder of labelled image folders (cats/1.jpg, dogs/7.png), a folder of pictures without labels, or one picture.

Rows: ``image``, the file's path; ``label``, the folder's name, where the pictures lie in folders.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.boxes import IMAGE_SUFFIXES
from polydetr.errors import DataFileError, Location


def is_image_folder(path: Path) -> bool:
    """True for a picture's file, a folder with pictures in it, or one whose folders hold pictures."""
    if path.is_file():
        return path.suffix.lower() in IMAGE_SUFFIXES
    return path.is_dir() and (any(_pictures(path)) or any(any(_pictures(folder)) for folder in _folders(path)))


def read_image_folder(path: Path, *, report: ReadReport) -> Iterator[Record]:
    """One Record a picture, by the names of folders and files; hidden files are passed over, others are told.

    Raises:
        DataFileError: pictures lie both beside and in folders, so that their labels are in doubt.
    """
    if path.is_file():
        report.rows += 1
        yield Record({"image": str(path)}, Location(file=str(path)))
        return
    folders = [folder for folder in _folders(path) if any(_pictures(folder))]
    loose = list(_pictures(path))
    if folders and loose:
        raise DataFileError(
            f"holds pictures ({loose[0].name!r} and {len(loose) - 1} more) beside folders of pictures "
            f"({folders[0].name!r}, ...): what is the label of the former?",
            location=Location(str(path)),
            hint="Move them into a folder of their own.",
        )
    for folder in folders or [path]:
        for file in sorted(folder.iterdir()):
            if file.is_dir() or file.name.startswith("."):
                continue
            if file.suffix.lower() not in IMAGE_SUFFIXES:
                report.note("files that are no pictures", f"{file.name!r} is passed over", Location(str(file)))
                continue
            report.rows += 1
            label = {"label": folder.name} if folders else {}
            yield Record({"image": str(file), **label}, Location(file=str(file)))


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


def _pictures(folder: Path) -> Iterator[Path]:
    return (f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith("."))
