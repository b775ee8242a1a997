"""Memory of a training run on images, for some of them and for four times as many.

    python benchmarks/image_memory.py [--count 1000] [--size 128] [--label note]

Images of fashion_products, embedded without a backbone, so that the pixels themselves are the largest thing there is.
Each run is a process of its own. Measured is the peak of its anonymous memory, which nothing but swapping can take
away; pages of files that are merely mapped (the decoded pixels on disk) the system takes back whenever it wants them.
Were pixels held, the larger run would need ``pixels_mb`` more. Appends one JSON line to
benchmarks/results/image_pipeline.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from data import ROOT, records
from recording import keep


class Peak:
    """The largest anonymous memory of this process, looked at every few milliseconds."""

    def __init__(self) -> None:
        self.megabytes = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    self.megabytes = max(self.megabytes, int(line.split()[1]) / 1024)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def train(count: int, size: int) -> float:
    """One epoch on so many images; the peak of memory in megabytes."""
    import polars

    from polydetr import Predictor

    frame = polars.read_csv(ROOT / "fashion_products" / "styles.csv", infer_schema_length=None)
    folder = ROOT / "fashion_products" / "images"
    rows = [{"photo": str(folder / f"{i}.jpg"), "gender": g} for i, g in frame.select("id", "gender").iter_rows()]
    settings = {
        "image": {"size": size, "patch_size": size // 4}, "model": {"embed_dim": 32, "num_layers": 1},
        "training": {"patience": 0, "precision": "fp32"},
    }  # fmt: skip
    with Peak() as peak, tempfile.TemporaryDirectory() as cache:
        os.environ["POLYDETR_CACHE"] = cache  # the images are to be read, not found
        Predictor.fit(
            records(rows[200 : 200 + count], "fashion_products"), {"gender": "classification"},
            valid=records(rows[:200], "fashion_products"), inputs={"photo": "image"}, backbone="none", epochs=1,
            config=settings,
        )  # fmt: skip
    return peak.megabytes


def main() -> None:

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="pictures of the smaller run")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--label", default="")
    parser.add_argument(
        "--one", action="store_true", help="print the peak of one run of --count pictures, in megabytes"
    )
    arguments = parser.parse_args()
    if arguments.one:
        print(train(arguments.count, arguments.size))
        return
    peaks: dict[str, float] = {}
    for count in (arguments.count, 4 * arguments.count):
        command = [sys.executable, __file__, "--one", "--count", str(count), "--size", str(arguments.size)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        peaks[str(count)] = round(float(done.stdout.splitlines()[-1]), 1)
    result: dict[str, Any] = {
        "data": "fashion_products",
        "what": "memory",
        "label": arguments.label,
        "size": arguments.size,
        "peak_anonymous_mb": peaks,
        "pixels_mb": round(3 * arguments.count * 3 * arguments.size**2 / 2**20, 1),
    }
    print(json.dumps(keep("image_pipeline", result), indent=1))


if __name__ == "__main__":
    main()
