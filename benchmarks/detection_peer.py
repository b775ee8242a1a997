"""Hugging Face's DETR on BCCD, beside ``detection.py``: their model, their matcher and their loss, everything else ours.

    python benchmarks/detection_peer.py --steps 900 [--seed 0] [--set image.size=320]

``DetrForObjectDetection`` is built from its configuration and stands where ``--architecture detr`` puts ours: on the
same pretrained backbone, with the same images, augmentation, optimizer, schedule and measurements. Appends one JSON
line a run to benchmarks/results/detection.jsonl.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig
from transformers.loss.loss_for_object_detection import ForObjectDetectionLoss

import detection
from polydetr.heads import detection as detection_head
from polydetr.heads.base import EncoderShape
from polydetr.nn.detr import Detr, DetrSizes
from polydetr.nn.matcher import SetTargets
from polydetr.tasks.detection import DetectionOptions


class HubDetr(Detr):
    """Their module behind the interface of ours."""

    def __init__(self, backbone: nn.Module, backbone_channels: int, sizes: DetrSizes) -> None:
        nn.Module.__init__(self)
        self.hub = DetrForObjectDetection(hub_config(sizes.num_classes))
        self.hub.model.backbone = _GivenMap()
        self.hub.model.input_projection = nn.Conv2d(backbone_channels, self.hub.config.d_model, 1)

    def forward(
        self, pixels: Tensor, mask: Tensor | None = None, *, last_only: bool = False, need_weights: bool = False
    ) -> dict[str, Tensor]:
        found = self.hub.model(pixels)
        states = found.last_hidden_state[None] if last_only else found.intermediate_hidden_states
        return {
            "logits": self.hub.class_labels_classifier(states),
            "boxes_cxcywh": self.hub.bbox_predictor(states).sigmoid(),
        }


class _GivenMap(nn.Module):
    """Stands for their backbone: the map was already made."""

    def forward(self, cells: Tensor, mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [(cells, mask.bool())]


def hub_config(num_classes: int) -> DetrConfig:
    """DETR's published sizes; the ResNet that it names is thrown away before it learns anything."""
    least = ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic", out_features=["stage1"])
    return DetrConfig(use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config=least,
                      num_labels=num_classes, auxiliary_loss=True)  # fmt: skip


@dataclass(frozen=True)
class _Total:
    total: Tensor


class HubCriterion:
    """Their loss, asked as ours is."""

    def __init__(self, num_classes: int) -> None:
        self.config = hub_config(num_classes)

    def __call__(self, outputs: dict[str, Tensor], targets: SetTargets) -> _Total:
        logits, boxes = outputs["logits"].float(), outputs["boxes_cxcywh"].float()
        labels = [
            {"class_labels": label[real], "boxes": box[real]}
            for label, box, real in zip(targets.labels, targets.geometry["boxes_cxcywh"], targets.mask, strict=True)
        ]
        loss, _, _ = ForObjectDetectionLoss(logits[-1], labels, logits.device, boxes[-1], self.config, logits, boxes)
        return _Total(loss)


class HubHead(detection_head.DetectionHead):
    """Our head, with their module in it and their loss."""

    def __init__(self, shape: EncoderShape, *, labels: Sequence[str], options: DetectionOptions) -> None:
        super().__init__(shape, labels=labels, options=options)
        self.criterion = HubCriterion(len(labels))  # type: ignore[assignment]


def main() -> None:
    detection_head.Detr = HubDetr  # type: ignore[misc]
    detection_head.DetectionHead = HubHead  # type: ignore[misc]
    detection.main(["--architecture", "detr"], model="transformers' DETR")


if __name__ == "__main__":
    main()
