"""Rows and settings small enough to train in a second, and the command line in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polydetr.training.callbacks import Display

GOOD, BAD = ("lovely", "warm", "bright"), ("dreary", "cold", "dull")
SETTINGS: dict[str, Any] = {
    "model": {"embed_dim": 16, "num_layers": 1, "num_heads": 2},
    "training": {"batch_tokens": 64, "patience": 0, "head_lr": 5e-3},
}
FLAGS = ["--backbone", "none", "--set", "model.embed_dim=16", "--set", "model.num_layers=1",
         "--set", "training.batch_tokens=64", "--set", "training.head_lr=5e-3"]  # fmt: skip


def film_rows(count: int, *, start: int = 0) -> list[dict[str, Any]]:
    """Two classes that one word tells apart, a number that goes with them, and the word as an entity."""
    rows = []
    for i in range(start, start + count):
        word = (GOOD if i % 2 else BAD)[i % 3]
        text = f"scene {i % 11} of a {word} evening"
        at = text.index(word)
        span = {"start": at, "end": at + len(word), "label": "MOOD"}
        label, stars = ("good", 4.5) if i % 2 else ("bad", 1.5)
        rows.append({"text": text, "label": label, "stars": stars, "entities": [span]})
    return rows


def plain_rows(count: int, *, start: int = 0) -> list[dict[str, Any]]:
    """Text and label alone."""
    return [{"text": row["text"], "label": row["label"]} for row in film_rows(count, start=start)]


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    lines = ["text,label", *(f"{row['text']},{row['label']}" for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def polydetr(*arguments: object, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """The command line as a user runs it."""
    call = [sys.executable, "-m", "polydetr", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(call, input=stdin, capture_output=True, text=True, check=False, env=environment)


class Quiet(Display):
    """Keeps the notes of a run."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)
