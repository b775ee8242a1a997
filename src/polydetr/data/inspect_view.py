"""An Inspection as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from polydetr.data.cautions import cautions_of_rows
from polydetr.data.statistics import SplitStats, shorten
from polydetr.errors import bounded, quoted, shown

if TYPE_CHECKING:
    from polydetr.data.inspect import Inspection

_LABELS_SHOWN = 12


def as_tables(inspection: Inspection) -> RenderableType:
    """One table of columns and one of labels per split, then whatever is wrong."""
    parts: list[RenderableType] = []
    for name, split in inspection.splits.items():
        parts += [*_columns(inspection, name, split), *_labels(split)]
    parts += [Text(bounded(line)) for line in findings(inspection)]
    return Group(*parts)


def _table(*columns: str) -> Table:
    table = Table()
    for i, column in enumerate(columns):
        table.add_column(column, overflow="fold", justify="left" if i in (0, 1, len(columns) - 1) else "right")
    return table


def _columns(inspection: Inspection, name: str, split: SplitStats) -> Iterator[RenderableType]:
    """The title and the table of a split's columns."""
    schema = inspection.schema
    kinds = {f.name: f.modality for f in schema.inputs} | {t.name: f"→ {t.task}" for t in schema.targets}
    yield Text(f"{name}: {split.rows:,} rows", style="bold")
    table = _table("column", "read as", "missing", "distinct", "words (max)", "for example")
    for column, stats in split.columns.items():
        info = stats.to_dict()
        words = f"{info['words']['median']} ({info['words']['max']})" if "words" in info else ""
        distinct = f"{info['distinct']:,}{'+' if info['distinct_capped'] else ''}"
        example = Text(info["examples"][0] if info["examples"] else "")
        kind = kinds.get(column, "ignore").replace("ignore", "– left out")
        table.add_row(Text(shown(column, 60)), kind, f"{stats.missing:,}", distinct, words, example)
    yield table


def _labels(split: SplitStats) -> Iterator[RenderableType]:
    """A title and a table per target: its numbers, or its most frequent labels and the rarest."""
    for name, target in split.targets.items():
        info = target.to_dict()
        if "numbers" in info:
            yield Text(f"{shown(name)} ({target.task})", style="bold")
            table = _table(*info["numbers"])
            table.add_row(*(f"{v:.4g}" for v in info["numbers"].values()))
            yield table
        elif target.counts:
            total = target.counts.total()
            title = f"{shown(name)} ({target.task}): {len(target.counts)} labels, imbalance {info['imbalance']:g}"
            yield Text(title, style="bold")
            table = _table("label", "count", "share")
            common = target.counts.most_common()
            rows = common if len(common) <= _LABELS_SHOWN else [*common[: _LABELS_SHOWN - 3], None, *common[-2:]]
            for item in rows:
                row = (Text(shorten(item[0], 40)), f"{item[1]:,}", f"{item[1] / total:.1%}") if item else ("…", "", "")
                table.add_row(*row)
            yield table


def findings(inspection: Inspection) -> list[str]:
    """One sentence per fault, the gravest kinds first; a good sentence when there is none."""
    lines = [f"Leak: {line}." for line in inspection.same_files]
    for what, leaks in (
        ("texts", inspection.leaks), ("images", inspection.shared_images), ("groups", inspection.shared_groups),
    ):  # fmt: skip
        for leak in leaks:
            if leak["count"]:
                a, b = leak["splits"]
                pairs = ", ".join(f"{e[a]}/{e[b]}" for e in leak["examples"][:5])
                lines.append(f"Leak: {leak['count']:,} {what} of {b} also stand in {a} (rows {pairs}).")
    lines += [*inspection.giveaways, *_cautions(inspection)]
    for name, split in inspection.splits.items():
        lines += _of_split(name, split)
        lines += [f"{name}: {line}" for line in inspection.reports[name].lines()]
    for target, suspicion in inspection.suspicious.items():
        if suspicion.count:
            share = f"{suspicion.count:,} of {suspicion.judged:,} rows"
            lines.append(f"Suspicious labels of {quoted(target)}: {share}. The clearest:")
        for s in suspicion.suspects:
            label, rather = (
                f"{quoted(s.label, 40)} ({s.probability:.2f})",
                f"{quoted(s.suggested, 40)} ({s.suggested_probability:.2f})",
            )
            lines.append(f"  row {s.row}: {label}, rather {rather}: {shorten(s.text)}")
        if suspicion.note:
            lines.append(f"Suspicious labels of {quoted(target)}: {suspicion.note}.")
    lines += inspection.schema.messages
    return lines or ["Nothing suspicious was found."]


def _cautions(inspection: Inspection) -> list[str]:
    """What the numbers of rows and of classes say."""
    tasks, splits = {t.name: t.task for t in inspection.schema.targets}, inspection.splits
    of_classes = [name for name, task in tasks.items() if task == "classification"]
    classes = {name: {split: stats.targets[name].counts for split, stats in splits.items()} for name in of_classes}
    return cautions_of_rows({split: stats.rows for split, stats in splits.items()}, tasks, classes)


def _of_split(name: str, split: SplitStats) -> list[str]:
    """A sentence per fault of one split."""
    lines = []
    if split.empty_texts:
        lines.append(f"{name}: {split.empty_texts:,} rows have no text (empty, None or NaN).")
    for target, stats in split.targets.items():
        if stats.missing:
            lines.append(f"{name}: {stats.missing:,} rows have no {quoted(target)}.")
        if stats.wrong:
            row, value = stats.wrong[0]
            lines.append(
                f"{name}: {len(stats.wrong):,} values of {quoted(target)} are not numbers (row {row}: {value})."
            )
        if stats.boxes_are_shares:
            lines.append(
                f"{name}: the boxes of {quoted(target)} lie between 0 and 1, as shares of their images; expected "
                "pixels, so that training would refuse them."
            )
        if stats.task == "classification" and len(stats.counts) == 1:
            lines.append(f"{name}: {quoted(target)} has one class only, {quoted(next(iter(stats.counts)))}.")
    if split.same_text:
        exact = f"{split.exact_duplicates:,} exactly, label included"
        where = _rows(split.same_text_examples)
        lines.append(f"{name}: {split.same_text:,} rows repeat the input of an earlier row, {exact}{where}.")
    if split.conflicts:
        first = split.conflict_examples[0]
        where = f"rows {first['rows'][0]} and {first['rows'][1]}: {' / '.join(first['labels'])}"
        lines.append(f"{name}: {split.conflicts:,} rows repeat an input under another label ({where}).")
    for column in split.columns.values():
        for row, size in column.long_words[:3]:
            lines.append(f"{name}, row {row}: column {quoted(column.name)} holds a word of {size:,} characters.")
    return lines


def _rows(examples: list[dict[str, Any]]) -> str:
    return f" (rows {', '.join('/'.join(map(str, e['rows'])) for e in examples[:3])})" if examples else ""
