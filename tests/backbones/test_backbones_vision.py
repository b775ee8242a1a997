"""Image encoders: parity with plain PyTorch and transformers, folded weights, storage, refusals, real photographs."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from loaded_encoders import pretrained
from torch import Tensor, nn

from polydetr.backbones import image as encoders
from polydetr.backbones.convnet import ConvNorm, InvertedResidualEncoder
from polydetr.backbones.packaged import efficientnet_weights, mobilenet_weights, packaged_state
from polydetr.errors import BackboneError, ModelFolderError, SaveError
from polydetr.fetch.backbones import is_fetched
from polydetr.nn.cpu.linear import pack
from polydetr.specs.choose import choose_image_spec
from polydetr.specs.image import ImageSpec, load_image_spec, patch_spec
from polydetr.specs.packaged import EFFICIENTNET_LITE0, IMAGENET_MEAN, MOBILENET_V2, PackagedImageEncoder, map_channels
from polydetr.training.optimizer import parameter_groups
from polydetr.values.framing import fit_image
from polydetr.values.images import open_image

# -- plain modules with the packaged files' names, their norms unfolded ---------------------------------------


def unit(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU6()]


class PlainBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        widen = [nn.Sequential(*unit(inputs, inner))] if expansion > 1 else []
        filtered = nn.Sequential(*unit(inner, inner, 3, stride, inner))
        self.conv = nn.Sequential(*widen, filtered, *unit(inner, outputs)[:2])
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


def plain_mobilenet() -> nn.Sequential:
    layers: list[nn.Module] = [nn.Sequential(*unit(3, 32, 3, 2))]
    width = 32
    for expansion, channels, repeats, first, _ in MOBILENET_V2.encoder["blocks"]:
        for index in range(repeats):
            layers.append(PlainBlock(width, channels, first if index == 0 else 1, expansion))
            width = channels
    return nn.Sequential(*layers, nn.Sequential(*unit(320, 1280)))


def tensorflow_conv(x: Tensor, weight: Tensor, stride: int, groups: int) -> Tensor:
    kernel = weight.shape[-1]
    pads = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[2:]]
    height, width = pads
    x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
    return F.conv2d(x, weight, stride=stride, groups=groups)


def plain_efficientnet(state: Mapping[str, Tensor], x: Tensor) -> Tensor:
    def step(x: Tensor, conv: str, norm: str, stride: int = 1, *, act: bool = True, depthwise: bool = False) -> Tensor:
        weight = state[f"{conv}.weight"]
        x = tensorflow_conv(x, weight, stride, len(weight) if depthwise else 1)
        mean, var, gain, bias = (state[f"{norm}.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
        x = F.batch_norm(x, mean, var, gain, bias, training=False, eps=1e-3)
        return x.clamp(0, 6) if act else x

    x, index = step(x, "_conv_stem", "_bn0", 2), 0
    for _, _, repeats, first, _ in EFFICIENTNET_LITE0.encoder["blocks"]:
        for turn in range(repeats):
            base, before = f"_blocks.{index}", x
            if index:
                x = step(x, f"{base}._expand_conv", f"{base}._bn0")
            x = step(x, f"{base}._depthwise_conv", f"{base}._bn1", first if turn == 0 else 1, depthwise=True)
            x = step(x, f"{base}._project_conv", f"{base}._bn2", act=False)
            x = x + before if x.shape == before.shape else x
            index += 1
    return step(x, "_conv_head", "_bn1")


def stirred(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Random norms that keep activations in range, so that a mixed-up mean or gain shows."""
    generator = torch.Generator().manual_seed(3)
    for name, tensor in state.items():
        if name.endswith(("running_var",)) or (name.endswith("weight") and tensor.dim() == 1):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
        elif name.endswith(("running_mean", "bias")):
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
    return state


def mobilenet_like() -> tuple[nn.Sequential, dict[str, Tensor]]:
    torch.manual_seed(0)
    plain = plain_mobilenet().eval()
    return plain, {f"features.{name}": tensor for name, tensor in stirred(plain.state_dict()).items()}


def efficientnet_like() -> dict[str, Tensor]:
    torch.manual_seed(0)
    names = efficientnet_shapes()
    state = {n: torch.randn(s) * (2 / max(1, np.prod(s[1:]))) ** 0.5 for n, s in names.items()}
    return stirred({n: t.abs() if n.endswith("running_var") else t for n, t in state.items()})


def efficientnet_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}

    def add(conv: str, norm: str, *shape: int) -> None:
        shapes[f"{conv}.weight"] = shape
        shapes.update({f"{norm}.{part}": shape[:1] for part in ("weight", "bias", "running_mean", "running_var")})

    add("_conv_stem", "_bn0", 32, 3, 3, 3)
    width, index = 32, 0
    for expansion, channels, repeats, _, kernel in EFFICIENTNET_LITE0.encoder["blocks"]:
        for _ in range(repeats):
            base, inner = f"_blocks.{index}", width * expansion
            if index:
                add(f"{base}._expand_conv", f"{base}._bn0", inner, width, 1, 1)
            add(f"{base}._depthwise_conv", f"{base}._bn1", inner, 1, kernel, kernel)
            add(f"{base}._project_conv", f"{base}._bn2", channels, inner, 1, 1)
            width, index = channels, index + 1
    add("_conv_head", "_bn1", 1280, 320, 1, 1)
    return shapes


def encoder_of(parts: PackagedImageEncoder, convert, state: Mapping[str, Tensor]) -> InvertedResidualEncoder:
    encoder = InvertedResidualEncoder(**parts.encoder).eval()
    encoder.load_state_dict(convert(state))
    return encoder


@pytest.mark.parametrize("size", [(64, 64), (70, 97)])
@torch.no_grad()
def test_the_same_numbers_as_unfolded_modules(size: tuple[int, int]) -> None:
    pixels = torch.randn(2, 3, *size)
    plain, state = mobilenet_like()
    found = encoder_of(MOBILENET_V2, mobilenet_weights, state)(pixels)
    torch.testing.assert_close(found[32], plain(pixels), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[8], plain[:7](pixels), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[16], plain[:14](pixels), rtol=1e-4, atol=1e-5)
    state = efficientnet_like()
    found = encoder_of(EFFICIENTNET_LITE0, efficientnet_weights, state)(pixels)
    torch.testing.assert_close(found[32], plain_efficientnet(state, pixels), rtol=1e-3, atol=1e-3)
    for parts in (MOBILENET_V2, EFFICIENTNET_LITE0):
        encoder = InvertedResidualEncoder(**parts.encoder)
        shapes = {k: tuple(v.shape) for k, v in encoder(pixels).items()}
        assert shapes == {k: (2, c, -(-size[0] // k), -(-size[1] // k)) for k, c in map_channels(parts.encoder).items()}
        assert list(shapes) == [8, 16, 32]


SMALL = {"stem": 8, "blocks": [[1, 8, 1, 1, 3], [2, 12, 2, 2, 5], [2, 16, 1, 2, 3], [2, 16, 2, 2, 3], [2, 20, 1, 2, 3]],
         "head": 24, "eps": 1e-3, "same_padding": True}  # fmt: skip


def test_packing_changes_no_number_and_is_forgotten_when_weights_change() -> None:
    torch.manual_seed(0)
    encoder, pixels = InvertedResidualEncoder(**SMALL).eval(), torch.randn(3, 3, 40, 40)
    with torch.no_grad():
        plain = encoder(pixels)[32]
        pack(encoder)
        torch.testing.assert_close(encoder(pixels)[32], plain, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(copy.deepcopy(encoder)(pixels)[32], plain, rtol=1e-4, atol=1e-4)
        encoder.layers[0].gain.mul_(1.5)  # type: ignore[union-attr, operator]
        changed = encoder(pixels)[32]
        assert not torch.allclose(changed, plain)
        pack(encoder)
        encoder.layers[0].get_buffer("mean").add_(0.5)
        assert not torch.allclose(encoder(pixels)[32], changed)
        pack(encoder)
        assert encoder.train().layers[0]._packed is None
    pack(encoder.eval())
    encoder(pixels)[32].sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())
    assert set(encoder.state_dict()) == set(InvertedResidualEncoder(**SMALL).state_dict())
    pack(encoder)
    assert encoder.to(torch.bfloat16).layers[0]._packed is None


def test_a_folded_norm_learns_as_an_unfolded_one_would() -> None:
    torch.manual_seed(0)
    layer = ConvNorm(5, 7, kernel=3, stride=2, eps=1e-3, same_padding=False)
    layer.get_buffer("mean").normal_()
    layer.get_buffer("variance").uniform_(0.5, 2)
    layer.gain.data.uniform_(0.5, 2)
    x = torch.randn(2, 5, 11, 11)
    layer(x).square().sum().backward()
    ours = {name: p.grad.clone() for name, p in layer.named_parameters() if p.grad is not None}
    layer.zero_grad()
    mean, variance = layer.get_buffer("mean"), layer.get_buffer("variance")
    plain = F.conv2d(x, layer.weight, None, 2, 1)
    F.relu6(F.batch_norm(plain, mean, variance, layer.gain, layer.bias, eps=1e-3)).square().sum().backward()
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-4, atol=1e-4)


def test_statistics_stay_frozen_and_layers_have_their_learning_rates() -> None:
    model = nn.ModuleDict({"backbone": InvertedResidualEncoder(**SMALL), "head": nn.Linear(3, 3)})
    encoder = model["backbone"].train()
    before = {name: buffer.clone() for name, buffer in encoder.named_buffers()}
    assert before
    encoder(torch.randn(2, 3, 32, 32))
    assert all(torch.equal(before[name], buffer) for name, buffer in encoder.named_buffers())
    groups = parameter_groups(model, lr=1.0, head_lr=7.0, layer_decay=0.5, freeze_layers=2)
    rates = {name: group["lr"] for group in groups for name in group["names"]}
    top = len(encoder.layers) - 1
    assert not any(name.startswith(("backbone.layers.0.", "backbone.layers.1.")) for name in rates)
    assert rates[f"backbone.layers.{top}.weight"] == 1.0
    assert rates["backbone.layers.2.depthwise.weight"] == 0.5 ** (top - 2)
    assert rates["head.weight"] == 7.0


def test_a_checkpoint_that_lacks_a_weight() -> None:
    _, state = mobilenet_like()
    del state["features.3.conv.2.weight"]
    with pytest.raises(BackboneError, match=r"lacks 1 weights, 'features.3.conv.2.weight' first"):
        mobilenet_weights(state)


# -- packaged files -------------------------------------------------------------------------------------------


def test_a_packaged_file_is_unpickled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, state = mobilenet_like()
    torch.save(state, tmp_path / "weights.pth")
    first = packaged_state(tmp_path)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("read again"))
    second = packaged_state(tmp_path)
    assert set(first) == set(second) == set(state)
    assert all(torch.equal(first[n], second[n]) for n in first)


def test_a_packaged_file_that_changed_or_is_broken(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "weights.pth")
    assert packaged_state(tmp_path)["a"].tolist() == [1, 1]
    torch.save({"a": torch.ones(200) * 2}, tmp_path / "weights.pth")
    assert packaged_state(tmp_path)["a"][0] == 2
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    assert packaged_state(tmp_path)["a"][0] == 2
    (tmp_path / "weights.pth").write_bytes(b"no weights at all")
    with pytest.raises(BackboneError, match="cannot be read"):
        packaged_state(tmp_path)


class _Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("code of the file was run",))


def test_a_packaged_file_with_code_in_it_is_refused(tmp_path: Path) -> None:
    torch.save({"a": _Trap()}, tmp_path / "weights.pth")
    with pytest.raises(BackboneError, match="cannot be read"):
        packaged_state(tmp_path)


# -- transformers ---------------------------------------------------------------------------------------------


def configurations() -> dict[str, tuple[object, int, int]]:
    """Name → (configuration, width, stride)."""
    hf = pytest.importorskip("transformers")
    tiny = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20}
    return {
        "vit": (hf.ViTConfig(**tiny, image_size=32, patch_size=8), 12, 8),
        "dinov2": (hf.Dinov2WithRegistersConfig(**tiny, image_size=28, patch_size=7, num_register_tokens=4), 12, 7),
        "convnext": (hf.ConvNextConfig(hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 2, 1], image_size=64), 20, 32),
        "swin": (
            hf.SwinConfig(embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=2, image_size=32, patch_size=4),
            16,
            8,
        ),
        # The first version's bottlenecks stride in their first convolution: such a one is not ours.
        "resnet": (
            hf.ResNetConfig(
                embedding_size=8, hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1], downsample_in_bottleneck=True
            ),
            20,
            32,
        ),
    }  # fmt: skip


def write_encoder(folder: Path, kind: str):
    hf = pytest.importorskip("transformers")
    torch.manual_seed(1)
    model = hf.AutoModel.from_config(configurations()[kind][0]).eval()
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("kind", ["vit", "dinov2", "convnext", "swin", "resnet"])
@torch.no_grad()
def test_any_encoder_of_transformers(kind: str, tmp_path: Path) -> None:
    model = write_encoder(tmp_path, kind)
    backbone = load_image_spec(str(tmp_path))
    _, width, stride = configurations()[kind]
    assert (backbone.hidden_dim, backbone.stride) == (width, stride)
    encoder, pixels = pretrained(backbone).eval(), torch.randn(2, 3, 64, 64)
    (found,) = encoder(pixels).values()
    grid = backbone.grid(64)
    assert found.shape == (2, width, grid, grid)
    options = {"interpolate_pos_encoding": True} if kind != "convnext" and kind != "resnet" else {}
    theirs = model(pixel_values=pixels, **options).last_hidden_state
    if theirs.dim() == 3:
        theirs = theirs[:, -grid * grid :].transpose(1, 2).reshape(2, width, grid, grid)
    torch.testing.assert_close(found, theirs, rtol=1e-5, atol=1e-5)
    names = [name for name, _ in nn.ModuleDict({"backbone": encoder}).named_parameters()]
    assert all(name.startswith("backbone.layers.0.") for name in names)
    before = [b.clone() for b in encoder.buffers()]
    encoder.train()(pixels)
    assert all(torch.equal(a, b) for a, b in zip(before, encoder.buffers(), strict=True))


def test_images_that_are_not_square_keep_their_shape(tmp_path: Path) -> None:
    write_encoder(tmp_path, "vit")
    encoder = pretrained(load_image_spec(str(tmp_path))).eval()
    pixels = torch.zeros(1, 3, 32, 64)
    pixels[..., :32] = torch.randn(1, 3, 32, 32)
    found = encoder(pixels)[8]
    assert found.shape == (1, 12, 4, 8)


def test_the_folder_says_how_pixels_are_normalised(tmp_path: Path) -> None:
    write_encoder(tmp_path, "vit")
    assert load_image_spec(str(tmp_path)).mean == IMAGENET_MEAN
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.25, 0.5]}))
    backbone = load_image_spec(str(tmp_path))
    assert (backbone.mean, backbone.std) == ((0.5, 0.5, 0.5), (0.5, 0.25, 0.5))
    file.write_text(json.dumps({"do_normalize": False}))
    assert load_image_spec(str(tmp_path)).std == (1, 1, 1)
    file.write_text(json.dumps({"image_mean": [0.5], "image_std": [0.5]}))
    with pytest.raises(BackboneError, match="three channels"):
        load_image_spec(str(tmp_path))


def test_an_encoder_of_texts_is_refused(tmp_path: Path) -> None:
    hf = pytest.importorskip("transformers")
    config = hf.BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    hf.AutoModel.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(BackboneError, match="'bert' encoder does not read images"):
        load_image_spec(str(tmp_path))


# -- names and storage ----------------------------------------------------------------------------------------


def test_names_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="is a text backbone, an image backbone was expected"):
        load_image_spec("minilm")
    with pytest.raises(BackboneError, match="Did you mean 'mobilenet-v2'"):
        load_image_spec("mobilenet-v3")
    with pytest.raises(BackboneError, match="is no folder"):
        load_image_spec(str(tmp_path / "absent"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(BackboneError, match=r"no model\.safetensors"):
        load_image_spec(str(tmp_path / "empty"))


def test_auto_without_a_network_is_patches_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BackboneError("no network here.")

    monkeypatch.setattr("polydetr.fetch.backbones.fetch_backbone", refuse)
    notes: list[str] = []
    backbone = choose_image_spec("auto", hidden_dim=16, patch_size=8, notify=notes.append)
    assert backbone.name == "none"
    assert "random weights (efficientnet-lite0 cannot be had: no network here.)" in notes[0]
    with pytest.raises(BackboneError, match="no network here"):
        choose_image_spec("mobilenet-v2", hidden_dim=16, patch_size=8, notify=notes.append)


def test_patches_are_squares_projected() -> None:
    backbone = patch_spec(hidden_dim=6, patch_size=4)
    encoder, pixels = encoders.build(backbone), torch.randn(2, 3, 8, 12)
    found = encoder(pixels)[4]
    assert found.shape == (2, 6, 2, 3)
    assert (backbone.grid(12), backbone.num_layers) == (3, 0)
    weight = encoder.patches.weight.flatten(1)  # type: ignore[union-attr, operator]
    by_hand = weight @ pixels[1, :, 4:8, 8:12].flatten() + encoder.patches.bias  # type: ignore[union-attr]
    torch.testing.assert_close(found[1, :, 1, 2], by_hand)
    with pytest.raises(BackboneError, match="has no pretrained weights here"):
        encoders.weights(backbone)


def test_save_and_restore_without_weights(tmp_path: Path) -> None:
    write_encoder(tmp_path / "hf", "convnext")
    config = {"architecture": "inverted-residuals", "encoder": SMALL}
    small = ImageSpec("small", config, 24, 32, 7, EFFICIENTNET_LITE0.mean, EFFICIENTNET_LITE0.std)
    for before in (small, patch_spec(hidden_dim=6, patch_size=4), load_image_spec(str(tmp_path / "hf"))):
        before.save(tmp_path / "saved")
        after = ImageSpec.from_folder(tmp_path / "saved")
        for field in ("name", "config", "hidden_dim", "stride", "num_layers", "mean", "std"):
            assert getattr(after, field) == getattr(before, field)
        encoders.build(after).load_state_dict(encoders.build(before).state_dict())
        with pytest.raises(BackboneError, match="restored from a model folder"):
            encoders.weights(after)
    good = json.loads((tmp_path / "saved" / "vision.json").read_text())
    for content, message in (
        ("{", "cannot be read"),
        (json.dumps(good | {"format": 2}), "format 2, this version reads 1"),
        (json.dumps({k: v for k, v in good.items() if k != "mean"}), "lacks mean"),
    ):
        (tmp_path / "saved" / "vision.json").write_text(content)
        with pytest.raises(ModelFolderError, match=message):
            ImageSpec.from_folder(tmp_path / "saved")
    (tmp_path / "a-file").write_text("")
    with pytest.raises(SaveError, match="cannot be written"):
        small.save(tmp_path / "a-file")


# -- the real weights on real photographs ---------------------------------------------------------------------

IMAGENET = {"zebra": {340}, "elephant": {101, 385, 386}, "pizza": {963}, "cat": set(range(281, 286)), "toilet": {861},
            "bear": {294, 295, 296, 297}, "bus": {654, 779, 874}}  # fmt: skip


@pytest.mark.shared
@pytest.mark.parametrize("name", ["mobilenet-v2", "efficientnet-lite0"])
@torch.no_grad()
def test_photographs_are_recognised(name: str, shared_data: Path) -> None:
    folder = shared_data / "coco256"
    if not folder.is_dir():
        pytest.skip(f"no photographs at {folder}")
    if not is_fetched(name):
        pytest.skip(f"{name} was not fetched")
    backbone = load_image_spec(name)
    coco = json.loads((folder / "instances_train2017_rescaled.json").read_text())
    kinds = {c["id"]: c["name"] for c in coco["categories"]}
    files = {i["id"]: i["file_name"] for i in coco["images"]}
    shown = {
        (files[a["image_id"]], kinds[a["category_id"]])
        for a in coco["annotations"]
        if kinds[a["category_id"]] in IMAGENET and a["bbox"][2] * a["bbox"][3] > 35_000
    }
    pixels = np.stack([fit_image(open_image(folder / "images" / "train2017" / file), 224, fit="stretch")
                       for file, _ in sorted(shown)])  # fmt: skip
    mean, std = (torch.tensor(v)[:, None, None] for v in (backbone.mean, backbone.std))
    encoder = pretrained(backbone).eval()
    pooled = encoder((torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std)[32].mean((2, 3))
    prefix = {"mobilenet-v2": "classifier.1", "efficientnet-lite0": "_fc"}[name]
    assert backbone.source is not None
    weight, bias = (packaged_state(backbone.source)[f"{prefix}.{kind}"] for kind in ("weight", "bias"))
    best = (pooled @ weight.T + bias).topk(5).indices.tolist()
    hits = [bool(IMAGENET[kind] & set(top)) for (_, kind), top in zip(sorted(shown), best, strict=True)]
    assert len(hits) >= 12
    assert sum(hits) / len(hits) >= 0.85
    assert backbone.grid(160) == 5
