"""What stands between HTTP and the models: the door asks, a fleet of model processes answers.

The door (``serving.app``) knows HTTP and never loads a model; the fleet (``serving.fleet``) knows models and processes
and never sees a request of HTTP. Both know this file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from polydetr.errors import InputError, PolydetrError

if TYPE_CHECKING:
    from polydetr.serving.drift import Drift

Row = Mapping[str, Any]
"""Column → value as JSON has it, and bytes for an image. A string is a text and never a path."""
Reply = dict[str, Any]
"""What became of one row, in JSON's own types: ``row`` (its number in the request, from 1) and ``prediction``,
``probability``, ``abstained``, ``warnings``, … as ``engine.outputs.Answer.to_dict`` has them, or ``error``, a mapping
of ``message``, ``location`` ({"row", "column"}) and ``hint``, which names no file of the server. ``explanation``
(``Explanation.to_dict``) and ``cells`` where they were asked for, see ``Ask``."""


class Busy(PolydetrError):
    """More is waiting than may wait; ``retry_after`` is in seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message, hint=f"Ask again in {retry_after:.0f} s.")
        self.retry_after = retry_after


class TooLate(PolydetrError):
    """The time that the request allows was over before it was answered."""

    def __init__(self) -> None:
        super().__init__("the time that the request allows was over before it was answered.")


class Unavailable(PolydetrError):
    """The model cannot answer now: it is being loaded, its folder is damaged, or its process ended."""


class UnknownModel(InputError):
    """No model of this name is served."""


@dataclass(frozen=True)
class Ask:
    """How the rows of a request are answered; see ``inference.options.Options``.

    probabilities: also those of every class. explain: with each answer, why; target, choice: of the explanation.
    cells: with each reply, also of a rejected row, the columns of ``engine.answer_table`` → their cells, in order, for
    answers that are written as a table.
    """

    strictness: Literal["normal", "strict", "lenient"] = "normal"
    seed: int = 0
    min_confidence: float | None = None
    accuracy: float | None = None
    probabilities: bool = False
    explain: bool = False
    target: str | None = None
    choice: Any = None
    cells: bool = False


@dataclass(frozen=True)
class ModelInfo:
    """A model as the door describes it.

    version: the seal of its folder, which names its content; description: what its folder says (``LoadedModel.info``);
    columns: column → JSON schema of its values; answers: target → JSON schema of ``prediction``; runtime: what computes
    it ("torch fp32", "onnx int8", …); state: "ready", "loading", or why it cannot answer; previous: the version that
    ``roll_back`` brings back; shadow: the version that is asked beside it. folder: where it lies, which is never told
    over the API.
    """

    name: str
    version: str
    description: Mapping[str, Any]
    columns: Mapping[str, Any]
    answers: Mapping[str, Any]
    runtime: str
    state: str = "ready"
    previous: str | None = None
    shadow: str | None = None
    example: Row = field(default_factory=dict)
    folder: str = ""


class Fleet(Protocol):
    """The models of a service. All methods are called from the event loop of the process that speaks HTTP."""

    def models(self) -> Mapping[str, ModelInfo]:
        """Name → what is known of it, in the order in which they were named."""
        ...

    async def answer(self, model: str, rows: Sequence[Row], ask: Ask, *, timeout_s: float) -> list[Reply]:
        """One reply per row, in order; a row that cannot be answered fails alone.

        Raises:
            UnknownModel, Busy, TooLate, Unavailable. InputError: the options fit no target of this model.
        """
        ...

    def unread(self, model: str, rows: int) -> None:
        """Counts rows that could not be read, and so were not asked."""
        ...

    async def replace(self, model: str, folder: str, *, shadow: bool = False) -> ModelInfo:
        """Loads and warms the model in ``folder`` (a name below the configured root) beside the one that answers, then
        lets it take over; with ``shadow`` the old one goes on answering, and where the new one differs is logged.

        Raises:
            UnknownModel. InputError: no such folder below the root, or no model. ModelFolderError: it cannot be loaded,
            or does not read the same columns.
        """
        ...

    async def roll_back(self, model: str) -> ModelInfo:
        """The previous model answers again; or, where a shadow runs, that one ends. Raises UnknownModel, InputError."""
        ...

    def measurements(self) -> str:
        """What was counted and timed, as Prometheus reads it (text format)."""
        ...

    def drift(self, model: str) -> Sequence[Drift]:
        """How far what was asked lately is from the training rows, column by column. Raises UnknownModel."""
        ...

    async def stop(self, *, grace_s: float) -> None:
        """Answers what was accepted, for at most ``grace_s``, then ends the processes."""
        ...
