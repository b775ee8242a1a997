"""Rows of four numbers and four photos with a number to predict: the whole model, the table alone, and gradient boosting
on the numbers alone.

    python benchmarks/mixed.py --data SHARED/data/clothing_small [--time-limit 5m] [--models polydetr table boosting]
                               [--set training.freeze_backbones=true]

Parcels of used clothes, made for this: 375 to learn from, 375 to be measured on, each with photos of four garments
(of the set's training folders for the ones, of its validation and test folders for the others) and four numbers. The
price rises with the worth of the garments, which only the photos show, falls with age, jumps with the rating, and is
noisy (``price``). R², and the share of the variance that is no noise. Appends one JSON line per model to
benchmarks/results/mixed.jsonl.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from polydetr import Predictor
from polydetr.config.loading import parse_settings
from recording import keep
from tables import score

ROWS = 375
WORTH = {
    "outwear": 60, "dress": 45, "shoes": 50, "pants": 30, "longsleeve": 25, "shirt": 22, "skirt": 20, "shorts": 14,
    "t-shirt": 8, "hat": 6,
}  # fmt: skip
"""Of one garment, new."""
NUMBERS = ("age", "rating", "pieces", "distance")


def price(worth: np.ndarray, numbers: dict[str, np.ndarray], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(prices, prices without their noise). worth: of the four garments, summed."""
    kept = np.exp(-numbers["age"] / 500) * np.where(numbers["rating"] > 3.2, 1.3, 0.8)
    exact = (90 + worth) * kept + 18 * np.sqrt(numbers["pieces"]) - 20 * (numbers["distance"] > 40)
    return exact + rng.normal(0, 18, len(exact)), exact


def parcels(photos: dict[str, list[Path]], rng: np.random.Generator) -> tuple[list[dict[str, Any]], float]:
    """(rows, share of the variance that is no noise). photos: class → files."""
    classes = sorted(photos)
    drawn = rng.integers(0, len(classes), (ROWS, 4))
    worth = np.array([[WORTH[classes[c]] for c in four] for four in drawn]).sum(1)
    numbers = {
        "age": rng.gamma(2.0, 150.0, ROWS), "rating": rng.uniform(1, 5, ROWS),
        "pieces": rng.integers(4, 40, ROWS).astype(float), "distance": rng.exponential(30.0, ROWS),
    }  # fmt: skip
    prices, exact = price(worth, numbers, rng)
    rows = [
        {
            "photos": [str(rng.choice(photos[classes[c]])) for c in four],
            **{name: round(float(values[i]), 2) for name, values in numbers.items()},
            "price": round(float(prices[i]), 2),
        }
        for i, four in enumerate(drawn)
    ]
    return rows, score(exact, prices, regression=True)


def made(data: Path, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]], float]:
    """(rows to learn from, rows to be measured on, the best R² there that anything can have)."""
    rng = np.random.default_rng(seed)

    def photos(*parts: str) -> dict[str, list[Path]]:
        return {name: sorted(f for part in parts for f in (data / part / name).iterdir()) for name in WORTH}

    train, _ = parcels(photos("train"), rng)
    test, best = parcels(photos("validation", "test"), rng)
    return train, test, best


def predicted(
    model: str, train: Sequence[dict[str, Any]], test: Sequence[dict[str, Any]], *,
    seed: int, time_limit: str, settings: dict[str, Any],
) -> np.ndarray:  # fmt: skip
    if model == "boosting":
        from sklearn.ensemble import GradientBoostingRegressor

        x, new = (np.array([[row[name] for name in NUMBERS] for row in rows]) for rows in (train, test))
        return GradientBoostingRegressor(random_state=seed).fit(x, [row["price"] for row in train]).predict(new)
    left_out = {"photos"} if model == "table" else set()
    rows = [{k: v for k, v in row.items() if k not in left_out} for row in train]
    inputs = dict.fromkeys(NUMBERS, "number") | ({} if left_out else {"photos": "image"})
    predictor = Predictor.fit(rows, "price", inputs=inputs, time_limit=time_limit, seed=seed, settings=settings)
    asked = [{k: v for k, v in row.items() if k not in {*left_out, "price"}} for row in test]
    return np.array([answer["price"] for answer in predictor.predict(asked)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["boosting", "table", "polydetr"])
    parser.add_argument("--time-limit", default="5m")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--label", default="")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    arguments = parser.parse_args()
    settings = parse_settings(arguments.settings)
    train, test, best = made(arguments.data, arguments.seed)
    truth = np.array([row["price"] for row in test])
    for model in arguments.models:
        started = time.perf_counter()
        found = predicted(
            model, train, test, seed=arguments.seed, time_limit=arguments.time_limit,
            settings={} if model == "table" else settings,
        )  # fmt: skip
        result = {
            "model": model, "label": arguments.label, "r2": round(score(found, truth, regression=True), 4),
            "best_possible": round(best, 4), "seconds": round(time.perf_counter() - started, 1),
            "time_limit": arguments.time_limit, "settings": settings if model == "polydetr" else {},
            "seed": arguments.seed,
        }  # fmt: skip
        print(json.dumps(result), flush=True)
        keep("mixed", result)


if __name__ == "__main__":
    main()
