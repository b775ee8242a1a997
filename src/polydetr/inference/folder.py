"""The model folder, read: self-contained, without pickle, checked on loading.

polydetr.json        format, versions, schema, configuration, labels, metrics, and the sha256 of every other file
model.safetensors    all weights, fp32
*.onnx               in its place, where the model was exported: graphs, which hold the weights
backbone.json, tokenizer.json
optimized.json       what ``optimize`` found on one machine
rows.safetensors     some of the validation rows, encoded (``kept_rows``)
README.md            the model card
reports/             tables, JSON and images of the evaluation
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polydetr import __version__
from polydetr.core.files import sha256_of
from polydetr.core.installed import pip_upgrade
from polydetr.errors import COPY_AGAIN, ModelFolderError, faults

if TYPE_CHECKING:
    from polydetr.inference.description import FileEntry

FORMAT_VERSION = 1
EXPORT_FORMAT = 2
"""Of what an exported model's folder says of its graphs."""
MANIFEST = "polydetr.json"
WEIGHTS = "model.safetensors"
CARD = "README.md"
SEAL = "manifest_sha256"
OPTIMIZED = "optimized.json"
"""How to compute the model on one machine (``optimized``); no part of what is sealed, as it is found later."""
RUNS = Path("runs")
"""Where runs are saved for which the command line names no folder."""
LAST = "last.safetensors"
"""The state of a run, in the folder of its checkpoint."""
PROGRESS = "progress.json"
"""How far it has got, beside that (``training.progress_file``)."""
MOST_JSON = 64 << 20
"""Bytes of a file that is read whole."""
LEFT = re.compile(r"[0-9a-f]{16}\.(?P<kind>new|old)")
"""What a killed save may leave ``beside`` the folder: half of the new model, or the one that was there before."""


def seal_of(manifest: Mapping[str, Any]) -> str:
    plain = {k: v for k, v in manifest.items() if k != SEAL}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The folder's description, after checking that it is one of a model, and that every file the model is read from is
    there and unchanged. Nothing outside of the folder is opened.

    The model card and the reports are for people, who may edit them: they are not checked.

    Raises:
        ModelFolderError: not a model folder, truncated, tampered with, or from a newer version.
    """
    from pydantic import ValidationError

    from polydetr.inference.description import Description  # takes a while, for which no import waits

    manifest = _description(folder)
    _check_version(folder, manifest, manifest.get("format_version"), FORMAT_VERSION, "written")
    exported = manifest.get("export")
    if isinstance(exported, dict):
        _check_version(folder, exported, exported.get("format"), EXPORT_FORMAT, "exported")
    if manifest.get(SEAL) != seal_of(manifest):
        raise ModelFolderError(
            f"{str(folder / MANIFEST)!r} was changed after it was saved (sha256 differs).", hint=COPY_AGAIN
        )
    try:
        described = Description.model_validate(manifest)
    except ValidationError as error:
        raise ModelFolderError(
            f"{str(folder / MANIFEST)!r} is no description of a model: {faults(error)}.", hint=COPY_AGAIN
        ) from None
    files = described.files
    large = {WEIGHTS} if described.export is None else set(described.export.graphs)
    for name in {*large, *files}:
        if name != CARD and not name.startswith("reports/"):
            _check_file(folder, name, files.get(name), is_large=name in large)
    return manifest


def _check_version(folder: Path, by: Mapping[str, Any], version: object, most: int, how: str) -> None:
    """Raises ModelFolderError where a format is newer than what is known here, or no number. by: who wrote it."""
    if isinstance(version, int) and version <= most:
        return
    versions = by.get("versions")
    name = versions.get("polydetr", "?") if isinstance(versions, dict) else "?"
    raise ModelFolderError(
        f"{str(folder)!r} was {how} in format {version!r} by polydetr {name!s:.40}; "
        f"this version, {__version__}, reads up to format {most}.",
        hint=f"Upgrade polydetr: {pip_upgrade()}.",
    )


def _description(folder: Path) -> dict[str, Any]:
    try:
        if not folder.exists():
            left = [old for old in folder.parent.glob(f".{glob.escape(folder.name)}.*old") if (old / MANIFEST).exists()]
            hint = f"An interrupted save left the model in {str(left[0])!r}: rename it." if left else "Check the path."
            raise ModelFolderError(f"there is no model folder {str(folder)!r:.200}.", hint=hint)
        if not os.path.lexists(folder / MANIFEST):
            raise ModelFolderError(
                f"{str(folder)!r} is not a polydetr model: it has no {MANIFEST}.",
                hint="Name the folder that polydetr train --out wrote.",
            )
    except (OSError, ValueError) as error:  # no name that a file could have, or a folder that is closed to the user
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelFolderError(f"there is no model folder {str(folder)!r:.200}: {reason}.") from None
    manifest = read_json(folder, MANIFEST)
    if not isinstance(manifest, dict):
        raise ModelFolderError(f"{str(folder / MANIFEST)!r} holds no description of a model.", hint=COPY_AGAIN)
    return manifest


def read_json(folder: Path, name: str) -> Any:
    """A JSON file of the folder.

    Raises:
        ModelFolderError: it is missing, no ordinary file in this folder, larger than ``MOST_JSON``, or not JSON.
    """
    path = own_file(folder, name)
    try:
        if path.stat().st_size > MOST_JSON:
            raise ValueError(f"it has more than {MOST_JSON >> 20} MB")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFolderError(f"{str(folder / name)!r} cannot be read: {error!s:.200}.", hint=COPY_AGAIN) from None


def still_holds(folder: Path, seal: object) -> bool:
    """Whether the model in the folder is the one of this ``seal``: another may have been saved there."""
    try:
        return read_json(folder, MANIFEST).get(SEAL) == seal
    except (ModelFolderError, AttributeError):
        return False


def own_file(folder: Path, name: str) -> Path:
    """The place of a file of the folder, behind links within it.

    Raises:
        ModelFolderError: it is missing, may not be read, is no ordinary file, or a link that leads out of the folder.
    """
    path = folder / name
    try:
        place = Path(os.path.realpath(path))
        if not place.is_relative_to(os.path.realpath(folder)):
            raise ModelFolderError(
                f"{str(path)!r} is a link that leads out of the folder, which is not followed.",
                hint="Put the file itself in its place.",
            )
        mode = place.stat().st_mode
    except FileNotFoundError:
        raise ModelFolderError(f"{str(folder)!r} lacks {name!r}.", hint=COPY_AGAIN) from None
    except (OSError, ValueError) as error:
        raise ModelFolderError(f"{str(path)!r} cannot be read: {error}.", hint=COPY_AGAIN) from None
    if not stat.S_ISREG(mode):
        raise ModelFolderError(f"{str(path)!r} is not an ordinary file.", hint=COPY_AGAIN)
    if not os.access(place, os.R_OK):
        raise ModelFolderError(
            f"{str(path)!r} may not be read: its rights are {stat.filemode(mode)}.",
            hint="Its owner can give them: chmod -R a+rX FOLDER.",
        )
    return place


def _check_file(folder: Path, name: str, expected: FileEntry | None, *, is_large: bool) -> None:
    """Raises ModelFolderError where a file is not the one that was saved, or (None) is not among them. is_large: it
    holds weights, and is not read whole.
    """
    file = own_file(folder, name)
    if expected is None:
        raise _not_listed(folder, name)
    if file.stat().st_size != expected.bytes:
        raise ModelFolderError(
            f"{str(folder / name)!r} has {file.stat().st_size} bytes, expected {expected.bytes}: truncated or changed.",
            hint=COPY_AGAIN,
        )
    if not is_large and expected.bytes > MOST_JSON:
        raise ModelFolderError(f"{str(folder / name)!r} has more than {MOST_JSON >> 20} MB.", hint=COPY_AGAIN)
    if sha256_of(file) != expected.sha256:
        raise ModelFolderError(
            f"{str(folder / name)!r} is not the file that was saved (sha256 differs).", hint=COPY_AGAIN
        )


def check_listed(folder: Path, manifest: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raises ModelFolderError where one of these files is there and was never checked, as ``manifest`` lacks it."""
    for name in sorted(names):
        if name not in manifest["files"] and os.path.lexists(folder / name):
            raise _not_listed(folder, name)


def _not_listed(folder: Path, name: str) -> ModelFolderError:
    return ModelFolderError(f"{str(folder / MANIFEST)!r} does not list {name!r}.", hint=COPY_AGAIN)


def beside(folder: Path, kind: str) -> Path:
    return folder.with_name(f".{folder.name}.{kind}")


def lock_of(folder: Path) -> Path:
    """What a run holds while it is under way; no shorter than what a save writes beside the folder."""
    return beside(folder, "is-being-written.lock")


def checkpoint_of(out: Path) -> Path:
    """The folder of a run's checkpoint: beside the model folder, so that saving the model never touches it."""
    return out.with_name(f"{out.name}.checkpoint")
