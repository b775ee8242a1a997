"""What a model folder knows of its own measuring, as numbers: read from its description and from ``reports/``.

Training writes these files for its validation and test rows, ``polydetr evaluate --out`` for any other ones. Whatever
of them is missing or damaged leaves its place empty, and nothing here fails for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from polydetr.core.files import file_names
from polydetr.errors import ModelFolderError
from polydetr.inference.folder import own_file, read_json
from polydetr.inference.saved_run import numbers_in
from polydetr.metrics.calibration import wilson_interval
from polydetr.studio.slices import number_of

REPORTS = "reports"
MOST_CLASSES = 20
"""Of more classes than that, a confusion matrix shows those most often confused."""
MOST_ROW_BYTES = 16 << 20
_NOT_MEASURED = frozenset({"history", "cross_validation", "rejected"})
_SHARES = frozenset({"accuracy", "exact_match", "micro_f1"})
"""Metrics that are the share of rows that are right (of one label per row, micro F1 is)."""


@dataclass(frozen=True)
class Measured:
    """One target on one group of rows. data: what its file of ``reports/`` holds; rows: see ``engine.answered_rows``;
    mistakes: see ``reports.mistakes_data``. page: the name of the whole page of mistakes, "" where there is none.
    """

    split: str
    target: str
    task: str
    metrics: Mapping[str, float]
    data: Mapping[str, Any] = field(default_factory=dict)
    mistakes: Mapping[str, Any] = field(default_factory=dict)
    rows: Sequence[Mapping[str, Any]] = ()
    page: str = ""

    @property
    def count(self) -> int | None:
        """How many rows were measured."""
        for place in ((self.data.get("mistakes"), "rows"), (self.data.get("classes"), "total"), (self.data, "images")):
            found = place[0].get(place[1]) if isinstance(place[0], Mapping) else None
            if isinstance(found, int):
                return found
        return None


def targets_of(info: Mapping[str, Any]) -> dict[str, str]:
    """Target → its task, as a model's description has them."""
    listed = info.get("schema", {}).get("targets", ())
    return {str(one["name"]): str(one.get("task", "")) for one in listed if isinstance(one, Mapping) and "name" in one}


def splits_of(folder: Path, info: Mapping[str, Any]) -> list[str]:
    """The groups of rows that it was measured on: test rows first, nothing was chosen by them."""
    said = [str(name) for name in info.get("metrics") or {}]
    names = file_names(targets_of(info))
    found = list(said)
    with suppress(OSError):
        for path in sorted((folder / REPORTS).glob("*.json")):
            stem = path.stem
            if stem in _NOT_MEASURED or stem.endswith("-mistakes"):
                continue
            if len(names) > 1:
                stem = next((stem.removesuffix(f"-{n}") for n in names.values() if stem.endswith(f"-{n}")), stem)
            found.append(stem)
    return sorted(dict.fromkeys(found), key=lambda name: ({"test": 0, "valid": 1}.get(name, 2), name))


def measured(folder: Path, info: Mapping[str, Any], split: str, target: str) -> Measured:
    """Everything that is kept of one target on one group of rows."""
    targets = targets_of(info)
    stem = _stem(info, split, target)
    data = _read(folder, f"{stem}.json")
    metrics = numbers_in(data.get("metrics")) or numbers_in(info.get("metrics", {}).get(split, {}).get(target))
    page = f"{stem}-mistakes.html"
    there = (folder / REPORTS / page).is_file()
    return Measured(
        split, target, targets.get(target, ""), metrics, data, _read(folder, f"{stem}-mistakes.json"),
        list(_rows(folder, f"{stem}-rows.jsonl")), page if there else "",
    )  # fmt: skip


def _stem(info: Mapping[str, Any], split: str, target: str) -> str:
    """How the names of its files begin: see ``reports.evaluation``."""
    targets = targets_of(info)
    measured_here = info.get("metrics", {}).get(split)
    several = len(measured_here if isinstance(measured_here, Mapping) else targets) > 1
    return f"{split}-{file_names(targets)[target]}" if several and target in targets else split


def _read(folder: Path, name: str) -> Mapping[str, Any]:
    try:
        read = read_json(folder, f"{REPORTS}/{name}")
    except ModelFolderError:
        return {}
    return read if isinstance(read, Mapping) else {}


def _rows(folder: Path, name: str) -> Iterator[Mapping[str, Any]]:
    try:
        path = own_file(folder, f"{REPORTS}/{name}")
        if path.stat().st_size > MOST_ROW_BYTES:
            return
        lines = path.read_text(encoding="utf-8").splitlines()
    except (ModelFolderError, OSError, UnicodeDecodeError):
        return
    for line in lines:
        with suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, Mapping) and isinstance(row.get("row"), Mapping):
                yield row


def history_of(folder: Path, info: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The evaluations of its training."""
    read = _read(folder, "history.json").get("evaluations") or info.get("history")
    return [entry for entry in read if isinstance(entry, Mapping)] if isinstance(read, list) else []


# -- what is drawn -----------------------------------------------------------------------------------------------------


def with_interval(found: Measured) -> dict[str, tuple[float, tuple[float, float] | None]]:
    """Metric → its value and its interval of 95 %, None where none is known: Wilson's of a share of rows."""
    told = {
        name: value for name, value in found.metrics.items() if not name.endswith(("_low", "_high")) and name != "total"
    }
    by_words = bool(found.data.get("tokens"))  # words of one row are no independent ones
    return {
        name: (value, _interval(found, name, value) if not by_words else None)
        for name, value in told.items()
    }  # fmt: skip


def _interval(found: Measured, name: str, value: float) -> tuple[float, float] | None:
    low, high = found.metrics.get(f"{name}_low"), found.metrics.get(f"{name}_high")
    if low is not None and high is not None:
        return low, high
    if name == "mae" and (errors := _errors(found.rows)):
        half = 1.96 * float(np.std(errors, ddof=1)) / float(np.sqrt(len(errors)))
        return max(0.0, value - half), value + half
    single = name != "micro_f1" or value == found.metrics.get("accuracy")
    if name in _SHARES and single and (count := found.count) and 0 <= value <= 1:
        return wilson_interval(value, count)
    return None


def _errors(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """How far the answers of the kept rows are off; nothing of too few of them."""
    pairs = [(number_of(row.get("gold")), number_of(row.get("answer"))) for row in rows]
    errors = [abs(answer - gold) for gold, answer in pairs if gold is not None and answer is not None]
    return errors if len(errors) > 1 else []


@dataclass(frozen=True)
class Confusion:
    """names: of rows and columns; cells: (gold, predicted, count); pairs: the most frequent mistakes with the share of
    their gold rows; classes: how many there are in all.
    """

    names: Sequence[str]
    cells: Sequence[tuple[int, int, int]]
    pairs: Sequence[tuple[str, str, int, float]]
    classes: int


def confusion_of(data: Mapping[str, Any], *, nothing: str, others: str, most: int = MOST_CLASSES) -> Confusion | None:
    """The matrix of a file of ``reports/``; of many classes those most often confused, and one for all others.

    nothing: the name of what is no object, in matrices of boxes. others: of all other classes, with {count} in it.
    """
    places = [data, *(value for value in data.values() if isinstance(value, Mapping))]
    held = next((p["confusion"] for p in places if isinstance(p.get("confusion"), Mapping)), None)
    if held is None:
        return None
    try:
        labels = [str(label) for label in held["labels"]]
        cells = np.array(_cells(held), dtype=np.int64).reshape(-1, 3)
    except (KeyError, TypeError, ValueError):
        return None
    if len(cells) and cells[:, :2].max() >= len(labels):
        labels += [nothing] * (int(cells[:, :2].max()) + 1 - len(labels))
    if not labels or (len(cells) and cells.min() < 0):
        return None
    wrong = cells[cells[:, 0] != cells[:, 1]]
    wrong = wrong[np.argsort(-wrong[:, 2], kind="stable")]
    support = np.bincount(cells[:, 0], cells[:, 2], len(labels)) if len(cells) else np.zeros(len(labels))
    pairs = [
        (labels[i], labels[j], int(count), float(count / support[i])) for i, j, count in wrong[:most] if count
    ]  # fmt: skip
    if len(labels) <= most + 1:
        return Confusion(labels, [(int(i), int(j), int(n)) for i, j, n in cells if n], pairs, len(labels))
    chosen = list(dict.fromkeys(int(i) for cell in wrong for i in cell[:2] if cell[2]))[:most]
    if not chosen:  # nothing is confused: the most frequent ones
        chosen = [int(i) for i in np.argsort(-support, kind="stable")[:most]]
    group = np.full(len(labels), len(chosen))
    group[chosen] = np.arange(len(chosen))
    merged = np.zeros((len(chosen) + 1,) * 2, np.int64)
    np.add.at(merged, (group[cells[:, 0]], group[cells[:, 1]]), cells[:, 2])
    names = [*(labels[i] for i in chosen), others.format(count=f"{len(labels) - len(chosen):,}")]
    return Confusion(names, [(int(i), int(j), int(merged[i, j])) for i, j in np.argwhere(merged)], pairs, len(labels))


def _cells(held: Mapping[str, Any]) -> list[list[int]]:
    if "cells" in held:
        return held["cells"]
    matrix = np.array(held["matrix"], dtype=np.int64)
    places = np.argwhere(matrix)
    return np.column_stack([places, matrix[tuple(places.T)]]).tolist() if len(places) else []


def label_scores(data: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Label → support, precision, recall, f1: of classes, of entities by type, of boxes; the most frequent first."""
    found: Any = None
    for place, key in (("classes", "labels"), ("entities", "types"), ("tokens", "labels")):
        part = data.get(place)
        if isinstance(part, Mapping) and isinstance(part.get(key), Mapping):
            found = part[key]
            break
    else:
        found = data.get("labels") if isinstance(data.get("labels"), Mapping) else {}
    scores = {str(label): numbers_in(values) for label, values in found.items()}
    return dict(sorted(scores.items(), key=lambda one: -one[1].get("support", 0.0)))


def reliability_of(data: Mapping[str, Any]) -> list[tuple[float, float, int]]:
    """(mean confidence, share that is right, answers) of each bin."""
    return [(c, a, int(n)) for c, a, n in _columns(data.get("reliability"), "confidence", "accuracy", "count")]


def coverage_of(data: Mapping[str, Any]) -> list[tuple[float, float, float]]:
    """(coverage, share of wrong answers, threshold), from few answers to all."""
    return [(c, r, t) for c, r, t in _columns(data.get("coverage_risk"), "coverage", "risk", "threshold")]


def _columns(held: Any, *names: str) -> list[tuple[float, ...]]:
    """Lists of numbers of one length, side by side; nothing where that is not what is held."""
    if not isinstance(held, Mapping):
        return []
    try:
        return [tuple(map(float, row)) for row in zip(*(held[name] for name in names), strict=True)]
    except (KeyError, TypeError, ValueError):
        return []


def curves_of(history: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """ "loss", "score" → name of a curve → (step, value): the losses, and each target's first metric."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {"loss": {}, "score": {}}

    def add(kind: str, name: str, step: Any, value: Any) -> None:
        if isinstance(step, int | float) and isinstance(value, int | float) and np.isfinite(value):
            found[kind].setdefault(name, []).append((float(step), float(value)))

    for entry in history:
        step = entry.get("step")
        for name in ("train_loss", "valid_loss"):
            add("loss", name, step, entry.get(name))
        by_target = entry.get("metrics")
        for target, metrics in by_target.items() if isinstance(by_target, Mapping) else ():
            first = next(iter(numbers_in(metrics).items()), None)
            if first is not None:
                add("score", f"{target} {first[0]}" if len(by_target) > 1 else first[0], step, first[1])  # type: ignore[arg-type]
    return found
