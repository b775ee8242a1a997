"""A published DETR is a way in: predicted with as it is, fine-tuned, measured, explained and saved by the one path."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from polydetr import Predictor, ReadOptions
from polydetr.backbones import image as encoders
from polydetr.errors import BackboneError, ConfigError
from polydetr.nn.batch import Batch
from polydetr.specs.detr import our_keys
from polydetr.specs.image import ImageSpec, load_image_spec
from polydetr.specs.resnet import torchvision_key
from tiny_detr import NAMES, reference

SIDE = 96
MEAN, STD = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


@pytest.fixture(scope="module")
def theirs():
    pytest.importorskip("transformers")
    return reference()


@pytest.fixture(scope="module")
def hub(theirs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub")
    theirs.save_pretrained(folder)
    return folder


def image(seed: int = 0, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def normalized(pixels: np.ndarray) -> Tensor:
    return ((torch.tensor(pixels).permute(2, 0, 1) / 255 - MEAN) / STD)[None]


def outputs(predictor: Predictor, pixels: np.ndarray) -> dict[str, Tensor]:
    """What the model gives through the path of every row, before it is decoded: of the last layer."""
    engine = predictor._engine
    document = engine.encoder.encode(list(predictor._records([{"image": pixels}], ReadOptions())), with_targets=False)
    with torch.inference_mode():
        found = engine.runner.model(Batch.collate(document.examples))["objects"]
    return {name: tensor[:, -1] for name, tensor in found.items() if name != "frame"}


def transformer_of(spec: ImageSpec) -> Mapping[str, Tensor]:
    found = encoders.pretrained_detr(spec)
    assert found is not None
    return found.weights


def authors_layout(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """transformers' tensors by the names of facebookresearch/detr, written down one by one."""
    out: dict[str, Tensor] = {}
    joint: dict[str, dict[str, Tensor]] = {}
    plain = {
        "query_position_embeddings.weight": "query_embed.weight", "class_labels_classifier": "class_embed",
        "bbox_predictor": "bbox_embed", "input_projection": "input_proj", "decoder.layernorm": "decoder.norm",
        "encoder_attn_layer_norm": "norm2", "encoder_attn": "multihead_attn", "o_proj": "out_proj",
        "mlp.fc1": "linear1", "mlp.fc2": "linear2", "fc1": "linear1", "fc2": "linear2",
    }  # fmt: skip
    for name, tensor in state.items():
        if found := re.match(r"model\.backbone\.(?:conv_encoder\.)?model\.(.*)", name):
            out["backbone.0.body." + torchvision_key(found[1])] = tensor
            continue
        new = name.removeprefix("model.")
        new = new.replace("self_attn_layer_norm", "norm1")
        new = re.sub(r"^(encoder.*)final_layer_norm", r"\1norm2", new)
        new = re.sub(r"^(decoder.*)final_layer_norm", r"\1norm3", new)
        for old, other in plain.items():
            new = new.replace(old, other)
        if new.startswith(("encoder.", "decoder.")):
            new = "transformer." + new
        if part := re.fullmatch(r"(.*)\.([qkv])_proj\.(weight|bias)", new):
            joint.setdefault(f"{part[1]}.in_proj_{part[3]}", {})[part[2]] = tensor
        else:
            out[new] = tensor
    return out | {name: torch.cat([parts[p] for p in "qkv"]) for name, parts in joint.items()}


def test_it_predicts_as_transformers_does(theirs, hub: Path, tmp_path: Path) -> None:
    predictor = Predictor.from_checkpoint(hub, tmp_path / "model", size=SIDE, threshold=0.0)
    with torch.no_grad():
        expected = theirs(normalized(image()))
    found = outputs(predictor, image())
    torch.testing.assert_close(found["logits"], expected.logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(found["boxes_cxcywh"], expected.pred_boxes, rtol=0, atol=1e-4)
    boxes = predictor.predict([{"image": image()}])[0]["objects"]
    scores = expected.logits.softmax(-1)[0, :, :-1]
    best = int(scores.max(1).values.argmax())
    assert boxes[0]["label"] == NAMES[int(scores[best].argmax())]
    assert boxes[0]["score"] == pytest.approx(float(scores.max()), abs=1e-4)
    cx, cy, w, h = (SIDE * expected.pred_boxes[0, best]).tolist()
    corners = np.clip([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 0, SIDE)
    assert boxes[0]["box"] == pytest.approx(corners.tolist(), abs=0.02)
    assert "nothing was trained" in (tmp_path / "model" / "README.md").read_text()


def test_every_spelling_gives_the_same_model(theirs, hub: Path, tmp_path: Path) -> None:
    version_5 = load_file(hub / "model.safetensors")
    version_4, timm = {}, {}
    for name, tensor in version_5.items():
        old = name.replace(".mlp.fc", ".fc").replace("o_proj", "out_proj")
        old = old.replace("model.backbone.model.", "model.backbone.conv_encoder.model.")
        version_4[old] = tensor
        stem = "model.backbone.conv_encoder.model."
        timm[stem + torchvision_key(old.removeprefix(stem)) if old.startswith(stem) else old] = tensor
    assert "model.encoder.layers.0.fc1.weight" in version_4
    assert "model.backbone.conv_encoder.model.layer3.1.conv3.weight" in timm
    authors = authors_layout(version_5)
    assert len(authors) < len(version_5)
    assert {"transformer.decoder.layers.0.multihead_attn.in_proj_weight", "transformer.encoder.layers.1.norm2.bias",
            "backbone.0.body.layer1.0.conv1.weight", "query_embed.weight"} <= authors.keys()  # fmt: skip
    expected = load_image_spec(str(hub))
    for number, state in enumerate((version_4, timm, authors)):
        folder = tmp_path / str(number)
        folder.mkdir()
        counted = state | {"backbone.0.body.bn1.num_batches_tracked": torch.tensor(5)} if state is authors else state
        save_file({k: v.contiguous() for k, v in counted.items()}, folder / "model.safetensors")
        (folder / "config.json").write_text((hub / "config.json").read_text())
        backbone = load_image_spec(str(folder))
        assert backbone.config == expected.config
        ours, other = ({**encoders.weights(one), **transformer_of(one)} for one in (backbone, expected))
        assert ours.keys() == other.keys()
        assert all(torch.equal(tensor, other[name]) for name, tensor in ours.items())


def test_the_authors_layout_needs_no_configuration(hub: Path, tmp_path: Path) -> None:
    file = tmp_path / "detr.safetensors"
    state = authors_layout(load_file(hub / "model.safetensors"))
    save_file({k: v.contiguous() for k, v in state.items()}, file)
    found = load_image_spec(str(file))
    assert found.detr is not None
    assert found.detr["labels"] == ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert (found.detr["num_queries"], found.detr["encoder_heads"], found.detr["encoder_ffn"]) == (13, 8, 29)


def test_labels_that_say_nothing_get_a_number(hub: Path, tmp_path: Path) -> None:
    """As in the published ones, whose gaps in COCO's numbers are all called "N/A"."""
    config = json.loads((hub / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"id2label": {"0": "N/A", "1": "pear", "2": "N/A"}}))
    (tmp_path / "model.safetensors").write_bytes((hub / "model.safetensors").read_bytes())
    assert load_image_spec(str(tmp_path)).detr["labels"] == ["LABEL_0", "pear", "LABEL_2"]  # type: ignore[index]


def test_a_dilated_one_is_told_by_its_configuration(hub: Path, tmp_path: Path) -> None:
    config = json.loads((hub / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"dilation": True}))
    (tmp_path / "model.safetensors").write_bytes((hub / "model.safetensors").read_bytes())
    backbone = load_image_spec(str(tmp_path))
    assert (backbone.stride, backbone.grid(SIDE)) == (16, 6)
    assert len(Predictor.from_checkpoint(tmp_path, tmp_path / "model", size=SIDE, threshold=0.0).predict(
        [{"image": image()}])[0]["objects"]) == 3 * 13  # fmt: skip


def rows(labels: tuple[str, ...]) -> list[dict[str, object]]:
    return [
        {"image": image(n), "objects": [{"box": [8, 8, 40 + n, 60], "label": labels[n % len(labels)]}]}
        for n in range(6)
    ]


SETTINGS = {
    "steps": 2, "epochs": 0.1, "image": {"size": SIDE},
    "tasks": {"objects": {"architecture": "detr", "threshold": 0.0}},
    "training": {"batch_tokens": 128, "precision": "fp32", "lr": 1e-9, "head_lr": 1e-9},
}  # fmt: skip


def fitted(hub: Path, labels: tuple[str, ...], out: Path | None = None, **more: object) -> Predictor:
    return Predictor.fit(
        rows(labels), {"objects": "detection"}, valid=rows(labels), inputs={"image": "image"},
        backbone={"image": str(hub)}, settings=SETTINGS | more, out=out,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*map is 0 on:polydetr.MeasureWarning")  # random weights find nothing
@pytest.mark.parametrize("labels", [("kettle", "pear", "scarf"), ("scarf", "pear")])
def test_fine_tuning_begins_where_the_checkpoint_ended(
    theirs, hub: Path, tmp_path: Path, labels: tuple[str, ...]
) -> None:
    """A rate of next to nothing: what is measured after two steps is what was loaded."""
    predictor = fitted(hub, labels, tmp_path / "model")
    with torch.no_grad():
        expected = theirs(normalized(image()))
    found = outputs(predictor, image())
    kept = [number for number, name in NAMES.items() if name in labels]
    torch.testing.assert_close(found["logits"], expected.logits[..., [*kept, -1]], rtol=0, atol=1e-3)
    torch.testing.assert_close(found["boxes_cxcywh"], expected.pred_boxes, rtol=0, atol=1e-3)
    again = outputs(Predictor.load(tmp_path / "model"), image())
    torch.testing.assert_close(again["logits"], found["logits"], rtol=0, atol=1e-5)
    assert "map" in predictor.evaluate(rows(labels))["objects"]
    assert predictor.explain(rows(labels)[0]).to_dict()


def test_new_labels_get_a_new_class_head_and_keep_the_boxes(theirs, hub: Path) -> None:
    found = outputs(fitted(hub, ("kettle", "cup")), image())
    with torch.no_grad():
        expected = theirs(normalized(image()))
    assert found["logits"].shape[-1] == 3
    torch.testing.assert_close(found["boxes_cxcywh"], expected.pred_boxes, rtol=0, atol=1e-3)


def test_a_wider_common_space_changes_nothing_and_a_narrower_one_is_refused(theirs, hub: Path) -> None:
    with torch.no_grad():
        expected = theirs(normalized(image()))
    found = outputs(fitted(hub, ("kettle", "cup"), model={"embed_dim": 40}), image())
    torch.testing.assert_close(found["boxes_cxcywh"], expected.pred_boxes, rtol=0, atol=1e-3)
    with pytest.raises(ConfigError, match=r"model.embed_dim = 16 is narrower.*which needs 24"):
        fitted(hub, ("kettle", "cup"), model={"embed_dim": 16})


def test_detr_fast_reads_its_maps_as_any_resnets(hub: Path) -> None:
    fast = {"num_queries": 5, "hidden_dim": 16, "decoder_layers": 1, "threshold": 0.0}
    assert fitted(hub, ("kettle", "cup"), tasks={"objects": fast}).predict(rows(("cup",)))[0]["objects"]


def test_what_is_no_detr_is_refused_by_name(hub: Path, tmp_path: Path) -> None:
    state = load_file(hub / "model.safetensors")
    config = (hub / "config.json").read_text()

    def folder(name: str, tensors: dict[str, Tensor]) -> Path:
        made = tmp_path / name
        made.mkdir()
        save_file(tensors, made / "model.safetensors")
        (made / "config.json").write_text(config)
        return made

    lacking = folder("lacking", {k: v for k, v in state.items() if k != "bbox_predictor.layers.1.bias"})
    with pytest.raises(BackboneError, match=r"this DETR; 1 tensors differ: box_head.layers.1.bias is missing"):
        Predictor.from_checkpoint(lacking, tmp_path / "model", size=SIDE)
    masked = folder("masked", state | {"mask_head.lay1.weight": torch.zeros(2)})
    with pytest.raises(BackboneError, match=r"mask_head.lay1.weight is unknown"):
        Predictor.from_checkpoint(masked, tmp_path / "model", size=SIDE)
    name = next(k for k in state if "input_projection.bias" in k)
    wrong = folder("wrong", state | {name: torch.zeros(3)})
    with pytest.raises(BackboneError, match=r"has shape \(3,\), expected \(24,\)"):
        Predictor.from_checkpoint(wrong, tmp_path / "model", size=SIDE)
    torn = folder("torn", {k: v for k, v in state.items() if "input_projection" not in k})
    with pytest.raises(BackboneError, match=r"no whole ResNet or DETR: input_projection.weight is missing"):
        Predictor.from_checkpoint(torn, tmp_path / "model", size=SIDE)
    resnet = {k.removeprefix("backbone."): v for k, v in our_keys(state).items() if k.startswith("backbone.")}
    plain = tmp_path / "resnet.safetensors"
    save_file(resnet, plain)
    with pytest.raises(BackboneError, match=r"holds an image backbone and no detector"):
        Predictor.from_checkpoint(plain, tmp_path / "model", size=SIDE)
    with pytest.raises(BackboneError, match=r"'nope' is no folder or file\. Name what holds a published DETR"):
        Predictor.from_checkpoint("nope", tmp_path / "model", size=SIDE)
    assert not (tmp_path / "model").exists()
