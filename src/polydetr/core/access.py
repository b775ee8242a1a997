"""Where the files begin that rows name, and what they may reach: one rule for every reader and every verb.

A relative path begins at the folder of the file that names it; of rows in memory, at the working directory. A folder
that the user names (``images=``, ``--images``, ``image.root``) begins at the working directory, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FileAccess:
    """folder: of the file that holds the row; None for rows in memory. Relative paths of a file may not climb out of
    it; absolute ones are allowed, since whoever wrote the file may read the machine.

    root: the folder that the user named for the images. Relative paths begin there (or else at ``folder``), and nothing
    outside of it is opened, absolute or relative, after links are resolved. For rows from elsewhere (standard input, a
    service) there must be one. also: another folder to look in, which confines nothing. closed: no file is opened at
    all, whatever a row says: images are given by their content (``NOWHERE``).
    """

    folder: Path | None = None
    root: Path | None = None
    also: Path | None = None
    closed: bool = False

    @classmethod
    def named(
        cls, root: str | Path | None, *, folder: Path | None = None, also: str | Path | None = None
    ) -> FileAccess:
        """With the folders that a user named."""
        return cls(folder, _from_here(root), _from_here(also))

    @property
    def bases(self) -> Iterator[Path]:
        """The folders at which a relative path begins, the first ones first."""
        if self.root is not None:
            yield self.root
        yield self.folder or Path()
        if self.also is not None:
            yield self.also

    def path(self, base: Path, name: str | Path) -> Path | None:
        """The path that ``name`` has from ``base``; None where it leads out of what may be reached.

        Raises:
            OSError, RuntimeError, ValueError: it is no path.
        """
        if self.closed:
            return None
        path = base / Path(name).expanduser()
        if self.root is not None:
            resolved = path.resolve()
            return resolved if resolved.is_relative_to(self.root.resolve()) else None
        climbs = self.folder is not None and not Path(name).is_absolute() and ".." in Path(name).parts
        return None if climbs and not path.resolve().is_relative_to(base.resolve()) else path


IN_MEMORY = FileAccess()
"""Rows of the program that asks: their paths begin at the working directory, and may be any."""

NOWHERE = FileAccess(closed=True)
"""Rows that a service was sent: a text in them is a text, and never the name of a file."""


def _from_here(folder: str | Path | None) -> Path | None:
    return None if folder is None else Path(folder).expanduser().absolute()
