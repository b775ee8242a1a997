"""Runs that are killed: what they leave, and whether they go on as if nothing had happened.

    python benchmarks/kills.py [--saves 150] [--trainings 37] [--seed 0]

Saves: a process saves two models into one folder by turns and is killed (SIGKILL) at a random moment. Afterwards the
folder holds one of the two, whole, or, where the kill fell between the two moves of a save, its name is free and the
next save gives it back. A file of the user's own in the folder is there after every kill.

Trainings: a run is killed at a random moment and resumed, again and again until it ends. Its weights must be those of
the run that nobody killed, to the byte. Small models and rows written here; about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from polydetr import Predictor
from polydetr.errors import ModelFolderError
from polydetr.training import loop
from polydetr.training.callbacks import Display

ROWS = [
    {"text": f"scene {i % 11} of a {('lovely', 'cold', 'warm', 'dull')[i % 4]} evening", "label": "ab"[i % 2]}
    for i in range(80)
]
TURNED = [{**row, "label": {"a": "b", "b": "a"}[row["label"]]} for row in ROWS]
SETTINGS: dict[str, Any] = {
    "model": {"embed_dim": 16, "num_layers": 1, "num_heads": 2, "dropout": 0.2},
    "training": {"batch_tokens": 64, "patience": 0, "ema_decay": 0.9, "evaluations_per_epoch": 2},
}


def train(out: Path, rows: list[dict[str, str]] = ROWS, *, resume: bool = False) -> Predictor:
    """A run of about a second."""
    return Predictor.fit(
        rows[:60], "label", valid=rows[60:], out=out, backbone="none", epochs=3, settings=SETTINGS, resume=resume,
        display=Display(),
    )  # fmt: skip


def killed(work: Callable[[], Any], after: float) -> bool:
    """Whether ``work``, in a process of its own, was still at it when it was killed after so many seconds.

    Raises:
        RuntimeError: it failed by itself.
    """
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:  # an error
            os._exit(1)
    deadline = time.monotonic() + after
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if status:
                raise RuntimeError(f"the process ended with {status}")
            return False
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def kill_saves(count: int, base: Path, rng: random.Random) -> int:
    """Returns how many kills left something else than they may."""
    place, failed, half, between = base / "model", 0, 0, 0
    for name, rows in (("first", ROWS), ("second", TURNED)):
        train(base / name, rows)
    first, second = Predictor.load(base / "first"), Predictor.load(base / "second")  # which save at once
    first.save(place)
    answers = [p.predict_proba(ROWS[:4]) for p in (first, second)]
    (place / "notes.txt").write_text("mine")

    def by_turns() -> None:
        while True:
            second.save(place)
            first.save(place)

    for number in range(count):
        killed(by_turns, rng.uniform(0.0, 0.15))
        try:
            whole = Predictor.load(place).predict_proba(ROWS[:4]) in answers
        except ModelFolderError as error:
            whole = "An interrupted save left the model" in str(error)
            between += whole
        half += bool(list(base.glob(".model.*.new")))
        first.save(place)  # puts in order what was left
        kept = (place / "notes.txt").is_file()
        left = sorted(path.name for path in base.glob(".model.*"))
        if not whole or not kept or left:
            failed += 1
            print(f"kill {number}: whole {whole}, the user's file kept {kept}, left over {left}", flush=True)
    print(f"{count} kills: {half} left half a save, {between} fell between its two moves: {failed} failed", flush=True)
    return failed


def kill_trainings(count: int, base: Path, rng: random.Random) -> int:
    """Returns how many resumed runs ended with other weights."""
    loop.CHECKPOINT_SECONDS = 0.0  # every step can be gone on from
    failed = kills = 0
    began = time.monotonic()
    killed(lambda: train(base / "whole"), 600)
    lasts = time.monotonic() - began
    expected = (base / "whole" / "model.safetensors").read_bytes()
    for number in range(count):
        out = base / f"run{number}"
        while killed(lambda out=out: train(out, resume=True), rng.uniform(0.1, 1.1) * lasts):
            kills += 1
        if (out / "model.safetensors").read_bytes() != expected or out.with_name(f"{out.name}.checkpoint").exists():
            failed += 1
            print(f"run {number} ended with other weights", flush=True)
    print(f"{count} trainings, killed {kills} times and resumed: {failed} ended with other weights", flush=True)
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--saves", type=int, default=150)
    parser.add_argument("--trainings", type=int, default=37)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    generator = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["POLYDETR_CACHE"] = f"{scratch}/cache"
        wrong = kill_saves(given.saves, Path(scratch), generator)
        wrong += kill_trainings(given.trainings, Path(scratch), generator)
    sys.exit(bool(wrong))
