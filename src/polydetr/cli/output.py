"""What the command line prints: answers on standard output or into a whole file, messages on standard error."""

from __future__ import annotations

import codecs
import contextlib
import io
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from polydetr.core.files import json_text
from polydetr.errors import escaped, shown

if TYPE_CHECKING:
    from polydetr.data.inspect import Inspection
    from polydetr.metrics.calibration import Threshold

_ESCAPED = "polydetr.escaped"


@contextlib.contextmanager
def counting() -> Iterator[Callable[[int], None] | None]:
    """Shows the number of rows that are answered, on a terminal, while it is told of them."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    with Console(stderr=True).status("reading") as status:
        yield lambda number: status.update(f"{number:,} rows answered")


@contextlib.contextmanager
def stdout_kept_clean(wanted: bool) -> Iterator[None]:
    """What libraries print goes to standard error, so that --json is alone on standard output."""
    with contextlib.redirect_stdout(sys.stderr) if wanted else contextlib.nullcontext():
        yield


def fit_streams_to_encoding() -> None:
    """What the encoding of a terminal or of a redirected file lacks is written as JSON's escapes (\\u53bb)."""
    codecs.register_error(_ESCAPED, _escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ESCAPED)


def _escape(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    halves = lacking.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in zip(halves[::2], halves[1::2], strict=True)), error.end


def say(message: str) -> None:
    """One line of progress or a warning, on standard error."""
    print(escaped(message), file=sys.stderr, flush=True)


def show(text: str = "") -> None:
    """Text for people, on standard output; what stands in the data commands no terminal."""
    print(escaped(text))


def print_inspection(inspection: Inspection) -> None:
    """Its tables, in lines that the encoding of standard output has."""
    from rich.console import Console

    Console(width=110, color_system=None).print(inspection)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json_text(value, indent=1))


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
            figures = "  ".join(f"{name} {_figure(value)}" for name, value in values.items())
            show(f"{split + ' ' if split else ''}{shown(target)}: {figures}")


def _figure(value: float | None) -> str:
    """A score; "-" where it is not defined."""
    if value is None or value != value:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


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
