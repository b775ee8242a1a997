"""Attention against the formula, its masks, and the article's wrong variants."""

from __future__ import annotations

import math

import literal_nn
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from polydetr.errors import ConfigError
from polydetr.nn import attention as attention_module
from polydetr.nn.attention import MultiHeadAttention, attend, fused_attention, useful_mask

# A different prime for every dimension: a swapped axis cannot fit by accident.
B, H, LQ, LK, K = 2, 3, 5, 7, 11
D = H * K


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def masks() -> dict[str, torch.Tensor]:
    ragged = torch.arange(LK)[None] < torch.tensor([[LK], [3]])
    holes = torch.tensor([[1, 0, 1, 1, 0, 0, 1], [0, 0, 0, 1, 0, 1, 0]], dtype=torch.bool)
    one_empty = ragged & torch.tensor([[False], [True]])
    return {
        "all real": torch.ones(B, LK, dtype=torch.bool),
        "ragged": ragged,
        "holes": holes,
        "one empty": one_empty,
        "all empty": torch.zeros(B, LK, dtype=torch.bool),
    }


def test_half_precision_agrees_with_single_in_answers_and_gradients() -> None:
    shapes = ((B, H, LQ, K), (B, H, LK, K), (B, H, LK, K))
    leaves = [random(*shape, seed=seed).bfloat16() for seed, shape in enumerate(shapes)]
    direction, allowed = random(B, H, LQ, K, seed=9).float(), random(LQ, LK, seed=4) < 0.7
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        inputs = [leaf.to(dtype).requires_grad_() for leaf in leaves]
        answer = fused_attention(*inputs, allowed)
        assert answer.dtype == dtype
        with torch.no_grad():
            torch.testing.assert_close(fused_attention(*inputs, allowed), answer, rtol=0.01, atol=0.01)
        found.append((answer.float(), *torch.autograd.grad((answer.float() * direction).sum(), inputs)))
    for half, single in zip(*found, strict=True):
        torch.testing.assert_close(half.float(), single.float(), rtol=0.01, atol=0.01)


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("name", list(masks()))
def test_forward_and_every_gradient_equal_the_formula(name: str, need_weights: bool) -> None:
    mask = masks()[name]
    module = literal_nn.randomise(MultiHeadAttention(D, H), seed=1)
    inputs = [random(B, length, D, seed=seed).requires_grad_() for seed, length in enumerate((LQ, LK, LK))]
    direction = random(B, LQ, D, seed=9)

    ours, weights = module(*inputs, mask, need_weights=need_weights)
    expected, expected_weights = literal_nn.multi_head_attention(module, *inputs, mask)
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)
    assert (weights is not None) == need_weights
    if weights is not None:
        torch.testing.assert_close(weights, expected_weights, rtol=1e-10, atol=1e-12)

    wanted = [*inputs, *module.parameters()]
    gradients = torch.autograd.grad((ours * direction).sum(), wanted)
    references = (
        torch.autograd.grad((expected * direction).sum(), wanted, allow_unused=True) if mask.any() else [None] * 99
    )
    for gradient, reference in zip(gradients, references, strict=False):
        torch.testing.assert_close(
            gradient, torch.zeros_like(gradient) if reference is None else reference, rtol=1e-9, atol=1e-11
        )


def test_a_fully_masked_example_answers_exact_zero_and_pulls_on_nothing() -> None:
    module = literal_nn.randomise(MultiHeadAttention(D, H), seed=1)
    query, key = random(B, LQ, D).requires_grad_(), random(B, LK, D, seed=1).requires_grad_()
    for need_weights in (False, True):
        answer, weights = module(query, key, key, masks()["all empty"], need_weights=need_weights)
        assert torch.equal(answer, torch.zeros_like(answer))
        assert weights is None or torch.equal(weights, torch.zeros_like(weights))
        for gradient in torch.autograd.grad(answer.sum(), [query, key, *module.parameters()]):
            assert torch.equal(gradient, torch.zeros_like(gradient))  # NaN is not equal to zero


@pytest.mark.parametrize("need_weights", [False, True])
def test_the_answer_itself_is_zero_without_keys_not_only_its_projection(need_weights: bool) -> None:
    q, k = random(B, H, LQ, K), random(B, H, LK, K, seed=1)
    answer, _ = attend(q, k, k, masks()["one empty"], need_weights=need_weights)
    assert torch.equal(answer[0], torch.zeros(H, LQ, K, dtype=torch.float64))
    assert bool((answer[1] != 0).all())


def test_the_hot_path_is_the_fused_kernel_and_weights_leave_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    kernel = F.scaled_dot_product_attention

    def spy(*args: torch.Tensor, **options: object) -> torch.Tensor:
        seen.append(options["attn_mask"])
        return kernel(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(attention_module.F, "scaled_dot_product_attention", spy)
    module = MultiHeadAttention(D, H)
    query, key = random(B, LQ, D, dtype=torch.float32), random(B, LK, D, dtype=torch.float32)
    module(query, key, key, masks()["all real"])
    assert seen == [None]  # a mask that hides nothing is not handed to the kernel
    module(query, key, key, masks()["ragged"])
    assert seen[1] is not None
    module(query, key, key, masks()["ragged"], need_weights=True)
    assert len(seen) == 2


def test_float32_paths_agree() -> None:
    module = MultiHeadAttention(D, H)
    query, key = random(B, LQ, D, dtype=torch.float32), random(B, LK, D, seed=1, dtype=torch.float32)
    fused, _ = module(query, key, key, masks()["holes"])
    explicit, _ = module(query, key, key, masks()["holes"], need_weights=True)
    torch.testing.assert_close(fused, explicit, rtol=1e-5, atol=1e-6)


def test_useful_mask_keeps_what_hides_something() -> None:
    assert useful_mask(None) is None
    assert useful_mask(masks()["all real"]) is None
    assert useful_mask(masks()["ragged"]) is not None


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=4),
    padding=st.integers(0, 5),
    heads=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 2**31),
)
def test_padding_and_batch_mates_change_nothing(lengths: list[int], padding: int, heads: int, seed: int) -> None:
    longest = max(1, *lengths)
    module = literal_nn.randomise(MultiHeadAttention(8, heads), seed=seed)
    query, key = random(len(lengths), 3, 8, seed=seed), random(len(lengths), longest + padding, 8, seed=seed + 1)
    mask = torch.arange(longest + padding)[None] < torch.tensor(lengths)[:, None]
    together, _ = module(query, key * 1e3 * ~mask[..., None] + key * mask[..., None], key, mask)  # loud padding
    for b, length in enumerate(lengths):
        alone, _ = (
            module(query[b : b + 1], key[b : b + 1, :length], key[b : b + 1, :length]) if length else (0 * query[:1], 0)
        )
        torch.testing.assert_close(together[b : b + 1], alone, rtol=1e-9, atol=1e-11)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**31))
def test_weights_are_a_distribution_over_real_keys(queries: int, keys: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    q, k = torch.randn(2, 3, queries, 4, generator=generator) * 30, torch.randn(2, 3, keys, 4, generator=generator) * 30
    mask = torch.rand(2, keys, generator=generator) < 0.6
    _, weights = attend(q, k, k, mask, need_weights=True)
    assert weights is not None
    assert bool((weights >= 0).all())
    assert bool((weights.masked_select(~mask[:, None, None, :].expand_as(weights)) == 0).all())
    total = mask.any(dim=1).float()[:, None, None].expand(2, 3, queries)
    torch.testing.assert_close(weights.sum(dim=-1), total, rtol=1e-5, atol=1e-6)


def test_dropout_acts_in_training_only_and_keeps_the_mean() -> None:
    module = MultiHeadAttention(D, H, dropout=0.5)
    query = random(B, LQ, D, dtype=torch.float32)
    torch.manual_seed(0)
    noisy = torch.stack([module(query, query, query)[0] for _ in range(400)])
    calm = module.eval()(query, query, query)[0]
    assert torch.equal(calm, module(query, query, query)[0])
    assert not torch.allclose(noisy[0], noisy[1])
    assert (noisy.mean(dim=0) - calm).abs().mean() < 0.1 * calm.abs().mean() + 0.05
    answer, weights = module.train()(query, query, query, need_weights=True)
    assert not torch.allclose(answer, module(query, query, query, need_weights=True)[0])
    assert weights is not None
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, H, LQ))  # reported before dropout


@pytest.mark.parametrize(
    ("dim", "heads", "dropout"), [(10, 3, 0.0), (0, 1, 0.0), (8, 0, 0.0), (8, 2, 1.0), (8, 2, -0.1)]
)
def test_impossible_sizes_are_named(dim: int, heads: int, dropout: float) -> None:
    with pytest.raises(ConfigError, match=r"embed_dim=|dropout="):
        MultiHeadAttention(dim, heads, dropout=dropout)


# What the article writes, and why it cannot be meant. One head; q, k, v are (L, K) of one example.


def scores(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    return q @ k.T / math.sqrt(q.shape[-1])


def ours(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return attend(q[None, None], k[None, None], v[None, None])[0][0, 0]


def softmax_over_queries(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The article's program: dim 1 of (B, Lq, Lk) are the queries."""
    return scores(q, k)[None].softmax(dim=1)[0] @ v


def without_normaliser(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The article's derivation, read with the query fixed: z = Σ_j exp(q·k_j / √d_k) v_j."""
    return scores(q, k).exp() @ v


def normalised_over_pairs(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The article's weight: the denominator runs over the pairs (q_j, k_j)."""
    return scores(q, k).exp() / scores(q, k).diagonal().exp().sum() @ v


WRONG = [softmax_over_queries, without_normaliser, normalised_over_pairs]


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_variants_do_not_average_what_they_read(wrong) -> None:
    q, k = random(LK, K, seed=1), random(LK, K, seed=2)
    same = torch.full((LK, 1), 4.0, dtype=torch.float64).expand(LK, K)
    torch.testing.assert_close(ours(q, k, same), same)  # where every token says 4, an average of them is 4
    assert (wrong(q, k, same) - same).abs().max() > 0.5


@pytest.mark.parametrize("wrong", [softmax_over_queries, normalised_over_pairs])
def test_wrong_variants_let_one_query_change_the_answer_to_another(wrong) -> None:
    q, k, v = random(LK, K, seed=1), random(LK, K, seed=2), random(LK, K, seed=3)
    other = q.clone()
    other[-1] *= 3  # only the last query changes
    torch.testing.assert_close(ours(other, k, v)[:-1], ours(q, k, v)[:-1], rtol=1e-12, atol=1e-12)
    assert (wrong(other, k, v)[:-1] - wrong(q, k, v)[:-1]).abs().max() > 1e-3


def test_without_the_normaliser_the_answer_grows_with_the_length() -> None:
    q, k, v = random(LK, K, seed=1), random(LK, K, seed=2), random(LK, K, seed=3)
    twice = (torch.cat([k, k]), torch.cat([v, v]))
    torch.testing.assert_close(ours(q, *twice), ours(q, k, v))
    torch.testing.assert_close(without_normaliser(q, *twice), 2 * without_normaliser(q, k, v))
    assert torch.isinf(without_normaliser(q * 100, k * 100, v)).any()  # and large scores overflow
    assert torch.isfinite(ours(q * 100, k * 100, v)).all()


def test_the_articles_derivation_makes_every_weight_sum_one() -> None:
    """Its fraction Σ_j a_j / Σ_j exp(..) divides a sum by itself: always 1, so it can prefer no token."""
    exponentials = scores(random(LK, K, seed=1), random(LK, K, seed=2)).exp()
    torch.testing.assert_close(exponentials.sum(-1) / exponentials.sum(-1), torch.ones(LK, dtype=torch.float64))
    assert ours(random(LK, K, seed=1), random(LK, K, seed=2), random(LK, K, seed=3)).std() > 0


def test_the_articles_loss_reads_the_wrong_axis_for_labels_per_token() -> None:
    logits, labels = random(B, LQ, LK, dtype=torch.float32), torch.randint(0, LK, (B, LQ))  # LK plays the classes
    with pytest.raises((RuntimeError, ValueError, IndexError)):
        F.cross_entropy(logits, labels)  # takes axis 1, the tokens, for the classes
    right = F.cross_entropy(logits.transpose(1, 2), labels)
    by_hand = -sum(logits[b, i].log_softmax(0)[labels[b, i]] for b in range(B) for i in range(LQ)) / (B * LQ)
    torch.testing.assert_close(right, by_hand)
