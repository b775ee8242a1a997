"""Text: any script, any length, one field or several.

Several text fields are read in one sequence, ``[CLS] a [SEP] b [SEP]``, so that every layer of the backbone sees both.
The last field is the *windowed* one: a text that does not fit is read through overlapping windows and never cut. The
fields before it (a question, the first sentence of a pair) stand whole in front of every window; only where they would
fill more than half of it, and the windowed text needs that half, are they shortened, and that is reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from polydetr.core.access import IN_MEMORY, FileAccess
from polydetr.core.documents import EncodedGroup, Window
from polydetr.core.layout import FieldText, Layout
from polydetr.core.records import Finding, Row
from polydetr.errors import ConfigError, Location, RowError
from polydetr.modalities.base import BuildContext, Modality, Needs, digest
from polydetr.modalities.text_tokens import (
    ENCODING,
    END,
    FIRST,
    IDS,
    PLACE,
    SHAPE,
    START,
    SUBWORD_FIRST,
    WORD,
    TextTokens,
    special_token,
)
from polydetr.modalities.text_units import TextPart
from polydetr.schema.spec import FieldSpec
from polydetr.specs.choose import choose_text_spec
from polydetr.specs.text import TextSpec
from polydetr.values.cells import is_missing
from polydetr.values.spans import join_tokens, split_words, trim

if TYPE_CHECKING:
    from polydetr.config.sections import TextConfig

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
        return FieldText(text, [trim(text, start, end) for start, end in offsets])
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
    """All readable texts of the rows; other values are left to ``encode``, which raises for them."""
    for row in rows:
        for field in fields:
            try:
                yield as_text(row.get(field), field=field).text
            except RowError:
                continue


class TextModality(Modality):
    """encoding: see ``text_tokens.ENCODING``.

    Raises:
        ConfigError: the windows are too short for the fields.
    """

    name: ClassVar[str] = "text"
    reads: ClassVar[frozenset[str]] = frozenset({"text"})
    files: ClassVar[frozenset[str]] = frozenset({"backbone.json", "tokenizer.json"})

    def __init__(
        self, fields: Sequence[str], spec: TextSpec, *, config: TextConfig, needs: Needs, encoding: int = ENCODING
    ) -> None:
        super().__init__(fields, needs=needs)
        self.spec, self.config = spec, config
        self.tokens = TextTokens(
            spec, by_word=needs.by_word, word_shape=config.word_shape, subwords=config.pieces, encoding=encoding
        )
        self.max_tokens = min(config.max_tokens, spec.max_positions)
        special = 1 + len(self.fields)
        if self.max_tokens < special + 2 * len(self.fields):
            raise ConfigError(
                f"text.max_tokens = {self.max_tokens} leaves no room for {len(self.fields)} text fields; raise it"
            )

    @classmethod
    def build(cls, fields: Sequence[FieldSpec], context: BuildContext) -> Self:
        names, config = [field.name for field in fields], context.config
        spec = choose_text_spec(
            config.backbone_of("text"),
            lambda count: readable_texts(names, context.rows[:count]),
            by_word=context.needs.by_word,
            hidden_dim=config.model.embed_dim or 128,
            vocab_size=config.text.vocab_size,
            max_positions=config.text.max_tokens,
            notify=context.notify,
        )
        return cls(names, spec, config=config.text, needs=context.needs)

    def _changed(self, fields: Sequence[str], needs: Needs) -> Self:
        changed = super()._changed(fields, needs)
        if self.needs.by_word and not needs.by_word:
            changed.tokens = self.tokens.whole()
        return changed

    def within(self, max_tokens: int) -> Self:
        """The same modality with windows of at most ``max_tokens``."""
        changed = self._changed(self.fields, self.needs)
        changed.max_tokens = min(self.max_tokens, max_tokens)
        return changed

    # -- tokens ---------------------------------------------------------------------------------------------------

    def encode(self, rows: Sequence[Row], *, access: FileAccess = IN_MEMORY) -> EncodedGroup:
        warnings: list[Finding] = []
        if not self.tokens.by_word:
            rows = [self._filled(row, warnings) for row in rows]
            if len(warnings) == len(rows) * len(self.fields):
                return self._nothing(rows, warnings)
        texts = [as_text(row.get(self.fields[-1]), field=self.fields[-1]) for row in rows]
        tokens = [self.tokens.table(text) for text in texts]
        prompt = self._prompt(rows[0], sum(t.shape[1] for t in tokens), warnings)
        width = self.max_tokens - prompt.shape[1] - 1
        windows = [self._window(prompt, tokens, *cut) for cut in _cuts(tokens, width, self.config.overlap)]
        return EncodedGroup(windows, texts, warnings)

    def _filled(self, row: Row, warnings: list[Finding]) -> Row:
        """The row with "" for missing texts; where the model reads nothing else, a row without any text is left as it
        is, and refused.
        """
        # Beside other columns an empty cell is missing; alone, an empty text is a text like any other.
        is_absent = is_missing_text if self.needs.alone else is_missing
        missing = [field for field in self.fields if is_absent(row.get(field))]
        if not missing or (self.needs.alone and len(missing) == len(self.fields)):
            return row
        warnings += [Finding("missing", field, f"{field!r} is missing") for field in missing]
        return {**row, **dict.fromkeys(missing, "")}

    def _nothing(self, rows: Sequence[Row], warnings: list[Finding]) -> EncodedGroup:
        empty = self._window(special_token(self.spec.cls_id), [], [], 0, 0).arrays
        window = Window({name: array[:0] for name, array in empty.items()})
        return EncodedGroup([window], [FieldText("", ()) for _ in rows], warnings)

    def _prompt(self, row: Row, rest: int, warnings: list[Finding]) -> np.ndarray:
        """[CLS] and every field before the windowed one, each closed by [SEP]. rest: the number of tokens of the
        windowed field, which the others leave at least half of the room.
        """
        fields = self.fields[:-1]
        tokens = [self.tokens.table(as_text(row.get(field), field=field)) for field in fields]
        room = self.max_tokens - 2 - len(fields)
        limit = _fair_limit([t.shape[1] for t in tokens], max(room // 2, room - rest))
        parts = [special_token(self.spec.cls_id)]
        for field, table in zip(fields, tokens, strict=True):
            if table.shape[1] > limit:
                message = f"{field!r} has {table.shape[1]} tokens; the first {limit} are read"
                warnings.append(Finding("truncated", field, message))
            parts += [table[:, :limit], special_token(self.spec.sep_id)]
        return np.concatenate(parts, axis=1)

    def _window(
        self, prompt: np.ndarray, tokens: Sequence[np.ndarray], spans: list[tuple[int, int, int]], left: int, right: int
    ) -> Window:
        """One window from (row, from, to) spans of ``tokens``; left, right: how many tokens precede and follow them."""
        body = [tokens[row][:, begin:stop] for row, begin, stop in spans]
        whole = np.concatenate([prompt, *body, special_token(self.spec.sep_id)], axis=1)
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
        if self.tokens.subwords:
            whole[SUBWORD_FIRST, begin] = 1  # a window that begins inside a subword reads the subword there
            arrays["first_position"], arrays["place"] = whole[[SUBWORD_FIRST, PLACE]].astype(np.int8)
        if self.config.word_shape:
            arrays["shape_ids"] = whole[SHAPE].astype(np.int8)
        real = row >= 0
        first = real & (whole[FIRST] != 0)
        if self.needs.words:
            arrays["word_rows"] = np.where(first, row + 1, 0).astype(np.int16)
        return Window(arrays, Layout(row, whole[START], whole[END], np.where(real, whole[WORD], -1), first, margin))

    def value_schema(self, column: str) -> dict[str, Any]:
        words = {"type": "array", "items": {"type": "string"}, "description": "its words"}
        return {"anyOf": [{"type": "string"}, words, {"type": "null"}], "description": "a text, or its words"}

    def example_value(self, column: str) -> str:
        return "a short text"

    def measure(self, column: str, value: Any) -> float | None:
        """Its characters."""
        if is_missing_text(value):
            return None
        whole = isinstance(value, str)
        return float(len(value)) if whole else float(len(as_text(value, field=column).text))

    # -- explanations ----------------------------------------------------------------------------------------------

    def units(self, row: Row, windows: Sequence[Window]) -> TextPart:
        """Its words; see ``units.HasUnits``."""
        values = {field: "" if is_missing_text(row.get(field)) else row[field] for field in self.fields}
        return TextPart({field: as_text(value, field=field) for field, value in values.items()}, windows, self.spec)

    # -- state -----------------------------------------------------------------------------------------------------

    @property
    def is_pretrained(self) -> bool:
        return self.spec.num_layers > 0

    def state(self) -> dict[str, Any]:
        return {**super().state(), "config": self.config.model_dump(), "encoding": self.tokens.encoding}

    def fingerprint(self) -> str:
        config = self.config
        return digest(
            ENCODING, self.tokens.encoding, self.fields, self.needs, self.max_tokens, config.overlap,
            config.word_shape, self.tokens.subwords, self.spec.tokenizer.to_str(),
        )  # fmt: skip

    def save_files(self, folder: Path) -> None:
        self.spec.save(folder)

    @classmethod
    def from_state(cls, state: Mapping[str, Any], folder: Path, *, others: Mapping[str, Modality]) -> Self:
        from polydetr.config.sections import TextConfig

        spec, needs = TextSpec.from_folder(folder), Needs.from_state(state["needs"])
        config, encoding = TextConfig(**state["config"]), int(state.get("encoding", 2))
        return cls(state["fields"], spec, config=config, needs=needs, encoding=encoding)


def _fair_limit(lengths: Sequence[int], room: int) -> int:
    """The largest length such that all texts, each cut to it, take ``room`` tokens at most: short ones stay whole."""
    limit = room
    for i, length in enumerate(sorted(lengths)):
        limit = room // (len(lengths) - i)
        if length > limit:
            return limit
        room -= length
    return max([limit, *lengths])


def _cuts(tokens: Sequence[np.ndarray], width: int, overlap: int) -> list[tuple[list[tuple[int, int, int]], int, int]]:
    """Cuts a document's rows, laid end to end, into overlapping windows of at most ``width`` tokens: for each the
    (row, from, to) spans, and how many tokens lie to the left and right of it.
    """
    lengths = [t.shape[1] for t in tokens]
    total = sum(lengths)
    if total <= width:
        return [([(row, 0, n) for row, n in enumerate(lengths)], 0, 0)]
    stride = max(1, width - min(overlap, width // 2))
    starts = [*range(0, total - width, stride), total - width]
    ends = np.cumsum(lengths).tolist()
    cuts = []
    for start in starts:
        spans = []
        for row, (stop, length) in enumerate(zip(ends, lengths, strict=True)):
            begin = stop - length
            low, high = max(start, begin), min(start + width, stop)
            if low < high:
                spans.append((row, low - begin, high - begin))
        cuts.append((spans, start, total - start - width))
    return cuts
