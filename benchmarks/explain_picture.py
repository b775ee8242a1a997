"""Draws the picture of docs/guide/explain.md from a tiny model trained here. Seconds, no network:

python benchmarks/explain_picture.py [FOLDER]
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from polydetr import Predictor

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "guide" / "pictures"
SUBJECTS = ("the film", "this story", "her new play", "the second season", "that long concert")
MIDDLES = ("which we saw in town", "that my brother chose", "with its large cast", "about two old friends")
PRAISE = ("was splendid", "was a delight", "moved us deeply")
NEUTRAL = ("ran for three hours", "was shown on Monday", "began at eight")


def rows(count: int, *, seed: int) -> list[dict[str, str]]:
    """Sentences of which every second one praises."""
    rng = random.Random(seed)
    made = []
    for i in range(count):
        end = rng.choice(PRAISE if i % 2 else NEUTRAL)
        text = f"{rng.choice(SUBJECTS)} {rng.choice(MIDDLES)} {end} and then we went home"
        made.append({"text": text, "label": "praise" if i % 2 else "report"})
    return made


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    settings = {
        "model": {"embed_dim": 32, "num_layers": 1, "num_heads": 2},
        "training": {"precision": "fp32", "lr": 1e-2, "head_lr": 1e-2, "batch_tokens": 256},
    }
    predictor = Predictor.fit(rows(200, seed=0), "label", backbone="none", epochs=3, seed=4, settings=settings)
    text = "the film about two old friends was splendid and then we went home"
    started = time.perf_counter()
    explanation = predictor.explain(text)
    print(f"one explanation: {time.perf_counter() - started:.2f} s")
    explanation.print()
    print(explanation.to_png(folder / "explain.png"))


if __name__ == "__main__":
    main()
