"""Studies that are killed at random moments and gone on with: no trial lost, none done twice, the same result.

    python benchmarks/tune_kills.py [--kills 20] [--seed 0] [--trials 6]

A study of real trainings (small model, rows written here) runs once undisturbed. Then, once per kill, it runs in a
process of its own that is killed (SIGKILL) at a random moment between its start and its end, and is gone on with by the
same call and ``resume=True``. Compared with the undisturbed study: number, settings, state, score and curve of every
trial, the trial that is kept, and the weights of the final model, to the byte. Twenty kills take about ten minutes on
two idle cores.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from polydetr import Predictor
from polydetr.training.callbacks import Display

sys.path.insert(0, str(Path(__file__).parent))
from kills import killed  # a process that is killed after some seconds

ROWS = [
    {"text": f"scene {i % 11} of a {('lovely', 'cold', 'warm', 'dull')[i % 4]} evening", "label": "ab"[i % 2]}
    for i in range(140)
]
SEARCH: dict[str, Any] = {
    "training": {"head_lr": {"low": 1e-5, "high": 2e-2, "log": True}, "schedule": ["linear", "cosine"]},
    "model": {"dropout": [0.0, 0.1, 0.3]},
}
SETTINGS: dict[str, Any] = {
    "model": {"embed_dim": 16, "num_layers": 1, "num_heads": 2},
    "training": {"batch_tokens": 64, "patience": 0, "precision": "fp32"},
}


def study(out: Path, trials: int) -> Predictor:
    """The whole study, or what is left of it."""
    return Predictor.tune(
        ROWS[:80], "label", valid=ROWS[80:], out=out, trials=trials, search=SEARCH, settings=SETTINGS, backbone="none",
        epochs=2, resume=True, display=Display(),
    )  # fmt: skip


def outcome(predictor: Predictor) -> tuple[Any, ...]:
    """What must be the same; times are not."""
    record = predictor.study
    assert record is not None
    assert predictor.folder is not None
    trials = [(t.number, dict(t.settings), t.state, t.score, list(t.curve)) for t in record.trials]
    return trials, record.best, record.kept, (predictor.folder / "model.safetensors").read_bytes()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=6)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    rng, failed, met = random.Random(given.seed), 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["POLYDETR_CACHE"] = f"{scratch}/cache"
        base = Path(scratch)
        expected = outcome(study(base / "whole", given.trials))  # the first study also loads everything
        began = time.monotonic()
        killed(lambda: study(base / "timed", given.trials), 3600)
        lasts = time.monotonic() - began
        for number in range(given.kills):
            out, after = base / f"study{number}", rng.uniform(0.0, lasts)
            was_killed = killed(lambda out=out: study(out, given.trials), after)
            met += was_killed
            found = outcome(study(out, given.trials))
            folders = len(list((base / f"study{number}.study" / "trials").iterdir()))
            same = found == expected and folders <= 4
            failed += not same
            states = " ".join(state for _, _, state, *_ in found[0])
            print(
                f"{number}: {'killed' if was_killed else 'ended'} after {after:.1f} s, {states}: {'same' if same else 'DIFFERS'}",
                flush=True,
            )
    print(
        f"{met} of {given.kills} killed within a study of {lasts:.0f} s; {given.kills - failed} of {given.kills} the same"
    )
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
