"""Tables of a few hundred rows with nothing said: polydetr without any setting, beside scikit-learn's models.

    python benchmarks/small_tables.py [wine breast_cancer diabetes] [--models polydetr linear ...] [--label note]

The training part of each of five folds is written to a CSV file, on which `Predictor.fit(file, "target")` trains as a
newcomer would. The folds and scikit-learn's models are those of tables.py: default settings, the linear model and the
network on standardized columns. Accuracy, of diabetes R². Appends one JSON line per table and model to
benchmarks/results/small_tables.jsonl.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from polydetr import Predictor
from recording import keep
from tables import fit_predict, folds, load, score

MODELS = ("polydetr", "linear", "boosting", "hist_boosting", "mlp")


def write_csv(path: Path, names: Sequence[str], x: np.ndarray, y: Sequence[object]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*names, "target"])
        writer.writerows([*row, target] for row, target in zip(x.tolist(), y, strict=True))


def with_nothing_said(
    x: np.ndarray, y: np.ndarray, new: np.ndarray, names: Sequence[str], *, regression: bool
) -> np.ndarray:
    """The predictions for ``new`` of a model that was trained on a CSV file, and told the target's name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.csv"
        write_csv(path, names, x, y.tolist() if regression else [f"class {label}" for label in y])
        predictor = Predictor.fit(str(path), "target")
    values = [row["target"] for row in predictor.predict([dict(zip(names, row, strict=True)) for row in new.tolist()])]
    return np.array(values if regression else [int(v.removeprefix("class ")) for v in values])


def measured(data: str, model: str, *, seed: int) -> tuple[list[float], float]:
    """(score of every fold, seconds)."""
    x, y, names, regression = load(data)
    scores, started = [], time.perf_counter()
    for train, test in folds(x, y, regression=regression, number=5, seed=seed):
        if model == "polydetr":
            predicted = with_nothing_said(x[train], y[train], x[test], names, regression=regression)
        else:
            predicted = fit_predict(
                model, x[train], y[train], x[test], names, regression=regression, seed=seed, settings={}
            )
        scores.append(score(predicted, y[test], regression=regression))
    return scores, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", default=["wine", "breast_cancer", "diabetes"])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--label", default="")
    arguments = parser.parse_args()
    if "POLYDETR_CACHE" not in os.environ:  # many tiny runs would fill the user's own
        folder = tempfile.TemporaryDirectory()
        os.environ["POLYDETR_CACHE"] = folder.name
    for data in arguments.data:
        for model in arguments.models:
            scores, seconds = measured(data, model, seed=arguments.seed)
            result = {
                "data": data,
                "model": model,
                "label": arguments.label,
                "metric": "r2" if load(data)[3] else "accuracy",
                "mean": round(float(np.mean(scores)), 4),
                "folds": [round(s, 4) for s in scores],
                "settings": "nothing said" if model == "polydetr" else "defaults",
                "seconds": round(seconds, 1),
                "seed": arguments.seed,
            }
            print(json.dumps({k: result[k] for k in ("data", "model", "mean", "folds", "seconds")}), flush=True)
            keep("small_tables", result)


if __name__ == "__main__":
    main()
