"""One HTML page of a target's worst mistakes: each row with gold and answer side by side, filtered by class.

No outside host and no script: the filters are rules of the style sheet, which a browser applies from a file as well;
every mistake has an anchor and is reached by the keyboard.
"""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from polydetr.core.files import save_text
from polydetr.core.mistakes import Mark, Mistake, Mistakes, ShownMistake
from polydetr.core.records import Record
from polydetr.errors import Location, escaped
from polydetr.reports.box_drawing import data_url
from polydetr.reports.excerpts import excerpt, excerpts
from polydetr.reports.filters import filter_form, filter_rules
from polydetr.reports.html import page
from polydetr.reports.marked_text import marked, plain_html
from polydetr.reports.style import BLUE, GOOD, label_colors, shorten

_TILE = 320  # pixels of an image's longer side
_CELL = 600  # characters of a column
_SIDES = {"gold": GOOD, "answer": BLUE}
"""The colors of marks without a label."""

ImageOf = Callable[[Record], Any]
"""The row's first image: something with ``name`` and ``open()``, or None."""


def mistakes_page(
    mistakes: Mistakes,
    path: str | Path,
    *,
    title: str,
    metrics: Mapping[str, float],
    image_of: ImageOf = lambda record: None,
    diagrams: Sequence[Path] = (),
) -> Path:
    """Writes the page; images are opened for the rows that are shown, and no others.

    metrics: those named at its head. diagrams: PNG files that it shows, as they are.

    Raises:
        SaveError: ``path`` cannot be written.
    """
    labels = Counter(label for found in mistakes.shown.values() for one in found for label in one.mistake.labels)
    colors = label_colors(labels)
    classes = {label: f"c{i}" for i, label in enumerate(sorted(labels))}
    number = 0
    offered = {label: (name, labels[label]) for label, name in classes.items()}
    body = [
        _style() + filter_rules(len(classes)), _summary(mistakes, metrics), _diagrams(diagrams),
        filter_form(offered, suspicious=mistakes.suspicious),
    ]  # fmt: skip
    for kind, meaning in mistakes.kinds.items():
        found = mistakes.shown.get(kind, ())
        if not found:
            continue
        body.append(f'<h2 id="{_anchor(kind)}">{escape(kind.capitalize())}: {mistakes.counts[kind]:,}</h2>')
        body.append(f'<p class="legend">{escape(meaning)}{_left_out(mistakes, kind)}</p>')
        wide = any(one.text and one.mistake.marks for one in found)
        tiles = [_tile(one, number + i, colors, classes, image_of) for i, one in enumerate(found, start=1)]
        body.append(f'<div class="mistakes{" wide" if wide else ""}">\n' + "\n".join(tiles) + "\n</div>")
        number += len(found)
    if not number:
        body.append("<p>No mistake was made.</p>")
    return save_text(path, page(title, "\n".join(filter(None, body))))


# -- the head of the page ----------------------------------------------------------------------------------------------


def _style() -> str:
    css = resources.files("polydetr.reports").joinpath("mistakes.css").read_text(encoding="utf-8")
    return f"<style>\n{css}</style>"


def _summary(mistakes: Mistakes, metrics: Mapping[str, float]) -> str:
    scores = ", ".join(f"{escape(name)} <strong>{value:.4g}</strong>" for name, value in list(metrics.items())[:4])
    links = " ".join(
        f'<a href="#{_anchor(kind)}">{escape(kind)} ({mistakes.counts[kind]:,})</a>'
        for kind in mistakes.kinds
        if mistakes.shown.get(kind)
    )
    return (
        f'<p class="prediction">{mistakes.rows:,} rows: {scores}.</p>\n'
        f'<nav class="kinds" aria-label="kinds of mistakes">{links}</nav>\n'
        "<p>Gold is what the row's label says, marked by a dashed line; the answer is the model's, marked by a solid "
        "one. Why the model answers so: <code>polydetr explain MODEL FILE --row NUMBER</code>.</p>"
    )


def _diagrams(files: Sequence[Path]) -> str:
    images = []
    for file in files:
        data = b64encode(file.read_bytes()).decode()
        images.append(f'<img src="data:image/png;base64,{data}" alt="{escape(file.stem, quote=True)}">')
    if not images:
        return ""
    return f'<details><summary>Diagrams</summary><div class="diagrams">{"".join(images)}</div></details>'


def _left_out(mistakes: Mistakes, kind: str) -> str:
    found, total, classes = mistakes.shown.get(kind, ()), mistakes.counts.get(kind, 0), mistakes.classes.get(kind, 0)
    if len(found) >= total:
        return ""
    of = len({label for one in found for label in one.mistake.labels})
    some = f", some of {'each class' if of == classes else f'{of:,} of {classes:,} classes'}," if classes else ""
    return f" The worst {len(found):,} of {total:,}{some} are shown."


def _anchor(kind: str) -> str:
    return kind.replace(" ", "-")


# -- one mistake -------------------------------------------------------------------------------------------------------


def _tile(
    one: ShownMistake, number: int, colors: Mapping[str, str], classes: Mapping[str, str], image_of: ImageOf
) -> str:
    mistake = one.mistake
    names = ["mistake", *(classes[label] for label in mistake.labels), *["doubted"] * mistake.suspicious]
    doubt = '<span class="doubt">suspicious label</span>' if mistake.suspicious else ""
    image, name = _image(one, image_of)
    passages = _passages(one, colors)
    where = " · ".join(filter(None, (_where(one.record.location), name)))
    parts = [
        f'<p class="where"><a href="#m{number}">#{number}</a><span>{escape(where)}</span>{doubt}</p>',
        image,
        _columns(one),
        _pair(mistake, passages, colors),
        passages.get("", ""),
        _scores(mistake),
        f'<p class="note">{plain_html(mistake.note)}</p>' if mistake.note else "",
    ]
    return f'<article class="{" ".join(names)}" id="m{number}" tabindex="0">{"".join(parts)}</article>'


def _where(location: Location) -> str:
    """File and row, as a person looks them up."""
    file = Path(location.file).name if location.file else ""
    row = f"row {location.row:,}" if location.row is not None else ""
    line = f"line {location.line:,}" if location.line is not None else ""
    return ", ".join(filter(None, (shorten(file, 60, keep_end=True), row, line)))


def _pair(mistake: Mistake, passages: Mapping[str, str], colors: Mapping[str, str]) -> str:
    """Gold and answer side by side, each with the text as it marks it."""
    if mistake.image is not None:
        return ""
    sure = "" if mistake.confidence is None else f", probability {mistake.confidence:.2f}"
    parts = []
    for side, value, more in (("gold", mistake.gold, ""), ("answer", mistake.answer, sure)):
        color = f' style="--c:{colors[value]}"' if value in colors else ""
        shown = f'<span class="chip"{color}>{plain_html(value)}</span>' if value else "none"
        parts.append(
            f'<div class="{side}"><dt>{side}{more}</dt><dd dir="auto">{shown}</dd>{passages.get(side, "")}</div>'
        )
    return f'<dl class="pair">{"".join(parts)}</dl>'


def _passages(one: ShownMistake, colors: Mapping[str, str]) -> dict[str, str]:
    """Side → the text as it marks it, or "" → the text where nothing is marked."""
    marks: Sequence[Mark] = one.mistake.marks
    if not one.text:
        return {}
    if not marks:
        start, end = excerpt(one.text, ())
        return {"": f'<p class="passage" dir="auto">{passage(one.text, (), {}, start=start, end=end)}</p>'}
    return {
        side: '<dd class="passage" dir="auto">'
        + passage(one.text, [mark for mark in marks if mark.side == side], colors, start=start, end=end)
        + "</dd>"
        for side, (start, end) in excerpts(one.text, marks).items()
    }


def passage(text: str, marks: Sequence[Mark], colors: Mapping[str, str], *, start: int, end: int) -> str:
    """``text[start:end]`` as HTML with its marks; the label of each stands behind it, where it has one. What is cut off
    is shown as "…".
    """

    def opened(mark: Mark) -> str:
        focus = " class=focus" if mark.focus else ""
        return f'<mark{focus} style="--c:{colors.get(mark.label) or _SIDES[mark.side]}">'

    def behind(mark: Mark) -> str:
        return f'<span class="tag">{plain_html(mark.label)}</span>' if mark.label else ""

    html = marked(text, marks, opened, behind, start=start, end=end)
    return f"{'…' if start else ''}{html}{'…' if end < len(text) else ''}"


def _columns(one: ShownMistake) -> str:
    rows = []
    for name, value in one.columns:
        text = escaped(value[:_CELL]) + "…" * (len(value) > _CELL)
        rows += [f'<dt>{escape(shorten(name, 40))}</dt><dd dir="auto">{escape(text)}</dd>'] if value else []
    return f'<dl class="columns">{"".join(rows)}</dl>' if rows else ""


def _scores(mistake: Mistake) -> str:
    if not mistake.scores:
        return ""
    rows = [
        f'<tr><th scope="row" dir="auto">{escape(shorten(label, 60, keep_end=True))}</th>'
        f'<td><span class="meter for" style="width:{6 * score:.2f}em"></span></td>'
        f'<td class="number">{score:.3f}</td></tr>'
        for label, score in mistake.scores
    ]
    return f'<table class="scores"><tbody>{"".join(rows)}</tbody></table>'


def _image(one: ShownMistake, image_of: ImageOf) -> tuple[str, str]:
    """The image as an element, and its file's name; an image that is gone leaves the page without it."""
    from PIL import Image

    found = None if one.mistake.image is not None else image_of(one.record)
    try:
        image = _from_array(one.mistake.image) if found is None else found.open()
    except Exception:  # it was read a moment ago; a page of sixty must not fail for one
        return '<p class="note">The image cannot be opened any more.</p>', ""
    if image is None:
        return "", ""
    name = "" if found is None else shorten(found.name, 48, keep_end=True)
    if found is None:  # small ones are enlarged, pixel by pixel
        factor = max(1, _TILE // 2 // max(image.size))
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    else:
        image = image.copy()
        image.thumbnail((_TILE, _TILE))
    alt = escape(name or "the row's image", quote=True)
    url = data_url(image, jpeg=found is not None)
    return f'<img src="{url}" width="{image.width}" height="{image.height}" alt="{alt}">', name


def _from_array(pixels: Any) -> Any:
    """uint8 (H, W, C), or None."""
    from PIL import Image

    if pixels is None:
        return None
    array = np.asarray(pixels, np.uint8)
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).convert("RGB")
