"""Which backbone reads these texts or images: the named one; for "auto" one that fits, or random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from polydetr.errors import BackboneError
from polydetr.specs.image import DEFAULT, ImageSpec, load_image_spec, patch_spec
from polydetr.specs.scratch import scratch_spec
from polydetr.specs.text import TextSpec, load_text_spec
from polydetr.values.spans import is_unspaced

Texts = Callable[[int | None], Iterator[str]]
"""The texts of the first so many rows, or of all."""
Spec = TypeVar("Spec", TextSpec, ImageSpec)


def choose_text_spec(
    name: str,
    texts: Texts,
    *,
    by_word: bool,
    hidden_dim: int,
    vocab_size: int,
    max_positions: int,
    notify: Callable[[str], None],
) -> TextSpec:
    """The named backbone; "auto" chooses by language; "none" learns a vocabulary from the texts.

    Raises:
        BackboneError: the named one cannot be had.
    """
    if name == "auto":
        suggested = suggest_backbone(texts(500), by_word=by_word)
        reason = "chosen by the language of the text; name another with backbone="
        if spec := _load_unnamed(load_text_spec, suggested, "backbone", reason, notify):
            return spec
    elif name != "none":
        return load_text_spec(name, report=notify)
    return scratch_spec(texts(None), vocab_size=vocab_size, hidden_dim=hidden_dim, max_positions=max_positions)


def choose_image_spec(name: str, *, hidden_dim: int, patch_size: int, notify: Callable[[str], None]) -> ImageSpec:
    """The named backbone; "auto" is ``DEFAULT``, or random weights where it cannot be had; "none" are patches.

    Raises:
        BackboneError: the named one cannot be had.
    """
    if name == "auto":
        reason = "name another with backbone={'image': ...}"
        if spec := _load_unnamed(load_image_spec, DEFAULT, "image backbone", reason, notify):
            return spec
    elif name != "none":
        return load_image_spec(name, report=notify)
    return patch_spec(hidden_dim=hidden_dim, patch_size=patch_size)


def _load_unnamed(
    load: Callable[..., Spec], name: str, title: str, reason: str, notify: Callable[[str], None]
) -> Spec | None:
    """A backbone that the user did not name; None where it cannot be had. ``notify`` takes a message with its name."""
    try:
        spec = load(name, report=notify)
    except BackboneError as error:
        notify(f"{title}: none, random weights ({name} cannot be had: {error.message})")
        return None
    notify(f"{title}: {name} ({reason})")
    return spec


def suggest_backbone(texts: Iterator[str], *, by_word: bool) -> str:
    """By the share of letters outside ASCII: an English backbone, or the multilingual one."""
    sample = "".join(text[:300] for text in texts)
    letters = [c for c in sample if c.isalpha()]
    foreign = sum(1 for c in letters if ord(c) > 0x24F or is_unspaced(c)) / max(1, len(letters))
    if foreign > 0.02:
        return "e5-multilingual"
    return "e5-en-pt" if by_word else "minilm"
