"""Tuning: what a trial costs beside a plain training, what a process that runs many keeps, and what a study gains.

    python benchmarks/tuning.py overhead phrasebank|small [--pairs 5]
    python benchmarks/tuning.py memory phrasebank|small [--trials 30]
    python benchmarks/tuning.py gain phrasebank-0|wine [--trials 20] [--time-limit 30m] [--rows N]

overhead: pairs of a plain training (``Predictor.fit``, saved) and a trial of the same settings over rows that are read
already, by turns; the first trial of a study, which encodes the rows as the plain training does, and a later one.
Seconds by the clock, and of the processor, which other programs do not make longer. Two cases: 400 sentences of
PhraseBank with the default backbone, and 800 short texts with a small model of its own, where steps cost nearly nothing.

memory: resident memory after 3 trials and after all, of settings that differ, in one process.

gain: a study with one seed (0) on the training rows, then the default and the settings that the study kept, trained
anew with three other seeds (1, 2, 3) and measured on test rows that no trial saw: the paired difference of the accuracy
with its 95 % interval, by a bootstrap over the test rows of the mean over seeds. Wine: a stratified fifth for the test.

Appends one JSON line per measurement to benchmarks/results/tuning.jsonl.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import data
import recording
from polydetr import Predictor
from polydetr.config.loading import load_config
from polydetr.training.callbacks import Display
from polydetr.training.read import read_splits
from polydetr.training.trials import SharedRows

SMALL: dict[str, Any] = {
    "backbone": "none",
    "model": {"embed_dim": 32, "num_layers": 1, "num_heads": 2},
    "training": {"batch_tokens": 256},
}
SEARCH_SEED, SEEDS = 0, (1, 2, 3)


def texts(count: int, start: int = 0) -> list[dict[str, str]]:
    words = ("lovely", "cold", "warm", "dull")
    return [
        {"text": f"scene {i % 11} of a {words[i % 4]} evening", "label": "good" if i % 2 == 0 else "bad"}
        for i in range(start, start + count)
    ]


def cases() -> dict[str, tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]], dict[str, Any]]]:
    """Name → training rows, validation rows, settings."""
    split = data.fewer(data.phrasebank(0), 400, None)
    rows = [[dict(record.row) for record in part] for part in (split.train, split.valid)]
    return {
        "phrasebank": (rows[0], rows[1], {"epochs": 1, "training": {"few_rows": False}}),
        "small": (texts(800), texts(100, start=5000), {**SMALL, "epochs": 4}),
    }


def shared(
    train: Sequence[Mapping[str, Any]], valid: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
) -> SharedRows:
    config = load_config(settings, target={"label": None})
    splits, schema = read_splits(config, train=list(train), valid=list(valid), test=None, display=Display())
    return SharedRows(config, schema, splits, notify=lambda message: None)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """(seconds by the clock, seconds of the processor)."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def overhead(case: str, pairs: int) -> None:
    train, valid, settings = cases()[case]
    times: dict[str, list[tuple[float, float]]] = {"plain": [], "first": [], "later": []}

    def plain(folder: Path) -> None:
        rows = list(train), list(valid)
        Predictor.fit(rows[0], "label", valid=rows[1], out=folder / "plain", config=settings, display=Display())

    for number in range(-1, pairs):  # the first one warms up
        rows = shared(train, valid, settings)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            works = {"plain": partial(plain, folder), "first": partial(rows.train, {}, out=folder / "first")}
            for part in works if number % 2 else reversed(works):
                times[part].append(timed(works[part]))
            times["later"].append(timed(partial(rows.train, {}, out=folder / "later")))
    line: dict[str, Any] = {"job": "overhead", "case": case, "pairs": pairs}
    for part, measured in times.items():
        for i, clock in enumerate(("seconds", "cpu_seconds")):
            line[f"{part}_{clock}"] = round(statistics.median(m[i] for m in measured[1:]), 2)
    for part in ("first", "later"):
        apart = [t[1] - p[1] for t, p in zip(times[part][1:], times["plain"][1:], strict=True)]
        line[f"{part}_minus_plain_cpu_seconds"] = round(statistics.median(apart), 2)
    print(recording.keep("tuning", line), flush=True)


def resident() -> float:
    """Megabytes of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def memory(case: str, trials: int) -> None:
    train, valid, settings = cases()[case]
    rng, seen = random.Random(0), []
    rows = shared(train[:160], valid[:40], {**settings, "epochs": 0.5})
    with tempfile.TemporaryDirectory() as folder:
        for number in range(trials):
            tried = {
                "training.head_lr": 10 ** rng.uniform(-4, -2), "training.weight_decay": rng.choice([0.0, 0.01, 0.1]),
                "model.dropout": rng.choice([0.0, 0.1, 0.3]), "text.max_tokens": rng.choice([96, 128]),
            }  # fmt: skip
            rows.train(tried, out=Path(folder) / f"{number:03d}")
            seen.append(round(resident(), 1))
    line = {"job": "memory", "case": case, "trials": trials, "after_3_mb": seen[2], "after_all_mb": seen[-1]}
    print(recording.keep("tuning", {**line, "growth": round(seen[-1] / seen[2] - 1, 4), "each_mb": seen}), flush=True)


def wine() -> data.Split:
    """A stratified fifth for the test; nothing is named to choose the weights by: the study holds out what it needs."""
    from sklearn.datasets import load_wine
    from sklearn.model_selection import train_test_split

    found = load_wine()
    rows = [
        {**dict(zip(found.feature_names, map(float, x), strict=True)), "label": f"class {y}"}
        for x, y in zip(found.data, found.target, strict=True)
    ]
    train, test = train_test_split(rows, test_size=0.2, random_state=0, stratify=[row["label"] for row in rows])
    return data.Split(data.records(train, "wine"), [], data.records(test, "wine"), target={"label": "classification"})


def gain(name: str, *, trials: int, limit: str | None, most: int | None) -> None:
    split = wine() if name == "wine" else data.SETS[name]()
    split = split if most is None else data.fewer(split, most, most)
    train, valid, test = ([dict(record.row) for record in part] for part in (split.train, split.valid, split.test))
    (target,) = split.target
    common: dict[str, Any] = {"valid": valid or None, "inputs": split.inputs, "display": Display()}
    wall, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        study = Predictor.tune(
            train, target, trials=trials, time_limit=limit, seed=SEARCH_SEED, out=Path(folder) / "model", **common
        )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    record = study.study
    best = next(trial for trial in record.trials if trial.number == record.best)
    sides: dict[str, np.ndarray] = {}
    for side, settings in (("default", {}), ("best", dict(best.settings))):
        right = []
        for seed in SEEDS:
            predictor = Predictor.fit(train, target, seed=seed, settings=nested(settings), **common)
            answers = predictor.predict([{k: v for k, v in row.items() if k != target} for row in test])
            right.append([a[target] == row[target] for a, row in zip(answers, test, strict=True)])
        sides[side] = np.array(right, dtype=float)  # (seeds, rows)
    apart = (sides["best"] - sides["default"]).mean(0)
    rng = np.random.default_rng(0)
    drawn = [apart[rng.integers(0, len(apart), len(apart))].mean() for _ in range(10_000)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    kept = record.kept == record.best and record.best != 0
    line = {
        "job": "gain", "set": name, "trials": len(record.trials), "states": [t.state for t in record.trials],
        "time_limit": limit, "study_seconds": round(wall, 1), "study_cpu_seconds": round(cpu, 1),
        "settings": dict(best.settings), "kept": "best" if kept else "default", "rows": [len(train), len(test)],
        "gain_of_study": None if record.gain is None else vars(record.gain),
        "default": [round(a, 4) for a in sides["default"].mean(1).tolist()],
        "best": [round(a, 4) for a in sides["best"].mean(1).tolist()],
        "best_minus_default": [round(float(v), 4) for v in (apart.mean(), low, high)],
        # What a user gets: the default where the study kept that.
        "kept_minus_default": [round(float(v), 4) for v in (apart.mean(), low, high)] if kept else [0.0, 0.0, 0.0],
    }  # fmt: skip
    print(recording.keep("tuning", line), flush=True)


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as a configuration has them."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        *sections, last = key.split(".")
        at = found
        for section in sections:
            at = at.setdefault(section, {})
        at[last] = value
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    jobs = parser.add_subparsers(dest="job", required=True)
    of_overhead, of_memory, of_gain = (jobs.add_parser(job) for job in ("overhead", "memory", "gain"))
    for part in (of_overhead, of_memory):
        part.add_argument("case", choices=("phrasebank", "small"))
    of_overhead.add_argument("--pairs", type=int, default=5)
    of_memory.add_argument("--trials", type=int, default=30)
    of_gain.add_argument("set", choices=("wine", *data.SETS))
    of_gain.add_argument("--trials", type=int, default=20)
    of_gain.add_argument("--time-limit")
    of_gain.add_argument("--rows", type=int, help="a random part of the rows, to try it")
    given = parser.parse_args()
    if given.job == "overhead":
        overhead(given.case, given.pairs)
    elif given.job == "memory":
        memory(given.case, given.trials)
    else:
        gain(given.set, trials=given.trials, limit=given.time_limit, most=given.rows)
