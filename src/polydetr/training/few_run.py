"""The steps of a run on few rows (``few_rows``)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from polydetr.core.documents import EncodedDocument
from polydetr.core.records import Record
from polydetr.engine.engine import Engine
from polydetr.errors import Interrupted
from polydetr.model.build import Assembly
from polydetr.model.precision import Plain
from polydetr.training.checkpoint import Progress, learning_state
from polydetr.training.cross_fitted import cross_fitted
from polydetr.training.encode import (
    EncodedRows,
    Splits,
    encode_measured_rows,
)
from polydetr.training.few_rows import MOST_UNLABELLED, train_few_rows
from polydetr.training.run import Run


def train_few(
    run: Run, assembly: Assembly, rows: EncodedRows, splits: Splits
) -> tuple[EncodedRows, Progress, Plain, Assembly]:
    """Few rows (``few_rows``), in float32. Returns as ``_train``, and what answers the validation rows: the model, or
    where these are the training rows, models that had not seen them.
    """
    config, engine, display = run.config, assembly.engine, run.display
    assembly.model.to(run.devices.device)
    documents = rows.valid.documents
    if not splits.is_held_out:
        documents = encode_measured_rows(
            engine, splits.train, config, splits.rejected, split="training", notify=run.notify
        ).documents
    unlabelled = _encoded_unlabelled(run, engine, splits.unlabelled)
    left = None if run.budget is None else max(0.0, 0.6 * run.budget.left())
    try:
        found = train_few_rows(assembly, documents, unlabelled, seed=config.seed, seconds=left, display=display)
    except KeyboardInterrupt:
        raise Interrupted("stopped; nothing is kept of a training from few rows, which takes a minute.") from None
    run.checkpoints.save_best(learning_state(assembly.model))
    progress = Progress(
        epoch=found.epochs, step=found.epochs, seconds=found.seconds, step_seconds=found.seconds, tokens=found.tokens,
        best_step=found.epochs, finished=True, history=found.history,
    )  # fmt: skip
    rows = replace(rows, valid=replace(rows.valid, is_unseen=True))
    if not splits.is_held_out:
        return rows, progress, "fp32", assembly
    display.note(
        f"nothing is held out in the end: each of the {len(documents)} rows is answered by a model that had not "
        "seen it, which measures and calibrates the one that has seen them all"
    )
    target = next(iter(engine.tasks))
    return rows, progress, "fp32", cross_fitted(assembly, documents, target, found.logits)


def _encoded_unlabelled(run: Run, engine: Engine, records: Sequence[Record]) -> list[EncodedDocument]:
    """``MOST_UNLABELLED`` of them at most; what is left out is told."""
    if len(records) > MOST_UNLABELLED:
        run.display.note(f"of {len(records):,} unlabelled rows {MOST_UNLABELLED:,} are read, drawn at random")
        records = random.Random(run.config.seed).sample(list(records), MOST_UNLABELLED)
    items = list(engine.encode(records, on_error="return"))
    rejected = [item for item in items if not isinstance(item, EncodedDocument)]
    if rejected:
        run.display.note(f"{len(rejected)} unlabelled rows cannot be read, for example: {rejected[0].error}")
    return [item for item in items if isinstance(item, EncodedDocument)]
