"""Whether a time limit holds: total seconds of the real command, and whether its model is better than none.

    python benchmarks/time_limit.py                          # everything: about three hours
    python benchmarks/time_limit.py --only text-300 pictures-400 --limits 30s 2m
    python benchmarks/time_limit.py --busy 2 --keep          # beside two busy processes

Each run is ``polydetr train ... --time-limit`` in a process of its own, from its start to its end; the limit holds where that is at
most a tenth or ten seconds more, whichever is more. The model is then scored apart, on rows that it never saw, beside the most frequent
class (accuracy) or the mean (R²), and, where the rows have a table, beside gradient boosting (scikit-learn's, its defaults) on the
table's columns alone. ``load`` is the system's at the end of the run: programs that want to compute, over the last minute.

text       300 sentences of 20 classes of BANKING77; 30,000 of TNEWS (Chinese, 15 classes); 300,000 of BANKING77 and CLINC150 (227
           classes), which have 37,000 in all: the others are those again with two words put in at random places, so that hardly two
           rows are copies.
table      100,000 rows of five numbers and two categories; the number to predict is a formula of them, with noise.
pictures   400 products of fashion_products, of the eight most frequent kinds, which are to be predicted.
mixed      the same pictures beside four columns that tell something of them.
bccd       205 images with blood cells to find (average precision; a model that finds nothing has 0).
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from busy import busy_processes
from data import ROOT, Split, banking77, clinc150, tnews

Rows = list[dict[str, Any]]
TEST_ROWS = 500
LIMITS = ("30s", "2m", "10m")


@dataclass(frozen=True)
class Case:
    """What one run reads. train: a file; test: rows or a file to score on; metric: of the target; table: the columns
    that boosting reads; arguments: of the command.
    """

    train: str
    test: Any
    target: str
    metric: str
    rows: int
    baseline: float
    table: float | None = None
    arguments: Sequence[str] = ()


# -- the rows ---------------------------------------------------------------------------------------------------------


def sentences(splits: Sequence[Split], column: str, count: int, folder: Path, *, classes: int | None = None) -> Case:
    """So many sentences of these sets, of their first classes where not all are wanted."""
    found = [
        (record.row[column], str(record.row[next(iter(split.target))]))
        for split in splits
        for record in (*split.train, *split.valid, *split.test)
    ]
    wanted = sorted({label for _, label in found})[:classes]
    found = [(sentence, label) for sentence, label in found if label in wanted]
    rng = random.Random(0)
    rng.shuffle(found)
    test, rest = found[:TEST_ROWS], found[TEST_ROWS:]
    words = [word for sentence, _ in rest[:2000] for word in sentence.split()[:3]]
    rows = rest[:count]
    while len(rows) < count:
        sentence, label = rng.choice(rest)
        parts = sentence.split()
        for _ in range(2):
            parts.insert(rng.randrange(len(parts) + 1), rng.choice(words))
        rows.append((" ".join(parts), label))
    train, scored = ([{"text": sentence, "label": label} for sentence, label in part] for part in (rows, test))
    return _classified(folder, train, scored, "label")


def table(count: int, folder: Path) -> Case:
    """Five numbers, two categories, and a formula of them with a deviation of the noise of a tenth."""
    rng = random.Random(0)
    effects = {f"port {i}": rng.gauss(0, 1) for i in range(12)}
    rows = []
    for _ in range(count + 5000):
        a, b, c, d, e = (rng.gauss(0, 1) for _ in range(5))
        port, kind = rng.choice(list(effects)), rng.choice("xyz")
        value = math.sin(2 * a) + b * c + effects[port] * (1.5 if kind == "x" else 0.5) + 0.3 * rng.gauss(0, 1)
        rows.append({"a": a, "b": b, "c": c, "d": d, "e": e, "port": port, "kind": kind, "value": value})
    train, test = rows[:count], rows[count:]
    boosted = _boosting(train, test, ["a", "b", "c", "d", "e"], ["port", "kind"], "value", classify=False)
    return Case(_written(folder, train), test, "value", "r2", count, 0.0, boosted, ("--target", "value"))


def pictures(folder: Path, *, mixed: bool) -> Case:
    """400 products, and with ``mixed`` what the shop says of them beside the picture."""
    images = ROOT / "fashion_products" / "images"
    with (ROOT / "fashion_products" / "styles.csv").open(encoding="utf-8", newline="") as file:
        rows = [r for r in csv.DictReader(file) if (images / f"{r['id']}.jpg").exists()]
    kinds = [kind for kind, _ in Counter(r["subCategory"] for r in rows).most_common(8)]
    rows = [r for r in rows if r["subCategory"] in kinds]
    random.Random(0).shuffle(rows)
    columns = ["gender", "baseColour", "season", "usage"] if mixed else []
    made = [
        {"picture": str(images / f"{r['id']}.jpg"), **{c: r[c] for c in columns}, "kind": r["subCategory"]}
        for r in rows
    ]
    train, test = made[:400], made[400 : 400 + TEST_ROWS]
    boosted = _boosting(train, test, [], columns, "kind", classify=True) if mixed else None
    case = _classified(folder, train, test, "kind", table=boosted)
    arguments = (*case.arguments, "--input", "picture:image", "--input", "*", "--set", f"image.root={images}")
    return Case(case.train, test, "kind", "accuracy", len(train), case.baseline, boosted, arguments)


def bccd(_: Path) -> Case:
    folder = ROOT / "bccd" / "BCCD"
    train, test = (folder / "ImageSets" / "Main" / f"{name}.txt" for name in ("train", "test"))
    return Case(str(train), str(test), "objects", "map", len(train.read_text().split()), 0.0)


CASES: dict[str, Callable[[Path], Case]] = {
    "text-300": lambda folder: sentences([banking77()], "text", 300, folder, classes=20),
    "text-30000": lambda folder: sentences([tnews()], "text", 30_000, folder),
    "text-300000": lambda folder: sentences([banking77(), clinc150()], "text", 300_000, folder),
    "table-100000": lambda folder: table(100_000, folder),
    "pictures-400": lambda folder: pictures(folder, mixed=False),
    "mixed-400": lambda folder: pictures(folder, mixed=True),
    "bccd": bccd,
}


def _classified(folder: Path, train: Rows, test: Rows, target: str, *, table: float | None = None) -> Case:
    most = Counter(row[target] for row in train).most_common(1)[0][0]
    majority = sum(row[target] == most for row in test) / len(test)
    return Case(_written(folder, train), test, target, "accuracy", len(train), majority, table, ("--target", target))


def _written(folder: Path, rows: Rows) -> str:
    path = folder / "train.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def _boosting(train: Rows, test: Rows, numbers: list[str], names: list[str], target: str, *, classify: bool) -> float:
    """Accuracy or R² of gradient boosting on these columns."""
    import numpy as np
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.preprocessing import OrdinalEncoder

    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    encoder.fit([[row[name] for name in names] for row in train])

    def matrix(rows: Rows) -> Any:
        found = np.array([[float(row[name]) for name in numbers] for row in rows]).reshape(len(rows), len(numbers))
        return np.hstack([found, encoder.transform([[row[name] for name in names] for row in rows])])

    model = HistGradientBoostingClassifier() if classify else HistGradientBoostingRegressor()
    model.fit(matrix(train), [row[target] for row in train])
    return float(model.score(matrix(test), [row[target] for row in test]))


# -- the runs ---------------------------------------------------------------------------------------------------------


def run(name: str, limit: str, busy: int, *, verbose: bool) -> dict[str, Any]:
    """One command, and the score of what it made."""
    from polydetr.config.sections import parse_duration

    with tempfile.TemporaryDirectory(prefix="polydetr-") as place:
        folder = Path(place)
        case, out = CASES[name](folder), folder / "model"
        call = [sys.executable, "-m", "polydetr", "train", "--train", case.train, *case.arguments]
        call += ["--time-limit", limit, "--out", str(out)]
        with busy_processes(busy):
            began = time.monotonic()
            done = subprocess.run(call, capture_output=True, text=True, check=False, cwd=folder)
            total = time.monotonic() - began
            load = os.getloadavg()[0]
        if verbose or done.returncode:
            print(done.stderr, file=sys.stderr)
        seconds = float(parse_duration(limit))  # type: ignore[arg-type]
        line = {
            "name": name, "rows": case.rows, "limit": seconds, "busy": busy, "load": round(load, 1), "total": round(total, 1),
            "holds": total <= seconds + max(10.0, seconds / 10),
            "plan": next((text for text in done.stderr.splitlines() if text.startswith("plan: ")), None),
            "metric": case.metric, "baseline": round(case.baseline, 4),
            "table_alone": None if case.table is None else round(case.table, 4),
        }  # fmt: skip
        if done.returncode:
            return {**line, "holds": False, "score": None, "error": done.stderr.splitlines()[-1][:300]}
        import polydetr

        metrics = polydetr.Predictor.load(out).evaluate(case.test)
        found = metrics[case.target if case.target in metrics else next(iter(metrics))]
        score = found[case.metric]
        best = max(case.baseline, -math.inf if case.table is None else case.table)
        return {**line, "score": round(score, 4), "at_least_baseline": score >= best}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--limits", nargs="+", default=list(LIMITS), help="as --time-limit takes them")
    parser.add_argument("--busy", type=int, default=0, help="busy processes beside each run")
    parser.add_argument("--keep", action="store_true", help="append the lines to results/time_limit.jsonl")
    parser.add_argument("--verbose", action="store_true", help="show what the runs say")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # through the blocks that end the busy processes
    for name in given.only:
        for limit in given.limits:
            line = run(name, limit, given.busy, verbose=given.verbose)
            if given.keep:
                from recording import keep

                line = keep("time_limit", line)
            print(json.dumps(line, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
