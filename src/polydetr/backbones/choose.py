"""Which backbone reads these texts: the named one; for "auto" one that fits the language, or random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from polydetr.backbones.scratch import scratch_backbone
from polydetr.backbones.text import TextBackbone, load_text_backbone
from polydetr.errors import BackboneError
from polydetr.values.spans import is_unspaced

Texts = Callable[[int | None], Iterator[str]]
"""The texts of the first so many rows, or of all."""


def choose_text_backbone(
    name: str,
    texts: Texts,
    *,
    by_word: bool,
    hidden_dim: int,
    vocab_size: int,
    max_positions: int,
    note: Callable[[str], None],
) -> TextBackbone:
    """The named backbone; "auto" chooses by language; "none" learns a vocabulary from the texts.

    Raises:
        BackboneError: the named one cannot be had.
    """
    if name == "auto":
        name = suggest_backbone(texts(500), by_word=by_word)
        try:
            backbone = load_text_backbone(name, report=note)
            note(f"backbone: {name} (chosen by the language of the text; name another with backbone=)")
            return backbone
        except BackboneError as error:
            note(f"backbone: none, random weights ({name} cannot be had: {error.message})")
            name = "none"
    if name != "none":
        return load_text_backbone(name, report=note)
    return scratch_backbone(texts(None), vocab_size=vocab_size, hidden_dim=hidden_dim, max_positions=max_positions)


def suggest_backbone(texts: Iterator[str], *, by_word: bool) -> str:
    """By the share of letters outside ASCII: an English backbone, or the multilingual one."""
    sample = "".join(text[:300] for text in texts)
    letters = [c for c in sample if c.isalpha()]
    foreign = sum(1 for c in letters if ord(c) > 0x24F or is_unspaced(c)) / max(1, len(letters))
    if foreign > 0.02:
        return "e5-multilingual"
    return "e5-en-pt" if by_word else "minilm"
