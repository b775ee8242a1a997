"""Speed of the text encoder against transformers' own BertModel: training tokens/s and prediction texts/s.

    python benchmarks/bench_backbone.py [--weights FOLDER] [--repeats 5] [--only training|inference]

Prints one JSON document. All variants are built first, then timed in turn (interleaved), so that another program on the
machine hits all alike; medians are reported. Texts are random ids whose lengths follow English news sentences (mean 20
sub-words, 5 to 60); lengths decide the speed, words do not. Tokens are real ones: padding is not counted. A training
step is forward, backward, clipping and update; data loading and the task head are left out on both sides.

The peer is what ``transformers.Trainer`` runs by default: float32, 8 texts of arbitrary lengths per step, dropout 0.1,
torch AdamW over all weights; and its best: bfloat16 autocast, 32 texts per step.

What was tried (2 cores of an AMD EPYC with avx512_bf16, no AMX, torch 2.13, a busy machine; 4,096 tokens per step):

- kept: weights in bfloat16 with float32 masters: matrix products 0.80-0.85 against 0.19 TFLOP/s;
- kept: attention by batched products instead of the fused kernel in bfloat16, whose backward is slow (texts of 32
  tokens: 8 ms against 66 ms a layer, of 384: 32 against 75); the whole step +54 %. In float32 the fused one stays;
- kept: attention in chunks that fit the cache: -16 % of attention at 384 tokens, nothing at 32 (measured with chunks of
  fixed token counts; the present rule, by score size, picks the best of those but was not timed on its own);
- kept: freed memory is not handed back (mallopt): +16 % at 32 tokens, +46 % at 384, nothing at 1,024 tokens per step;
- kept: bias inside the product: forward products 0 to 24 % faster, by shape;
- kept: weights packed for prediction: 25 % for one short text, 5-10 % in batches;
- kept: embeddings frozen (+19 %) or updated by rows (+14 %) against the dense table;
- dropped: tanh GELU (slower: 6.8 against 1.7 ms), GELU fused into the packed product and its backward in place (no
  gain either), recomputing attention (saves memory, -17 % speed of attention), transposed forms of the weight gradient
  (+-5 %), huge pages (THP_MEM_ALLOC_ENABLE; no gain beside mallopt);
- not worth it: removing padding: sorted batches are 95-99.6 % real tokens;
- not done: int8 products reach 1.6 TOP/s here, twice bfloat16; they would serve prediction alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from polydetr.backbones.bert import BertEncoder, BertSizes, from_hf_state_dict
from polydetr.core.memory import keep_freed_memory
from polydetr.training.optimizer import MasterAdamW, parameter_groups

SIZES = BertSizes(vocab_size=30522, hidden_dim=384, num_layers=6, num_heads=12, ffn_dim=1536, max_positions=512)
Batch = tuple[Tensor, Tensor]


def news_lengths(count: int, *, seed: int = 0) -> list[int]:
    """Sub-words a sentence with both markers: a gamma distribution cut to 5..60, mean 20."""
    torch.manual_seed(seed)
    drawn = torch.distributions.Gamma(2.2, 0.13).sample((count,)) + 4
    return drawn.clamp(5, 60).int().tolist()


def make_batch(lengths: list[int]) -> Batch:
    """ids (B, L) and mask (B, L) bool, True = real."""
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return torch.randint(1000, 30000, mask.shape).where(mask, torch.tensor(0)), mask


def batches_by_count(lengths: list[int], *, size: int, count: int) -> list[Batch]:
    """As the peer does: in the order of the file."""
    return [make_batch(lengths[i * size : (i + 1) * size]) for i in range(count)]


def batches_by_tokens(lengths: list[int], *, budget: int, count: int) -> list[Batch]:
    """As we do: sorted by length, so many tokens a batch; ``count`` of them spread over the whole range."""
    batches: list[list[int]] = [[]]
    for length in sorted(lengths):
        if (len(batches[-1]) + 1) * length > budget:
            batches.append([])
        batches[-1].append(length)
    picked = [batches[(2 * i + 1) * len(batches) // (2 * count)] for i in range(count)]
    return [make_batch(rows) for rows in picked]


def peer_model(*, dropout: float) -> nn.Module:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers import BertConfig, BertModel

    config = BertConfig(
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    return BertModel(config, add_pooling_layer=False)


def peer_step(model: nn.Module, *, bf16: bool) -> Callable[[Batch], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, fused=True)  # the Trainer's default is the fused one

    def step(batch: Batch) -> None:
        ids, mask = batch
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            out = model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        out.float().square().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def our_model(state: dict[str, Tensor], dtype: torch.dtype) -> BertEncoder:
    model = BertEncoder(SIZES)
    model.load_state_dict(state)
    return model.to(dtype)


def our_step(encoder: BertEncoder, *, words: str) -> Callable[[Batch], None]:
    """words: "frozen" (all embeddings), or "dense" (the whole table learns)."""
    model = nn.ModuleDict({"backbone": encoder})
    groups = parameter_groups(model, lr=5e-5, freeze_embeddings=words == "frozen")
    optimizer = MasterAdamW(groups, clip_norm=1.0)

    def step(batch: Batch) -> None:
        encoder(*batch).float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def interleaved(jobs: dict[str, Callable[[], int]], *, repeats: int) -> dict[str, float]:
    """Units (tokens, texts) a second of each job: the median of ``repeats`` turns, after one to warm up."""
    rates: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(repeats + 1):
        for name, job in jobs.items():
            start = time.perf_counter()
            units = job()
            if turn:
                rates[name].append(units / (time.perf_counter() - start))
    return {name: round(statistics.median(values), 1) for name, values in rates.items()}


def over(batches: list[Batch], step: Callable[[Batch], Any], *, texts: bool = False) -> Callable[[], int]:
    def job() -> int:
        for batch in batches:
            step(batch)
        return sum(len(mask) if texts else int(mask.sum()) for _, mask in batches)

    return job


def training_jobs(state: dict[str, Tensor]) -> dict[str, Callable[[], int]]:
    lengths = news_lengths(4000)
    sizes = {
        "news_1024": batches_by_tokens(lengths, budget=1024, count=4),
        "news_4096": batches_by_tokens(lengths, budget=4096, count=3),
        "documents_384_x_5": [make_batch([384] * 5)],
        "documents_384_x_10": [make_batch([384] * 10)],
    }
    jobs = {
        "peer fp32 batch 8 (its default)": over(
            batches_by_count(lengths, size=8, count=6), peer_step(peer_model(dropout=0.1), bf16=False)
        ),
        "peer bf16 batch 32 (its best)": over(
            batches_by_count(lengths, size=32, count=3), peer_step(peer_model(dropout=0.1), bf16=True)
        ),
        "peer bf16 documents_384_x_10": over(
            sizes["documents_384_x_10"], peer_step(peer_model(dropout=0.1), bf16=True)
        ),
        "ours fp32 frozen news_1024": over(
            sizes["news_1024"], our_step(our_model(state, torch.float32), words="frozen")
        ),
    }
    for words in ("frozen", "dense"):
        step = our_step(our_model(state, torch.bfloat16), words=words)
        for name in sizes if words != "dense" else ("news_1024", "news_4096"):
            jobs[f"ours bf16 {words} {name}"] = over(sizes[name], step)
    return jobs


def inference_jobs(state: dict[str, Tensor]) -> dict[str, Callable[[], int]]:
    """Texts of one length; the peer as its pipeline runs: float32, no autocast, 1 or 32 texts at a time."""
    peer = peer_model(dropout=0.0).eval()
    models = {
        name: our_model(state, dtype).eval() for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }

    @torch.inference_mode()
    def theirs(batch: Batch) -> None:
        peer(input_ids=batch[0], attention_mask=batch[1].long())

    jobs = {}
    for length in (20, 128):
        for size in (1, 32):
            jobs[f"peer fp32 length {length} batch {size}"] = over(
                [make_batch([length] * size)] * 3, theirs, texts=True
            )
        for name, model in models.items():
            run = torch.inference_mode()(lambda batch, model=model: model(*batch))
            for size in (1, 4096 // length):
                batches = [make_batch([length] * size)] * (3 if size == 1 else 1)
                jobs[f"ours {name} length {length} batch {size}"] = over(batches, run, texts=True)
    return jobs


def matmul_tflops(dtype: torch.dtype) -> Callable[[], int]:
    """The largest product of the encoder at 4,096 tokens; returns megaflop, so that the rate is TFLOP/s times 10⁶."""
    left, right = torch.randn(4096, 1536).to(dtype), torch.randn(1536, 384).to(dtype)

    def job() -> int:
        for _ in range(4):
            left @ right
        return 4 * 2 * 4096 * 1536 * 384 // 10**6

    return job


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="folder with model.safetensors; random weights without")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=("training", "inference"))
    parser.add_argument("--default-allocator", action="store_true", help="leave glibc's malloc as it is, for all")
    options = parser.parse_args()
    torch.manual_seed(0)
    state = BertEncoder(SIZES).state_dict()
    if options.weights:
        from safetensors.torch import load_file

        state = from_hf_state_dict(load_file(options.weights / "model.safetensors"), num_layers=SIZES.num_layers)
    result: dict[str, Any] = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    result["keeps_freed_memory"] = not options.default_allocator and keep_freed_memory()
    if options.only != "inference":
        result["training_tokens_per_s"] = interleaved(training_jobs(state), repeats=options.repeats)
    if options.only != "training":
        result["inference_texts_per_s"] = interleaved(inference_jobs(state), repeats=options.repeats)
    limits = interleaved({"fp32": matmul_tflops(torch.float32), "bf16": matmul_tflops(torch.bfloat16)}, repeats=9)
    layers = SIZES.num_layers * (4 * SIZES.hidden_dim**2 + 2 * SIZES.hidden_dim * SIZES.ffn_dim)
    result["matmul_tflops"] = {name: round(rate / 1e6, 2) for name, rate in limits.items()}
    result["training_limit_tokens_per_s"] = {name: round(rate * 1e6 / (6 * layers)) for name, rate in limits.items()}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
