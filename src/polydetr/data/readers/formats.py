"""Which format a file has: by its name where that decides it, else by its content."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Literal

from polydetr.core.reading import option
from polydetr.data.readers.boxes_csv import box_columns
from polydetr.data.readers.coco import is_coco
from polydetr.data.readers.cvat import is_cvat
from polydetr.data.readers.delimited import sample_rows, sniff_dialect
from polydetr.data.readers.foreign import refuse_document, refuse_file, refuse_folder, refuse_table
from polydetr.data.readers.image_folder import is_image_folder
from polydetr.data.readers.label_studio import is_label_studio
from polydetr.data.readers.plain_text import holds_json
from polydetr.data.readers.source import Source
from polydetr.data.readers.voc import annotation_folder, is_voc_list
from polydetr.data.readers.yolo import is_yolo
from polydetr.errors import DataFileError, Location, SchemaError, did_you_mean
from polydetr.values.tags import is_span_tag

Format = Literal[
    "csv", "tsv", "parquet", "xlsx", "jsonl", "json", "squad", "conll", "text", "labelstudio", "coco", "cvat", "voc",
    "yolo", "boxes", "images",
]  # fmt: skip
FORMATS: dict[str, Format] = {
    "csv": "csv", "tsv": "tsv", "tab": "tsv", "parquet": "parquet", "pq": "parquet", "xlsx": "xlsx",
    "jsonl": "jsonl", "ndjson": "jsonl", "cluener": "jsonl", "json": "json", "squad": "squad", "cmrc": "squad",
    "conll": "conll", "conll2003": "conll", "iob": "conll", "iob2": "conll", "bio": "conll", "bmes": "conll",
    "bioes": "conll", "conllu": "conll", "txt": "conll", "text": "text",
}  # fmt: skip
"""Names taken by ``format=``; the same serve as file suffixes."""
KNOWN_BY_CONTENT: tuple[Format, ...] = ("labelstudio", "coco", "cvat", "voc", "yolo", "boxes", "images")
"""Also taken by ``format=``, but no file suffixes: what annotation tools write, boxes in images ("boxes": a CSV of
them), and images alone, in labeled folders or not.
"""
_TEXTS = frozenset(["text", "sentence", "title", "question", "category", "class"])
"""Names of columns in a table of texts; a file of words and tags has none of them."""
_LONGEST_WORD = 20


def find_format(source: Source, wanted: str | None = None, *, asked: bool = False) -> Format:
    """The format of ``source``: the one that the user ``wanted``, else by its name, else by its content. asked: whether
    the rows are to be answered: a .txt file that shows no other format is then plain text.

    Raises:
        SchemaError: ``wanted`` is unknown. DataFileError: neither name nor content decides it.
    """
    if wanted:
        name = wanted.lower().lstrip(".")
        known: dict[str, Format] = {**FORMATS, **{name: name for name in KNOWN_BY_CONTENT}}
        if name not in known:
            raise SchemaError(f"unknown format {wanted!r}.", hint=did_you_mean(name, sorted(known)))
        return known[name]
    by_name = "parquet" if source.head.startswith(b"PAR1\x15") else FORMATS.get(source.suffix[1:])
    refuse_file(source.suffix, source.head, Location(source.name))
    if by_name == "json":
        return _json_kind(source)
    if by_name in ("csv", "tsv") and _is_sentences(source.head_lines()):
        return "conll"
    if by_name and source.suffix != ".txt":
        return _kind_of_table(source, by_name) if by_name in ("csv", "tsv") else by_name
    by_content = sniff_format(source)
    if asked and source.suffix == ".txt" and by_content not in ("conll", "parquet"):
        return by_content if by_content in ("json", "jsonl") and holds_json(source.head_lines()) else "text"
    if by_content is None or (source.suffix == ".txt" and by_content in ("csv", "tsv")):
        raise DataFileError(
            f"cannot tell the format from the {'name' if source.path else 'stream'} or from the content; "
            "expected rows of CSV, TSV, Parquet, JSON or JSON lines, CoNLL columns, or boxes (COCO, CVAT, VOC, YOLO, "
            "CSV).",
            location=Location(source.name),
            hint=f"Name it with {option('format')}: csv, tsv, parquet, jsonl, json, conll, labelstudio, coco, cvat, "
            "voc, yolo or boxes.",
        )
    return by_content


def data_file_in(folder: Path, wanted: str | None = None) -> Path | None:
    """The file that stands for an unpacked export: annotations.xml of CVAT, result.json of Label Studio (COCO). None
    where there is none, or another format is ``wanted``.
    """
    known: tuple[tuple[str, Format, bytes], ...] = (
        ("annotations.xml", "cvat", b"<annotations"), ("result.json", "coco", b'"images"'),
    )  # fmt: skip
    for name, kind, key in known:
        file = folder / name
        if wanted in (None, kind) and file.is_file():
            with open(file, "rb") as stream:
                if key in stream.read(1 << 16):
                    return file
    return None


def find_folder_format(path: Path, wanted: str | None = None, *, labels: bool = True) -> Format | None:
    """ "voc" or "yolo" for boxes whose data set is more than one file (a folder, a list of its parts), "images" for
    images alone, else None. labels: see ``read_records``.

    Raises:
        DataFileError: a folder of a layout that is known and not read.
    """
    if wanted:
        return next((f for f in ("voc", "yolo", "images") if f == wanted.lower().lstrip(".")), None)
    kind = _kind_of_folder(path)
    if path.is_dir() and kind not in ("voc", "yolo"):
        refuse_folder(path, _kind_of_folder, labels=labels or kind is None)
    return kind


def _kind_of_folder(path: Path) -> Format | None:
    if is_voc_list(path) or (path.is_dir() and annotation_folder(path) is not None):
        return "voc"
    if is_yolo(path):
        return "yolo"
    return "images" if is_image_folder(path) else None


def _kind_of_table(source: Source, by_name: Format) -> Format:
    """ "boxes" for a table whose header names an image, its box and a label.

    Raises:
        SchemaError: the label alone is absent.
    """
    lines = source.head_lines()
    rows = sample_rows(lines[:2], sniff_dialect(lines))
    if not rows:
        return by_name
    refuse_table(rows[0], Location(source.name))
    return by_name if box_columns(rows[0]) is None else "boxes"


def sniff_format(source: Source) -> Format | None:
    """The format by content alone, or None."""
    if source.head.startswith(b"PAR1"):
        return "parquet"
    lines = source.head_lines()
    start = "".join(lines[:50]).lstrip()[:1]
    if start == "[":
        return "json"
    if start == "{":
        return _json_kind(source)
    if start == "<" and is_cvat("".join(lines)):
        return "cvat"
    if _is_columns(lines):
        return "conll"
    dialect = sniff_dialect(lines)
    widths = {len(r) for r in sample_rows(lines, dialect)}
    if len(widths) == 1 and widths != {1}:
        return "tsv" if dialect.delimiter == "\t" else "csv"
    return "csv" if source.path is None else None


def _json_kind(source: Source) -> Format:
    """JSON lines if the first line is a whole object and another follows (or it is a row, unless the file is called a
    document); otherwise one JSON document.
    """
    lines = [line for line in source.head_lines() if line.strip()]
    try:
        first = json.loads(lines[0]) if lines else None
    except (ValueError, RecursionError):
        follows = len(lines) > 1 and all(line.lstrip().startswith("{") for line in lines[:5])
        return "jsonl" if follows and len(lines[0].strip()) > 1 else "json"
    if not isinstance(first, dict):
        return "json"
    refuse_document(first, Location(source.name))
    tasks = is_label_studio(first)
    if tasks and "annotations" in first and len(lines) > 1:
        raise DataFileError(
            "has a task of Label Studio in each line, expected a list of them.",
            location=Location(source.name),
            hint="Put brackets around them and commas between, as its JSON export has them.",
        )
    document = source.suffix == ".json" or isinstance(first.get("data"), list) or is_coco(first) or tasks
    return "json" if document and len(lines) == 1 else "jsonl"


def _is_sentences(lines: list[str]) -> bool:
    """Whether a file that is called a table has a token and its tag between tabs per line, and a blank line after each
    sentence.
    """
    blocks = [[line.split("\t") for line in block.split("\n")] for block in _blocks(lines) if "\t" in block]
    rows = [row for block in blocks for row in block]
    if len(blocks) < 2 or len(rows) < 2 * len(blocks) or len({len(row) for row in rows}) > 1:
        return False
    tags = [row[-1].strip() for row in rows]
    if sum(map(is_span_tag, tags)) >= 0.9 * len(tags):
        return True
    return _holds_words(rows) and len(set(tags)) <= min(100, 0.5 * len(tags))


def _holds_words(rows: list[list[str]]) -> bool:
    """Whether the rows are words with what is said of them, not texts with their labels, between which a blank line is
    a slip. The length tells for texts in Chinese or Japanese, which have no blanks.
    """
    if _TEXTS & {cell.strip().lower() for cell in rows[0]}:
        return False
    columns = [[cell.strip() for cell in column] for column in zip(*rows, strict=True)]
    tokens = next((column for column in columns if not all(map(str.isdecimal, column))), [])
    enough = 0.9 * len(rows)
    short = sum(len(cell) <= _LONGEST_WORD for cell in tokens) >= enough
    return short and all(sum(len(cell.split()) <= 1 for cell in column) >= enough for column in columns)


def _blocks(lines: list[str]) -> list[str]:
    """The text between blank lines."""
    text = "".join(lines[:2000]).replace("\r\n", "\n")
    return [block.strip("\n") for block in re.split(r"\n[ \t]*\n", text) if block.strip()]


def _is_columns(lines: list[str]) -> bool:
    tokens = [line.strip(" \t\r\n") for line in lines[:2000]]
    if any(t.startswith("-DOCSTART-") for t in tokens):
        return True
    rows = [re.split(r"[ \t]+", t) for t in tokens if t and not t.startswith("#")]
    if not rows or any(len(r) != len(rows[0]) for r in rows) or len(rows[0]) < 2:
        return False
    return sum(is_span_tag(r[-1]) for r in rows) >= 0.9 * len(rows)
