"""The rows of a run and their schema, from the user's files, frames or lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from polydetr.config.sections import Config
from polydetr.core.reading import ExpectedColumns, Leaps, ReadOptions
from polydetr.core.records import ReadReport, Record
from polydetr.data.cautions import cautions_of_rows
from polydetr.data.leaks import find_leaks
from polydetr.data.overlap import overlap_lines
from polydetr.data.readers import TEST_PARTS, TRAIN_PARTS, VALID_PARTS, read_records
from polydetr.data.readers.header import header_explained
from polydetr.data.readers.lists import with_lists
from polydetr.data.splits import Holding, split_records, without_group
from polydetr.data.statistics import label_counts
from polydetr.errors import Location, SchemaError
from polydetr.schema.infer import REST, infer_schema
from polydetr.schema.spec import Schema
from polydetr.training.budget import Budget
from polydetr.training.callbacks import Display
from polydetr.training.check import check_columns
from polydetr.training.corrections import CorrectedRows
from polydetr.training.encode import Splits
from polydetr.training.limited import READING_SHARE, sample
from polydetr.training.reading import read_in_time

_LEAST_READ = 200
"""Rows of a file that are read however little time there is."""
SAMPLE_ROWS = 2000
"""Rows from which a schema is inferred."""


def read_splits(
    config: Config,
    *,
    train: Any,
    valid: Any,
    test: Any,
    display: Display,
    unlabelled: Any = None,
    corrections: Any = None,
    budget: Budget | None = None,
) -> tuple[Splits, Schema]:
    """The splits, and the schema, which is inferred from the training rows where the configuration leaves it open; what
    was inferred is shown. budget: what a time limit leaves; rows that do not fit into it are not read.

    Raises:
        InputError: no rows, or rows that cannot be read; see ``read_records`` and ``infer_schema``.
    """
    source = train if train is not None else config.train
    if source is None:
        raise SchemaError("no training rows were given", hint="Name them: train='file.csv' (--train FILE).")
    report = ReadReport()
    reading = ReadOptions(**config.reading.model_dump(), on_error=config.on_error)
    reading = replace(reading, images=reading.images or config.image.root)
    said = ExpectedColumns(tuple(name for name in config.inputs or () if name != REST), tuple(config.target))

    def read(
        rows: Any, expected: ExpectedColumns, parts: str | Sequence[str], leaps: Leaps | None = None
    ) -> Iterator[Record]:
        return read_records(rows, reading=reading, expected=expected, report=report, split=parts, leaps=leaps)

    def with_their_lists(records: Iterable[Record]) -> list[Record]:
        return list(with_lists(records, schema.lists, report=report, skip=config.on_error == "skip"))

    rows = _in_time(
        lambda leaps: read(source, said, reading.split or TRAIN_PARTS, leaps), "training", budget, display,
        seed=config.seed,
    )  # fmt: skip
    if not rows:
        raise SchemaError(
            "there are no training rows", location=Location(file=source if isinstance(source, str) else None)
        )
    sample = [r.row for r in rows[:: max(1, len(rows) // SAMPLE_ROWS)]]
    with header_explained(report):
        schema = infer_schema(
            sample, targets=config.target or None, inputs=without_group(config.inputs, config.group),
            options=config.tasks, declared=report.declared,
        )  # fmt: skip
    for message in schema.messages:  # before anything is split, which may fail by them
        display.note(message)
    corrections = corrections if corrections is not None else config.corrections
    corrected = None
    if corrections is not None:  # before the other files are read
        corrected = CorrectedRows.read(corrections, schema, on_error=config.on_error, report=report)
    rows = with_their_lists(_sampled(rows, "training", config, schema, budget, display))
    known = ExpectedColumns(tuple(f.name for f in schema.inputs), tuple(t.name for t in schema.targets))
    valid = valid if valid is not None else config.valid
    test = test if test is not None else config.test
    held_out = None
    holding = Holding.of(schema, rows, group=config.group)
    if valid is None:
        rows, held_out = split_records(rows, config.training.valid_fraction, seed=config.seed, holding=holding)

    def measured(source: Any, parts: str | Sequence[str], name: str) -> list[Record]:
        found = _in_time(lambda leaps: read(source, known, parts, leaps), name, budget, display, seed=config.seed)
        return with_their_lists(_sampled(found, name, config, schema, budget, display))

    unlabelled = unlabelled if unlabelled is not None else config.unlabelled
    inputs_alone, without_labels = replace(known, targets=()), list[Record]()
    if unlabelled is not None:
        without_labels = _in_time(
            lambda leaps: read(unlabelled, inputs_alone, TRAIN_PARTS, leaps), "unlabelled", budget, display,
            seed=config.seed,
        )  # fmt: skip
    parts = {"train": rows}
    parts["valid"] = held_out if held_out is not None else measured(valid, VALID_PARTS, "validation")
    if test is not None:
        parts["test"] = measured(test, TEST_PARTS, "test")
    if corrected is not None:
        parts, line = corrected.apply(parts)
        display.note(line)
    rows = parts["train"]
    splits = Splits(
        rows,
        parts["valid"],
        parts.get("test"),
        [r.to_dict() for r in report.rejected],
        is_held_out=held_out is not None,
        unlabelled=without_labels,
    )
    with header_explained(report):
        if held_out is None:
            check_columns(splits.valid, schema, split="valid")
        if splits.test is not None:
            check_columns(splits.test, schema, split="test")
    named = {"train": splits.train, "valid": splits.valid, **({"test": splits.test} if splits.test else {})}
    sources = {"train": source, "valid": valid, "test": test}
    assert holding.compared is not None
    copies = overlap_lines(named, holding.compared, sources=sources, group=config.group)
    leaks = find_leaks([r.row for r in rows], schema)
    warnings = (*report.lines(), *leaks, *copies, *_cautions(schema, named))
    for message in (*warnings, *_messages(config, schema, splits, is_held_out=held_out is not None)):
        display.note(message)
    return splits, schema


def _in_time(
    read: Callable[[Leaps], Iterable[Record]], name: str, budget: Budget | None, display: Display, *, seed: int
) -> list[Record]:
    """The rows, or some of them where a time limit does not leave the time for all."""
    leaps = Leaps()
    if budget is None:
        return list(read(leaps))
    share = READING_SHARE * (1.0 if name == "training" else 0.25)
    seconds = share * max(0.0, budget.left())
    found, which = read_in_time(
        read(leaps), leaps, budget, f"read {name}", seconds=seconds, least=_LEAST_READ, seed=seed
    )
    if which is not None:
        hint = "; shuffle the file where it is in an order, or give more time" if "first" in which else ""
        display.note(f"time limit: of the {name} rows {which} were read, the others not{hint}")
    return found


def _sampled(
    records: list[Record], name: str, config: Config, schema: Schema, budget: Budget | None, display: Display
) -> list[Record]:
    """The rows, or a sample of them where comparing all would take more of a time limit than its share."""
    if budget is None:
        return records

    def prepare(some: list[Record]) -> None:
        holding = Holding.of(schema, some, group=config.group)
        with suppress(SchemaError):
            kept, held = split_records(some, config.training.valid_fraction, seed=config.seed, holding=holding)
            assert holding.compared is not None
            overlap_lines({"train": kept, "valid": held}, holding.compared, sources={}, group=config.group)

    by = next((target.name for target in schema.targets if target.task == "classification"), None)
    return sample(records, budget, name, prepare, by=by, seed=config.seed, notify=display.note)


def _cautions(schema: Schema, splits: Mapping[str, Sequence[Record]]) -> list[str]:
    """What the numbers of rows and of classes say before training. splits: by name, the training rows first."""
    tasks = {target.name: target.task for target in schema.targets}
    of_classes = [name for name, task in tasks.items() if task == "classification"]
    classes = {
        name: {split: label_counts((r.row for r in rows), name) for split, rows in splits.items()}
        for name in of_classes
    }
    return cautions_of_rows({split: len(rows) for split, rows in splits.items()}, tasks, classes)


def _messages(config: Config, schema: Schema, splits: Splits, *, is_held_out: bool) -> list[str]:
    """What was inferred, and how to correct it."""
    read = [f"{f.name} ({f.modality})" for f in schema.inputs if f.modality != "ignore"]
    gives = ", ".join(f"{t.name} ({t.task})" for t in schema.targets)
    lines = [f"reads {', '.join(read)}; predicts {gives}"]
    if config.inputs is None and len(read) > 1:
        lines.append(
            "  read a column otherwise: --input NAME:MODALITY --input '*' (inputs={NAME: MODALITY, '*': None}); "
            "leave it out: NAME:ignore"
        )
    counts = f"{len(splits.train):,} training and {len(splits.valid):,} validation rows"
    lines.append(f"{counts}, the latter held out of the training rows, as none were given" if is_held_out else counts)
    return lines
