"""One HTML page about a detector: its scores, its plots, and its worst mistakes as images."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from polydetr.core.files import save_text
from polydetr.errors import InputError
from polydetr.metrics.detection import DetectionReport
from polydetr.metrics.detection_errors import Outcome
from polydetr.reports.box_drawing import BoxCanvas, data_url
from polydetr.reports.detection import detection_confusion_png, precision_recall_png
from polydetr.reports.filters import filter_form, filter_rules
from polydetr.reports.html import page
from polydetr.reports.style import label_colors, shorten
from polydetr.values.images import open_image

if TYPE_CHECKING:
    from PIL.Image import Image

_TILE = 360  # pixels per side of a mistake's image
_CONTEXT = 2.2  # the part shown, in sizes of the box
_LONG_TABLE = 12  # more labels are folded away, and their diagrams take the whole width
Rows = Sequence[Sequence[Mapping[str, Any]]]


def mistakes_page(
    report: DetectionReport,
    images: Sequence[Any],
    gold: Rows,
    predicted: Rows,
    path: str | Path,
    *,
    title: str = "Worst mistakes",
    most: int = 12,
    opened: Callable[[Any], Image] = open_image,
    names: Sequence[str] = (),
    rows: Sequence[str] = (),
) -> Path:
    """One HTML file, images inside: the scores, both diagrams, and the worst mistakes of each kind, cut out.

    images: what ``opened`` opens, by default paths, arrays or Pillow images, one per image of the report, in its order;
    only those shown are opened, and one that is gone leaves the page without it. names, rows: their names and the
    numbers of their rows, for the captions.
    gold, predicted: as given to ``detection_report``. most: of each kind.

    Raises:
        InputError: lengths do not fit. SaveError: ``path`` cannot be written.
    """
    if not len(images) == len(gold) == len(predicted) == report.images:
        raise InputError(f"{len(images)} images for a report about {report.images} images; expected as many.")
    colors = label_colors(report.labels)
    names = names or [Path(image).name if isinstance(image, str | Path) else "" for image in images]
    rows = rows or [""] * len(images)
    classes = {label: f"c{i}" for i, label in enumerate(report.labels)}
    body = [filter_rules(len(classes)), _summary(report), _diagrams(report), _how_to_read(), _filter(report, classes)]
    number = 0
    for heading, text, chosen in _sections(report, gold, most):
        tiles = [
            _tile(
                one, _opened(images[one.image], opened), gold[one.image], predicted[one.image], colors,
                report.threshold,
                name=" · ".join(filter(None, (names[one.image], rows[one.image] and f"row {rows[one.image]}"))),
                number=number + i, classes=classes,
            )
            for i, one in enumerate(chosen, start=1)
        ]  # fmt: skip
        number += len(chosen)
        body.append(f"<h2>{heading}</h2>\n<p>{text}</p>")
        body.append(f'<div class="tiles">{"".join(tiles)}</div>' if tiles else "<p>None.</p>")
    return save_text(path, page(title, _STYLE + "\n".join(body)))


def _sections(report: DetectionReport, gold: Rows, most: int) -> list[tuple[str, str, list[Outcome]]]:
    def highest_scoring(*kinds: str) -> list[Outcome]:
        return sorted((o for o in report.outcomes if o.kind in kinds), key=lambda o: -o.score)

    missed = [o for o in report.outcomes if o.kind == "missed"]
    missed.sort(key=lambda o: -_area(gold[o.image][o.gold or 0]["box"]))
    false = highest_scoring("invented", "misplaced", "duplicate")
    confused = highest_scoring("confused")
    return [
        (
            "Boxes that should not be there",
            f"The highest-scoring of {len(false):,}. Look at the image first: an unannotated object looks the same.",
            false[:most],
        ),
        ("Objects that were missed", f"The largest of {len(missed):,}.", missed[:most]),
        ("Objects found under another label", f"The highest-scoring of {len(confused):,}.", confused[:most]),
    ]


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _opened(image: Any, opened: Callable[[Any], Image]) -> Image | None:
    """None where it cannot be opened, or there is none."""
    try:
        return None if image is None else opened(image)
    except Exception:  # it was read a moment ago; a page of many must not fail for one
        return None


def _tile(
    one: Outcome,
    image: Image | None,
    gold: Sequence[Mapping[str, Any]],
    predicted: Sequence[Mapping[str, Any]],
    colors: Mapping[str, str],
    threshold: float,
    *,
    name: str,
    number: int,
    classes: Mapping[str, str],
) -> str:
    wrong = predicted[one.predicted] if one.predicted is not None else None
    true = gold[one.gold] if one.gold is not None else None
    where, text = name or f"image {one.image + 1}", _sentence(one, wrong, true)
    shown = '<p class="legend">The image cannot be opened any more.</p>'
    if image is not None:
        source = data_url(_drawn(one, image, gold, predicted, colors, threshold, wrong, true), jpeg=True)
        shown = f'<img src="{source}" width="{_TILE}" height="{_TILE}" alt="{escape(text, quote=True)}">'
    about = dict.fromkeys(classes[box["label"]] for box in (true, wrong) if box is not None)
    return (
        f'<figure class="mistake {" ".join(about)}" id="m{number}" tabindex="0">{shown}'
        f"<figcaption><strong>{escape(text)}</strong><br>"
        f'<a href="#m{number}">#{number}</a> {escape(shorten(where, 60, keep_end=True))}</figcaption></figure>'
    )


def _drawn(
    one: Outcome,
    image: Image,
    gold: Sequence[Mapping[str, Any]],
    predicted: Sequence[Mapping[str, Any]],
    colors: Mapping[str, str],
    threshold: float,
    wrong: Mapping[str, Any] | None,
    true: Mapping[str, Any] | None,
) -> Image:
    """The part of the image around the mistake, with its boxes thick and those of its neighbors thin."""
    region, view = _cut_out(image, [o for o in (wrong, true) if o is not None])
    for other in gold:
        if other is not true:
            region.outline(view(other["box"]), colors[other["label"]], dashed=True, faint=True)
    for other in predicted:
        if other is not wrong and other["score"] >= threshold:
            region.outline(view(other["box"]), colors[other["label"]], faint=True)
    if true is not None:
        region.outline(view(true["box"]), colors[true["label"]], dashed=True)
    if wrong is not None:
        region.outline(view(wrong["box"]), colors[wrong["label"]])
        region.tag(view(wrong["box"]), f"{wrong['label']} {wrong['score']:.2f}", colors[wrong["label"]])
    if true is not None and one.kind != "duplicate":
        region.tag(view(true["box"]), f"true: {true['label']}", colors[true["label"]])
    return region.image


def _sentence(one: Outcome, wrong: Mapping[str, Any] | None, true: Mapping[str, Any] | None) -> str:
    if wrong is None:
        return f"{true['label'] if true else ''} missed"
    name = f"{wrong['label']} {wrong['score']:.2f}"
    if true is None:
        return f"{name}: nothing is annotated here"
    return {
        "confused": f"{name}: is {true['label']}",
        "duplicate": f"{name}: second box of one {true['label']}",
    }.get(one.kind, f"{name}: misplaced, overlap {one.overlap:.2f}")


def _cut_out(
    image: Image, around: Sequence[Mapping[str, Any]]
) -> tuple[BoxCanvas, Callable[[Sequence[float]], list[float]]]:
    """A square of the image around the boxes, enlarged to a tile, and the map from the image's boxes to its own."""
    from PIL import Image as pillow

    boxes = np.array([o["box"] for o in around], float)
    low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    side = min(max(_CONTEXT * float((high - low).max()), 48.0), float(max(image.size)))
    corner = (low + high - side) / 2
    room = np.array(image.size) - side
    corner = np.where(room > 0, np.clip(corner, 0, np.maximum(room, 0)), room / 2)
    area = (*corner, *(corner + side))
    tile = image.transform(
        (_TILE, _TILE), pillow.Transform.EXTENT, area, pillow.Resampling.BICUBIC, fillcolor="#8a929b"
    )

    def view(box: Sequence[float]) -> list[float]:
        return [float(v) for v in (np.array(box).reshape(2, 2) - corner).ravel()]

    return BoxCanvas(tile, scale=_TILE / side, text_size=15), view


def _summary(report: DetectionReport) -> str:
    def cell(value: float) -> str:
        return "–" if np.isnan(value) else f"{value:.3f}"

    names = ("AP", "AP50", "AP75", "AR", "precision", "recall", "F1", "objects")
    head = '<th scope="col">label</th>' + "".join(f'<th scope="col" class="number">{name}</th>' for name in names)
    lines = []
    for row in (report.all_labels, *report.rows):
        values = [cell(v) for v in (row.ap, row.ap_50, row.ap_75, row.ar, row.precision, row.recall, row.f1)]
        cells = "".join(f'<td class="number">{value}</td>' for value in (*values, f"{row.support:,}"))
        lines.append(f'<tr><th scope="row">{escape(row.label)}</th>{cells}</tr>')
    kinds, many = report.kinds, len(report.rows) > _LONG_TABLE
    table = (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{"".join(lines)}</tbody></table></div>'
    )
    return (
        f'<p class="prediction">mAP <strong>{cell(report.map)}</strong>, mAP50 <strong>{cell(report.map_50)}</strong> '
        f"on {report.images:,} images.</p>\n"
        + (f"<details><summary>All {len(report.rows)} labels</summary>{table}</details>" if many else table)
        + '\n<p class="legend">Precision, recall, F1 and the mistakes below: boxes with a score '
        + f"from {report.threshold:.2f}, overlap 0.5. {kinds['right']:,} right, {kinds['missed']:,} missed, "
        f"{kinds['confused']:,} under another label, {kinds['misplaced']:,} misplaced, {kinds['duplicate']:,} second "
        f"boxes of one object, {kinds['invented']:,} where nothing is annotated.</p>"
    )


def _diagrams(report: DetectionReport) -> str:
    parts, wide = [], " wide" if len(report.rows) > _LONG_TABLE else ""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "diagram.png"
        for draw, name in ((precision_recall_png, "precision-recall curves"), (detection_confusion_png, "confusion")):
            if report.all_labels.support:
                draw(report, file)
                data = b64encode(file.read_bytes()).decode()
                parts.append(f'<img class="diagram{wide}" src="data:image/png;base64,{data}" alt="{name}">')
    return f'<div class="diagrams">{"".join(parts)}</div>'


def _filter(report: DetectionReport, classes: Mapping[str, str]) -> str:
    return filter_form({row.label: (classes[row.label], row.support) for row in report.rows})


def _how_to_read() -> str:
    return (
        "<p>In the images below a solid box was found, a dashed one is annotated; the thick boxes are what the "
        "caption speaks of, the thin ones their neighbors.</p>"
    )


_STYLE = """<style>
main { max-width: 78rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1.1rem; }
figure { margin: 0; } figure img { width: 100%; height: auto; border-radius: .4rem; display: block; }
figcaption { font-size: .85rem; line-height: 1.35; margin-top: .35rem; color: var(--faint); overflow-wrap: anywhere; }
figcaption a { color: inherit; }
figcaption strong { color: var(--ink); font-weight: 600; }
.diagrams { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
.diagram { max-width: min(100%, 37rem); background: #fff; border-radius: .4rem; }
.diagram.wide:last-child { max-width: 100%; }
.number { text-align: right; padding: .25rem .2rem .25rem 1.3rem; }
td.number { padding: .25rem .2rem .25rem 1.3rem; }
summary { cursor: pointer; margin-bottom: .6rem; }
</style>
"""
