"""A DETR described by the names and shapes of its tensors, which come in three spellings:

    facebookresearch    transformer.encoder.layers.0.self_attn.in_proj_weight   backbone.0.body.layer1.0.conv1.weight
    Hugging Face, v4    model.encoder.layers.0.self_attn.out_proj.weight        model.backbone.conv_encoder.model.…
    Hugging Face, v5    model.encoder.layers.0.self_attn.o_proj.weight          model.backbone.model.…

The backbone inside may be named as torchvision (and timm) or as Hugging Face names a ResNet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from polydetr.specs.resnet import Shapes, torchvision_key

T = TypeVar("T")
Pairs = tuple[tuple[str, str], ...]
BACKBONE = "backbone."
"""What the names of the backbone's tensors begin with."""

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


def is_detr(shapes: Shapes) -> bool:
    """shapes: by our names (``our_keys``)."""
    return {"class_head.weight", "queries.positions.weight"} <= shapes.keys()


def our_keys(state: Mapping[str, T]) -> dict[str, T]:
    """Tensors (or shapes) in any of the three spellings → the names of ``nn.detr.Detr``, of the backbone torchvision's.

    The authors' joint projections stay together, as ``….in_proj_weight``.
    """
    pairs = _FACEBOOK if any(key.startswith("transformer.") for key in state) else _HUGGING_FACE
    renamed: dict[str, T] = {}
    for key, value in state.items():
        name = key
        for pattern, replacement in pairs:
            name = re.sub(pattern, replacement, name)
        if name.startswith(BACKBONE):
            name = BACKBONE + torchvision_key(name.removeprefix(BACKBONE))
        renamed[name] = value
    return renamed


def describe_detr(shapes: Shapes, config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``nn.detr.DetrSizes`` but the number of classes.

    shapes: by our names; config: what ``config.json`` says, whose defaults are DETR's.
    Raises:
        KeyError: a tensor that every DETR has is missing.
    """
    depth = {
        part: len({m[1] for key in shapes if (m := re.match(rf"{part}\.layers\.(\d+)\.", key))})
        for part in ("encoder", "decoder")
    }
    queries, width = shapes["queries.positions.weight"]
    decoder_ffn = shapes["decoder.layers.0.ffn.up.weight"][0]
    return {
        "num_queries": queries,
        "embed_dim": width,
        "encoder_layers": depth["encoder"],
        "decoder_layers": depth["decoder"],
        "encoder_heads": int(config.get("encoder_attention_heads", 8)),
        "decoder_heads": int(config.get("decoder_attention_heads", 8)),
        "encoder_ffn": shapes.get("encoder.layers.0.ffn.up.weight", [decoder_ffn])[0],
        "decoder_ffn": decoder_ffn,
        "dropout": float(config.get("dropout", 0.1)),
        "activation": str(config.get("activation_function", "relu")),
        "carry_norm": bool(config.get("auxiliary_loss", False)),
    }


def detr_labels(shapes: Shapes, config: Mapping[str, Any]) -> list[str]:
    """A name per class: ``id2label``'s; LABEL_12 for a class that has none, or shares it with another ("N/A").

    Raises:
        KeyError: there is no class head.
    """
    named = {str(number): str(name) for number, name in (config.get("id2label") or {}).items()}
    names = [named.get(str(number), "") for number in range(shapes["class_head.weight"][0] - 1)]
    return [name if name and names.count(name) == 1 else f"LABEL_{number}" for number, name in enumerate(names)]
