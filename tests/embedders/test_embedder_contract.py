"""What every embedder promises, whatever it embeds."""

from __future__ import annotations

import copy

import pytest
import torch

from embedder_cases import CASES, EmbedderCase, group_of, image, item
from polydetr import embedders
from polydetr.core.plugs import EMBEDDERS
from polydetr.embedders.base import BlendsExamples, Embedder, GivesMaps, HasBackbone
from polydetr.modalities.base import Modality
from polydetr.nn.batch import Embedded, TokenGroup

Made = tuple[Modality, Embedder]


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> EmbedderCase:
    return request.param


@pytest.fixture
def made(case: EmbedderCase) -> Made:
    modality, embedder = case.make()
    return modality, embedder.eval()


def read(made: Made, rows: object) -> Embedded:
    with torch.no_grad():
        return made[1](group_of(made[0], rows))  # type: ignore[arg-type]


def test_every_embedder_is_in_the_table() -> None:
    assert {type(case.make()[1]) for case in CASES} == set(EMBEDDERS.values())


def test_shapes_mask_and_cost(made: Made, case: EmbedderCase) -> None:
    modality, _ = made
    group, found = group_of(modality, case.rows), read(made, case.rows)
    length = found.tokens.shape[1]
    assert found.tokens.shape == (len(case.rows), length, 16)
    assert (found.mask.shape, found.mask.dtype) == ((len(case.rows), length), torch.bool)
    assert torch.isfinite(found.tokens[found.mask]).all()
    each = length // group.mask.shape[1]
    assert length == each * group.mask.shape[1]
    assert torch.equal(found.mask, group.mask.repeat_interleave(each, dim=1))


def test_the_same_rows_give_the_same_vectors(made: Made, case: EmbedderCase) -> None:
    state = torch.random.get_rng_state()
    first, second = read(made, case.rows), read(made, case.rows)
    assert torch.equal(first.tokens, second.tokens)
    assert torch.equal(torch.random.get_rng_state(), state), "chance is drawn from what is handed over alone"


def test_a_row_alone_is_a_row_in_a_batch(made: Made, case: EmbedderCase) -> None:
    together = read(made, [*case.rows, case.nothing])
    for i, row in enumerate(case.rows):
        alone = read(made, [row])
        assert int(together.mask[i].sum()) == int(alone.mask.sum())
        torch.testing.assert_close(
            together.tokens[i][together.mask[i]], alone.tokens[0][alone.mask[0]], atol=1e-5, rtol=0
        )


def test_gradients_reach_every_weight(made: Made, case: EmbedderCase) -> None:
    modality, embedder = made
    found = embedder.train()(group_of(modality, case.rows))
    (found.tokens[found.mask].square().sum() + sum(maps.square().sum() for maps in found.maps.values())).backward()
    unused = ("embeddings.segments",)  # where no row has a second field
    for name, parameter in embedder.named_parameters():
        assert parameter.grad is not None or any(part in name for part in unused), name


def test_augmenting_keeps_shapes_and_types_and_the_batch_it_was_given(made: Made, case: EmbedderCase) -> None:
    modality, embedder = made
    group = group_of(modality, case.rows)
    before = copy.deepcopy(group)
    changed, _ = embedder.augment(group, torch.Generator().manual_seed(1), progress=0.5)
    again, _ = embedder.augment(group, torch.Generator().manual_seed(1), progress=0.5)
    assert {n: (v.shape, v.dtype) for n, v in changed.values.items()} == {
        n: (v.shape, v.dtype) for n, v in group.values.items()
    }
    assert torch.equal(changed.mask, group.mask)
    for name in group.values:
        assert torch.equal(changed.values[name], again.values[name])
        assert torch.equal(group.values[name], before.values[name])


def test_features_stand_for_what_they_were_made_from(made: Made, case: EmbedderCase) -> None:
    modality, embedder = made
    if not isinstance(embedder, HasBackbone):
        return
    group = group_of(modality, case.rows)
    with torch.no_grad():
        kept = embedder.features(group)
        beside = {n: v for n, v in group.values.items() if n in embedder.read_beside_features}
        positions = torch.arange(kept.mask.shape[1]).expand_as(kept.mask)
        after = embedder(TokenGroup({"features": kept.tokens, **beside}, kept.mask, positions))
        expected = embedder(group)
    torch.testing.assert_close(after.tokens[after.mask], expected.tokens[expected.mask])


def test_maps_are_given_where_places_are_asked_for(made: Made, case: EmbedderCase) -> None:
    embedder = made[1]
    if not isinstance(embedder, GivesMaps):
        return
    found = read(made, case.rows)
    assert bool(found.maps) == (case.name == "image-maps")
    for stride, maps in found.maps.items():
        assert maps.shape[:2] == (len(case.rows), embedder.map_channels[stride])
        assert not maps[2].any(), "where a row has no image"


def test_blending_is_for_images_alone() -> None:
    blending = {case.name for case in CASES if isinstance(case.make()[1], BlendsExamples)}
    assert blending == {"image", "image-fields", "image-maps"}
    modality = image("photo", max_images=1)
    embedder = embedders.build(modality, embed_dim=16, others={})
    assert isinstance(embedder, BlendsExamples)
    group = group_of(modality, [{"photo": item(i)["photo"]} for i in (1, 3)])
    assert embedder.blend(group, torch.Generator()) is None, "it was not asked for"


def test_a_history_does_not_own_what_it_borrows() -> None:
    case = next(case for case in CASES if case.name == "history")
    _, embedder = case.make()
    assert set(embedder.borrowed) == {"text", "image"}  # type: ignore[arg-type]
    assert not [name for name, _ in embedder.named_parameters() if "backbone" in name]


def test_the_gradient_mode_decides_nothing(made: Made, case: EmbedderCase) -> None:
    """The vectors are the same with and without gradients, up to the order of sums."""
    modality, embedder = made
    group = group_of(modality, case.rows)
    with torch.enable_grad():
        found = embedder(group)
    torch.testing.assert_close(found.tokens.detach(), read(made, case.rows).tokens, atol=1e-5, rtol=0)
