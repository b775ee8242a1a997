"""Tag schemes: what each notation means, round trips, and agreement with seqeval."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from polydetr.errors import SchemaError
from polydetr.values.spans import Span, split_words
from polydetr.values.tags import (
    check_tags,
    detect_scheme,
    iob2_to_word_spans,
    sequence_faults,
    spans_to_iob2,
    to_iob2,
    word_spans_to_iob2,
)

LABELS = st.sampled_from(["PER", "ORG", "A-B"])


@st.composite
def word_spans(draw):
    """(number of words, disjoint spans in order)."""
    spans, position = [], 0
    for _ in range(draw(st.integers(0, 5))):
        first = position + draw(st.integers(0, 2))
        position = first + draw(st.integers(1, 3))
        spans.append((first, position, draw(LABELS)))
    return position + draw(st.integers(0, 2)), spans


def write(num_words, spans, *, inside, end, single):
    """The closing schemes, written out the long way."""
    tags = ["O"] * num_words
    for first, last, label in spans:
        if last - first == 1:
            tags[first] = f"{single}-{label}"
        else:
            tags[first:last] = [f"B-{label}", *[f"{inside}-{label}"] * (last - first - 2), f"{end}-{label}"]
    return tags


def write_iob1(num_words, spans):
    tags = ["O"] * num_words
    for i, (first, last, label) in enumerate(spans):
        touches = i and spans[i - 1][1] == first and spans[i - 1][2] == label
        tags[first:last] = [f"{'B' if touches else 'I'}-{label}", *[f"I-{label}"] * (last - first - 1)]
    return tags


@given(word_spans())
def test_every_scheme_gives_back_the_spans_it_was_written_from(drawn):
    num_words, spans = drawn
    iob2 = word_spans_to_iob2(num_words, spans)
    assert iob2_to_word_spans(iob2) == spans
    assert to_iob2(iob2) == iob2
    assert to_iob2(write_iob1(num_words, spans), scheme="IOB1") == iob2
    closing = [("I", "E", "S", "BIOES"), ("M", "E", "S", "BMES"), ("I", "L", "U", "BIOES"), ("M", "E", "W", "bmes")]
    for inside, end, single, scheme in closing:
        tags = write(num_words, spans, inside=inside, end=end, single=single)
        assert to_iob2(tags) == to_iob2(tags, scheme=scheme) == iob2
        if scheme == "BIOES":
            assert sequence_faults(tags, scheme) == []


@given(st.lists(st.sampled_from(["O", *(f"{p}-{t}" for p in "BIES" for t in ("X", "Y"))]), max_size=12))
def test_ill_formed_sequences_are_read_as_seqeval_reads_them(tags):
    assert [(label, first, last - 1) for first, last, label in iob2_to_word_spans(tags)] == get_entities(tags)


def test_random_iob2_agrees_with_seqeval():
    rng = np.random.default_rng(0)
    options = ["O", "B-X", "I-X", "B-Y", "I-Y"]
    for _ in range(500):
        tags = [options[i] for i in rng.integers(0, 5, rng.integers(0, 11))]
        assert [(label, a, b - 1) for a, b, label in iob2_to_word_spans(tags)] == get_entities(tags)


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        (["I-PER", "I-PER", "B-PER", "O"], "IOB1"),
        (["B-PER", "I-PER", "O", "B-LOC"], "IOB2"),
        (["B-PER", "O", "I-LOC"], "IOB2"),  # ill-formed: a needless B- rules out IOB1
        (["B-PER", "E-PER", "S-LOC"], "BIOES"),
        (["B-PER", "L-PER", "U-LOC"], "BIOES"),
        (["B-PER", "M-PER", "E-PER"], "BMES"),
        (["B", "E", "S"], "BMES"),
        (["DT", "NN", "O"], "plain"),
        (["O", "O"], "IOB2"),
    ],
)
def test_detects(tags, scheme):
    assert detect_scheme([tags]) == scheme


def test_plain_tags_stay_as_they_are():
    assert to_iob2(["DT", "NN", "VB"]) == ["DT", "NN", "VB"]


def test_a_bare_tag_has_the_label_underscore():
    assert iob2_to_word_spans(["B", "E", "S"]) == [(0, 2, "_"), (2, 3, "_")]


def test_a_foreign_tag_is_named_with_what_is_allowed():
    with pytest.raises(SchemaError, match=r"'M-PER' does not belong to the scheme IOB2 \(O, B-, I- followed"):
        check_tags(["B-PER", "M-PER"], "IOB2")
    with pytest.raises(SchemaError, match=r"unknown tag scheme 'IOB3'.*Did you mean 'IOB"):
        to_iob2(["O"], scheme="IOB3")


def test_broken_bmes_is_located():
    faults = sequence_faults(["M-PER", "E-PER", "B-ORG", "M-ORG"], "BMES")
    assert [i for i, _ in faults] == [0, 3]
    assert "not begun (B-PER)" in faults[0][1]
    assert "no end (E-) at the end of the sentence" in faults[1][1]


def test_spans_widen_to_words_and_say_so():
    text = "Angela Merkel flew"
    tags, messages = spans_to_iob2(split_words(text), [Span(2, 9, "PER")])
    assert tags == ["B-PER", "I-PER", "O"]
    assert messages == ["span 2-9 (PER) was fitted to whole words 0-13"]


def test_of_overlapping_spans_the_longer_stays():
    words = split_words("University of Basel opens")
    tags, messages = spans_to_iob2(words, [Span(14, 19, "LOC"), Span(0, 19, "ORG")])
    assert tags == ["B-ORG", "I-ORG", "I-ORG", "O"]
    assert messages == ["span 14-19 (LOC) overlaps span 0-19 (ORG), which is kept"]


@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [
        (90, 95, "lies outside the text (0-6)"),
        (-3, 2, "lies outside the text (0-6)"),
        (4, 2, "lies outside the text (0-6)"),
        (3, 3, "covers no word"),
        (1, 2, "covers no word"),
    ],
)
def test_spans_without_a_word_are_left_out_and_reported(start, end, reason):
    tags, messages = spans_to_iob2(split_words("a  b c"), [Span(start, end, "X")])
    assert tags == ["O"] * 3
    assert messages == [f"span {start}-{end} (X) {reason}"]


@given(word_spans())
def test_spans_over_words_come_back(drawn):
    num_words, spans = drawn
    offsets = [(3 * i, 3 * i + 2) for i in range(num_words)]
    given_spans = [Span(offsets[a][0], offsets[b - 1][1], label) for a, b, label in spans]
    tags, messages = spans_to_iob2(offsets, given_spans)
    assert iob2_to_word_spans(tags) == spans
    assert messages == []
