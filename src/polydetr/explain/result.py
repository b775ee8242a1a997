"""An explanation, and its views: JSON, HTML, PNG and a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polydetr.core.files import save_text
from polydetr.reports.explained import ExplainedColumn, ExplainedImage, ExplainedItem, Sources
from polydetr.reports.explanation import Verdict, deletion_verdict
from polydetr.reports.html import explanation_html
from polydetr.reports.sources_png import explanation_png

ROLLOUT = "rollout"


@dataclass(frozen=True, slots=True)
class ExplainedWord:
    """A word, ``row[field][start:end]`` of the original string, and how much it speaks for (+) or against (-) the
    answer; ``before``: what stands between it and the word before.
    """

    field: str
    start: int
    end: int
    text: str
    score: float
    in_answer: bool = False
    before: str = ""


@dataclass(frozen=True)
class Explanation:
    """Why the model gave one answer to one row.

    answer: what is explained, in words; prediction: the row's whole prediction, as ``predict`` gives it.
    quantity, value, baseline: the explained number, for the row and for the same row with every word, image, cell
    and item blanked; all their scores together add up to their difference within ``completeness_error``. method: how
    they came about, "integrated gradients" or "occlusion".
    deletion: see :func:`polydetr.reports.deletion_verdict`; None where too little could be deleted. measure: what its
    numbers are: "probability"; for numbers, objects and embeddings "likelihood", "score" and "similarity".
    attention: for text alone, "backbone" and "encoder" (where they have layers) and "rollout" through both → (words,
    words), row = the word that looks.
    columns, images, items: what each column, image and item of a history contributes.
    modalities: the share of each; without: the answer where it is missing, as ``ExplainedColumn.without``; original:
    the same for the whole row; attention_shares: how the attention of the pooled answer is shared out. The last three
    are empty where only text is read.
    """

    target: str
    task: str
    prediction: Any
    answer: str
    quantity: str
    value: float
    baseline: float
    completeness_error: float
    is_complete: bool
    words: tuple[ExplainedWord, ...]
    deletion: Mapping[str, float] | None
    measure: str = "probability"
    method: str = "integrated gradients"
    attention: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    original: float = 0.0
    columns: tuple[ExplainedColumn, ...] = ()
    images: tuple[ExplainedImage, ...] = ()
    items: tuple[ExplainedItem, ...] = ()
    modalities: Mapping[str, float] = field(default_factory=dict)
    without: Mapping[str, float | None] = field(default_factory=dict)
    attention_shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def meaningful(self) -> bool | None:
        """Whether deleting the highest-scored words costs more than deleting random ones; None where it was not
        tried.
        """
        return None if self._verdict is None else self._verdict.meaningful

    @property
    def statement(self) -> str:
        """The deletion check in a sentence."""
        return "Deletion check: not run." if self._verdict is None else self._verdict.text

    @property
    def _verdict(self) -> Verdict | None:
        return None if self.deletion is None else deletion_verdict(self.deletion, measure=self.measure)

    @property
    def sources(self) -> Sources | None:
        """What the answer rests on, column by column; None where only text is read. ``statement`` is it in words."""
        if not self.columns or set(self.modalities) == {"text"}:
            return None
        return Sources(
            self.columns, self.modalities, self.original, self.without,
            self.measure, self.attention_shares, self.images, self.items,
        )  # fmt: skip

    @property
    def scores(self) -> list[float]:
        """Of the words."""
        return [word.score for word in self.words]

    def top(self, count: int = 10) -> list[ExplainedWord]:
        """The words of largest score, whichever way they speak."""
        return sorted(self.words, key=lambda word: -abs(word.score))[:count]

    def to_dict(self) -> dict[str, Any]:
        """All of it in JSON's own types; numbers of the attention tables with five digits."""
        return {
            "target": self.target,
            "task": self.task,
            "prediction": self.prediction,
            "answer": self.answer,
            "method": self.method,
            "explained": {
                "quantity": self.quantity,
                "value": self.value,
                "baseline": self.baseline,
                "completeness_error": self.completeness_error,
                "complete": self.is_complete,
            },
            "words": [asdict(word) for word in self.words],
            "deletion": None if self.deletion is None else dict(self.deletion),
            "measure": self.measure,
            "meaningful": self.meaningful,
            "statement": self.statement,
            "original": self.original,
            "columns": [asdict(column) for column in self.columns],
            "modalities": dict(self.modalities),
            "without": dict(self.without),
            "images": [_image(image) for image in self.images],
            "items": [asdict(item) for item in self.items],
            "attention_shares": dict(self.attention_shares),
            "attention": {name: np.round(table, 5).tolist() for name, table in self.attention.items()},
            "notes": list(self.notes),
        }

    def to_html(self) -> str:
        """One page that needs no other file and no network."""
        return explanation_html(**self._shown, attention=self.attention.get(ROLLOUT), notes=self.notes)

    def to_png(self, path: str | Path) -> Path:
        """The words as colored boxes, bars for the columns, heat maps over the images, the deletion check below."""
        explanation_png(path=path, **self._shown)
        return Path(path)

    def save(self, folder: str | Path, *, name: str = "explanation") -> list[Path]:
        """Writes ``NAME.html`` and, where matplotlib is installed, ``NAME.png``.

        Raises:
            SaveError: the folder cannot be written to.
        """
        page = save_text(Path(folder) / f"{name}.html", self.to_html())
        return [page, self.to_png(Path(folder) / f"{name}.png")] if find_spec("matplotlib") else [page]

    @property
    def _shown(self) -> dict[str, Any]:
        """What page and image both show."""
        return {
            "words": [word.text for word in self.words],
            "scores": self.scores,
            "before": [word.before for word in self.words],
            "fields": [word.field for word in self.words],
            "title": f"Why {self.target}: {self.answer.partition(' (')[0]}",
            "prediction": self.answer,
            "deletion": self.deletion,
            "measure": self.measure,
            "sources": self.sources,
        }

    def print(self, *, count: int = 10) -> None:
        """The columns, images and strongest words as tables on standard output, colored where that is a terminal."""
        from polydetr.explain.terminal import print_explanation

        print_explanation(self, count=count)


def _image(image: ExplainedImage) -> dict[str, Any]:
    """All but the pixels."""
    shown: dict[str, Any] = {
        "column": image.column,
        "index": image.index,
        "score": image.score,
        "place": image.place,
        "heat": image.heat.tolist(),
        "fit": image.fit,
    }
    if image.box is not None and image.gaze is not None:
        shown |= {"box": list(image.box), "gaze": image.gaze.tolist(), "gaze_inside": image.gaze_inside}
    return shown
