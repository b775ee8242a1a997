"""The names of DETR's tensors in three spellings.

    facebookresearch    transformer.encoder.layers.0.self_attn.in_proj_weight   backbone.0.body.layer1.0.conv1.weight
    Hugging Face, v4    model.encoder.layers.0.self_attn.out_proj.weight        model.backbone.conv_encoder.model.…
    Hugging Face, v5    model.encoder.layers.0.self_attn.o_proj.weight          model.backbone.model.…

The backbone inside may be named as torchvision (and timm) or as Hugging Face names a ResNet. What is written is v4:
transformers 4 reads it as it stands, transformers 5 renames it on the way in, and neither needs timm for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from polydetr.backbones.resnet import hugging_face_key, torchvision_key

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


def hugging_face_detr_key(key: str) -> str:
    """Our name of a tensor → the v4 name."""
    if key.startswith("backbone."):
        return "model.backbone.conv_encoder.model." + hugging_face_key(key.removeprefix("backbone."))
    return _replaced(key, _TO_HUGGING_FACE)


def our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors in any of the three spellings → the names of ``polydetr.nn.detr.Detr``."""
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
