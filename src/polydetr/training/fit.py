"""A whole run: read, build, train, calibrate, measure."""

from __future__ import annotations

import functools
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from polydetr.config.sections import Config
from polydetr.core.files import plain
from polydetr.core.predictions import Evaluation
from polydetr.core.records import Record
from polydetr.engine.profile import profile_of
from polydetr.errors import RowError
from polydetr.inference.kept_rows import KeptRows, chosen_rows
from polydetr.modalities.base import Notify
from polydetr.modalities.text import as_text
from polydetr.model.build import Assembly, build_model
from polydetr.model.folder import describe_model
from polydetr.model.precision import Plain
from polydetr.nn.cpu.threads import limited_to
from polydetr.schema.spec import Schema
from polydetr.training.adapters import add_adapters
from polydetr.training.beginning import begin
from polydetr.training.budget import Budget
from polydetr.training.callbacks import Display
from polydetr.training.cautions import length_of, short_run
from polydetr.training.checkpoint import Checkpoints, Progress, frozen_digest
from polydetr.training.devices import Devices, open_devices
from polydetr.training.encode import (
    EncodedRows,
    Splits,
    encode_rows,
    rejected_lines,
    rejected_row,
)
from polydetr.training.ending import after_training, draws_reports
from polydetr.training.features import with_features
from polydetr.training.few_rows import has_few_rows
from polydetr.training.few_run import train_few
from polydetr.training.finish import finish
from polydetr.training.freezing import stays_frozen
from polydetr.training.limited import encoded_in_time, few_in_time, plan_run, told_in_time
from polydetr.training.loop import Loop
from polydetr.training.metric_names import check_metrics
from polydetr.training.optimizer import MasterAdamW, parameter_groups
from polydetr.training.plan import Plan
from polydetr.training.precision import set_precision
from polydetr.training.progress_file import ProgressFile
from polydetr.training.run import ALONE, Hooks, Run, checkpoint_folder, fingerprint_of, hash_rows, resumes
from polydetr.training.tracking import Both


@dataclass(frozen=True)
class Trained:
    """A finished run. ``info`` is what the model folder keeps; ``evaluations`` by split and target; ``devices`` those
    it ran on, the first of which saves; ``failure``: what ended the measuring; ``step_losses``: see
    ``Progress.add_loss``; ``draws``: whether a time limit leaves time for the pictures of the report; ``kept``: the
    validation rows that the folder keeps.
    """

    assembly: Assembly
    info: dict[str, Any]
    evaluations: Mapping[str, Mapping[str, Evaluation]]
    before_calibration: Mapping[str, Evaluation]
    history: Sequence[Mapping[str, Any]]
    checkpoints: Checkpoints
    devices: Devices
    rejected: Sequence[Mapping[str, Any]]
    failure: Exception | None = None
    step_losses: Mapping[str, Any] = field(default_factory=dict)
    draws: bool = True
    kept: KeptRows | None = None


@contextmanager
def _smallest_floats_are_zero() -> Iterator[None]:
    """Denormal floats count as zero: weights that fade would otherwise take a hundred times as long. The setting is the
    process's own, so it is restored.
    """
    already = float(torch.tensor(1e-40) * 1.0) == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(already)


@_smallest_floats_are_zero()
def fit(
    config: Config, schema: Schema, splits: Splits, *, out: Path | None, resume: bool, display: Display,
    budget: Budget | None = None, hooks: Hooks = ALONE,
) -> Trained:  # fmt: skip
    """Trains one model. budget: what is left of a time limit; None where there is none. hooks: of one run of many.

    Raises:
        InputError, ConfigError, BackboneError, SaveError: before or between steps, naming what is wrong.
        Interrupted: stopped by the user; the checkpoint is kept.
    """
    started = time.monotonic()
    devices = open_devices(config.training.devices)
    if not devices.is_first:
        display = Display()
    notify = functools.cache(display.note)  # each message once
    rows_hash = hash_rows([*splits.train, *splits.valid])
    with checkpoint_folder(config, schema, rows_hash, out=out, devices=devices, notify=notify) as folder:
        checkpoints = Checkpoints(folder, devices)
        checkpoints.prepare()
        resume = devices.agree(resumes(checkpoints, wanted=resume, notify=notify))
        if budget is not None and resume:
            budget.kept = checkpoints.header().get("budget", {})
        if out is not None and devices.is_first:
            kept = checkpoints.header().get("progress", {}) if resume else {}
            display = Both(display, ProgressFile(folder, history=kept.get("history", [])))
        run = Run(config, schema, out, devices, checkpoints, display, notify, rows_hash, started, budget, config, hooks)
        try:
            return _fit(run, splits, resume=resume)
        except BaseException:
            checkpoints.tidy()
            raise


def _fit(run: Run, splits: Splits, *, resume: bool) -> Trained:
    schema, out, devices, display = run.schema, run.out, run.devices, run.display
    # A backbone may have to be fetched first, and the rows be written to the cache: once.
    assembly = devices.first_then_all(lambda: _build(run, splits, notify=display.note))
    few = has_few_rows(run.config, assembly, splits)
    if few and run.budget is not None and run.hooks.plans and devices.count == 1:
        few = few_in_time(run.config, splits, assembly, run.budget, notify=display.note)
    splits = splits.with_all_rows() if few else splits
    plan, whole = None, splits.train
    if not few and stays_frozen(run.config, assembly, len(splits.train)):
        frozen = run.config.training.model_copy(update={"freeze_backbones": True})
        run = replace(run, config=run.config.model_copy(update={"training": frozen}))
        display.note(
            f"{len(splits.train)} rows with images beside a table: the backbones stay as they are "
            "(training.freeze_backbones: false tunes them)"
        )
    if not few:
        if run.hooks.plans:
            display.note(length_of(run.config))
        run, assembly, plan = _planned(run, splits, assembly)
    config, engine = run.config, assembly.engine
    if config.training.few_rows and not few:
        display.note(
            "training.few_rows is for one target of classes over a pretrained backbone: it changes nothing here"
        )
    if splits.unlabelled and not few:
        display.note(
            f"the {len(splits.unlabelled)} unlabelled rows are left aside: they help where one target of classes is "
            "learned from few rows over a pretrained backbone (training.few_rows)"
        )
    data_hash = hash_rows(splits.train)
    if run.hooks.encode is not None:
        encode = run.hooks.encode
    else:
        in_time = encoded_in_time(run.budget, plan) if run.budget is not None else None
        encode = functools.partial(encode_rows, in_time=in_time)
    encoded = devices.first_then_all(lambda: encode(engine, splits, config, data_hash, notify=run.notify))
    check_metrics(engine, encoded.valid.choosing)
    if few:  # they were read twice
        places = ("file", "row", "line", "reason")
        splits.rejected[:] = {tuple(e.get(p) for p in places): e for e in splits.rejected}.values()
    if splits.rejected:
        for message in rejected_lines(splits.rejected, listed=out is not None):
            display.note(message)
    measured_as = assembly
    with limited_to(run.budget.decided.get("threads") if run.budget is not None else None):
        if few:
            rows, progress, precision, measured_as = train_few(run, assembly, encoded, splits, resume=resume)
        else:
            rows, progress, precision = _train(run, assembly, encoded, resume=resume, plan=plan, whole=whole)
        measured = finish(run, assembly, rows, trained_in=precision, measured_as=measured_as, few=few)
    before, evaluations = measured.before, measured.evaluations
    run.hooks.measured(measured_as.engine, rows.valid)
    # Cross-validation and the time decide how long a run on few rows is.
    for message in (
        () if few else short_run(engine.tasks, progress, epochs=config.epochs or 0.0, time_limit=config.time_limit)
    ):
        display.note(message)
    info = {
        **describe_model(config, schema, assembly.model),
        **_describe(splits, encoded),
        "profile": profile_of(engine.encoder, splits.train),
        "data_sha256": data_hash,
        "embed_dim": assembly.model.embed_dim,
        "training": {
            "steps": progress.step,
            "seconds": round(progress.seconds, 1),
            "tokens_per_second": round(progress.tokens / max(progress.step_seconds, 1e-9)),
            "best_step": progress.best_step,
            "precision": precision,
            "cross_validated": few and splits.is_held_out,
            "total_seconds": round(time.monotonic() - run.started, 1),
        },
        "prediction": measured.prediction,
        "metrics": {split: {t: dict(e.metrics) for t, e in by.items()} for split, by in evaluations.items()},
        "ece_before_calibration": {t: e.metrics["ece"] for t, e in before.items() if "ece" in e.metrics},
        "temperature": {t: task.temperature for t, task in engine.tasks.items()},
        "history": progress.history,
    }
    rejected = tuple(splits.rejected)
    draws = run.budget is None or draws_reports(run.budget, notify=display.note)
    return Trained(
        assembly, info, evaluations, before, progress.history, run.checkpoints, devices, rejected, measured.failure,
        {"steps_per_loss": progress.steps_per_loss, "losses": progress.losses}, draws,
        chosen_rows(encoded.valid.documents, encoded.valid.positives, engine.tasks, most=config.training.keep_rows),
    )  # fmt: skip


def _planned(run: Run, splits: Splits, assembly: Assembly) -> tuple[Run, Assembly, Plan | None]:
    """The run as a time limit allows it, its model, and the plan; the splits keep the rows that are read."""
    budget, config = run.budget, run.config
    if budget is None or run.devices.count > 1 or not run.hooks.plans:
        return run, assembly, None
    built = time.monotonic() - run.started
    config, plan = plan_run(config, run.schema, splits, assembly, budget, built=built, notify=run.display.note)
    if plan is not None and plan.image_size is not None:
        assembly = _build(replace(run, config=config), splits, notify=run.notify)
    return replace(run, config=config), assembly, plan


def _train(
    run: Run, assembly: Assembly, rows: EncodedRows, *, resume: bool, plan: Plan | None, whole: Sequence[Record]
) -> tuple[EncodedRows, Progress, Plain]:
    """Precision, adapters, optimizer, loop. Returns the rows as the loop read them, where the run ended, and in which
    precision. whole: the training rows before a plan made them fewer.
    """
    config, devices, checkpoints, display = run.config, run.devices, run.checkpoints, run.display
    settings, model = config.training, assembly.model
    devices.same_weights(model.to(devices.device))
    saved = checkpoints.header().get("precision") if resume else None
    measured = run.budget.precision if run.budget is not None and devices.count == 1 else None
    precision = set_precision(run, assembly.runner, saved or settings.precision, rows.train, measured=measured)
    torch.manual_seed(config.seed)
    if settings.lora.rank:
        wrapped = add_adapters(model, rank=settings.lora.rank, alpha=settings.lora.alpha)
        display.note(f"adapters of rank {settings.lora.rank} in {len(wrapped)} layers; the backbone itself is frozen")
    pretrained = any(m.is_pretrained for m in assembly.engine.encoder.modalities.values())
    if settings.freeze_backbones:
        raw, limit = rows, run.budget if devices.count == 1 else None
        featured = run.hooks.with_features or with_features
        rows = devices.first_then_all(lambda: featured(assembly, raw, notify=run.notify, budget=limit))
        display.note(f"the backbones are frozen: their features were computed once, for {len(rows.train)} rows")
    if run.budget is not None:
        told_in_time(run.budget, plan, rows, notify=display.note)
    started = begin(run, assembly, rows, whole, resume=resume)
    devices.same_weights(model)
    groups = parameter_groups(
        model,
        lr=settings.lr if pretrained else settings.head_lr,
        head_lr=settings.head_lr,
        fitted_lr=min(settings.lr, settings.head_lr),
        layer_decay=settings.layer_decay,
        weight_decay=settings.weight_decay,
        freeze_embeddings=settings.freeze_embeddings and pretrained,  # random ones are worth nothing yet
        freeze_layers=settings.freeze_layers,
    )
    optimizer = MasterAdamW(groups, clip_norm=settings.clip_norm, ema_decay=settings.ema_decay or None)
    if not devices.is_first:
        torch.manual_seed(config.seed + devices.rank)  # each device has a dropout of its own
    fingerprint = fingerprint_of(run.identity, run.schema, run.rows_hash, frozen_digest(model))
    reserving: dict[str, Any] = {}
    about = plain(describe_model(config, run.schema, model))  # for `polydetr runs`, should this one be interrupted
    header: dict[str, Any] = {"fingerprint": fingerprint, "precision": precision, "run": about}
    prepared = time.monotonic() - run.started
    if run.budget is not None:
        proves = settings.precision == "auto" and not settings.freeze_backbones
        reserving["reserve"] = after_training(run.budget, assembly, rows, proves=proves)
        header["budget"] = run.budget.decided
        prepared = run.budget.spent()
    loop = Loop(
        assembly,
        optimizer,
        config,
        devices=devices,
        checkpoints=checkpoints,
        header=header,
        prepared=prepared,
        displays=(display,),
        looks_first=bool(model.additive) or started,
        start_margin=_start_margin(assembly),
        on_evaluation=run.hooks.on_evaluation,
        until=(run.hooks.again.step, run.hooks.again.steps) if run.hooks.again else None,
        **reserving,
    )
    return rows, loop.run(rows.train, rows.valid.choosing, resume=resume), precision


def _start_margin(assembly: Assembly) -> float | None:
    """See ``Loop``. A network over cells alone learns little by heart; over images or texts beside them it does, and
    seems better by luck on a few dozen validation rows (``benchmarks/mixed.py``). Targets that no start was fitted to
    have nothing to hold on to.
    """
    additive = assembly.model.additive
    if not additive:
        return None
    beside = set(assembly.model.embedders) > set(additive.values())
    return 1.0 if beside and set(assembly.engine.tasks) == set(additive) else 0.0


def _build(run: Run, splits: Splits, *, notify: Notify) -> Assembly:
    """The model; with ``on_error: skip`` rows whose labels or texts cannot be read are rejected on the way."""
    config, schema, again = run.config, run.schema, run.hooks.again
    while True:
        try:
            return build_model(config, schema, splits.train, notify=notify, states=again.tasks if again else {})
        except RowError as error:
            bad, located = _find_row(error, schema, splits.train)
            if config.on_error == "raise" or bad is None:
                raise located from None
            splits.rejected.append(rejected_row(bad, located))
            splits.train = [record for record in splits.train if record is not bad]


def _find_row(error: RowError, schema: Schema, records: Sequence[Record]) -> tuple[Record | None, RowError]:
    """The record that ``error`` is about, if it can be found: building reads all rows at once. With the error, located
    where it is known.
    """
    place = error.location
    for record in records:
        here = record.location
        if (
            place
            and (place.row or place.line)
            and (place.file, place.row, place.line) == (here.file, here.row, here.line)
        ):
            return record, error.at(record.location)
    for record in records:
        try:
            for name in schema.names("text"):
                as_text(record.row.get(name), field=name)
        except RowError as unreadable:
            return record, unreadable.at(record.location)
    return None, error


def _describe(splits: Splits, rows: EncodedRows) -> dict[str, Any]:
    """Machine and sizes of the splits, as the model folder records them."""
    sizes = {
        "train": splits.train, "valid": rows.valid.records, "test": rows.test.records if rows.test else (),
        "rejected": splits.rejected,
    }  # fmt: skip
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {
        "machine": {
            "system": platform.system(),
            "device": device,
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
        },
        "rows": {name: len(rows) for name, rows in sizes.items()},
    }
