"""Images become tokens: what is encoded, what is masked, what the embedder makes of it, and what is kept."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from polydetr import embedders
from polydetr.config.sections import AugmentConfig, Config, ImageConfig
from polydetr.core.access import FileAccess
from polydetr.core.examples import Example
from polydetr.embedders.image import ImageEmbedder
from polydetr.errors import BackboneError, ConfigError, RowError
from polydetr.modalities.base import BuildContext, Needs
from polydetr.modalities.image import ImageModality
from polydetr.nn.batch import Batch, TokenGroup
from polydetr.schema.spec import FieldSpec
from polydetr.specs.image import ImageSpec, patch_spec

CONV = {"stem": 8, "blocks": [[1, 8, 1, 1, 3], [2, 12, 1, 2, 3], [2, 14, 1, 2, 3]], "head": 20}


def convolutions() -> ImageSpec:
    config = {"architecture": "inverted-residuals", "encoder": CONV}
    return ImageSpec("tiny", config, 20, 8, 5, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def patches() -> ImageSpec:
    return patch_spec(hidden_dim=12, patch_size=8)


def modality(*fields: str, backbone: ImageSpec | None = None, **config: Any) -> ImageModality:
    return ImageModality(
        fields or ("photo",),
        backbone or convolutions(),
        config=ImageConfig(**{"size": 32, **config}),
        needs=Needs(alone=True),
    )


def picture(seed: int = 0, width: int = 40, height: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def arrays(found: ImageModality, *rows: dict[str, Any]) -> dict[str, np.ndarray]:
    (window,) = found.encode(rows).windows
    return dict(window.arrays)


def batch(found: ImageModality, *rows: dict[str, Any]) -> TokenGroup:
    examples = [Example({"image": arrays(found, row)}) for row in rows]
    return Batch.collate(examples).groups["image"]


# -- encoding -----------------------------------------------------------------------------------------


def test_images_of_all_fields_in_order(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(picture(1)))
    found = modality("front", "back")
    row = {"back": ["a.png", picture(2)], "front": png(picture(0))}
    (window,) = found.encode([row], access=FileAccess(tmp_path)).windows
    assert window.arrays["pixels"].shape == (3, 3, 32, 32)
    assert window.arrays["pixels"].dtype == np.uint8
    assert window.arrays["field"].tolist() == [0, 1, 1]
    for number, wanted in enumerate((0, 1, 2)):
        expected = np.asarray(Image.fromarray(picture(wanted)).resize((32, 32), Image.Resampling.BILINEAR))
        assert np.array_equal(window.arrays["pixels"][number], expected.transpose(2, 0, 1))


@pytest.mark.parametrize("value", [None, float("nan"), "", []])
def test_a_missing_image_is_reported_and_gives_no_entry(value: object) -> None:
    encoded = modality("front", "back").encode([{"front": value, "back": picture()}])
    assert [(f.kind, f.column) for f in encoded.warnings] == [("missing", "front")]
    assert encoded.windows[0].arrays["field"].tolist() == [1]
    nothing = modality().encode([{"photo": value}])
    assert nothing.is_empty
    assert nothing.windows[0].arrays["pixels"].shape == (0, 3, 32, 32)
    assert not modality().encode([{"photo": picture()}]).is_empty
    assert [f.kind for f in modality().encode([{}]).warnings] == ["missing"]


def test_too_many_images_are_reported() -> None:
    encoded = modality(max_images=2).encode([{"photo": [picture(i) for i in range(3)]}])
    assert [f.kind for f in encoded.warnings] == ["truncated"]
    assert "has 3 images; the first 2 are read" in str(encoded.warnings[0])
    assert len(encoded.windows[0].arrays["pixels"]) == 2


def test_what_cannot_be_read_names_column_and_file(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"not a picture")
    with pytest.raises(RowError, match=r"column 'photo': 'bad.jpg' is not an image"):
        modality().encode([{"photo": ["bad.jpg"]}], access=FileAccess(tmp_path))
    with pytest.raises(RowError, match=r"leads out of the folder"):
        modality().encode([{"photo": "../x.png"}], access=FileAccess(tmp_path))
    with pytest.raises(RowError, match="max_pixels = 100"):
        modality(max_pixels=100).encode([{"photo": png(picture())}])


def test_padding_has_the_backbones_mean_color() -> None:
    pixels = arrays(modality(fit="pad"), {"photo": picture(height=10)})["pixels"]
    assert pixels[0, :, 0, 0].tolist() == [124, 116, 104]


def test_encoding_in_threads_gives_the_same_bytes() -> None:
    found, rows = modality(), [{"photo": png(picture(i))} for i in range(24)]
    alone = [arrays(found, row)["pixels"] for row in rows]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda row: arrays(found, row)["pixels"], rows))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_the_keys_of_the_cache(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(picture(1)))
    rows = [{"photo": "a.png"}, {"photo": None}]
    before = modality().content_key(rows, access=FileAccess(tmp_path))
    assert before == modality().content_key(rows, access=FileAccess(tmp_path))
    assert before != modality().content_key(rows[:1], access=FileAccess(tmp_path))
    (tmp_path / "a.png").write_bytes(png(picture(1, width=50)))
    assert before != modality().content_key(rows, access=FileAccess(tmp_path))
    settings: list[dict[str, Any]] = [{}, {"size": 40}, {"fit": "pad"}, {"max_images": 1}]
    prints = {modality(**c).fingerprint() for c in settings}
    assert len(prints) == 4
    assert modality(backbone=convolutions()).fingerprint() == modality().fingerprint()


# -- the embedder -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", [convolutions, patches])
@torch.no_grad()
def test_every_real_image_becomes_its_grid_and_neighbors_do_not_matter(backbone: Any) -> None:
    found = modality("front", "back", backbone=backbone())
    embedder = embedders.build(found, embed_dim=24, others={}).eval()
    assert (found.grid, found.tokens_per_entry, embedder.embed_dim) == (4, 16, 24)
    rows = [{"front": picture(0), "back": [picture(1), picture(2)]}, {"front": None, "back": picture(1)}, {}]
    group = batch(found, *rows)
    assert group.values["pixels"].dtype == torch.uint8
    out = embedder(group)
    assert out.tokens.shape == (3, 48, 24)
    assert out.mask.sum(1).tolist() == [48, 16, 0]
    torch.testing.assert_close(out.tokens[0, 16:32], out.tokens[1, :16], rtol=1e-4, atol=1e-5)
    moved = embedder(batch(found, {"front": picture(1)})).tokens[0]
    assert not torch.allclose(moved, out.tokens[1, :16])  # the same image in another field
    garbage = group.values["pixels"].clone()
    garbage[~group.mask] = 99
    again = embedder(TokenGroup({**group.values, "pixels": garbage}, group.mask, group.positions))
    assert torch.equal(again.tokens[out.mask], out.tokens[out.mask])


@torch.no_grad()
def test_a_batch_without_a_image_works() -> None:
    found = modality()
    out = embedders.build(found, embed_dim=None, others={}).eval()(batch(found, {}, {"photo": None}))
    assert out.tokens.shape == (2, 16, 20)
    assert not out.mask.any()
    assert out.tokens.isfinite().all()


@torch.no_grad()
def test_cells_know_their_place() -> None:
    found = modality(backbone=patches())
    out = (
        embedders.build(found, embed_dim=16, others={})
        .eval()(batch(found, {"photo": np.full((8, 8, 3), 7, np.uint8)}))
        .tokens[0]
    )
    assert len(out.unique(dim=0)) == 16
    rows, columns = out.view(4, 4, 16)[..., :8], out.view(4, 4, 16)[..., 8:]
    torch.testing.assert_close(rows[:, 0], rows[:, 3])
    torch.testing.assert_close(columns[0], columns[3])


@pytest.mark.parametrize("fields", [("photo",), ("photo", "other")])
@torch.no_grad()
def test_features_are_a_shortcut_to_the_same_tokens(fields: tuple[str, ...]) -> None:
    found = modality(*fields)
    embedder = embedders.build(found, embed_dim=24, others={}).eval()
    rows = [{"photo": [picture(0), picture(1)], "other": picture(3)}, {"other": picture(2)}, {"photo": picture(4)}]
    rows = rows if len(fields) > 1 else rows[::2]
    group = batch(found, *rows)
    whole, features = embedder(group), embedder.features(group)
    assert torch.equal(features.mask, whole.mask)
    # Kept example by example, without padding, and collated anew: as the core does with features on disk.
    kept = [Example({"image": {"features": t[m].numpy()}}) for t, m in zip(features.tokens, features.mask, strict=True)]
    again = embedder(Batch.collate(kept).groups["image"])
    assert torch.equal(again.mask, whole.mask)
    torch.testing.assert_close(again.tokens[again.mask], whole.tokens[whole.mask])


@torch.no_grad()
def test_pixels_are_normalised_as_the_backbone_wants_them() -> None:
    found = modality()
    embedder = embedders.build(found, embed_dim=None, others={}).eval()
    group = batch(found, {"photo": picture()})
    pixels = (group.values["pixels"][0] / 255 - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor(
        [0.229, 0.224, 0.225]
    )[:, None, None]
    expected = embedder.backbone(pixels)[8].flatten(2).transpose(1, 2)
    torch.testing.assert_close(embedder.features(group).tokens, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backbone", [convolutions, patches])
@torch.no_grad()
def test_bfloat16_stays_close(backbone: Any) -> None:
    found = modality("front", "back", backbone=backbone())
    torch.manual_seed(0)
    embedder = embedders.build(found, embed_dim=16, others={}).eval()
    group = batch(found, {"front": picture(0), "back": picture(1)})
    exact = embedder(group)
    rounded = embedder.to(torch.bfloat16)(group)
    assert rounded.tokens.dtype == torch.bfloat16
    assert (rounded.tokens.float() - exact.tokens).norm() / exact.tokens.norm() < 0.03


def test_everything_learns_and_a_wide_backbone_is_narrowed() -> None:
    found = modality("front", "back")
    embedder = embedders.build(found, embed_dim=16, others={}).train()
    embedder(batch(found, {"front": picture(0), "back": picture(1)})).tokens.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in embedder.parameters())
    embedder.zero_grad(set_to_none=True)
    embedder(batch(found, {})).tokens.square().sum().backward()  # without an image: no error
    wide = ImageSpec("w", {"architecture": "patches"}, 600, 8, 0, (0.5,) * 3, (0.5,) * 3)
    assert embedders.build(modality(backbone=wide), embed_dim=None, others={}).embed_dim == 256
    assert isinstance(embedders.build(modality(), embed_dim=None, others={}).project, torch.nn.Identity)
    assert embedder.frozen_with_backbone == ("backbone",)
    assert embedders.build(modality(backbone=patches()), embed_dim=None, others={}).frozen_with_backbone == ()


# -- augmentation -----------------------------------------------------------------------------------------


def test_only_real_images_are_augmented_and_by_the_seed_alone() -> None:
    found = modality(augment=AugmentConfig(flip=True, crop=0.5, color=0.3))
    group = batch(found, {"photo": [picture(0), picture(1)]}, {"photo": picture(2)})
    before = group.values["pixels"].clone()
    embedder = embedders.build(found, embed_dim=None, others={})
    seeded = [embedder.augment(group, torch.Generator().manual_seed(5))[0].values["pixels"] for _ in range(2)]
    assert torch.equal(seeded[0], seeded[1])
    assert torch.equal(group.values["pixels"], before)
    assert not seeded[0][1, 1].any()
    assert (seeded[0][group.mask] != before[group.mask]).flatten(1).any(1).all()
    features = TokenGroup(
        {"features": torch.ones(1, 2, 3)}, torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, 2).long()
    )
    assert embedder.augment(features, torch.Generator()) == (features, None)
    empty = batch(found, {})
    assert embedder.augment(empty, torch.Generator()) == (empty, None)


# -- building and storage -----------------------------------------------------------------------------------------


def build(backbone: str | dict[str, str], notes: list[str], **image: Any) -> ImageModality:
    config = Config(backbone=backbone, image=ImageConfig(**image))
    specs = [FieldSpec("photo", "image")]
    return ImageModality.build(specs, BuildContext([], config, notify=notes.append))


def test_building_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    found = build("none", notes, size=32, patch_size=16)
    assert (found.spec.name, found.tokens_per_entry, found.is_pretrained) == ("none", 4, False)
    assert not ImageEmbedder.pretrained(found)
    assert build({"image": "none"}, notes, size=32).grid == 2
    with pytest.raises(ConfigError, match=r"image\.size = 8 is not a multiple of image\.patch_size = 16.*Take 16"):
        build("none", notes, size=8)

    def refuse(*_: object, **__: object) -> None:
        raise BackboneError("no network.")

    monkeypatch.setattr("polydetr.fetch.backbones.fetch_backbone", refuse)
    assert build("minilm", notes).spec.name == "none"  # named for the text beside the image
    assert "efficientnet-lite0 cannot be had" in notes[-1]
    with pytest.raises(BackboneError):
        build("mobilenet-v2", notes)


def test_saved_and_restored_it_is_the_same(tmp_path: Path) -> None:
    before = modality("front", "back", fit="crop", max_images=2)
    before.save_files(tmp_path)
    after = ImageModality.from_state(before.state(), tmp_path, others={})
    assert after.is_pretrained
    assert (after.fields, after.config, after.fingerprint()) == (before.fields, before.config, before.fingerprint())
    row = {"front": picture(0), "back": [picture(1), picture(2)]}
    assert np.array_equal(arrays(before, row)["pixels"], arrays(after, row)["pixels"])
    first, second = (
        embedders.build(before, embed_dim=16, others={}).eval(),
        embedders.build(after, embed_dim=16, others={}).eval(),
    )
    assert isinstance(second, ImageEmbedder)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(batch(before, row)).tokens, second(batch(after, row)).tokens)
    assert not ImageEmbedder.pretrained(after)


def built(tmp_path: Path, rows: list[dict[str, Any]], notes: list[str]) -> ImageModality:
    config = Config(backbone="none", image=ImageConfig(size=32, patch_size=8, max_pixels=10_000))
    context = BuildContext(rows, config, notify=notes.append, access=FileAccess(tmp_path))
    return ImageModality.build([FieldSpec("photo", "image")], context)


def test_images_of_16_bits_are_read_by_one_scale_which_is_saved(tmp_path: Path) -> None:
    deep = [np.linspace(low, low + 800, 1024).astype(np.uint16).reshape(32, 32) for low in (1000, 1500, 3000)]
    for i, array in enumerate(deep):
        Image.fromarray(array).save(tmp_path / f"{i}.png")
    content = (tmp_path / "1.png").read_bytes()
    rows = [{"photo": "0.png"}, {"photo": content}, {"photo": deep[2]}, {"photo": "absent.png"}]
    notes: list[str] = []
    learned = built(tmp_path, rows, notes)
    (note,) = notes
    assert note.startswith("images of 'photo' have 16 bits and use 1,000 to 3,800 of 0 to 65,535: these become black")
    pixels = [learned.encode([row], access=FileAccess(tmp_path)).windows[0].arrays["pixels"][0, 0] for row in rows[:3]]
    assert [(int(p.min()), int(p.max())) for p in pixels] == [(0, 73), (46, 118), (182, 255)]
    learned.save_files(tmp_path)
    again = ImageModality.from_state(json.loads(json.dumps(learned.state())), tmp_path, others={})
    assert again.fingerprint() == learned.fingerprint()
    encoded = again.encode([{"photo": np.full((9, 9), 5000, np.uint16)}])
    assert [f.kind for f in encoded.warnings] == ["out_of_range"]
    assert "100% of the pixels of 'photo' lie outside of 1,000 to 3,800" in str(encoded.warnings[0])
    with again.opened("1.png", "photo", access=FileAccess(tmp_path)) as shown:  # what reports draw
        assert np.array_equal(np.asarray(shown)[..., 0], pixels[1])


def test_plain_images_and_full_ones_have_no_scale_and_dark_color_is_told(tmp_path: Path) -> None:
    notes: list[str] = []
    full = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    assert built(tmp_path, [{"photo": picture()}, {"photo": full}, {"photo": None}], notes).levels == {}
    assert notes == []
    state = modality().state()
    del state["levels"]  # an older model
    modality().save_files(tmp_path)
    assert ImageModality.from_state(state, tmp_path, others={}).levels == {}


def test_a_limit_is_said_anew() -> None:
    found, content = modality(max_pixels=100), png(picture())
    with pytest.raises(RowError, match="--max-pixels N"):
        found.encode([{"photo": content}])
    assert len(found.with_limit(1200).encode([{"photo": content}]).windows) == 1
