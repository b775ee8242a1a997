"""The files about one measuring of a model: tables, JSON, diagrams and the page of the worst mistakes.

Training writes them for its validation and test rows, ``evaluate --out`` for any labeled rows.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from polydetr.core.files import file_names, json_text, make_folder, read_whole, save_json, save_text
from polydetr.core.installed import check_installed
from polydetr.core.predictions import Evaluation
from polydetr.errors import DataFileError, SaveError
from polydetr.metrics.calibration import reliability_curve
from polydetr.metrics.figures import BoxFigures, ClassFigures, NumberFigures, SpanFigures
from polydetr.reports.detection import detection_confusion_png, precision_recall_png
from polydetr.reports.detection_page import mistakes_page as boxes_page
from polydetr.reports.label_names import key_of
from polydetr.reports.mistakes_data import worst_of
from polydetr.reports.mistakes_page import ImageOf, mistakes_page
from polydetr.reports.numbers_png import predicted_true_png, residuals_png
from polydetr.reports.plots import confusion_matrix_png, coverage_png, entity_bars_png, reliability_png
from polydetr.reports.style import shorten

_LARGEST = 1 << 26
"""Bytes of the JSON of a report: of a thousand classes it has a few million."""


class ReportWarning(UserWarning):
    """A report could not be made."""


@contextmanager
def expendable(what: str) -> Iterator[None]:
    """A report that cannot be made is a warning, and the rest is done; a disk that is full is an error.

    Raises:
        OSError, SaveError: a file cannot be written.
    """
    try:
        yield
    except (OSError, SaveError):
        raise
    except Exception as error:
        warnings.warn(f"{what} could not be made ({type(error).__name__}: {error})", ReportWarning, stacklevel=2)


def report_folder(folder: str | Path) -> Path:
    """The folder, made where it is not there yet: a place that cannot be written is known before the work.

    Raises:
        SaveError: it cannot be made, or is no folder. ConfigError: what draws the diagrams is not installed.
    """
    check_installed("matplotlib", "a folder of reports")
    try:
        make_folder(Path(folder))
    except OSError as error:
        raise SaveError(
            f"the folder {str(folder)!r} for the reports cannot be made: {error.strerror or error}.",
            hint="Name a folder, or a place where one may be made.",
        ) from error
    return Path(folder)


def write_evaluations(
    folder: Path,
    evaluations: Mapping[str, Evaluation],
    *,
    name: str,
    image_of: ImageOf,
    before: Mapping[str, Evaluation] | None = None,
    names: Mapping[str, str] | None = None,
    draws: bool = True,
    keeps_rows: bool = True,
    source: str = "",
) -> list[Path]:
    """``NAME-*.txt``, ``.json``, ``-rows.jsonl``, ``-*.png``, ``-mistakes.json`` and ``.html`` of each target in
    ``folder``; the files written. Of several targets each has its own name in those of its files.

    image_of: gives a row's image. before: what was measured before the calibration, drawn beside. names: target → as
    part of a name, of all targets of the model. draws: diagrams and images too, for which a time limit may leave no
    time. keeps_rows: ``-rows.jsonl`` too, which holds measured rows with their answers. source: where the rows are
    from, for the JSON, see ``free_name``.

    Raises:
        OSError, SaveError: a file cannot be written.
    """
    stems, written = _stems(name, evaluations, names), []
    for target, evaluation in evaluations.items():
        stem = stems[target]
        with expendable(f"{stem} in {folder.name}/"):
            of = f"{shorten(target, 30)}, {name}" if target != name else name
            earlier, more = (before or {}).get(target), {"draws": draws, "keeps_rows": keeps_rows}
            for path in _write(folder, stem, of, evaluation, earlier, image_of, source=source, **more):
                written.append(path)  # one by one: those before one that cannot be made are told of
    return written


def free_name(folder: Path, name: str, targets: Collection[str], *, source: str) -> str:
    """``name``, or ``name-2``, ``name-3``, ... where files of that name in ``folder`` are not of ``source``."""
    numbered = (name if number == 1 else f"{name}-{number}" for number in count(1))
    return next(n for n in numbered if all(_is_free(folder, stem, source) for stem in _stems(n, targets).values()))


def _is_free(folder: Path, stem: str, source: str) -> bool:
    """Whether no report is called so but one of ``source``, which is then replaced."""
    try:
        found = json.loads(read_whole(folder / f"{stem}.json", most=_LARGEST))
    except FileNotFoundError:
        return not any((folder / f"{stem}-{end}").exists() for end in ("rows.jsonl", "mistakes.json"))
    except (OSError, ValueError, DataFileError):
        return False
    return isinstance(found, dict) and found.get("source") == source


def _stems(name: str, targets: Collection[str], names: Mapping[str, str] | None = None) -> dict[str, str]:
    """Target → how the names of its files begin; ``names``: see ``write_evaluations``."""
    names = names or file_names(targets)
    return {target: name if len(targets) == 1 else f"{name}-{names[target]}" for target in targets}


def _write(
    folder: Path,
    stem: str,
    of: str,
    evaluation: Evaluation,
    before: Evaluation | None,
    image_of: ImageOf,
    *,
    draws: bool,
    keeps_rows: bool,
    source: str,
) -> Iterator[Path]:
    """The files, each once it is written."""
    for title, table in evaluation.tables.items():
        yield save_text(folder / f"{stem}-{title}.txt", f"{table}\n")
    of_rows = {"source": source} if source else {}
    yield save_json(folder / f"{stem}.json", {**of_rows, "metrics": dict(evaluation.metrics), **evaluation.data})
    if evaluation.rows and keeps_rows:
        lines = "".join(f"{json_text(row)}\n" for row in evaluation.rows)
        yield save_text(folder / f"{stem}-rows.jsonl", lines)
    if evaluation.mistakes is not None:
        yield save_json(folder / f"{stem}-mistakes.json", worst_of(evaluation.mistakes, image_of))
    if key := [line for name, labels in _labels(evaluation) for line in (f"{stem}-{name}.png:", *key_of(labels))]:
        yield save_text(folder / f"{stem}-labels.txt", "\n".join(key) + "\n")
    diagrams = []
    for path in _diagrams(folder, stem, of, evaluation, before) if draws else ():
        diagrams.append(path)
        yield path
    figures, mistakes = evaluation.figures, evaluation.mistakes
    path = folder / f"{stem}-mistakes.html"
    if isinstance(figures, BoxFigures):
        if draws and figures.report.all_labels.support:  # nothing is annotated: nothing is missed
            yield _boxes_page(path, of, figures, image_of)
    elif mistakes is not None:
        title = f"Worst mistakes ({of})"
        yield mistakes_page(
            mistakes, path, title=title, metrics=evaluation.metrics, image_of=image_of, diagrams=tuple(diagrams)
        )


def _diagrams(folder: Path, stem: str, of: str, evaluation: Evaluation, before: Evaluation | None) -> Iterator[Path]:
    """The PNG files, one after the other."""

    def path(name: str) -> Path:
        return folder / f"{stem}-{name}.png"

    figures = evaluation.figures
    if isinstance(figures, ClassFigures):
        if figures.classes.confusion is not None:
            confusion_matrix_png(figures.classes, path("confusion"), title=f"Confusion matrix ({of})")
            yield path("confusion")
        earlier = before.figures if before is not None and isinstance(before.figures, ClassFigures) else None
        after = reliability_curve(figures.confidence, figures.correct)
        first = reliability_curve(earlier.confidence, earlier.correct) if earlier else after
        reliability_png(first, after if earlier else None, path("reliability"), title=f"Reliability ({of})")
        yield path("reliability")
    if isinstance(figures, ClassFigures | SpanFigures) and figures.entities is not None:
        entity_bars_png(figures.entities, path("entities"))
        yield path("entities")
    if isinstance(figures, NumberFigures):
        predicted_true_png(figures.gold, figures.predicted, path("predicted-true"), title=f"Predicted and true ({of})")
        yield path("predicted-true")
        residuals_png(figures.gold, figures.predicted, path("residuals"), title=f"Residuals ({of})")
        yield path("residuals")
    if isinstance(figures, BoxFigures) and figures.report.all_labels.support:
        precision_recall_png(figures.report, path("precision-recall"), title=f"Precision and recall ({of})")
        yield path("precision-recall")
        detection_confusion_png(figures.report, path("confusion"), title=f"Confusion matrix ({of})")
        yield path("confusion")
    if curve := evaluation.data.get("coverage_risk"):
        coverage_png(curve, path("coverage"), title=f"Coverage and risk ({of})")
        yield path("coverage")


def _labels(evaluation: Evaluation) -> Iterator[tuple[str, Sequence[str]]]:
    """Diagram and its labels, where some of them cannot be drawn."""
    figures, found = evaluation.figures, {}
    if isinstance(figures, ClassFigures):
        found["confusion"] = figures.classes.confusion_labels
    if isinstance(figures, ClassFigures | SpanFigures) and figures.entities is not None:
        found["entities"] = [row.label for row in figures.entities.rows]
    if isinstance(figures, BoxFigures):
        found["confusion"] = figures.report.labels
    yield from ((name, labels) for name, labels in found.items() if key_of(labels))


def _boxes_page(path: Path, of: str, figures: BoxFigures, image_of: ImageOf) -> Path:
    images = [image_of(record) for record in figures.records]
    return boxes_page(
        figures.report, images, figures.gold, figures.predicted, path, title=f"Worst mistakes ({of})",
        opened=lambda image: image.open(), names=[image.name if image is not None else "" for image in images],
        rows=[str(record.location.row or "") for record in figures.records],
    )  # fmt: skip
