"""A folder of labeled image folders (cats/1.jpg, dogs/7.png), a folder of images without labels, or one image.

Rows: ``image``, the file's absolute path; ``label``, the name of the first folder, where the images lie in folders
(cats/tabby/2.jpg is one of cats).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.folders import files_below, note_others, parts_among
from polydetr.errors import DataFileError, Location
from polydetr.values.files import is_image_name


def is_image_folder(path: Path) -> bool:
    """True for an image's file, or a folder with images in it or below."""
    if path.is_dir():
        return any(is_image_name(file.name) for file in files_below(path))
    return path.is_file() and is_image_name(path.name)


def read_image_folder(path: Path, *, report: ReadReport) -> Iterator[Record]:
    """One Record per image, by the names of folders and files; hidden files are passed over, others are reported.

    Raises:
        DataFileError: images lie both beside and in folders, so that their labels are in doubt; or the folders are the
            parts of a data set, and no labels.
    """
    files = list(files_below(path)) if path.is_dir() else [path]
    images = [file for file in files if is_image_name(file.name) or file == path]
    if path.is_dir():
        _check_labels(path, images)
    note_others([file for file in files if file != path], report)
    for file in images:
        report.rows += 1
        folders = file.relative_to(path).parts[:-1]
        label = {"label": folders[0]} if folders else {}
        yield Record({"image": str(file.absolute()), **label}, Location(file=str(file)))


def _check_labels(path: Path, images: list[Path]) -> None:
    loose = [file for file in images if file.parent == path]
    folders = list(dict.fromkeys(file.relative_to(path).parts[0] for file in images if file.parent != path))
    if folders and loose:
        raise DataFileError(
            f"holds images ({loose[0].name!r} and {len(loose) - 1} more) beside folders of images "
            f"({folders[0]!r}, ...): what is the label of the former?",
            location=Location(str(path)),
            hint="Move them into a folder of their own.",
        )
    if parts := parts_among(folders):
        raise DataFileError(
            f"holds the parts of a data set ({', '.join(map(repr, parts))}), which are no labels.",
            location=Location(str(path)),
            hint=f"Name one of them: {str(path / parts[0])!r}.",
        )
