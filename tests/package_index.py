"""A package index in a folder, with packages that the tests make: fetching runs real pip, without a network."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from polydetr.fetch.wheels import Archive, Member


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class FolderIndex:
    """Writes wheels and source archives into ``root`` and serves them as a PEP 503 index over ``file:``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def url(self) -> str:
        return self.root.as_uri()

    def wheel(self, package: str, files: Mapping[str, bytes], tags: str = "py3-none-any") -> Archive:
        name = package.replace("-", "_")
        info = f"{name}-1.0.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\nRequires-Dist: a-package-that-is-nowhere\n"
        content = {
            **files,
            f"{info}/METADATA": metadata.encode(),
            f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tags}\n".encode(),
            f"{info}/RECORD": b"",
        }
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as bundle:
            for path, data in content.items():
                bundle.writestr(path, data)
        return self.publish(package, f"{name}-1.0-{tags}.whl", packed.getvalue())

    def source(self, package: str, files: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> Archive:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as bundle:
            for path, data in files.items():
                entry = tarfile.TarInfo(f"{package}-1.0/{path}")
                entry.size = len(data)
                bundle.addfile(entry, io.BytesIO(data))
            for path, target in (links or {}).items():
                entry = tarfile.TarInfo(f"{package}-1.0/{path}")
                entry.type, entry.linkname = tarfile.SYMTYPE, target
                bundle.addfile(entry)
        return self.publish(package, f"{package}-1.0.tar.gz", packed.getvalue())

    def publish(self, package: str, filename: str, content: bytes) -> Archive:
        folder = self.root / package
        folder.mkdir(parents=True, exist_ok=True)
        (folder / filename).write_bytes(content)
        (folder / "index.html").write_text(
            f'<!DOCTYPE html><html><body><a href="{filename}">{filename}</a></body></html>'
        )
        return Archive(package=package, version="1.0", filename=filename, sha256=_sha(content))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of this test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("POLYDETR_CACHE", str(folder))
    return folder


@pytest.fixture
def index(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> FolderIndex:
    """An index that is the only one pip knows."""
    for name in [n for n in os.environ if n.startswith("PIP_")]:
        monkeypatch.delenv(name)
    found = FolderIndex(tmp_path / "simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", found.url)
    return found


@pytest.fixture
def member():
    """Describes a file of an archive as it really is."""

    def describe(path: str, content: bytes) -> Member:
        return Member(path, _sha(content), len(content))

    return describe
