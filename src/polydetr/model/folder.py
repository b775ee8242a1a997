"""The model folder, written: replaced as a whole or not at all; and its weights, put into a network."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from polydetr.config.sections import Config, ModelConfig
from polydetr.core.files import json_text, sha256_of, write_text
from polydetr.engine.engine import Engine
from polydetr.errors import ModelFolderError, OutputError, SaveError, check_choice
from polydetr.inference.folder import CARD, COPY_AGAIN, FORMAT_VERSION, MANIFEST, SEAL, WEIGHTS, beside, seal_of
from polydetr.modalities.base import Modality
from polydetr.model.masters import Masters
from polydetr.model.model import PolyModel
from polydetr.model.precision import ForLoading, apply, choose_for_loading
from polydetr.model.runner import TorchRunner
from polydetr.schema.spec import Schema
from polydetr.tasks.base import Task


def describe_model(config: Config, schema: Schema, model: nn.Module) -> dict[str, Any]:
    """What every model folder records: versions, date, configuration, schema and size."""
    names = ("polydetr", "torch", "numpy", "tokenizers", "safetensors")
    return {
        "versions": {name: version(name) for name in names},
        "python": platform.python_version(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "schema": schema.to_dict(),
        "config": config.model_dump() | {key: Path(path).name for key, path in _places(config) if path},
        "model": config.model.model_dump(),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def _places(config: Config) -> Iterable[tuple[str, str | None]]:
    """The files of the run: a folder that is passed on tells their names, not where they lay on the machine."""
    return (("train", config.train), ("valid", config.valid), ("test", config.test), ("out", config.out))


def save_folder(
    folder: Path,
    engine: Engine,
    weights: Mapping[str, Tensor],
    info: Mapping[str, Any],
    *,
    extra: Callable[[Path], None] = lambda new: None,
) -> None:
    """Writes a whole new folder beside ``folder``, then swaps the two; a failure leaves the old model as it was.

    extra: writes reports and card into the new folder before it is sealed.

    Raises:
        SaveError: the disk is full, the place cannot be written, or ``folder`` holds something that is not a model.
    """
    check_replaceable(folder)
    new, old = beside(folder, "new"), beside(folder, "old")
    plain = {name: tensor.detach().float().contiguous().cpu() for name, tensor in weights.items()}
    try:
        _restore(folder)
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        for modality in engine.encoder.modalities.values():
            modality.save_files(new)
        save_file(plain, new / WEIGHTS)
        extra(new)
        write_text(new / MANIFEST, _sealed(_manifest(new, engine, info)))
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.replace(folder, old)
        os.replace(new, folder)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError, SaveError) as error:
        raise SaveError(
            f"cannot save the model to {str(folder)!r}: {error}.",
            hint="What was there before is untouched. Free some disk space or name another folder.",
        ) from error
    finally:  # also after an interruption
        shutil.rmtree(new, ignore_errors=True)
        _restore(folder)


def _restore(folder: Path) -> None:
    """Where a save was killed between its two moves, the model that was there before gets its name back."""
    old = beside(folder, "old")
    if (old / MANIFEST).exists() and not folder.exists():
        with contextlib.suppress(OSError):
            os.replace(old, folder)


def _manifest(folder: Path, engine: Engine, info: Mapping[str, Any]) -> dict[str, Any]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {
        **info,
        "format_version": FORMAT_VERSION,
        "modalities": {name: m.state() for name, m in engine.encoder.modalities.items()},
        "tasks": {target: {"kind": task.kind, **task.state()} for target, task in engine.tasks.items()},
        "context": engine.encoder.context,
        "files": {p.relative_to(folder).as_posix(): {"sha256": sha256_of(p), "bytes": p.stat().st_size} for p in files},
    }


def _sealed(manifest: Mapping[str, Any]) -> str:
    """The description as text, with its own checksum: a changed label would otherwise go unnoticed."""
    plain = json.loads(json_text({k: v for k, v in manifest.items() if k != SEAL}))  # as it will be read
    return json_text({**plain, SEAL: seal_of(plain)}, indent=1) + "\n"


def check_replaceable(folder: Path) -> None:
    """Raises OutputError where ``folder`` holds anything but a model: other people's files are not overwritten."""
    if not folder.name or folder.name == "..":
        raise OutputError(f"{str(folder)!r} is no name for a model folder.", hint="Name one, for example model/.")
    is_other = folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).exists()
    if folder.is_file() or is_other:
        raise OutputError(
            f"{str(folder)!r} exists and is not a polydetr model: it is not overwritten.", hint="Name another folder."
        )


def load_runner(
    folder: Path,
    manifest: Mapping[str, Any],
    modalities: Mapping[str, Modality],
    tasks: Mapping[str, Task],
    *,
    precision: ForLoading = "auto",
) -> TorchRunner:
    """The network of a model folder, on a GPU where there is one, in the given precision.

    Raises:
        ConfigError: an unknown precision, or one that this machine lacks. ModelFolderError: the weights cannot be read.
        KeyError, TypeError, ValueError, RuntimeError: they do not fit the description.
    """
    check_choice("precision", precision, get_args(ForLoading))
    model = PolyModel(modalities, tasks, ModelConfig(**manifest["model"]))
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError) as error:
        raise ModelFolderError(f"{str(folder / WEIGHTS)!r} cannot be read: {error}.", hint=COPY_AGAIN) from error
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    apply(model, choose_for_loading(model, precision, manifest))
    runner = TorchRunner(model.eval())
    runner.masters = Masters.in_file(model, folder / WEIGHTS)
    return runner


def copy_reports(source: Path, target: Path) -> None:
    """The model card and the reports of one model folder into another. Raises OSError."""
    if (source / CARD).is_file():
        shutil.copyfile(source / CARD, target / CARD)
    if (source / "reports").is_dir():
        shutil.copytree(source / "reports", target / "reports")
