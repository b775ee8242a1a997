"""From the shared encoder's tokens to boxes: both architectures of a detector behind one interface, and their loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polydetr.backbones.detr import PretrainedDetr
from polydetr.backbones.folders import fitting
from polydetr.core.examples import IGNORE_INDEX
from polydetr.errors import ConfigError
from polydetr.heads.base import EncoderShape, Head, Tensors
from polydetr.heads.detection_explained import looked_at
from polydetr.nn.batch import Encoded, Scene
from polydetr.nn.box_geometry import BoxGeometry
from polydetr.nn.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from polydetr.nn.decoder import SetDecoder, hold
from polydetr.nn.detr import Detr, DetrSizes
from polydetr.nn.detr_fast import DetrFast, FastSizes
from polydetr.nn.matcher import SetTargets
from polydetr.nn.set_loss import SetCriterion
from polydetr.tasks.detection import DetectionOptions, DetectionTask
from polydetr.tasks.explained import Reading
from polydetr.tasks.explained_objects import ObjectAnswer
from polydetr.values.boxes import SMALLEST_SIDE, VISIBLE_SHARE

_GROUP = "image"


class DetectionHead(Head):
    """Encoded → logits and boxes of the last or of all layers, batch first:

    logits (B, N, Q, C'), boxes_cxcywh (B, N, Q, 4); frame (B, 6), where the image lies, zero where a row has none.

    The finer maps come from the backbone; the coarsest is made of the image's tokens as they come out of the shared
    encoder, where they have attended to the row's other inputs. The sizes of a published DETR (``EncoderShape.detr``)
    take precedence over the options.

    Raises:
        ConfigError: the tokens are narrower than that DETR.
    """

    decoder: SetDecoder | None = None
    """Its layers read several scales, so that no other head can use them; it can use those of another."""

    def __init__(self, shape: EncoderShape, *, labels: Sequence[str], options: DetectionOptions) -> None:
        super().__init__()
        self.labels, num_classes = tuple(labels), len(labels)
        self.grid, self.strides = shape.grid, tuple(sorted(shape.map_channels))
        options_of_sizes = {
            "num_queries": options.num_queries, "embed_dim": options.hidden_dim,
            "encoder_layers": options.encoder_layers, "decoder_layers": options.decoder_layers,
        }  # fmt: skip
        # Where an option is None, the architecture's own default holds.
        sizes = {name: value for name, value in options_of_sizes.items() if value is not None}
        self.model: nn.Module
        if options.architecture == "detr":
            sizes = _published(shape) or sizes
            self.model = Detr(shape.embed_dim, DetrSizes(num_classes, **sizes))
            self.criterion = SetCriterion(BoxGeometry())
        else:
            channels = (*(shape.map_channels[stride] for stride in self.strides), shape.embed_dim)
            self.model = DetrFast(
                FastSizes(
                    num_classes, channels, **sizes, refine=options.refine, query_selection=options.query_selection,
                    deformable=options.deformable,
                )
            )  # fmt: skip
            kind = "varifocal" if options.iou_aware else "focal"
            self.criterion = SetCriterion(BoxGeometry(), classification=kind)

    @classmethod
    def from_task(cls, task: DetectionTask, shape: EncoderShape, *, label_smoothing: float = 0.0) -> Self:
        return cls(shape, labels=task.labels, options=task.options)

    @torch.no_grad()
    def load_pretrained(self, pretrained: PretrainedDetr) -> None:
        """Loads the weights of a published DETR, which then answers as it did; those of its class head only where it
        has all of the task's labels, without its other ones. "detr-fast" stays as it is.
        """
        if not isinstance(self.model, Detr):
            return
        state, own = dict(pretrained.weights), self.model.state_dict()
        places = [pretrained.labels.index(label) for label in self.labels if label in pretrained.labels]
        for name in ("class_head.weight", "class_head.bias"):
            known = len(places) == len(self.labels) and name in state
            state[name] = state[name][[*places, -1]] if known else own[name]
        # The features are already projected, by the weights that came with the backbone.
        nn.init.dirac_(own["input_projection.weight"])
        nn.init.zeros_(own["input_projection.bias"])
        state |= {name: tensor for name, tensor in own.items() if name.startswith("input_projection.")}
        self.model.load_state_dict(fitting(state, own, what="this DETR"))

    def use_decoder(self, decoder: SetDecoder) -> None:
        hold(self.model, "layers", decoder.layers)

    def forward(self, encoded: Encoded, *, last_only: bool = False, by_shape: bool = False) -> dict[str, Tensor]:
        embedded = encoded.embedded[_GROUP]
        # Of several images the first one is read: its cells come first.
        cells = encoded.tokens[_GROUP][:, : self.grid**2]
        coarsest = cells.transpose(1, 2).unflatten(2, (self.grid, self.grid))
        if isinstance(self.model, Detr):
            by_layer = self.model(coarsest, last_only=last_only)
        else:
            finer = [embedded.maps[stride] for stride in self.strides]
            by_layer = self.model([*finer, coarsest], last_only=last_only)
        outputs = {name: tensor.transpose(0, 1) for name, tensor in by_layer.items()}
        if embedded.frame is not None:
            # Zero also where training hides the image.
            outputs["frame"] = embedded.frame * embedded.mask.any(1, keepdim=True)
        return outputs

    def transform_targets(self, targets: Tensors, scene: Scene) -> Tensors:
        """The objects at their new place; those of which too little is left in the image are dropped."""
        corners = cxcywh_to_xyxy(targets["boxes_cxcywh"]).unflatten(-1, (2, 2)) * scene.scale[:, None, None]
        low, high = (corners + scene.shift[:, None, None]).aminmax(dim=-2)
        moved, kept = _seen(torch.cat((low, high), dim=-1), scene.window[:, None], SMALLEST_SIDE * scene.pixel)
        labels = targets["labels"].masked_fill(~kept, IGNORE_INDEX)
        return {**targets, "boxes_cxcywh": xyxy_to_cxcywh(moved), "labels": labels}

    def loss(self, outputs: Tensors, targets: Tensors, weights: Tensor) -> dict[str, Tensor]:
        known = (targets["known"] > 0) & (outputs["frame"][:, 0] != 0)
        if not bool(known.any()):
            return {"set": torch.stack([tensor.float().sum() * 0.0 for tensor in outputs.values()]).sum()}
        labels, boxes = targets["labels"][known], targets["boxes_cxcywh"][known].float()
        layers = {name: outputs[name][known].transpose(0, 1) for name in ("logits", "boxes_cxcywh")}
        wanted = SetTargets(labels, labels != IGNORE_INDEX, {"boxes_cxcywh": boxes})
        return {"set": self.criterion(layers, wanted).total}

    def looked_at(self, answer: ObjectAnswer, reading: Reading, forward: Callable[[], object]) -> NDArray[np.float64]:
        return looked_at(self, query=answer.query(reading), forward=forward)


def _published(shape: EncoderShape) -> dict[str, Any] | None:
    """The sizes of the published DETR, where the backbone is one's."""
    if shape.detr is None:
        return None
    sizes = {name: value for name, value in shape.detr.items() if name != "labels"}
    if shape.embed_dim < sizes["embed_dim"]:
        raise ConfigError(
            f"model.embed_dim = {shape.embed_dim} is narrower than the published DETR, which needs "
            f"{sizes['embed_dim']}.",
            hint=f"Set model.embed_dim={sizes['embed_dim']}.",
        )
    return sizes


def _seen(boxes_xyxy: Tensor, window_xyxy: Tensor, smallest: float) -> tuple[Tensor, Tensor]:
    """``values.boxes.seen_boxes`` for tensors: boxes (..., 4) cut at the window's edges, and which are kept (...)."""
    low = torch.maximum(boxes_xyxy[..., :2], window_xyxy[..., :2])
    high = torch.minimum(boxes_xyxy[..., 2:], window_xyxy[..., 2:])
    left = (high - low).clamp(min=0)
    whole = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clamp(min=0)
    kept = (left.prod(-1) > VISIBLE_SHARE * whole.prod(-1)) & (left.amin(-1) >= smallest)
    return torch.cat((low, torch.maximum(low, high)), dim=-1), kept
