"""Tag schemes: one tag per word, read in any of the usual notations, IOB2 inside.

| scheme | begin | inside | end | single |
|---|---|---|---|---|
| IOB1 (CoNLL-2003) | ``I-``; ``B-`` only right after a chunk of the same label | ``I-`` | | |
| IOB2 | ``B-`` | ``I-`` | | |
| BIOES, also BILOU | ``B-`` | ``I-`` | ``E-``/``L-`` | ``S-``/``U-`` |
| BMES, also BMEWO | ``B-`` | ``M-`` | ``E-`` | ``S-``/``W-`` |
| plain | no spans: any label per word (part of speech) | | | |

The prefixes never contradict one another, so one automaton reads them all, well-formed or not: a chunk begins at
``B``, ``S``, or at an inside or end tag whose predecessor is ``O``, has another label, or closed its chunk. On IOB2
and BIOES, ill-formed sequences included, that is what ``seqeval.metrics.sequence_labeling.get_entities`` (its
lenient mode) returns; a test compares the two. A bare ``B`` (word segmentation) has the label ``_``, as in seqeval.

Each prefix may also be a small letter, stand behind its label, and be parted from it by another mark: ``b-per``,
``PER-B``, ``B_PER``, ``B:PER``, ``B/PER``, ``B.PER``.
"""

from __future__ import annotations

import functools
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, get_args

from polydetr.errors import SchemaError, did_you_mean
from polydetr.values.spans import Span

Scheme = Literal["IOB1", "IOB2", "BIOES", "BMES", "plain"]
WordSpan = tuple[int, int, str]
"""First word, last word exclusive, label."""

BARE_LABEL = "_"
_TAG = re.compile(r"([BIMELSUW])(?:[-_:/.](.+))?", re.DOTALL | re.IGNORECASE)
_LABEL_FIRST = re.compile(r"(.+)[-_:/.]([BIMELSUW])", re.DOTALL | re.IGNORECASE)
_AS_WRITTEN_HERE = re.compile(r"O|[BIMELSUW]-.+", re.DOTALL)
_KIND = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S", "W": "S"}
_PREFIXES = {"IOB1": "BI", "IOB2": "BI", "BIOES": "BIELSU", "BMES": "BMESW"}


@functools.lru_cache(maxsize=10_000)
def _parts(tag: str) -> tuple[str, str | None] | None:
    """("O" or the prefix, the label or None where it has none) of a tag in any spelling; None for another text."""
    tag = tag.strip()
    if tag in ("O", "o"):
        return "O", None
    if match := _TAG.fullmatch(tag):
        return match[1].upper(), match[2]
    match = _LABEL_FIRST.fullmatch(tag)
    return (match[2].upper(), match[1]) if match else None


def is_span_tag(tag: str) -> bool:
    """True for ``O`` and for a prefix of a known scheme, with or without a label, in any spelling."""
    return _parts(tag) is not None


def mark_spans(tags: Iterable[str]) -> bool:
    """Whether these tags, all that a column has, mark spans rather than label each word by itself.

    In other spellings than ``B-PER`` a label such as "S_1" may look like a tag: there an ``O``, or both ends of a
    chunk, must be among them.
    """
    distinct = set(tags)
    if not distinct or not all(map(is_span_tag, distinct)):
        return False
    kinds = {_split(tag)[0] for tag in distinct}
    return all(map(_AS_WRITTEN_HERE.fullmatch, distinct)) or "O" in kinds or {"B", "I"} <= kinds or {"B", "E"} <= kinds


def detect_scheme(sequences: Iterable[Sequence[str]]) -> Scheme:
    """The scheme that all these sequences share; "plain" where the tags mark no spans. Ill-formed IOB counts as IOB2.

    IOB1 differs from IOB2 by its chunks that begin with ``I-``, while no ``B-`` stands where IOB1 has no use for it.
    """
    prefixes: set[str] = set()
    distinct: set[str] = set()
    inside_begins = needless_begin = labeled = False
    for tags in sequences:
        previous = ""
        for tag in tags:
            parts = _parts(tag)
            if parts is None:
                return "plain"
            distinct.add(tag)
            prefix, name = parts
            if prefix == "O":
                previous = ""
                continue
            prefixes.add(prefix)
            label = name or BARE_LABEL
            labeled |= name is not None
            inside_begins |= prefix == "I" and label != previous
            needless_begin |= prefix == "B" and label != previous
            previous = label
    if distinct and not mark_spans(distinct):
        return "plain"
    if "M" in prefixes or "W" in prefixes:
        return "BMES"
    if prefixes & set("ELSU"):  # bare tags with no I among them are the word segmenter's B M E S
        return "BIOES" if labeled or "I" in prefixes else "BMES"
    return "IOB1" if inside_begins and not needless_begin else "IOB2"


def to_iob2(tags: Sequence[str], scheme: str = "auto") -> list[str]:
    """The same spans in IOB2; "plain" tags come back unchanged.

    With "auto" a tag that marks no span stays as it is. With a named scheme a tag outside it is an error.

    Raises:
        SchemaError: an unknown scheme, or a tag that the named scheme does not have.
    """
    if scheme != "auto":
        known = name_scheme(scheme)
        check_tags(tags, known)
        if known == "plain":
            return list(tags)
    read = word_spans_to_iob2(len(tags), iob2_to_word_spans(tags))
    return [new if is_span_tag(old) else old for old, new in zip(tags, read, strict=True)]


def name_scheme(name: str) -> Scheme:
    """The scheme of that name, whatever its letter case. Raises SchemaError for an unknown one."""
    for scheme in get_args(Scheme):
        if name.lower() == scheme.lower():
            return scheme
    raise SchemaError(f"unknown tag scheme {name!r}.", hint=did_you_mean(name, get_args(Scheme)))


def check_tags(tags: Sequence[str], scheme: Scheme) -> None:
    """Raises SchemaError for the first tag whose prefix ``scheme`` does not have."""
    if scheme == "plain":
        return
    allowed = _PREFIXES[scheme]
    for tag in tags:
        parts = _parts(tag)
        if parts is None or parts[0] not in f"O{allowed}":
            known = ", ".join(f"{p}-" for p in allowed)
            raise SchemaError(
                f"tag {tag!r} does not belong to the scheme {scheme} (O, {known} followed by a label).",
                hint="Correct the tag, or name the scheme of all tags: tasks.<target>.scheme.",
            )


def iob2_to_word_spans(tags: Sequence[str]) -> list[WordSpan]:
    """The chunks of ``tags`` as (first word, last word exclusive, label), in order; ill-formed sequences are read
    leniently.
    """
    spans: list[WordSpan] = []
    first, label, closed = 0, "", True  # ``closed``: no chunk is open
    for i, tag in enumerate(tags):
        kind, this = _split(tag)
        begins = kind in "BS" or (kind != "O" and (closed or this != label))
        if not closed and (begins or kind == "O"):
            spans.append((first, i, label))
            closed = True
        if begins:
            first, label, closed = i, this, False
        if kind in "ES":
            spans.append((first, i + 1, label))
            closed = True
    if not closed:
        spans.append((first, len(tags), label))
    return spans


def types_of(tags: Iterable[str]) -> set[str]:
    """The labels of the spans that these tags mark."""
    return {label for kind, label in map(_split, tags) if kind != "O"}


def sequence_faults(tags: Sequence[str], scheme: Scheme) -> list[tuple[int, str]]:
    """Where a sequence breaks the rules of its scheme, as (word index, what is wrong); reading goes on leniently."""
    if scheme == "plain":
        return []
    faults: list[tuple[int, str]] = []
    closing = scheme in ("BIOES", "BMES")
    open_label = ""  # the label of a chunk that may or must go on
    for i, tag in enumerate([*tags, "O"]):
        kind, label = _split(tag)
        goes_on = kind in "IE" and bool(open_label) and label == open_label
        if closing and open_label and not goes_on:
            where = f"before {tag!r}" if i < len(tags) else "at the end of the sentence"
            faults.append((i - 1, f"the chunk of {open_label!r} has no end (E-) {where}"))
        if kind in "IE" and not goes_on and scheme != "IOB1":
            faults.append((i, f"{tag!r} goes on with a chunk that was not begun (B-{label})"))
        open_label = label if kind in "BI" else ""
    return faults


def word_spans_to_iob2(num_words: int, spans: Iterable[WordSpan]) -> list[str]:
    """IOB2 tags of disjoint word spans."""
    tags = ["O"] * num_words
    for first, last, label in spans:
        tags[first:last] = [f"B-{label}", *[f"I-{label}"] * (last - first - 1)]
    return tags


class FittedSpan(NamedTuple):
    """A span on whole words: first word, last word exclusive, and the span before it was fitted."""

    first: int
    last: int
    span: Span


def fit_to_words(word_offsets: Sequence[tuple[int, int]], spans: Iterable[Span]) -> tuple[list[FittedSpan], list[str]]:
    """Spans on words at ``word_offsets`` (sorted, disjoint character offsets), and a message per span that did not fit.

    A span that begins or ends inside a word is widened to whole words. A span past the last word or before the first
    is left out.
    """
    messages: list[str] = []
    fitted: list[FittedSpan] = []
    starts, ends = [a for a, _ in word_offsets], [b for _, b in word_offsets]
    end_of_text = ends[-1] if ends else 0
    for span in spans:
        where = _name(span)
        if span.start < 0 or span.start > span.end or span.start > end_of_text:
            messages.append(f"{where} lies outside the text (0-{end_of_text})")
            continue
        first, last = bisect_right(ends, span.start), bisect_left(starts, span.end)
        if first >= last or span.start == span.end:
            messages.append(f"{where} covers no word")
            continue
        a, b = starts[first], ends[last - 1]
        if (a, b) != (span.start, span.end):
            messages.append(f"{where} was fitted to whole words {a}-{b}")
        fitted.append(FittedSpan(first, last, span))
    return fitted, messages


def spans_to_iob2(word_offsets: Sequence[tuple[int, int]], spans: Iterable[Span]) -> tuple[list[str], list[str]]:
    """IOB2 tags of spans fitted to words (``fit_to_words``), and a message per span that did not fit.

    Where two overlap the longer one stays (the outer one of nested entities), of equals the earlier.
    """
    fitted, messages = fit_to_words(word_offsets, spans)
    taken: dict[int, Span] = {}
    chosen: list[WordSpan] = []
    for first, last, span in sorted(fitted, key=lambda f: (f.first - f.last, f.first)):
        rival = next((taken[w] for w in range(first, last) if w in taken), None)
        if rival is not None:
            messages.append(f"{_name(span)} overlaps {_name(rival)}, which is kept")
            continue
        taken.update(dict.fromkeys(range(first, last), span))
        chosen.append((first, last, span.label))
    return word_spans_to_iob2(len(word_offsets), chosen), messages


def _name(span: Span) -> str:
    return f"span {span.start}-{span.end} ({span.label})"


def _split(tag: str) -> tuple[str, str]:
    """('B' | 'I' | 'E' | 'S' | 'O', label); anything that is no span tag counts as O."""
    prefix, label = _parts(tag) or ("O", None)
    return ("O", "") if prefix == "O" else (_KIND[prefix], label or BARE_LABEL)
