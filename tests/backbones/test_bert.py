"""The encoder against transformers' own: same random weights, padded batches, outputs and gradients."""

from __future__ import annotations

import pytest
import torch
from polydetr.backbones.bert import BertEncoder, from_hf_state_dict, to_hf_state_dict
from polydetr.errors import BackboneError

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
    return BertEncoder(**{**settings, **changes})  # type: ignore[arg-type]


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
    theirs = {f"{prefix}{name}": tensor for name, tensor in to_hf_state_dict(state, num_layers=LAYERS).items()}
    back = from_hf_state_dict({**theirs, "cls.predictions.bias": torch.zeros(1)}, num_layers=LAYERS)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_old_norm_names_are_read() -> None:
    state = to_hf_state_dict(_encoder().state_dict(), num_layers=LAYERS)
    old = {n.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): t for n, t in state.items()}
    assert from_hf_state_dict(old, num_layers=LAYERS).keys() == _encoder().state_dict().keys()


def test_wrong_checkpoints_are_refused_by_name() -> None:
    state = to_hf_state_dict(_encoder().state_dict(), num_layers=LAYERS)
    with pytest.raises(BackboneError, match=r"missing .*encoder\.layer\.3\."):
        from_hf_state_dict(state, num_layers=LAYERS + 1)
    with pytest.raises(BackboneError, match=r"unknown \(encoder\.layer\.2\."):
        from_hf_state_dict(state, num_layers=LAYERS - 1)
    with pytest.raises(BackboneError, match="lacks 12 weights"):
        to_hf_state_dict(_encoder().state_dict(), num_layers=LAYERS + 1)


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
