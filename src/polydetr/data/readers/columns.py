"""CoNLL columns and character files (BIO, BMES), streamed sentence by sentence.

One token per line, its tag in the last column, a blank line after each sentence; ``-DOCSTART-`` begins a document. The
columns are split at tabs if the first line has one, else at blanks; only ASCII blanks separate, since a full-width
space can be a token. The scheme is detected on the first thousand sentences, and tags come out as IOB2 (labels that
mark no spans stay as they are).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice

from polydetr.core.reading import SKIP, option
from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.json_rows import shorten
from polydetr.data.readers.source import Source, refuse
from polydetr.errors import DataFileError, Location, RowError, SchemaError
from polydetr.values.tags import Scheme, check_tags, detect_scheme, is_span_tag, name_scheme, sequence_faults, to_iob2

_DETECT_ON = 1000
_BLANKS = re.compile(r"[ \t]+")
_DOCSTART = "-DOCSTART-"


@dataclass(slots=True)
class _Sentence:
    line: int
    document: str | None
    tokens: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    fault: tuple[int, str] | None = None


def read_columns(source: Source, *, report: ReadReport, skip: bool, scheme: str = "auto") -> Iterator[Record]:
    """Rows {"tokens": [...], "tags": [...]}; ``location`` has the sentence's number and its first line.

    Raises:
        DataFileError: no sentence in the file, or a single column. RowError: a line with another number of columns,
        a tag outside the scheme (``skip``: the sentence is rejected into ``report`` instead).
    """
    split, width = _layout(source)
    sentences = _sentences(source, split, width)
    first = list(islice(sentences, _DETECT_ON))
    known = name_scheme(scheme) if scheme != "auto" else _detect(first)
    if not first:
        raise DataFileError("holds no sentence, expected a token and its tag per line.", location=Location(source.name))
    return _records(source.name, chain(first, sentences), known, report, skip)


def _detect(sentences: list[_Sentence]) -> Scheme:
    """A single odd tag among thousands is a slip to report, not a sign that no tag marks a span."""
    tags = [t for s in sentences for t in s.tags]
    odd = sum(not is_span_tag(t) for t in tags)
    if odd and odd <= 0.01 * len(tags):
        return detect_scheme([t for t in s.tags if is_span_tag(t)] for s in sentences)
    return detect_scheme(s.tags for s in sentences)


def _records(
    name: str, sentences: Iterable[_Sentence], scheme: Scheme, report: ReadReport, skip: bool
) -> Iterator[Record]:
    """The sentences as records, their tags brought to IOB2."""
    for row, sentence in enumerate(sentences, 1):
        location = Location(name, row=row, line=sentence.fault[0] if sentence.fault else sentence.line)
        try:
            if sentence.fault:
                raise RowError(sentence.fault[1])
            check_tags(sentence.tags, scheme)
        except (RowError, SchemaError) as error:
            hint = error.hint or f"Repair the line, or skip such sentences with {SKIP}."
            refuse(error.message, location, report, skip=skip, hint=hint)
            continue
        for index, fault in sequence_faults(sentence.tags, scheme):
            place = Location(name, line=sentence.line + index)
            report.note("broken tag sequence", f"{fault}; read leniently", place)
        report.rows += 1
        values = {"tokens": sentence.tokens, "tags": to_iob2(sentence.tags, scheme)}
        yield Record(values, location, sentence.document)


def _layout(source: Source) -> tuple[re.Pattern[str], int]:
    """How to cut a line, and into how many columns: as the first token line that is no comment."""
    for text in source.head_lines():
        text = text.strip(" \r\n")
        if text.strip() and not text.startswith(("#", _DOCSTART)):
            split = re.compile("\t") if "\t" in text.strip() else _BLANKS
            width = len(split.split(text))
            if width < 2:
                raise DataFileError(
                    f"has one column ({shorten(text)!r}), expected a token and its tag per line.",
                    location=Location(source.name),
                    hint=f"If it is another format, name it with {option('format')}.",
                )
            return split, width
    return _BLANKS, 2


def _sentences(source: Source, split: re.Pattern[str], width: int) -> Iterator[_Sentence]:
    documents = 0
    current: _Sentence | None = None
    for number, raw in enumerate(source.lines(), 1):
        text = raw.strip("\r\n") if split.pattern == "\t" else raw.strip(" \t\r\n")
        if not text.strip(" \t") or text.startswith(_DOCSTART):
            if current:
                yield current
            current = None
            documents += text.startswith(_DOCSTART)
            continue
        cells = split.split(text)
        if text.startswith("#") and current is None and (len(cells) != width or not is_span_tag(cells[-1])):
            continue  # a comment; a token "#" has all its columns and a tag
        if current is None:
            current = _Sentence(number, str(documents) if documents else None)
        if len(cells) != width:
            fault = f"{len(cells)} column{'s' * (len(cells) != 1)}, expected {width}: {shorten(text)!r}."
            current.fault = current.fault or (number, fault)
            continue
        current.tokens.append(cells[0])
        current.tags.append(cells[-1])
    if current:
        yield current
