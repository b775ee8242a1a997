"""The model folder, read: self-contained, without pickle, checked on loading.

polydetr.json        format, versions, schema, configuration, labels, metrics, and the sha256 of every other file
model.safetensors    all weights, fp32
backbone.json, tokenizer.json
README.md            the model card
reports/             tables, JSON and images of the evaluation
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polydetr import __version__
from polydetr.core.files import sha256_of
from polydetr.errors import ModelFolderError

FORMAT_VERSION = 1
MANIFEST = "polydetr.json"
WEIGHTS = "model.safetensors"
CARD = "README.md"
SEAL = "manifest_sha256"
COPY_AGAIN = "Copy the whole model folder again."


def seal_of(manifest: Mapping[str, Any]) -> str:
    plain = {k: v for k, v in manifest.items() if k != SEAL}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


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
    if manifest.get(SEAL) != seal_of(manifest):
        raise ModelFolderError(
            f"{str(folder / MANIFEST)!r} was changed after it was saved (sha256 differs).", hint=COPY_AGAIN
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
            if (beside(folder, "old") / MANIFEST).exists():
                hint = f"An interrupted save left the model in {str(beside(folder, 'old'))!r}: rename it."
            raise ModelFolderError(f"there is no model folder {str(folder)!r}.", hint=hint) from None
        raise ModelFolderError(
            f"{str(folder)!r} is not a polydetr model: it has no {MANIFEST}.",
            hint="Name the folder that polydetr train --out wrote.",
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFolderError(f"{str(path)!r} cannot be read: {error}.", hint=COPY_AGAIN) from None
    if not isinstance(manifest, dict):
        raise ModelFolderError(f"{str(path)!r} holds no description of a model.", hint=COPY_AGAIN)
    return manifest


def _check_file(folder: Path, name: str, expected: Mapping[str, Any]) -> None:
    file = folder / name
    if not file.is_file():
        raise ModelFolderError(f"{str(folder)!r} lacks {name!r}.", hint=COPY_AGAIN)
    if file.stat().st_size != expected["bytes"]:
        raise ModelFolderError(
            f"{str(file)!r} has {file.stat().st_size} bytes, expected {expected['bytes']}: truncated or changed.",
            hint=COPY_AGAIN,
        )
    if sha256_of(file) != expected["sha256"]:
        raise ModelFolderError(f"{str(file)!r} is not the file that was saved (sha256 differs).", hint=COPY_AGAIN)


def beside(folder: Path, kind: str) -> Path:
    return folder.with_name(f".{folder.name}.{kind}")
