"""Which mistakes of a page are seen: chosen by class, without a script.

A rule of the style sheet hides whatever is not of the class whose option is chosen; browsers apply it to a page from a
file as well. A mistake is an element of class "mistake" with the short names of its classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from importlib import resources

from polydetr.reports.style import shorten

MOST = 300
"""Classes that can be chosen."""


def filter_rules(classes: int) -> str:
    """The style of the form, and a rule for each class c0, c1, ..."""
    css = resources.files("polydetr.reports").joinpath("filters.css").read_text(encoding="utf-8")
    rules = [
        f"main:has(option[value=c{i}]:checked) .mistake:not(.c{i}) {{ display: none; }}"
        for i in range(min(classes, MOST))
    ]
    return f"<style>\n{css}{chr(10).join(rules)}\n</style>"


def filter_form(classes: Mapping[str, tuple[str, int]], *, suspicious: int = 0) -> str:
    """A list of the classes to choose from, and a box that leaves the suspicious labels; empty where neither chooses.

    classes: label → its short name and how often it occurs. suspicious: how many mistakes are of class "doubted".
    """
    parts = []
    if len(classes) > 1:
        options = "".join(
            f'<option value="{name}">{escape(shorten(label, 60, keep_end=True))} ({count:,})</option>'
            for label, (name, count) in list(classes.items())[:MOST]
        )
        parts.append(
            f'<label>class <select autocomplete="off"><option value="all">all</option>{options}</select></label>'
        )
    if suspicious:
        parts.append(
            '<label><input type="checkbox" id="doubted" autocomplete="off"> '
            f"only suspicious labels ({suspicious:,}): the model is as sure as where it is right</label>"
        )
    return f'<form class="filters" aria-label="filters">{"".join(parts)}</form>' if parts else ""
