"""Pure tensors in, tensors out: attention, the shared encoder, positions, pooling, low-rank adaptation."""

from polydetr.nn.attention import MultiHeadAttention, attend, useful_mask
from polydetr.nn.encoder import AttentionWeights, EncoderBlock, MultiModalEncoder, count_parameters
from polydetr.nn.lora import LoRALinear, add_lora, merge_lora
from polydetr.nn.pooling import masked_mean, mean_of_groups
from polydetr.nn.positions import LearnedPositions, SinusoidalPositions

__all__ = [
    "AttentionWeights",
    "EncoderBlock",
    "LearnedPositions",
    "LoRALinear",
    "MultiHeadAttention",
    "MultiModalEncoder",
    "SinusoidalPositions",
    "add_lora",
    "attend",
    "count_parameters",
    "masked_mean",
    "mean_of_groups",
    "merge_lora",
    "useful_mask",
]
