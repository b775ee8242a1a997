"""The files that describe a YOLO data set: data.yaml, darknet's obj.data with obj.names, or classes.txt alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from polydetr.core.access import FileAccess
from polydetr.data.readers.source import HEAD_BYTES, read_text
from polydetr.data.readers.yolo_lines import ClassNames
from polydetr.errors import DataFileError, Location

SPLITS = ("train", "val", "test")
_SUFFIXES = (".yaml", ".yml", ".data")


def load_description(path: Path, encoding: str | None = None) -> Mapping[str, Any]:
    """What a data.yaml or an obj.data says, all of it as text: yes and 007 are names, no truth value and no number.
    Empty for a file that describes no data set.

    Raises:
        DataFileError: it describes one, but in another encoding.
    """
    if path.suffix not in _SUFFIXES or not path.is_file():
        return {}
    try:
        text = read_text(path, encoding)
    except DataFileError:
        with path.open("rb") as stream:
            if b"names" in stream.read(HEAD_BYTES):
                raise
        return {}
    content = _darknet(text) if path.suffix == ".data" else _yaml(text, path)
    content = {("val" if key == "valid" else key): value for key, value in content.items()}
    content = {key: value for key, value in content.items() if value not in ("", "null", "~")}
    return content if "names" in content and any(split in content for split in SPLITS) else {}


def _yaml(text: str, path: Path) -> dict[str, Any]:
    """Empty for a file that is no YAML mapping. Raises DataFileError: it names classes, and cannot be read."""
    from polydetr.config.yaml_text import YamlFault, read_yaml  # only a YOLO folder has one

    try:
        content = read_yaml(text, as_text=True)
    except YamlFault as fault:
        if re.search(r"^names\s*:", text, re.MULTILINE):
            raise DataFileError(f"{fault}.", location=Location(str(path))) from None
        return {}
    return {str(key): value for key, value in content.items()} if isinstance(content, Mapping) else {}


def _darknet(text: str) -> dict[str, Any]:
    pairs = [line.partition("=") for line in text.splitlines() if line.strip()]
    return {key.strip(): value.strip() for key, _, value in pairs} if all(sign for _, sign, _ in pairs) else {}


def own_description(folder: Path, encoding: str | None = None) -> Path | None:
    """The file in ``folder`` that describes a data set."""
    files = sorted(
        (f for f in folder.iterdir() if f.suffix in _SUFFIXES and f.name[0] != "."),
        key=lambda f: (_SUFFIXES.index(f.suffix), f),
    )
    return next((f for f in files if load_description(f, encoding)), None)


def describes_data(path: Path) -> bool:
    """Whether the file describes a data set, or the folder holds one that does."""
    try:
        return bool(own_description(path) if path.is_dir() else load_description(path))
    except DataFileError:  # it does, in another encoding, which is told when it is read
        return True


def names_near(folder: Path, labels: Path, encoding: str | None = None) -> tuple[ClassNames, int | None]:
    """The class names from a description in one of the four folders above, or from a list of names among the labels or
    beside them; and how many numbers of key points follow each box.
    """
    for place in (folder, *list(folder.absolute().parents)[:4]):
        own = own_description(place, encoding)
        if own is not None:
            content = load_description(own, encoding)
            return class_names(content["names"], own, encoding), key_points(content, own)
    for place in (folder, labels, labels.parent):
        for file in (place / "classes.txt", *sorted(place.glob("[!.]*.names")), place / "_darknet.labels"):
            if file.is_file():
                return ClassNames(_lines(file, encoding), file.name), None
    return ClassNames({}), None


def class_names(value: Any, own: Path, encoding: str | None = None) -> ClassNames:
    """The ``names`` of the description ``own``: a list, a mapping, or the name of a file with one name per line.

    Raises:
        DataFileError: none of them.
    """
    if isinstance(value, str):
        inside = FileAccess(root=own.parent)  # whose lines are shown as names: no other file's
        for file in (inside.path(own.parent, value), inside.path(own.parent, Path(value).name)):
            if own.suffix == ".data" and file is not None and file.is_file():
                return ClassNames(_lines(file, encoding), file.name)
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value if isinstance(value, list) else ())
    names: dict[int, str] = {}
    with suppress(TypeError, ValueError):
        names = {int(key): name.strip() for key, name in pairs if isinstance(name, str) and name.strip()}
    if not names or len(names) != len(value):
        shown = value[:60] if isinstance(value, str) else f"{value!r:.60}"
        raise DataFileError(f"names is {shown}, expected a list of class names.", location=Location(str(own)))
    return ClassNames(names, own.name)


def key_points(content: Mapping[str, Any], own: Path) -> int | None:
    """How many numbers of key points follow each box: the product of ``kpt_shape``; None without one.

    Raises:
        DataFileError: kpt_shape is not two whole numbers.
    """
    shape = content.get("kpt_shape")
    if shape is None:
        return None
    if not isinstance(shape, list) or len(shape) != 2 or not all(isinstance(n, str) and n.isdecimal() for n in shape):
        raise DataFileError(
            f"kpt_shape is {shape!r:.60}, expected [points, 2] or [points, 3].", location=Location(str(own))
        )
    return int(shape[0]) * int(shape[1])


def _lines(file: Path, encoding: str | None) -> dict[int, str]:
    """The class of every line, an empty one counted."""
    names = enumerate(line.strip() for line in read_text(file, encoding).splitlines())
    return {number: name for number, name in names if name}
