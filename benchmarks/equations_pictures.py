"""Draws the images of docs/guide/equations.md from the product's own modules. Seconds, no network:

python benchmarks/equations_pictures.py [FOLDER]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes

from polydetr.nn.encoder import MultiModalEncoder

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "guide" / "pictures"
INK, BLUE, ORANGE, GREEN = "#222222", "#3b6fb6", "#d9822b", "#4a9b6e"
TOKENS = ("the", "red", "car", "stops", "·pad·")
# Scores q_i·k_j / √d_k, chosen by hand: every token finds "car" and "stops" interesting, padding asks loudest.
SCORES = torch.tensor(
    [
        [0.2, 0.4, 1.0, 0.5, 0.0],
        [0.1, 0.6, 2.2, 0.7, 0.0],
        [0.3, 1.9, 1.2, 1.8, 0.0],
        [0.1, 0.3, 2.4, 0.9, 0.0],
        [1.6, 1.7, 2.1, 2.0, 1.5],
    ]
)


def draw_weights(axes: Axes, weights: torch.Tensor, title: str, note: str) -> None:
    """A heat map with the numbers written in, and each row's sum beside it."""
    axes.imshow(weights.numpy(), cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(TOKENS)), TOKENS)
    axes.set_yticks(range(len(TOKENS)), TOKENS)
    axes.set_xlabel("key: who is listened to")
    axes.set_ylabel("query: who listens")
    axes.set_title(f"{title}\n", fontweight="bold", pad=4)
    axes.text(0.5, 1.03, note, transform=axes.transAxes, ha="center", fontsize=9)
    axes.tick_params(length=0)
    for i, row in enumerate(weights):
        for j, value in enumerate(row):
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.5 else INK, fontsize=9)
        total = float(row.sum())
        right = abs(total - 1) < 1e-3 or total == 0
        axes.text(len(TOKENS) - 0.35, i, f"Σ = {total:.2f}", va="center", fontsize=9.5, color=INK if right else ORANGE)
    for side in axes.spines.values():
        side.set_visible(False)


def softmax_picture(path: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.4, 4.6), layout="constrained", gridspec_kw={"wspace": 0.12})
    hidden = SCORES.clone()
    hidden[:, -1] = -torch.inf
    draw_weights(
        left,
        hidden.softmax(dim=-1),
        "over the keys, with the mask (ours)",
        "every row sums to 1; padding is never heard",
    )
    draw_weights(
        right,
        SCORES.softmax(dim=0),
        "over the queries (the article's program)",
        "columns sum to 1; rows do not, and padding hears the most",
    )
    figure.savefig(path, dpi=150, bbox_inches="tight", pad_inches=0.12)
    plt.close(figure)


def fusion_picture(path: Path) -> None:
    """What one word hears in the first layer of a fresh encoder, under both fusions, from equal parameters."""
    lengths, colours = {"text": 8, "image": 12, "table": 2}, {"text": BLUE, "image": ORANGE, "table": GREEN}
    generator = torch.Generator().manual_seed(7)
    tokens = {m: 1.5 * torch.randn(1, n, 16, generator=generator) for m, n in lengths.items()}
    masks = {m: torch.ones(1, n, dtype=torch.bool) for m, n in lengths.items()}
    figure, rows = plt.subplots(2, 1, figsize=(10.4, 5.2), layout="constrained", sharex=True)
    for axes, fusion in zip(rows, ("sum", "joint"), strict=True):
        torch.manual_seed(6)
        encoder = MultiModalEncoder(list(lengths), embed_dim=16, num_heads=1, num_layers=1, fusion=fusion).eval()
        with torch.no_grad():
            seen = encoder(tokens, masks, need_weights=True)[1]
        assert seen is not None
        start, total = 0.0, 0.0
        for name, length in lengths.items():
            heard = seen.layers[0]["text", name][0, 0, 0]
            axes.bar([start + i for i in range(length)], heard.tolist(), width=0.82, color=colours[name])
            middle = start + (length - 1) / 2
            axes.text(
                middle, 0.86, f"{name}: Σ = {heard.sum():.2f}", ha="center", color=colours[name], fontweight="bold"
            )
            start, total = start + length + 1.0, total + float(heard.sum())
        titles = {
            "sum": 'fusion "sum": one softmax inside each modality',
            "joint": 'fusion "joint": one softmax over all tokens',
        }
        axes.set_title(titles[fusion], loc="left", fontweight="bold")
        axes.set_title(f"all together: Σ = {total:.2f}", loc="right")
        axes.set_ylim(0, 1)
        axes.set_ylabel("attention weight")
        axes.spines[["top", "right"]].set_visible(False)
    rows[1].set_xticks([])
    rows[1].set_xlabel(
        "the tokens that one word of the text listens to (untrained encoder, same parameters above and below)"
    )
    figure.savefig(path, dpi=150, bbox_inches="tight", pad_inches=0.12)
    plt.close(figure)


def sharing_picture(path: Path) -> None:
    shares = ("none", "modalities", "layers", "both")
    sizes = [
        sum(
            p.numel()
            for p in MultiModalEncoder(
                ["text", "image", "table"], embed_dim=256, num_heads=8, num_layers=4, share=share
            ).parameters()
        )
        for share in shares
    ]
    figure, axes = plt.subplots(figsize=(10.4, 3.0), layout="constrained")
    bars = axes.barh([f'share="{s}"' for s in shares], [n / 1e6 for n in sizes], color=BLUE, height=0.62)
    labels = [f"{n / 1e6:.2f} M" + ("" if n == sizes[0] else f"   (1/{sizes[0] / n:.0f})") for n in sizes]
    axes.bar_label(bars, labels, padding=6)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * max(sizes) / 1e6)
    axes.set_xlabel("parameters, millions (3 modalities, 4 layers, embed_dim 256)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.savefig(path, dpi=150, bbox_inches="tight", pad_inches=0.12)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    plt.rcParams.update({"font.size": 10.5, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": "#999999"})
    softmax_picture(folder / "equations-softmax.png")
    fusion_picture(folder / "equations-fusion.png")
    sharing_picture(folder / "equations-sharing.png")


if __name__ == "__main__":
    main()
