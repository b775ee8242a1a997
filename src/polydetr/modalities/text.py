"""Text: any script, any length, one field or several.

Several text fields are read in one sequence, ``[CLS] a [SEP] b [SEP]``, so that every layer of the backbone sees both.
The last field is the *windowed* one: a text that does not fit is read through overlapping windows and never cut. The
fields before it (a question, the first sentence of a pair) stand whole in front of every window; only where they would
fill more than half of it, and the windowed text needs that half, are they shortened, and that is reported.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from polydetr.backbones.bert import BertEncoder
from polydetr.backbones.bert_attention import with_attention
from polydetr.backbones.choose import choose_text_backbone
from polydetr.backbones.text import TextBackbone
from polydetr.config import Config, TextConfig
from polydetr.core.documents import EncodedGroup, Window
from polydetr.core.layout import FieldText, Layout
from polydetr.core.records import Finding, Row
from polydetr.errors import ConfigError, Location, RowError
from polydetr.modalities.base import Modality, Note
from polydetr.modalities.text_entry import TextEntry, between_slots
from polydetr.modalities.text_pieces import PieceReader, through_pieces
from polydetr.modalities.text_tokens import (
    ENCODING,
    END,
    FIRST,
    IDS,
    LEAD,
    PLACE,
    SHAPE,
    SHAPES,
    START,
    WORD,
    TextTokens,
    special_token,
)
from polydetr.modalities.text_units import TextPart, Words
from polydetr.nn.batch import Embedded, TokenGroup
from polydetr.schema.spec import FieldSpec
from polydetr.values.cells import is_missing
from polydetr.values.spans import join_tokens, split_words

_NO_EDGE = 1 << 20


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


class TextModality(Modality):
    """``by_word``, ``encoding``: see ``text_tokens.TextTokens``."""

    name: ClassVar[str] = "text"
    reads: ClassVar[frozenset[str]] = frozenset({"text"})
    keeps_words: bool = False
    """Whether the model is told where words begin, for tasks that read them (set by ``RowEncoder``)."""

    def __init__(
        self,
        fields: Sequence[str],
        backbone: TextBackbone,
        *,
        config: TextConfig,
        by_word: bool,
        encoding: int = ENCODING,
    ) -> None:
        super().__init__(fields)
        self.backbone = backbone
        self.config = config
        self.tokens = TextTokens(
            backbone, by_word=by_word, word_shape=config.word_shape, pieces=config.pieces, encoding=encoding
        )
        self.max_tokens = min(config.max_tokens, backbone.max_positions)
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
        twin.tokens, twin.keeps_words = self.tokens.whole(), False  # nothing points into these texts
        return twin

    # -- tokens ---------------------------------------------------------------------------------------------------

    def encode(self, rows: Sequence[Row], *, folder: Path | None = None) -> EncodedGroup:
        warnings: list[Finding] = []
        if not self.tokens.by_word:
            rows = [self._filled(row, warnings) for row in rows]
            if len(warnings) == len(rows) * len(self.fields):
                return self._nothing(rows, warnings)
        texts = [as_text(row.get(self.fields[-1]), field=self.fields[-1]) for row in rows]
        tokens = [self.tokens.table(text) for text in texts]
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
        empty = self._window(special_token(self.backbone.cls_id), [], [], 0, 0).arrays
        window = Window({name: array[:0] for name, array in empty.items()})
        return EncodedGroup([window], [FieldText("", ()) for _ in rows], warnings)

    def _prompt(self, row: Row, rest: int, warnings: list[Finding]) -> np.ndarray:
        """[CLS] and every field before the windowed one, each closed by [SEP]; whole where the ``rest`` tokens leave
        room.
        """
        fields = self.fields[:-1]
        tokens = [self.tokens.table(as_text(row.get(field), field=field)) for field in fields]
        room = self.max_tokens - 2 - len(fields)
        limit = _fair_limit([t.shape[1] for t in tokens], max(room // 2, room - rest))
        parts = [special_token(self.backbone.cls_id)]
        for field, table in zip(fields, tokens, strict=True):
            if table.shape[1] > limit:
                message = f"{field!r} has {table.shape[1]} tokens; the first {limit} are read"
                warnings.append(Finding("truncated", field, message))
            parts += [table[:, :limit], special_token(self.backbone.sep_id)]
        return np.concatenate(parts, axis=1)

    def _window(
        self, prompt: np.ndarray, tokens: Sequence[np.ndarray], spans: list[tuple[int, int, int]], left: int, right: int
    ) -> Window:
        """One window from (row, from, to) stretches; left and right say how many tokens were left out on each side."""
        body = [tokens[row][:, begin:stop] for row, begin, stop in spans]
        whole = np.concatenate([prompt, *body, special_token(self.backbone.sep_id)], axis=1)
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
        arrays = {"input_ids": whole[IDS], "segment_ids": segment}
        if self.tokens.pieces:
            whole[LEAD, begin] = 1  # where a window begins inside a piece, it reads the piece there
            arrays |= {"lead": whole[LEAD].astype(np.int8), "place": whole[PLACE].astype(np.int8)}
        if self.config.word_shape:
            arrays["shape_ids"] = whole[SHAPE].astype(np.int8)
        real = row >= 0
        if self.keeps_words:
            arrays["word_rows"] = np.where(real & (whole[FIRST] != 0), row + 1, 0).astype(np.int16)
        layout = Layout(
            row, whole[START], whole[END], np.where(real, whole[WORD], -1), real & (whole[FIRST] != 0), margin
        )
        return Window(arrays, layout)

    # -- module and state ------------------------------------------------------------------------------------------

    def units(self, row: Row, windows: Sequence[Window]) -> TextPart:
        """Its words (``units.HasUnits``)."""
        values = {field: "" if is_missing_text(row.get(field)) else row[field] for field in self.fields}
        words = Words({field: as_text(value, field=field) for field, value in values.items()})
        tokens = [words.of_window(w.layout, w.arrays["input_ids"], self.backbone.sep_id) for w in windows if w.layout]
        return TextPart(words, tokens, pad_id=self.backbone.pad_id)

    def build_embedder(self, embed_dim: int | None) -> TextEmbedder:
        return TextEmbedder(
            self.backbone, embed_dim=embed_dim, word_shape=self.config.word_shape, pieces=self.tokens.pieces,
            dropout=self.config.dropout,
        )  # fmt: skip

    @property
    def is_pretrained(self) -> bool:
        return self.backbone.num_layers > 0

    def pretrained(self) -> Mapping[str, Tensor] | None:
        if self.backbone.source is None:
            return None
        return {f"backbone.{name}": tensor for name, tensor in self.backbone.weights().items()}

    def state(self) -> dict[str, Any]:
        return {
            "fields": list(self.fields),
            "config": self.config.model_dump(),
            "by_word": self.tokens.by_word,
            "encoding": self.tokens.encoding,
        }

    def fingerprint(self) -> str:
        what = f"{ENCODING}{self.keeps_words}{self.backbone.tokenizer.to_str()}"
        return hashlib.sha256(what.encode()).hexdigest()

    def save_files(self, folder: Path) -> None:
        self.backbone.save(folder)

    @classmethod
    def from_state(cls, state: Mapping[str, Any], folder: Path) -> TextModality:
        backbone = TextBackbone.from_folder(folder)
        config, encoding = TextConfig(**state["config"]), int(state.get("encoding", 2))
        return cls(state["fields"], backbone, config=config, by_word=state["by_word"], encoding=encoding)


class TextEmbedder(nn.Module):
    """TokenGroup → (B, L, embed_dim): the backbone, the word shapes added to its input, and a projection where widths
    differ.
    """

    frozen_with_backbone = ("backbone", "shape_embedding")
    read_beside_features = ("place", "word_rows")

    def __init__(
        self, backbone: TextBackbone, *, embed_dim: int | None, word_shape: bool, pieces: bool, dropout: float | None
    ) -> None:
        super().__init__()
        self.backbone = backbone.build(dropout=dropout)
        self.shape_embedding = nn.Embedding(len(SHAPES), backbone.hidden_dim) if word_shape else None
        if self.shape_embedding is not None:
            nn.init.zeros_(self.shape_embedding.weight)  # begins as the backbone was pretrained
        self.embed_dim = embed_dim or backbone.hidden_dim
        self.piece_reader = PieceReader(backbone.hidden_dim) if pieces else None
        same = self.embed_dim == backbone.hidden_dim
        self.project: nn.Module = nn.Identity() if same else nn.Linear(backbone.hidden_dim, self.embed_dim)

    def features(self, group: TokenGroup) -> Embedded:
        """What the backbone makes of the tokens, (B, L, hidden): all that training with a frozen one repeats."""
        values = group.values
        if "lead" in values and not torch.equal(values["lead"].bool() & group.mask, group.mask):
            return Embedded(through_pieces(self._read, values, group.mask), group.mask)
        return Embedded(self._read(values, group.mask, group.positions), group.mask)

    def _read(self, values: Mapping[str, Tensor], mask: Tensor, positions: Tensor | None = None) -> Tensor:
        extra = self.shape_embedding(values["shape_ids"]) if self.shape_embedding is not None else None
        return self.backbone(values["input_ids"], mask, values.get("segment_ids"), positions, extra=extra)

    def forward(self, group: TokenGroup) -> Embedded:
        made = group.values.get("features")
        hidden = (self.features(group).tokens if made is None else made).to(self.dtype)
        if self.piece_reader is not None and "place" in group.values:
            hidden = self.piece_reader(hidden, group.values["place"])
        return Embedded(self.project(hidden), group.mask, word_rows=group.values.get("word_rows"))

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    # -- for explanations -----------------------------------------------------------------------------------------

    def entry(self) -> TextEntry:
        """At the backbone's embeddings; those of a foreign one are its word vectors and the word shapes added to them
        (``nn.entry.HasEntry``).
        """
        if isinstance(self.backbone, BertEncoder):
            return TextEntry(self, [self.backbone.embeddings])
        words: nn.Module = self.backbone.model.get_input_embeddings()  # type: ignore[union-attr, operator, assignment]
        return TextEntry(self, [words] if self.shape_embedding is None else [words, self.shape_embedding])

    def with_attention(self, group: TokenGroup) -> tuple[Embedded, list[Tensor] | None]:
        """See ``nn.entry.ShowsAttention``."""
        if not isinstance(self.backbone, BertEncoder):
            return self(group), None
        embedded, layers = with_attention(self.backbone, lambda: self(group))
        return embedded, [between_slots(weights, group) for weights in layers]


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
