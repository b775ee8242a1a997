"""An explanation in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polydetr.errors import escaped
from polydetr.reports.explained import Sources
from polydetr.reports.heat import caption
from polydetr.reports.style import shorten

if TYPE_CHECKING:
    from rich.table import Table

    from polydetr.explain.result import Explanation


def print_explanation(explanation: Explanation, *, count: int) -> None:
    """What the answer rests on, the ``count`` strongest words, the deletion check, the notes."""
    from rich.console import Console

    console = Console(highlight=False)
    sources = explanation.sources
    blanked = "with every word blanked" if sources is None else "with everything blanked"
    console.print(f"[bold]{_text(shorten(explanation.target, 60))}[/]: {_text(shorten(explanation.answer, 300))}")
    console.print(f"{explanation.quantity} {explanation.value:.3f}; {blanked} {explanation.baseline:.3f}")
    if sources is not None:
        console.print(_text(sources.statement), soft_wrap=True)
        if len(sources.columns) > 1:
            console.print(_columns(sources))
        for image in sources.images:
            console.print(_text(caption(sources, image)), soft_wrap=True)
        if sources.items:
            console.print(_items(sources))
    if explanation.words or sources is None:
        console.print(_words(explanation, count))
    console.print(f"[{'green' if explanation.meaningful else 'red'}]{_text(explanation.statement)}[/]", soft_wrap=True)
    for note in explanation.notes:
        console.print(_text(note), soft_wrap=True)


def _text(text: str) -> str:
    """Text of the data, which is neither Rich's markup nor commands the terminal."""
    from rich.markup import escape

    return escape(escaped(text))


def _table(*heads: str) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for head in heads:
        table.add_column(head, justify="right" if head in ("score", "share", "without it") else "left")
    return table


def _columns(sources: Sources) -> Table:
    table = _table("column", "read as", "holds", "score", "share", "without it")
    for column in sources.ranked:
        table.add_row(
            _text(shorten(column.column, 40)), column.modality, _text(shorten(column.value, 24)),
            f"{column.score:+.3f}", f"{column.share:.0%}", sources.shown(column.without),
        )  # fmt: skip
    return table


def _items(sources: Sources) -> Table:
    table = _table("item", "score", "speaks")
    largest = max(abs(item.score) for item in sources.items) or 1.0
    for item in sources.items:
        text = shorten(f"{shorten(item.column, 30)} {item.index + 1}: {item.text}", 60)
        table.add_row(_text(text), f"{item.score:+.3f}", _speaks(item.score, largest))
    return table


def _words(explanation: Explanation, count: int) -> Table:
    table = _table("word", "at", "score", "speaks")
    largest = max((abs(score) for score in explanation.scores), default=0.0) or 1.0
    several = len({word.field for word in explanation.words}) > 1
    for word in explanation.top(count):
        at = f"{shorten(word.field, 40)} {word.start}-{word.end}" if several else f"{word.start}-{word.end}"
        table.add_row(_text(shorten(word.text, 60)), _text(at), f"{word.score:+.3f}", _speaks(word.score, largest))
    return table


def _speaks(score: float, largest: float) -> str:
    side, color = ("for", "blue") if score > 0 else ("against", "dark_orange")
    bar = "█" * max(1, round(12 * abs(score) / largest)) if score else ""
    return f"[{color}]{bar} {side if score else 'nothing'}[/]"
