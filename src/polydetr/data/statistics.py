"""What one split holds, gathered in a single pass: per column, per label, and fingerprints to find duplicates by."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from polydetr.core.records import Record
from polydetr.data.copies import Compared, Content
from polydetr.data.text_keys import field_text, fingerprint, normalize, row_text
from polydetr.errors import RowError, quoted, shown
from polydetr.schema.spec import Schema
from polydetr.values.boxes import are_shares
from polydetr.values.cells import category_name, is_empty, is_missing, read_number, says_missing
from polydetr.values.objects import read_objects
from polydetr.values.spans import split_words
from polydetr.values.tags import iob2_to_word_spans, is_span_tag

_DISTINCT_CAP = 200_000
_SHOWN = 3
_LONG_WORD = 1000


def shorten(text: str, width: int = 60) -> str:
    """The text on one line, cut to ``width`` characters, as it is ``shown`` to people."""
    return shown(" ".join(text.split()) if len(text) < 10_000 else text[: width + 1], width)


@dataclass
class ColumnStats:
    """One column. ``distinct`` counts up to 200,000; ``chars`` and ``words`` hold a length per value, for text
    columns. ``kind``: how the column is read; in numbers and dates, "n/a" is missing.
    """

    name: str
    kind: str
    missing: int = 0
    values: int = 0
    examples: list[str] = field(default_factory=list)
    chars: array[int] = field(default_factory=lambda: array("L"))
    words: array[int] = field(default_factory=lambda: array("L"))
    long_words: list[tuple[int, int]] = field(default_factory=list)
    _seen: set[int] = field(default_factory=set)

    def add(self, value: Any, row: int) -> None:
        """Counts one value in; ``row`` is its row number."""
        if says_missing(value) if self.kind in ("number", "date") else is_empty(value):
            self.missing += 1
            return
        self.values += 1
        text = field_text(value)
        if len(self._seen) < _DISTINCT_CAP and (key := hash(text)) not in self._seen:
            self._seen.add(key)
            if len(self.examples) < _SHOWN:
                self.examples.append(shorten(text))
        if self.kind == "text":
            self.chars.append(len(text))
            words = split_words(text[:20_000])
            self.words.append(len(words))
            longest = max(map(len, text.split()), default=0)
            if longest > _LONG_WORD:
                self.long_words.append((row, longest))

    def to_dict(self) -> dict[str, Any]:
        out: dict[str, Any] = {
            "missing": self.missing,
            "values": self.values,
            "distinct": len(self._seen),
            "distinct_capped": len(self._seen) >= _DISTINCT_CAP,
            "examples": self.examples,
        }
        if self.chars:
            out |= {"characters": _quantiles(self.chars), "words": _quantiles(self.words)}
        if self.long_words:
            out["long_words"] = [{"row": row, "characters": size} for row, size in self.long_words[:10]]
        return out


def _quantiles(lengths: array[int]) -> dict[str, int]:
    values = np.frombuffer(lengths, dtype=np.dtype(f"u{lengths.itemsize}"))
    return {"median": int(np.median(values)), "p95": int(np.percentile(values, 95)), "max": int(values.max())}


@dataclass
class TargetStats:
    """The labels of one target: counts for classes, entity types and answers, moments for numbers.

    comma: numbers are written with a decimal comma. words_missing: "n/a" and the like are no labels. corners: four per
    object.
    """

    task: str
    comma: bool = False
    words_missing: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    numbers: array[float] = field(default_factory=lambda: array("d"))
    missing: int = 0
    wrong: list[tuple[int, str]] = field(default_factory=list)
    corners: array[float] = field(default_factory=lambda: array("d"))

    @property
    def boxes_are_shares(self) -> bool:
        """Whether the boxes of objects, which should be pixels, are given as shares of their images."""
        return are_shares(np.frombuffer(self.corners).reshape(-1, 4)) if self.corners else False

    def add(self, value: Any, row: int) -> None:
        """Counts one value in; ``row`` is its row number."""
        if self.task == "detection":
            with suppress(RowError):  # told when the row is encoded
                self.corners.extend(read_objects(value, column="").boxes_xyxy.ravel().tolist())
        empty = says_missing(value) if self.words_missing else is_empty(value)
        if empty and not isinstance(value, list):  # an empty list is an answer: none
            self.missing += 1
        elif self.task == "regression":
            self._add_number(value, row)
        else:
            self.counts.update(labels_of(value, self.task))

    def _add_number(self, value: Any, row: int) -> None:
        try:
            number = read_number(value, column="", comma=self.comma)
        except RowError:
            self.wrong.append((row, quoted(value, 60)))
            return
        if number is None:
            self.missing += 1
        else:
            self.numbers.append(number)

    def to_dict(self) -> dict[str, Any]:
        out: dict[str, Any] = {"task": self.task, "missing": self.missing}
        if self.counts:
            common = self.counts.most_common()
            out |= {"labels": dict(common), "imbalance": round(common[0][1] / common[-1][1], 2)}
        if self.numbers:
            values = np.frombuffer(self.numbers)
            out["numbers"] = {k: float(getattr(values, k)()) for k in ("min", "mean", "max", "std")}
        if self.wrong:
            out["not_numbers"] = {"count": len(self.wrong), "examples": [list(w) for w in self.wrong[:5]]}
        return out


def label_counts(rows: Iterable[Mapping[str, Any]], target: str) -> Counter[str]:
    """The classes of a column, counted."""
    labeled = (row[target] for row in rows if not is_empty(row.get(target)))
    return Counter(label for value in labeled for label in labels_of(value, "classification"))


def labels_of(value: Any, task: str) -> list[str]:
    """What one value contributes to the label counts: its class or classes, the types of its entities or objects,
    answer or none. What an embedding finds, or a generated image, has no labels.
    """
    if task == "qa":
        return ["answer" if value else "no answer"]
    if task in ("embedding", "generation"):
        return []
    if not isinstance(value, (list, tuple)):
        return [_label(value)]
    if value and all(isinstance(v, str) and is_span_tag(v) for v in value) and task == "tagging":
        return [label for _, _, label in iob2_to_word_spans(value)]
    return [_label(v) for v in value]


def _label(value: Any) -> str:
    """The label of a span, {start, end, label} or (start, end, label), or of an object, {box, label}; else the value
    itself.
    """
    if isinstance(value, Mapping):
        return str(value.get("label", ""))
    if isinstance(value, (list, tuple)):
        return str(value[2] if len(value) == 3 else value)
    return category_name(value)  # training names what is no label


class _Shown(NamedTuple):
    """A row with images, as far as it takes to compare it."""

    number: int
    label: str
    keys: tuple[bytes, bytes]
    text: str
    images: Sequence[Path | Content]


@dataclass
class SplitStats:
    """One split: columns, targets, and a fingerprint of each row's text with the row and label where it was first
    met (``first``).

    group: a column whose values belong together; ``groups`` has each of them with the row where it was first met.
    compared: the columns by which two rows are compared, images by their content: rows with images are compared by
    ``compare_images``, once all of them are known. images: each with the row where it was first met. commas: targets
    with a decimal comma; numbered: targets whose labels are numbers, among which "n/a" is none.
    """

    schema: Schema
    compared: Compared
    commas: Collection[str] = ()
    numbered: Collection[str] = ()
    group: str | None = None
    rows: int = 0
    columns: dict[str, ColumnStats] = field(default_factory=dict)
    targets: dict[str, TargetStats] = field(default_factory=dict)
    first: dict[bytes, tuple[int, str]] = field(default_factory=dict)
    exact_duplicates: int = 0
    same_text: int = 0
    same_text_examples: list[dict[str, Any]] = field(default_factory=list)
    conflicts: int = 0
    conflict_examples: list[dict[str, Any]] = field(default_factory=list)
    empty_texts: int = 0
    images: dict[Hashable, int] = field(default_factory=dict)
    groups: dict[str, int] = field(default_factory=dict)
    _exact: set[bytes] = field(default_factory=set)
    _waiting: list[_Shown] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.targets = {
            t.name: TargetStats(t.task, t.name in self.commas, t.name in self.numbered) for t in self.schema.targets
        }

    def to_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "empty_texts": self.empty_texts,
            "columns": {n: c.to_dict() for n, c in self.columns.items()},
            "targets": {n: t.to_dict() for n, t in self.targets.items()},
            "duplicates": {
                "exact": self.exact_duplicates,
                "same_text": self.same_text,
                "examples": self.same_text_examples,
            },
            "conflicting_labels": {"count": self.conflicts, "examples": self.conflict_examples},
        }

    def add(self, record: Record) -> int:
        """Counts one record in; returns its row number."""
        self.rows += 1
        row, number = record.row, record.location.row or self.rows
        for name in row:
            if name not in self.columns:
                kind = next((f.modality for f in self.schema.inputs if f.name == name), "target")
                kind = "number" if name in self.numbered else kind
                self.columns[name] = ColumnStats(name, kind, missing=self.rows - 1)
        for name, column in self.columns.items():
            column.add(row.get(name), number)
        for name, target in self.targets.items():
            target.add(row.get(name), number)
        if self.group is not None and (value := category_name(row.get(self.group))):
            self.groups.setdefault(value, number)
        self._add_text(record, number)
        return number

    def _add_text(self, record: Record, number: int) -> None:
        text = row_text(record.row, self.compared.inputs)
        label = ", ".join(self._shown_label(name, record.row.get(name)) for name in self.targets)
        keys = fingerprint(text), fingerprint(normalize(text))
        if images := self.compared.sources(record):
            name = next((image.name for image in images if isinstance(image, Path)), "an image")
            self._waiting.append(_Shown(number, label, keys, shorten(f"{name} {text}".strip()), images))
        elif text.strip("\x1f \t\r\n"):
            self._compare(number, label, keys, shorten(text), self.first)
        else:
            self.empty_texts += bool(self.compared.inputs)

    def _shown_label(self, target: str, value: Any) -> str:
        """The label of a row, the same for all spellings of one; "" where it has none."""
        if says_missing(value) if target in self.numbered else is_missing(value):
            return ""
        if isinstance(value, (list, tuple, Mapping)) or self.targets[target].task == "regression":
            return repr(value)
        return repr(category_name(value))

    @property
    def sources(self) -> Iterator[Path | Content]:
        """The images of the rows that wait to be compared."""
        return (image for row in self._waiting for image in row.images)

    def compare_images(self, contents: Mapping[Path | Content, Hashable]) -> None:
        """Compares the rows with images. contents: image → a key, the same for the same bytes."""
        first: dict[bytes, tuple[int, str]] = {}
        for row in self._waiting:
            images = [contents[image] for image in row.images]
            for image in images:
                self.images.setdefault(image, row.number)
            shown = repr(images).encode()
            self._compare(row.number, row.label, (row.keys[0] + shown, row.keys[1] + shown), row.text, first)
        self._waiting.clear()

    def _compare(
        self, number: int, label: str, keys: tuple[bytes, bytes], text: str, met: dict[bytes, tuple[int, str]]
    ) -> None:
        """Counts a row that repeats one of those ``met``. keys: of its exact inputs, and of the normalized ones."""
        exact = keys[0] + label.encode(errors="surrogatepass")
        exact = hashlib.blake2b(exact, digest_size=12).digest()
        self.exact_duplicates += exact in self._exact
        self._exact.add(exact)
        first_number, first_label = met.setdefault(keys[1], (number, label))
        if first_number == number:
            return
        self.same_text += 1
        example = {"rows": [first_number, number], "text": text}
        if len(self.same_text_examples) < 5:
            self.same_text_examples.append(example)
        if label and first_label and first_label != label:
            self.conflicts += 1
            if len(self.conflict_examples) < 20:
                labels = [shorten(first_label), shorten(label)]
                self.conflict_examples.append(example | {"labels": labels})
