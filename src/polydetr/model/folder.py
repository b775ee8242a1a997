"""The model folder: self-contained, without pickle, checked on loading, replaced as a whole or not at all.

polydetr.json        format, versions, schema, configuration, labels, metrics, and the sha256 of every other file
model.safetensors    all weights, fp32
backbone.json, tokenizer.json
README.md            the model card
reports/             tables, JSON and pictures of the evaluation
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from polydetr import __version__
from polydetr.config import ModelConfig
from polydetr.core.files import sha256_of, write_text
from polydetr.core.plugs import TASKS
from polydetr.engine.engine import Engine
from polydetr.errors import ModelFolderError, OutputError, SaveError
from polydetr.modalities import MODALITIES
from polydetr.model.build import assemble
from polydetr.model.masters import Masters
from polydetr.model.precision import ForLoading, apply, check_name, choose_for_loading

FORMAT_VERSION = 1
MANIFEST = "polydetr.json"
WEIGHTS = "model.safetensors"
CARD = "README.md"
SEAL = "manifest_sha256"
_COPY = "Copy the whole model folder again."


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
    new, old = _beside(folder, "new"), _beside(folder, "old")
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
    finally:  # an interruption is no excuse for a torn folder either
        shutil.rmtree(new, ignore_errors=True)
        _restore(folder)


def _beside(folder: Path, kind: str) -> Path:
    return folder.with_name(f".{folder.name}.{kind}")


def _restore(folder: Path) -> None:
    """Where a save was killed between its two moves, the model that was there before gets its name back."""
    old = _beside(folder, "old")
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
    plain = json.loads(json.dumps({k: v for k, v in manifest.items() if k != SEAL}))  # as it will be read
    return json.dumps({**plain, SEAL: _seal(plain)}, ensure_ascii=False, indent=1) + "\n"


def _seal(manifest: Mapping[str, Any]) -> str:
    plain = {k: v for k, v in manifest.items() if k != SEAL}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def check_replaceable(folder: Path) -> None:
    """Raises OutputError where ``folder`` holds anything but a model: other people's files are not overwritten."""
    if not folder.name or folder.name == "..":
        raise OutputError(f"{str(folder)!r} is no name for a model folder.", hint="Name one, for example model/.")
    is_other = folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).exists()
    if folder.is_file() or is_other:
        raise OutputError(
            f"{str(folder)!r} exists and is not a polydetr model: it is not overwritten.", hint="Name another folder."
        )


def read_manifest(folder: Path) -> dict[str, Any]:
    """The folder's description, after checking that every file the model is read from is there and unchanged.

    The model card and the reports are for people, who may edit them: they are not checked.

    Raises:
        ModelFolderError: not a model folder, truncated, tampered with, or from a newer version.
    """
    manifest = _description(folder)
    version = manifest.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        versions = manifest.get("versions")
        by = versions.get("polydetr", "?") if isinstance(versions, dict) else "?"
        raise ModelFolderError(
            f"{str(folder)!r} was written in format {version!r} by polydetr {by}; "
            f"this version, {__version__}, reads up to format {FORMAT_VERSION}.",
            hint="Upgrade polydetr: pip install --upgrade polydetr.",
        )
    if manifest.get(SEAL) != _seal(manifest):
        raise ModelFolderError(
            f"{str(folder / MANIFEST)!r} was changed after it was saved (sha256 differs).", hint=_COPY
        )
    for name, expected in manifest["files"].items():
        if name != CARD and not name.startswith("reports/"):
            _check_file(folder, name, expected)
    return manifest


def _description(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        if not folder.exists():
            hint = "Check the path."
            if (_beside(folder, "old") / MANIFEST).exists():
                hint = f"An interrupted save left the model in {str(_beside(folder, 'old'))!r}: rename it."
            raise ModelFolderError(f"there is no model folder {str(folder)!r}.", hint=hint) from None
        raise ModelFolderError(
            f"{str(folder)!r} is not a polydetr model: it has no {MANIFEST}.",
            hint="Name the folder that polydetr train --out wrote.",
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFolderError(f"{str(path)!r} cannot be read: {error}.", hint=_COPY) from None
    if not isinstance(manifest, dict):
        raise ModelFolderError(f"{str(path)!r} holds no description of a model.", hint=_COPY)
    return manifest


def _check_file(folder: Path, name: str, expected: Mapping[str, Any]) -> None:
    file = folder / name
    if not file.is_file():
        raise ModelFolderError(f"{str(folder)!r} lacks {name!r}.", hint=_COPY)
    if file.stat().st_size != expected["bytes"]:
        raise ModelFolderError(
            f"{str(file)!r} has {file.stat().st_size} bytes, expected {expected['bytes']}: truncated or changed.",
            hint=_COPY,
        )
    if sha256_of(file) != expected["sha256"]:
        raise ModelFolderError(f"{str(file)!r} is not the file that was saved (sha256 differs).", hint=_COPY)


def load_engine(folder: Path, *, precision: ForLoading = "auto") -> tuple[Engine, dict[str, Any], Masters]:
    """A saved model, ready to answer, on a GPU where there is one; its manifest, and its weights as they were saved.

    Raises:
        ConfigError: an unknown precision.
        ModelFolderError: see ``read_manifest``; or the weights do not fit the description.
    """
    check_name(precision, ForLoading)
    manifest = read_manifest(folder)
    try:
        modalities = {
            name: MODALITIES[name].from_state(state, folder) for name, state in manifest["modalities"].items()
        }
        tasks = {target: TASKS[state["kind"]].from_state(state) for target, state in manifest["tasks"].items()}
        assembly = assemble(modalities, tasks, ModelConfig(**manifest["model"]), context=bool(manifest["context"]))
        assembly.model.load_state_dict(load_weights(folder))
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelFolderError(f"{str(folder)!r} cannot be loaded: {error!s:.300}", hint=_COPY) from error
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = assembly.model.to(device)
    apply(model, choose_for_loading(model, precision, manifest))
    model.eval()
    return assembly.engine, manifest, Masters.in_file(model, folder / WEIGHTS)


def load_weights(folder: Path) -> dict[str, Tensor]:
    """The saved weights, fp32. Raises ModelFolderError where they cannot be read."""
    try:
        return load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ModelFolderError(f"{str(folder / WEIGHTS)!r} cannot be read: {error}.", hint=_COPY) from error


def copy_reports(source: Path, target: Path) -> None:
    """The model card and the reports of one model folder into another. Raises OSError."""
    if (source / CARD).is_file():
        shutil.copyfile(source / CARD, target / CARD)
    if (source / "reports").is_dir():
        shutil.copytree(source / "reports", target / "reports")
