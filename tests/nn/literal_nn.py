"""The equations once more, in float64 and in Python loops: one softmax, one sum, one product at a time.

Nothing here calls an attention, linear or norm function of PyTorch, and nothing is batched, so that a swapped axis in
the product cannot hide behind the same swap here. Tensors are scalars and short vectors only for their gradients' sake.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """y_o = Σ_i W_oi x_i + b_o for one vector."""
    return torch.stack([(layer.weight[o] * x).sum() + layer.bias[o] for o in range(layer.out_features)])


def layer_norm(layer: nn.LayerNorm, x: Tensor) -> Tensor:
    mean = x.sum() / len(x)
    variance = ((x - mean) ** 2).sum() / len(x)
    return (x - mean) / (variance + layer.eps) ** 0.5 * layer.weight + layer.bias


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def ask(query: Tensor, keys: list[Tensor], values: list[Tensor], num_heads: int) -> tuple[Tensor, list[list[Tensor]]]:
    """One projected query (D,) asks projected keys: (z, heads joined; weights[head][key]). Without keys z is zero."""
    size = len(query) // num_heads
    joined, all_weights = [], []
    for head in range(num_heads):
        part = slice(head * size, (head + 1) * size)
        exponentials = [torch.exp((query[part] * key[part]).sum() / math.sqrt(size)) for key in keys]
        normaliser = sum(exponentials)
        weights = [e / normaliser for e in exponentials]
        z = torch.zeros(size, dtype=query.dtype)
        for weight, value in zip(weights, values, strict=True):
            z = z + weight * value[part]
        joined.append(z)
        all_weights.append(weights)
    return torch.cat(joined), all_weights


def multi_head_attention(attention, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(B, Lq, D), (B, Lk, D), (B, Lk, D), (B, Lk) → answers (B, Lq, D) and weights (B, H, Lq, Lk)."""
    batch, queries, heads = len(query), query.shape[1], attention.num_heads
    weights_out = torch.zeros(batch, heads, queries, key.shape[1], dtype=query.dtype)
    rows = []
    for b in range(batch):
        real = [j for j in range(key.shape[1]) if bool(mask[b, j])]
        keys = [linear(attention.key, key[b, j]) for j in real]
        values = [linear(attention.value, value[b, j]) for j in real]
        for i in range(queries):
            z, weights = ask(linear(attention.query, query[b, i]), keys, values, heads)
            rows.append(linear(attention.output, z) if real else torch.zeros_like(query[b, i]))
            for h in range(heads):
                for place, j in enumerate(real):
                    weights_out[b, h, i, j] = weights[h][place].detach()
    return torch.stack(rows).reshape(query.shape), weights_out


def encoder_layer(blocks: dict, tokens: dict[str, Tensor], masks: dict[str, Tensor], fusion: str) -> dict[str, Tensor]:
    """One pre-norm layer for one example: tokens[m] (L_m, D), masks[m] (L_m,)."""
    normed = {m: [layer_norm(blocks[m].attention_norm, h) for h in tokens[m]] for m in tokens}
    real = {m: [j for j in range(len(masks[m])) if bool(masks[m][j])] for m in tokens}
    keys = {m: [linear(blocks[m].attention.key, normed[m][j]) for j in real[m]] for m in tokens}
    values = {m: [linear(blocks[m].attention.value, normed[m][j]) for j in real[m]] for m in tokens}
    out = {}
    for asker in tokens:
        block, rows = blocks[asker], []
        for position, h in enumerate(tokens[asker]):
            query = linear(block.attention.query, normed[asker][position])
            heads = block.attention.num_heads
            if fusion == "sum":
                for answerer in tokens:
                    if real[answerer]:
                        z, _ = ask(query, keys[answerer], values[answerer], heads)
                        h = h + linear(blocks[answerer].attention.output, z)
            elif any(real.values()):
                z, _ = ask(query, [k for m in tokens for k in keys[m]], [v for m in tokens for v in values[m]], heads)
                h = h + linear(block.attention.output, z)
            hidden = gelu(linear(block.expand, layer_norm(block.feed_forward_norm, h)))
            rows.append(h + linear(block.contract, hidden))
        out[asker] = torch.stack(rows)
    return out


def encoder(model, share: str, tokens: dict[str, Tensor], masks: dict[str, Tensor]) -> dict[str, Tensor]:
    """The whole encoder; which parameters are shared is read from ``share`` alone."""
    names = list(model.modalities)
    examples = []
    for b in range(len(next(iter(tokens.values())))):
        state = {m: tokens[m][b] for m in tokens}
        for number in range(model.num_layers):
            layer = model.layers[0 if share in ("layers", "both") else number]
            blocks = {m: layer[0 if share in ("modalities", "both") else names.index(m)] for m in tokens}
            state = encoder_layer(blocks, state, {m: masks[m][b] for m in tokens}, model.fusion)
        norms = {m: model.norms[0 if share in ("modalities", "both") else names.index(m)] for m in tokens}
        examples.append({m: torch.stack([layer_norm(norms[m], h) for h in state[m]]) for m in tokens})
    return {m: torch.stack([example[m] for example in examples]) for m in tokens}


def randomise(module: nn.Module, *, seed: int) -> nn.Module:
    """float64 and random everywhere: biases of zero and gains of one would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    module.double()
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data = noise / math.sqrt(parameter.shape[-1]) if parameter.dim() > 1 else parameter.data + 0.3 * noise
    return module
