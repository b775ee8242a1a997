"""Pieces of code behind tabs."""

from __future__ import annotations

from collections.abc import Mapping

from nicegui.element import Element

from polydetr.web.words import Words


class CodeTabs(Element, component="code_tabs.js"):
    """codes: the name of a tab → its code. label: what they all are."""

    def __init__(self, words: Words, codes: Mapping[str, str], *, label: str) -> None:
        super().__init__()
        self._props["label"], self._props["copy"], self._props["copied"] = label, words("copy"), words("copied")
        self._props["codes"] = [list(pair) for pair in codes.items()]

    def show(self, codes: Mapping[str, str]) -> None:
        """Other codes of the same names."""
        self._props["codes"] = [list(pair) for pair in codes.items()]
        self.update()
