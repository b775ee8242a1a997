"""The steps of a run on few rows (``few_rows``)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from polydetr.config.loading import is_given, join_key
from polydetr.config.sections import Config, TrainingConfig
from polydetr.core.documents import EncodedDocument
from polydetr.core.records import Record
from polydetr.engine.engine import Engine
from polydetr.model.build import Assembly
from polydetr.model.precision import Plain, Precision, apply
from polydetr.tasks.classification import ClassificationTask
from polydetr.training.checkpoint import Progress, frozen_digest
from polydetr.training.contrastive import learned_below_heads
from polydetr.training.cross_fitted import cross_fitted
from polydetr.training.encode import (
    EncodedRows,
    MeasuredRows,
    Splits,
    encode_measured_rows,
)
from polydetr.training.few_rows import MOST_UNLABELLED, seconds_for, train_few_rows
from polydetr.training.few_watch import Clock, Watch
from polydetr.training.precision import set_precision
from polydetr.training.run import Run, fingerprint_of, hash_rows
from polydetr.training.signals import asked_to_stop

_USED = frozenset({"few_rows", "precision", "devices", "keep_rows"})
"""Settings of the training that hold here, too."""


def train_few(
    run: Run, assembly: Assembly, rows: EncodedRows, splits: Splits, *, resume: bool
) -> tuple[EncodedRows, Progress, Plain, Assembly]:
    """Few rows (``few_rows``). Returns as ``_train``, and what answers the validation rows: the model, or where these
    are the training rows, models that had not seen them.

    Raises:
        Interrupted: Ctrl-C or a termination signal; the folds that are done are kept. ModelFolderError: the checkpoint
            to go on from is that of another run.
    """
    config, engine, display, checkpoints = run.config, assembly.engine, run.display, run.checkpoints
    model = assembly.model.to(run.devices.device)
    documents = rows.valid.documents
    if not splits.is_held_out:
        documents = encode_measured_rows(
            engine, splits.train, config, splits.rejected, split="training", notify=run.notify
        ).documents
    unlabelled = _encoded_unlabelled(run, engine, splits.unlabelled)
    pretrained = learned_below_heads(model)
    saved = checkpoints.header().get("precision") if resume else None
    precision = set_precision(run, assembly.runner, saved or config.training.precision, rows.train)
    # Nothing else goes on from here: the rows without labels are a part of what it is known by.
    others = frozen_digest(model) + hash_rows(splits.unlabelled)
    header = {
        "fingerprint": fingerprint_of(run.identity, run.schema, run.rows_hash, others),
        "precision": precision,
        "budget": {} if run.budget is None else run.budget.decided,
    }
    (task,) = engine.tasks.values()
    assert isinstance(task, ClassificationTask)
    if unused := _unused(config, task):
        display.note(f"few rows: not used here: {', '.join(unused)} (training.few_rows: false uses them)")
    left = None if run.budget is None else max(0.0, 0.6 * run.budget.left())
    clock = Clock(seconds_for(len(documents), len(task.labels)), left)
    with asked_to_stop() as stop:
        watch = Watch(display, clock, stop, checkpoints=checkpoints, header=header, resume=resume)
        try:
            if watch.logits is None:
                found = train_few_rows(
                    assembly, documents, unlabelled, pretrained=pretrained, seed=config.seed, watch=watch
                )
                watch.check()
                checkpoints.save_best(found.weights)
                watch.ended(found.logits, found.epochs)
        except KeyboardInterrupt:
            raise watch.interrupted() from None
    logits, progress = watch.logits, watch.progress
    assert logits is not None
    apply(model, Precision(precision))
    if not splits.is_held_out:
        return replace(rows, valid=replace(rows.valid, is_unseen=True)), progress, precision, assembly
    unseen = np.flatnonzero(~np.isnan(logits).any(1))
    measured = [documents[i] for i in unseen.tolist()]
    if len(measured) == len(documents):
        display.note(
            f"nothing is held out in the end: each of the {len(documents)} rows is answered by a model that had not "
            "seen it, which measures and calibrates the one that has seen them all"
        )
    else:
        display.note(f"the {len(measured)} rows that the backbone has not seen measure and calibrate the model")
    rows = replace(rows, valid=MeasuredRows(measured, {}, is_unseen=True))
    answering = cross_fitted(assembly, measured, next(iter(engine.tasks)), logits[unseen])
    return rows, progress, precision, answering


def _unused(config: Config, task: ClassificationTask) -> list[str]:
    """The keys of the configuration that the user set, and that only the usual training knows."""
    keys = [f"training.{name}" for name in TrainingConfig.model_fields if name not in _USED]
    named = [join_key(("tasks", task.target, "metric"))] if task.options.metric else []
    return [key for key in keys if is_given(config, key)] + named


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
