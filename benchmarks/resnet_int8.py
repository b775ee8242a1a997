"""What 8-bit convolutions change in a trained ResNet, since no pretrained DETR stands at hand: accuracy and probabilities.

    python benchmarks/resnet_int8.py [--name resnet50] [--size 64] [--epochs 3] [--seed 0]

A ResNet learns the article types of fashion_products (24 classes) from nothing, with ordinary batch norm; then the norms
are frozen and folded, and the same test pictures are answered in float32, bfloat16 and 8-bit integers, whose ranges come
from 16 training pictures. Also the error of the last map, relative to its length. Appends a JSON line to
benchmarks/results/resnet_int8.jsonl.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multimodal import TARGET, fashion
from polydetr.backbones.resnet import BLOCKS, FrozenBatchNorm2d, fold_batch_norm, make_resnet
from polydetr.backbones.resnet_int8 import Int8ResNet
from polydetr.values.images import fit_image, open_image
from recording import keep

SAMPLES, BATCH = 16, 32


def pictures(rows: list[Any], size: int) -> Tensor:
    """(N, 3, size, size), about -1 to 1."""
    whole = [torch.tensor(fit_image(open_image(row.row["photo"]), size, fit="stretch")) for row in rows]
    return torch.stack(whole).permute(0, 3, 1, 2) / 127.5 - 1


def with_training_norms(module: nn.Module) -> None:
    """Frozen norms become ones that learn; their tensors bear the same names."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, FrozenBatchNorm2d):
                setattr(parent, name, nn.BatchNorm2d(len(child.get_buffer("weight"))))


def train(resnet: nn.Module, head: nn.Linear, x: Tensor, labels: Tensor, *, epochs: int) -> None:
    parameters = [*resnet.parameters(), *head.parameters()]
    steps = epochs * (len(x) // BATCH)
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
    for step in range(steps):
        if step % (len(x) // BATCH) == 0:
            order = torch.randperm(len(x))
        chosen = order[BATCH * (step % (len(x) // BATCH)) :][:BATCH]
        seen = x[chosen].flip(3) if step % 2 else x[chosen]
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(head(resnet(seen)[-1].mean((2, 3))).float(), labels[chosen])
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 50 == 0:
            print(f"step {step} of {steps}, loss {float(loss):.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", choices=[*BLOCKS], default="resnet50")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    started, rows = time.process_time(), fashion(0.0)
    names = sorted({row.row[TARGET] for row in rows["train"]})
    x, test = (pictures(rows[split], options.size) for split in ("train", "test"))
    labels, gold = (torch.tensor([names.index(r.row[TARGET]) for r in rows[split]]) for split in ("train", "test"))
    learning = make_resnet(options.name)
    with_training_norms(learning)
    head = nn.Linear(learning.out_channels[-1], len(names))
    train(learning.to(memory_format=torch.channels_last), head, x, labels, epochs=options.epochs)

    exact = make_resnet(options.name)
    exact.load_state_dict({k: v for k, v in learning.state_dict().items() if "num_batches" not in k})
    fold_batch_norm(exact.eval().requires_grad_(False))
    formats = {
        "fp32": (exact, torch.float32),
        "bf16": (copy.deepcopy(exact).to(torch.bfloat16).to(memory_format=torch.channels_last), torch.bfloat16),
        "int8": (Int8ResNet(exact, x[:SAMPLES].split(4)), torch.float32),
    }
    line: dict[str, Any] = {**vars(options), "samples": SAMPLES, "pictures": len(test)}
    answers: dict[str, tuple[Tensor, Tensor]] = {}
    with torch.inference_mode():
        for name, (model, dtype) in formats.items():
            laid_out = test.to(dtype, memory_format=torch.channels_last)
            maps = torch.cat([model(part)[-1].float() for part in laid_out.split(BATCH)])
            answers[name] = maps, head(maps.mean((2, 3))).softmax(1)
        expected, sure = answers["fp32"]
        for name, (maps, probabilities) in answers.items():
            moved = (probabilities - sure).abs()
            line[name] = {
                "accuracy": round(float((probabilities.argmax(1) == gold).float().mean()), 4),
                "other_answers": int((probabilities.argmax(1) != sure.argmax(1)).sum()),
                "map_error": round(float((maps - expected).norm() / expected.norm()), 5),
                "mean_change": round(float(moved.amax(1).mean()), 5),
                "largest_change": round(float(moved.max()), 4),
            }
    line["cpu_seconds"] = round(time.process_time() - started, 1)
    print(json.dumps(keep("resnet_int8", line)))


if __name__ == "__main__":
    main()
