"""Answers written to files: the one way that ``LoadedModel.write`` and the command line share.

JSON lines hold the answers alone; tables (CSV, TSV, Parquet, Excel) hold the user's own columns with the answers beside
them, see ``engine.answer_table``. All take their place when they are whole.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, TextIO

from polydetr.core.files import is_stream, json_text, save_text, saved
from polydetr.data.writers import TABLES, TableWriter, check_table, table_writer
from polydetr.engine.answer_table import AnswerTable, own_row
from polydetr.engine.engine import Engine
from polydetr.engine.outputs import Answer
from polydetr.errors import InputError, SaveError, listed, quoted
from polydetr.tasks.capabilities import FindsInImages

JSON_LINES = (".jsonl", ".ndjson")
LOOKED_AT = 1_000
"""Rows whose columns are the user's columns of a table: rows of JSON need not all have the same."""


class WritingWarning(UserWarning):
    """What was written is not all that there was, or is called otherwise: a column's name was taken, a text was too
    long for a cell, the reports of a model were gone.
    """


@dataclass(frozen=True)
class Written:
    """How many rows were answered, and how many were rejected: those have their reason under ``error``."""

    answered: int
    rejected: int


class _Sink(Protocol):
    """One place where answers go."""

    def write(self, answer: Answer) -> None: ...


def check_outputs(out: str | Path | None, html: str | Path | None, *, rows: Any) -> None:
    """What can be known before any work begins. out: holds the answers, html: their page; rows: what is answered.

    Raises:
        InputError: no table or JSON lines are called so, or a file would take the place of the rows or of the other.
        SaveError: a folder is not there (it is not made: a misspelled one would go unnoticed), or what writes such a
        file is not installed.
    """
    named = {"--out": out, "--html": html}
    paths = {option: Path(path) for option, path in named.items() if path is not None}
    for option, path in paths.items():
        if not path.parent.exists():
            raise SaveError(
                f"cannot write {str(path)!r}: there is no such folder.", hint="Make it, or name another file."
            )
        if isinstance(rows, str | Path) and _is_one_file(Path(rows), path):
            raise InputError(f"{str(path)!r} is the file of the rows itself.", hint=f"Name another file for {option}.")
    if len(paths) == 2 and _is_one_file(*paths.values()):
        raise InputError(f"{str(html)!r} is the file of the answers, too.", hint="Name another file for --html.")
    if out is not None and _is_table(Path(out)):
        check_table(Path(out))


def check_can_show(engine: Engine, *, draw: bool = False, probabilities: bool = False) -> None:
    """Raises InputError where no target of the model answers with boxes that could be drawn, or with classes."""
    tasks = engine.tasks.values()
    if draw and not any(isinstance(task, FindsInImages) for task in tasks):
        raise InputError("this model finds no objects in images.", hint="Leave draw out (predict --draw).")
    if probabilities and all(len(t.answer_columns()) == len(t.answer_columns(probabilities=True)) for t in tasks):
        raise InputError(
            "this model answers with no classes.", hint="Leave probabilities out (predict --probabilities)."
        )


def _is_one_file(one: Path, other: Path) -> bool:
    """Whether both name one place, through links too; nothing takes the place of a pipe or a device."""
    try:
        if is_stream(one) or is_stream(other):
            return False
        there = one.exists() and other.exists()
        return one.samefile(other) if there else os.path.realpath(one) == os.path.realpath(other)
    except (OSError, ValueError):  # no name that a file can have
        return False


def write_answers(
    answers: Iterable[Answer],
    engine: Engine,
    out: Path | TextIO | None,
    *,
    html: Path | None = None,
    draw: Path | None = None,
    title: str = "Answers",
    probabilities: bool = False,
    withheld: Sequence[str] = (),
    progress: Callable[[int], None] | None = None,
) -> Written:
    """Writes each answer to all that was named; arguments: see ``LoadedModel.write``. withheld: the targets whose
    answers may be withheld.

    Raises:
        SaveError: a file cannot be written.
    """
    answered = rejected = 0
    with ExitStack() as stack:
        sinks = [stack.enter_context(sink) for sink in _sinks(engine, out, html, title, probabilities, withheld)]
        for number, answer in enumerate(answers, start=1):
            for sink in sinks:
                sink.write(answer)
            if draw is not None:
                from polydetr.engine.render import draw_answer

                draw_answer(engine, answer, draw)
            rejected += answer.error is not None
            answered += answer.error is None
            if progress is not None:
                progress(number)
    return Written(answered, rejected)


def _sinks(
    engine: Engine,
    out: Path | TextIO | None,
    html: Path | None,
    title: str,
    probabilities: bool,
    withheld: Sequence[str],
) -> Iterator[Any]:
    """Context managers, each of a ``_Sink``."""
    if isinstance(out, Path):
        files = None if is_stream(out) else out.with_name(f"{out.name}-files")
        if _is_table(out):
            table = AnswerTable(engine.tasks, probabilities=probabilities, withheld=withheld, files=files)
            yield _table(out, table)
        else:
            yield _json_lines(out, files, probabilities)
    elif out is not None:
        yield _each(lambda answer: out.write(json_text(answer.to_dict(probabilities=probabilities)) + "\n"))
    if html is not None:
        yield _page(engine, html, title)


@dataclass(frozen=True)
class _Function:
    function: Callable[[Answer], Any]

    def write(self, answer: Answer) -> None:
        self.function(answer)


@contextmanager
def _each(function: Callable[[Answer], Any]) -> Iterator[_Sink]:
    yield _Function(function)


@contextmanager
def _json_lines(path: Path, files: Path | None, probabilities: bool) -> Iterator[_Sink]:
    with saved(path) as file:
        yield _Function(
            lambda a: file.write((json_text(a.to_dict(files=files, probabilities=probabilities)) + "\n").encode())
        )


@contextmanager
def _page(engine: Engine, path: Path, title: str) -> Iterator[_Sink]:
    from polydetr.engine.answers_page import PageOfAnswers

    page = PageOfAnswers(engine, title)
    yield page
    save_text(path, page.html())


@contextmanager
def _table(path: Path, table: AnswerTable) -> Iterator[_Sink]:
    with saved(path) as file:
        rows = _TableRows(path, file, table)
        yield rows
        for message in rows.close():
            warnings.warn(f"{path}: {message}", WritingWarning, stacklevel=2)


class _TableRows:
    """The answers as rows of a table, whose columns are those of the first ``LOOKED_AT`` rows."""

    def __init__(self, path: Path, file: IO[bytes], table: AnswerTable) -> None:
        self._path, self._file, self._table = path, file, table
        self._own: dict[str, None] = {}
        self._waiting: list[tuple[Any, list[Any]]] = []
        self._writer: TableWriter | None = None
        self._late: dict[str, int] = {}

    def write(self, answer: Answer) -> None:
        row, cells = own_row(answer), self._table.cells(answer)
        if self._writer is not None:
            if answer.record is not None and len(self._late) < LOOKED_AT and not self._own.keys() >= row.keys():
                self._late |= {name: answer.row for name in row if name not in self._own | self._late}
            self._writer.write([*(row.get(name) for name in self._own), *cells])
            return
        if answer.record is not None:
            self._own |= dict.fromkeys(row)
        self._waiting.append((row, cells))
        if len(self._waiting) >= LOOKED_AT:
            self._begin()

    def close(self) -> list[str]:
        """Writes what is left; returns messages."""
        writer = self._writer or self._begin()
        messages = []
        if renamed := self._table.renamed(self._own):
            stand = f"the answers stand in {listed(renamed.values())}"
            messages.append(f"the rows have columns called {listed(renamed)}: {stand}")
        if self._late:
            name, row = next(iter(self._late.items()))
            messages.append(
                f"columns that no row has before row {LOOKED_AT + 1:,} are left out: {listed(self._late)} (first in "
                f"row {row:,}, {quoted(name)}); give them an empty value (null) in the first row"
            )
        return [*messages, *writer.close()]

    def _begin(self) -> TableWriter:
        self._writer = writer = table_writer(self._path, self._file, self._table.columns(self._own))
        for row, cells in self._waiting:
            writer.write([*(row.get(name) for name in self._own), *cells])
        self._waiting.clear()
        return writer


def _is_table(path: Path) -> bool:
    """Raises InputError where the name says neither a table nor JSON lines; a pipe or device needs to say nothing."""
    suffix = path.suffix.lower()
    if suffix in TABLES:
        return True
    if suffix not in JSON_LINES and not is_stream(path):
        raise InputError(
            f"answers are not written as {quoted(suffix or path.name)}.",
            hint=f"End the file's name in one of {', '.join((*TABLES, *JSON_LINES))}.",
        )
    return False
