"""The columns and items of an explanation as parts of its page; every color has a number or word beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources

from polydetr.reports.explained import ExplainedColumn, Sources
from polydetr.reports.style import shorten


def table(heads: Sequence[str], rows: Iterable[str]) -> str:
    """A table with one escaped ``<tr>`` per row, which scrolls by itself where the screen is narrower."""
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    body = "\n".join(rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def side_of(score: float) -> str:
    """Whether a score speaks "for" the answer, "against" it, or says nothing ("none")."""
    return "for" if score > 0 else "against" if score < 0 else "none"


def style() -> str:
    """What these parts need beside the style sheet of all pages."""
    place = resources.files("polydetr.reports")
    css = "".join(place.joinpath(name).read_text(encoding="utf-8") for name in ("sources.css", "images.css"))
    return f"<style>\n{css}</style>"


def sources_html(sources: Sources) -> str:
    """The statement, and a table of modalities and columns where there are several."""
    if len(sources.columns) == 1:
        return f'<p class="rests">{escape(sources.statement)}</p>'
    several = {name for name in sources.modalities if sum(c.modality == name for c in sources.columns) > 1}
    largest = max(abs(column.score) for column in sources.columns) or 1.0
    rows = []
    for name in sorted(sources.modalities, key=lambda name: -sources.modalities[name]):
        own = [column for column in sources.ranked if column.modality == name]
        if name in several:
            rows.append(_row(sources, name, None, sum(c.score for c in own), largest, name))
        rows += [_row(sources, name, c, c.score, largest, None if name in several else name) for c in own]
    whole = sources.shown(sources.original)
    numbers = {"score", "share", "attention", f"without it (all: {whole})"}
    heads = ["column", "holds", "score", "speaks", "share", f"without it (all: {whole})"]
    heads += ["attention"] if sources.attention else []
    head = "".join(f'<th scope="col"{" class=number" if h in numbers else ""}>{escape(h)}</th>' for h in heads)
    return (
        "<h2>What the answer rests on</h2>\n"
        f'<p class="rests">{escape(sources.statement)}</p>\n'
        f'<div class="scroll"><table class="sources"><thead><tr>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(rows)
        + "\n</tbody></table></div>"
    )


def _row(
    sources: Sources, modality: str, column: ExplainedColumn | None, score: float, largest: float, whole: str | None
) -> str:
    """One column (None: all columns of the modality together).

    largest: the score whose bar is longest. whole: the modality, where this is its only row or the one that sums it up:
    this row shows the modality's share of the attention.
    """
    side = side_of(score)
    width = min(50.0, 50 * abs(score) / largest)
    share = column.share if column else sources.modalities[modality]
    level = sources.shown(column.without if column else sources.without.get(modality))
    name = escape(shorten(column.column if column else modality, 28))
    kind = f' <span class="kind">{escape(modality)}</span>' if column and whole and column.column != modality else ""
    cells = [
        f'<th scope="row">{name}{kind}</th>' if column else f'<th scope="row"><strong>{name}</strong></th>',
        f'<td class="stands" dir="auto">{escape(shorten(column.value, 60)) if column else ""}</td>',
        f'<td class="number">{score:+.3f}</td>',
        f'<td class="speaks"><span class="two"><i class="{side}" style="width:{width:.1f}%"></i></span> '
        f"{side if score else ''}</td>",
        f'<td class="number">{share:.0%}</td><td class="number">{level}</td>',
    ]
    if sources.attention:
        cells.append(f'<td class="number">{sources.attention.get(modality, 0.0):.0%}</td>' if whole else "<td></td>")
    return f'<tr class="{"part" if column and not whole else "whole"}">{"".join(cells)}</tr>'


def items_html(sources: Sources) -> str:
    """The items of histories, in their order."""
    if not sources.items:
        return ""
    largest = max(abs(item.score) for item in sources.items) or 1.0
    rows = []
    for item in sources.items:
        power = item.score / largest * sources.fade(column=item.column)
        side = side_of(power)
        rows.append(
            f'<tr><td>{item.index + 1}</td><th scope="row" dir="auto">{escape(shorten(item.text, 60))}</th>'
            f'<td class="number">{item.score:+.3f}</td><td class="speaks"><span class="two"><i class="{side}" '
            f'style="width:{50 * abs(power):.1f}%"></i></span> {side if item.score else ""}</td></tr>'
        )
    names = ", ".join(dict.fromkeys(item.column for item in sources.items))
    return f"<h2>Items of {escape(names)}</h2>\n{table(('place', 'item', 'score', 'speaks'), rows)}"
