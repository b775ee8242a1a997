"""CoNLL columns and character files (BIO, BMES), streamed sentence by sentence.

One token per line, its tag in the last column that has any, a blank line after each sentence; ``-DOCSTART-`` begins a
document. The columns are split at tabs if the first line has one, else at blanks; only ASCII blanks separate, since a
full-width space can be a token. A first column that counts the tokens is passed over. The scheme is detected on the
first thousand sentences, and tags come out as IOB2 (labels that mark no spans stay as they are).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice, pairwise

from polydetr.core.reading import SKIP, option
from polydetr.core.records import ReadReport, Record
from polydetr.data.readers.json_rows import shorten
from polydetr.data.readers.source import Source, refuse
from polydetr.errors import DataFileError, Location, RowError, SchemaError
from polydetr.values.tags import Scheme, check_tags, detect_scheme, is_span_tag, name_scheme, sequence_faults, to_iob2

_DETECT_ON = 1000
_BLANKS = re.compile(r"[ \t]+")
_DOCSTART = "-DOCSTART-"
_NOTHING = frozenset("_-")
"""What stands in a column without values."""
_HEADER = frozenset(
    ["id", "token", "tokens", "word", "words", "form", "char", "text", "lemma", "pos", "chunk", "tag", "tags", "label",
     "labels", "ner", "ner_tag", "ner_tags", "bio"]
)  # fmt: skip
_NO_NUMBER = re.compile(r"\d+[-.]\d+")
_UPOS = 3
"""The column of CoNLL-U, which has ten, in which the parts of speech stand."""


@dataclass(slots=True)
class _Sentence:
    line: int
    document: str | None
    rows: list[list[str]] = field(default_factory=list)
    fault: tuple[int, str] | None = None

    def column(self, number: int) -> list[str]:
        return [row[number] for row in self.rows]

    def counted(self) -> _Sentence:
        """Without the lines of CoNLL-U that have no number of their own: of a token that is several words (1-2), and of
        words that are not written (1.1).
        """
        return replace(self, rows=[row for row in self.rows if not _NO_NUMBER.fullmatch(row[0])])


@dataclass(frozen=True, slots=True)
class _Names:
    """The columns that are read: name → number. tags: the one that holds the tags, if any; counts: whether the first
    column counts the tokens.
    """

    columns: dict[str, int]
    tags: str | None
    counts: bool


def read_columns(
    source: Source,
    *,
    report: ReadReport,
    skip: bool,
    scheme: str = "auto",
    columns: Sequence[str] | None = None,
    tags: str = "tags",
    labels: bool = True,
) -> Iterator[Record]:
    """Rows {"tokens": [...], "tags": [...]}; ``location`` has the sentence's number and its first line.

    columns: the names of all columns, "_" for one that is not read; tags: the name of the column of tags where they are
    not named; labels: whether it is read at all.

    Raises:
        DataFileError: no sentence in the file, or a single column. SchemaError: other columns than were named.
        RowError: a line with another number of columns, a tag outside the scheme (``skip``: the sentence is rejected
        into ``report`` instead).
    """
    split, width = _layout(source, least=2 if labels else 1)
    sentences = _sentences(source, split, width, labels=labels)
    first = list(islice(sentences, _DETECT_ON))
    if not first:
        raise DataFileError("holds no sentence, expected a token and its tag per line.", location=Location(source.name))
    header = _header(first, source, report) if columns is None else None
    counts = width > 1 and _counts(first)
    whole = [sentence.counted() if counts else sentence for sentence in first if not sentence.fault]
    names = _name_columns(
        source, whole, width, given=columns or header, tags=tags if labels else None, counts=counts, report=report
    )
    known: Scheme = name_scheme(scheme) if scheme != "auto" else _detect(whole, names)
    return _records(source.name, chain(first, sentences), names, known, report, skip)


def _detect(sentences: list[_Sentence], names: _Names) -> Scheme:
    """A single odd tag among thousands is a slip to report, not a sign that no tag marks a span."""
    if names.tags is None:
        return "plain"
    sequences = [sentence.column(names.columns[names.tags]) for sentence in sentences]
    tags = [tag for sequence in sequences for tag in sequence]
    odd = sum(not is_span_tag(t) for t in tags)
    if odd and odd <= 0.01 * len(tags):
        return detect_scheme([t for t in sequence if is_span_tag(t)] for sequence in sequences)
    return detect_scheme(sequences)


def _records(
    name: str, sentences: Iterable[_Sentence], names: _Names, scheme: Scheme, report: ReadReport, skip: bool
) -> Iterator[Record]:
    """The sentences as records, their tags brought to IOB2."""
    for row, sentence in enumerate(sentences, 1):
        location = Location(name, row=row, line=sentence.fault[0] if sentence.fault else sentence.line)
        values: dict[str, list[str]] = {}
        try:
            if sentence.fault:
                raise RowError(sentence.fault[1])
            sentence = sentence.counted() if names.counts else sentence
            values = {column: sentence.column(number) for column, number in names.columns.items()}
            if names.tags is not None:
                check_tags(values[names.tags], scheme)
        except (RowError, SchemaError) as error:
            hint = f"Repair the line, or skip such sentences with {SKIP}."
            refuse(error.message, location, report, skip=skip, hint=hint)
            continue
        if names.tags is not None:
            for index, fault in sequence_faults(values[names.tags], scheme):
                place = Location(name, line=sentence.line + index)
                report.note("broken tag sequence", f"{fault}; read leniently", place)
            values[names.tags] = to_iob2(values[names.tags], scheme)
        report.rows += 1
        yield Record(values, location, sentence.document)


# -- which column is what ---------------------------------------------------------------------------------------------


def _header(sentences: list[_Sentence], source: Source, report: ReadReport) -> list[str] | None:
    """The names of the columns where the first line has them; it is then no token."""
    rows = sentences[0].rows
    if not rows or not all(cell.strip().lower() in _HEADER for cell in rows[0]) or len(set(rows[0])) < len(rows[0]):
        return None
    names = [cell.strip() for cell in rows.pop(0)]
    report.note("header", f"the first line names the columns: {', '.join(names)}", Location(source.name, line=1))
    if rows:
        sentences[0].line += 1
    else:
        sentences.pop(0)
    return names


def _name_columns(
    source: Source,
    sentences: list[_Sentence],
    width: int,
    *,
    given: Sequence[str] | None,
    tags: str | None,
    counts: bool,
    report: ReadReport,
) -> _Names:
    """given: the names of all columns, where they are known; tags: the name for that of the tags, None where it is not
    wanted.
    """
    if given is not None:
        columns = {name: number for number, name in enumerate(given) if name not in _NOTHING}
        if len(given) != width or len(columns) < sum(name not in _NOTHING for name in given):
            raise SchemaError(
                f"the columns are named {', '.join(given)}, expected {width} names, each once.",
                location=Location(source.name),
            )
        if counts and given[0] not in _NOTHING:
            del columns[given[0]]
        last = list(columns)[-1] if len(columns) > 1 else None
        return _Names(columns, last if tags is not None else None, counts)
    token = int(counts)
    if tags is None:
        return _Names({"tokens": token}, None, counts)
    values = {n: {cell for s in sentences for cell in s.column(n)} for n in range(token + 1, width)}
    candidates = [n for n, cells in values.items() if not cells <= _NOTHING]
    if not candidates:
        raise DataFileError(
            f"has no column of tags beside the tokens ({sentences[0].rows[0][token]!r:.40}).",
            location=Location(source.name),
            hint="Expected a token and its tag per line.",
        )
    varied = [n for n in candidates if len(values[n]) > 1]  # a column of nothing but "O" has no tags
    chosen = _UPOS if width == 10 and counts and _UPOS in candidates else (varied or candidates)[-1]
    if len(candidates) > 1:
        shown = ["_"] * width
        shown[token], shown[chosen] = "tokens", tags
        report.note(
            "several columns",
            f"the tags are those of column {chosen + 1} of {width} ({sentences[0].rows[0][chosen]!r:.40}); to read "
            f"another one name them all, '_' for one that is not read: --columns {','.join(shown)}",
            Location(source.name),
        )
    return _Names({"tokens": token, tags: chosen}, tags, counts)


def _counts(sentences: list[_Sentence]) -> bool:
    """Whether the first column numbers the tokens of every sentence one after the other."""
    numbers = [sentence.counted().column(0) for sentence in sentences if not sentence.fault]
    if not any(len(column) > 1 for column in numbers) or not all(n.isdecimal() for column in numbers for n in column):
        return False
    return all(int(later) == int(earlier) + 1 for column in numbers for earlier, later in pairwise(column))


# -- lines ------------------------------------------------------------------------------------------------------------


def _layout(source: Source, *, least: int) -> tuple[re.Pattern[str], int]:
    """How to cut a line, and into how many columns: as the first token line that is no comment. least: columns that
    must be there.
    """
    for text in source.head_lines():
        text = text.strip(" \r\n")
        if text.strip() and not text.startswith(("#", _DOCSTART)):
            split = re.compile("\t") if "\t" in text.strip() else _BLANKS
            width = len(split.split(text))
            if width < least:
                raise DataFileError(
                    f"has one column ({shorten(text)!r}), expected a token and its tag per line.",
                    location=Location(source.name),
                    hint=f"If it is another format, name it with {option('format')}.",
                )
            return split, width
    return _BLANKS, 2


def _sentences(source: Source, split: re.Pattern[str], width: int, *, labels: bool) -> Iterator[_Sentence]:
    """labels: whether a line needs all its columns; without them a token is enough."""
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
        is_token = len(cells) == width and (cells[0] != "#" or width == 1 or is_span_tag(cells[-1]))
        if text.startswith("#") and current is None and not is_token:
            continue  # a comment
        if current is None:
            current = _Sentence(number, str(documents) if documents else None)
        if not labels and len(cells) < width and not (len(cells) == 1 and cells[0].isdecimal()):
            cells += [""] * (width - len(cells))
        if len(cells) != width:
            fault = f"{len(cells)} column{'s' * (len(cells) != 1)}, expected {width}: {shorten(text)!r}."
            current.fault = current.fault or (number, fault)
            continue
        current.rows.append(cells)
    if current:
        yield current
