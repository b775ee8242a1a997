"""An explanation as one image: what the answer rests on, words, images, items, the deletion check.

Everything is placed in inches from the top. The page is a list of blocks, whose heights are known before they are
drawn, so that they add up to the height of the page.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from polydetr.reports.explained import ExplainedImage, Sources
from polydetr.reports.explanation import WordPlace, deletion_verdict, in_columns, scaled_scores
from polydetr.reports.images_png import draw_image, image_height
from polydetr.reports.style import BAD, BLUE, FAINT, GOOD, INK, ORANGE, canvas, shorten
from polydetr.reports.words_png import LINE, MARGIN, WIDTH, draw_scale, draw_word, lay_out, put_text, word_widths

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROW, _SMALL = 0.27, 0.19
_NAME, _VALUE, _BAR, _SHARE, _WITHOUT = MARGIN, 1.95, 3.65, 6.25, 7.7
_BAR_WIDTH = 2.0
_MOST_WORDS, _MOST_IMAGES, _MOST_ITEMS, _MOST_COLUMNS = 400, 8, 12, 24


class _Block(NamedTuple):
    height: float
    draw: Callable[[Figure, float], None]


def explanation_png(
    words: Sequence[str],
    scores: Sequence[float],
    path: str | Path,
    *,
    title: str,
    prediction: str,
    deletion: Mapping[str, float] | None = None,
    measure: str = "probability",
    sources: Sources | None = None,
    before: Sequence[str] | None = None,
    fields: Sequence[str] | None = None,
) -> None:
    """Draws what ``explanation_html`` shows, without the tables of words; of very many words, images or items the
    first. The arguments are those of ``explanation_html``.

    Raises:
        InputError: the numbers of words and scores differ, or a score is not finite.
    """
    places = in_columns(words, before, fields)
    with canvas(WIDTH, 1.0, path=path) as figure:
        figure.set_layout_engine("none")
        blocks = [_head(title, prediction)]
        if sources is None:
            blocks += [_words(figure, words, scaled_scores(words, scores), places), _scale(scores)]
        else:
            blocks += [_lines(sources.statement), *_bars(sources)]
            if len(words):
                strength = scaled_scores(words, scores) * sources.fade(modality="text")
                blocks.append(_words(figure, words, strength, places))
            blocks += [*_images(sources), *_items(sources), *_legend(sources)]
        blocks.append(_check(deletion, measure))
        figure.set_size_inches(WIDTH, sum(block.height for block in blocks) + 0.1)
        y = 0.0
        for block in blocks:
            block.draw(figure, y)
            y += block.height


def _head(title: str, prediction: str) -> _Block:
    def draw(figure: Figure, y: float) -> None:
        put_text(figure, MARGIN, y + 0.32, shorten(title, 78), fontsize=13, weight="bold")
        put_text(figure, MARGIN, y + 0.65, f"Prediction: {shorten(prediction, 90)}", fontsize=11)

    return _Block(0.86, draw)


def _lines(text: str, *, color: str = INK) -> _Block:
    lines = textwrap.wrap(text, 106)

    def draw(figure: Figure, y: float) -> None:
        for i, line in enumerate(lines):
            put_text(figure, MARGIN, y + 0.14 + _SMALL * i, line, fontsize=9, color=color)

    return _Block(0.12 + _SMALL * len(lines), draw)


def _bars(sources: Sources) -> list[_Block]:
    """The strongest columns, where there are several, with score as a bar, share, and the answer without them."""
    columns = sources.ranked[:_MOST_COLUMNS] if len(sources.columns) > 1 else []
    if not columns:
        return []
    largest = max(abs(column.score) for column in columns) or 1.0

    def draw(figure: Figure, y: float) -> None:
        style = {"fontsize": 8.5, "color": FAINT}
        for x, name in ((_NAME, "column"), (_VALUE, "holds"), (_BAR, "against"), (_BAR + _BAR_WIDTH, "for")):
            put_text(figure, x, y + 0.2, name, ha="right" if name == "for" else "left", **style)
        put_text(figure, _SHARE, y + 0.2, "share", ha="right", **style)
        put_text(figure, _WITHOUT, y + 0.2, f"without (all: {sources.shown(sources.original)})", ha="right", **style)
        for i, column in enumerate(columns):
            middle = y + 0.47 + _ROW * i
            put_text(figure, _NAME, middle, shorten(column.column, 18), fontsize=9.5)
            put_text(figure, _VALUE, middle, shorten(column.value, 22), fontsize=9, color=FAINT)
            _bar(figure, middle, column.score / largest, f"{column.score:+.3g}")
            put_text(figure, _SHARE, middle, f"{column.share:.0%}", ha="right", fontsize=9)
            put_text(figure, _WITHOUT, middle, sources.shown(column.without), ha="right", fontsize=9)

    blocks = [_Block(0.5 + _ROW * len(columns), draw)]
    if len(columns) < len(sources.columns):
        blocks.append(_lines(f"The {len(columns)} strongest of {len(sources.columns)} columns are shown.", color=FAINT))
    return blocks


def _bar(figure: Figure, middle: float, power: float, text: str) -> None:
    """From the middle of the bars' column to the right (for) or left (against, hatched); ``text`` on the other side.

    middle: inches from the top; power: the bar's length, -1 (against) to 1 (for).
    """
    from matplotlib.patches import Rectangle

    width, height = figure.get_size_inches()
    half = _BAR_WIDTH / 2
    center, reach = _BAR + half, half * abs(power)
    left = center if power > 0 else center - reach

    def put(x: float, wide: float, tall: float, **style: object) -> None:
        corner = x / width, 1 - (middle + tall / 2) / height
        figure.add_artist(Rectangle(corner, wide / width, tall / height, **style))  # pyright: ignore[reportArgumentType]

    put(left, max(reach, 0.01), 0.13, facecolor=BLUE if power > 0 else ORANGE, edgecolor="white", linewidth=0,
        hatch=None if power > 0 else "////")  # fmt: skip
    put(center, 0.006, 0.22, facecolor=FAINT, linewidth=0)
    side = -0.07 if power > 0 else 0.07
    put_text(figure, center + side, middle, text, ha="right" if power > 0 else "left", fontsize=8, color=FAINT)


def _words(figure: Figure, words: Sequence[str], strength: np.ndarray, before: Sequence[WordPlace]) -> _Block:
    shown = [shorten(word, 60) or "␣" for word in words[:_MOST_WORDS]]
    places, lines = lay_out(word_widths(figure, shown), before[: len(shown)])
    left_out = len(words) - len(shown)

    def draw(figure: Figure, y: float) -> None:
        for place, (_, line) in zip(before, places, strict=False):
            if place.column:
                name = shorten(place.column, 60)
                put_text(figure, MARGIN, y + 0.25 + LINE * (line - 1), name, fontsize=9, color=FAINT)
        for word, power, (x, line) in zip(shown, strength, places, strict=False):
            draw_word(figure, x, y + 0.25 + LINE * line, word, power=float(power))
        if left_out:
            text = f"The first {len(shown)} of {len(words)} words are shown."
            put_text(figure, MARGIN, y + 0.15 + LINE * lines, text, fontsize=9, color=FAINT)

    return _Block(0.15 + LINE * lines + (_SMALL if left_out else 0), draw)


def _scale(scores: Sequence[float]) -> _Block:
    largest = float(np.abs(np.asarray(scores, float)).max())
    return _Block(0.36, lambda figure, y: draw_scale(figure, y + 0.16, largest))


def _images(sources: Sources) -> list[_Block]:
    """Two to a line."""
    shown = sources.images[:_MOST_IMAGES]
    blocks = [_pair(sources, shown[i : i + 2]) for i in range(0, len(shown), 2)]
    if len(sources.images) > len(shown):
        blocks.append(_lines(f"The first {len(shown)} of {len(sources.images)} images are shown.", color=FAINT))
    return blocks


def _pair(sources: Sources, images: Sequence[ExplainedImage]) -> _Block:
    def draw(figure: Figure, y: float) -> None:
        for i, image in enumerate(images):
            draw_image(figure, MARGIN + i * (WIDTH / 2 - MARGIN / 2), y + 0.08, sources, image)

    return _Block(0.08 + max(map(image_height, images)), draw)


def _items(sources: Sources) -> list[_Block]:
    """The strongest items of histories, in their order."""
    if not sources.items:
        return []
    strongest = sorted(sources.items, key=lambda item: -abs(item.score))[:_MOST_ITEMS]
    shown = [item for item in sources.items if item in strongest]
    largest = abs(strongest[0].score) or 1.0

    def draw(figure: Figure, y: float) -> None:
        for i, item in enumerate(shown):
            middle = y + 0.2 + _ROW * i
            put_text(figure, _NAME, middle, shorten(f"{item.column} {item.index + 1}", 18), fontsize=9.5)
            put_text(figure, _VALUE, middle, shorten(item.text, 22), fontsize=9, color=FAINT)
            power = item.score / largest * sources.fade(column=item.column)
            _bar(figure, middle, power, f"{item.score:+.3g}")

    blocks = [_Block(0.25 + _ROW * len(shown), draw)]
    if len(shown) < len(sources.items):
        blocks.append(_lines(f"The {len(shown)} strongest of {len(sources.items)} items are shown.", color=FAINT))
    return blocks


def _legend(sources: Sources) -> list[_Block]:
    def draw(figure: Figure, y: float) -> None:
        draw_word(figure, MARGIN + 0.05, y + 0.2, "for", power=1.0)
        draw_word(figure, MARGIN + 0.5, y + 0.2, "against", power=-1.0)
        text = "the answer. Outlined: at least half as strong as the strongest of its kind; pale: of a column that"
        put_text(figure, MARGIN + 1.32, y + 0.13, text, fontsize=8.5, color=FAINT)
        put_text(figure, MARGIN + 1.32, y + 0.29, "hardly matters.", fontsize=8.5, color=FAINT)

    looked = "Purple: where the query that found the object looked; the frame is the object's box."
    return [_Block(0.45, draw), *([_lines(looked, color=FAINT)] if any(i.box for i in sources.images) else [])]


def _check(deletion: Mapping[str, float] | None, measure: str) -> _Block:
    if deletion is None:
        return _lines("Deletion check: not run.", color=FAINT)
    verdict = deletion_verdict(deletion, measure=measure)
    return _lines(verdict.text, color=GOOD if verdict.meaningful else BAD)
