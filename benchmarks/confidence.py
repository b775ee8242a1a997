"""Does a stated accuracy hold, and do intervals cover what they say? Small models of random weights (but for
boxes), so that it runs in minutes: the contract must hold for weak models too.

    python benchmarks/confidence.py accuracy --only banking77 --splits 5
    python benchmarks/confidence.py intervals --only diabetes

``accuracy``: five splits of all rows into training, validation and test, so that they are rows of one kind, which is what
the contract is about (some sets' own test rows are harder than rows held out of the training); on the test rows, the
accuracy of what is answered with ``accuracy=0.9`` and ``0.95``, and its share. ``intervals``: five folds, each measured on rows it did not
see, pooled; the share of true values inside intervals of 90 %. Lines go to results/confidence.jsonl.
"""

from __future__ import annotations

import argparse
import csv
import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from data import ROOT, Rows, Split, banking77, clinc150, conll2003, phrasebank, records, tnews
from polydetr import Options, Predictor, read_records
from polydetr.tasks.capabilities import Judged
from recording import keep

LEVELS = (0.9, 0.95)
LISTS = ROOT / "bccd" / "BCCD" / "ImageSets" / "Main"
SMALL: dict[str, Any] = {"model": {"embed_dim": 64, "num_layers": 2, "num_heads": 4}, "text": {"vocab_size": 6000}}
BOXES: dict[str, Any] = {
    "image": {"size": 224, "augment": {"flip_vertical": True}},
    "training": {"precision": "bf16", "freeze_layers": 6, "batch_tokens": 5 * 7**2},
    "steps": 500,
}
"""A pretrained backbone: without one, so few images give boxes of which none reaches the accuracy that is asked for."""


def bccd() -> Split:
    """Blood cells, read as Pascal VOC."""
    parts = (list(read_records(str(LISTS / f"{name}.txt"))) for name in ("train", "val", "test"))
    return Split(*parts, target={"objects": "detection"})


ACCURACY: dict[str, tuple[Callable[[], Split], dict[str, Any], float | None]] = {
    "banking77": (banking77, SMALL, 6),
    "clinc150": (clinc150, SMALL, 6),
    "tnews": (tnews, SMALL, 2),
    "phrasebank": (lambda: phrasebank(0), SMALL, 8),
    "conll2003": (conll2003, SMALL, 3),
    "bccd": (bccd, BOXES, None),
}
VALID_SHARE = 0.2


def accuracy(name: str, seed: int, *, most: int) -> None:
    """One split: the rows that train, those that choose and calibrate, and those that are asked are drawn anew."""
    read, settings, epochs = ACCURACY[name]
    split = read()
    rows = [*split.train, *split.valid, *split.test]
    random.Random(seed).shuffle(rows)
    asked = min(2000, len(rows) // 5)
    test, rows = rows[:asked], rows[asked:]
    rows, cut = rows[:most], int(min(most, len(rows)) * VALID_SHARE)
    model = Predictor.fit(
        rows[cut:], split.target, valid=rows[:cut], inputs=split.inputs, epochs=epochs, seed=seed, settings=settings,
        backbone=None if settings is BOXES else "none",
    )  # fmt: skip
    results = list(model._engine.run(test, with_targets=True))
    ((target, task),) = ((t, task) for t, task in model._engine.tasks.items() if isinstance(task, Judged))
    pairs = [(r.predictions[target], r.golds[target]) for r in results]
    answers = [answer for p, gold in pairs if gold is not None for answer in task.judge(p, gold)]
    confidence, right = np.array([c for c, _ in answers]), np.array([r for _, r in answers])
    for level in LEVELS:
        chosen = model.thresholds(level)[target]
        answered = confidence >= chosen.threshold
        line = keep("confidence", {
            "job": "accuracy", "data": name, "seed": seed, "stated": level, "reached_on_validation": chosen.reached,
            "accuracy": round(float(right[answered].mean()), 4) if answered.any() else None,
            "coverage": round(float(answered.mean()), 4), "all": round(float(right.mean()), 4),
            "expected_coverage": round(chosen.coverage, 4), "rows": len(rows), "answers": len(answers),
        })  # fmt: skip
        print(line)


def diabetes() -> tuple[Rows, dict[str, str]]:
    """442 patients, ten measures, the disease a year later (scikit-learn's copy)."""
    from sklearn.datasets import load_diabetes

    frame = load_diabetes(as_frame=True).frame
    return records(frame.to_dict("records"), "diabetes"), {"target": "regression"}


def _ratings() -> dict[str, list[float]]:
    stars: dict[str, list[float]] = defaultdict(list)
    with (ROOT / "ml-latest-small/ratings.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            stars[row["movieId"]].append(float(row["rating"]))
    return stars


def _movies(column: str) -> list[dict[str, Any]]:
    """Films of five ratings or more with their mean rating."""
    stars = _ratings()
    with (ROOT / "ml-latest-small/movies_with_tmdb_overview.csv").open(encoding="utf-8") as file:
        return [
            {**row, "mean_rating": round(float(np.mean(stars[row["movieId"]])), 3), "count": len(stars[row["movieId"]])}
            for row in csv.DictReader(file)
            if len(stars[row["movieId"]]) >= 5 and row.get(column)
        ]


def plots() -> tuple[Rows, dict[str, str]]:
    """A film's mean rating from its plot."""
    rows = _movies("overview")
    return records([{"plot": r["overview"], "mean_rating": r["mean_rating"]} for r in rows], "plots"), {
        "mean_rating": "regression"
    }


def films() -> tuple[Rows, dict[str, str]]:
    """A film's mean rating from its genres, year and number of ratings."""
    rows = [
        {
            "year": int(r["title"].rstrip()[-5:-1]) if r["title"].rstrip()[-5:-1].isdigit() else None,
            "count": r["count"],
            **{genre: int(genre in r["genres"]) for genre in ("Comedy", "Drama", "Horror", "Action", "Documentary")},
            "mean_rating": r["mean_rating"],
        }
        for r in _movies("title")
    ]
    return records(rows, "films"), {"mean_rating": "regression"}


def users() -> tuple[Rows, dict[str, str]]:
    """How much a user's ratings spread, from how many there are, their mean and when they began."""
    of_user: dict[str, list[tuple[float, int]]] = defaultdict(list)
    with (ROOT / "ml-latest-small/ratings.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            of_user[row["userId"]].append((float(row["rating"]), int(row["timestamp"])))
    rows = [
        {
            "ratings": len(given), "mean": float(np.mean([r for r, _ in given])), "lowest": min(r for r, _ in given),
            "began": min(t for _, t in given) / 1e8, "spread": float(np.std([r for r, _ in given])),
        }
        for given in of_user.values()
    ]  # fmt: skip
    return records(rows, "users"), {"spread": "regression"}


INTERVALS = {"diabetes": diabetes, "films": films, "users": users, "plots": plots}


def intervals(name: str, *, folds: int) -> None:
    """Every row is asked by the model of the fold that did not see it."""
    rows, target = INTERVALS[name]()
    random.Random(0).shuffle(rows)
    held, widths, column = [], [], next(iter(target))
    for fold in range(folds):
        test = rows[fold::folds]
        train = [row for i, row in enumerate(rows) if i % folds != fold]
        cut = int(len(train) * VALID_SHARE)
        model = Predictor.fit(
            train[cut:], target, valid=train[:cut], backbone="none", epochs=8, seed=fold, settings=SMALL
        )
        for row, answer in zip(test, model.answer(test, options=Options()), strict=True):
            low, high = answer.predictions[column].details.interval
            held.append(low <= row.row[column] <= high)
            widths.append(high - low)
    spread = float(np.std([row.row[column] for row in rows]))
    print(keep("confidence", {
        "job": "intervals", "data": name, "seed": 0, "folds": folds, "level": 0.9, "rows": len(rows),
        "coverage": round(float(np.mean(held)), 4), "width_in_std": round(float(np.mean(widths)) / spread, 3),
    }))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=("accuracy", "intervals"))
    parser.add_argument("--only", nargs="+", help="names of data sets; all when not given")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--most", type=int, default=12_000, help="training and validation rows at most")
    options = parser.parse_args()
    if options.job == "intervals":
        for name in options.only or INTERVALS:
            intervals(name, folds=options.splits)
        return
    for name in options.only or ACCURACY:
        for seed in range(options.splits):
            accuracy(name, seed, most=options.most)


if __name__ == "__main__":
    main()
