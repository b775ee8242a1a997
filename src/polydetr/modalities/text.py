"""Text: any script, any length, one field or several.

Several text fields are read in one sequence, ``[CLS] a [SEP] b [SEP]``, so that every layer of the backbone sees both. The last field
is the *windowed* one: a text that does not fit is read through overlapping windows and never cut. The fields before it (a question,
the first sentence of a pair) stand whole in front of every window; only where they would fill more than half of it are they
shortened, and that is reported.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from polydetr.backbones.text import TextBackbone
from polydetr.batch import TokenGroup
from polydetr.config import TextConfig
from polydetr.errors import Location, RowError
from polydetr.layout import FieldText, Layout, Row
from polydetr.modalities.base import EncodedGroup, Modality, Window
from polydetr.spans import is_unspaced, join_tokens, split_words

SHAPES = ("special", "lower", "title", "upper", "mixed", "digit", "symbol", "unspaced", "other")
_SHAPE_ID = {name: i for i, name in enumerate(SHAPES)}
_NO_EDGE = 1 << 20


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
    if value is None or (isinstance(value, float) and value != value):
        raise RowError(f"text is missing ({value!r})", location=location, hint="Give a string; an empty one is allowed.")
    raise RowError(
        f"{value!r:.80} is {type(value).__name__}, expected a string or a list of tokens", location=location
    )


@dataclass(frozen=True)
class _Tokens:
    """A row's tokens before windowing; one entry a token."""

    ids: np.ndarray
    start: np.ndarray
    end: np.ndarray
    word: np.ndarray
    first: np.ndarray
    shape: np.ndarray


_COLUMNS = ("ids", "start", "end", "word", "first", "shape")


class TextModality(Modality):
    """``by_word`` tokenises word by word, so that each word has a first token of its own (tags, answers); otherwise the tokenizer reads
    the text as it was pretrained to, in fewer tokens.
    """

    name: ClassVar[str] = "text"

    def __init__(self, fields: Sequence[str], backbone: TextBackbone, *, config: TextConfig, by_word: bool) -> None:
        super().__init__(fields)
        self.backbone = backbone
        self.config = config
        self.by_word = by_word
        self.max_tokens = min(config.max_tokens, backbone.max_positions)
        self._words: dict[str, tuple[tuple[int, int, int], ...]] = {}

    # -- tokens ---------------------------------------------------------------------------------------------------

    def encode(self, rows: Sequence[Row]) -> EncodedGroup:
        warnings: list[str] = []
        prompt = self._prompt(rows[0], warnings)
        texts = [as_text(row.get(self.fields[-1]), field=self.fields[-1]) for row in rows]
        tokens = [self._tokenize(text) for text in texts]
        width = self.max_tokens - len(prompt.ids) - 1
        windows = [self._window(prompt, tokens, *piece) for piece in _pieces(tokens, width, self.config.overlap)]
        return EncodedGroup(windows, texts, warnings)

    def _prompt(self, row: Row, warnings: list[str]) -> _Tokens:
        """[CLS] and the whole of every field before the windowed one, each closed by [SEP]."""
        parts = [_special(self.backbone.cls_id)]
        room = self.max_tokens // 2 // max(1, len(self.fields) - 1)
        for field in self.fields[:-1]:
            tokens = self._tokenize(as_text(row.get(field), field=field))
            if len(tokens.ids) > room:
                warnings.append(f"{field!r} has {len(tokens.ids)} tokens; the first {room} are read")
                tokens = _slice(tokens, 0, room)
            parts += [tokens, _special(self.backbone.sep_id)]
        return _concat(parts)

    def _tokenize(self, text: FieldText) -> _Tokens:
        if self.by_word:
            return self._tokenize_words(text)
        return self._tokenize_whole(text)

    def _tokenize_words(self, text: FieldText) -> _Tokens:
        columns: list[tuple[int, int, int, int, bool, int]] = []
        for index, (start, end) in enumerate(text.words):
            word = text.text[start:end]
            shape = word_shape(word)
            # A leading space is part of a SentencePiece token; a WordPiece tokenizer ignores it.
            lead = "" if start and not text.text[start - 1].isspace() else " "
            first = True
            for token, begin, finish in self._word_tokens(lead + word):
                offset = start - len(lead)
                columns.append((token, max(offset + begin, start), offset + finish, index, first, shape))
                first = False
        return _from_columns(columns)

    def _word_tokens(self, word: str) -> tuple[tuple[int, int, int], ...]:
        """(id, start, end) of one word's tokens. Words repeat (Zipf), so a table is much faster than the tokenizer."""
        known = self._words.get(word)
        if known is None:
            encoding = self.backbone.tokenizer.encode(word, add_special_tokens=False)
            found = zip(encoding.ids, encoding.offsets, strict=True)
            # A lone word-start mark stands for no character: it would only make the sequence longer.
            known = tuple((i, s, e) for i, (s, e) in found if word[s:e].strip()) or ((self.backbone.unk_id, 0, len(word)),)
            if len(self._words) >= 200_000:
                self._words.clear()
            if len(word) < 100:
                self._words[word] = known
        return known

    def _tokenize_whole(self, text: FieldText) -> _Tokens:
        encoding = self.backbone.tokenizer.encode(text.text, add_special_tokens=False)
        word_of = np.full(len(text.text) + 1, -1, dtype=np.int32)
        shapes = np.zeros(len(text.words) + 1, dtype=np.int32)
        for index, (start, end) in enumerate(text.words):
            word_of[start:end] = index
            shapes[index] = word_shape(text.text[start:end]) if self.config.word_shape else 0
        columns = []
        previous = -1
        for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            while start < end - 1 and text.text[start].isspace():
                start += 1
            word = int(word_of[start]) if start < len(text.text) else -1
            columns.append((token, start, end, word, word >= 0 and word != previous, int(shapes[word])))
            previous = word
        return _from_columns(columns)

    def _window(self, prompt: _Tokens, tokens: Sequence[_Tokens], spans: list[tuple[int, int, int]], left: int, right: int) -> Window:
        """One window from (row, from, to) stretches; left and right say how many tokens were left out on each side."""
        parts = [prompt, *(_slice(tokens[row], begin, stop) for row, begin, stop in spans), _special(self.backbone.sep_id)]
        whole = _concat(parts)
        size, body = len(whole.ids), len(whole.ids) - len(prompt.ids) - 1
        row = np.full(size, -1, dtype=np.int32)
        row[len(prompt.ids) : size - 1] = np.repeat([r for r, _, _ in spans], [t - f for _, f, t in spans])
        inside = np.arange(body, dtype=np.int32)
        margin = np.full(size, _NO_EDGE, dtype=np.int32)
        edge = margin[len(prompt.ids) : size - 1]
        if left:
            np.minimum(edge, inside, out=edge)
        if right:
            np.minimum(edge, body - 1 - inside, out=edge)
        word = np.where(row >= 0, whole.word, -1)
        segment = np.zeros(size, dtype=np.int8)
        if len(self.fields) > 1:
            segment[len(prompt.ids) :] = 1
        arrays = {"input_ids": whole.ids, "segment_ids": segment}
        if self.config.word_shape:
            arrays["shape_ids"] = whole.shape.astype(np.int8)
        layout = Layout(row, whole.start, whole.end, word, whole.first & (row >= 0), margin)
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
        return hashlib.sha256(self.backbone.tokenizer.to_str().encode()).hexdigest()

    def save_files(self, folder: Path) -> None:
        self.backbone.save(folder)

    @classmethod
    def from_state(cls, state: Mapping[str, Any], folder: Path) -> TextModality:
        backbone = TextBackbone.from_folder(folder)
        return cls(state["fields"], backbone, config=TextConfig(**state["config"]), by_word=state["by_word"])


class TextEmbedder(nn.Module):
    """TokenGroup → (B, L, embed_dim): the backbone, the word shapes added to its input, and a projection where widths differ."""

    def __init__(self, backbone: TextBackbone, *, embed_dim: int | None, word_shape: bool) -> None:
        super().__init__()
        self.backbone = backbone.build()
        self.shape_embedding = nn.Embedding(len(SHAPES), backbone.hidden_dim) if word_shape else None
        if self.shape_embedding is not None:
            nn.init.zeros_(self.shape_embedding.weight)  # begins as the backbone was pretrained
        self.embed_dim = embed_dim or backbone.hidden_dim
        same = self.embed_dim == backbone.hidden_dim
        self.project: nn.Module = nn.Identity() if same else nn.Linear(backbone.hidden_dim, self.embed_dim)

    def forward(self, group: TokenGroup) -> Tensor:
        values = group.values
        extra = self.shape_embedding(values["shape_ids"]) if self.shape_embedding is not None else None
        hidden = self.backbone(values["input_ids"], group.mask, values.get("segment_ids"), group.positions, extra=extra)
        return self.project(hidden.to(self.dtype))

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype


def _pieces(tokens: Sequence[_Tokens], width: int, overlap: int) -> list[tuple[list[tuple[int, int, int]], int, int]]:
    """Cuts a document's rows, laid end to end, into overlapping windows of at most ``width`` tokens."""
    lengths = [len(t.ids) for t in tokens]
    total = sum(lengths)
    if total <= width:
        return [([(row, 0, n) for row, n in enumerate(lengths)], 0, 0)]
    stride = max(1, width - min(overlap, width // 2))
    starts = list(range(0, total - width, stride)) + [total - width]
    ends = np.cumsum(lengths)
    pieces = []
    for start in starts:
        spans = []
        for row, (stop, length) in enumerate(zip(ends, lengths, strict=True)):
            begin = int(stop) - length
            low, high = max(start, begin), min(start + width, int(stop))
            if low < high:
                spans.append((row, low - begin, high - begin))
        pieces.append((spans, start, total - start - width))
    return pieces


def _special(token: int) -> _Tokens:
    return _from_columns([(token, 0, 0, -1, False, 0)])


def _from_columns(columns: Sequence[tuple[int, int, int, int, bool, int]]) -> _Tokens:
    table = np.array(columns, dtype=np.int32).reshape(len(columns), 6)
    ids, start, end, word, first, shape = (np.ascontiguousarray(c) for c in table.T)
    return _Tokens(ids, start, end, word, first.astype(bool), shape)


def _slice(tokens: _Tokens, start: int, end: int) -> _Tokens:
    return _Tokens(*(getattr(tokens, name)[start:end] for name in _COLUMNS))


def _concat(parts: Sequence[_Tokens]) -> _Tokens:
    return _Tokens(*(np.concatenate([getattr(p, name) for p in parts]) for name in _COLUMNS))
