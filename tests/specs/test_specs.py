"""What a spec says of a network it never asks: checked against the network itself."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from polydetr.backbones import image as encoders
from polydetr.specs.image import ImageSpec, patch_spec
from polydetr.specs.packaged import EFFICIENTNET_LITE0, MOBILENET_V2, PackagedImageEncoder


def spec_of(encoder: dict[str, Any]) -> ImageSpec:
    config = {"architecture": "inverted-residuals", "encoder": encoder}
    return ImageSpec("any", config, encoder["head"], 32, 1, (0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize("parts", [MOBILENET_V2, EFFICIENTNET_LITE0], ids=["mobilenet", "efficientnet"])
def test_grid_and_channels_are_those_of_the_network(parts: PackagedImageEncoder) -> None:
    spec = spec_of(parts.encoder)
    with torch.device("meta"), torch.no_grad():
        network = encoders.build(spec).eval()
        for size in (1, 17, 31, 32, 33, 63, 64, 65, 97, 160, 224, 255):
            maps = network(torch.empty(1, 3, size, size))
            assert (spec.grid(size), spec.grid(size)) == tuple(maps[32].shape[2:])
    assert spec.channels == {stride: found.shape[1] for stride, found in maps.items()}


@pytest.mark.parametrize("bottleneck", [True, False])
@pytest.mark.parametrize("dilated", [True, False])
@pytest.mark.parametrize("projected", [None, 5])
def test_grid_and_channels_of_a_resnet_too(bottleneck: bool, dilated: bool, projected: int | None) -> None:
    encoder = {
        "depths": [1, 2, 1, 2], "bottleneck": bottleneck, "stem": 4, "widths": [8, 12, 16, 20], "dilated": dilated,
        "projected": projected,
    }  # fmt: skip
    stride, config = 16 if dilated else 32, {"architecture": "resnet", "encoder": encoder}
    spec = ImageSpec("any", config, projected or 20, stride, 7, (0.0,) * 3, (1.0,) * 3)
    with torch.device("meta"), torch.no_grad():
        network = encoders.build(spec).eval()
        for size in (1, 17, 31, 32, 33, 63, 64, 65, 97, 160, 224, 255):
            maps = network(torch.empty(1, 3, size, size))
            assert (spec.grid(size), spec.grid(size)) == tuple(maps[stride].shape[2:])
    assert spec.channels == {stride: found.shape[1] for stride, found in maps.items()}


@pytest.mark.parametrize("size", [4, 8, 12, 40])
def test_the_grid_of_patches_is_that_of_the_network(size: int) -> None:
    spec = patch_spec(hidden_dim=6, patch_size=4)
    found = encoders.build(spec)(torch.zeros(1, 3, size, size))
    assert {stride: tuple(maps.shape[1:]) for stride, maps in found.items()} == {
        4: (6, spec.grid(size), spec.grid(size))
    }
    assert spec.channels == {4: 6}


def test_a_transformers_encoder_is_asked_for_its_grid() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=32, patch_size=8
    ).to_dict()
    spec = ImageSpec("vit", {"architecture": "transformers", "hf_config": config}, 12, 8, 1, (0.0,) * 3, (1.0,) * 3)
    assert [spec.grid(size) for size in (32, 48)] == [4, 6]


def without_torch(code: str, *arguments: object) -> str:
    """What a process prints that cannot import torch."""
    block = "import sys\nsys.modules['torch'] = None\n"
    command = [sys.executable, "-c", block + code, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_specs_need_no_torch(tmp_path) -> None:
    code = """
import polydetr.specs.choose, polydetr.specs.scratch
from polydetr.specs.image import ImageSpec, patch_spec
from polydetr.specs.scratch import scratch_spec
from polydetr.specs.text import TextSpec
from pathlib import Path
folder = Path(sys.argv[1])
scratch_spec(["a word", "another word"], vocab_size=40, hidden_dim=8, max_positions=16).save(folder)
patch_spec(hidden_dim=8, patch_size=4).save(folder)
print(TextSpec.from_folder(folder).hidden_dim, ImageSpec.from_folder(folder).grid(16))
"""
    assert without_torch(code, tmp_path) == "8 4\n"
