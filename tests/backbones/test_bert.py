"""The encoder against transformers' own: same random weights, padded batches, outputs and gradients."""

from __future__ import annotations

import copy

import pytest
import torch

from bert_checkpoints import hf_state_dict
from polydetr.backbones.bert import BertEncoder, BertSizes, from_hf_state_dict
from polydetr.core.memory import keep_freed_memory
from polydetr.errors import BackboneError
from polydetr.nn.cpu import attention, linear
from polydetr.nn.cpu.linear import pack

transformers = pytest.importorskip("transformers")

VOCAB, DIM, LAYERS, HEADS, FFN, POSITIONS = 53, 42, 3, 7, 71, 29
LENGTHS = (23, 5, 17, 1)


def _encoder(**changes: object) -> BertEncoder:
    settings: dict[str, object] = {
        "vocab_size": VOCAB,
        "hidden_dim": DIM,
        "num_layers": LAYERS,
        "num_heads": HEADS,
        "ffn_dim": FFN,
        "max_positions": POSITIONS,
    }
    return BertEncoder(BertSizes(**{**settings, **changes}))  # type: ignore[arg-type]


def _peer(family: str = "Bert", **changes: object) -> torch.nn.Module:
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(
        vocab_size=VOCAB,
        hidden_size=DIM,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=FFN,
        max_position_embeddings=POSITIONS,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **changes,
    )
    model = getattr(transformers, f"{family}Model")(config)
    for parameter in model.parameters():  # norms and biases too, or a swapped pair would not show
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def _batch(lengths: tuple[int, ...] = LENGTHS) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return torch.randint(3, VOCAB, mask.shape).where(mask, torch.tensor(1)), mask


@pytest.mark.parametrize("lengths", [LENGTHS, (13, 13)], ids=["padded", "full"])
def test_outputs_and_gradients_equal_transformers(lengths: tuple[int, ...]) -> None:
    peer = _peer()
    ours = _encoder()
    ours.load_state_dict(from_hf_state_dict(peer.state_dict(), num_layers=LAYERS))
    ids, mask = _batch(lengths)
    segments = (torch.arange(ids.shape[1]) > 3).long().expand_as(ids)
    theirs = peer(input_ids=ids, attention_mask=mask.long(), token_type_ids=segments).last_hidden_state
    found = ours(ids, mask, segments)
    torch.testing.assert_close(found[mask], theirs[mask], atol=1e-5, rtol=1e-5)

    weight = torch.randn(DIM)
    (theirs[mask] @ weight).square().mean().backward()
    (found[mask] @ weight).square().mean().backward()
    wanted = from_hf_state_dict(
        {n: p.grad for n, p in peer.named_parameters() if p.grad is not None}, num_layers=LAYERS
    )
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        scale = wanted[name].abs().max().clamp(min=1.0)
        torch.testing.assert_close(parameter.grad / scale, wanted[name] / scale, atol=1e-5, rtol=1e-5, msg=name)


def test_xlm_roberta_positions_begin_after_the_padding_index() -> None:
    peer = _peer("XLMRoberta", pad_token_id=1, type_vocab_size=1, layer_norm_eps=1e-5).eval()
    ours = _encoder(num_segments=1, norm_eps=1e-5, position_offset=2)
    ours.load_state_dict(from_hf_state_dict(peer.state_dict(), num_layers=LAYERS))
    ids, mask = _batch()
    theirs = peer(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    torch.testing.assert_close(ours(ids, mask)[mask], theirs[mask], atol=1e-5, rtol=1e-5)
    assert ours.max_length == POSITIONS - 2


def test_given_positions_are_used() -> None:
    ours = _encoder().eval()
    ids, mask = _batch((11, 11))
    straight = torch.arange(11).expand_as(ids)
    torch.testing.assert_close(ours(ids, mask, None, straight), ours(ids, mask))
    assert not torch.allclose(ours(ids, mask, None, straight + 3), ours(ids, mask), atol=1e-3)


@pytest.mark.parametrize("prefix", ["", "bert.", "roberta."])
def test_state_goes_to_hugging_face_and_back(prefix: str) -> None:
    state = _encoder().state_dict()
    theirs = {f"{prefix}{name}": tensor for name, tensor in hf_state_dict(state, num_layers=LAYERS).items()}
    back = from_hf_state_dict({**theirs, "cls.predictions.bias": torch.zeros(1)}, num_layers=LAYERS)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_old_norm_names_are_read() -> None:
    state = hf_state_dict(_encoder().state_dict(), num_layers=LAYERS)
    old = {n.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): t for n, t in state.items()}
    assert from_hf_state_dict(old, num_layers=LAYERS).keys() == _encoder().state_dict().keys()


def test_wrong_checkpoints_are_refused_by_name() -> None:
    state = hf_state_dict(_encoder().state_dict(), num_layers=LAYERS)
    with pytest.raises(BackboneError, match=r"missing .*encoder\.layer\.3\."):
        from_hf_state_dict(state, num_layers=LAYERS + 1)
    with pytest.raises(BackboneError, match=r"unknown \(encoder\.layer\.2\."):
        from_hf_state_dict(state, num_layers=LAYERS - 1)


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(BackboneError, match="42 cannot be divided into num_heads 5"):
        _encoder(num_heads=5)
    with pytest.raises(BackboneError, match="Did you mean 'gelu'"):
        _encoder(activation="gelo")
    with pytest.raises(BackboneError, match="30 tokens does not fit"):
        _encoder()(torch.ones(1, 30, dtype=torch.long), torch.ones(1, 30, dtype=torch.bool))


def test_dropout_acts_in_training_alone() -> None:
    ours = _encoder(dropout=0.5)
    ids, mask = _batch()
    assert not torch.equal(ours(ids, mask), ours(ids, mask))
    ours.eval()
    assert torch.equal(ours(ids, mask), ours(ids, mask))


@pytest.mark.skipif(not linear.ONEDNN_BF16, reason="this CPU has no fast bfloat16")
@pytest.mark.parametrize("lengths", [LENGTHS, (13,) * 120], ids=["padded", "several-chunks"])
def test_bfloat16_kernels_equal_pytorch_own(lengths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Same weights, outputs and gradients with and without fast attention, both as near to float32 as bfloat16 is."""
    monkeypatch.setattr(attention, "CHUNK_SCORES", 5000)
    ours = _encoder()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ids, mask = _batch(lengths)
    weight = torch.randn(DIM)
    found: dict[str, tuple[torch.Tensor, list[torch.Tensor]]] = {}
    for name, dtype, fast in (
        ("exact", torch.float32, True),
        ("fast", torch.bfloat16, True),
        ("slow", torch.bfloat16, False),
    ):
        monkeypatch.setattr(linear, "ONEDNN_BF16", fast)
        ours.to(dtype)
        ours.zero_grad()
        out = ours(ids, mask)[mask].float()
        (out @ weight).square().mean().backward()
        found[name] = out.detach(), [p.grad.float().clone() for p in ours.parameters() if p.grad is not None]
        with torch.no_grad():
            torch.testing.assert_close(ours(ids, mask)[mask].float(), out, atol=0, rtol=0)

    def error(name: str) -> tuple[float, float]:
        pairs = list(zip(found[name][1], found["exact"][1], strict=True))
        gradient = sum(float((a - b).square().sum()) for a, b in pairs) / sum(float(b.square().sum()) for _, b in pairs)
        output = (found[name][0] - found["exact"][0]).norm() / found["exact"][0].norm()
        return float(output), gradient**0.5

    fast, slow = error("fast"), error("slow")
    assert fast[0] < max(0.02, 1.3 * slow[0])
    assert fast[1] < max(0.02, 1.3 * slow[1])


def test_a_row_without_real_tokens_gives_numbers() -> None:
    ids, mask = _batch()
    mask[1] = False
    for dtype in (torch.float32, torch.bfloat16):
        ours = _encoder().to(dtype)
        out = ours(ids, mask)
        assert out.isfinite().all()
        out.float().sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in ours.parameters())


def test_adapted_and_frozen_weights_get_no_gradient() -> None:
    ours = _encoder().bfloat16()
    ours.layers[0].requires_grad_(False)
    ours.embeddings.requires_grad_(False)
    ids, mask = _batch((7, 7))
    ours(ids, mask).float().square().sum().backward()
    assert all(p.grad is None for p in ours.layers[0].parameters())
    assert all(p.grad is not None for p in ours.layers[1].parameters())


def test_an_exported_graph_serves_padded_and_full_batches() -> None:
    """The graph must not bake in whether its example had padding."""
    ours = _encoder().eval()
    full, padded = _batch((11, 11)), _batch((11, 4))
    graph = torch.export.export(ours, full).module()
    for ids, mask in (full, padded):
        torch.testing.assert_close(graph(ids, mask)[mask], ours(ids, mask)[mask], atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not linear.ONEDNN_BF16, reason="this CPU has no fast bfloat16")
def test_packed_weights_give_the_same_and_are_never_stale() -> None:
    ours = _encoder().bfloat16().eval()
    ids, mask = _batch()
    with torch.no_grad():
        plain = ours(ids, mask)
        pack(ours)
        assert ours.layers[0].qkv._packed is not None
        torch.testing.assert_close(ours(ids, mask), plain, atol=0.02, rtol=0.02)
        torch.testing.assert_close(copy.deepcopy(ours)(ids, mask), plain, atol=0, rtol=0)
        changes = (
            lambda: ours.layers[0].qkv.weight.mul_(-3),
            lambda: ours.load_state_dict(_encoder().state_dict()),
            lambda: ours.float().bfloat16(),
        )
        for change in changes:
            pack(ours)
            change()
            fresh = _encoder().bfloat16().eval()
            fresh.load_state_dict(ours.state_dict())
            assert torch.equal(ours(ids, mask), fresh(ids, mask))
    pack(ours)
    ours(ids, mask).float().square().sum().backward()
    assert ours.layers[0].qkv.weight.grad is not None
    ours.train()
    assert ours.layers[0].qkv._packed is None


def test_freed_memory_is_kept() -> None:
    resource = pytest.importorskip("resource")
    if not keep_freed_memory():
        pytest.skip("this C library has no mallopt")

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(2**24)  # 64 MiB, more than glibc would keep on its own: 16,384 pages
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    # The heap settles after some turns; without the switch every turn faults all pages in anew.
    assert min(faults() for _ in range(6)) < 2000
