"""Text that a spreadsheet would take for a formula and run, made harmless.

Source: OWASP, "CSV Injection" (owasp.org/www-community/attacks/CSV_Injection).
"""

from __future__ import annotations

import re

_BEGINS = re.compile(r"[\t\r\n]|\s*[=+\-@＝＋－＠]")
"""What a cell begins with that may be a formula, white space and full-width forms among it."""
_HARMLESS = re.compile(r"\s*(?:[+-]?(?:\d[\d., ’\xa0\u202f]*|[.,]\d+)(?:e[+-]?\d+)?%?|[+-]+)\s*", re.IGNORECASE)
"""Digits with a sign and what parts them (a number, a telephone number), or signs that stand for "nothing here"."""


def without_formula(text: str) -> str:
    """``text``, with an apostrophe before it where a spreadsheet may take it for a formula; numbers stay."""
    return f"'{text}" if _BEGINS.match(text) and not _HARMLESS.fullmatch(text) else text


def formula_in(text: str) -> str:
    """The text before which ``without_formula`` put an apostrophe; as it is where it put none."""
    return text[1:] if text.startswith("'") and without_formula(text[1:]) == text else text
