"""What the command line prints: answers on standard output or into a whole file, messages on standard error."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from polydetr.core.files import saved
from polydetr.errors import SaveError

if TYPE_CHECKING:
    from polydetr.metrics.calibration import Threshold


def counted(answers: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The answers, their number shown on a terminal while they come."""
    if not sys.stderr.isatty():
        yield from answers
        return
    from rich.console import Console

    with Console(stderr=True).status("reading") as status:
        for number, answer in enumerate(answers, start=1):
            status.update(f"{number:,} rows answered")
            yield answer


@contextlib.contextmanager
def output(path: Path | None) -> Iterator[TextIO]:
    """Standard output, or a file that appears only when it is whole.

    Raises:
        SaveError: it cannot be written. Its folder is not made: a misspelled one would go unnoticed.
    """
    if path is None:
        yield sys.stdout
        return
    if not path.parent.exists():
        raise SaveError(f"cannot write {str(path)!r}: there is no such folder.", hint="Make it, or name another file.")
    with saved(path) as file, io.TextIOWrapper(file, encoding="utf-8", newline="\n") as stream:
        yield stream


@contextlib.contextmanager
def stdout_kept_clean(wanted: bool) -> Iterator[None]:
    """What libraries print goes to standard error, so that --json is alone on standard output."""
    with contextlib.redirect_stdout(sys.stderr) if wanted else contextlib.nullcontext():
        yield


def say(message: str) -> None:
    """One line of progress or a warning, on standard error."""
    print(message, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, ensure_ascii=False, indent=1))


def print_entry(name: str, head: str, *paragraphs: str) -> None:
    """One entry of a list: its name, then its description, broken to the width of the terminal."""
    width = min(shutil.get_terminal_size().columns, 110)
    print(f"{name}  ({head})")
    for paragraph in paragraphs:
        indent = " " * 4
        print(textwrap.fill(paragraph, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False))
    print()


def print_metrics(metrics: dict[str, Any]) -> None:
    """metrics: split → target → metric → value; one line per target."""
    for split, targets in metrics.items():
        for target, values in targets.items():
            shown = "  ".join(f"{k} {v:,}" if isinstance(v, int) else f"{k} {v:.4f}" for k, v in values.items())
            print(f"{split + ' ' if split else ''}{target}: {shown}")


def describe_threshold(target: str, chosen: Threshold, wanted: float) -> str:
    """What a wanted accuracy costs, in one sentence."""
    low, high = chosen.coverage_interval
    answered = f"{chosen.coverage:.0%} of them ({low:.0%} to {high:.0%})"
    by = f"by {chosen.rows} answers to validation rows"
    if not chosen.reached:
        return (
            f"no threshold makes {target!r} right {wanted:.0%} of the time, {by}: {chosen.accuracy:.1%} is the most, "
            f"from a probability of {chosen.threshold:.3f} on"
        )
    if chosen.threshold == 0:
        return f"{target!r} is right {chosen.accuracy:.1%} of the time already, {by}: nothing is withheld"
    return f"{target!r} answers from a probability of {chosen.threshold:.3f} on: {answered}, {by}"
