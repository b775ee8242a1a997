"""Text encoders from their specs: built with random weights, or with the pretrained ones.

Nothing here runs code that came with weights: only safetensors are read, and ``trust_remote_code`` is always False.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polydetr.backbones.bert import BertEncoder, from_hf_state_dict
from polydetr.backbones.folders import read_weights
from polydetr.backbones.wrapped import TransformersEncoder, pretrained_state
from polydetr.errors import BackboneError
from polydetr.specs.text import TextSpec

_ELECTRA_HEADS = ("discriminator_predictions.", "generator_predictions.", "generator_lm_head.")


def build(spec: TextSpec, *, dropout: float | None = None) -> nn.Module:
    """The encoder with random weights: forward(input_ids (B, L), mask (B, L), segment_ids, positions) → (B, L,
    hidden_dim). dropout: in training; None leaves it as the configuration has it.
    """
    if spec.config["architecture"] == "bert":
        return BertEncoder(**spec.config["encoder"], dropout=dropout or 0.0)
    return TransformersEncoder(spec.config["hf_config"], dropout=dropout)


def weights(spec: TextSpec) -> dict[str, Tensor]:
    """The pretrained weights in fp32, under the names of :func:`build`'s state dict; read from disk on every call.

    Raises :class:`BackboneError` where the checkpoint is incomplete or does not belong to its config, and for a spec
    that was restored from a model folder (there the model's own file holds the weights).
    """
    if spec.source is None:
        raise BackboneError(
            f"backbone {spec.name!r} was restored from a model folder, "
            "which keeps the weights in the model's own file.",
            hint=f"Load the pretrained ones with load_text_spec({spec.name!r}).",
        )
    if spec.config["architecture"] == "bert":
        state = read_weights(spec.source)
        known = {k.removeprefix("electra."): v for k, v in state.items() if not k.startswith(_ELECTRA_HEADS)}
        return from_hf_state_dict(known, num_layers=spec.num_layers)
    return pretrained_state(spec.source, spec.config["hf_config"])


def pretrained(spec: TextSpec) -> nn.Module:
    """The encoder with the pretrained weights; spares the random start that :func:`build` draws (1 s for 117 M)."""
    if spec.config["architecture"] != "bert":
        encoder = build(spec)  # these may carry buffers that no checkpoint holds
        encoder.load_state_dict(weights(spec))
        return encoder
    with torch.device("meta"):
        encoder = build(spec)
    encoder.load_state_dict(weights(spec), assign=True)
    return encoder.requires_grad_(True)
