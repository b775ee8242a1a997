"""Mixing examples and hiding modalities."""

from __future__ import annotations

import numpy as np
import torch

from polydetr import Predictor
from polydetr.core.examples import Example
from polydetr.embedders.base import Blend
from polydetr.nn.batch import Batch
from polydetr.training.perturb import MixedBatch, hide_modalities, mix_examples


def batch_of(count: int, groups: tuple[str, ...] = ("image",), lengths: tuple[int, ...] = ()) -> Batch:
    examples = [
        Example(
            {g: {"x": np.ones((lengths[i] if lengths and g == "text" else 2, 3), np.float32)} for g in groups},
            {"label": {"label": np.array(i)}},
        )
        for i in range(count)
    ]
    return Batch.collate(examples)


def test_the_loss_of_a_blend_is_the_blend_of_the_losses() -> None:
    batch = batch_of(3)
    order, share = torch.tensor([1, 2, 0]), torch.tensor([0.25, 1.0, 0.5])
    other = Batch(batch.groups, {"label": {"label": batch.targets["label"]["label"][order]}}, (0, 1, 2), batch.weights)
    value = torch.tensor([1.0, 10.0, 100.0])  # the loss of a row that has this label

    def loss(part: Batch) -> torch.Tensor:
        rows = value[part.targets["label"]["label"]]
        return (rows * part.weights).sum() / part.weights.sum().clamp(min=1e-6)

    expected = (share * value + (1 - share) * value[order]).mean()
    assert torch.isclose(MixedBatch(batch, other, share).loss(loss), expected)


def test_only_a_modality_alone_is_mixed() -> None:
    class Both(torch.nn.Module):
        def blend(self, group, generator):
            return Blend(group, torch.tensor([1, 0]), torch.tensor([0.5, 0.5]))

    generator = torch.Generator().manual_seed(0)
    alone = mix_examples(batch_of(2), {"image": Both()}, generator)
    assert alone is not None
    assert alone.other.targets["label"]["label"].tolist() == [1, 0]
    assert mix_examples(batch_of(2, ("image", "text")), {"image": Both(), "text": Both()}, generator) is None


def test_a_run_with_mixed_images_learns_and_repeats() -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"photo": (rng.integers(0, 60, (12, 12, 3)) + 190 * (i % 2)).astype(np.uint8), "kind": "ab"[i % 2]}
        for i in range(40)
    ]
    for mix in ("mixup", "cutmix"):
        settings = {
            "image": {"size": 16, "patch_size": 8, "augment": {"mix": mix}},
            "model": {"embed_dim": 16, "num_layers": 1},
            "training": {"batch_tokens": 64, "patience": 0, "precision": "fp32"},
        }
        runs = [Predictor.fit(rows, "kind", backbone="none", epochs=6, settings=settings) for _ in range(2)]
        losses = [[entry["train_loss"] for entry in run.info["history"]] for run in runs]
        assert losses[0] == losses[1]
        assert runs[0].metrics["valid"]["kind"]["accuracy"] == 1.0
        assert losses[0][-1] > 0.05  # blended labels keep the loss from vanishing


def test_hidden_modalities() -> None:
    batch = batch_of(400, ("text", "image", "table"), lengths=tuple(i % 2 for i in range(400)))
    found = hide_modalities(batch, 0.3, torch.Generator().manual_seed(0))
    kept = torch.stack([found.groups[g].mask.any(1) for g in ("text", "image", "table")], 1)
    assert bool(kept.any(1).all())  # never the last one
    assert not bool(kept[::2, 0].any())  # what was missing stays so
    share = 1 - kept[1::2].float().mean(0)
    assert bool(((share > 0.15) & (share < 0.4)).all())
    assert hide_modalities(batch, 0.0, torch.Generator()) is batch
    protected = hide_modalities(batch, 0.9, torch.Generator().manual_seed(0), keep=("text",))
    assert torch.equal(protected.groups["text"].mask, batch.groups["text"].mask)
    lost = ~torch.stack([protected.groups[g].mask.any(1) for g in ("image", "table")], 1).any(1)
    assert bool(lost[1::2].any())  # where the text is there, all else may go
    assert not bool(lost[::2].any())
