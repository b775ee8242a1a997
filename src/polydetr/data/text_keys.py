"""When two rows have the same text: the text of a row, and short fingerprints of it to compare millions of rows by."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from polydetr.values.cells import is_empty
from polydetr.values.spans import join_tokens

_SEPARATOR = "\x1f"


def field_text(value: Any) -> str:
    """A value as text: a list of tokens is joined, a missing value is empty."""
    if is_empty(value):
        return ""
    if isinstance(value, (list, tuple)):
        return join_tokens([str(v) for v in value])[0]
    return str(value)


def row_text(row: Mapping[str, Any], columns: Sequence[str]) -> str:
    """The texts of several columns as one string."""
    return _SEPARATOR.join(field_text(row.get(name)) for name in columns)


def normalize(text: str) -> str:
    """The text without what readers overlook: letter case, width of characters (NFKC), runs of white space."""
    return _SEPARATOR.join(map(_plain, text.split(_SEPARATOR))) if _SEPARATOR in text else _plain(text)


def _plain(text: str) -> str:
    return " ".join((text if text.isascii() else unicodedata.normalize("NFKC", text)).casefold().split())


def fingerprint(text: str) -> bytes:
    """Twelve bytes that stand for a text; two of 10⁹ different texts agree by chance with probability 10⁻¹¹."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).digest()
