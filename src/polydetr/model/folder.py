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
import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from polydetr import __version__
from polydetr.config import Config, ModelConfig
from polydetr.core.files import sha256_of, write_text
from polydetr.core.plugs import MODALITIES
from polydetr.engine.encode import RowEncoder
from polydetr.engine.engine import Engine
from polydetr.errors import ConfigError, ModelFolderError, OutputError, SaveError, did_you_mean
from polydetr.modalities.base import Modality, Needs
from polydetr.model.model import PolyModel
from polydetr.nn.cpu.int8 import WORTH, computes_int8, int8_speedup
from polydetr.tasks import TASKS, Task

FORMAT_VERSION = 1
MANIFEST = "polydetr.json"
WEIGHTS = "model.safetensors"
CARD = "README.md"
SEAL = "manifest_sha256"
LoadPrecision = Literal["auto", "fp32", "bf16", "int8"]
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


def load_engine(folder: Path, *, precision: LoadPrecision = "auto") -> tuple[Engine, dict[str, Any]]:
    """A saved model, ready to answer, and its manifest; on a GPU where there is one.

    Raises:
        ConfigError: an unknown precision.
        ModelFolderError: see ``read_manifest``; or the weights do not fit the description.
    """
    if precision not in get_args(LoadPrecision):
        known = get_args(LoadPrecision)
        raise ConfigError(f"precision {precision!r} is not known.", hint=did_you_mean(str(precision), known))
    manifest = read_manifest(folder)
    try:
        tasks = {target: TASKS[state["kind"]].from_state(state) for target, state in manifest["tasks"].items()}
        modalities: dict[str, Modality] = {}
        for name, state in _with_needs(manifest["modalities"], tasks).items():
            modalities[name] = MODALITIES[name].from_state(state, folder, others=modalities)
        model = PolyModel(modalities, tasks, ModelConfig(**manifest["model"]))
        model.load_state_dict(load_weights(folder))
        encoder = RowEncoder(modalities, tasks, context=bool(manifest["context"]))
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelFolderError(f"{str(folder)!r} cannot be loaded: {error!s:.300}", hint=_COPY) from error
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    _set_precision(model.to(device).eval(), precision, manifest, device=device)
    return Engine(model.eval(), encoder, tasks), manifest


def _with_needs(states: Mapping[str, Any], tasks: Mapping[str, Task]) -> dict[str, dict[str, Any]]:
    """Every modality's state with its needs: folders saved before these were told apart leave them to the tasks."""
    needs, read = Needs.of(tasks.values()), [name for name, state in states.items() if state["fields"]]
    found = {name: replace(needs, alone=[name] == read) for name in states}
    return {name: {"needs": asdict(found[name]), **state} for name, state in states.items()}


def _set_precision(
    model: PolyModel, precision: LoadPrecision, manifest: Mapping[str, Any], *, device: torch.device
) -> None:
    """What is asked for, or with "auto" the fastest that was proved for this model and that this machine gains from."""
    in_bf16 = manifest.get("training", {}).get("precision") == "bf16" and computes_bf16(device)
    fits = device.type == "cpu" and model.fits_int8
    if precision == "int8" and not (fits and computes_int8()):
        reason = "this machine has no instructions for it (VNNI)" if fits else "no text encoder on a CPU computes here"
        raise ConfigError(f"precision 'int8' cannot be had: {reason}.", hint="Use precision='auto'.")
    proved = manifest.get("prediction", {}).get("precision") == "int8"
    other = torch.bfloat16 if in_bf16 else torch.float32
    if precision == "auto" and proved and fits:
        precision = "int8" if int8_speedup(other) >= WORTH else "auto"
    if precision == "int8":
        model.use_int8(encoder=other)
    elif precision == "bf16" or (precision == "auto" and in_bf16):
        model.to(torch.bfloat16)


def computes_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16: known at once, where measuring its speed takes 0.15 s."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return False
    on_x86 = platform.machine().lower() in ("x86_64", "amd64")
    return bool(torch.cpu._is_avx512_bf16_supported()) if on_x86 else True


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


def saved_config(manifest: Mapping[str, Any]) -> Config:
    """The configuration that the model was trained with."""
    return Config.model_validate(manifest["config"])
