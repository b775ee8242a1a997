"""Fleets over the small saved models, and an event loop for them."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors.numpy import load_file, save_file

from polydetr.core.files import sha256_of
from polydetr.core.records import Record
from polydetr.engine.profile import profile_of
from polydetr.errors import Location
from polydetr.inference.folder import MANIFEST, SEAL, WEIGHTS, seal_of
from polydetr.inference.service import ServiceModel

SAVED = Path(__file__).parents[1] / "model" / "saved_by_old"
NAMES = sorted(path.name for path in SAVED.iterdir() if (path / "model").is_dir())
T = TypeVar("T")


class Loop:
    """An event loop that a fleet lives in, between the calls of tests."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    def __call__(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)

    def close(self) -> None:
        self._loop.close()


def rows_of(name: str) -> list[dict[str, Any]]:
    """The rows of a saved model without its labels, an image as its bytes."""
    folder = SAVED / name
    manifest = json.loads((folder / "model" / MANIFEST).read_text(encoding="utf-8"))
    columns = {field["name"]: field["modality"] for field in manifest["schema"]["inputs"]}
    return [
        {c: _sent(row.get(c), folder, kind) for c, kind in columns.items() if c in row}
        for row in json.loads((folder / "rows.json").read_text(encoding="utf-8"))
    ]


def _sent(value: Any, folder: Path, kind: str) -> Any:
    return (folder / value).read_bytes() if kind == "image" and isinstance(value, str) else value


def changed(folder: Path, *, turned: Sequence[str] = (), extra: Mapping[str, Any] | None = None) -> Path:
    """The model in the folder with the sign of some weights turned, and more in its description; sealed anew."""
    weights = load_file(folder / WEIGHTS)
    found = [name for name in weights if any(part in name for part in turned)]
    assert bool(found) == bool(turned)
    save_file({name: -array if name in found else array for name, array in weights.items()}, folder / WEIGHTS)
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    manifest |= extra or {}
    manifest["files"][WEIGHTS] = {"sha256": sha256_of(folder / WEIGHTS), "bytes": (folder / WEIGHTS).stat().st_size}
    plain = {name: value for name, value in manifest.items() if name != SEAL}
    (folder / MANIFEST).write_text(json.dumps({**plain, SEAL: seal_of(plain)}), encoding="utf-8")
    return folder


def copied(name: str, place: Path) -> Path:
    return Path(shutil.copytree(SAVED / name / "model", place))


def profiled(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """The model in the folder, which remembers these rows as its training rows."""
    model = ServiceModel.load(folder)
    records = [Record(row, Location(row=i)) for i, row in enumerate(rows, 1)]
    return changed(folder, extra={"profile": profile_of(model.engine.encoder, records)})


def close_to(first: Any, second: Any, *, within: float = 1e-5) -> bool:
    """Equal but for noise in the last digits of floats."""
    if isinstance(first, Mapping):
        same = isinstance(second, Mapping) and first.keys() == second.keys()
        return same and all(close_to(first[k], second[k], within=within) for k in first)
    if isinstance(first, list | tuple):
        same = isinstance(second, list | tuple) and len(first) == len(second)
        return same and all(close_to(a, b, within=within) for a, b in zip(first, second, strict=True))
    if isinstance(first, float) and isinstance(second, float):
        return bool(np.isclose(first, second, rtol=within, atol=within))
    return bool(first == second)
