"""Spans as a set: the geometry against its formula, proposals against loops, queries that know which words are real."""

from __future__ import annotations

import math

import pytest
import torch
from set_examples import matched
from torch import Tensor

from polydetr.errors import ConfigError
from polydetr.nn.decoder import SetDecoder, hold
from polydetr.nn.matcher import SetTargets
from polydetr.nn.set_loss import SetCriterion
from polydetr.nn.span_geometry import SpanGeometry
from polydetr.nn.span_set import SpanSet, SpanSizes

SIZES = SpanSizes(3, 10, hidden_dim=16, num_heads=2, ffn_dim=24, decoder_layers=2, max_words=4)


def built(sizes: SpanSizes = SIZES) -> SpanSet:
    torch.manual_seed(0)
    return SpanSet(sizes).eval()


def text(*lengths: int, rows: list[list[int]] | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Words, mask and rows of texts of these many words."""
    torch.manual_seed(1)
    longest = max(1, *lengths)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return torch.randn(len(lengths), longest, SIZES.embed_dim), mask, torch.tensor(rows) if rows else mask.long()


def test_the_geometry_is_the_formula() -> None:
    torch.manual_seed(2)
    start, end = torch.randn(2, 2, 3, 5), torch.randn(2, 2, 3, 5)  # N B Q W
    spans = torch.tensor([[[0, 2], [4, 4]], [[1, 3], [-100, -100]]])  # padded with what collation pads with
    geometry = SpanGeometry(pointer_weight=1.5, pointer_cost=3.0)
    cost = geometry.cost({"start_logits": start, "end_logits": end}, {"spans": spans})
    for layer, example, query, target in [(0, 0, 1, 0), (1, 0, 2, 1), (1, 1, 0, 0)]:
        first, last = spans[example, target].tolist()
        p = start[layer, example, query].softmax(-1)[first] + end[layer, example, query].softmax(-1)[last]
        assert float(cost[layer, example, query, target]) == pytest.approx(-3.0 * float(p), abs=1e-6)
    assert torch.isfinite(cost).all()
    found = {"start_logits": start[0, 0, :2], "end_logits": end[0, 0, :2]}
    losses, quality = geometry.losses(found, {"spans": spans[0]}), geometry.quality(found, {"spans": spans[0]})
    first, last = math.exp(-float(losses["start"][1])), math.exp(-float(losses["end"][1]))
    assert first == pytest.approx(float(start[0, 0, 1].softmax(-1)[4]))
    assert float(quality[1]) == pytest.approx(first * last)
    assert set(geometry.weights.values()) == {1.5}


def test_the_criterion_that_finds_boxes_finds_spans() -> None:
    """Each query says one of two spans; the criterion sees which is which, whatever their order."""
    spans = torch.tensor([[[2, 3], [0, 4]]])
    targets = SetTargets(torch.tensor([[1, 0]]), torch.ones(1, 2, dtype=torch.bool), {"spans": spans})
    pointed = torch.full((2, 1, 1, 3, 5), -9.0)  # ends, N, B, Q, W
    for query, (first, last) in enumerate([(0, 4), (1, 1), (2, 3)]):
        pointed[0, 0, 0, query, first] = pointed[1, 0, 0, query, last] = 9.0
    logits = torch.full((1, 1, 3, 2), -9.0)
    logits[0, 0, 0, 0] = logits[0, 0, 2, 1] = 9.0
    outputs = {"logits": logits, "start_logits": pointed[0], "end_logits": pointed[1]}
    loss = SetCriterion(SpanGeometry(), classification="varifocal")(outputs, targets)
    assert matched(loss.matches, 0, 0) == {0: 1, 2: 0}
    assert float(loss.total) < 0.01


def test_proposals_are_all_spans_of_a_row_and_no_others() -> None:
    words, mask, rows = text(6, rows=[[1, 1, 1, 1, 2, 2]])
    _, scores, possible = built().proposals(words, mask, rows, torch.randn(3, 16))
    found = {(start, start + length) for _, start, length in possible.nonzero().tolist()}
    assert found == {(a, b) for a in range(6) for b in range(a, min(6, a + 4)) if (a < 4) == (b < 4)}
    assert scores.shape == (1, 6, 4, 3)


def test_a_proposal_looks_at_its_own_ends() -> None:
    model = built()
    words, mask, rows = text(6)
    types = torch.randn(3, 16)
    before, changed = model.proposals(words, mask, rows, types)[1], words.clone()
    changed[0, 3] += 1.0
    moved = (model.proposals(changed, mask, rows, types)[1] - before).abs().amax(-1)[0] > 1e-6
    for start in range(6):
        for length in range(min(4, 6 - start)):
            assert bool(moved[start, length]) == (3 in (start, start + length))


def test_queries_are_the_likeliest_spans_as_many_as_there_are_words_and_some_to_spare() -> None:
    words, mask, rows = text(12, 2, 0)
    with torch.no_grad():
        found = built()(words, mask, rows)
    real = (found["seeds"] >= 0).all(-1).sum(1).tolist()
    assert real == [20, 3, 0]  # two words have three spans
    best = found["proposal_logits"][0].amax(-1)
    for first, last in found["seeds"][0].tolist():
        assert float(best[first, last - first]) >= float(best.flatten().sort(descending=True).values[19])
    assert {tuple(seed) for seed in found["seeds"][1, :3].tolist()} == {(0, 0), (0, 1), (1, 1)}
    assert found["logits"].shape == (2, 3, 20, 3)
    assert found["start_logits"].shape == found["end_logits"].shape == (2, 3, 20, 12)
    assert all(torch.isfinite(tensor.float()).all() for tensor in found.values())


def test_a_text_answers_the_same_beside_a_longer_one() -> None:
    words, mask, rows = text(5, 11)
    model = built()
    with torch.no_grad():
        both, alone = model(words, mask, rows), model(words[:1, :5], mask[:1, :5], rows[:1, :5])
    for name, tensor in alone.items():
        batch = 0 if name in ("proposal_logits", "seeds") else 1
        other = both[name].narrow(batch, 0, 1)[tuple(slice(size) for size in tensor.shape)]
        torch.testing.assert_close(other, tensor, rtol=1e-4, atol=1e-5, msg=name)


def test_pointers_begin_at_the_proposed_ends() -> None:
    words, mask, rows = text(9)
    with torch.no_grad():
        found = built()(words, mask, rows, last_only=True)
    pointed = torch.stack([found[f"{end}_logits"][0, 0].argmax(-1) for end in ("start", "end")], dim=-1)
    assert torch.equal(pointed, found["seeds"][0])
    assert len(found["logits"]) == 1


def test_without_a_decoder_the_proposals_answer() -> None:
    model = built(SpanSizes(3, 10, hidden_dim=16, decoder_layers=0))
    words, mask, rows = text(4)
    with torch.no_grad():
        found = model(words, mask, rows)
    assert "start_logits" not in found
    for query, (first, last) in enumerate(found["seeds"][0].tolist()):
        torch.testing.assert_close(found["logits"][0, 0, query], found["proposal_logits"][0, first, last - first])


def test_names_of_types_are_where_their_vectors_begin() -> None:
    model = built()
    names = torch.randn(3, 10)
    model.name_types(names + 100.0)  # what they share is left out
    beside = torch.nn.functional.cosine_similarity(model.type_vectors[:, None], (names - names.mean(0))[None], dim=-1)
    assert beside.argmax(1).tolist() == [0, 1, 2]
    model.name_types(torch.ones(3, 10))  # names that say nothing still give types of their own
    assert torch.cdist(model.type_vectors, model.type_vectors).add(torch.eye(3)).min() > 0.1


def test_a_held_decoder_is_used_and_not_owned() -> None:
    first, second = built(), built()
    shared = SetDecoder(16, 2, num_layers=2, ffn_dim=24).eval()
    owned = sum(p.numel() for p in first.parameters())
    for model in (first, second):
        hold(model, "decoder", shared)
    assert first.decoder is second.decoder is shared
    assert sum(p.numel() for p in first.parameters()) == owned - sum(p.numel() for p in shared.parameters())
    assert not any(name.startswith("decoder.") for name in first.state_dict())
    words, mask, rows = text(5)
    with torch.no_grad():
        before = first(words, mask, rows)["logits"]
        torch.nn.init.normal_(shared.layers[0].ffn.down.weight)  # type: ignore[union-attr,operator]
        assert not torch.allclose(first(words, mask, rows)["logits"], before)


def test_a_decoder_of_another_shape_serves_nobody() -> None:
    with pytest.raises(ConfigError, match=r"one decoder cannot serve both.*self_attention.*\(16, 16\)"):
        hold(built(), "decoder", SetDecoder(32, 2, num_layers=2, ffn_dim=24))


@pytest.mark.parametrize("wrong", [{"num_types": 0}, {"max_words": 0}, {"decoder_layers": -1}])
def test_sizes_that_find_nothing_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
        SpanSizes(**{"num_types": 2, "embed_dim": 8, **wrong})
