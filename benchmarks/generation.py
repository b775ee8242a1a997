"""Conditional generation of digits: how often a sample shows the digit asked for, and how near samples come to real ones.

    python benchmarks/generation.py [--seed 0] [--split 7] [--epochs 200] [--set model.embed_dim=96] [--label note]

scikit-learn's digits, 1,797 images of 8 x 8. One half trains the model (a tenth of it chooses the weights). The other
half is held out: it trains the judge, a small network that never sees the half that the model learned from, which is
where the judge's own accuracy is measured. Fréchet distances are taken in the judge's last hidden layer, and in plain
pixels, against the held-out half; the distance of the training half to it is what real images reach.

Guidance and steps were chosen on split 7; another split halves the data differently, for figures that nothing was
chosen on.

Appends one JSON line to benchmarks/results/generation.jsonl and draws docs/pictures/generation_digits.png.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import confusion_matrix
from torch import Tensor, nn

from grid import grid_png
from polydetr import Predictor
from polydetr.config.loading import merge, parse_settings
from polydetr.metrics.generation import generation_report
from recording import keep

PICTURE = Path(__file__).parent.parent / "docs" / "pictures" / "generation_digits.png"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SETTINGS: dict[str, Any] = {
    "backbone": "none",
    "model": {"embed_dim": 96, "num_layers": 4, "num_heads": 4, "dropout": 0.0},
    "training": {
        "batch_tokens": 1088, "head_lr": 1e-3, "schedule": "cosine", "warmup": 0.02, "ema_decay": 0.998, "patience": 0,
    },
    "tasks": {"picture": {"patch_size": 2}},
}  # fmt: skip


def halves(split: int = 7) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The training half and the held-out half, the same for the same ``split``, with the classes in their proportions."""
    digits = load_digits()
    order = np.random.default_rng(split).permutation(len(digits.target))
    order = order[np.argsort(digits.target[order], kind="stable")]
    rows = [
        {"picture": np.rint(digits.images[i] * (255 / 16)).astype(np.uint8), "digit": WORDS[digits.target[i]]}
        for i in order
    ]
    return rows[::2], rows[1::2]


class Judge(nn.Module):
    """A small convolutional classifier; ``features`` is its last hidden layer (N, 64)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.3),
            nn.Linear(256, 64), nn.ReLU(),
        )  # fmt: skip
        self.output = nn.Linear(64, 10)

    def features(self, pixels: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.body(as_input(pixels)).numpy()

    def answers(self, pixels: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.output(self.body(as_input(pixels))).argmax(1).numpy()


def as_input(pixels: np.ndarray) -> Tensor:
    """uint8 (N, 8, 8) → (N, 1, 8, 8), 0 … 1."""
    return torch.from_numpy(pixels).float()[:, None] / 255


def train_judge(pixels: np.ndarray, labels: np.ndarray, *, epochs: int = 60) -> Judge:
    """AdamW, images shifted by up to a pixel; a seed of its own."""
    torch.manual_seed(1234)
    judge = Judge()
    optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.01)
    steps = epochs * (len(pixels) // 64 + 1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    inputs, wanted = as_input(pixels), torch.from_numpy(labels)
    for _ in range(steps):
        chosen = torch.randint(len(inputs), (64,))
        shift = torch.randint(-1, 2, (2,)).tolist()
        batch = torch.roll(inputs[chosen], shift, (2, 3))
        loss = nn.functional.cross_entropy(judge.output(judge.body(batch)), wanted[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return judge.eval()


def arrays(rows: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([row["picture"] for row in rows]), np.array([WORDS.index(row["digit"]) for row in rows])


def measure(
    samples: np.ndarray, asked: np.ndarray, judge: Judge, train: np.ndarray, held_out: np.ndarray
) -> dict[str, Any]:
    """How often the judge sees the digit asked for, and the distances, in its features and in pixels."""
    seen = judge.answers(samples)
    flat = [x.reshape(len(x), -1) / 255 for x in (samples, held_out, train)]
    return {
        "accuracy": float((seen == asked).mean()),
        "per_digit": {w: round(float((seen[asked == i] == i).mean()), 4) for i, w in enumerate(WORDS)},
        "features": generation_report(*(judge.features(x) for x in (samples, held_out, train))).to_dict(),
        "pixels": generation_report(*flat).to_dict(),
        "confusions": int(confusion_matrix(asked, seen).sum() - (seen == asked).sum()),
    }


def run(
    *, seed: int, split: int, epochs: float, settings: dict[str, Any], label: str, each: int, out: Path | None
) -> dict[str, Any]:
    train, held_out = halves(split)
    config = merge(SETTINGS, settings)
    started = time.perf_counter()
    predictor = Predictor.fit(
        train, {"picture": "generation"}, inputs={"digit": "category"}, epochs=epochs, seed=seed, config=config,
        out=out,
    )  # fmt: skip
    trained = time.perf_counter()
    asked = np.arange(10 * each) % 10
    answers = predictor.predict([{"digit": WORDS[i]} for i in asked], seed=seed)
    samples = np.stack([a["picture"][:, :, 0] for a in answers])
    sampled = time.perf_counter()
    train_x, train_y = arrays(train)
    held_x, held_y = arrays(held_out)
    judge = train_judge(held_x, held_y)
    rows = [[samples[10 * i + digit] for i in range(12)] for digit in range(10)]
    grid_png(rows, PICTURE, scale=4, gap=3)
    return {
        "data": "digits",
        "label": label,
        "samples": len(samples),
        "metrics": measure(samples, asked, judge, train_x, held_x),
        "judge_accuracy": float((judge.answers(train_x) == train_y).mean()),
        "flow": predictor.metrics,
        "settings": config | {"epochs": epochs},
        "seed": seed,
        "split": split,
        "train_seconds": round(trained - started, 1),
        "sample_seconds": round(sampled - trained, 1),
        "parameters": predictor.info["parameters"],
        "training": predictor.info["training"],
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "rows": predictor.info["rows"] | {"held_out": len(held_out)},
        "python": platform.python_version(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", type=int, default=7)
    parser.add_argument("--epochs", type=float, default=200)
    parser.add_argument("--each", type=int, default=100, help="samples of each digit")
    parser.add_argument("--label", default="")
    parser.add_argument("--out", type=Path, help="keep the model here")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    arguments = parser.parse_args()
    result = run(
        seed=arguments.seed, split=arguments.split, epochs=arguments.epochs, settings=parse_settings(arguments.settings),
        label=arguments.label, each=arguments.each, out=arguments.out,
    )  # fmt: skip
    print(
        json.dumps(
            {k: result[k] for k in ("metrics", "judge_accuracy", "flow", "train_seconds", "sample_seconds")}, indent=1
        )
    )
    keep("generation", result)


if __name__ == "__main__":
    main()
