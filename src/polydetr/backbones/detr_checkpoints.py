"""DETR checkpoints: read in three spellings, written in one that `transformers` reads, labels included.

    facebookresearch    transformer.encoder.layers.0.self_attn.in_proj_weight   backbone.0.body.layer1.0.conv1.weight
    Hugging Face, v4    model.encoder.layers.0.self_attn.out_proj.weight        model.backbone.conv_encoder.model.…
    Hugging Face, v5    model.encoder.layers.0.self_attn.o_proj.weight          model.backbone.model.…

The backbone inside may be named as torchvision (and timm) or as Hugging Face names a ResNet. Written is the v4 layout:
transformers 4 reads it as it stands, transformers 5 renames it on the way in, and needs no timm for it.
Sizes are read from the tensors themselves; only what they do not show is taken from ``config.json``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from polydetr.backbones.folders import read_config, read_weights
from polydetr.backbones.resnet import ResNet, hugging_face_key, torchvision_key
from polydetr.errors import BackboneError, SaveError
from polydetr.nn.detr import Detr, DetrSizes

Pairs = tuple[tuple[str, str], ...]

_ATTENTION: Pairs = tuple((f"{short}_proj", name) for short, name in zip("qkv", ("query", "key", "value"), strict=True))
_FACEBOOK: Pairs = (
    (r"^backbone\.0\.body\.", "backbone."),
    (r"^transformer\.", ""),
    (r"^(encoder\.layers\.\d+)\.self_attn\.", r"\1.attention."),
    (r"^(decoder\.layers\.\d+)\.self_attn\.", r"\1.self_attention."),
    (r"\.multihead_attn\.", ".cross_attention."),
    (r"\.out_proj\.", ".output."),
    (r"\.linear1\.", ".ffn.up."),
    (r"\.linear2\.", ".ffn.down."),
    (r"^(encoder\.layers\.\d+)\.norm1\.", r"\1.attention_norm."),
    (r"^(encoder\.layers\.\d+)\.norm2\.", r"\1.ffn_norm."),
    (r"^(decoder\.layers\.\d+)\.norm1\.", r"\1.self_norm."),
    (r"^(decoder\.layers\.\d+)\.norm2\.", r"\1.cross_norm."),
    (r"^(decoder\.layers\.\d+)\.norm3\.", r"\1.ffn_norm."),
    (r"^query_embed\.", "queries.positions."),
    (r"^input_proj\.", "input_projection."),
    (r"^class_embed\.", "class_head."),
    (r"^bbox_embed\.", "box_head."),
)
_HUGGING_FACE: Pairs = (
    (r"^model\.backbone\.(?:conv_encoder\.)?model\.(?:_backbone\.)?", "backbone."),
    (r"^model\.", ""),
    (r"^(encoder\.layers\.\d+)\.self_attn_layer_norm\.", r"\1.attention_norm."),
    (r"^(encoder\.layers\.\d+)\.self_attn\.", r"\1.attention."),
    (r"^(decoder\.layers\.\d+)\.self_attn_layer_norm\.", r"\1.self_norm."),
    (r"^(decoder\.layers\.\d+)\.self_attn\.", r"\1.self_attention."),
    (r"\.encoder_attn_layer_norm\.", ".cross_norm."),
    (r"\.encoder_attn\.", ".cross_attention."),
    (r"^((?:en|de)coder\.layers\.\d+)\.final_layer_norm\.", r"\1.ffn_norm."),
    (r"^((?:en|de)coder\.layers\.\d+)\.(?:mlp\.)?fc1\.", r"\1.ffn.up."),
    (r"^((?:en|de)coder\.layers\.\d+)\.(?:mlp\.)?fc2\.", r"\1.ffn.down."),
    *((rf"\.{short}\.", f".{name}.") for short, name in _ATTENTION),
    (r"attention\.(?:out_proj|o_proj)\.", "attention.output."),
    (r"^decoder\.layernorm\.", "decoder.norm."),
    (r"^query_position_embeddings\.", "queries.positions."),
    (r"^class_labels_classifier\.", "class_head."),
    (r"^bbox_predictor\.", "box_head."),
)
_TO_HUGGING_FACE: Pairs = (
    (r"^(encoder\.layers\.\d+)\.attention_norm\.", r"model.\1.self_attn_layer_norm."),
    (r"^(encoder\.layers\.\d+)\.attention\.", r"model.\1.self_attn."),
    (r"^(decoder\.layers\.\d+)\.self_norm\.", r"model.\1.self_attn_layer_norm."),
    (r"^(decoder\.layers\.\d+)\.self_attention\.", r"model.\1.self_attn."),
    (r"^(decoder\.layers\.\d+)\.cross_norm\.", r"model.\1.encoder_attn_layer_norm."),
    (r"^(decoder\.layers\.\d+)\.cross_attention\.", r"model.\1.encoder_attn."),
    (r"^((?:en|de)coder\.layers\.\d+)\.ffn_norm\.", r"model.\1.final_layer_norm."),
    (r"^((?:en|de)coder\.layers\.\d+)\.ffn\.up\.", r"model.\1.fc1."),
    (r"^((?:en|de)coder\.layers\.\d+)\.ffn\.down\.", r"model.\1.fc2."),
    *((rf"attn\.{name}\.", f"attn.{short}.") for short, name in _ATTENTION),
    (r"attn\.output\.", "attn.out_proj."),
    (r"^decoder\.norm\.", "model.decoder.layernorm."),
    (r"^queries\.positions\.", "model.query_position_embeddings."),
    (r"^input_projection\.", "model.input_projection."),
    (r"^class_head\.", "class_labels_classifier."),
    (r"^box_head\.", "bbox_predictor."),
)


@dataclass(frozen=True)
class DetrCheckpoint:
    """A model ready for use (in evaluation mode) and the name of each class; numbers without a name are left out."""

    model: Detr
    id2label: Mapping[int, str]


def load_detr(folder: Path | str) -> DetrCheckpoint:
    """From a folder with ``model.safetensors`` and Hugging Face's ``config.json``.

    Raises BackboneError for files that are missing, broken, pickled, or not a DETR with a ResNet.
    """
    folder = Path(folder)
    config = read_config(folder)
    if config.get("model_type", "detr") != "detr":
        raise BackboneError(f"{folder} holds a {config['model_type']!r} model, expected 'detr'.")
    return detr_from_state(read_weights(folder), config=config)


def detr_from_state(
    state: Mapping[str, Tensor], *, config: Mapping[str, Any] | None = None, id2label: Mapping[int, str] | None = None
) -> DetrCheckpoint:
    """From tensors in any of the three spellings.

    config: what ``config.json`` says; of a facebookresearch checkpoint nothing is needed but, for a model of the DC5
        kind, ``{"dilation": True}``: the tensors do not show it.
    id2label: overrides the names in ``config``.
    Raises BackboneError naming the tensors that are missing, unknown, or of another shape.
    """
    config = config or {}
    renamed = {key: value for key, value in _renamed(state).items() if not key.endswith("num_batches_tracked")}
    try:
        backbone = _resnet_of(renamed, dilated=bool(config.get("dilation", False)))
        model = Detr(backbone, backbone.out_channels[-1], _sizes_of(renamed, config))
    except KeyError as missing:
        raise BackboneError(f"these weights are no DETR with a ResNet: {missing.args[0]} is missing.",
                            hint="Expected the detection model, without a mask head.") from missing  # fmt: skip
    _check(model.state_dict(), renamed)
    model.load_state_dict(renamed)
    names = id2label if id2label is not None else config.get("id2label") or {}
    return DetrCheckpoint(model.eval(), {int(number): str(name) for number, name in names.items()})


def save_detr(folder: Path | str, model: Detr, id2label: Mapping[int, str]) -> None:
    """Writes ``model.safetensors`` and ``config.json`` in Hugging Face's layout.

    Raises SaveError where the folder cannot be written, the norms were folded, or the backbone is not a ResNet that
    Hugging Face knows.
    """
    backbone = model.backbone
    if not isinstance(backbone, ResNet) or backbone.dilated or not hasattr(backbone.bn1, "running_mean"):
        raise SaveError(
            "only a DETR with an ordinary ResNet can be written in Hugging Face's layout.",
            hint="Save before folding the norms; the dilated kind (DC5) has no ResNet of that layout.",
        )
    state = {hugging_face_detr_key(k): v.detach().float().contiguous().cpu() for k, v in model.state_dict().items()}
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        text = json.dumps(_config_of(model, backbone, id2label), indent=2, ensure_ascii=False)
        (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise SaveError(f"cannot write the checkpoint to {str(folder)!r}: {error}.") from error


def hugging_face_detr_key(key: str) -> str:
    """Our name of a tensor → the v4 name."""
    if key.startswith("backbone."):
        return "model.backbone.conv_encoder.model." + hugging_face_key(key.removeprefix("backbone."))
    return _replaced(key, _TO_HUGGING_FACE)


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Any spelling → ours."""
    facebook = any(key.startswith("transformer.") for key in state)
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        name = _replaced(key, _FACEBOOK if facebook else _HUGGING_FACE)
        if name.startswith("backbone."):
            name = "backbone." + torchvision_key(name.removeprefix("backbone."))
        if found := re.fullmatch(r"(.*attention)\.in_proj_(weight|bias)", name):
            # Queries, keys and values in one matrix, one above the other.
            for part, tensor in zip(("query", "key", "value"), value.chunk(3), strict=True):
                renamed[f"{found[1]}.{part}.{found[2]}"] = tensor
        else:
            renamed[name] = value
    return renamed


def _replaced(key: str, pairs: Pairs) -> str:
    for pattern, replacement in pairs:
        key = re.sub(pattern, replacement, key)
    return key


def _resnet_of(state: Mapping[str, Tensor], *, dilated: bool) -> ResNet:
    stages = [
        {int(m[1]) for key in state if (m := re.match(rf"backbone\.layer{number}\.(\d+)\.", key))}
        for number in range(1, 5)
    ]
    bottleneck = "backbone.layer1.0.conv3.weight" in state
    last = "conv3" if bottleneck else "conv2"
    widths = tuple(len(state[f"backbone.layer{number}.0.{last}.weight"]) for number in range(1, 5))
    return ResNet(
        tuple(len(blocks) for blocks in stages),
        bottleneck=bottleneck,
        stem=len(state["backbone.conv1.weight"]),
        widths=widths,
        dilated=dilated,
    )


def _sizes_of(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> DetrSizes:
    depth = {
        part: len({m[1] for key in state if (m := re.match(rf"{part}\.layers\.(\d+)\.", key))})
        for part in ("encoder", "decoder")
    }
    positions, first = state["queries.positions.weight"], "decoder.layers.0.ffn.up.weight"
    return DetrSizes(
        num_classes=len(state["class_head.weight"]) - 1,
        num_queries=positions.shape[0],
        embed_dim=positions.shape[1],
        encoder_layers=depth["encoder"],
        decoder_layers=depth["decoder"],
        encoder_heads=int(config.get("encoder_attention_heads", 8)),
        decoder_heads=int(config.get("decoder_attention_heads", 8)),
        encoder_ffn=len(state.get("encoder.layers.0.ffn.up.weight", state[first])),
        decoder_ffn=len(state[first]),
        dropout=float(config.get("dropout", 0.1)),
        activation=str(config.get("activation_function", "relu")),
        carry_norm=bool(config.get("auxiliary_loss", False)),
    )


def _check(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    faults = [f"{key} is missing" for key in expected.keys() - found.keys()]
    faults += [f"{key} is unknown" for key in found.keys() - expected.keys()]
    faults += [
        f"{key} has shape {tuple(found[key].shape)}, expected {tuple(expected[key].shape)}"
        for key in expected.keys() & found.keys()
        if expected[key].shape != found[key].shape
    ]
    if faults:
        raise BackboneError(
            f"these weights do not make a DETR; {len(faults)} tensors differ: {'; '.join(sorted(faults)[:5])}.",
            hint="Names are shown as polydetr.nn.detr has them. Expected the detection model, without a mask head.",
        )


def _config_of(model: Detr, backbone: ResNet, id2label: Mapping[int, str]) -> dict[str, Any]:
    sizes = model.sizes
    names = {number: id2label.get(number, f"LABEL_{number}") for number in range(sizes.num_classes)}
    return {
        "architectures": ["DetrForObjectDetection"],
        "model_type": "detr",
        "use_timm_backbone": False,
        "use_pretrained_backbone": False,
        "backbone": None,
        "backbone_config": {
            "model_type": "resnet",
            "depths": list(backbone.depths),
            "hidden_sizes": list(backbone.out_channels),
            "embedding_size": backbone.stem,
            "layer_type": "bottleneck" if backbone.bottleneck else "basic",
            "out_features": ["stage4"],
        },
        "num_queries": sizes.num_queries,
        "d_model": sizes.embed_dim,
        "encoder_layers": sizes.encoder_layers,
        "decoder_layers": sizes.decoder_layers,
        "encoder_attention_heads": sizes.encoder_heads,
        "decoder_attention_heads": sizes.decoder_heads,
        "encoder_ffn_dim": sizes.encoder_ffn,
        "decoder_ffn_dim": sizes.decoder_ffn,
        "activation_function": sizes.activation,
        "dropout": sizes.dropout,
        "auxiliary_loss": sizes.carry_norm,
        "id2label": {str(number): name for number, name in names.items()},
        "label2id": {name: number for number, name in names.items()},
        "torch_dtype": "float32",
    }
