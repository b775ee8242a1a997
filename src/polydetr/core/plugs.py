"""Registries of classes by name: tasks with their heads, modalities with their embedders.

The built-in ones stand in literal tables and are imported on first use, so that a package below may know their names,
and a process that only prepares rows never loads the half that needs torch. An outside package adds its own as
entry points of the same groups: ``polydetr.tasks``, ``polydetr.heads``, ``polydetr.modalities``,
``polydetr.embedders``, each under one and the same name in the two groups that belong together.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from polydetr.errors import ConfigError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


class Registry(Mapping[str, Any]):
    """Name → class. The built-in names come first, in their order; none of them can be taken by an outside package."""

    def __init__(self, group: str, built_in: Mapping[str, str]) -> None:
        self.group, self._built_in = group, dict(built_in)

    @functools.cached_property
    def _outside(self) -> dict[str, EntryPoint]:
        from importlib.metadata import entry_points  # 20 ms, for which no import waits

        found = sorted(entry_points(group=self.group), key=lambda point: point.name)
        return {point.name: point for point in found if point.name not in self._built_in}

    def __getitem__(self, name: str) -> Any:
        """Raises KeyError for an unknown name, and what importing the class raises."""
        if name in self._built_in:
            return load(self._built_in[name])
        return self._outside[name].load()

    def find(self, name: str) -> Any:
        """The same for a name that a model needs: raises ConfigError where nothing of this name is installed."""
        if name not in self:
            raise ConfigError(
                f"no installed package has {name!r} among its entry points {self.group!r}.",
                hint=f"Install the one that brings it; in its pyproject.toml: [project.entry-points.{self.group!r}].",
            )
        return self[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._built_in
        yield from self._outside

    def __len__(self) -> int:
        return len(self._built_in) + len(self._outside)

    def __contains__(self, name: object) -> bool:
        return name in self._built_in or name in self._outside


def load(place: str) -> Any:
    """``"package.module:name"`` → that attribute of that module."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def _table(room: str, suffix: str, classes: Mapping[str, str]) -> dict[str, str]:
    return {name: f"polydetr.{room}.{name}:{stem}{suffix}" for name, stem in classes.items()}


_TASKS = {
    "classification": "Classification",
    "regression": "Regression",
    "tagging": "Tagging",
    "qa": "QuestionAnswering",
    "generation": "Generation",
    "embedding": "Embedding",
    "detection": "Detection",
    "entities": "Entities",
}
_MODALITIES = {"text": "Text", "image": "Image", "table": "Table", "history": "History"}
"""History comes last: its items are encoded by the modalities before it."""

TASKS = Registry("polydetr.tasks", _table("tasks", "Task", _TASKS))
HEADS = Registry("polydetr.heads", _table("heads", "Head", _TASKS))
MODALITIES = Registry("polydetr.modalities", _table("modalities", "Modality", _MODALITIES))
EMBEDDERS = Registry("polydetr.embedders", _table("embedders", "Embedder", _MODALITIES))


RUNNERS: Mapping[str, str] = {
    "torch": "polydetr.model.folder:load_runner",
    "onnx": "polydetr.runtime.folder:load_runner",
}
"""Name → what makes a ``core.runner.Runner`` out of a model folder."""
