"""The model folder: self-contained, without pickle, checked on loading, replaced as a whole or not at all.

    polydetr.json        format, versions, schema, configuration, labels, metrics, and the sha256 of every other file
    model.safetensors    all weights, fp32
    backbone.json, tokenizer.json
    README.md            the model card
    reports/             tables, JSON and pictures of the evaluation
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from polydetr.config import Config, ModelConfig
from polydetr.encoding import RowEncoder
from polydetr.errors import ModelFolderError, SaveError
from polydetr.inference import Engine
from polydetr.modalities import MODALITIES
from polydetr.model import PolyModel
from polydetr.tasks import TASKS

FORMAT_VERSION = 1
MANIFEST = "polydetr.json"
WEIGHTS = "model.safetensors"


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
    new, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        for modality in engine.encoder.modalities.values():
            modality.save_files(new)
        save_file({k: v.detach().float().contiguous().cpu() for k, v in weights.items()}, new / WEIGHTS)
        extra(new)
        files = sorted(p for p in new.rglob("*") if p.is_file())
        manifest = {
            "format_version": FORMAT_VERSION,
            "modalities": {name: m.state() for name, m in engine.encoder.modalities.items()},
            "tasks": {target: {"kind": task.kind, **task.state()} for target, task in engine.tasks.items()},
            "context": engine.encoder.context,
            **info,
            "files": {str(p.relative_to(new)): {"sha256": _sha256(p), "bytes": p.stat().st_size} for p in files},
        }
        (new / MANIFEST).write_text(json.dumps(manifest, ensure_ascii=False, indent=1), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.replace(folder, old)
        os.replace(new, folder)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(new, ignore_errors=True)
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        raise SaveError(
            f"cannot save the model to {str(folder)!r}: {error}",
            hint="What was there before is untouched. Free some disk space or name another folder.",
        ) from error


def check_replaceable(folder: Path) -> None:
    """Raises SaveError where ``folder`` holds anything but a model: other people's files are not overwritten."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).exists()):
        raise SaveError(f"{str(folder)!r} exists and is not a polydetr model: it is not overwritten", hint="Name another folder.")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The folder's description, after checking that every file is there and unchanged.

    Raises:
        ModelFolderError: not a model folder, truncated, tampered with, or from a newer version.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelFolderError(f"{str(folder)!r} is not a polydetr model: it has no {MANIFEST}") from None
    except (OSError, ValueError) as error:
        raise ModelFolderError(f"{str(path)!r} cannot be read: {error}", hint="Copy the whole model folder again.") from None
    version = manifest.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ModelFolderError(
            f"{str(folder)!r} was written in format {version!r} by polydetr {manifest.get('versions', {}).get('polydetr', '?')}; "
            f"this version reads up to format {FORMAT_VERSION}",
            hint="Upgrade polydetr.",
        )
    for name, expected in manifest.get("files", {}).items():
        file = folder / name
        if not file.is_file():
            raise ModelFolderError(f"{str(folder)!r} lacks {name!r}", hint="Copy the whole model folder again.")
        if file.stat().st_size != expected["bytes"]:
            raise ModelFolderError(
                f"{str(file)!r} has {file.stat().st_size} bytes, expected {expected['bytes']}: truncated or changed",
                hint="Copy the whole model folder again.",
            )
        if not name.startswith("reports/") and name != "README.md" and _sha256(file) != expected["sha256"]:
            raise ModelFolderError(f"{str(file)!r} is not the file that was saved (sha256 differs)", hint="Copy the whole model folder again.")
    return manifest


def load_engine(folder: Path) -> tuple[Engine, dict[str, Any]]:
    """A saved model, ready to answer, and its manifest.

    Raises:
        ModelFolderError: see ``read_manifest``; or the weights do not fit the description.
    """
    manifest = read_manifest(folder)
    try:
        modalities = {name: MODALITIES[name].from_state(state, folder) for name, state in manifest["modalities"].items()}
        tasks = {target: TASKS[state["kind"]].from_state(state) for target, state in manifest["tasks"].items()}
        model = PolyModel(modalities, tasks, ModelConfig(**manifest["model"]))
        model.load_state_dict(load_file(folder / WEIGHTS))
        encoder = RowEncoder(modalities, tasks, context=bool(manifest["context"]))
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelFolderError(f"{str(folder)!r} cannot be loaded: {error!s:.300}", hint="Copy the whole model folder again.") from error
    return Engine(model.eval(), encoder, tasks), manifest


def saved_config(manifest: Mapping[str, Any]) -> Config:
    """The configuration that the model was trained with."""
    return Config.model_validate(manifest["config"])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
