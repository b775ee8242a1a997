"""What lies in a folder of runs: finished models, interrupted runs, studies, and what is broken. Read without torch.

runs/NAME               a model folder: the run is finished
runs/NAME.checkpoint    its state, where it was interrupted or is under way
runs/NAME.study         a search for settings, which ends with the model NAME

Nothing here is trusted: a description that is damaged is shown as far as it can be read, with what is wrong.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from polydetr.core.lock import is_held
from polydetr.core.studies import RECORD_FILE, StudyRecord
from polydetr.errors import InputError, ModelFolderError, did_you_mean, faults, quoted, shown
from polydetr.inference.folder import (
    FORMAT_VERSION,
    LAST,
    LEFT,
    MANIFEST,
    PROGRESS,
    SEAL,
    WEIGHTS,
    lock_of,
    read_json,
    seal_of,
)
from polydetr.inference.saved_run import RunState, SavedRun

_CHECKPOINT, _STUDY = ".checkpoint", ".study"


# -- which runs there are ----------------------------------------------------------------------------------------------


def list_runs(folder: Path) -> list[SavedRun]:
    """Every run of the folder, the newest first; what is none of ours is left out.

    Raises:
        InputError: there is no such folder, or it cannot be read.
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise InputError(
            f"the folder of runs {str(folder)!r} cannot be read: {error.strerror or error}.",
            hint="Name another with --runs FOLDER; polydetr train keeps its models in runs/ unless told otherwise.",
        ) from None
    found = [run for name in names if (run := _run_at(folder / name, inside=True)) is not None]
    return sorted(found, key=lambda run: (run.created, run.changed, run.name), reverse=True)


def running_runs(folder: Path) -> list[SavedRun]:
    """Those under way, and no others are read: for whoever looks again and again. A folder that is gone has none."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(_CHECKPOINT))
    except OSError:
        return []
    places = [folder / name.removesuffix(_CHECKPOINT) for name in names]
    held = [place for place in places if is_held(lock_of(Path(os.path.realpath(place))))]
    found = (_stopped(place, place.with_name(place.name + _CHECKPOINT)) for place in held)
    return [run for run in found if run is not None and run.state == "running"]


def find_runs(names: Sequence[str], folder: Path) -> list[SavedRun]:
    """The runs of these names in ``folder``; a name may be a path, or the beginning of one name alone.

    Raises:
        InputError: there is none of that name (the nearest is named), several begin so, or the folder is unreadable.
    """
    known = {run.name: run for run in list_runs(folder)} if folder.is_dir() else {}
    return list({run.folder: run for run in (_find(name, known, folder) for name in names)}.values())


def _find(name: str, known: Mapping[str, SavedRun], folder: Path) -> SavedRun:
    if name in known:
        return known[name]
    path = Path(name)
    if name and (os.path.lexists(path) or os.path.lexists(f"{os.path.normpath(name)}{_CHECKPOINT}")):
        if (run := _run_at(path, inside=False)) is not None:
            return run
        raise InputError(
            f"{str(path)!r} is no run: it holds no {MANIFEST}, no checkpoint and no study.",
            hint=f"A folder of several runs is read by --runs {path}." if path.is_dir() else None,
        )
    begin = [one for one in known if name and one.startswith(name)]
    if len(begin) == 1:
        return known[begin[0]]
    if begin:
        few = ", ".join(quoted(one) for one in begin[:4])
        raise InputError(f"{len(begin)} runs in {str(folder)!r} begin with {quoted(name)}: {few}.", hint="Name one.")
    if Path(name).name != name:
        raise InputError(f"there is no run at {quoted(name, 200)}.", hint="Check the path.")
    raise InputError(f"there is no run {quoted(name)} in {str(folder)!r}.", hint=did_you_mean(name, known))


def _run_at(path: Path, *, inside: bool) -> SavedRun | None:
    """The run that is kept at ``path``; None where there is none. inside: found in a folder of runs, where what belongs
    to another entry (a checkpoint, what a killed save left) is told once.
    """
    path = Path(os.path.normpath(path))
    path = path if path.name else path.resolve()  # "." is the folder that one stands in
    name = path.name
    if not name:
        return None
    if inside and name.startswith("."):
        return _half_saved(path)
    if name.endswith(_STUDY) and path.is_dir():
        return _study(path)
    if name.endswith(_CHECKPOINT) and path.is_dir():
        return _stopped(path.with_name(name.removesuffix(_CHECKPOINT)), path)
    try:
        if os.path.lexists(path / MANIFEST) or os.path.lexists(path / WEIGHTS):
            return _model(path)
        if path.is_dir() and not any(path.iterdir()):
            return SavedRun(name, path, "failed", reason="the folder is empty", changed=_changed(path))
    except OSError as error:
        return SavedRun(name, path, "damaged", reason=f"it cannot be read: {error.strerror or error}")
    checkpoint = path.with_name(name + _CHECKPOINT)
    return _stopped(path, checkpoint) if not inside and checkpoint.is_dir() else None


# -- one run -----------------------------------------------------------------------------------------------------------


def _model(folder: Path) -> SavedRun:
    """A model folder. Its files' sizes are looked at, their content is not: that is for whoever loads the model."""
    info: Mapping[str, Any] = {}
    try:
        read = read_json(folder, MANIFEST)
        if not isinstance(read, Mapping):
            raise ModelFolderError(f"{MANIFEST} holds no description of a model")
        info, reason = read, _fault(folder, read)
    except ModelFolderError as error:
        reason = error.message
    state: RunState = "damaged" if reason else "finished"
    return SavedRun(folder.name, folder, state, info, _entries(info.get("history")), reason, _changed(folder))


def _fault(folder: Path, info: Mapping[str, Any]) -> str:
    """What is wrong with a model folder; "" where nothing is."""
    version = info.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        return f"it was written in format {version!r:.20}, by a newer version of polydetr"
    if info.get(SEAL) != seal_of(info):
        return f"{MANIFEST} was changed after it was saved"
    files = info.get("files")
    for name, entry in files.items() if isinstance(files, Mapping) else ():
        try:
            size = (folder / name).stat().st_size
        except (OSError, ValueError):
            if not name.startswith("reports/") and name != "README.md":  # people may tidy these away
                return f"{name} is missing"
            continue
        if name in (WEIGHTS, "tokenizer.json") and isinstance(entry, Mapping) and entry.get("bytes") != size:
            return f"{name} has {size:,} bytes, not the {entry.get('bytes'):,} that were saved"
    return ""


def _stopped(out: Path, checkpoint: Path) -> SavedRun | None:
    """An interrupted run, or one under way; None where its checkpoint holds nothing and no run is under way, but the
    model is there.
    """
    running = is_held(lock_of(Path(os.path.realpath(out))))
    name = checkpoint.name if os.path.lexists(out / MANIFEST) else out.name  # a second run over a finished one
    changed = _changed(checkpoint)
    now = _progress(checkpoint) if running else {}
    if not os.path.lexists(checkpoint / LAST):
        reason = "no step is saved yet" if running else "it ended before its first checkpoint"
        state: RunState = "running" if running else "failed"
        return SavedRun(name, out, state, {}, _entries(now.get("history")), reason, changed, progress=now)
    try:
        header = _header(checkpoint / LAST)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return SavedRun(name, out, "damaged", reason=f"its checkpoint cannot be read: {error!s:.120}", changed=changed)
    progress = header.get("progress")
    progress = progress if isinstance(progress, Mapping) else {}
    about = header.get("run")
    training = {"steps": progress.get("step"), "seconds": progress.get("seconds")}
    info = {**(about if isinstance(about, Mapping) else {}), "training": training}
    in_study = out.parent.parent.name.endswith(_STUDY)
    how = (
        "a trial, which its study goes on with"
        if in_study
        else f"go on with the same polydetr train --out {out} --resume"
    )
    reason = "" if running else how
    return SavedRun(
        name, out, "running" if running else "stopped", info, _entries(now.get("history") or progress.get("history")),
        reason, changed, progress=now,
    )  # fmt: skip


def _progress(checkpoint: Path) -> Mapping[str, Any]:
    """How far a run under way has got; nothing where it does not say."""
    try:
        read = read_json(checkpoint, PROGRESS)
    except ModelFolderError:
        return {}
    return read if isinstance(read, Mapping) else {}


def _header(file: Path) -> Mapping[str, Any]:
    """What a checkpoint keeps beside its tensors. Raises OSError, ValueError, KeyError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            header = json.loads((opened.metadata() or {})["polydetr"])
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    if not isinstance(header, Mapping):
        raise ValueError("it says nothing of its run")
    return header


def _entries(history: Any) -> list[Mapping[str, Any]]:
    return [entry for entry in history if isinstance(entry, Mapping)] if isinstance(history, list) else []


def _half_saved(path: Path) -> SavedRun | None:
    """The model that a killed save has put aside; None for anything else that is hidden."""
    name, _, left = path.name[1:].partition(".")
    while left and not LEFT.fullmatch(left):
        more, _, left = left.partition(".")
        name = f"{name}.{more}"
    if not left.endswith("old") or not os.path.lexists(path / MANIFEST) or os.path.lexists(path.with_name(name)):
        return None
    reason = f"an interrupted save left it here: rename it to {name!r}"
    return SavedRun(path.name, path, "damaged", _model(path).info, reason=reason, changed=_changed(path))


def _changed(path: Path) -> float:
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0


# -- studies -----------------------------------------------------------------------------------------------------------


def _study(folder: Path) -> SavedRun:
    """A study by its record; by its database, as far as it has got, where it has not ended."""
    record, reason = None, ""
    if os.path.lexists(folder / RECORD_FILE):
        try:
            record = _record(read_json(folder, RECORD_FILE))
        except ValidationError as error:
            reason = f"{RECORD_FILE} is no record of a study: {faults(error)}"
        except (ModelFolderError, KeyError, TypeError, AttributeError) as error:
            reason = f"{RECORD_FILE} is no record of a study: {shown(str(error), 160)}"
        if record is None:
            return SavedRun(folder.name, folder, "damaged", reason=reason, changed=_changed(folder))
    else:
        counts = _trials_in(folder / "study.db")
        reason = ", ".join(f"{count} {state}" for state, count in counts) or "no trial has begun"
        reason = f"not ended: {reason}"
    return SavedRun(folder.name, folder, "study", reason=reason, changed=_changed(folder), study=record)


def _trials_in(database: Path) -> list[tuple[str, int]]:
    """(state, how many trials) of Optuna's table; nothing where there is none to be read."""
    if not database.is_file():
        return []
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as file:
        rows = file.execute("SELECT state, count(*) FROM trials GROUP BY state ORDER BY state").fetchall()
        return [(str(state).lower(), int(count)) for state, count in rows]
    return []


def _record(data: Any) -> StudyRecord:
    """A study as its file has it, in which what was no number is null. Raises ValidationError where it is none."""
    for trial in data["trials"]:
        trial["curve"] = [point for point in trial["curve"] if None not in point]
        trial["metrics"] = {
            target: {name: value for name, value in values.items() if value is not None}
            for target, values in trial["metrics"].items()
        }
    return TypeAdapter(StudyRecord).validate_python(data)
