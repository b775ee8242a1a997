"""The model folder, written: replaced as a whole or not at all; and its weights, put into a network."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import shutil
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from polydetr import __version__
from polydetr.config.sections import Config, ModelConfig
from polydetr.core.files import json_text, make_folder, sha256_of, take_usual_rights, write_text
from polydetr.core.lock import held
from polydetr.engine.engine import Engine
from polydetr.errors import (
    COPY_AGAIN,
    BackboneError,
    ConfigError,
    ModelFolderError,
    OutputError,
    SaveError,
    check_choice,
)
from polydetr.inference.folder import (
    CARD,
    FORMAT_VERSION,
    LEFT,
    MANIFEST,
    OPTIMIZED,
    SEAL,
    WEIGHTS,
    beside,
    lock_of,
    own_file,
    seal_of,
    still_holds,
)
from polydetr.inference.kept_rows import ROWS
from polydetr.inference.writing import WritingWarning
from polydetr.modalities.base import Modality
from polydetr.model.masters import Masters
from polydetr.model.model import PolyModel
from polydetr.model.precision import ForLoading, apply, choose_for_loading
from polydetr.model.runner import TorchRunner
from polydetr.model.sizes import check_finite, check_sizes
from polydetr.schema.spec import Schema
from polydetr.tasks.base import Task


def describe_model(config: Config, schema: Schema, model: nn.Module) -> dict[str, Any]:
    """What every model folder records: versions, date, configuration, schema and size."""
    names = ("torch", "numpy", "tokenizers", "safetensors")
    return {
        "versions": {"polydetr": __version__, **{name: version(name) for name in names}},
        "python": platform.python_version(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "schema": schema.to_dict(),
        "config": config.model_dump() | {key: Path(path).name for key, path in _places(config) if path},
        "model": config.model.model_dump(),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def _places(config: Config) -> Iterable[tuple[str, str | None]]:
    """The files of the run: a folder that is passed on tells their names, not where they lay on the machine."""
    return tuple(
        (name, getattr(config, name)) for name in ("train", "valid", "test", "unlabelled", "corrections", "out")
    )


def save_folder(
    folder: Path,
    engine: Engine,
    weights: Mapping[str, Tensor],
    info: Mapping[str, Any],
    *,
    extra: Callable[[Path], None] = lambda new: None,
) -> dict[str, Any]:
    """Writes a model folder; what was there before is replaced as a whole or not at all (``write_folder``). Returns its
    description.

    extra: writes reports and card into the new folder before it is sealed.

    Raises:
        SaveError: the disk is full, the place cannot be written, or ``folder`` holds something that is not a model.
    """
    plain = {name: tensor.detach().float().contiguous().cpu() for name, tensor in weights.items()}

    def fill(new: Path) -> None:
        save_file(plain, new / WEIGHTS)
        take_usual_rights(new / WEIGHTS)
        extra(new)

    return write_folder(folder, engine, info, fill)


def write_folder(folder: Path, engine: Engine, info: Mapping[str, Any], fill: Callable[[Path], None]) -> dict[str, Any]:
    """Writes a whole new folder beside ``folder``, then swaps the two; a failure leaves the old model as it was.
    Returns the new description.

    fill: writes what computes the forward pass, and all that is for people; encoding and decoding are written here.

    Raises:
        SaveError: the disk is full, the place cannot be written, or ``folder`` holds something that is not a model.
    """
    check_replaceable(folder)
    place = Path(os.path.realpath(folder))  # a link to a folder stays one
    new = beside(place, f"{secrets.token_hex(8)}.new")
    try:
        with held(beside(place, "saving"), what=repr(str(folder)), wait=True):
            _finish(place)
            try:
                new.mkdir()
                for modality in engine.encoder.modalities.values():
                    modality.save_files(new)
                fill(new)
                manifest = _sealed(_manifest(new, engine, info))
                write_text(new / MANIFEST, json_text(manifest, indent=1) + "\n")
                if place.exists():
                    shutil.copymode(place, new)
                    os.replace(place, new.with_suffix(".old"))
                os.replace(new, place)
            finally:  # also after an interruption
                _finish(place)
            return manifest
    except (OSError, SafetensorError, SaveError) as error:
        raise SaveError(
            f"cannot save the model to {str(folder)!r}: {error}.",
            hint="What was there before is untouched. Free some disk space or name another folder.",
        ) from error


def _finish(place: Path) -> None:
    """Ends the saves that failed or were killed: half a new folder goes; the model that was there before gets its name
    back, or, where the new one has that already, hands over the files that are not its own.

    Raises:
        OSError: the files cannot be handed over; they are kept.
    """
    for path in sorted(place.parent.iterdir()):
        left = LEFT.fullmatch(path.name.removeprefix(f".{place.name}."))
        if not path.name.startswith(f".{place.name}.") or left is None:
            continue
        if left["kind"] == "old" and not place.exists() and (path / MANIFEST).exists():
            with contextlib.suppress(OSError):
                os.replace(path, place)
            continue
        if left["kind"] == "old":
            _hand_over(path, place, _own_files(path))
        shutil.rmtree(path, ignore_errors=True)


def _own_files(folder: Path) -> set[str]:
    """Names of the files that a save wrote."""
    try:
        names = set(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        names = set()
    return {*names, MANIFEST, CARD, OPTIMIZED}


def _hand_over(old: Path, new: Path, own: Collection[str], below: str = "") -> None:
    """Moves what is not among the ``own`` files of the old folder into the new one. Raises OSError."""
    for path in sorted((old / below).iterdir()):
        name = f"{below}{path.name}"
        if path.is_dir() and not path.is_symlink() and any(known.startswith(f"{name}/") for known in own):
            _hand_over(old, new, own, f"{name}/")
        elif name not in own and not os.path.lexists(new / name):
            make_folder((new / name).parent)
            os.replace(path, new / name)


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


def _sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The description as it will be read, with its own checksum: a changed label would otherwise go unnoticed."""
    plain = json.loads(json_text({k: v for k, v in manifest.items() if k != SEAL}))
    return {**plain, SEAL: seal_of(plain)}


def check_replaceable(folder: Path) -> None:
    """Raises OutputError where ``folder`` holds anything but a model: other people's files are not overwritten."""
    if not folder.name or folder.name == "..":
        raise OutputError(f"{str(folder)!r} is no name for a model folder.", hint="Name one, for example model/.")
    place = Path(os.path.realpath(folder))
    try:
        is_other = place.is_dir() and any(place.iterdir()) and not (place / MANIFEST).exists()
    except OSError as error:
        raise OutputError(f"{str(folder)!r:.200} cannot be used: {error.strerror}.", hint="Name another.") from None
    if is_other or (os.path.lexists(place) and not place.is_dir()):
        raise OutputError(
            f"{str(folder)!r} exists and is not a polydetr model: it is not overwritten.", hint="Name another folder."
        )
    if place.is_mount():
        raise OutputError(f"{str(folder)!r} is a mount point, which cannot be replaced.", hint="Name a folder in it.")


@contextlib.contextmanager
def reserved(folder: Path) -> Iterator[None]:
    """Keeps other trainings away from ``folder`` while one is under way.

    Raises:
        OutputError: another one is, or the folder holds anything but a model. SaveError: nothing can be written there.
    """
    check_replaceable(folder)
    place = Path(os.path.realpath(folder))
    with held(lock_of(place), what=repr(str(folder))):
        yield


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
    older = {"additive": False, "pair_factors": 0}  # of folders that know nothing of them
    config = ModelConfig(**{**older, **manifest["model"]})
    try:
        check_sizes(folder / WEIGHTS, modalities, tasks, config)
        state = load_file(folder / WEIGHTS)
        check_finite(state)
        model = PolyModel(modalities, tasks, config)
        model.load_state_dict(state)
    except (BackboneError, ConfigError) as error:
        raise ModelFolderError(f"{str(folder)!r} cannot be loaded: {error.message}", hint=error.hint) from error
    except (OSError, SafetensorError) as error:
        raise ModelFolderError(f"{str(folder / WEIGHTS)!r} cannot be read: {error}.", hint=COPY_AGAIN) from error
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    chosen = choose_for_loading(model, precision, manifest)
    apply(model, chosen)
    runner = TorchRunner(model.eval())
    runner.precision = chosen.name
    runner.masters = Masters.in_file(model, folder / WEIGHTS)
    return runner


def copy_reports(source: Path, target: Path, *, seal: object) -> None:
    """The model card, the reports and the kept rows of one model folder into another, where ``source`` still holds the
    model with this ``seal``: those of another one, saved there since, say nothing about it, and a ``WritingWarning``
    tells that they stay behind.

    Raises:
        ModelFolderError: one of them is no ordinary file in this folder. OSError.
    """
    if not still_holds(source, seal):
        message = f"{str(source)!r} no longer holds the model: its card, reports and kept rows are not saved with it."
        warnings.warn(message, WritingWarning, stacklevel=2)
        return
    names = [name for name in (CARD, ROWS) if (source / name).exists()]
    for folder, inner, files in os.walk(source / "reports"):
        below = Path(folder).relative_to(source)
        names += [str(below / name) for name in (*files, *inner) if name in files or Path(folder, name).is_symlink()]
    for name in names:
        content = own_file(source, name)
        make_folder((target / name).parent)
        shutil.copyfile(content, target / name)
