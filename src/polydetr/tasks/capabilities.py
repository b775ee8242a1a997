"""What some tasks can do and others cannot: small protocols, asked for by whoever makes use of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

from polydetr.core.predictions import Prediction
from polydetr.core.records import Record, Row

# -- what it needs of the inputs ---------------------------------------------------------------------------------------


@runtime_checkable
class FindsInImages(Protocol):
    """Answers with places in one image per row: the image's frame and its finer maps are kept for it."""

    @property
    def zoom(self) -> float:
        """Smallest side at which training images are shown; 1 = as they are."""
        ...


@runtime_checkable
class MarksWords(Protocol):
    """Answers with words: its head knows where words begin (``Embedded.word_rows``)."""

    @property
    def max_words(self) -> int:
        """Words of the longest span that is proposed."""
        ...


@runtime_checkable
class HasPositive(Protocol):
    """Brings a row near the target's own value, which is read too, apart from the inputs: training then has
    ``outputs["positive"]`` beside ``outputs["vector"]``, and a gold value a ``key`` and a ``vector``.
    """

    positive_modality: str | None
    """The modality that reads the value; None until it is learned."""


@runtime_checkable
class BringsTokens(Protocol):
    """Its head brings tokens of its own into the shared encoder (an image being painted)."""

    @property
    def num_own_tokens(self) -> int:
        """How many, beside each row's."""
        ...


@runtime_checkable
class NamedLabels(Protocol):
    """Its head knows labels by vectors, which begin as what the text embedder makes of their names."""

    @property
    def named_labels(self) -> Sequence[str]: ...


@runtime_checkable
class NamesFiles(Protocol):
    """Its column may name files."""

    def located(self, row: Row, folder: Path | None) -> Row:
        """The row with this target's relative paths made to begin at ``folder``; what ``learn`` and ``gold`` read."""
        ...

    def content_key(self, rows: Sequence[Row]) -> str:
        """Changes whenever one of the files was changed: part of the key of the cache on disk."""
        ...


# -- labels and training -----------------------------------------------------------------------------------------------


@runtime_checkable
class HasLabels(Protocol):
    """Answers with labels of a set that training learned."""

    labels: Sequence[str]

    def unseen(self, gold: Any) -> Sequence[str]:
        """Labels of a gold value that are not in the set."""
        ...


@runtime_checkable
class ChecksLabels(Protocol):
    """Knows readable labels that it cannot learn."""

    def problems(self, gold: Any) -> Sequence[str]:
        """What such a gold value asks for, one sentence each."""
        ...


@runtime_checkable
class Tunes(Protocol):
    """Chooses thresholds on the validation rows, after calibration."""

    @property
    def tunes_answers(self) -> bool:
        """Whether ``tune`` changes what ``decode`` answers."""
        ...

    def tune(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> list[str]:
        """Returns messages for the user."""
        ...


@runtime_checkable
class CountsSteps(Protocol):
    """Needs so many steps, however few the rows are (``Config.steps``)."""

    @property
    def evaluations_per_run(self) -> int:
        """Looks at the validation rows in a run that is counted in steps."""
        ...


# -- answers and reports -----------------------------------------------------------------------------------------------


@runtime_checkable
class WritesFiles(Protocol):
    """Answers with what is no JSON."""

    def to_json(self, value: Any, *, file: Path | None = None) -> Any:
        """A prediction's value in JSON terms: written to ``file``, a path without ending, and named; without one put
        into the text.
        """
        ...


@runtime_checkable
class ShowsClasses(Protocol):
    """Figures of answers that are right or wrong: a confusion matrix and a reliability curve."""

    @property
    def classes(self) -> Any:
        """A ``metrics.classification.ClassReport``."""
        ...

    @property
    def confidence(self) -> Sequence[float]: ...

    @property
    def correct(self) -> Sequence[bool]: ...


@runtime_checkable
class ShowsEntities(Protocol):
    """Figures of spans by type; None where there are none."""

    @property
    def entities(self) -> Any:
        """A ``metrics.entities.EntityReport``, or None."""
        ...


@runtime_checkable
class ShowsObjects(Protocol):
    """Figures of boxes in images: curves, and the worst mistakes shown in their images."""

    report: Any
    gold: Sequence[Sequence[Mapping[str, Any]]]
    found: Sequence[Sequence[Mapping[str, Any]]]
    rows: Sequence[int]
    """Which of the rows were measured."""
    records: Sequence[Record]
    """Those rows themselves, once they are known."""

    def of_records(self, records: Sequence[Record]) -> Self:
        """With its own ones among all ``records``."""
        ...
