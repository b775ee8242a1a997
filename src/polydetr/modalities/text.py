"""Text: any script, any length, one field or several.

Several text fields are read in one sequence, ``[CLS] a [SEP] b [SEP]``, so that every layer of the backbone sees both.
The last field is the *windowed* one: a text that does not fit is read through overlapping windows and never cut. The
fields before it (a question, the first sentence of a pair) stand whole in front of every window; only where they would
fill more than half of it, and the windowed text needs that half, are they shortened, and that is reported.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from polydetr.backbones.choose import choose_text_backbone
from polydetr.backbones.text import TextBackbone
from polydetr.batch import Embedded, TokenGroup
from polydetr.cells import is_missing
from polydetr.config import Config, TextConfig
from polydetr.errors import ConfigError, Location, RowError
from polydetr.layout import FieldText, Finding, Layout, Row
from polydetr.modalities.base import EncodedGroup, Modality, Note, Window
from polydetr.schema import FieldSpec
from polydetr.spans import is_unspaced, join_tokens, split_words

SHAPES = ("special", "lower", "title", "upper", "mixed", "digit", "symbol", "unspaced", "other")
_SHAPE_ID = {name: i for i, name in enumerate(SHAPES)}
_NO_EDGE = 1 << 20
_ENCODING = 2
"""Raised whenever ``encode`` or ``split_words`` gives other tokens for the same text: files of tokens made before are
then not read.
"""
_FIELDS = _IDS, _START, _END, _WORD, _FIRST, _SHAPE = range(6)
"""Rows of a token table, int32 (6, L): id, first and end character, word (-1: none), whether it is its word's first,
word shape.
"""


@functools.lru_cache(maxsize=100_000)
def word_shape(word: str) -> int:
    """The kind of a word by its letters: what an uncased vocabulary forgets."""
    if word.islower():
        kind = "lower"
    elif word.isupper():
        kind = "upper" if len(word) > 1 else "title"
    elif word.istitle():
        kind = "title"
    elif any(c.isupper() for c in word):
        kind = "mixed"
    elif word[:1].isdigit():
        kind = "digit"
    elif word and is_unspaced(word[0]):
        kind = "unspaced"
    elif not word[:1].isalnum():
        kind = "symbol"
    else:
        kind = "other"
    return _SHAPE_ID[kind]


def as_text(value: object, *, field: str) -> FieldText:
    """A string, or a list of ready-made tokens, as text with its words.

    Raises:
        RowError: the value is missing or is neither.
    """
    if isinstance(value, str):
        return FieldText(value, split_words(value))
    if isinstance(value, (list, tuple, np.ndarray)) and all(isinstance(token, str) for token in value):
        text, offsets = join_tokens(list(value))
        return FieldText(text, offsets)
    location = Location(column=field)
    if is_missing_text(value):
        raise RowError(
            f"text is missing ({value!r})", location=location, hint="Give a string; an empty one is allowed."
        )
    raise RowError(f"{value!r:.80} is {type(value).__name__}, expected a string or a list of tokens", location=location)


def is_missing_text(value: object) -> bool:
    """None or NaN; an empty string is a text like any other."""
    return value is None or (isinstance(value, float) and value != value)


def readable_texts(fields: Sequence[str], rows: Sequence[Row]) -> Iterator[str]:
    """Every text there is; values that are none are left to encoding, which knows their place and what to do about
    them.
    """
    for row in rows:
        for field in fields:
            try:
                yield as_text(row.get(field), field=field).text
            except RowError:
                continue


class _WordTokens(NamedTuple):
    """One word's tokens; ``start`` and ``end`` count from the word's first character."""

    ids: tuple[int, ...]
    start: tuple[int, ...]
    end: tuple[int, ...]
    shape: int


class TextModality(Modality):
    """``by_word`` tokenises word by word, so that each word has a first token of its own (tags, answers); otherwise the
    tokenizer reads the text as it was pretrained to, in fewer tokens.
    """

    name: ClassVar[str] = "text"
    reads: ClassVar[frozenset[str]] = frozenset({"text"})
    keeps_words: bool = False
    """Whether the model is told where words begin, for tasks that read them (set by ``RowEncoder``)."""

    def __init__(self, fields: Sequence[str], backbone: TextBackbone, *, config: TextConfig, by_word: bool) -> None:
        super().__init__(fields)
        self.backbone = backbone
        self.config = config
        self.by_word = by_word
        self.max_tokens = min(config.max_tokens, backbone.max_positions)
        backbone.tokenizer.encode_special_tokens = True  # "[SEP]" in a user's text is text
        self._words: dict[tuple[str, bool], _WordTokens] = {}
        special = 1 + len(self.fields)
        if self.max_tokens < special + 2 * len(self.fields):
            raise ConfigError(
                f"text.max_tokens = {self.max_tokens} leaves no room for {len(self.fields)} text fields; raise it"
            )

    @classmethod
    def build(
        cls,
        fields: Sequence[FieldSpec],
        rows: Sequence[Row],
        config: Config,
        *,
        by_word: bool,
        folder: Path | None,
        note: Note,
    ) -> TextModality:
        names = [spec.name for spec in fields]
        backbone = choose_text_backbone(
            config.backbone_of("text"),
            lambda count: readable_texts(names, rows if count is None else rows[:count]),
            by_word=by_word,
            hidden_dim=config.model.embed_dim or 128,
            vocab_size=config.text.vocab_size,
            max_positions=config.text.max_tokens,
            note=note,
        )
        return cls(names, backbone, config=config.text, by_word=by_word)

    def over(self, fields: Sequence[str]) -> Self:
        twin = super().over(fields)
        twin.by_word = twin.keeps_words = False  # nothing points into these texts
        return twin

    # -- tokens ---------------------------------------------------------------------------------------------------

    def encode(self, rows: Sequence[Row], *, folder: Path | None = None) -> EncodedGroup:
        warnings: list[Finding] = []
        if not self.by_word:
            rows = [self._filled(row, warnings) for row in rows]
            if len(warnings) == len(rows) * len(self.fields):
                return self._nothing(rows, warnings)
        texts = [as_text(row.get(self.fields[-1]), field=self.fields[-1]) for row in rows]
        tokens = [self._tokenize(text) for text in texts]
        prompt = self._prompt(rows[0], sum(t.shape[1] for t in tokens), warnings)
        width = self.max_tokens - prompt.shape[1] - 1
        windows = [self._window(prompt, tokens, *piece) for piece in _pieces(tokens, width, self.config.overlap)]
        return EncodedGroup(windows, texts, warnings)

    def _filled(self, row: Row, warnings: list[Finding]) -> Row:
        """The row with missing texts empty; where there is nothing else to read at all, that is left to be refused."""
        # Beside other columns an empty cell says nothing; alone, an empty text is a text like any other.
        is_absent = is_missing_text if self.alone else is_missing
        missing = [field for field in self.fields if is_absent(row.get(field))]
        if not missing or (self.alone and len(missing) == len(self.fields)):
            return row
        warnings += [Finding("missing", field, f"{field!r} is missing") for field in missing]
        return {**row, **dict.fromkeys(missing, "")}

    def _nothing(self, rows: Sequence[Row], warnings: list[Finding]) -> EncodedGroup:
        empty = self._window(_special(self.backbone.cls_id), [], [], 0, 0).arrays
        window = Window({name: array[:0] for name, array in empty.items()})
        return EncodedGroup([window], [FieldText("", ()) for _ in rows], warnings)

    def _prompt(self, row: Row, rest: int, warnings: list[Finding]) -> np.ndarray:
        """[CLS] and every field before the windowed one, each closed by [SEP]; whole where the ``rest`` tokens leave
        room.
        """
        fields = self.fields[:-1]
        tokens = [self._tokenize(as_text(row.get(field), field=field)) for field in fields]
        room = self.max_tokens - 2 - len(fields)
        limit = _fair_limit([t.shape[1] for t in tokens], max(room // 2, room - rest))
        parts = [_special(self.backbone.cls_id)]
        for field, table in zip(fields, tokens, strict=True):
            if table.shape[1] > limit:
                message = f"{field!r} has {table.shape[1]} tokens; the first {limit} are read"
                warnings.append(Finding("truncated", field, message))
            parts += [table[:, :limit], _special(self.backbone.sep_id)]
        return np.concatenate(parts, axis=1)

    def _tokenize(self, text: FieldText) -> np.ndarray:
        return self._tokenize_words(text) if self.by_word else self._tokenize_whole(text)

    def _tokenize_words(self, text: FieldText) -> np.ndarray:
        string, table = text.text, self._words
        if len(table) > 200_000:
            table.clear()
        ids: list[int] = []
        start: list[int] = []
        end: list[int] = []
        counts: list[int] = []
        shapes: list[int] = []
        for a, b in text.words:
            # A leading space is part of a SentencePiece token; a WordPiece tokenizer ignores it.
            key = string[a:b], a == 0 or string[a - 1].isspace()
            found = table.get(key) or self._word_tokens(*key)
            ids += found.ids
            start += found.start
            end += found.end
            counts.append(len(found.ids))
            shapes.append(found.shape)
        out = np.empty((len(_FIELDS), len(ids)), dtype=np.int32)
        begins = np.array([a for a, _ in text.words], dtype=np.int32)
        word = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        base = begins[word]
        out[_IDS], out[_START], out[_END], out[_WORD] = ids, start + base, end + base, word
        out[_FIRST] = np.diff(word, prepend=-1) != 0
        out[_SHAPE] = np.array(shapes, dtype=np.int32)[word]
        return out

    def _word_tokens(self, word: str, spaced: bool) -> _WordTokens:
        """Words repeat (Zipf), so a table is much faster than the tokenizer."""
        lead = " " if spaced else ""
        encoding = self.backbone.tokenizer.encode(lead + word, add_special_tokens=False)
        # A lone word-start mark stands for no character: it would only make the sequence longer.
        kept = [
            (i, max(a - len(lead), 0), b - len(lead)) for i, (a, b) in zip(encoding.ids, encoding.offsets, strict=True)
        ]
        kept = [(i, a, b) for i, a, b in kept if word[a:b].strip()] or [(self.backbone.unk_id, 0, len(word))]
        ids, start, end = zip(*kept, strict=True)
        # A tokenizer may drop marks and control characters at a word's edges; the word has them all the same.
        found = _WordTokens(
            ids, (0, *start[1:]), (*end[:-1], len(word)), word_shape(word) if self.config.word_shape else 0
        )
        if len(word) < 100:
            self._words[word, spaced] = found
        return found

    def _tokenize_whole(self, text: FieldText) -> np.ndarray:
        encoding = self.backbone.tokenizer.encode(text.text, add_special_tokens=False)
        out = np.zeros((len(_FIELDS), len(encoding.ids)), dtype=np.int32)
        out[_IDS] = encoding.ids
        out[_WORD] = -1
        if not len(encoding.ids):
            return out
        start, end = np.array(encoding.offsets, dtype=np.int32).T
        if text.words:
            bounds = np.array(text.words, dtype=np.int32)
            word = np.searchsorted(bounds[:, 1], start, side="right")  # the first word that ends after the token begins
            last = np.minimum(word, len(bounds) - 1)
            start = np.maximum(start, np.minimum(bounds[last, 0], end - 1))  # white space in front belongs to no token
            inside = (word < len(bounds)) & (bounds[last, 0] <= start)
            out[_WORD] = np.where(inside, word, -1)
            out[_FIRST] = inside & (np.diff(out[_WORD], prepend=-1) != 0)
            if self.config.word_shape:
                shapes = np.array([word_shape(text.text[a:b]) for a, b in text.words], dtype=np.int32)
                out[_SHAPE] = np.where(inside, shapes[last], 0)
        out[_START], out[_END] = start, end
        return out

    def _window(
        self, prompt: np.ndarray, tokens: Sequence[np.ndarray], spans: list[tuple[int, int, int]], left: int, right: int
    ) -> Window:
        """One window from (row, from, to) stretches; left and right say how many tokens were left out on each side."""
        body = [tokens[row][:, begin:stop] for row, begin, stop in spans]
        whole = np.concatenate([prompt, *body, _special(self.backbone.sep_id)], axis=1)
        size, begin = whole.shape[1], prompt.shape[1]
        row = np.full(size, -1, dtype=np.int32)
        row[begin:-1] = np.repeat([r for r, _, _ in spans], [b - a for _, a, b in spans])
        margin = np.full(size, _NO_EDGE, dtype=np.int32)
        inside = np.arange(size - begin - 1, dtype=np.int32)
        if left:
            margin[begin:-1] = inside
        if right:
            np.minimum(margin[begin:-1], inside[::-1], out=margin[begin:-1])
        segment = np.zeros(size, dtype=np.int8)
        segment[begin:] = len(self.fields) > 1
        arrays = {"input_ids": whole[_IDS], "segment_ids": segment}
        if self.config.word_shape:
            arrays["shape_ids"] = whole[_SHAPE].astype(np.int8)
        real = row >= 0
        if self.keeps_words:
            arrays["word_rows"] = np.where(real & (whole[_FIRST] != 0), row + 1, 0).astype(np.int16)
        layout = Layout(
            row, whole[_START], whole[_END], np.where(real, whole[_WORD], -1), real & (whole[_FIRST] != 0), margin
        )
        return Window(arrays, layout)

    # -- module and state ------------------------------------------------------------------------------------------

    def build_embedder(self, embed_dim: int | None) -> TextEmbedder:
        return TextEmbedder(self.backbone, embed_dim=embed_dim, word_shape=self.config.word_shape)

    @property
    def is_pretrained(self) -> bool:
        return self.backbone.num_layers > 0

    def pretrained(self) -> Mapping[str, Tensor] | None:
        if self.backbone.source is None:
            return None
        return {f"backbone.{name}": tensor for name, tensor in self.backbone.weights().items()}

    def state(self) -> dict[str, Any]:
        return {"fields": list(self.fields), "config": self.config.model_dump(), "by_word": self.by_word}

    def fingerprint(self) -> str:
        what = f"{_ENCODING}{self.keeps_words}{self.backbone.tokenizer.to_str()}"
        return hashlib.sha256(what.encode()).hexdigest()

    def save_files(self, folder: Path) -> None:
        self.backbone.save(folder)

    @classmethod
    def from_state(cls, state: Mapping[str, Any], folder: Path) -> TextModality:
        backbone = TextBackbone.from_folder(folder)
        return cls(state["fields"], backbone, config=TextConfig(**state["config"]), by_word=state["by_word"])


class TextEmbedder(nn.Module):
    """TokenGroup → (B, L, embed_dim): the backbone, the word shapes added to its input, and a projection where widths
    differ.
    """

    frozen_with_backbone = ("backbone", "shape_embedding")

    def __init__(self, backbone: TextBackbone, *, embed_dim: int | None, word_shape: bool) -> None:
        super().__init__()
        self.backbone = backbone.build()
        self.shape_embedding = nn.Embedding(len(SHAPES), backbone.hidden_dim) if word_shape else None
        if self.shape_embedding is not None:
            nn.init.zeros_(self.shape_embedding.weight)  # begins as the backbone was pretrained
        self.embed_dim = embed_dim or backbone.hidden_dim
        same = self.embed_dim == backbone.hidden_dim
        self.project: nn.Module = nn.Identity() if same else nn.Linear(backbone.hidden_dim, self.embed_dim)

    def features(self, group: TokenGroup) -> Embedded:
        """What the backbone makes of the tokens, (B, L, hidden): all that training with a frozen one repeats."""
        values = group.values
        extra = self.shape_embedding(values["shape_ids"]) if self.shape_embedding is not None else None
        hidden = self.backbone(values["input_ids"], group.mask, values.get("segment_ids"), group.positions, extra=extra)
        return Embedded(hidden, group.mask)

    def forward(self, group: TokenGroup) -> Embedded:
        made = group.values.get("features")
        hidden = self.features(group).tokens if made is None else made
        return Embedded(self.project(hidden.to(self.dtype)), group.mask, word_rows=group.values.get("word_rows"))

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype


def _fair_limit(lengths: Sequence[int], room: int) -> int:
    """The largest length such that all texts, each cut to it, take ``room`` tokens at most: short ones stay whole."""
    limit = room
    for i, length in enumerate(sorted(lengths)):
        limit = room // (len(lengths) - i)
        if length > limit:
            return limit
        room -= length
    return max([limit, *lengths])


def _pieces(
    tokens: Sequence[np.ndarray], width: int, overlap: int
) -> list[tuple[list[tuple[int, int, int]], int, int]]:
    """Cuts a document's rows, laid end to end, into overlapping windows of at most ``width`` tokens: for each the
    (row, from, to) stretches, and how many tokens lie to the left and right of it.
    """
    lengths = [t.shape[1] for t in tokens]
    total = sum(lengths)
    if total <= width:
        return [([(row, 0, n) for row, n in enumerate(lengths)], 0, 0)]
    stride = max(1, width - min(overlap, width // 2))
    starts = [*range(0, total - width, stride), total - width]
    ends = np.cumsum(lengths).tolist()
    pieces = []
    for start in starts:
        spans = []
        for row, (stop, length) in enumerate(zip(ends, lengths, strict=True)):
            begin = stop - length
            low, high = max(start, begin), min(start + width, stop)
            if low < high:
                spans.append((row, low - begin, high - begin))
        pieces.append((spans, start, total - start - width))
    return pieces


@functools.lru_cache(maxsize=64)
def _special(token: int) -> np.ndarray:
    """A token that stands for no character, as a table of one."""
    table = np.array([[token], [0], [0], [-1], [0], [0]], dtype=np.int32)
    table.flags.writeable = False
    return table
