"""What a tool that keeps records of runs is given, whichever it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

Status = Literal["finished", "interrupted", "failed"]


@dataclass(frozen=True)
class TrackedRun:
    """One run to record. folder: where all records lie, of all runs and tools; name: of this run, no two share it;
    config: its settings in JSON terms; group: the study that it belongs to; resumed: it goes on with its records.
    """

    folder: str
    name: str
    config: Mapping[str, Any]
    group: str | None = None
    resumed: bool = False

    @property
    def place(self) -> Path:
        return Path(self.folder)

    @property
    def key(self) -> str:
        """The same for the same run, resumed; of letters and figures."""
        where = "\n".join([str(self.place.resolve()), self.group or "", self.name])
        return sha256(where.encode(errors="surrogatepass")).hexdigest()[:12]


class Tracker(ABC):
    """One tool's record of one run. Making one opens it; whatever it raises ends it, and nothing else.

    Names of what is recorded have parts, ``valid/label/accuracy``. Steps count up.
    """

    def __init__(self, run: TrackedRun) -> None:
        self.run = run

    @abstractmethod
    def scalars(self, values: Mapping[str, float], *, step: int) -> None:
        """Numbers as they are at a step."""

    @abstractmethod
    def text(self, name: str, text: str, *, step: int) -> None:
        """Text as it stands, in lines."""

    @abstractmethod
    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, step: int) -> None:
        """Rows of texts and numbers."""

    @abstractmethod
    def picture(self, name: str, png: bytes, *, step: int) -> None: ...

    @abstractmethod
    def summary(self, values: Mapping[str, Any], *, step: int) -> None:
        """What stands at the end: numbers and short texts, among them ``model_folder``."""

    @abstractmethod
    def close(self, status: Status) -> None:
        """Writes what is left."""


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Sections as dotted keys: ``{"training": {"lr": 1}}`` → ``{"training.lr": 1}``."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
