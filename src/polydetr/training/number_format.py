"""Puts the model of a run into the number format that suits this machine and this model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from polydetr.data.store import ExampleStore
from polydetr.model.model import PolyModel
from polydetr.nn.batch import Batch
from polydetr.training.precision import BF16_TOLERANCE, Requested, bf16_agrees, choose_precision


def set_precision(
    model: PolyModel, wanted: Requested, store: ExampleStore, *, note: Callable[[str], None]
) -> Literal["fp32", "bf16"]:
    """bf16 weights where this machine gains from them and the model's own outputs agree, or where they are asked for;
    otherwise fp32. Returns what was chosen.
    """
    precision = choose_precision(wanted, next(model.parameters()).device)
    if precision.name == "fp32":
        note(f"precision: fp32 ({precision.reason})")
        return "fp32"
    difference = _difference(model, store)
    if difference > BF16_TOLERANCE and wanted == "auto":
        note(f"precision: fp32 (in bf16 this model's outputs differ by {difference:.1%})")
        return "fp32"
    model.to(torch.bfloat16)
    apart = f"the outputs differ by at most {difference:.1%}"
    note(f"precision: bf16 with fp32 master weights ({precision.reason}; {apart})")
    return "bf16"


def _difference(model: PolyModel, store: ExampleStore) -> float:
    device = next(model.parameters()).device
    batch = Batch.collate([store[i] for i in range(min(8, len(store)))]).to(device)
    with torch.inference_mode():  # an entry may become several tokens: only the model knows which are real
        mask = torch.cat(list(model.encode(batch).masks.values()), 1).clone()
    return bf16_agrees(_TokenOutputs(model), {"batch": batch, "mask": mask})


class _TokenOutputs(nn.Module):
    """All groups' attended tokens side by side, (B, L, D): what ``bf16_agrees`` compares."""

    def __init__(self, model: PolyModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, mask: Tensor) -> Tensor:
        return torch.cat(list(self.model.encode(batch).tokens.values()), 1)
