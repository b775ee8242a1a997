"""What an interrupted run needs to go on as if nothing had happened: two safetensors files, each replaced in one step.

last.safetensors    optimizer, random state and the parameters that learn; ``Progress`` as JSON in the file's header
best.safetensors    the weights that did best on the validation rows so far, fp32
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from polydetr.core.files import take_usual_rights
from polydetr.errors import ModelFolderError, SaveError
from polydetr.inference.folder import LAST, PROGRESS
from polydetr.inference.folder import checkpoint_of as checkpoint_of
from polydetr.training.devices import Devices

BEST = "best.safetensors"
MOST_LOSSES = 2000
"""Losses of steps that are kept; an even number, as they are joined in pairs."""


@dataclass
class Progress:
    """Where the run stands. ``step`` counts optimizer steps, ``batch`` the batches done in ``epoch``;
    ``tokens`` and ``rows`` what was learned from so far.

    seconds: the whole run so far; step_seconds: the part of it spent on training steps, evaluations left out.
    losses: see ``add_loss``. start_losses: of parts of the validation rows, before the first step.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    seconds: float = 0.0
    step_seconds: float = 0.0
    tokens: int = 0
    rows: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    best: float | None = None
    best_loss: float = 0.0
    best_step: int = 0
    stale: int = 0
    finished: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    steps_per_loss: int = 1
    pending_sum: float = 0.0
    pending_count: int = 0
    start_losses: list[float] = field(default_factory=list)

    def add_loss(self, loss: float) -> None:
        """Records the loss of a step: of a long run, the mean of each ``steps_per_loss`` of them, so that ``losses``
        never has more than ``MOST_LOSSES`` entries. A resumed run goes on with the same numbers.
        """
        self.pending_sum, self.pending_count = self.pending_sum + loss, self.pending_count + 1
        if self.pending_count < self.steps_per_loss:
            return
        self.losses.append(self.pending_sum / self.pending_count)
        self.pending_sum, self.pending_count = 0.0, 0
        if len(self.losses) == MOST_LOSSES:
            pairs = zip(self.losses[::2], self.losses[1::2], strict=True)
            self.losses, self.steps_per_loss = [(a + b) / 2 for a, b in pairs], 2 * self.steps_per_loss


class Checkpoints:
    """One folder with the last state and the best weights. Writing never destroys the state before it.

    devices: where the run has several processes, the first writes for all of them, with each one's random state; all
    call the methods that write together.
    """

    def __init__(self, folder: Path, devices: Devices | None = None) -> None:
        self.folder = folder
        self._devices = devices or Devices()
        self._stale = True  # until a run goes on from here, what lies here is another run's

    def exists(self) -> bool:
        return (self.folder / LAST).exists()

    def header(self) -> dict[str, Any]:
        """What ``save_last`` wrote beside the tensors, without reading these; empty where there is no checkpoint.

        Raises:
            ModelFolderError: the file is damaged.
        """
        if not self.exists():
            return {}
        try:
            with safe_open(self.folder / LAST, framework="pt") as file:
                return json.loads(file.metadata()["polydetr"])
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise self._unreadable(LAST, error) from None

    def save_last(
        self,
        progress: Progress,
        model: Mapping[str, Tensor],
        optimizer: Mapping[str, Tensor],
        *,
        header: Mapping[str, Any],
    ) -> None:
        """header: JSON that ``load_last`` compares with its own (``fingerprint``) or the caller reads back.

        Raises:
            SaveError: the disk is full or the folder cannot be written; the checkpoint before it is kept.
        """
        tensors = {f"model.{k}": v for k, v in model.items()} | {f"optimizer.{k}": v for k, v in optimizer.items()}
        tensors["rng.cpu"] = self._devices.gather_tensor(torch.get_rng_state())
        if torch.cuda.is_available():
            tensors["rng.cuda"] = self._devices.gather_tensor(torch.cuda.get_rng_state())
        self._devices.in_first(lambda: self._write(LAST, tensors, {**header, "progress": asdict(progress)}))

    def save_best(self, model: Mapping[str, Tensor]) -> None:
        """Raises SaveError, as ``save_last``."""
        self._devices.in_first(lambda: self._write(BEST, model, {}))

    def load_last(self, fingerprint: str) -> tuple[Progress, dict[str, Tensor], dict[str, Tensor]]:
        """Progress, the saved part of the model's state, optimizer state; the random state is restored.

        Raises:
            ModelFolderError: the checkpoint is damaged, or belongs to another configuration or other data.
        """
        header = self.header()
        if header.get("fingerprint") != fingerprint:
            raise ModelFolderError(
                f"the checkpoint in {str(self.folder)!r} was made with another configuration, other data "
                "or another backbone.",
                hint="Resume with the very same call, or train again without --resume.",
            )
        try:
            tensors = load_file(self.folder / LAST)
            progress = Progress(**header["progress"])
            states = {name: tensors.pop(name) for name in ("rng.cpu", "rng.cuda") if name in tensors}
            own = self._devices.rank
            mine = {name: state.view(self._devices.count, -1)[own].clone() for name, state in states.items()}
            torch.set_rng_state(mine["rng.cpu"])
            if "rng.cuda" in mine and torch.cuda.is_available():
                torch.cuda.set_rng_state(mine["rng.cuda"])
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise self._unreadable(LAST, error) from None
        self._stale = False
        model = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
        optimizer = {k.removeprefix("optimizer."): v for k, v in tensors.items() if k.startswith("optimizer.")}
        return progress, model, optimizer

    def load_best(self) -> dict[str, Tensor]:
        """Raises ModelFolderError where the file is gone or damaged."""
        try:
            return load_file(self.folder / BEST)
        except (OSError, SafetensorError) as error:
            raise self._unreadable(BEST, error) from None

    def prepare(self) -> None:
        """Makes the folder, so that a place that cannot be written is known before the training. Raises SaveError."""

        def make() -> None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise SaveError(
                    f"cannot make the folder {str(self.folder)!r} for the checkpoint: {error.strerror or error}.",
                    hint="Name another place for the model: --out (out=).",
                ) from error

        self._devices.in_first(make)

    def tidy(self) -> None:
        """Removes the folder where a run that failed wrote nothing into it."""
        with suppress(OSError):
            if not self.exists():
                (self.folder / PROGRESS).unlink(missing_ok=True)
            self.folder.rmdir()

    def discard(self) -> None:
        self._devices.in_first(self._remove)

    def _remove(self) -> None:
        """Its own files, and the folder where nothing else is in it."""
        with suppress(OSError):
            for name in (LAST, BEST, f"{LAST}.part", f"{BEST}.part", PROGRESS):
                (self.folder / name).unlink(missing_ok=True)
            self.folder.rmdir()

    def _write(self, name: str, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
        part = self.folder / f"{name}.part"
        try:
            if self._stale:  # the best weights of one run must never be mixed with the last state of another
                self._remove()
                self._stale = False
            self.folder.mkdir(parents=True, exist_ok=True)
            plain = {k: v.detach().contiguous().cpu() for k, v in tensors.items()}
            save_file(plain, part, metadata={"polydetr": json.dumps(header)})
            take_usual_rights(part)
            os.replace(part, self.folder / name)
        except (OSError, SafetensorError) as error:
            part.unlink(missing_ok=True)
            raise SaveError(
                f"cannot write the checkpoint to {str(self.folder)!r}: {error}.",
                hint="The checkpoint before it is kept. Free some disk space, then go on with --resume (resume=True).",
            ) from error

    def _unreadable(self, name: str, error: Exception) -> ModelFolderError:
        return ModelFolderError(
            f"the checkpoint {str(self.folder / name)!r} cannot be read: {error}.", hint="Train again without --resume."
        )


def learning_state(model: nn.Module) -> dict[str, Tensor]:
    """The model's state without its frozen parameters: those are what the same run is built with again."""
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    return {name: tensor for name, tensor in model.state_dict().items() if name not in frozen}


def frozen_digest(model: nn.Module) -> str:
    """Changes when a frozen parameter does: a checkpoint goes on from the very weights it was begun with.

    The bits are summed as integers, which any number of threads adds up to the same.
    """
    as_integer = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}
    sums = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            bits = parameter.detach().view(as_integer.get(parameter.dtype, parameter.dtype))
            sums.append(f"{name}={int(bits.sum(dtype=torch.int64))}")
    return ";".join(sums)
