"""Names of people: shown as they are, told apart without case and width."""

from __future__ import annotations

import unicodedata

from polydetr.errors import InputError, escaped, quoted

MOST = 64
"""Characters of a name."""
_SIGNS = " .-_'@+·"
"""What may stand in a name beside letters, their marks, and digits: enough for O'Brien, anna@example.org, 阿·卜."""


def checked_name(name: str) -> str:
    """``name`` in the form that is kept (NFKC, single spaces).

    Raises:
        InputError: it is empty or long, or holds what cannot be seen (zero-width characters, turned direction), or
            signs that names have not (angle brackets, quotation marks).
    """
    plain = _spaced(unicodedata.normalize("NFKC", name[: 4 * MOST]))
    if not plain or len(name) > 4 * MOST or len(plain) > MOST:
        raise InputError(f"{quoted(name)} is no name of a person.", hint=f"1 to {MOST} characters.")
    wrong = next((c for c in plain if c not in _SIGNS and unicodedata.category(c)[0] not in "LMN"), None)
    if wrong is not None:
        sign = quoted(wrong) if wrong.isprintable() else f"the invisible character U+{ord(wrong):04X}"
        raise InputError(
            f"{quoted(name)} is no name of a person: it holds {sign}.",
            hint=f"Letters of any script, digits, spaces and {_SIGNS.strip()}",
        )
    if not any(unicodedata.category(c)[0] in "LN" for c in plain):
        raise InputError(f"{quoted(name)} is no name of a person.", hint="It needs a letter or a digit.")
    return plain


def key_of(name: str) -> str:
    """What two names have in common that are the same person's: "Anna", "ANNA " and full-width "Ａｎｎａ". Of what can
    be no name it is something that no name has.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name[: 4 * MOST]).casefold())
    return escaped(_spaced(folded))[: 4 * MOST]


def _spaced(name: str) -> str:
    """One space between words, none around; tabs and line feeds stay, to be refused."""
    return " ".join(filter(None, name.split(" ")))
