"""What recording a run by TensorBoard, Weights & Biases and MLflow at once costs it.

    python benchmarks/tracking.py [--pairs 5] [--seconds 60] [--seed 0]

Pairs of runs on the same rows with the same seed, one with all three trackers and one with none, in processes of their
own, first this one and then that one by turns. Compared are tokens per second of the loop's steps, and the whole run
from the call to the saved model. On a machine that is busy with other things the clock says little: so
the seconds of processor are kept too, those of the training during its steps, and those of the trackers from beginning to
end (without W&B's service, about a hundredth of a core). Each run writes to folders of its own, so that MLflow makes its
store every time, the most expensive thing that a tracker does. Appends to benchmarks/results/tracking.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from recording import keep

WORDS = [
    f"{first}{last}"
    for first in ("ba", "ko", "li", "mu", "ne", "po", "ra", "su")
    for last in ("dar", "len", "mik", "nos", "rit", "tul")
]
ALL = "tensorboard,wandb,mlflow"


def rows(count: int, seed: int) -> list[dict[str, str]]:
    """Texts of 20 to 60 words, of which two decide the class."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        words = [rng.choice(WORDS) for _ in range(rng.randint(20, 60))]
        label = rng.randrange(4)
        words[rng.randrange(len(words))] = WORDS[label]
        found.append({"text": " ".join(words), "label": f"class {label}"})
    return found


def run(track: str, seconds: float, seed: int, out: Path) -> dict[str, Any]:
    """One run, in this process."""
    from polydetr import Predictor
    from polydetr.training.callbacks import Display

    class Told(Display):
        """Keeps the processor seconds of the steps, evaluations between them included; says what a tracker did not do."""

        first = last = 0.0

        def step(self, info: Any) -> None:
            self.last = time.process_time()
            self.first = self.first or self.last

        def note(self, message: str) -> None:
            if message.startswith("track: "):
                print(message, file=sys.stderr)

    settings = {"track": track, "training": {"patience": 0, "precision": "fp32"}}
    told, began = Told(), time.monotonic()
    predictor = Predictor.fit(
        rows(2400, seed), "label", valid=rows(300, seed + 1), out=out, backbone="none", epochs=seconds / 10,
        seed=seed, settings=settings, display=told,
    )  # fmt: skip
    whole = time.monotonic() - began
    training = predictor.info["training"]
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "tokens_per_second": training["tokens_per_second"], "seconds": training["seconds"], "whole": round(whole, 2),
        "processor": round(told.last - told.first, 2), "steps": training["steps"],
        "trackers_processor": round(children.ru_utime + children.ru_stime, 2), "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip


def measured(track: str, seconds: float, seed: int, number: int) -> dict[str, Any]:
    """One run, in a process of its own."""
    with tempfile.TemporaryDirectory() as place:
        call = [
            sys.executable,
            __file__,
            "--one",
            track,
            "--seconds",
            str(seconds),
            "--seed",
            str(seed),
            "--out",
            f"{place}/model",
        ]
        done = subprocess.run(call, stdout=subprocess.PIPE, text=True, check=True)
        time.sleep(2)  # a tracker that still wrote would slow the next run
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"pair {number}, {track}: {found}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60.0, help="about what the steps of a run take")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(run(given.one, given.seconds, given.seed, given.out)))
        return
    pairs = []
    for number in range(given.pairs):
        order = ("none", ALL) if number % 2 else (ALL, "none")
        found = {track: measured(track, given.seconds, given.seed, number) for track in order}
        pairs.append((found["none"], found[ALL]))
    slower = [1 - tracked["tokens_per_second"] / alone["tokens_per_second"] for alone, tracked in pairs]
    longer = [tracked["whole"] - alone["whole"] for alone, tracked in pairs]
    line = {
        "name": "all three trackers against none", "pairs": given.pairs, "seed": given.seed,
        "steps_seconds": [round(alone["seconds"], 1) for alone, _ in pairs],
        "tokens_per_second": [[alone["tokens_per_second"], tracked["tokens_per_second"]] for alone, tracked in pairs],
        "slower_percent": [round(100 * s, 2) for s in slower],
        "slower_percent_median": round(100 * statistics.median(slower), 2),
        "processor_seconds_of_the_steps": [[alone["processor"], tracked["processor"]] for alone, tracked in pairs],
        "processor_seconds_of_the_trackers": [tracked["trackers_processor"] for _, tracked in pairs],
        "load": [[alone["load"], tracked["load"]] for alone, tracked in pairs],  # programs that wanted a core, a minute's mean
        "whole_seconds_longer_median": round(statistics.median(longer), 2),
    }  # fmt: skip
    print(json.dumps(keep("tracking", line)))


if __name__ == "__main__":
    main()
