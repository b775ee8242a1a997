"""DETR checkpoints: read in the three spellings of ``detr_names``, written in one that `transformers` reads.

Sizes are read from the tensors themselves; only what they do not show is taken from ``config.json``. Labels travel with
the weights.
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

from polydetr.backbones.detr_names import hugging_face_detr_key, our_names
from polydetr.backbones.folders import read_weights
from polydetr.backbones.resnet import ResNet
from polydetr.errors import BackboneError, SaveError
from polydetr.nn.detr import Detr, DetrSizes
from polydetr.specs.folders import read_config


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
    renamed = {key: value for key, value in our_names(state).items() if not key.endswith("num_batches_tracked")}
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
