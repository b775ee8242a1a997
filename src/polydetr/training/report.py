"""What a finished run leaves in its folder beside the weights: tables, JSON, images and the model card."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polydetr.core.files import file_names, save_json, save_text
from polydetr.core.predictions import Evaluation
from polydetr.engine.engine import Engine
from polydetr.engine.render import image_of
from polydetr.errors import SaveError
from polydetr.fetch.catalog import BACKBONES
from polydetr.metrics.calibration import reliability_curve
from polydetr.modalities.text import TextModality
from polydetr.reports.detection import detection_confusion_png, precision_recall_png
from polydetr.reports.detection_page import mistakes_page
from polydetr.reports.model_card import model_card
from polydetr.reports.plots import (
    confusion_matrix_png,
    coverage_png,
    entity_bars_png,
    learning_curve_png,
    reliability_png,
)
from polydetr.tasks.capabilities import HasLabels
from polydetr.tasks.figures import BoxFigures, ClassFigures, SpanFigures
from polydetr.training.encode import write_rejected
from polydetr.training.fit import Trained


def write_run_reports(folder: Path, trained: Trained) -> None:
    """``reports/`` and ``README.md``. A report that cannot be made is a warning: the model is saved without it.

    Raises:
        OSError: a file cannot be written.
    """
    reports = folder / "reports"
    reports.mkdir(exist_ok=True)
    names = file_names(trained.assembly.engine.tasks)
    for split, evaluations in trained.evaluations.items():
        for target, evaluation in evaluations.items():
            name = split if len(evaluations) == 1 else f"{split}-{names[target]}"
            before = trained.before_calibration.get(target) if split == "valid" else None
            with _expendable(f"{name} in reports/"):
                _write_evaluation(reports, name, evaluation, before)
                if isinstance(evaluation.figures, BoxFigures):
                    _write_objects(reports, name, evaluation.figures, trained.assembly.engine)
    with _expendable("reports/learning_curve.png"):
        if trained.history:
            best_step = trained.info["training"]["best_step"]
            best = next((e["epoch"] for e in trained.history if e["step"] == best_step), None)
            learning_curve_png(_curves(trained.history), reports / "learning_curve.png", best=best)
    save_json(reports / "history.json", list(trained.history))
    if trained.rejected:
        write_rejected(reports / "rejected.jsonl", trained.rejected)
    with _expendable("README.md"):
        save_text(folder / "README.md", model_card(**_card(trained)))


class ReportWarning(UserWarning):
    """A report of a run could not be made."""


@contextmanager
def _expendable(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, SaveError):  # a full disk has no room for the model either
        raise
    except Exception as error:
        warnings.warn(f"{what} could not be made ({type(error).__name__}: {error})", ReportWarning, stacklevel=2)


def _write_evaluation(reports: Path, name: str, evaluation: Evaluation, before: Evaluation | None) -> None:
    for title, table in evaluation.tables.items():
        save_text(reports / f"{name}-{title}.txt", table + "\n")
    save_json(reports / f"{name}.json", {"metrics": dict(evaluation.metrics), **evaluation.data})
    if curve := evaluation.data.get("coverage_risk"):
        coverage_png(curve, reports / f"{name}-coverage.png", title=f"Coverage and risk ({name})")
    figures = evaluation.figures
    if isinstance(figures, ClassFigures):
        if figures.classes.confusion is not None:
            confusion_matrix_png(figures.classes, reports / f"{name}-confusion.png", title=f"Confusion matrix ({name})")
        earlier = before.figures if before is not None and isinstance(before.figures, ClassFigures) else None
        after = reliability_curve(figures.confidence, figures.correct)
        first = reliability_curve(earlier.confidence, earlier.correct) if earlier else after
        reliability_png(
            first, after if earlier else None, reports / f"{name}-reliability.png", title=f"Reliability ({name})"
        )
    if isinstance(figures, ClassFigures | SpanFigures) and figures.entities is not None:
        entity_bars_png(figures.entities, reports / f"{name}-entities.png")


def _write_objects(reports: Path, name: str, figures: BoxFigures, engine: Engine) -> None:
    report = figures.report
    if not report.all_labels.support:
        return  # nothing is annotated: there is no curve
    precision_recall_png(report, reports / f"{name}-precision-recall.png", title=f"Precision and recall ({name})")
    detection_confusion_png(report, reports / f"{name}-confusion.png", title=f"Confusion matrix ({name})")
    images = [image_of(engine, record) for record in figures.records]
    mistakes_page(
        report, images, figures.gold, figures.predicted, reports / f"{name}-mistakes.html",
        title=f"Worst mistakes ({name})", opened=lambda image: image.open(),
        names=[image.name if image is not None else "" for image in images],
    )  # fmt: skip


def _curves(history: Any) -> list[dict[str, Any]]:
    """One flat mapping per evaluation: losses, and each target's first metric."""
    rows = []
    for entry in history:
        row = {"epoch": entry["epoch"], "train_loss": entry["train_loss"], "valid_loss": entry["valid_loss"]}
        for target, metrics in entry["metrics"].items():
            name, value = next(iter(metrics.items()))
            row[f"{target} {name}"] = value
        rows.append(row)
    return rows


def _card(trained: Trained) -> dict[str, Any]:
    info, engine = trained.info, trained.assembly.engine
    schema, valid = info["schema"], trained.evaluations.get("valid", {})
    calibration = {
        target: {
            "temperature": engine.tasks[target].temperature,
            "ece_before": info["ece_before_calibration"].get(target),
            "ece_after": valid[target].metrics.get("ece") if target in valid else None,
        }
        for target, evaluation in trained.evaluations.get("valid", {}).items()
    }
    machine = info["machine"]
    source = Path(info["config"]["train"]).name if info["config"]["train"] else "rows from memory"
    train = {"rows": info["rows"]["train"], "source": source, "sha256": info["data_sha256"]}
    return {
        "name": Path(info["config"]["out"] or "model").name,
        "polydetr_version": info["versions"]["polydetr"],
        "date": info["created"][:10],
        "data": {split: {"rows": count} for split, count in info["rows"].items()} | {"train": train},
        "schema": {
            "inputs": {f["name"]: f["modality"] for f in schema["inputs"]},
            "targets": {
                t: {"task": task.kind, "labels": task.labels if isinstance(task, HasLabels) else []}
                for t, task in engine.tasks.items()
            },
        },
        "metrics": info["metrics"],
        "run": {
            "seed": info["config"]["seed"],
            "machine": f"{machine['system']}, {machine['device']}, {machine['threads']} threads",
            "date": info["created"][:10],
            "parameters": info["parameters"],
            **info["training"],
        },
        "calibration": calibration,
        "limits": _limits(info),
        "backbone": _backbone(engine),
        "example": {f["name"]: "..." for f in schema["inputs"] if f["modality"] == "text"},
    }


def _limits(info: dict[str, Any]) -> list[str]:
    limits = ["It was measured on rows like those it was trained on; other kinds of text may be predicted worse."]
    if info["training"]["cross_validated"]:
        limits.append(
            "Its rows are few. Each was answered by a model that had not seen it: these scores are of such models, "
            "which learned from fewer rows; how they were trained was chosen by the same rows."
        )
    elif "test" not in info["metrics"]:
        limits.append(
            "Its best weights and its calibration were chosen on the validation rows: those scores are a bit too good."
        )
    if info["rows"]["rejected"]:
        limits.append(
            f"{info['rows']['rejected']} unreadable rows were left out; they stand in reports/rejected.jsonl."
        )
    return limits


def _backbone(engine: Engine) -> dict[str, Any] | None:
    text = engine.encoder.modalities.get("text")
    if not isinstance(text, TextModality) or not text.is_pretrained:
        return None
    package = BACKBONES.get(text.spec.name)
    if package is None:
        return {"name": Path(text.spec.name).name if Path(text.spec.name).is_absolute() else text.spec.name}
    return {"name": package.name, "license": package.license, "source": f"{package.package} {package.version}"}
