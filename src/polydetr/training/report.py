"""What a finished run leaves in its folder beside the weights: tables, JSON, images and the model card."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from polydetr.core.files import file_names, save_json, save_text
from polydetr.engine.engine import Engine
from polydetr.engine.render import image_of
from polydetr.fetch.catalog import BACKBONES
from polydetr.inference.kept_rows import write_rows
from polydetr.modalities.text import TextModality
from polydetr.reports.evaluation import expendable, write_evaluations
from polydetr.reports.model_card import model_card
from polydetr.reports.plots import learning_curve_png
from polydetr.tasks.capabilities import HasLabels
from polydetr.training.encode import write_rejected
from polydetr.training.fit import Trained


def write_run_reports(folder: Path, trained: Trained) -> None:
    """``reports/``, ``README.md`` and the kept rows. A report that cannot be made is a warning: the model is saved
    without it.

    Raises:
        OSError, SaveError: a file cannot be written.
    """
    reports = folder / "reports"
    reports.mkdir(exist_ok=True)
    engine, names = trained.assembly.engine, file_names(trained.assembly.engine.tasks)
    for split, evaluations in trained.evaluations.items():
        write_evaluations(
            reports, evaluations, name=split, image_of=partial(image_of, engine), names=names, draws=trained.draws,
            before=trained.before_calibration if split == "valid" else None,
            keeps_rows=trained.info["config"]["training"]["keep_rows"] > 0,
        )  # fmt: skip
    with expendable("reports/learning_curve.png"):
        if trained.history and trained.draws:
            best_step = trained.info["training"]["best_step"]
            best = next((e["epoch"] for e in trained.history if e["step"] == best_step), None)
            losses = _losses_by_epoch(trained)
            learning_curve_png(_curves(trained.history), reports / "learning_curve.png", best=best, losses=losses)
    save_json(reports / "history.json", {"evaluations": list(trained.history), "steps": dict(trained.step_losses)})
    if trained.kept is not None:
        write_rows(trained.kept, folder, engine.tasks)
    if trained.rejected:
        write_rejected(reports / "rejected.jsonl", trained.rejected)
    with expendable("README.md"):
        files = [path.relative_to(folder).as_posix() for path in sorted(reports.iterdir())]
        save_text(folder / "README.md", model_card(**_card(trained), reports=files))


def _losses_by_epoch(trained: Trained) -> list[tuple[float, float]]:
    """The epoch at the middle of the steps of each recorded loss, and the loss."""
    last, steps = trained.history[-1], trained.step_losses.get("steps_per_loss", 1)
    epochs = last["epoch"] / max(1, last["step"])
    return [((i + 0.5) * steps * epochs, loss) for i, loss in enumerate(trained.step_losses.get("losses", ()))]


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
    if "refit_rows" in info["training"]:
        limits.append(
            f"It was trained on all {info['training']['refit_rows']:,} rows, as many steps as a model that had not "
            "seen the validation rows: its scores on these, and its calibration, are of that model."
        )
    elif info["training"]["cross_validated"]:
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
