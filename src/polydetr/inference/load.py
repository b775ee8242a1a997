"""From a model folder to an engine; torch comes in with the runner alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from polydetr.core.installed import check_torch
from polydetr.core.plugs import MODALITIES, RUNNERS, TASKS, load
from polydetr.core.runner import Runner, SizedRunner
from polydetr.engine.engine import Engine
from polydetr.errors import (
    COPY_AGAIN,
    BackboneError,
    ConfigError,
    ModelFolderError,
    PolydetrError,
    SchemaError,
    did_you_mean,
    faults,
    quoted,
)
from polydetr.inference.folder import OPTIMIZED, SEAL, check_listed, read_manifest, still_holds
from polydetr.inference.optimized import AGAIN, OptimizedWarning, read_way
from polydetr.modalities.base import Modality, Needs
from polydetr.modalities.image import ImageModality
from polydetr.schema.spec import Schema
from polydetr.tasks.base import Task


def read_parts(folder: Path, manifest: Mapping[str, Any]) -> tuple[dict[str, Modality], dict[str, Task]]:
    """The modalities and tasks of a model folder, built from its description: what encodes rows and decodes answers.

    Raises:
        ModelFolderError: a task or modality of a package that is not installed, or a file that the description does not
            list. KeyError, TypeError, ValueError: the description is not one of a model.
    """
    try:
        tasks = {target: TASKS.find(state["kind"]).from_state(state) for target, state in manifest["tasks"].items()}
        modalities: dict[str, Modality] = {}
        for name, state in _with_needs(manifest["modalities"], tasks).items():
            kind = MODALITIES.find(name)
            check_listed(folder, manifest, kind.files)
            modalities[name] = kind.from_state(state, folder, others=modalities)
    except (BackboneError, ConfigError, SchemaError) as error:
        raise ModelFolderError(f"{str(folder)!r} cannot be loaded: {error.message}", hint=error.hint) from error
    return modalities, tasks


def _with_limit(modality: Modality | None, max_pixels: int) -> Modality:
    """Raises ConfigError where there are no images, or the limit is none."""
    if not isinstance(modality, ImageModality):
        raise ConfigError(f"max_pixels = {max_pixels}: the model reads no images.", hint="Leave the limit out.")
    if max_pixels < 1:
        raise ConfigError(f"max_pixels = {max_pixels}, expected at least 1.")
    return modality.with_limit(max_pixels)


def _with_needs(states: Mapping[str, Any], tasks: Mapping[str, Task]) -> dict[str, dict[str, Any]]:
    """Every modality's state with its needs; older folders do not hold them, and they are derived from the tasks."""
    needs, read = Needs.of(tasks), [name for name, state in states.items() if state["fields"]]
    derived = {name: asdict(replace(needs, alone=[name] == read)) for name in states}
    return {name: {"needs": derived[name], **state} for name, state in states.items()}


def runner_for(manifest: Mapping[str, Any], wanted: str) -> str:
    """The name of the runner for a folder: with "auto" the one that computes from what the folder holds.

    Raises:
        ConfigError: the runner is not known, or the folder holds nothing that it computes from.
    """
    if wanted != "auto" and wanted not in RUNNERS:
        raise ConfigError(f"runner {quoted(wanted)} is not known.", hint=did_you_mean(wanted, ["auto", *RUNNERS]))
    is_exported = "export" in manifest
    if wanted == "torch" and is_exported:
        raise ConfigError(
            "runner 'torch': the folder holds an exported model, graphs for ONNX Runtime and no weights of PyTorch's.",
            hint="Load it with runner='onnx' or 'auto', or load the model that it was exported from.",
        )
    if wanted == "onnx" and not is_exported:
        raise ConfigError(
            "runner 'onnx': the folder holds a trained model that was not exported.",
            hint="Export it and load what that writes: polydetr export MODEL, or Predictor.load(MODEL).export(OUT).",
        )
    return wanted if wanted != "auto" else "onnx" if is_exported else "torch"


def _by_choice(
    load_runner: Callable[..., Runner], folder: Path, manifest: Mapping[str, Any], name: str
) -> Runner | None:
    """The runner that ``optimize`` chose for this machine; None where there is no choice, or one that does not hold,
    of which it warns.
    """
    choice, message = read_way(folder, manifest)
    if choice is not None:
        way = choice.way
        try:
            if way.runner != name:
                raise ConfigError(f"the folder is not computed by {quoted(way.runner)}.")
            loaded = load_runner(precision=way.precision)
            if isinstance(loaded, SizedRunner):
                if choice.computes_on not in (None, loaded.computes_on):
                    raise ConfigError(f"it was measured with {choice.computes_on}, this is {loaded.computes_on}.")
                return loaded.sized(threads=way.threads, batch_tokens=way.batch_tokens)
        except ConfigError as error:
            message = f"{str(folder / OPTIMIZED)!r} is not obeyed: {error.message} {AGAIN}"
    if message is not None:
        warnings.warn(message, OptimizedWarning, stacklevel=2)
    return None


def load_engine(
    folder: Path,
    *,
    runner: str = "auto",
    precision: str = "auto",
    max_pixels: int | None = None,
    obeys: bool = True,
) -> tuple[Engine, dict[str, Any]]:
    """A saved model, ready to answer, and its description. max_pixels: in place of that of the training. obeys: whether
    it is computed as ``optimize`` found it to be best, where neither runner nor precision is named.

    Raises:
        ConfigError: an unknown runner or precision, a limit for a model that reads no images. ModelFolderError: see
            ``read_manifest``; the parts do not fit; or other models were saved there meanwhile.
    """
    for _ in range(2):
        engine, manifest = _loaded(folder, runner, precision, max_pixels, obeys=obeys)
        if still_holds(folder, manifest[SEAL]):
            return engine, manifest
    raise ModelFolderError(f"{str(folder)!r} was replaced while it was loaded, twice.", hint="Load it again.")


def _loaded(
    folder: Path, runner: str, precision: str, max_pixels: int | None, *, obeys: bool
) -> tuple[Engine, dict[str, Any]]:
    if runner != "auto" and runner not in RUNNERS:  # before the folder is looked at
        runner_for({}, runner)
    manifest = read_manifest(folder)
    chosen = runner_for(manifest, runner)
    if chosen == "torch":
        check_torch(f"the model {str(folder)!r}", hint="Or export it where that is: polydetr export MODEL.")
    try:
        modalities, tasks = read_parts(folder, manifest)
        Schema.from_dict(manifest["schema"])
        if max_pixels is not None:
            modalities = {**modalities, "image": _with_limit(modalities.get("image"), max_pixels)}
        load_runner = partial(load(RUNNERS[chosen]), folder, manifest, modalities, tasks)
        loaded = None
        if obeys and runner == precision == "auto":
            loaded = _by_choice(load_runner, folder, manifest, chosen)
        loaded = loaded or load_runner(precision=precision)
        return Engine.of(modalities, tasks, loaded, context=manifest["context"]), manifest
    except SchemaError as error:
        raise ModelFolderError(f"{str(folder)!r} cannot be loaded: {error.message:.300}", hint=COPY_AGAIN) from error
    except PolydetrError:
        raise
    except ValidationError as error:
        raise ModelFolderError(f"{str(folder)!r} cannot be loaded: {faults(error)}.", hint=COPY_AGAIN) from error
    except Exception as error:  # whatever parts that do not belong together lead to
        reason = f"{type(error).__name__}: {error!s:.200}"
        raise ModelFolderError(f"{str(folder)!r} cannot be loaded: {reason}.", hint=COPY_AGAIN) from error
