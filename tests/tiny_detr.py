"""A small DETR of transformers, random in everything (norms and statistics too), and a padded batch for it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polydetr.backbones.detr import detr_weights
from polydetr.backbones.resnet import ResNet, resnet_weights
from polydetr.nn.detr import Detr, DetrSizes
from polydetr.specs.detr import BACKBONE, describe_detr, our_keys
from polydetr.specs.resnet import describe_resnet

NAMES = {0: "kettle", 1: "pear", 2: "scarf"}


def reference(*, auxiliary_loss: bool = False, basic: bool = False, seed: int = 0):
    """transformers' DetrForObjectDetection from its configuration, without network, without timm."""
    from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

    backbone = ResNetConfig(
        depths=[1, 2, 1, 1] if basic else [1, 1, 2, 1],
        hidden_sizes=[8, 12, 16, 20],
        embedding_size=8 if basic else 6,
        layer_type="basic" if basic else "bottleneck",
        out_features=["stage4"],
    )
    config = DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config=backbone,
        num_queries=13, d_model=24, encoder_layers=2, decoder_layers=3, encoder_attention_heads=2,
        decoder_attention_heads=3, encoder_ffn_dim=29, decoder_ffn_dim=31, id2label=NAMES,
        label2id={name: number for number, name in NAMES.items()}, auxiliary_loss=auxiliary_loss,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = DetrForObjectDetection(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(0.5 + noise.abs())
            elif tensor.dim() == 2:
                # Large, so that attention is sharp: a fresh DETR answers the same for every query.
                gain = 2.0 if "q_proj" in name or "k_proj" in name else 1.5
                tensor.copy_(2 * noise if "query_position" in name else gain * noise / tensor.shape[1] ** 0.5)
            elif "input_projection.weight" in name:
                tensor.copy_(noise)
            elif tensor.dim() == 1:
                tensor.add_(0.3 * noise)
    return model


def padded_batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    """pixels (3, 3, 96, 71) and mask, True = real: one image fills the frame, two do not."""
    pixels = torch.randn(3, 3, 96, 71, generator=torch.Generator().manual_seed(seed))
    mask = torch.ones(3, 96, 71, dtype=torch.bool)
    mask[1, 64:] = False
    mask[2, :, 40:] = False
    mask[2, 33:] = False
    return pixels * mask[:, None], mask


class WholeDetr(nn.Module):
    """A DETR over the coarsest map of a ResNet, from pixels (B, 3, H, W) and their mask (B, H, W)."""

    def __init__(self, resnet: ResNet, detr: Detr) -> None:
        super().__init__()
        self.resnet, self.detr = resnet, detr

    def forward(self, pixels: Tensor, mask: Tensor | None = None, **options: bool) -> dict[str, Tensor]:
        maps = self.resnet(pixels)
        coarsest = maps[max(maps)]
        return self.detr(coarsest, None if mask is None else cell_mask(mask, coarsest), **options)


def cell_mask(mask: Tensor, features: Tensor) -> Tensor:
    """Which cells of the feature map show the image: the nearest pixel decides."""
    return F.interpolate(mask[:, None].float(), size=features.shape[-2:])[:, 0].bool()


def as_ours(theirs) -> WholeDetr:
    """The same weights in our modules, with the projection where DETR has it: in front of the transformer."""
    state = {name: tensor.detach() for name, tensor in theirs.state_dict().items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in our_keys(state).items()}
    encoder = describe_resnet({k.removeprefix(BACKBONE): v for k, v in shapes.items() if k.startswith(BACKBONE)})
    backbone, head = detr_weights(state)
    for kind in ("weight", "bias"):
        head[f"input_projection.{kind}"] = backbone.pop(f"input_projection.{kind}")
    resnet = ResNet(**encoder)
    resnet.load_state_dict(resnet_weights(backbone, encoder))
    sizes = DetrSizes(num_classes=len(NAMES), **describe_detr(shapes, theirs.config.to_dict()))
    ours = Detr(encoder["widths"][-1], sizes)
    ours.load_state_dict(head)
    return WholeDetr(resnet, ours).eval()
