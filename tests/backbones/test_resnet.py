"""ResNets: parity with transformers, published sizes, names, the fused passes, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from loaded_encoders import pretrained
from safetensors.torch import save_file
from torch import Tensor

from polydetr.backbones import image as encoders
from polydetr.backbones.convnet import ConvNorm
from polydetr.backbones.resnet import ResNet, resnet_weights
from polydetr.errors import BackboneError
from polydetr.nn.cpu.convolution import can_fuse
from polydetr.nn.cpu.linear import pack
from polydetr.specs.image import ImageSpec, load_image_spec
from polydetr.specs.resnet import describe_resnet, torchvision_key
from polydetr.training.optimizer import parameter_groups

PUBLISHED = {
    "resnet18": (False, (2, 2, 2, 2), 11_176_512),
    "resnet34": (False, (3, 4, 6, 3), 21_284_672),
    "resnet50": (True, (3, 4, 6, 3), 23_508_032),
    "resnet101": (True, (3, 4, 23, 3), 42_500_160),
}


def hub_resnet(*, bottleneck: bool = True):
    """transformers' ResNetModel, random in everything, statistics too."""
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        depths=[1, 2, 1, 2], hidden_sizes=[8, 12, 16, 20], embedding_size=8,
        layer_type="bottleneck" if bottleneck else "basic",
    )  # fmt: skip
    torch.manual_seed(3)
    model = transformers.ResNetModel(config).eval()
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.copy_(0.5 + torch.rand(tensor.shape))
        elif tensor.dim() == 1:
            tensor.add_(0.3 * torch.randn(tensor.shape))
    return model


def torchvision_file(model, path: Path, **more: Tensor) -> Path:
    """The same weights by torchvision's names, with a classifier."""
    state = {torchvision_key(name): tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state | {"fc.weight": torch.zeros(3, 20), "fc.bias": torch.zeros(3)} | more, path)
    return path


def pixels() -> Tensor:
    return torch.randn(2, 3, 70, 45, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("bottleneck", [True, False])
def test_it_gives_transformers_maps_from_either_layout(tmp_path: Path, bottleneck: bool) -> None:
    model = hub_resnet(bottleneck=bottleneck)
    model.save_pretrained(tmp_path / "hub")
    (tmp_path / "plain").mkdir()
    file = torchvision_file(model, tmp_path / "plain" / "model.safetensors")
    with torch.no_grad():
        expected = model(pixels(), output_hidden_states=True).hidden_states[-3:]
    for source in (tmp_path / "hub", tmp_path / "plain", file):
        backbone = load_image_spec(str(source))
        assert (backbone.config["architecture"], backbone.hidden_dim, backbone.stride) == ("resnet", 20, 32)
        assert backbone.detr is None
        encoder = pretrained(backbone)
        assert isinstance(encoder, ResNet)
        with torch.no_grad():
            maps = encoder(pixels())
        assert {stride: found.shape[1] for stride, found in maps.items()} == {8: 12, 16: 16, 32: 20}
        for ours, theirs in zip(maps.values(), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_what_it_is_survives_saving(tmp_path: Path) -> None:
    backbone = load_image_spec(str(torchvision_file(hub_resnet(), tmp_path / "model.safetensors")))
    backbone.save(tmp_path)
    restored = ImageSpec.from_folder(tmp_path)
    assert restored.config == backbone.config
    assert encoders.build(restored).state_dict().keys() == encoders.weights(backbone).keys()
    assert restored.grid(160) == backbone.grid(160) == 5


def test_resnets_have_the_published_sizes() -> None:
    """torchvision's 11.69, 21.80, 25.56 and 44.55 million, less a classifier of 1000 × (width + 1)."""
    for name, (bottleneck, depths, count) in PUBLISHED.items():
        widths = (256, 512, 1024, 2048) if bottleneck else (64, 128, 256, 512)
        with torch.device("meta"):
            resnet = ResNet(depths=depths, bottleneck=bottleneck, stem=64, widths=widths)
        assert sum(parameter.numel() for parameter in resnet.parameters()) == count, name
    with pytest.raises(BackboneError, match="four positive numbers"):
        ResNet(depths=(1, 1, 1), bottleneck=True, stem=8, widths=(8, 8, 8, 8))


def test_description_is_read_off_the_shapes() -> None:
    for bottleneck, depths, _ in PUBLISHED.values():
        shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7)}
        for stage, depth in enumerate(depths, start=1):
            for number in range(depth):
                shapes[f"layer{stage}.{number}.conv{3 if bottleneck else 2}.weight"] = (stage * 32, 1, 1, 1)
        assert describe_resnet(shapes) == {
            "depths": list(depths), "bottleneck": bottleneck, "stem": 64, "widths": [32, 64, 96, 128], "dilated": False
        }  # fmt: skip


@pytest.mark.parametrize("bottleneck", [True, False])
@pytest.mark.parametrize("dilated", [True, False])
@pytest.mark.parametrize("projected", [None, 12])
def test_fused_passes_equal_the_layers(bottleneck: bool, dilated: bool, projected: int | None) -> None:
    torch.manual_seed(0)
    # Equal widths at the end: a dilated stage then begins without a shortcut of its own.
    resnet = ResNet(depths=(1, 2, 1, 2), bottleneck=bottleneck, stem=8, widths=(8, 12, 16, 16), dilated=dilated,
                    projected=projected)  # fmt: skip
    for module in resnet.modules():
        if isinstance(module, ConvNorm):
            torch.nn.init.normal_(module.bias)
            torch.nn.init.uniform_(module.get_buffer("variance"), 0.5, 1.5)
    layered = resnet.eval()(pixels())
    assert tuple(layered) == ((8, 16) if dilated else (8, 16, 32))
    pack(resnet)
    assert not can_fuse(pixels())  # gradients are on
    with torch.no_grad():
        assert can_fuse(pixels())
        fused = resnet(pixels())
    for stride, expected in layered.items():
        torch.testing.assert_close(fused[stride], expected.detach(), rtol=1e-4, atol=1e-4)
    layered[max(layered)].sum().backward()
    assert resnet.layers[0].weight.grad is not None


def test_dilated_backbone_keeps_its_map_fine() -> None:
    resnet = ResNet(depths=(1, 1, 1, 2), bottleneck=True, stem=8, widths=(8, 12, 16, 20), dilated=True)
    assert resnet(pixels())[16].shape == (2, 20, 5, 3)
    # As in torchvision: the first block of the widened stage still reads a map that was not widened.
    widened = [m.steps.dilation for m in resnet.modules() if isinstance(m, ConvNorm) and m.kernel == 3]
    assert widened[-2:] == [1, 2]


def test_nothing_is_fused_where_it_would_be_lost() -> None:
    with torch.no_grad():
        assert not can_fuse(torch.zeros(1, 1, 1, 1, dtype=torch.float64))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert not can_fuse(torch.zeros(1, 1, 1, 1))


def test_layers_can_be_frozen_from_the_bottom() -> None:
    resnet = ResNet(depths=(1, 1, 1, 1), bottleneck=True, stem=8, widths=(8, 12, 16, 20))
    parameter_groups(torch.nn.ModuleDict({"backbone": resnet}), lr=1e-3, freeze_layers=2)
    frozen = {name.split(".")[1] for name, p in resnet.named_parameters() if not p.requires_grad}
    assert frozen == {"0", "1"}


def test_other_weights_are_refused_by_name(tmp_path: Path) -> None:
    model = hub_resnet()
    state = {torchvision_key(name): tensor for name, tensor in model.state_dict().items()}
    encoder = describe_resnet({name: tuple(tensor.shape) for name, tensor in state.items()})
    with pytest.raises(BackboneError, match=r"1 tensors differ: layers.3.convolutions.0.bias is missing"):
        resnet_weights({k: v for k, v in state.items() if k != "layer2.1.bn1.bias"}, encoder)
    with pytest.raises(BackboneError, match=r"layers.0.weight has shape \(8, 3, 7, 7\), expected \(5, 3, 7, 7\)"):
        resnet_weights(state, encoder | {"stem": 5})
    odd = torchvision_file(model, tmp_path / "odd.safetensors", **{"layer1.0.se.weight": torch.zeros(2)})
    with pytest.raises(BackboneError, match=r"layer1.0.se.weight is unknown"):
        encoders.weights(load_image_spec(str(odd)))
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(BackboneError, match=r"no ResNet or DETR, and no config.json"):
        load_image_spec(str(tmp_path))
