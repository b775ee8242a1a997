"""In the front process: the models by name, and the versions of each: the one that answers, the one before it, and a
shadow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from polydetr.engine.profile import profiles_in
from polydetr.errors import InputError, ModelFolderError, PolydetrError, quoted
from polydetr.serving.contract import ModelInfo, Row
from polydetr.serving.drift import Windows


@dataclass(eq=False)
class Version:
    """A model in memory of the model processes. handle: its number there; seal: names its content; row_s: what a row
    takes, in seconds, as measured; tokens: of a row, as measured; windows: how its rows were; users: requests that it
    is to answer; fault: why it cannot, as callers are told; ends: how often a process ended while it was loaded there,
    since it last was.
    """

    handle: int
    name: str
    folder: str
    seal: str = ""
    told: Mapping[str, Any] = field(default_factory=dict)
    example: Row = field(default_factory=dict)
    row_s: float = 0.01
    tokens: float = 64.0
    users: int = 0
    fault: str | None = None
    ends: int = 0
    windows: Windows = field(default_factory=lambda: Windows({}))

    @property
    def draws(self) -> bool:
        return bool(self.told.get("draws"))

    def describe(self, told: Mapping[str, Any], example: Row) -> None:
        """What a process said of it.

        Raises:
            ModelFolderError: the folder holds another model than the one that answered until now.
        """
        if self.seal and told["seal"] != self.seal:
            raise ModelFolderError(
                f"the folder of {self.name!r} holds another model than the one that is served.",
                hint="Bring it in as a new version.",
            )
        if not self.seal:
            self.windows = Windows(profiles_in(told["description"]))
        self.seal, self.told, self.example, self.fault, self.ends = told["seal"], told, example, None, 0

    def learn(self, *, rows: int, seconds: float, tokens: int) -> None:
        """From rows that were answered: what one takes."""
        weight = min(0.5, rows / 64)
        self.row_s += weight * (seconds / rows - self.row_s)
        self.tokens += weight * (tokens / rows - self.tokens)


@dataclass
class Line:
    """The versions of one name."""

    name: str
    current: Version
    previous: Version | None = None
    shadow: Version | None = None

    @property
    def versions(self) -> list[Version]:
        return [v for v in (self.current, self.shadow, self.previous) if v is not None]

    def take_over(self, version: Version, *, shadow: bool) -> list[Version]:
        """The version answers from now on, or is asked beside the one that does; returns those that are not needed."""
        left = [self.shadow, None if shadow else self.previous]
        if shadow:
            self.shadow = version
        else:
            self.current, self.previous, self.shadow = version, self.current, None
        return [v for v in left if v is not None]

    def roll_back(self) -> list[Version]:
        """Ends the shadow, or brings the previous version back; returns those that are not needed.

        Raises:
            InputError: there is neither.
        """
        if self.shadow is not None:
            left, self.shadow = self.shadow, None
        elif self.previous is not None:
            left, self.current, self.previous = self.current, self.previous, None
        else:
            raise InputError(f"{self.name!r:.80} has no earlier version to go back to.")
        return [left]

    def info(self, *, state: str) -> ModelInfo:
        told = self.current.told
        return ModelInfo(
            name=self.name,
            version=self.current.seal,
            description=told.get("description", {}),
            columns=told.get("columns", {}),
            answers=told.get("answers", {}),
            runtime=told.get("runtime", ""),
            state=state,
            previous=self.previous.seal if self.previous else None,
            shadow=self.shadow.seal if self.shadow else None,
            example=self.current.example,
            folder=self.current.folder,
        )


def below(root: Path | None, folder: str) -> Path:
    """The folder of this name below the root; links are followed before that is looked at.

    Raises:
        InputError: there is no root, or no such folder below it.
    """
    if root is None:
        raise InputError(
            "models cannot be replaced here: no folder of models was named.", hint="Name one: polydetr serve --root."
        )
    name = PurePath(folder)
    try:
        place = (root / name).resolve()
        inside = bool(name.parts) and not name.is_absolute() and ".." not in name.parts
        if inside and place.is_relative_to(root.resolve()) and place != root.resolve() and place.is_dir():
            return place
    except (OSError, ValueError, RuntimeError):  # no name that a folder could have
        pass
    raise InputError(f"there is no folder {quoted(folder)} below the folder of models.")


def without_place(error: PolydetrError, root: Path | None) -> PolydetrError:
    """The same error, in which folders are named from the root on: where that lies is nobody's business."""
    if root is None:
        return error
    prefix = f"{root.resolve()}/"
    hint = None if error.hint is None else error.hint.replace(prefix, "")
    return type(error)(error.message.replace(prefix, ""), location=error.location, hint=hint)


def columns_differ(old: Version, new: Version) -> str | None:
    """A sentence where the two do not read the same columns, or do not answer the same targets."""
    for what, first, second in (
        ("reads", _kinds(old.told, "inputs", "modality"), _kinds(new.told, "inputs", "modality")),
        ("answers", _kinds(old.told, "targets", "task"), _kinds(new.told, "targets", "task")),
    ):
        if first != second:
            return f"it {what} {_listed(second)}; the one that answers {what} {_listed(first)}."
    return None


def _kinds(told: Mapping[str, Any], part: str, kind: str) -> dict[str, str]:
    fields = told["description"]["schema"][part]
    return {f["name"]: f[kind] for f in fields if f[kind] != "ignore"}


def _listed(kinds: Mapping[str, str]) -> str:
    return ", ".join(f"{name!r:.60} ({kind})" for name, kind in kinds.items())
