"""What single heads promise, with hand-computed losses where the whole way does not show them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from polydetr import heads
from polydetr.core.plugs import HEADS, TASKS
from polydetr.heads.base import EncoderShape
from polydetr.heads.classification import ClassificationHead
from polydetr.heads.entities import EntitiesHead, word_tokens
from polydetr.heads.generation import GenerationHead
from polydetr.nn.batch import Embedded, Encoded
from polydetr.nn.span_set import SpanSizes
from polydetr.tasks.classification import ClassificationTask
from polydetr.tasks.generation import time_and_noise

SHAPE = EncoderShape(8)


def test_every_task_has_a_head() -> None:
    assert set(HEADS) == set(TASKS)


def classes(values: list[str], **options: Any) -> ClassificationHead:
    task = ClassificationTask("y", ClassificationTask.Options(**options))
    task.learn([{"y": value} for value in values])
    head = heads.build(task, SHAPE, label_smoothing=0.25)
    assert isinstance(head, ClassificationHead)
    return head


def test_class_weights_turn_the_loss_towards_the_rare_class() -> None:
    values = ["rare"] + ["usual"] * 9
    plain, weighted = classes(values), classes(values, class_weights="balanced")
    assert weighted.class_weights == pytest.approx([10 / (2 * 1), 10 / (2 * 9)])
    outputs = {"logits": torch.zeros(2, 2).index_fill(1, torch.tensor([1]), 2.0)}  # sure of "usual"
    targets = {"label": torch.tensor([0, 1])}
    ones = torch.ones(2)
    assert weighted.loss(outputs, targets, ones)["cross_entropy"] > plain.loss(outputs, targets, ones)["cross_entropy"]


def test_label_smoothing_is_part_of_the_head() -> None:
    logits = torch.tensor([[2.0, -1.0]])
    found = classes(["a", "b"]).loss({"logits": logits}, {"label": torch.tensor([0])}, torch.ones(1))
    log_p = logits.log_softmax(-1)[0]
    assert float(found["cross_entropy"]) == pytest.approx(float(-(0.875 * log_p[0] + 0.125 * log_p[1])))


# -- chance -----------------------------------------------------------------------------------------------------------


def generation(**changes: Any) -> GenerationHead:
    torch.manual_seed(0)
    plain: dict[str, Any] = {
        "shape": (2, 4), "patch_size": 2, "scale": (100.0, 50.0), "steps": 3, "guidance": 1.0, **changes
    }  # fmt: skip
    return GenerationHead(8, **plain).eval()


def attend(own: Embedded, hidden: torch.Tensor | None) -> torch.Tensor:
    return own.tokens if hidden is None else own.tokens * (~hidden)[:, None, None]


def test_noise_is_of_seed_and_number_alone_and_the_same_without_torch() -> None:
    head = generation()
    draws = head.numbered_draws([5, 2, 7], seed=3)
    assert draws.time.shape == (3,)
    assert draws.noise.shape == (3, 2, 4, 4)
    assert draws.hidden is None
    for row, number in enumerate((5, 2, 7)):
        time, noise = time_and_noise(3, number, (2, 4, 4))
        assert np.array_equal(draws.noise[row].numpy(), noise)
        assert float(draws.time[row]) == time
    assert time_and_noise(3, 5, (4,))[0] == pytest.approx(0.0, abs=1.0)
    others = [time_and_noise(s, n, (500,))[1] for s, n in ((3, 5), (3, 6), (4, 5), (-1, 5))]
    for i, one in enumerate(others):
        assert abs(one.mean()) < 0.2
        assert abs(one.std() - 1) < 0.15
        assert all(abs(np.corrcoef(one, other)[0, 1]) < 0.2 for other in others[i + 1 :])


def test_one_step_draws_nothing() -> None:
    head = generation()
    draws = head.draw(3)
    assert draws.hidden is not None
    state = torch.get_rng_state()
    first = head(draws.noise, draws.time, attend)
    painted = head.outputs(attend, draws, None)["pixels"]
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first, head(draws.noise, draws.time, attend))
    assert painted.shape == first.shape == (3, 2, 4, 4)


# -- sizes that follow from shapes alone ------------------------------------------------------------------------------


@pytest.mark.parametrize(("per_word", "max_words"), [(1.0, 24), (1.5, 3), (0.3, 2), (4.0, 1)])
@pytest.mark.parametrize("layers", [0, 2])
def test_by_shape_the_real_spans_are_the_same(per_word: float, max_words: int, layers: int) -> None:
    torch.manual_seed(0)
    sizes = SpanSizes(
        3, 8, hidden_dim=16, num_heads=2, ffn_dim=16, decoder_layers=layers, max_words=max_words,
        queries_per_word=per_word,
    )  # fmt: skip
    head = EntitiesHead(sizes, num_tags=7, tagging=0.5).eval()
    rows = torch.tensor([[0, 1, 0, 1, 1, 2, 2, 0], [0, 1, 0, 0, 0, 0, 0, 0], [0] * 8])
    tokens = torch.randn(3, 8, 8)
    mask = torch.ones(3, 8, dtype=torch.bool)
    encoded = Encoded({"text": tokens}, {"text": mask}, tokens[:, 0], {"text": Embedded(tokens, mask, word_rows=rows)})
    with torch.no_grad():
        small, full = head(encoded), head(encoded, by_shape=True)
    assert full["words"].shape == (3, 8)
    assert small["words"].shape == (3, 5)
    for i in range(3):
        real = int((small["seeds"][i, :, 0] >= 0).sum())
        assert int((full["seeds"][i, :, 0] >= 0).sum()) == real
        assert torch.equal(full["seeds"][i, :real], small["seeds"][i, :real])
        words = int((small["words"][i] >= 0).sum())
        torch.testing.assert_close(full["logits"][i, :real], small["logits"][i, :real])
        for name in ("start_logits", "end_logits") if layers else ():
            torch.testing.assert_close(full[name][i, :real, :, :words], small[name][i, :real, :, :words])


def test_words_begin_where_they_are_marked() -> None:
    rows = torch.tensor([[0, 1, 0, 2], [0, 0, 1, 0]])
    begins, mask = word_tokens(rows)
    assert begins[mask].tolist() == [1, 3, 2]
    full, full_mask = word_tokens(rows, by_shape=True)
    assert full.shape == (2, 4)
    assert full[full_mask].tolist() == [1, 3, 2]


class _Entities(torch.nn.Module):
    """A head of entities as a function of tensors alone."""

    def __init__(self, head: EntitiesHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, tokens: torch.Tensor, rows: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        embedded = Embedded(tokens, mask, word_rows=rows)
        encoded = Encoded({"text": tokens}, {"text": mask}, tokens[:, 0], {"text": embedded})
        return self.head(encoded, last_only=True, by_shape=True)


@pytest.mark.filterwarnings("ignore")
def test_a_graph_of_entities_serves_any_batch_and_length() -> None:
    sizes = SpanSizes(3, 16, hidden_dim=16, num_heads=2, ffn_dim=16, decoder_layers=1, max_words=6)
    model = _Entities(EntitiesHead(sizes, num_tags=7, tagging=0.5).eval())

    def inputs(batch: int, length: int) -> tuple[torch.Tensor, ...]:
        mask = torch.ones(batch, length, dtype=torch.bool)
        return torch.randn(batch, length, 16), torch.randint(0, 3, (batch, length)), mask

    any_size = {0: torch.export.Dim("B", min=1, max=64), 1: torch.export.Dim("L", min=2, max=512)}
    graph = torch.export.export(model, inputs(3, 11), dynamic_shapes=(any_size,) * 3, strict=False).module()
    for batch, length in ((1, 2), (5, 23)):
        given = inputs(batch, length)
        expected, found = model(*given), graph(*given)
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-5)
