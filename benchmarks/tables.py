"""Tables inside scikit-learn: repeated 5-fold cross-validation, polydetr beside scikit-learn's own models.

    python benchmarks/tables.py [breast_cancer wine diabetes digits] [--models polydetr forest ...] [--repeats 1]
                                [--set training.head_lr=1e-3] [--label note]

The folds are the same for every model. scikit-learn's models have their default settings; the networks and the linear
models see standardized columns. polydetr keeps a tenth of each fold's training rows to choose its weights by. Its
settings (SETTINGS, OF_TABLE) were chosen by ``tune`` (--tune), which sees the training part of the first fold alone. Appends one JSON line per table and model to benchmarks/results/tables.jsonl.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from polydetr import Predictor
from polydetr.config.loading import merge, parse_settings
from recording import keep

SETTINGS: dict[str, Any] = {
    "backbone": "none",
    "epochs": 20,
    "model": {"embed_dim": 32, "num_layers": 2},
    "training": {
        "head_lr": 1e-3, "batch_tokens": 512, "patience": 0, "ema_decay": 0.99,
        "precision": "fp32",  # in bfloat16 the third digit of a number is rounded
    },
}  # fmt: skip
OF_TABLE: dict[str, dict[str, Any]] = {
    "breast_cancer": {"table": {"numbers": "standard", "embedding": "linear"}, "model": {"num_layers": 1}}
}
"""What a table has of its own. Inner scores of ``tune`` (seed 0; breast cancer, wine, diabetes), of 341, 142 and 353 rows:

    SETTINGS alone                               0.965  0.958  0.464
    epochs 40                                    0.969  0.958  0.459
    numbers standard                             0.963  0.950  0.431
    numbers standard, embedding linear           0.978  0.950  0.387
    the same, epochs 40, dropout 0.1             0.974  0.944  0.375

and of breast cancer alone, with standard numbers and the linear embedding: one layer 0.980; weight decay 0.1 0.978;
label smoothing 0.1 0.974; a fifth of the cells hidden 0.974; head_lr 3e-3 0.971.
"""
Predict = Callable[..., np.ndarray]
"""(model, training rows, their targets, rows to predict, names of the columns, regression=, seed=) → predictions."""


def load(name: str) -> tuple[np.ndarray, np.ndarray, list[str], bool]:
    """(rows, target, column names, whether it is a regression); all of them lie inside scikit-learn."""
    from sklearn import datasets

    found = getattr(datasets, f"load_{name}")(**({"scaled": False} if name == "diabetes" else {}))
    return found.data, found.target, [str(n) for n in found.feature_names], name == "diabetes"


def polydetr_predict(
    x: np.ndarray, y: np.ndarray, new: np.ndarray, names: Sequence[str], *,
    regression: bool, seed: int, settings: dict[str, Any],
) -> np.ndarray:  # fmt: skip
    rows = [dict(zip(names, map(float, row), strict=True)) for row in new]
    train = [
        {**dict(zip(names, map(float, row), strict=True)), "target": target if regression else f"class {target}"}
        for row, target in zip(x, y.tolist(), strict=True)
    ]
    predictor = Predictor.fit(
        train, {"target": "regression" if regression else "classification"},
        inputs=dict.fromkeys(names, "number"), seed=seed, config=settings,
    )  # fmt: skip
    values = [answer["target"] for answer in predictor.predict(rows)]
    return np.array(values if regression else [int(v.removeprefix("class ")) for v in values])


def baseline(name: str, *, regression: bool, seed: int) -> Any:
    """A model of scikit-learn with its default settings; columns standardized where it cares."""
    from sklearn import ensemble, linear_model, neural_network
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    kind = "Regressor" if regression else "Classifier"
    trees = {"hist_boosting": "HistGradientBoosting", "boosting": "GradientBoosting", "forest": "RandomForest"}
    if name in trees:
        return getattr(ensemble, trees[name] + kind)(random_state=seed)
    if name == "mlp":
        return make_pipeline(StandardScaler(), getattr(neural_network, f"MLP{kind}")(max_iter=1000, random_state=seed))
    linear = linear_model.RidgeCV() if regression else linear_model.LogisticRegression(max_iter=1000)
    return make_pipeline(StandardScaler(), linear)


MODELS = ("polydetr", "hist_boosting", "boosting", "forest", "mlp", "linear")


def folds(x: np.ndarray, y: np.ndarray, *, regression: bool, number: int, seed: int) -> list[tuple[Any, Any]]:
    from sklearn.model_selection import KFold, StratifiedKFold

    splitter = (KFold if regression else StratifiedKFold)(number, shuffle=True, random_state=seed)
    return list(splitter.split(x, y))


def score(predicted: np.ndarray, truth: np.ndarray, *, regression: bool) -> float:
    """R² or accuracy."""
    if regression:
        return float(1 - np.square(truth - predicted).sum() / np.square(truth - truth.mean()).sum())
    return float((predicted == truth).mean())


def fit_predict(
    model: str, x: np.ndarray, y: np.ndarray, new: np.ndarray, names: Sequence[str], *,
    regression: bool, seed: int, settings: dict[str, Any],
) -> np.ndarray:  # fmt: skip
    if model == "polydetr":
        return polydetr_predict(x, y, new, names, regression=regression, seed=seed, settings=settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the network says that it has not converged: those are its defaults
        return baseline(model, regression=regression, seed=seed).fit(x, y).predict(new)


def cross_validate(predict: Predict, data: str, model: str, *, repeats: int, seed: int) -> tuple[list[float], float]:
    """(score of every fold, seconds). predict: see ``fit_predict``."""
    x, y, names, regression = load(data)
    started = time.perf_counter()
    scores = []
    for repeat in range(repeats):
        for train, test in folds(x, y, regression=regression, number=5, seed=seed + repeat):
            answers = predict(model, x[train], y[train], x[test], names, regression=regression, seed=seed + repeat)
            scores.append(score(answers, y[test], regression=regression))
    return scores, time.perf_counter() - started


def measure_and_keep(
    benchmark: str, predict: Predict, data: str, model: str, *, seed: int, said: dict[str, Any], repeats: int = 1
) -> None:
    """Prints a line of one table and model, and keeps it. said: what the record holds beside the scores."""
    scores, seconds = cross_validate(predict, data, model, repeats=repeats, seed=seed)
    result = {
        "data": data,
        "model": model,
        "metric": "r2" if load(data)[3] else "accuracy",
        "mean": round(float(np.mean(scores)), 4),
        "deviation_of_folds": round(float(np.std(scores)), 4),
        "folds": [round(s, 4) for s in scores],
        **said,
        "seconds": round(seconds, 1),
        "seed": seed,
    }
    print(json.dumps({k: result[k] for k in ("data", "model", "mean", "deviation_of_folds", "seconds")}), flush=True)
    keep(benchmark, result)


def with_own_cache() -> None:
    """Hundreds of tiny runs would fill the user's cache: they get one that goes with the process."""
    if "POLYDETR_CACHE" not in os.environ:
        folder = tempfile.TemporaryDirectory()
        atexit.register(folder.cleanup)
        os.environ["POLYDETR_CACHE"] = folder.name


def tune(data: str, *, settings: dict[str, Any], seed: int, number: int = 4) -> float:
    """Mean score of one choice of settings, by cross-validation inside the training part of the first fold."""
    x, y, names, regression = load(data)
    first, _ = folds(x, y, regression=regression, number=5, seed=seed)[0]
    x, y = x[first], y[first]
    found = []
    for train, valid in folds(x, y, regression=regression, number=number, seed=seed + 1000):
        predicted = polydetr_predict(
            x[train], y[train], x[valid], names, regression=regression, seed=seed, settings=settings
        )
        found.append(score(predicted, y[valid], regression=regression))
    return float(np.mean(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", default=["breast_cancer", "wine", "diabetes"])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--label", default="")
    parser.add_argument("--tune", action="store_true", help="print the inner score of the settings and write nothing")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    arguments = parser.parse_args()
    given = parse_settings(arguments.settings)
    with_own_cache()
    for data in arguments.data:
        settings = merge(merge(SETTINGS, {} if arguments.tune else OF_TABLE.get(data, {})), given)
        if arguments.tune:
            print(json.dumps({"data": data, "inner": round(tune(data, settings=settings, seed=arguments.seed), 4)}))
            continue
        for model in arguments.models:
            said = {
                "repeats": arguments.repeats,
                "settings": settings if model == "polydetr" else "defaults",
                "label": arguments.label,
            }
            measure_and_keep(
                "tables", partial(fit_predict, settings=settings), data, model,
                seed=arguments.seed, said=said, repeats=arguments.repeats,
            )  # fmt: skip


if __name__ == "__main__":
    main()
