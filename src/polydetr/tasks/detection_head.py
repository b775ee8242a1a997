"""From what the shared encoder gives to a detector's maps: both architectures behind one interface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from polydetr.config import DetectionConfig
from polydetr.core.examples import IGNORE_INDEX
from polydetr.nn.batch import Encoded
from polydetr.nn.decoder import SetDecoder, hold
from polydetr.nn.detr import Detr, DetrSizes
from polydetr.nn.detr_fast import DetrFast, FastSizes
from polydetr.nn.matcher import SetTargets

_GROUP = "image"


class DetectionHead(nn.Module):
    """Encoded → logits and boxes of every layer that is asked for, batch first:

    logits (B, N, Q, C'), boxes (B, N, Q, 4), frame (B, 6), where the picture lies, zero where a row has none.

    map_channels: stride → channels of the finer maps, which come from the backbone; grid: cells a side of the coarsest,
    the image's tokens as they come out of the shared encoder, so that whatever else the row says can be heard.
    """

    def __init__(
        self, embed_dim: int, map_channels: Mapping[int, int], *, grid: int, num_classes: int, config: DetectionConfig
    ) -> None:
        super().__init__()
        self.grid = grid
        self.strides = tuple(sorted(map_channels))
        channels = (*(map_channels[stride] for stride in self.strides), embed_dim)
        self.model: nn.Module
        if config.architecture == "detr":
            sizes = DetrSizes(num_classes, **_given(config, embed_dim="hidden_dim"))
            self.model = Detr(_LastMap(), embed_dim, sizes)
        else:
            switches = {name: getattr(config, name) for name in ("refine", "query_selection", "deformable")}
            self.model = DetrFast(
                FastSizes(num_classes, channels, **_given(config, embed_dim="hidden_dim"), **switches)
            )

    def use_decoder(self, decoder: SetDecoder) -> None:
        """Decodes by the layers of one that the whole model owns (``model.share_decoder``)."""
        hold(self.model, "layers", decoder.layers)

    def forward(self, encoded: Encoded) -> dict[str, Tensor]:
        embedded = encoded.embedded[_GROUP]
        # Of several pictures the first one is looked at: its cells come first.
        cells = encoded.tokens[_GROUP][:, : self.grid**2]
        coarsest = cells.transpose(1, 2).unflatten(2, (self.grid, self.grid))
        last_only = not torch.is_grad_enabled()
        if isinstance(self.model, Detr):
            found = self.model(coarsest, last_only=last_only)
        else:
            finer = [embedded.maps[stride] for stride in self.strides]
            found = self.model([*finer, coarsest], last_only=last_only)
        outputs = {name: tensor.transpose(0, 1) for name, tensor in found.items()}
        if embedded.frame is not None:
            # Zero also where training hides the picture.
            outputs["frame"] = embedded.frame * embedded.mask.any(1, keepdim=True)
        return outputs


class _LastMap(nn.Module):
    """Stands for the backbone, which the shared encoder already asked."""

    def forward(self, coarsest: Tensor) -> list[Tensor]:
        return [coarsest]


def set_targets(targets: Mapping[str, Tensor]) -> SetTargets:
    """Padded arrays of a batch as the matcher takes them."""
    labels = targets["labels_per_object"]
    return SetTargets(labels, labels != IGNORE_INDEX, {"boxes_cxcywh": targets["boxes_per_object"].float()})


def _given(config: DetectionConfig, **renamed: str) -> dict[str, Any]:
    """Sizes that were asked for; the architecture's own stand for the others."""
    names = {name: name for name in ("num_queries", "encoder_layers", "decoder_layers")} | renamed
    sizes = {theirs: getattr(config, ours) for theirs, ours in names.items()}
    return {name: value for name, value in sizes.items() if value is not None}
