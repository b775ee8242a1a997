"""Text encoders from their specs: built with random weights, or with the pretrained ones.

Nothing here runs code that came with weights: only safetensors are read, and ``trust_remote_code`` is always False.
"""

from __future__ import annotations

from torch import Tensor, nn

from polydetr.backbones.bert import BertEncoder, BertSizes, from_hf_state_dict
from polydetr.backbones.folders import read_weights, source_of
from polydetr.backbones.wrapped import TransformersEncoder, pretrained_state
from polydetr.specs.text import TextSpec

_ELECTRA_HEADS = ("discriminator_predictions.", "generator_predictions.", "generator_lm_head.")


def build(spec: TextSpec, *, dropout: float | None = None) -> nn.Module:
    """The encoder with random weights: forward(input_ids (B, L), mask (B, L), segment_ids, positions) → (B, L,
    hidden_dim). dropout: in training; None leaves it as the configuration has it.
    """
    if spec.config["architecture"] == "bert":
        return BertEncoder(BertSizes(**spec.config["encoder"], dropout=dropout or 0.0))
    offset = spec.config.get("position_offset", 0)  # older folders were trained without
    return TransformersEncoder(spec.config["hf_config"], dropout=dropout, position_offset=offset)


def weights(spec: TextSpec) -> dict[str, Tensor]:
    """The pretrained weights in fp32, under the names of :func:`build`'s state dict; read from disk on every call.

    Raises :class:`BackboneError` where the checkpoint is incomplete or does not belong to its config, and for a spec
    without pretrained weights (``folders.source_of``).
    """
    source = source_of(spec)
    if spec.config["architecture"] == "bert":
        state = read_weights(source)
        known = {k.removeprefix("electra."): v for k, v in state.items() if not k.startswith(_ELECTRA_HEADS)}
        return from_hf_state_dict(known, num_layers=spec.num_layers)
    return pretrained_state(source, spec.config["hf_config"])
