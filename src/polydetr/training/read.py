"""The rows of a run and their schema, from the user's files, frames or lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polydetr.config.sections import Config
from polydetr.core.records import ReadReport, Record
from polydetr.data.leaks import find_leaks
from polydetr.data.readers import TEST_PARTS, TRAIN_PARTS, VALID_PARTS, read_records
from polydetr.data.splits import split_records
from polydetr.errors import Location, SchemaError
from polydetr.schema.infer import infer_schema
from polydetr.schema.spec import Schema
from polydetr.training.encode import Splits
from polydetr.training.loop import Display

SAMPLE_ROWS = 2000
"""Rows from which a schema is inferred."""


def read_splits(config: Config, *, train: Any, valid: Any, test: Any, display: Display) -> tuple[Splits, Schema]:
    """The splits, and the schema, which is inferred from the training rows where the configuration leaves it open; what
    was inferred is shown.

    Raises:
        InputError: no rows, or rows that cannot be read; see ``read_records`` and ``infer_schema``.
    """
    source = train if train is not None else config.train
    if source is None:
        raise SchemaError("no training rows were given", hint="Name them: train='file.csv' (--train FILE).")
    report = ReadReport()

    def read(rows: Any, part: Sequence[str]) -> list[Record]:
        return list(
            read_records(
                rows,
                format=config.format,
                encoding=config.encoding,
                on_error=config.on_error,
                report=report,
                images=config.image.root,
                split=part,
            )
        )

    rows = read(source, TRAIN_PARTS)
    if not rows:
        raise SchemaError(
            "there are no training rows", location=Location(file=source if isinstance(source, str) else None)
        )
    schema = infer_schema(
        [r.row for r in rows[:: max(1, len(rows) // SAMPLE_ROWS)]], targets=config.target or None, inputs=config.inputs
    )
    for message in schema.messages:  # before anything is split, which may fail by them
        display.note(message)
    valid = valid if valid is not None else config.valid
    test = test if test is not None else config.test
    held_out = None
    if valid is None:
        by = next((t.name for t in schema.targets if t.task == "classification"), None)
        rows, held_out = split_records(
            rows, config.training.valid_fraction, seed=config.seed, stratify_by=by, texts=schema.names("text")
        )
    splits = Splits(
        rows,
        held_out if held_out is not None else read(valid, VALID_PARTS),
        read(test, TEST_PARTS) if test is not None else None,
        [r.to_dict() for r in report.rejected],
    )
    warnings = (*report.lines(), *find_leaks([r.row for r in rows], schema))
    for message in (*warnings, *_messages(config, schema, splits, is_held_out=held_out is not None)):
        display.note(message)
    return splits, schema


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
    limit = f", {config.time_limit:g} s at most" if config.time_limit else ""
    how = "--preset fast, balanced or best; --time-limit 10m"
    lines.append(f"preset {config.preset!r}: up to {config.epochs:g} epoch{'s' * (config.epochs != 1)}{limit} ({how})")
    return lines
