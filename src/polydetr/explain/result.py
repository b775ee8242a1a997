"""An explanation: what it says, as JSON, HTML, PNG and a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polydetr.reports import deletion_verdict, explanation_html, explanation_png, write_text

ROLLOUT = "rollout"


@dataclass(frozen=True, slots=True)
class ExplainedWord:
    """A word, ``row[field][start:end]`` of the original string, and how much it speaks for (+) or against (-) the
    answer.
    """

    field: str
    start: int
    end: int
    text: str
    score: float
    in_answer: bool = False


@dataclass(frozen=True)
class Explanation:
    """Why the model gave one answer to one row.

    answer: what is explained, in words; prediction: the row's whole prediction, as ``predict`` gives it.
    quantity, value, baseline: the explained number, for the text and for the same text with every word blanked; the
    words' scores
    add up to their difference within ``completeness_error``.
    deletion: see :func:`polydetr.reports.deletion_verdict`; None where too few words could be deleted.
    attention: "backbone" and "encoder" (where they have layers) and "rollout" through both → (words, words), row =
    the word that looks.
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
    attention: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def meaningful(self) -> bool | None:
        """Whether deleting the highest-scored words costs more than deleting random ones; None where it was not
        tried.
        """
        return None if self.deletion is None else deletion_verdict(self.deletion).meaningful

    @property
    def statement(self) -> str:
        """The deletion check in a sentence."""
        return "Deletion check: not run." if self.deletion is None else deletion_verdict(self.deletion).text

    @property
    def scores(self) -> list[float]:
        return [word.score for word in self.words]

    def top(self, count: int = 10) -> list[ExplainedWord]:
        """The words of largest score, whichever way they speak."""
        return sorted(self.words, key=lambda word: -abs(word.score))[:count]

    def to_dict(self) -> dict[str, Any]:
        """All of it in JSON's own types; numbers of the attention tables with five digits."""
        names = ("field", "start", "end", "text", "score", "in_answer")
        return {
            "target": self.target,
            "task": self.task,
            "prediction": self.prediction,
            "answer": self.answer,
            "explained": {
                "quantity": self.quantity,
                "value": self.value,
                "baseline": self.baseline,
                "completeness_error": self.completeness_error,
                "complete": self.is_complete,
            },
            "words": [{name: getattr(word, name) for name in names} for word in self.words],
            "deletion": None if self.deletion is None else dict(self.deletion),
            "meaningful": self.meaningful,
            "statement": self.statement,
            "attention": {name: np.round(table, 5).tolist() for name, table in self.attention.items()},
            "notes": list(self.notes),
        }

    def to_html(self) -> str:
        """One page that needs no other file and no network."""
        return explanation_html(
            [word.text for word in self.words],
            self.scores,
            title=self._title,
            prediction=self.answer,
            deletion=self.deletion,
            attention=self.attention.get(ROLLOUT),
        )

    def to_png(self, path: str | Path) -> Path:
        """The words as coloured boxes, with the deletion check below."""
        words = [word.text for word in self.words]
        explanation_png(words, self.scores, path, title=self._title, prediction=self.answer, deletion=self.deletion)
        return Path(path)

    def save(self, folder: str | Path, *, name: str = "explanation") -> list[Path]:
        """Writes ``NAME.html`` and ``NAME.png``.

        Raises:
            SaveError: the folder cannot be written to.
        """
        page = write_text(Path(folder) / f"{name}.html", self.to_html())
        return [page, self.to_png(Path(folder) / f"{name}.png")]

    @property
    def _title(self) -> str:
        return f"Why {self.target}: {self.answer.partition(' (')[0]}"

    def print(self, *, count: int = 10) -> None:
        """The strongest words as a table on standard output, coloured where that is a terminal."""
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        console = Console(highlight=False)
        console.print(f"[bold]{escape(self.target)}[/]: {escape(self.answer)}")
        console.print(f"{self.quantity} {self.value:.3f}; with every word blanked {self.baseline:.3f}")
        table = Table(box=None, header_style="bold")
        for header in ("word", "at", "score", "speaks"):
            table.add_column(header, justify="right" if header == "score" else "left")
        largest = max((abs(score) for score in self.scores), default=0.0) or 1.0
        several = len({word.field for word in self.words}) > 1
        for word in self.top(count):
            side, colour = ("for", "blue") if word.score > 0 else ("against", "dark_orange")
            bar = "█" * max(1, round(12 * abs(word.score) / largest)) if word.score else ""
            at = f"{word.field} {word.start}-{word.end}" if several else f"{word.start}-{word.end}"
            style = f"[{colour}]{bar} {side if word.score else 'nothing'}[/]"
            table.add_row(escape(word.text), escape(at), f"{word.score:+.3f}", style)
        console.print(table)
        console.print(f"[{'green' if self.meaningful else 'red'}]{escape(self.statement)}[/]", soft_wrap=True)
        for note in self.notes:
            console.print(escape(note), soft_wrap=True)
