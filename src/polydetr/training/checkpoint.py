"""What an interrupted run needs to go on as if nothing had happened: safetensors and JSON, replaced in one step."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from polydetr.errors import ModelFolderError, SaveError


@dataclass
class Progress:
    """Where the run stands. ``step`` counts optimizer steps, ``batch`` the batches done in ``epoch``."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    seconds: float = 0.0
    tokens: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    best: float | None = None
    best_step: int = 0
    stale: int = 0
    finished: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)


class Checkpoints:
    """One folder with the last state and the best weights. Writing never destroys the state before it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def exists(self) -> bool:
        return (self.folder / "last" / "progress.json").exists()

    def save_last(self, progress: Progress, model: Mapping[str, Tensor], optimizer: Mapping[str, Tensor], fingerprint: str) -> None:
        tensors = {f"model.{k}": v for k, v in model.items()} | {f"optimizer.{k}": v for k, v in optimizer.items()}
        tensors["rng"] = torch.get_rng_state()
        self._replace("last", tensors, {"fingerprint": fingerprint, **asdict(progress)})

    def save_best(self, model: Mapping[str, Tensor]) -> None:
        self._replace("best", dict(model), {})

    def load_last(self, fingerprint: str) -> tuple[Progress, dict[str, Tensor], dict[str, Tensor]]:
        """Progress, model weights, optimizer state; the random state is restored.

        Raises:
            ModelFolderError: the checkpoint is damaged, or belongs to another configuration or other data.
        """
        folder = self._current("last")
        try:
            state = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
            tensors = load_file(folder / "state.safetensors")
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelFolderError(f"the checkpoint in {str(folder)!r} cannot be read: {error}", hint="Train again without --resume.") from None
        if state.pop("fingerprint") != fingerprint:
            raise ModelFolderError(
                f"the checkpoint in {str(folder)!r} was made with another configuration or other data",
                hint="Resume with the very same call, or train again without --resume.",
            )
        torch.set_rng_state(tensors.pop("rng"))
        model = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
        optimizer = {k.removeprefix("optimizer."): v for k, v in tensors.items() if k.startswith("optimizer.")}
        return Progress(**state), model, optimizer

    def load_best(self) -> dict[str, Tensor]:
        return load_file(self._current("best") / "state.safetensors")

    def discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _current(self, name: str) -> Path:
        """The state called ``name``; where a kill fell between the two renames, the one before it."""
        folder = self.folder / name
        return folder if folder.exists() else self.folder / f"{name}.old"

    def _replace(self, name: str, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        new, current, old = (self.folder / f"{name}{suffix}" for suffix in (".new", "", ".old"))
        try:
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
            save_file({k: v.detach().contiguous().cpu() for k, v in tensors.items()}, new / "state.safetensors")
            (new / "progress.json").write_text(json.dumps(state), encoding="utf-8")
            if current.exists():
                shutil.rmtree(old, ignore_errors=True)
                os.replace(current, old)
            os.replace(new, current)
            shutil.rmtree(old, ignore_errors=True)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(new, ignore_errors=True)
            raise SaveError(
                f"cannot write the checkpoint to {str(self.folder)!r}: {error}", hint="The checkpoint before it is kept. Free some disk space."
            ) from error
