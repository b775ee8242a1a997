"""The pictures of docs/guide/tracking.md: two runs in all three trackers, TensorBoard's page as a browser shows it.

    python benchmarks/tracking_pictures.py [--browser /usr/bin/chromium] [--folder DIR]

Trains two models of a few seconds on sentences written here, one word of which tells how they are meant; of a tenth
the labels are drawn, so that there are mistakes to see. Prints the tree of what the trackers wrote, and what a script reads
back from W&B's file and MLflow's store. Needs polydetr[track] and a Chromium.
"""

from __future__ import annotations

import argparse
import random
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from PIL import Image

from polydetr import Predictor
from polydetr.training import tracking

PICTURES = Path(__file__).parents[1] / "docs" / "guide" / "pictures"
KINDS = {
    "praise": ("lovely", "bright", "moving", "witty", "tender"),
    "blame": ("dreary", "dull", "clumsy", "noisy", "stale"),
    "neither": ("long", "French", "recent", "silent", "second"),
}
LOGS = "tracking.runs/tensorboard"
PAGES = {
    "scalars": "#scalars&tagFilter=accuracy%7Closs%7Clr&_smoothingWeight=0",
    "images": "#images&tagFilter=confusion%7Cattention/label/1%7Cexplanation/label/1",
    "text": "#text&tagFilter=samples%7Cmistakes",
}


def rows(count: int, seed: int) -> list[dict[str, str]]:
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        label = rng.choice(list(KINDS))
        what, when = (
            rng.choice(["scene", "film", "story", "evening"]),
            rng.choice(["night", "spring", "war", "village"]),
        )
        text = f"the {rng.choice(['first', 'last', 'whole'])} {what} of the {when} is {rng.choice(KINDS[label])}"
        found.append({"text": text, "label": rng.choice(list(KINDS)) if rng.random() < 0.1 else label})
    return found


def train(folder: Path) -> None:
    tracking.CLOSE_SECONDS = 120.0  # MLflow makes its store
    tracking.EVERY_SECONDS = 0.0
    for name, lr in (("slow", 5e-4), ("quick", 4e-3)):
        settings = {
            "track": "tensorboard,wandb,mlflow",
            "model": {"embed_dim": 32, "num_layers": 1, "num_heads": 2},
            "training": {"batch_tokens": 256, "patience": 0, "head_lr": lr, "evaluations_per_epoch": 2},
        }
        Predictor.fit(
            rows(600, 0),
            "label",
            valid=rows(200, 1),
            out=folder / name,
            backbone="none",
            epochs=6,
            settings=settings,
            overwrite=True,
        )


def photograph(folder: Path, browser: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", "--logdir", LOGS, "--port", str(port), "--host", "127.0.0.1"],
        cwd=folder,  # the page names the folder as it was given
        stderr=subprocess.DEVNULL,
    )
    try:
        time.sleep(15)
        for name, page in PAGES.items():
            path = PICTURES / f"tracking_{name}.png"
            with tempfile.TemporaryDirectory() as home:
                subprocess.run(
                    [browser, "--headless", "--no-sandbox", "--hide-scrollbars", f"--user-data-dir={home}", "--window-size=1500,1000",
                     "--virtual-time-budget=60000", f"--screenshot={path}", f"http://127.0.0.1:{port}/{page}"],
                    check=True, stderr=subprocess.DEVNULL,
                )  # fmt: skip
            with Image.open(path) as image:
                small = image.convert("RGB").quantize(128)
            small.save(path, optimize=True)
            print(path)
    finally:
        server.terminate()
        server.wait()


def tell(place: Path) -> None:
    for path in sorted(place.rglob("*")):
        if path.is_file():
            print(path.relative_to(place))
    query = "select r.name, m.key, m.value from latest_metrics m join runs r using (run_uuid) where m.key like 'valid/label/%' order by m.key, r.name"
    with closing(sqlite3.connect(place / "mlflow.db")) as store:
        for line in store.execute(query):
            print(*line)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--browser", default="/usr/bin/chromium")
    parser.add_argument("--folder", type=Path, help="where runs are kept; trained again only where it is empty")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        runs = given.folder or Path(scratch)
        if not (runs / "tracking.runs").exists():
            train(runs)
        tell(runs / "tracking.runs")
        photograph(runs, given.browser)
