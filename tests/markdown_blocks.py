"""Fenced blocks of a Markdown page, and running them as a reader would."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_FENCE = re.compile(r"^```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """``output``: the text block that stands right beneath a Python block, None where there is none."""

    language: str
    title: str | None
    content: str
    line: int
    output: str | None = None


def blocks_of(page: Path) -> list[Block]:
    """Every fenced block in order; an untitled ``text`` block directly beneath a ``python`` one is its output."""
    text = page.read_text(encoding="utf-8")
    found: list[Block] = []
    end = -1
    for match in _FENCE.finditer(text):
        language, title, content = match.groups()
        beneath = found and found[-1].language == "python" and not text[end : match.start()].strip()
        if language == "text" and not title and beneath:
            code = found[-1]
            found[-1] = Block(code.language, code.title, code.content, code.line, output=content)
        else:
            found.append(Block(language, title, content, text[: match.start()].count("\n") + 1))
        end = match.end()
    assert text.count("```") == 2 * (len(found) + sum(b.output is not None for b in found)), f"{page}: a fence is odd"
    return found


class PythonSession:
    """The Python of a page, typed block by block in one namespace, each compared with what the page says it prints. An
    indented block continues the one before it, so that each runs only when the next begins, or at ``finish``.
    """

    def __init__(self, page: Path, names: Mapping[str, Any] | None = None) -> None:
        self.page = page
        self.names: dict[str, Any] = {"__name__": page.stem, **(names or {})}
        self._typed: Block | None = None

    def type(self, block: Block) -> None:
        before = self._typed
        if before is not None and block.content.startswith(" "):
            gap = "\n" * (block.line - before.line - before.content.count("\n"))
            self._typed = replace(before, content=before.content + gap + block.content, output=block.output)
            return
        self.finish()
        self._typed = block

    def finish(self) -> None:
        """Runs what has been typed. Raises AssertionError where it prints something else."""
        block, self._typed = self._typed, None
        if block is None:
            return
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * block.line + block.content, str(self.page), "exec", dont_inherit=True), self.names)
        assert printed.getvalue() == (block.output or ""), f"{self.page}:{block.line}"


def run_python(page: Path) -> dict[str, Any]:
    """The names that are there when all of the page's Python has run, and printed what is shown."""
    session = PythonSession(page)
    blocks = [block for block in blocks_of(page) if block.language == "python"]
    assert blocks, f"{page} has no Python"
    for block in blocks:
        session.type(block)
    session.finish()
    return session.names
