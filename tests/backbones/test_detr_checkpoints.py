"""Checkpoints of DETR in every spelling, there and back; ResNet by itself; what is refused, and in which words."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from polydetr.backbones.detr_checkpoints import DetrCheckpoint, detr_from_state, load_detr, save_detr
from polydetr.backbones.resnet import (
    FrozenBatchNorm2d,
    ResNet,
    fold_batch_norm,
    hugging_face_key,
    load_resnet,
    make_resnet,
    torchvision_key,
)
from polydetr.errors import BackboneError, SaveError
from polydetr.nn.detr import Detr, DetrSizes
from tiny_detr import NAMES as LABELS
from tiny_detr import padded_batch, reference

NAMES = {0: "kettle", 2: "scarf"}
SIZES = DetrSizes(num_classes=3, num_queries=7, embed_dim=16, encoder_layers=2, decoder_layers=2, encoder_heads=8,
                  decoder_heads=8, encoder_ffn=13, decoder_ffn=17)  # fmt: skip


def tiny_resnet(*, bottleneck: bool = True, dilated: bool = False) -> ResNet:
    resnet = ResNet((1, 2, 1, 2), bottleneck=bottleneck, stem=8, widths=(8, 12, 16, 20), dilated=dilated)
    generator = torch.Generator().manual_seed(3)
    for module in resnet.modules():
        if isinstance(module, FrozenBatchNorm2d):
            for name, buffer in module.named_buffers():
                noise = torch.randn(buffer.shape, generator=generator)
                buffer.copy_(0.5 + noise.abs() if name == "running_var" else buffer + 0.3 * noise)
    return resnet.eval()


def tiny_detr(**options: bool) -> Detr:
    torch.manual_seed(1)
    return Detr(tiny_resnet(**options), 20, SIZES).eval()


def pixels() -> Tensor:
    return torch.randn(2, 3, 64, 45, generator=torch.Generator().manual_seed(2))


def facebook_layout(model: Detr) -> dict[str, Tensor]:
    """The names of facebookresearch/detr, written down one by one from its modules."""
    state, out = model.state_dict(), {}
    for name, tensor in state.items():
        if name.startswith("backbone."):
            out["backbone.0.body." + name.removeprefix("backbone.")] = tensor
    out |= {"query_embed.weight": state["queries.positions.weight"]}
    for kind in ("weight", "bias"):
        out[f"input_proj.{kind}"] = state[f"input_projection.{kind}"]
        out[f"class_embed.{kind}"] = state[f"class_head.{kind}"]
        out[f"transformer.decoder.norm.{kind}"] = state[f"decoder.norm.{kind}"]
        for number in range(3):
            out[f"bbox_embed.layers.{number}.{kind}"] = state[f"box_head.layers.{number}.{kind}"]
        for part, attentions, norms in (
            ("encoder", {"attention": "self_attn"}, ("attention_norm", "ffn_norm")),
            ("decoder", {"self_attention": "self_attn", "cross_attention": "multihead_attn"},
             ("self_norm", "cross_norm", "ffn_norm")),
        ):  # fmt: skip
            for layer in range(2):
                ours, theirs = f"{part}.layers.{layer}", f"transformer.{part}.layers.{layer}"
                for mine, other in attentions.items():
                    parts = [state[f"{ours}.{mine}.{which}.{kind}"] for which in ("query", "key", "value")]
                    out[f"{theirs}.{other}.in_proj_{kind}"] = torch.cat(parts)
                    out[f"{theirs}.{other}.out_proj.{kind}"] = state[f"{ours}.{mine}.output.{kind}"]
                for number, norm in enumerate(norms, start=1):
                    out[f"{theirs}.norm{number}.{kind}"] = state[f"{ours}.{norm}.{kind}"]
                out[f"{theirs}.linear1.{kind}"] = state[f"{ours}.ffn.up.{kind}"]
                out[f"{theirs}.linear2.{kind}"] = state[f"{ours}.ffn.down.{kind}"]
    return out


def assert_same(ours: DetrCheckpoint, model: Detr) -> None:
    assert ours.model.state_dict().keys() == model.state_dict().keys()
    assert ours.model.sizes == model.sizes
    with torch.no_grad():
        for name, expected in model(pixels()).items():
            torch.testing.assert_close(ours.model(pixels())[name], expected, rtol=0, atol=0)


@pytest.mark.parametrize("bottleneck", [True, False])
def test_facebookresearch_layout_is_read_without_any_configuration(bottleneck: bool) -> None:
    model = tiny_detr(bottleneck=bottleneck)
    state = facebook_layout(model) | {"backbone.0.body.bn1.num_batches_tracked": torch.tensor(5)}
    assert len(facebook_layout(model)) < len(model.state_dict())
    checkpoint = detr_from_state(state, id2label=NAMES)
    assert_same(checkpoint, model)
    assert checkpoint.id2label == NAMES
    assert not checkpoint.model.training


def test_dilated_backbone_keeps_its_map_fine() -> None:
    state = facebook_layout(tiny_detr(dilated=True))
    dilated = detr_from_state(state, config={"dilation": True}).model
    assert dilated.backbone(pixels())[-1].shape[-2:] == (4, 3)
    # As in torchvision: the first block of the widened stage still reads a map that was not widened.
    widened = [module.dilation for module in dilated.backbone.modules() if getattr(module, "kernel_size", 0) == (3, 3)]
    assert widened[-2:] == [(1, 1), (2, 2)]
    assert detr_from_state(state).model.backbone(pixels())[-1].shape[-2:] == (2, 2)


def test_saved_and_read_back(tmp_path: Path) -> None:
    model = tiny_detr()
    save_detr(tmp_path / "detr", model, NAMES)
    checkpoint = load_detr(tmp_path / "detr")
    assert_same(checkpoint, model)
    assert checkpoint.id2label == {0: "kettle", 1: "LABEL_1", 2: "scarf"}
    assert sorted(p.name for p in (tmp_path / "detr").iterdir()) == ["config.json", "model.safetensors"]


def test_names_of_version_5_and_of_timm_are_read(tmp_path: Path) -> None:
    model = tiny_detr()
    save_detr(tmp_path, model, NAMES)
    version_4 = load_file(tmp_path / "model.safetensors")
    version_5, timm = {}, {}
    for key, value in version_4.items():
        new = re.sub(r"layers\.(\d+)\.fc", r"layers.\1.mlp.fc", key.replace("out_proj", "o_proj"))
        version_5[new.replace("backbone.conv_encoder", "backbone")] = value
        stem = "model.backbone.conv_encoder.model."
        timm[stem + torchvision_key(key.removeprefix(stem)) if key.startswith(stem) else key] = value
    assert "model.encoder.layers.0.mlp.fc1.weight" in version_5
    assert "model.backbone.model.embedder.embedder.convolution.weight" in version_5
    assert "model.backbone.conv_encoder.model.layer4.1.conv3.weight" in timm
    for state in (version_4, version_5, timm):
        assert_same(detr_from_state(state, config={"encoder_attention_heads": 8}), model)


@pytest.mark.parametrize("bottleneck", [True, False])
def test_transformers_reads_what_is_saved(tmp_path: Path, bottleneck: bool) -> None:
    transformers = pytest.importorskip("transformers")
    model = tiny_detr(bottleneck=bottleneck)
    save_detr(tmp_path, model, NAMES)
    theirs, info = transformers.DetrForObjectDetection.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    assert not info["unexpected_keys"]
    assert theirs.config.id2label == {0: "kettle", 1: "LABEL_1", 2: "scarf"}
    with torch.no_grad():
        expected, ours = theirs.eval()(pixels()), model(pixels())
    torch.testing.assert_close(ours["logits"][-1], expected.logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(ours["boxes_cxcywh"][-1], expected.pred_boxes, rtol=0, atol=1e-4)


def test_what_transformers_saves_is_read(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    theirs = reference(auxiliary_loss=True)
    theirs.save_pretrained(tmp_path)
    ours = load_detr(tmp_path)
    assert ours.id2label == LABELS
    batch, mask = padded_batch()
    with torch.no_grad():
        torch.testing.assert_close(
            ours.model(batch, mask)["logits"][-1], theirs(batch, pixel_mask=mask.long()).logits, rtol=0, atol=1e-4
        )


def test_weights_that_make_no_detr_are_refused_by_name(tmp_path: Path) -> None:
    state = facebook_layout(tiny_detr())
    with pytest.raises(BackboneError, match=r"no DETR with a ResNet: class_head.weight is missing"):
        detr_from_state({k: v for k, v in state.items() if not k.startswith("class_embed")})
    with pytest.raises(BackboneError, match=r"1 tensors differ: box_head.layers.1.bias is missing"):
        detr_from_state({k: v for k, v in state.items() if k != "bbox_embed.layers.1.bias"})
    with pytest.raises(BackboneError, match=r"mask_head.lay1.weight is unknown.*without a mask head"):
        detr_from_state(state | {"mask_head.lay1.weight": torch.zeros(2)})
    with pytest.raises(BackboneError, match=r"input_projection.bias has shape \(3,\), expected \(16,\)"):
        detr_from_state(state | {"input_proj.bias": torch.zeros(3)})
    with pytest.raises(BackboneError, match=r"no DETR"):
        detr_from_state({})
    with pytest.raises(BackboneError, match=r"config.json"):
        load_detr(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "yolos"}))
    with pytest.raises(BackboneError, match=r"holds a 'yolos' model, expected 'detr'"):
        load_detr(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "detr"}))
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(BackboneError, match=r"no DETR"):
        load_detr(tmp_path)


def test_what_cannot_be_saved_is_said(tmp_path: Path) -> None:
    folded = tiny_detr()
    fold_batch_norm(folded)
    for model in (folded, tiny_detr(dilated=True)):
        with pytest.raises(SaveError, match=r"only a DETR with an ordinary ResNet"):
            save_detr(tmp_path, model, NAMES)
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match=r"cannot write the checkpoint to"):
        save_detr(tmp_path / "file", tiny_detr(), NAMES)


def test_resnets_have_the_published_sizes() -> None:
    """torchvision's 11.69, 21.80, 25.56 and 44.55 million, less a classifier of 1000 × (width + 1)."""
    expected = {"resnet18": 11_176_512, "resnet34": 21_284_672, "resnet50": 23_508_032, "resnet101": 42_500_160}
    for name, count in expected.items():
        with torch.device("meta"):
            resnet = make_resnet(name)
        parts = [*resnet.parameters()]
        for module in resnet.modules():
            if isinstance(module, FrozenBatchNorm2d):
                parts += [module.get_buffer("weight"), module.get_buffer("bias")]
        assert sum(part.numel() for part in parts) == count, name
    with pytest.raises(BackboneError, match=r"'resnet5O' is no ResNet known here. Did you mean 'resnet50'\?"):
        make_resnet("resnet5O")
    with pytest.raises(BackboneError, match=r"four positive numbers"):
        ResNet((1, 1, 1))


def test_frozen_norm_is_the_formula_and_does_not_learn() -> None:
    norm = tiny_resnet().bn1
    assert isinstance(norm, FrozenBatchNorm2d)
    x = torch.randn(2, 8, 3, 5)
    for c in range(8):
        mean, variance = norm.running_mean[c], norm.running_var[c]
        expected = (x[:, c] - mean) / (variance + 1e-5) ** 0.5 * norm.weight[c] + norm.bias[c]
        torch.testing.assert_close(norm.train()(x)[:, c], expected)
    assert not list(norm.parameters())


@pytest.mark.parametrize("bottleneck", [True, False])
def test_folding_changes_nothing_but_the_speed(bottleneck: bool) -> None:
    resnet = tiny_resnet(bottleneck=bottleneck)
    norms = sum(isinstance(m, FrozenBatchNorm2d) for m in resnet.modules())
    with torch.no_grad():
        before = resnet(pixels())
        assert fold_batch_norm(resnet) == norms
        after = resnet(pixels())
    assert not any(isinstance(m, FrozenBatchNorm2d) for m in resnet.modules())
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_resnet_weights_by_either_name(tmp_path: Path) -> None:
    resnet = tiny_resnet()
    state = resnet.state_dict()
    assert all(torchvision_key(hugging_face_key(key)) == key for key in state)
    classifier = {"fc.weight": torch.zeros(3, 20), "bn1.num_batches_tracked": torch.tensor(1)}
    hub = {"resnet." + hugging_face_key(key): value for key, value in state.items()}
    for named in (state | classifier, hub | {"classifier.1.bias": torch.zeros(3)}):
        fresh = ResNet((1, 2, 1, 2), stem=8, widths=(8, 12, 16, 20))
        load_resnet(fresh, named)
        torch.testing.assert_close(fresh(pixels())[-1], resnet(pixels())[-1])
    with pytest.raises(BackboneError, match=r"layer2.1.bn1.bias is missing"):
        load_resnet(ResNet((1, 2, 1, 2), stem=8, widths=(8, 12, 16, 20)),
                    {k: v for k, v in state.items() if k != "layer2.1.bn1.bias"})  # fmt: skip
    with pytest.raises(BackboneError, match=r"conv1.weight has shape \(8, 3, 7, 7\), expected \(5, 3, 7, 7\)"):
        load_resnet(ResNet((1, 2, 1, 2), stem=5, widths=(8, 12, 16, 20)), state)


def test_early_stages_can_be_frozen() -> None:
    resnet = tiny_resnet()
    resnet.freeze_early()
    frozen = {name.split(".")[0] for name, p in resnet.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1", "layer1"}
