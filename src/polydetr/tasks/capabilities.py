"""What some tasks can do and others cannot: small protocols, which the code that uses a capability checks with
``isinstance``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from polydetr.core.access import FileAccess
from polydetr.core.examples import Arrays
from polydetr.core.mistakes import Mistake
from polydetr.core.predictions import Baseline, Figures, Prediction
from polydetr.core.records import Row
from polydetr.errors import Location
from polydetr.tasks.confidence import Calibration
from polydetr.values.spans import Span

# -- what it needs of the inputs ---------------------------------------------------------------------------------------


@runtime_checkable
class FindsInImages(Protocol):
    """Answers with boxes in one image per row, whose frame and finer feature maps are kept for it."""

    @property
    def zoom(self) -> float:
        """Smallest side at which training images are shown, as a share of the full one; 1 = full size."""
        ...

    def on_image(self, gold: Any, image: Arrays) -> Any:
        """The gold value compared with the image that it belongs to; image: the row's image, encoded."""
        ...


@runtime_checkable
class MarksWords(Protocol):
    """Answers with spans of words: its head needs to know where words begin (``Embedded.word_rows``)."""

    @property
    def max_words(self) -> int:
        """Length in words of the longest span that is proposed."""
        ...


@runtime_checkable
class HasPositive(Protocol):
    """Brings the vector of a row near that of the target's own value (its positive side), which the model reads too,
    apart from the inputs: training then has ``outputs["positive"]`` beside ``outputs["vector"]``, and a gold value has
    a ``key`` and a ``vector``.
    """

    positive_modality: str | None
    """The modality that reads the target's value; None until ``learn`` has chosen it."""


@runtime_checkable
class BringsTokens(Protocol):
    """Its head adds tokens of its own to the shared encoder (the patches of an image that is generated)."""

    @property
    def num_own_tokens(self) -> int:
        """How many per row."""
        ...


@runtime_checkable
class NamesFiles(Protocol):
    """The values of its column may be names of files."""

    def located(self, row: Row, access: FileAccess) -> Row:
        """The row with the target's path resolved as ``access`` says, for ``learn`` and ``gold``.

        Raises:
            RowError: that file may not be opened.
        """
        ...

    def content_key(self, rows: Sequence[Row]) -> str:
        """Changes whenever one of the files was changed: part of the key of the cache on disk."""
        ...


# -- labels and training -----------------------------------------------------------------------------------------------


@runtime_checkable
class HasLabels(Protocol):
    """Answers with labels out of a set that is learned from the training rows."""

    labels: Sequence[str]

    def unseen(self, gold: Any) -> Sequence[str]:
        """Labels of a gold value that are not in the set."""
        ...


@runtime_checkable
class ChecksLabels(Protocol):
    """Finds readable labels that it cannot learn from as they are."""

    def problems(self, gold: Any) -> Sequence[str]:
        """What is wrong with this gold value, one sentence per problem."""
        ...


@runtime_checkable
class CountsLabels(Protocol):
    """Some of what its labels hold cannot be learned, which shows only when all rows are encoded. labeled: place of a
    row, its gold value.
    """

    def learned_from(self, labeled: Sequence[tuple[Location, Any]]) -> list[str]:
        """Messages about what training rows teach. Raises SchemaError where they teach nothing."""
        ...

    def left_out(self, labeled: Sequence[tuple[Location, Any]]) -> list[str]:
        """Messages about what of rows to be measured is not. Raises SchemaError where the labels make no sense."""
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
    """Needs a number of training steps, not of epochs (``Config.steps``)."""

    @property
    def evaluations_per_run(self) -> int:
        """How often a run that is counted in steps evaluates the validation rows."""
        ...


@runtime_checkable
class Judged(Protocol):
    """Its answers are right or wrong, one by one: the label of a row, an entity, a box. Each has the probability of
    being right, and can be withheld.
    """

    answer_unit: str
    """What one answer is: "row", "entity", "word", "box"."""
    calibration: Calibration

    @property
    def rescales(self) -> bool:
        """Whether the task's own confidence is no probability yet, so that it is mapped to one (``Calibration``)."""
        ...

    def judge(self, prediction: Prediction, gold: Any) -> Sequence[tuple[float, bool]]:
        """The probability of each answer to a row, and whether it is right."""
        ...

    def withhold(self, prediction: Prediction, least: float) -> Prediction:
        """The prediction with the answers marked that are less probable than ``least``."""
        ...


@runtime_checkable
class Conforms(Protocol):
    """Answers a quantity with an interval around it."""

    def conform(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> list[str]:
        """Learns the width of the interval from rows that did not choose the weights; returns messages."""
        ...


@runtime_checkable
class HasBaseline(Protocol):
    """Knows what answering without looking at the row reaches."""

    def baseline(self, golds: Sequence[Any]) -> Baseline | None:
        """The best that one answer for all reaches on rows with these labels; None where they are all the same."""
        ...


# -- answers -----------------------------------------------------------------------------------------------------------


@runtime_checkable
class MarksText(Protocol):
    """Answers with spans of a text."""

    @property
    def marked_labels(self) -> Sequence[str]:
        """The labels that spans may have."""
        ...

    def marks(self, prediction: Prediction) -> Sequence[Span]:
        """The answered spans, in characters of the row's text, with the probability of each; the label of one that is
        withheld says so (``label_of``).
        """
        ...


@runtime_checkable
class WritesFiles(Protocol):
    """Its answers are no JSON (images)."""

    def to_json(self, value: Any, *, file: Path | None = None) -> Any:
        """A prediction's value in JSON terms: the name of the file to which it is written (``file``, a path without its
        suffix); without ``file`` the content itself as text.
        """
        ...


@runtime_checkable
class ShowsMistakes(Protocol):
    """Its wrong answers can be shown one by one, beside what would have been right."""

    @property
    def mistake_kinds(self) -> Mapping[str, str]:
        """Kind → what it means and how the mistakes of it are ordered, in a sentence; in the order of a page."""
        ...

    def mistakes(
        self, predictions: Sequence[Prediction], golds: Sequence[Any], figures: Figures
    ) -> Iterator[tuple[int, Mistake]]:
        """Every mistake with the number of its row. predictions, golds: as ``evaluate`` takes them; figures: what it
        gave for them.
        """
        ...
