"""The numbers that a model computes in: chosen by what the machine does, not by what its processor is called.

choose_for_training     fp32, or bf16 where products in it are faster and this model's outputs stay the same
choose_for_prediction   8-bit integers besides, where the validation rows prove them as good
choose_for_loading      of what was proved when the model was made, the fastest on this machine
apply                   puts the model into what was chosen: the one place that changes it
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from polydetr.core.files import cache_dir, write_json
from polydetr.errors import ConfigError, SchemaError, did_you_mean
from polydetr.model.model import PolyModel
from polydetr.nn.batch import Batch
from polydetr.nn.cpu.int8 import WORTH, computes_int8, int8_speedup

Plain = Literal["fp32", "bf16"]
ForTraining = Literal["auto", "fp32", "bf16"]
ForLoading = Literal["auto", "fp32", "bf16", "int8"]
Answers = Callable[[], tuple[Mapping[str, float], np.ndarray]]
"""Answers the validation rows: each target's main metric, and the probability of each answer that has one."""

MARGIN = 1.3
"""bfloat16 must be so many times as fast: the casts around it cost something, and float32 is the safer of the two."""
BF16_TOLERANCE = 0.1
"""``bf16_difference`` above this means: use float32. Sound encoders measure 0.01 to 0.05."""
INT8_TOLERANCE = 0.005
"""A target's main metric on the validation rows may differ by so much (a score absolutely, an error relatively)."""
INT8_SHIFT = 0.03
"""The probabilities of the answers may differ by so much on average: on few rows the metric alone proves little."""

_DTYPE = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Precision:
    """name: what the weights compute in. reason: one sentence for the log. around: with int8, which is for the layers
    of text encoders, what the shared encoder computes in.
    """

    name: Literal["fp32", "bf16", "int8"]
    reason: str = ""
    around: Plain = "fp32"


def apply(model: PolyModel, precision: Precision, weights: Mapping[str, Tensor] | None = None) -> None:
    """Puts ``model`` into ``precision``, from ``weights`` in float32 where its own may be rounded already."""
    model.float()
    if weights is not None:
        model.load_state_dict(dict(weights))
    if precision.name == "int8":
        model.use_int8(encoder=_DTYPE[precision.around])
    else:
        model.use_int8(False)
        model.to(_DTYPE[precision.name])
    model.train(model.training)  # lays the weights out anew, where it predicts


# -- choosing ---------------------------------------------------------------------------------------------------------


def choose_for_training(model: PolyModel, wanted: ForTraining, batch: Callable[[], Batch]) -> Precision:
    """What is asked for, or with "auto" bf16 where this machine gains from it and the model's outputs agree.

    batch: some of the training rows, asked for where bf16 is to be tried. Raises ConfigError for an unknown name.
    """
    device = next(model.parameters()).device
    found = _by_speed(wanted, device)
    if found.name == "fp32":
        return found
    rows = batch().to(device)
    with torch.inference_mode():  # an entry may become several tokens: only the model knows which are real
        mask = torch.cat(list(model.encode(rows).masks.values()), 1).clone()
    difference = bf16_difference(_TokenOutputs(model), {"batch": rows, "mask": mask})
    if difference > BF16_TOLERANCE and wanted == "auto":
        return Precision("fp32", f"in bf16 this model's outputs differ by {difference:.1%}")
    return Precision("bf16", f"{found.reason}; the outputs differ by at most {difference:.1%}")


def choose_for_prediction(
    model: PolyModel,
    weights: Mapping[str, Tensor],
    *,
    trained_in: Plain,
    rows: int,
    answers: Answers,
    note: Callable[[str], None],
) -> dict[str, Any]:
    """8-bit integers where the machine gains from them and the validation rows are answered as well as before;
    otherwise the precision it was trained in. The model is left in it; returns what the model folder records.

    weights: the learned ones in float32, as they are saved. rows: how many validation rows ``answers`` answers.
    """
    trained: dict[str, Any] = {"precision": trained_in}
    if next(model.parameters()).device.type != "cpu" or not model.fits_int8:
        return trained
    gain = int8_speedup(_DTYPE[trained_in])
    if gain < WORTH:
        return trained
    try:
        before, probabilities = answers()
        apply(model, Precision("int8", around=trained_in), weights)
        after, shifted = answers()
        apart = max(abs(after[t] - before[t]) / max(1.0, abs(before[t])) for t in before)
        shift = float(np.abs(shifted - probabilities).mean()) if len(probabilities) else 0.0
    except SchemaError:  # no row with a label among these: nothing can be proved
        before, after, probabilities, apart, shift = {}, {}, np.zeros(0), float("inf"), float("inf")
    measured = f"8-bit integers measured {gain:.1f} times as fast as {trained_in}"
    if not (apart <= INT8_TOLERANCE and shift <= INT8_SHIFT):
        apply(model, Precision(trained_in), weights)
        differ = f"on the validation rows metrics differ by {apart:.4f}, probabilities by {shift:.3f}"
        note(f"prediction: {trained_in} ({measured}, but {differ})")
        return trained
    changes = ", ".join(f"{t!r} {before[t]:.4f} → {after[t]:.4f}" for t in before)
    note(f"prediction: int8 ({measured}; on {rows} validation rows {changes})")
    found = {"precision": "int8", "speedup": round(gain, 2), "rows": rows, "before": dict(before), "after": dict(after)}
    return found | {"probabilities_differ_by": round(shift, 5)}


def choose_for_loading(model: PolyModel, wanted: ForLoading, manifest: Mapping[str, Any]) -> Precision:
    """What is asked for, or with "auto" the fastest that was proved for this model and that this machine gains from.

    Raises:
        ConfigError: "int8" where the machine or the model cannot compute in it.
    """
    device = next(model.parameters()).device
    in_bf16 = manifest.get("training", {}).get("precision") == "bf16" and computes_bf16(device)
    around: Plain = "bf16" if in_bf16 else "fp32"
    fits = device.type == "cpu" and model.fits_int8
    if wanted == "int8":
        if not (fits and computes_int8()):
            reason = (
                "this machine has no instructions for it (VNNI)" if fits else "no text encoder on a CPU computes here"
            )
            raise ConfigError(f"precision 'int8' cannot be had: {reason}.", hint="Use precision='auto'.")
        return Precision("int8", around=around)
    if wanted != "auto":
        return Precision(wanted)
    proved = manifest.get("prediction", {}).get("precision") == "int8"
    if proved and fits and int8_speedup(_DTYPE[around]) >= WORTH:
        return Precision("int8", around=around)
    return Precision(around)


def check_name(wanted: str, known: Any) -> None:
    """Raises ConfigError where ``wanted`` is not of ``known``, one of the literal types above."""
    if wanted not in get_args(known):
        raise ConfigError(f"precision {wanted!r} is not known.", hint=did_you_mean(str(wanted), get_args(known)))


# -- measuring --------------------------------------------------------------------------------------------------------


def computes_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16: known at once, where measuring its speed takes 0.15 s."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return False
    on_x86 = platform.machine().lower() in ("x86_64", "amd64")
    return bool(torch.cpu._is_avx512_bf16_supported()) if on_x86 else True


def _by_speed(wanted: ForTraining, device: torch.device) -> Precision:
    """What was asked for, or with "auto" what is faster here."""
    check_name(wanted, ForTraining)
    if wanted == "fp32":
        return Precision("fp32", "float32, as asked for")
    if wanted == "bf16":
        return Precision("bf16", "bfloat16, as asked for")
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision("bf16", "the GPU computes in bfloat16")
        return Precision("fp32", "the GPU has no bfloat16")
    if device.type != "cpu":
        return Precision("fp32", f"float32 is the safe choice on {device.type!r}")
    if not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return Precision("fp32", "this CPU, or this build of PyTorch, has no fast bfloat16")
    gain = bf16_speedup(torch.get_num_threads())
    measured = f"matrix products in bfloat16 measured {gain:.1f} times as fast as in float32"
    if gain >= MARGIN:
        return Precision("bf16", measured)
    return Precision("fp32", f"{measured}, less than the {MARGIN} that would be worth it")


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
def bf16_difference(encoder: nn.Module, batch: Mapping[str, Any]) -> float:
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


class _TokenOutputs(nn.Module):
    """All groups' attended tokens side by side, (B, L, D): what ``bf16_difference`` compares."""

    def __init__(self, model: PolyModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, mask: Tensor) -> Tensor:
        return torch.cat(list(self.model.encode(batch).tokens.values()), 1)
