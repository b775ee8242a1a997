"""Fenced blocks of a Markdown page, and running them as a reader would."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import dataclass
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


def run_python(page: Path) -> dict[str, Any]:
    """Runs the page's Python blocks in one namespace and compares what they print; an indented block continues the one
    before it.
    """
    program: list[tuple[int, str, str | None]] = []
    for block in blocks_of(page):
        if block.language != "python":
            continue
        if block.content.startswith(" "):
            line, before, _ = program.pop()
            program.append(
                (line, before + "\n" * (block.line - line - before.count("\n")) + block.content, block.output)
            )
        else:
            program.append((block.line, block.content, block.output))
    assert program, f"{page} has no Python"
    names: dict[str, Any] = {"__name__": page.stem}
    for line, code, output in program:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * line + code, str(page), "exec", dont_inherit=True), names)
        assert printed.getvalue() == (output or ""), f"{page}:{line}"
    return names
