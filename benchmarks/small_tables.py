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
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from polydetr import Predictor
from tables import fit_predict, measure_and_keep, with_own_cache

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


def predicted(
    model: str, x: np.ndarray, y: np.ndarray, new: np.ndarray, names: Sequence[str], *, regression: bool, seed: int
) -> np.ndarray:
    if model == "polydetr":
        return with_nothing_said(x, y, new, names, regression=regression)
    return fit_predict(model, x, y, new, names, regression=regression, seed=seed, settings={})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", default=["wine", "breast_cancer", "diabetes"])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--label", default="")
    arguments = parser.parse_args()
    with_own_cache()
    for data in arguments.data:
        for model in arguments.models:
            said = {"settings": "nothing said" if model == "polydetr" else "defaults", "label": arguments.label}
            measure_and_keep("small_tables", predicted, data, model, seed=arguments.seed, said=said)


if __name__ == "__main__":
    main()
