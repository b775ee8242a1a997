"""The encoder against its two formulas, and what must hold whatever the parameters are."""

from __future__ import annotations

import itertools

import literal_nn
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polydetr.errors import ConfigError, InputError
from polydetr.nn.attention import MultiHeadAttention
from polydetr.nn.encoder import MultiModalEncoder

B, K, H, FFN = 2, 3, 5, 13
D = H * K
LENGTHS = {"text": 7, "image.photo": 11, "items": 1}  # names that a dictionary of modules would refuse
FUSIONS, SHARES = ("sum", "joint"), ("none", "modalities", "layers", "both")
EVERY = list(itertools.product(FUSIONS, SHARES))


def build(
    fusion: str, share: str, *, layers: int = 2, names=tuple(LENGTHS), seed: int = 3, **options
) -> MultiModalEncoder:
    encoder = MultiModalEncoder(
        names, embed_dim=D, num_heads=H, num_layers=layers, ffn_dim=FFN, fusion=fusion, share=share, **options
    )
    return literal_nn.randomise(encoder, seed=seed)


def tokens(seed: int = 0, lengths: dict[str, int] = LENGTHS, batch: int = B) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {m: torch.randn(batch, n, D, generator=generator, dtype=torch.float64) for m, n in lengths.items()}


def some_masks() -> dict[str, torch.Tensor]:
    """Example 0 has holes, example 1 has no image at all."""
    generator = torch.Generator().manual_seed(5)
    masks = {m: torch.rand(B, n, generator=generator) < 0.7 for m, n in LENGTHS.items()}
    masks["text"][:, 0] = True
    masks["image.photo"][1] = False
    masks["items"][0] = True
    return masks


def full_masks(given_tokens: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {m: torch.ones(t.shape[:2], dtype=torch.bool) for m, t in given_tokens.items()}


def close(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert set(left) == set(right)
    for name in left:
        torch.testing.assert_close(left[name], right[name], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("fusion", "share"), EVERY)
def test_forward_and_every_gradient_equal_the_formula(fusion: str, share: str) -> None:
    encoder, masks = build(fusion, share), some_masks()
    inputs = {m: t.requires_grad_() for m, t in tokens().items()}
    out, nothing = encoder(inputs, masks)
    expected = literal_nn.encoder(encoder, share, inputs, masks)
    assert nothing is None
    close(out, expected)

    direction = tokens(seed=8)
    wanted = [*inputs.values(), *encoder.parameters()]
    gradients = torch.autograd.grad(sum((out[m] * direction[m]).sum() for m in out), wanted)
    references = torch.autograd.grad(sum((expected[m] * direction[m]).sum() for m in out), wanted)
    for gradient, reference in zip(gradients, references, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(("fusion", "share"), EVERY)
def test_a_missing_modality_a_masked_one_and_an_absent_one_are_the_same(fusion: str, share: str) -> None:
    encoder, given_tokens = build(fusion, share), tokens()
    masks = full_masks(given_tokens)
    masks["image.photo"][:] = False
    without = {m: t for m, t in given_tokens.items() if m != "image.photo"}
    masked, _ = encoder(given_tokens, masks)
    absent, _ = encoder(without, masks)
    masked.pop("image.photo")
    close(masked, absent)


@pytest.mark.parametrize(("fusion", "share"), EVERY)
def test_nothing_real_at_all_stays_finite_with_finite_gradients(fusion: str, share: str) -> None:
    encoder = build(fusion, share)
    inputs = {m: t.requires_grad_() for m, t in tokens().items()}
    out, _ = encoder(inputs, {m: torch.zeros(t.shape[:2], dtype=torch.bool) for m, t in inputs.items()})
    gradients = torch.autograd.grad(sum(t.sum() for t in out.values()), [*inputs.values(), *encoder.parameters()])
    assert all(bool(torch.isfinite(t).all()) for t in (*out.values(), *gradients))
    parameters = dict(zip([n for n, _ in encoder.named_parameters()], gradients[len(inputs) :], strict=True))
    attention = {n: g for n, g in parameters.items() if ".attention." in n}
    assert attention
    assert all(torch.equal(g, torch.zeros_like(g)) for g in attention.values())


@pytest.mark.parametrize(("fusion", "share"), EVERY)
def test_the_order_of_modalities_carries_no_meaning(fusion: str, share: str) -> None:
    encoder, given_tokens, masks = build(fusion, share), tokens(), some_masks()
    turned = tuple(reversed(LENGTHS))
    other = build(fusion, share, names=turned, seed=4)
    state = encoder.state_dict()
    if share in ("none", "layers"):  # parameters stand in the order of the names
        last = len(LENGTHS) - 1

        def moved(key: str) -> str:
            parts = key.split(".")
            place = 2 if parts[0] == "layers" else 1
            parts[place] = str(last - int(parts[place]))
            return ".".join(parts)

        state = {moved(key): value for key, value in state.items()}
    other.load_state_dict(state)
    close(encoder(given_tokens, masks)[0], other({m: given_tokens[m] for m in turned}, masks)[0])
    shuffled, _ = encoder({m: given_tokens[m] for m in turned}, masks)
    assert list(shuffled) == list(turned)  # keys come back in the caller's order
    assert all(torch.equal(encoder(given_tokens, masks)[0][m], shuffled[m]) for m in LENGTHS)  # to the last bit


@settings(max_examples=20, deadline=None)
@given(
    config=st.sampled_from(EVERY),
    lengths=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=3),
    padding=st.integers(0, 3),
    seed=st.integers(0, 2**31),
)
def test_padding_and_batch_mates_change_nothing(config, lengths, padding: int, seed: int) -> None:
    encoder = build(*config, names=("a", "b"), seed=seed)
    sizes = {m: max(1, *(pair[i] for pair in lengths)) + padding for i, m in enumerate("ab")}
    given_tokens = tokens(seed, sizes, len(lengths))
    masks = {
        m: torch.arange(sizes[m])[None] < torch.tensor([pair[i] for pair in lengths])[:, None]
        for i, m in enumerate("ab")
    }
    together, _ = encoder(given_tokens, masks)
    for b, pair in enumerate(lengths):
        alone = {m: given_tokens[m][b : b + 1, :n] for m, n in zip("ab", pair, strict=True) if n}
        if alone:
            close(
                encoder(alone, full_masks(alone))[0],
                {m: together[m][b : b + 1, : t.shape[1]] for m, t in alone.items()},
            )


@pytest.mark.parametrize(("fusion", "share"), EVERY)
def test_weights_cost_nothing_in_the_answer_and_sum_to_one(fusion: str, share: str) -> None:
    encoder, given_tokens, masks = build(fusion, share), tokens(), some_masks()
    out, weights = encoder(given_tokens, masks, need_weights=True)
    close(out, encoder(given_tokens, masks)[0])
    assert weights is not None
    assert len(weights.layers) == 2
    for layer in weights.layers:
        assert set(layer) == set(itertools.product(LENGTHS, LENGTHS))
        for asker in LENGTHS:
            sums = {answerer: layer[asker, answerer].sum(dim=-1) for answerer in LENGTHS}
            assert sums["text"].shape == (B, H, LENGTHS[asker])
            one = torch.ones(B, H, LENGTHS[asker], dtype=torch.float64)
            if fusion == "joint":
                torch.testing.assert_close(sum(sums.values()), one)
            else:
                for answerer, total in sums.items():
                    torch.testing.assert_close(total, one * masks[answerer].any(dim=1)[:, None, None])


def test_joint_with_shared_modalities_is_one_attention_over_the_joined_tokens() -> None:
    encoder, given_tokens, masks = build("joint", "modalities", layers=1), tokens(), some_masks()
    joined = torch.cat(list(given_tokens.values()), dim=1)
    single = build("joint", "modalities", layers=1, names=("all",))
    single.load_state_dict(encoder.state_dict())
    whole, _ = single({"all": joined}, {"all": torch.cat(list(masks.values()), dim=1)})
    parts, _ = encoder(given_tokens, masks)
    torch.testing.assert_close(torch.cat(list(parts.values()), dim=1), whole["all"])


def test_with_one_modality_both_fusions_are_the_plain_transformer() -> None:
    sums, joint = build("sum", "none", names=("text",)), build("joint", "none", names=("text",))
    given_tokens = {"text": tokens()["text"]}
    close(sums(given_tokens, full_masks(given_tokens))[0], joint(given_tokens, full_masks(given_tokens))[0])
    block = sums.layers[0][0]
    assert isinstance(block.attention, MultiHeadAttention)


def test_the_fusions_differ_with_two_modalities() -> None:
    given_tokens = tokens()
    left, _ = build("sum", "none")(given_tokens, full_masks(given_tokens))
    right, _ = build("joint", "none")(given_tokens, full_masks(given_tokens))
    assert (left["text"] - right["text"]).abs().max() > 1e-2


def expected_count(share: str, modalities: int, layers: int) -> int:
    block = 4 * (D * D + D) + (D * FFN + FFN) + (FFN * D + D) + 2 * 2 * D
    sets = 1 if share in ("modalities", "both") else modalities
    return sets * (block * (min(layers, 1) if share in ("layers", "both") else layers) + (2 * D if layers else 0))


@pytest.mark.parametrize("layers", [0, 1, 2, 7])
@pytest.mark.parametrize(("fusion", "share"), EVERY)
def test_parameter_counts_follow_from_what_is_shared(fusion: str, share: str, layers: int) -> None:
    encoder = build(fusion, share, layers=layers)
    assert sum(p.numel() for p in encoder.parameters()) == expected_count(share, len(LENGTHS), layers)


def test_shared_parameters_are_stored_once() -> None:
    for share in SHARES:
        pointers = [t.data_ptr() for t in build("joint", share, layers=3).state_dict().values()]
        assert len(set(pointers)) == len(pointers)


@pytest.mark.parametrize(("fusion", "share"), EVERY)
@pytest.mark.parametrize("layers", [0, 2])
def test_the_encoder_starts_as_the_identity_when_asked_to(fusion: str, share: str, layers: int) -> None:
    encoder = MultiModalEncoder(
        list(LENGTHS), embed_dim=D, num_heads=H, num_layers=layers, fusion=fusion, share=share, zero_init=True
    )
    given_tokens = {m: t.float() for m, t in tokens().items()}
    out, _ = encoder(given_tokens, some_masks())
    assert all(torch.equal(out[m], given_tokens[m]) for m in LENGTHS)
    if layers:  # and it can leave the identity: the zeroed maps have gradients
        sum((t**2).sum() for t in out.values()).backward()
        moved = [p for n, p in encoder.named_parameters() if "output.weight" in n or "contract.weight" in n]
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in moved)


def test_no_layers_pass_the_very_tokens_through() -> None:
    encoder = build("joint", "none", layers=0)
    given_tokens = tokens()
    out, weights = encoder(given_tokens, some_masks(), need_weights=True)
    assert all(out[m] is given_tokens[m] for m in LENGTHS)
    assert weights is not None
    assert weights.layers == ()
    assert sum(p.numel() for p in encoder.parameters()) == 0


@pytest.mark.parametrize("silenced", ["attention.output", "contract"])
def test_dropout_reaches_both_residual_branches_in_training_only(silenced: str) -> None:
    encoder, given_tokens = build("joint", "both", layers=1, dropout=0.5), tokens()
    block = encoder.layers[0][0]
    block.attention.dropout = 0.0  # its own dropout is tested with the attention
    block.get_submodule(silenced).weight.data.zero_()
    block.get_submodule(silenced).bias.data.zero_()
    first, second = (encoder(given_tokens, full_masks(given_tokens))[0] for _ in range(2))
    assert not torch.allclose(first["text"], second["text"])
    encoder.eval()
    first, second = (encoder(given_tokens, full_masks(given_tokens))[0] for _ in range(2))
    assert torch.equal(first["text"], second["text"])


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_recorded_graph_holds_for_other_masks(fusion: str) -> None:
    """Recorded with every token real; the branch that skips a useless mask must not be frozen in."""

    class Flat(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = MultiModalEncoder(["a"], embed_dim=8, num_heads=2, num_layers=1, fusion=fusion).eval()

        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.encoder({"a": x}, {"a": mask})[0]["a"]

    flat, x = Flat(), torch.randn(2, 5, 8)
    exported = torch.export.export(flat, (x, torch.ones(2, 5, dtype=torch.bool))).module()
    mask = torch.arange(5)[None] < torch.tensor([[3], [0]])
    torch.testing.assert_close(exported(x, mask), flat(x, mask))


def test_values_that_fit_nothing_are_named() -> None:
    good = {"embed_dim": 8, "num_heads": 2, "num_layers": 1}
    with pytest.raises(ConfigError, match=r"fusion='add'.*Known: 'sum', 'joint'"):
        MultiModalEncoder(["a"], **good, fusion="add")
    with pytest.raises(ConfigError, match=r"share='layer'.*'layers'"):
        MultiModalEncoder(["a"], **good, share="layer")
    for names in ([], ["a", "a"]):
        with pytest.raises(ConfigError, match="modalities="):
            MultiModalEncoder(names, **good)
    with pytest.raises(ConfigError, match="num_layers=-1"):
        MultiModalEncoder(["a"], **good | {"num_layers": -1})
    with pytest.raises(ConfigError, match="ffn_dim=0"):
        MultiModalEncoder(["a"], **good, ffn_dim=0)
    with pytest.raises(ConfigError, match="embed_dim=9"):
        MultiModalEncoder(["a"], **good | {"embed_dim": 9})


def test_tokens_that_do_not_belong_are_named() -> None:
    encoder, given_tokens = build("joint", "none"), tokens()
    with pytest.raises(InputError, match=r"'txt' is unknown.*'text'"):
        encoder({"txt": given_tokens["text"]}, {"txt": some_masks()["text"]})
    with pytest.raises(InputError, match="'text' has tokens but no mask"):
        encoder({"text": given_tokens["text"]}, {})
    with pytest.raises(InputError, match="empty"):
        encoder({}, {})
