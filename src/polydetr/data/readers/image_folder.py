"""A folder of labeled image folders (cats/1.jpg, dogs/7.png), a folder of images without labels, or one image.

Rows: ``image``, the file's path; ``label``, the folder's name, where the images lie in folders.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.boxes import IMAGE_SUFFIXES
from polydetr.errors import DataFileError, Location


def is_image_folder(path: Path) -> bool:
    """True for an image's file, a folder with images in it, or one whose folders hold images."""
    if path.is_file():
        return path.suffix.lower() in IMAGE_SUFFIXES
    return path.is_dir() and (any(_images(path)) or any(any(_images(folder)) for folder in _folders(path)))


def read_image_folder(path: Path, *, report: ReadReport) -> Iterator[Record]:
    """One Record per image, by the names of folders and files; hidden files are passed over, others are reported.

    Raises:
        DataFileError: images lie both beside and in folders, so that their labels are in doubt.
    """
    if path.is_file():
        report.rows += 1
        yield Record({"image": str(path)}, Location(file=str(path)))
        return
    folders = [folder for folder in _folders(path) if any(_images(folder))]
    loose = list(_images(path))
    if folders and loose:
        raise DataFileError(
            f"holds images ({loose[0].name!r} and {len(loose) - 1} more) beside folders of images "
            f"({folders[0].name!r}, ...): what is the label of the former?",
            location=Location(str(path)),
            hint="Move them into a folder of their own.",
        )
    for folder in folders or [path]:
        for file in sorted(folder.iterdir()):
            if file.is_dir() or file.name.startswith("."):
                continue
            if file.suffix.lower() not in IMAGE_SUFFIXES:
                report.note("files that are no images", f"{file.name!r} is passed over", Location(str(file)))
                continue
            report.rows += 1
            label = {"label": folder.name} if folders else {}
            yield Record({"image": str(file), **label}, Location(file=str(file)))


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


def _images(folder: Path) -> Iterator[Path]:
    return (f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith("."))
