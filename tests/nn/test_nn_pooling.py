"""A missing modality takes no part in the mean over modalities."""

from __future__ import annotations

import torch

from polydetr.nn.pooling import mean_of_groups


def test_the_pooled_vector_is_the_mean_over_the_modalities_that_a_row_has() -> None:
    torch.manual_seed(0)
    tokens = {"text": torch.randn(4, 5, 7), "table": torch.randn(4, 3, 7), "image": torch.randn(4, 2, 7)}
    masks = {
        "text": torch.arange(5) < torch.tensor([[5], [2], [0], [0]]),
        "table": torch.arange(3) < torch.tensor([[3], [0], [1], [0]]),
        "image": torch.arange(2) < torch.tensor([[1], [2], [0], [0]]),
    }
    pooled = mean_of_groups(tokens, masks)
    text, table, image = (tokens[name] for name in ("text", "table", "image"))
    torch.testing.assert_close(pooled[0], (text[0].mean(0) + table[0].mean(0) + image[0, 0]) / 3)
    torch.testing.assert_close(pooled[1], (text[1, :2].mean(0) + image[1].mean(0)) / 2)
    torch.testing.assert_close(pooled[2], table[2, 0])
    assert torch.equal(pooled[3], torch.zeros(7))
