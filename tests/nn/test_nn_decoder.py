"""The set decoder against the formula in float64 loops; its masks, its positions, its queries."""

from __future__ import annotations

import literal_nn
import pytest
import torch
from torch import Tensor, nn

from polydetr.errors import ConfigError
from polydetr.nn.attention import MultiHeadAttention
from polydetr.nn.decoder import DecoderLayer, FeedForward, LearnedQueries, SetDecoder

# A different prime for every dimension: a swapped axis cannot fit by accident.
B, Q, L, H, N, FFN = 2, 3, 5, 7, 2, 11
D = 2 * H


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_decoder(**options: bool) -> SetDecoder:
    return literal_nn.randomise(SetDecoder(D, H, num_layers=N, ffn_dim=FFN, **options), seed=1)


def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """queries, memory, mask, query positions, memory positions."""
    mask = torch.tensor([[1, 1, 0, 1, 1], [0, 1, 1, 0, 0]], dtype=torch.bool)
    return random(B, Q, D, seed=2), random(B, L, D, seed=3), mask, random(B, Q, D, seed=4), random(B, L, D, seed=5)


def literal_norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    return torch.stack([torch.stack([literal_nn.layer_norm(norm, token) for token in row]) for row in x])


def literal_decoder(decoder: SetDecoder, *, carry_norm: bool) -> Tensor:
    x, memory, mask, places, memory_places = inputs()
    everyone, read = torch.ones(B, Q, dtype=torch.bool), []
    for layer in decoder.layers:
        assert isinstance(layer, DecoderLayer)
        asked, _ = literal_nn.multi_head_attention(layer.self_attention, x + places, x + places, x, everyone)
        x = literal_norm(layer.self_norm, x + asked)
        cross = layer.cross_attention
        assert isinstance(cross, MultiHeadAttention)
        asked, _ = literal_nn.multi_head_attention(cross, x + places, memory + memory_places, memory, mask)
        x = literal_norm(layer.cross_norm, x + asked)
        rows = []
        for token in x.reshape(-1, D):
            inner = literal_nn.linear(layer.ffn.up, token)
            rows.append(literal_nn.linear(layer.ffn.down, inner * (inner > 0)))
        x = literal_norm(layer.ffn_norm, x + torch.stack(rows).reshape(x.shape))
        read.append(literal_norm(decoder.norm, x))
        x = read[-1] if carry_norm else x
    if carry_norm:
        read[-1] = literal_norm(decoder.norm, x)
    return torch.stack(read)


@pytest.mark.parametrize("carry_norm", [False, True])
def test_every_layer_equals_the_formula(carry_norm: bool) -> None:
    decoder = make_decoder(carry_norm=carry_norm)
    queries, memory, mask, places, memory_places = inputs()
    ours, weights = decoder(queries, memory, mask, query_positions=places, memory_positions=memory_places)
    assert ours.shape == (N, B, Q, D)
    assert weights is None
    torch.testing.assert_close(ours, literal_decoder(decoder, carry_norm=carry_norm), rtol=1e-10, atol=1e-10)


def test_padding_changes_nothing_not_even_the_gradients() -> None:
    decoder = make_decoder()
    queries, memory, mask, places, _ = inputs()
    short, _ = decoder(queries[:1], memory[:1][:, mask[0]], None, query_positions=places[:1])
    noisy = torch.where(mask[..., None], memory, 1e4).requires_grad_()
    padded, _ = decoder(queries, noisy, mask, query_positions=places)
    torch.testing.assert_close(padded[:, :1], short)
    padded.sum().backward()
    assert noisy.grad is not None
    assert (noisy.grad[~mask] == 0).all()


def test_examples_do_not_see_one_another() -> None:
    decoder = make_decoder()
    queries, memory, mask, places, _ = inputs()
    together, _ = decoder(queries, memory, mask, query_positions=places)
    for b in range(B):
        apart, _ = decoder(queries[b : b + 1], memory[b : b + 1], mask[b : b + 1], query_positions=places[b : b + 1])
        torch.testing.assert_close(together[:, b : b + 1], apart)


def test_without_memory_the_answers_are_finite() -> None:
    decoder = make_decoder()
    queries, memory, mask, *_ = inputs()
    memory.requires_grad_()
    answers, _ = decoder(queries, memory, mask & torch.tensor([[True], [False]]))
    answers.sum().backward()
    assert torch.isfinite(answers).all()
    assert memory.grad is not None
    assert torch.isfinite(memory.grad).all()
    assert (memory.grad[1] == 0).all()


def test_queries_look_only_where_they_are_allowed() -> None:
    decoder = make_decoder()
    queries, memory, mask, *_ = inputs()
    allowed = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 1, 1]], dtype=torch.bool)
    before, _ = decoder(queries, memory, mask, allowed=allowed)
    after, _ = decoder(queries + torch.tensor([0.0, 1.0, -1.0])[:, None], memory, mask, allowed=allowed)
    torch.testing.assert_close(before[:, :, 0], after[:, :, 0])
    assert not torch.allclose(before[:, :, 1], after[:, :, 1])


def test_weights_say_where_each_query_looked() -> None:
    decoder = make_decoder()
    queries, memory, mask, *_ = inputs()
    plain, _ = decoder(queries, memory, mask)
    answers, weights = decoder(queries, memory, mask, need_weights=True)
    torch.testing.assert_close(answers, plain)
    assert weights is not None
    assert weights.shape == (N, B, H, Q, L)
    torch.testing.assert_close(weights.sum(-1), torch.ones(N, B, H, Q, dtype=torch.float64))
    assert (weights.masked_select(~mask[None, :, None, None]) == 0).all()


def test_another_cross_attention_takes_the_place() -> None:
    memory = nn.Linear(D, D).double()
    layer = DecoderLayer(D, H, ffn_dim=FFN, cross_attention=memory).double()
    assert layer.cross_attention is memory
    assert layer(inputs()[0], memory).shape == (B, Q, D)


def test_learned_queries_begin_empty_and_differ_by_position() -> None:
    content, positions = LearnedQueries(Q, D)(B)
    assert content.shape == positions.shape == (B, Q, D)
    assert (content == 0).all()
    assert not torch.equal(positions[0, 0], positions[0, 1])
    assert torch.equal(positions[0], positions[1])


def test_faults_are_named() -> None:
    with pytest.raises(ConfigError, match=r"num_layers=0"):
        SetDecoder(D, H, num_layers=0, ffn_dim=FFN)
    with pytest.raises(ConfigError, match=r"num_queries=0"):
        LearnedQueries(0, D)
    with pytest.raises(ConfigError, match=r"activation='rleu' is unknown. Did you mean 'relu'\?"):
        FeedForward(D, FFN, activation="rleu")
