"""Environments that hold what a user installs and nothing else: the wheels of this checkout and what they ask for.

Needs a package index, once for the build and once for each environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_BUILD = """
import sys
from hatchling.build import build_sdist, build_wheel
print({"sdist": build_sdist, "wheel": build_wheel}[sys.argv[1]](sys.argv[2]))
"""


class NoIndexError(RuntimeError):
    """No package index can be reached from here."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment without pip; ``python`` is its interpreter."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, *requirements: str) -> Environment:
        """``requirements`` as pip takes them. Raises subprocess.CalledProcessError where they cannot be had."""
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        made = cls(folder)
        if requirements:
            made.pip("install", *requirements)
        return made

    @property
    def python(self) -> Path:
        return self.folder / ("Scripts" if os.name == "nt" else "bin") / "python"

    @property
    def script(self) -> Path:
        """The command line."""
        return self.python.with_name("polydetr")

    def pip(self, *arguments: str) -> None:
        _pip("--python", str(self.python), *arguments)

    def run(self, *words: str | Path, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
        """The interpreter with these arguments, in an environment of processes without this checkout."""
        return self.call(self.python, *words, check=check, **options)

    def call(self, *words: str | Path, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
        """A command, likewise."""
        kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "TMPDIR", "LANG") if name in os.environ}
        done = subprocess.run(
            list(map(str, words)), text=True, capture_output=True, env={**kept, "HOME": str(self.folder)}, **options  # type: ignore[call-overload]
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(map(str, words))}\n{done.stdout}\n{done.stderr}")
        return done

    @property
    def bytes(self) -> int:
        """Of all its files; links are not counted."""
        return sum(f.stat().st_size for f in self.folder.rglob("*") if f.is_file() and not f.is_symlink())


def check_index() -> None:
    """Raises NoIndexError where the index does not answer."""
    try:
        _pip("index", "versions", "hatchling")
    except subprocess.CalledProcessError as error:
        raise NoIndexError(error.stderr.strip().splitlines()[-1] if error.stderr else "pip failed") from None


def build(folder: Path, *, kinds: Sequence[str] = ("wheel",)) -> dict[str, dict[str, Path]]:
    """Project → kind ("wheel", "sdist") → file, of the two distributions; the wheels are made of the archives of
    sources where both are asked for, as whoever installs from such an archive makes them.
    """
    builder = Environment.make(folder / "builder", "hatchling")
    made: dict[str, dict[str, Path]] = {}
    for project, source in (("polydetr-core", ROOT), ("polydetr", ROOT / "packages" / "polydetr")):
        place, made[project] = source, {}
        for kind in sorted(kinds):  # sdist before wheel
            out = folder / kind
            out.mkdir(exist_ok=True)
            name = builder.run("-c", _BUILD, kind, out, cwd=place).stdout.split()[-1]
            made[project][kind] = out / name
            if kind == "sdist":
                unpacked = folder / "unpacked"
                builder.run("-m", "tarfile", "-e", out / name, unpacked)
                place = unpacked / name.removesuffix(".tar.gz")
    return made


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")}
    subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
