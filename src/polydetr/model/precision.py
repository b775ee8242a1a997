"""The number format that a model computes in, chosen by what is measured on this machine, not by its processor's name.

choose_for_training     fp32, or bf16 where products in it are faster and this model's outputs stay the same
choose_for_prediction   8-bit integers besides, where the validation rows prove them as good
choose_for_loading      of the formats proved in training, the fastest on this machine
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
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import torch
from torch import Tensor, nn

from polydetr.core.files import cache_dir, write_json
from polydetr.errors import ConfigError, SchemaError, check_choice
from polydetr.model.model import PolyModel
from polydetr.nn.batch import Batch
from polydetr.nn.cpu.int8 import WORTH, computes_int8, int8_speedup
from polydetr.nn.cpu.timing import speedup

Plain = Literal["fp32", "bf16"]
ForTraining = Literal["auto", "fp32", "bf16"]
ForLoading = Literal["auto", "fp32", "bf16", "int8"]
Measure = Callable[[], tuple[Mapping[str, float], np.ndarray]]
"""Predicts the validation rows: each target's main metric, and the probability of each prediction that has one."""

MARGIN = 1.3
"""bfloat16 must be so many times as fast: the casts around it cost time, and float32 is the safer of the two."""
BF16_TOLERANCE = 0.1
"""``bf16_difference`` above this means: use float32. Sound encoders measure 0.01 to 0.05."""
INT8_TOLERANCE = 0.005
"""A target's main metric on the validation rows may differ by so much (a score absolutely, an error relatively)."""
INT8_SHIFT = 0.03
"""The predicted probabilities may differ by so much on average: on few rows the metric alone proves little."""

_MEASUREMENTS = 3

_DTYPE = {"fp32": torch.float32, "bf16": torch.bfloat16}
_NAMES = {"fp32": "float32", "bf16": "bfloat16"}
_Module = TypeVar("_Module", bound=nn.Module)


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
    """``wanted``, or with "auto" bf16 where this machine gains from it and the model's outputs agree.

    batch: gives some of the training rows; called where bf16 is to be tried. Raises ConfigError for an unknown name.
    """
    device = next(model.parameters()).device
    by_speed = _by_speed(wanted, device)
    if by_speed.name == "fp32":
        return by_speed
    rows = batch().to(device)

    def real_tokens(model: PolyModel) -> Tensor:
        encoded = model.encode(rows)
        return torch.cat([tokens[encoded.masks[name]] for name, tokens in encoded.tokens.items()])

    difference = bf16_difference(model, real_tokens)
    if difference > BF16_TOLERANCE and wanted == "auto":
        return Precision("fp32", f"in bf16 this model's outputs differ by {difference:.1%}")
    return Precision("bf16", f"{by_speed.reason}; the outputs differ by at most {difference:.1%}")


def choose_for_prediction(
    model: PolyModel,
    weights: Mapping[str, Tensor],
    *,
    trained_in: Plain,
    rows: int,
    measure: Measure,
    notify: Callable[[str], None],
) -> dict[str, Any]:
    """8-bit integers where the machine gains from them and the validation rows are predicted as well as before;
    otherwise the precision it was trained in. The model is left in it; returns what the model folder records.

    weights: the learned ones in float32, as they are saved. rows: how many validation rows ``measure`` predicts.
    """
    trained: dict[str, Any] = {"precision": trained_in}
    if next(model.parameters()).device.type != "cpu" or not model.fits_int8:
        return trained
    gain = int8_speedup(_DTYPE[trained_in])
    if gain < WORTH:
        return trained
    try:
        before, probabilities = measure()
        apply(model, Precision("int8", around=trained_in), weights)
        after, shifted = measure()
        apart = max(abs(after[t] - before[t]) / max(1.0, abs(before[t])) for t in before)
        shift = float(np.abs(shifted - probabilities).mean()) if len(probabilities) else 0.0
    except SchemaError:  # no row with a label among these: nothing can be proved
        before, after, probabilities, apart, shift = {}, {}, np.zeros(0), float("inf"), float("inf")
    measured = f"8-bit integers measured {gain:.1f} times as fast as {trained_in}"
    if not (apart <= INT8_TOLERANCE and shift <= INT8_SHIFT):
        apply(model, Precision(trained_in), weights)
        differ = f"on the validation rows metrics differ by {apart:.4f}, probabilities by {shift:.3f}"
        notify(f"prediction: {trained_in} ({measured}, but {differ})")
        return trained
    changes = ", ".join(f"{t!r} {before[t]:.4f} → {after[t]:.4f}" for t in before)
    notify(f"prediction: int8 ({measured}; on {rows} validation rows {changes})")
    return {
        "precision": "int8", "speedup": round(gain, 2), "rows": rows, "before": dict(before), "after": dict(after),
        "probabilities_differ_by": round(shift, 5),
    }  # fmt: skip


def choose_for_loading(model: PolyModel, wanted: ForLoading, manifest: Mapping[str, Any]) -> Precision:
    """``wanted``, or with "auto" the fastest that was proved for this model and that this machine gains from.

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


# -- measuring --------------------------------------------------------------------------------------------------------


def computes_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16: known at once, where measuring its speed takes 0.15 s."""
    on_x86_cpu = device.type == "cpu" and platform.machine().lower() in ("x86_64", "amd64")
    return _supports_bf16(device) and (not on_x86_cpu or bool(torch.cpu._is_avx512_bf16_supported()))


def _supports_bf16(device: torch.device) -> bool:
    """Whether PyTorch has bfloat16 kernels for the device that are no mere emulation."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _by_speed(wanted: ForTraining, device: torch.device) -> Precision:
    """``wanted``, or with "auto" what is faster here."""
    check_choice("precision", wanted, get_args(ForTraining))
    if wanted != "auto":
        return Precision(wanted, f"{_NAMES[wanted]}, as configured")
    if not _supports_bf16(device):
        return Precision("fp32", f"this {device.type.upper()}, or this build of PyTorch, has no fast bfloat16")
    if device.type == "cuda":
        return Precision("bf16", "the GPU computes in bfloat16")
    gain = bf16_speedup(torch.get_num_threads())
    measured = f"matrix products in bfloat16 measured {gain:.1f} times as fast as in float32"
    if gain >= MARGIN:
        return Precision("bf16", measured)
    return Precision("fp32", f"{measured}, less than the {MARGIN} that would be worth it")


def bf16_speedup(num_threads: int) -> float:
    """Time of an encoder's matrix product in float32 over that in bfloat16.

    A gain of at least ``MARGIN`` is kept in the cache folder, so that the same call trains in the same format however
    busy the machine is; a smaller one is measured again next time, as a busy machine may hide the true one.
    """
    path = cache_dir() / "bf16-speedup.json"
    # Machines of one name differ in what decides this most: tiles for bfloat16 products.
    capability = torch.backends.cpu.get_cpu_capability() + (" AMX" if torch.cpu._is_amx_tile_supported() else "")
    machine = f"{platform.node()} {platform.machine()} {capability}"
    key = f"{machine}, torch {torch.__version__}, {num_threads} threads, CPU time"
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
    """Takes 0.3 s, of the processor: by the clock on the wall a busy machine said anything from 0.1 to 3.2 where 0.6 is
    true. As a gain is kept, the least of some measurements counts.
    """
    left, right = torch.ones(512, 384), torch.ones(384, 1536)
    left_bf16, right_bf16 = left.bfloat16(), right.bfloat16()

    def in_bf16() -> object:
        return torch.mm(left_bf16, right_bf16)

    return min(speedup(in_bf16, lambda: torch.mm(left, right), time.process_time) for _ in range(_MEASUREMENTS))


@torch.no_grad()
def bf16_difference(encoder: _Module, tokens_of: Callable[[_Module], Tensor]) -> float:
    """The largest relative error of any real token in bfloat16, on a real batch.

    tokens_of: the encoder → the outputs of the batch's real tokens, y (N, D). error = |y_bf16 - y_fp32| / |y_fp32|,
    norms over D; infinite when an output is not a number. The encoder itself stays as it is.
    """
    exact, rounded = (
        tokens_of(copy.deepcopy(encoder).to(dtype).eval()).float() for dtype in (torch.float32, torch.bfloat16)
    )
    error = (rounded - exact).norm(dim=-1) / exact.norm(dim=-1).clamp(min=1e-12)
    return float(error.nan_to_num(nan=float("inf"), posinf=float("inf")).max()) if len(error) else 0.0
