"""Reports as tables: in colour on a terminal, as plain text everywhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from polydetr.errors import InputError
from polydetr.metrics import ClassReport, ClassRow, EntityReport

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_LONGEST = 60  # rows; a report of 150 classes is cut to the best and the worst, the JSON beside it holds all


def class_table(report: ClassReport, *, title: str = "By label") -> Table:
    """Precision, recall, F1 and support of every label, and the averages that the report's text shows."""
    averages = {row.label: row for row in (report.micro, report.macro, report.weighted)}
    foot: list[ClassRow | float] = [report.accuracy if name == "accuracy" else averages[name] for name in report.footer]
    return _scores_table(report.rows, foot, report.total, title=title)


def entity_table(report: EntityReport, *, title: str = "Entities by type") -> Table:
    """Strict scores of every type and their averages."""
    return _scores_table(report.rows, [report.micro, report.macro, report.weighted], report.sentences, title=title)


def matching_table(report: EntityReport, *, title: str = "How the matches differ") -> Table:
    """The four ways of matching, which tell wrong boundaries from wrong types."""
    table = _table(
        title, ["matching", "precision", "recall", "F1", "correct", "incorrect", "partial", "missed", "spurious"]
    )
    for name in ("strict", "exact", "partial", "type"):
        score = getattr(report, name)
        counts = (score.correct, score.incorrect, score.partial, score.missed, score.spurious)
        table.add_row(
            name, *(f"{v:.3f}" for v in (score.precision, score.recall, score.f1)), *(f"{n:,}" for n in counts)
        )
    return table


def metrics_table(metrics: Mapping[str, Mapping[str, float | None]], *, title: str = "Metrics") -> Table:
    """One row a metric, one column a split or target: ``{"valid": {"accuracy": 0.9}, "test": {...}}``."""
    names = list(dict.fromkeys(name for column in metrics.values() for name in column))
    table = _table(title, ["metric", *metrics])
    for name in names:
        table.add_row(_plain_cell(name), *(_number(column.get(name)) for column in metrics.values()))
    return table


def print_report(
    report: ClassReport | EntityReport, *, title: str | None = None, console: Console | None = None
) -> None:
    """To a terminal as a coloured table; to a file or a pipe as the plain text of ``report.to_text()``."""
    from rich.console import Console

    out = console or Console()
    if not isinstance(report, (ClassReport, EntityReport)):
        raise InputError(f"print_report takes a ClassReport or an EntityReport, got {type(report).__name__}.")
    if not out.is_terminal:
        text = report.to_text()
        out.print(f"{title}\n\n{text}" if title else text, markup=False, highlight=False, soft_wrap=True)
    elif isinstance(report, EntityReport):
        out.print(entity_table(report, **({"title": title} if title else {})))
        out.print(matching_table(report))
    else:
        out.print(class_table(report, **({"title": title} if title else {})))


def table_text(table: Table, *, width: int = 100) -> str:
    """A table as plain text without colour codes, for logs and files."""
    import io

    from rich.console import Console

    buffer = io.StringIO()
    Console(file=buffer, width=width, color_system=None, force_terminal=False, legacy_windows=False).print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def _scores_table(rows: tuple[ClassRow, ...], foot: list[ClassRow | float], total: int, *, title: str) -> Table:
    table = _table(title, ["label", "precision", "recall", "F1", "support"])
    shown: list[ClassRow | None] = list(rows)
    if len(rows) > _LONGEST:
        ranked = sorted(rows, key=lambda row: (-row.f1, row.label))
        shown = [*ranked[: _LONGEST // 6], None, *ranked[-(_LONGEST - _LONGEST // 6) :]]
    for i, row in enumerate(shown):
        if row is None:
            table.add_row(f"… {len(rows) - _LONGEST} more …", "", "", "", "", style="dim")
        else:
            table.add_row(*_cells(row), end_section=i == len(shown) - 1)
    for row in foot:
        if isinstance(row, ClassRow):
            table.add_row(*_cells(row), style="bold")
        else:
            table.add_row("accuracy", "", "", f"{row:.3f}", f"{total:,}", style="bold")
    return table


def _table(title: str, columns: list[str]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, header_style="dim")
    for i, name in enumerate(columns):
        table.add_column(_plain_cell(name), justify="left" if i == 0 else "right", no_wrap=i > 0)
    return table


def _cells(row: ClassRow) -> list[str]:
    return [_plain_cell(row.label), f"{row.precision:.3f}", f"{row.recall:.3f}", _shaded(row.f1), f"{row.support:,}"]


def _shaded(value: float) -> str:
    colour = "green" if value >= 0.9 else "yellow" if value >= 0.7 else "red"
    return f"[{colour}]{value:.3f}[/{colour}]"


def _plain_cell(text: str) -> str:
    """Square brackets in a label are text, not markup."""
    from rich.markup import escape

    return escape(text)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
