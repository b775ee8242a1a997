"""Where a study keeps what it makes: ``OUT`` is the model folder; ``OUT.study`` beside it holds all else."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from polydetr.core.files import file_names, make_folder
from polydetr.errors import ConfigError, OutputError, SaveError
from polydetr.inference.folder import MANIFEST
from polydetr.model.folder import check_replaceable
from polydetr.training.places import RUNS, check_told, place_of_run, runs_on

DATABASE = "study.db"


@dataclass(frozen=True)
class Place:
    """out: the folder of the final model. storage: the address of the database, None for a file of the study's own."""

    out: Path
    storage: str | None
    name: str

    @classmethod
    def of(cls, out: str | None, storage: str | None, name: str | None, *, rows: str | None, resume: bool) -> Place:
        """Where nothing is named, a place under runs/; to resume, that of the latest study on the file ``rows``.

        Raises:
            OutputError: there is none to resume. ConfigError: a shared database, and no name to find the study by.
        """
        if storage is not None and name is None and (resume or out is None):
            raise ConfigError(
                "a study in a database that others use has a name.", hint="Give it one: --name NAME (name=...)."
            )
        if out is None:
            out = str(RUNS / next(iter(file_names([name]).values())) if storage and name else _in_runs(rows, resume))
        return cls(Path(out), storage, name or Path(out).name)

    @property
    def folder(self) -> Path:
        """Report, models of the trials, and the database where none was named."""
        return self.out.with_name(f"{self.out.name}.study")

    @property
    def address(self) -> str:
        return self.storage or str(self.folder / DATABASE)

    @property
    def how_to_resume(self) -> str:
        """Options with which the same call goes on."""
        return f"--resume --out {self.out}" + (
            f" --name {self.name}" if self.storage or self.name != self.out.name else ""
        )

    @contextmanager
    def taken(self, *, resume: bool, overwrite: bool) -> Iterator[Callable[[], None]]:
        """Makes the study's folder. A block that ends before it calls what it is given leaves no new one behind.

        Raises:
            OutputError: something else is there, which is not replaced untold. SaveError: nothing can be written there.
        """
        check_replaceable(self.out)
        if not (resume and self.folder.exists() and (self.out / MANIFEST).exists()):
            check_told(self.out, overwrite=overwrite, resume=False)
        is_new, kept = not self.folder.exists(), []
        try:
            self._check_writable()
            yield lambda: kept.append(True)
        finally:
            if is_new and not kept:
                shutil.rmtree(self.folder, ignore_errors=True)

    def _check_writable(self) -> None:
        trials = self.folder / "trials"
        try:
            make_folder(trials)
            probe = trials / ".probe"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise SaveError(
                f"cannot write to {str(trials)!r}: {error.strerror or error}.", hint="Name another place: --out FOLDER."
            ) from None

    def clear(self) -> None:
        """Removes the models of an earlier study."""
        shutil.rmtree(self.folder / "trials", ignore_errors=True)
        make_folder(self.folder / "trials")


def _in_runs(rows: str | None, resume: bool) -> Path:
    if not resume:
        return place_of_run(rows, resume=False)
    found = [path for study in runs_on(rows, ".study") if (path := study / DATABASE).exists()]
    if not found:
        raise OutputError(
            f"there is no study on {rows!r} in {str(RUNS)!r}: there is nothing to resume.",
            hint="Name the model folder of the study, --out FOLDER, or leave out --resume.",
        )
    latest = max(found, key=lambda path: path.stat().st_mtime).parent
    return latest.with_name(latest.name.removesuffix(".study"))
