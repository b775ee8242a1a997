"""Which number format to train in: decided by what this machine does, not by what its processor is called."""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from polydetr.core.files import cache_dir, write_json
from polydetr.errors import ConfigError, did_you_mean

Requested = Literal["auto", "fp32", "bf16"]

MARGIN = 1.3
"""bfloat16 must be so many times as fast: the casts around it cost something, and float32 is the safer of the two."""

BF16_TOLERANCE = 0.1
"""``bf16_agrees`` above this means: use float32. Sound encoders measure 0.01 to 0.05."""


@dataclass(frozen=True, slots=True)
class Precision:
    """name "fp32" or "bf16"; dtype of the weights that compute; reason, one sentence for the log."""

    name: Literal["fp32", "bf16"]
    reason: str

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.name == "bf16" else torch.float32


def choose_precision(requested: Requested = "auto", device: torch.device | str = "cpu") -> Precision:
    """What was asked for, or with "auto" what is faster here. Raises ConfigError for an unknown name."""
    if requested not in get_args(Requested):
        raise ConfigError(f"precision {requested!r} is not known.", hint=did_you_mean(requested, get_args(Requested)))
    if requested == "fp32":
        return Precision("fp32", "float32, as asked for")
    if requested == "bf16":
        return Precision("bf16", "bfloat16, as asked for")
    kind = torch.device(device).type
    if kind == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision("bf16", "the GPU computes in bfloat16")
        return Precision("fp32", "the GPU has no bfloat16")
    if kind != "cpu":
        return Precision("fp32", f"float32 is the safe choice on {kind!r}")
    if not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return Precision("fp32", "this CPU, or this build of PyTorch, has no fast bfloat16")
    gain = bf16_speedup(torch.get_num_threads())
    said = f"matrix products in bfloat16 measured {gain:.1f} times as fast as in float32"
    if gain >= MARGIN:
        return Precision("bf16", said)
    return Precision("fp32", f"{said}, less than the {MARGIN} that would be worth it")


def bf16_speedup(num_threads: int) -> float:
    """Time of an encoder's matrix product in float32 over that in bfloat16.

    A gain that was once measured is kept in the cache folder, so that the same call trains in the same format however
    busy the machine is; where none was found it is looked for again, as a busy machine may hide it.
    """
    path = cache_dir() / "bf16-speedup.json"
    capability = torch.backends.cpu.get_cpu_capability()
    key = f"{platform.node()} {platform.machine()} {capability}, torch {torch.__version__}, {num_threads} threads"
    try:
        kept = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # none yet, or none that can be read
        kept = {}
    gain = kept.get(key)
    if not isinstance(gain, float) or gain < MARGIN:
        kept[key] = gain = _measured_speedup(num_threads)
        with contextlib.suppress(OSError):
            write_json(path, kept)
    return gain


@functools.lru_cache(maxsize=4)
def _measured_speedup(num_threads: int) -> float:
    """Takes 0.1 s. The two are timed in turn and the best of each counts, so that another program decides little."""
    operands = {
        dtype: (torch.ones(512, 384, dtype=dtype), torch.ones(384, 1536, dtype=dtype))
        for dtype in (torch.float32, torch.bfloat16)
    }
    best = dict.fromkeys(operands, float("inf"))
    stop = time.perf_counter() + 0.15
    for turn in range(9):
        for dtype, (left, right) in operands.items():
            start = time.perf_counter()
            torch.mm(left, right)
            if turn:  # the first brings kernels and memory
                best[dtype] = min(best[dtype], time.perf_counter() - start)
        if turn and time.perf_counter() > stop:
            break
    return best[torch.float32] / best[torch.bfloat16]


@torch.no_grad()
def bf16_agrees(encoder: nn.Module, batch: Mapping[str, Any]) -> float:
    """How far bfloat16 leads this encoder astray on a real batch: the largest relative error of any real token.

    encoder(**batch) -> (B, L, D); ``batch["mask"]`` (B, L), True = real. error = |y_bf16 - y_fp32| / |y_fp32|, norms
    over D; infinite when an output is not a number. The encoder itself stays as it is.
    """
    outputs: list[Tensor] = []
    for dtype in (torch.float32, torch.bfloat16):
        twin = copy.deepcopy(encoder).to(dtype).eval()
        outputs.append(twin(**batch)[batch["mask"]].float())
    exact, rounded = outputs
    error = (rounded - exact).norm(dim=-1) / exact.norm(dim=-1).clamp(min=1e-12)
    return float(error.nan_to_num(nan=float("inf"), posinf=float("inf")).max()) if len(error) else 0.0
