"""Explanations and tagged text as one HTML page: no outside host, no script, light and dark, readable without
color.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from polydetr.errors import escaped
from polydetr.metrics.classification import display_width
from polydetr.reports.explained import Sources
from polydetr.reports.explanation import WordPlace, deletion_verdict, in_columns, scaled_scores
from polydetr.reports.images_html import images_html
from polydetr.reports.sources_html import items_html, side_of, sources_html, style, table
from polydetr.reports.style import shorten

_ATTENTION_WORDS = 40
_RANKED = 15


def page(title: str, body: str) -> str:
    """A whole document around ``body`` (already escaped HTML); ``title`` is escaped here."""
    css = resources.files("polydetr.reports").joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(escaped(title))}</title>\n<style>\n{css}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{escape(escaped(title))}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def explanation_html(
    words: Sequence[str],
    scores: Sequence[float],
    *,
    title: str,
    prediction: str,
    deletion: Mapping[str, float] | None = None,
    measure: str = "probability",
    attention: NDArray[np.floating] | None = None,
    sources: Sources | None = None,
    notes: Sequence[str] = (),
    before: Sequence[str] | None = None,
    fields: Sequence[str] | None = None,
) -> str:
    """The words colored by how much each speaks for (blue, underlined) or against (orange, dotted) the prediction.

    scores: one signed number per word; colors are relative to the largest. deletion, measure: see
    :func:`deletion_verdict`; without it the page says that the attribution is unchecked. attention: (W, W), row = the
    word that looks, of text alone; of more than 40 words the highest-scored 40 are shown. sources: where the row has
    more than text, the scores of its columns, images and items; there may then be no words. notes: sentences that the
    page ends with. before, fields: see ``explanation.in_columns``; the columns of texts are shown apart.

    Raises:
        InputError: the numbers of words and scores differ, or a score is not finite.
    """
    answer = f'<p class="prediction">Prediction: <strong>{escape(prediction)}</strong></p>'
    verdict, places = _verdict(deletion, measure), in_columns(words, before, fields)
    if sources is not None:
        parts = [answer, style(), verdict, *_of_modalities(words, scores, sources, places)]
    else:
        strength = scaled_scores(words, scores)
        parts = [answer, *_words(words, scores, strength, places), verdict, _ranking(words, scores, strength)]
        if attention is not None:
            parts.append(_heat_map(words, attention, strength))
    if notes:
        items = "".join(f"<li>{escape(note)}</li>" for note in notes)
        parts.append(f'<h2>Notes</h2>\n<ul class="notes">{items}</ul>')
    return page(title, "\n".join(parts))


def _of_modalities(
    words: Sequence[str], scores: Sequence[float], sources: Sources, places: Sequence[WordPlace]
) -> list[str]:
    """The parts of a page about a row that has more than text."""
    parts, ranking = [sources_html(sources)], ""
    if len(words):
        strength = scaled_scores(words, scores) * sources.fade(modality="text")
        parts += ["<h2>Words</h2>", *_words(words, scores, strength, places)]
        ranking = _ranking(words, scores, strength)
    return [*parts, images_html(sources), items_html(sources), ranking]


def _words(
    words: Sequence[str], scores: Sequence[float], strength: NDArray[np.float64], places: Sequence[WordPlace]
) -> list[str]:
    return [_colored(words, scores, strength, places), _legend(float(np.abs(np.asarray(scores, float)).max()))]


def _colored(
    words: Sequence[str], scores: Sequence[float], strength: NDArray[np.float64], places: Sequence[WordPlace]
) -> str:
    """The texts as they are written, each column's by itself."""
    texts: list[list[str]] = []
    for word, score, power, place in zip(words, scores, strength, places, strict=True):
        if place.column is not None or not texts:
            heading = f'<span class="field">{escape(shorten(place.column, 60))}</span>' if place.column else ""
            texts.append([heading])
        # The underline carries the strongest words to readers who do not see the color.
        marked = f" {side_of(power)}" + (" strong" if abs(power) >= 0.5 else "")
        spoken, alpha = escape(f"{word}: {score:+.4g}", quote=True), f"{abs(power):.3f}"
        span = f'<span class="w{marked}" style="--a:{alpha}" title="{spoken}">{escape(word)}</span>'
        texts[-1].append(escape(escaped(place.gap)) + span)
    return "\n".join(f'<p class="words" dir="auto">{"".join(text)}</p>' for text in texts)


def _legend(largest: float) -> str:
    return (
        '<p class="legend"><span class="w against strong" style="--a:1">against</span> '
        f'<span class="bar" role="img" aria-label="color scale from {-largest:.3g} to {largest:.3g}"></span> '
        '<span class="w for strong" style="--a:1">for</span> '
        f"the prediction; the strongest word scores {largest:.3g}. Point at a word to read its score.</p>"
    )


def _verdict(deletion: Mapping[str, float] | None, measure: str) -> str:
    if deletion is None:
        return (
            '<p class="check unknown"><strong>Deletion check: not run.</strong> '
            "Whether these scores mean anything is unknown.</p>"
        )
    verdict = deletion_verdict(deletion, measure=measure)
    kind, word = ("good", "passed") if verdict.meaningful else ("bad", "not passed")
    return f'<p class="check {kind}"><strong>Deletion check: {word}.</strong> {escape(verdict.text)}</p>'


def _ranking(words: Sequence[str], scores: Sequence[float], strength: NDArray[np.float64]) -> str:
    order = np.argsort(-np.abs(strength), kind="stable")[:_RANKED]
    rows = []
    for i in map(int, order):
        side = side_of(strength[i])
        rows.append(
            f'<tr><td>{i + 1}</td><th scope="row" dir="auto">{escape(shorten(words[i], 60))}</th>'
            f'<td class="number">{scores[i]:+.4f}</td>'
            f'<td><span class="meter {side}" style="width:calc({abs(strength[i]):.3f} * min(10em, 30vw))"></span> '
            f"{side}</td></tr>"
        )
    return f"<h2>Strongest words</h2>\n{table(('place', 'word', 'score', 'speaks'), rows)}"


def _heat_map(words: Sequence[str], attention: NDArray[np.floating], strength: NDArray[np.float64]) -> str:
    """An SVG grid; each cell is shaded by its share of the largest cell shown and carries its value as a title."""
    highest = np.argsort(-np.abs(strength), kind="stable")[:_ATTENTION_WORDS]
    shown: list[int] = sorted(highest.tolist())  # in reading order
    names = [shorten(words[i], 14) for i in shown]
    weights = attention[np.ix_(shown, shown)]
    largest = float(weights.max()) or 1.0
    cell, margin = 20, 16 + 7 * max(map(display_width, names))  # 7 units a column at the font size of the style sheet
    size = margin + cell * len(names)
    shapes = []
    for i, name in enumerate(names):
        middle, word = margin + cell * i + cell / 2, f'dominant-baseline="central">{escape(name)}</text>'
        shapes.append(f'<text x="{margin - 6}" y="{middle}" text-anchor="end" {word}')
        shapes.append(f'<text transform="translate({middle},{margin - 6}) rotate(-55)" {word}')
        for j, other in enumerate(names):
            value, spoken = weights[i, j], f"{escape(name)} → {escape(other)}"
            shapes.append(
                f'<rect x="{margin + cell * j}" y="{margin + cell * i}" width="{cell - 1}" height="{cell - 1}" '
                f'fill-opacity="{value / largest:.3f}"><title>{spoken}: {value:.4f}</title></rect>'
            )
    kept = "" if len(shown) == len(words) else f" The {len(shown)} highest-scored of {len(words)} words are shown."
    return (
        "<h2>Attention</h2>\n"
        f"<p>Row: the word that looks. Column: the word looked at. Full color is {largest:.3f}.{kept} "
        "Attention shows where the model reads, not why it decides.</p>\n"
        f'<div class="scroll"><svg viewBox="0 0 {size + 40} {size}" width="{size + 40}" role="img" '
        f'aria-label="attention between {len(shown)} words">\n' + "\n".join(shapes) + "\n</svg></div>"
    )
