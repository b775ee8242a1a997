"""A whole run: read, build, train, calibrate, measure."""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polydetr.config.sections import Config
from polydetr.core.documents import EncodedDocument
from polydetr.core.files import cache_dir
from polydetr.core.lock import held
from polydetr.core.predictions import Evaluation
from polydetr.core.records import Record
from polydetr.data.store import ExampleStore
from polydetr.engine.engine import Engine
from polydetr.engine.measure import evaluation_warnings, with_coverage
from polydetr.engine.mistakes import with_mistakes
from polydetr.errors import Interrupted, RowError, SaveError
from polydetr.modalities.base import Notify
from polydetr.modalities.text import as_text
from polydetr.model.build import Assembly, build_model
from polydetr.model.folder import describe_model
from polydetr.model.masters import Masters
from polydetr.model.model import PolyModel
from polydetr.model.precision import ForTraining, Plain, Precision, apply, choose_for_prediction, choose_for_training
from polydetr.model.runner import TorchRunner
from polydetr.nn.batch import Batch
from polydetr.nn.cpu.threads import limited_to
from polydetr.schema.spec import Schema
from polydetr.training.adapters import add_adapters, plain_weights, remove_adapters
from polydetr.training.budget import Budget
from polydetr.training.calibrate import calibrate, measure_precision, proving_rows
from polydetr.training.cautions import short_run
from polydetr.training.checkpoint import Checkpoints, Progress, checkpoint_of, frozen_digest, learning_state
from polydetr.training.cross_fitted import cross_fitted, with_intervals
from polydetr.training.devices import Devices, open_devices
from polydetr.training.encode import (
    EncodedRows,
    MeasuredRows,
    Splits,
    encode_measured_rows,
    encode_rows,
    measure,
    rejected_lines,
    rejected_row,
)
from polydetr.training.features import with_features
from polydetr.training.few_rows import MOST_UNLABELLED, has_few_rows, train_few_rows
from polydetr.training.head_start import heads_to_start, start_heads
from polydetr.training.limited import after_training, draws_reports, fitting, plan_run
from polydetr.training.loop import Display, Loop
from polydetr.training.optimizer import MasterAdamW, parameter_groups
from polydetr.training.places import tracking_folder
from polydetr.training.start import start_from_tables
from polydetr.training.tracking import make_tracker


@dataclass(frozen=True)
class Trained:
    """A finished run. ``info`` is what the model folder keeps; ``evaluations`` by split and target; ``devices`` those
    it ran on, the first of which saves; ``failure``: what ended the measuring; ``step_losses``: see
    ``Progress.add_loss``; ``draws``: whether a time limit leaves time for the pictures of the report.
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


@dataclass
class _Measured:
    """What is known of a trained model. Whatever ends the measuring is kept as its ``failure``, to be raised once the
    model is saved: the training took hours, and this takes seconds.

    prediction: see ``_set_prediction``; before, evaluations: by target before the calibration, by split after it.
    """

    prediction: dict[str, Any]
    before: Mapping[str, Evaluation] = field(default_factory=dict)
    evaluations: dict[str, Mapping[str, Evaluation]] = field(default_factory=dict)
    failure: Exception | None = None

    @contextmanager
    def step(self) -> Iterator[None]:
        """One step of it; the next ones do without what it was to find."""
        try:
            yield
        except Exception as error:
            self.failure = self.failure or error


@dataclass(frozen=True)
class _Run:
    """What the steps of one run share. notify: shows a message, each once; rows_hash: of the training and validation
    rows; started: when it began, by ``time.monotonic``; budget: of its time limit. identity: what tells its checkpoint
    from those of other runs: the configuration before a plan changed it.
    """

    config: Config
    schema: Schema
    out: Path | None
    devices: Devices
    checkpoints: Checkpoints
    display: Display
    notify: Notify
    rows_hash: str
    started: float
    budget: Budget | None
    identity: Config


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
    budget: Budget | None = None,
) -> Trained:  # fmt: skip
    """Trains one model. budget: what is left of a time limit; None where there is none.

    Raises:
        InputError, ConfigError, BackboneError, SaveError: before or between steps, naming what is wrong.
        Interrupted: stopped by the user; the checkpoint is kept.
    """
    started = time.monotonic()
    devices = open_devices(config.training.devices)
    if not devices.is_first:
        display = Display()
    notify = functools.cache(display.note)  # each message once
    rows_hash = _hash_rows([*splits.train, *splits.valid])
    with _checkpoint_folder(config, schema, rows_hash, out=out, devices=devices, notify=notify) as folder:
        checkpoints = Checkpoints(folder, devices)
        checkpoints.prepare()
        resume = devices.agree(_resumes(checkpoints, wanted=resume, notify=notify))
        if budget is not None and resume:
            budget.kept = checkpoints.header().get("budget", {})
        run = _Run(config, schema, out, devices, checkpoints, display, notify, rows_hash, started, budget, config)
        try:
            return _fit(run, splits, resume=resume)
        except BaseException:
            checkpoints.tidy()
            raise


def _fit(run: _Run, splits: Splits, *, resume: bool) -> Trained:
    schema, out, devices, display = run.schema, run.out, run.devices, run.display
    # A backbone may have to be fetched first, and the rows be written to the cache: once.
    assembly = devices.first_then_all(lambda: _build(run.config, schema, splits, notify=display.note))
    few = has_few_rows(run.config, assembly, splits)
    splits = splits.with_all_rows() if few else splits
    if not few:
        run, assembly = _planned(run, splits, assembly)
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
    data_hash = _hash_rows(splits.train)
    encoded = devices.first_then_all(lambda: encode_rows(engine, splits, config, data_hash, notify=run.notify))
    if few:  # they were read twice
        places = ("file", "row", "line", "reason")
        splits.rejected[:] = {tuple(e.get(p) for p in places): e for e in splits.rejected}.values()
    if splits.rejected:
        for message in rejected_lines(splits.rejected, listed=out is not None):
            display.note(message)
    measured_as = assembly
    if few:
        rows, progress, precision, measured_as = _train_few(run, assembly, encoded, splits)
    else:
        rows, progress, precision = _train(run, assembly, encoded, resume=resume)
    weights = _restore_best(assembly.model, run.checkpoints)
    # Features that were computed once, by a frozen backbone, are measured as they are: in the backbone's own precision.
    proves = config.training.precision == "auto" and not config.training.freeze_backbones
    if run.budget is not None and devices.count == 1:
        rows, proves = fitting(run.budget, assembly, rows, proves=proves, notify=display.note)
    measured = _Measured({"precision": precision})
    with measured.step():
        measured.prediction = _set_prediction(run, assembly, weights, precision, rows.valid if proves else None)
    assembly.runner.masters = Masters(assembly.model, weights)
    del weights
    with measured.step():
        measured.before, measured.evaluations["valid"] = calibrate(measured_as, rows.valid, notify=display.note)
    with measured.step():
        if rows.test is not None:
            results, evaluated = measure(engine, rows.test)
            measured.evaluations["test"] = with_mistakes(engine, results, with_coverage(engine, results, evaluated))
    if few:
        measured.evaluations = {split: with_intervals(by) for split, by in measured.evaluations.items()}
    before, evaluations = measured.before, measured.evaluations
    for split, by_target in evaluations.items():
        for target, evaluation in by_target.items():
            for message in evaluation_warnings(
                engine.tasks[target], evaluation, where=f"the {split} rows", left_out=False
            ):
                display.note(message)
    for message in short_run(engine.tasks, progress, epochs=config.epochs or 0.0, time_limit=config.time_limit):
        display.note(message)
    info = {
        **describe_model(config, schema, assembly.model),
        **_describe(splits, encoded),
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
    )  # fmt: skip


def _planned(run: _Run, splits: Splits, assembly: Assembly) -> tuple[_Run, Assembly]:
    """The run as a time limit allows it, and its model; the splits keep the rows that are read."""
    budget, config = run.budget, run.config
    if budget is None or run.devices.count > 1:
        return run, assembly
    built = time.monotonic() - run.started
    config, plan = plan_run(config, run.schema, splits, assembly, budget, built=built, notify=run.display.note)
    if plan is not None and plan.image_size is not None:
        assembly = _build(config, run.schema, splits, notify=run.notify)
    return replace(run, config=config), assembly


def _train(run: _Run, assembly: Assembly, rows: EncodedRows, *, resume: bool) -> tuple[EncodedRows, Progress, Plain]:
    """Precision, adapters, optimizer, loop. Returns the rows as the loop read them, where the run ended, and in which
    precision.
    """
    config, devices, checkpoints, display = run.config, run.devices, run.checkpoints, run.display
    settings, model = config.training, assembly.model
    devices.same_weights(model.to(devices.device))
    saved = checkpoints.header().get("precision") if resume else None
    precision = _set_precision(run, assembly.runner, saved or settings.precision, rows.train)
    torch.manual_seed(config.seed)
    if settings.lora.rank:
        wrapped = add_adapters(model, rank=settings.lora.rank, alpha=settings.lora.alpha)
        display.note(f"adapters of rank {settings.lora.rank} in {len(wrapped)} layers; the backbone itself is frozen")
    pretrained = any(m.is_pretrained for m in assembly.engine.encoder.modalities.values())
    if settings.freeze_backbones:
        raw, limit = rows, run.budget if devices.count == 1 else None
        rows = devices.first_then_all(lambda: with_features(assembly, raw, notify=run.notify, budget=limit))
        display.note(f"the backbones are frozen: their features were computed once, for {len(rows.train)} rows")
    started = False
    if devices.is_first and not resume:
        tables = start_from_tables(assembly, rows.train, seed=config.seed, most=_start_rows(run.budget))
        started = bool(tables)
        if tables:
            display.note(f"begins with an additive model of the table, fitted at once ({_strengths(tables)})")
    if settings.head_start and heads_to_start(assembly) and not resume:
        started |= devices.in_first(
            lambda: start_heads(
                assembly, rows.train, seed=config.seed, notify=display.note, most=_start_rows(run.budget)
            )
        )
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
    fingerprint = _fingerprint(run.identity, run.schema, run.rows_hash, frozen_digest(model))
    tracked = config.track if devices.is_first else "none"
    tracker = make_tracker(tracked, tracking_folder(run.out), config=config.model_dump())
    reserving: dict[str, Any] = {}
    header: dict[str, Any] = {"fingerprint": fingerprint, "precision": precision}
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
        displays=(display, tracker),
        looks_first=bool(model.additive) or started,
        start_stands=bool(model.additive),
        **reserving,
    )
    try:
        with limited_to(run.budget.decided.get("threads") if run.budget is not None else None):
            return rows, loop.run(rows.train, rows.valid.choosing, resume=resume), precision
    finally:
        tracker.close()


def _start_rows(budget: Budget | None) -> int | None:
    """Rows that may be read for what a run begins with: a tenth of a time limit; None without one."""
    if budget is None or not budget.pace:
        return None
    return max(50, int(0.1 * budget.limit / budget.pace))


def _strengths(started: Mapping[str, float]) -> str:
    """What was fitted, for a message."""
    return ", ".join(f"{target!r}: ridge penalty {strength:g}" for target, strength in started.items())


def _train_few(
    run: _Run, assembly: Assembly, rows: EncodedRows, splits: Splits
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


def _encoded_unlabelled(run: _Run, engine: Engine, records: Sequence[Record]) -> list[EncodedDocument]:
    """``MOST_UNLABELLED`` of them at most; what is left out is told."""
    if len(records) > MOST_UNLABELLED:
        run.display.note(f"of {len(records):,} unlabelled rows {MOST_UNLABELLED:,} are read, drawn at random")
        records = random.Random(run.config.seed).sample(list(records), MOST_UNLABELLED)
    items = list(engine.encode(records, on_error="return"))
    rejected = [item for item in items if not isinstance(item, EncodedDocument)]
    if rejected:
        run.display.note(f"{len(rejected)} unlabelled rows cannot be read, for example: {rejected[0].error}")
    return [item for item in items if isinstance(item, EncodedDocument)]


def _set_precision(run: _Run, runner: TorchRunner, wanted: ForTraining, store: ExampleStore) -> Plain:
    """Puts the model into the precision it trains in; on all devices what the first one measured."""

    def batch() -> Batch:
        return runner.batch([store[i] for i in range(min(8, len(store)))])

    chosen = run.devices.in_first(lambda: choose_for_training(runner.model, wanted, batch))
    masters = " with fp32 master weights" if chosen.name == "bf16" else ""
    run.display.note(f"precision: {chosen.name}{masters} ({chosen.reason})")
    apply(runner.model, chosen)
    return "bf16" if chosen.name == "bf16" else "fp32"


def _set_prediction(
    run: _Run, assembly: Assembly, weights: Mapping[str, Tensor], trained_in: Plain, valid: MeasuredRows | None
) -> dict[str, Any]:
    """Puts the model into the precision it predicts in, and returns what the folder records of that. valid: rows that
    prove another precision than ``trained_in``; None keeps that one.
    """
    if valid is None:
        return {"precision": trained_in}
    rows = proving_rows(valid)
    chosen = run.devices.in_first(
        lambda: choose_for_prediction(
            assembly.model, weights, trained_in=trained_in, rows=len(rows.records),
            measure=lambda: measure_precision(assembly.engine, rows), notify=run.display.note,
        )
    )  # fmt: skip
    if not run.devices.is_first:
        apply(assembly.model, Precision(chosen["precision"], around=trained_in), weights)
    return chosen


def _resumes(checkpoints: Checkpoints, *, wanted: bool, notify: Notify) -> bool:
    if wanted and not checkpoints.exists():
        notify(f"there is no checkpoint in {str(checkpoints.folder)!r}: the run starts from the beginning")
    elif not wanted and checkpoints.exists():
        notify(
            f"an interrupted run left a checkpoint in {str(checkpoints.folder)!r}; this run starts anew and replaces it"
        )
    return wanted and checkpoints.exists()


def _build(config: Config, schema: Schema, splits: Splits, *, notify: Notify) -> Assembly:
    """The model; with ``on_error: skip`` rows whose labels or texts cannot be read are rejected on the way."""
    while True:
        try:
            return build_model(config, schema, splits.train, notify=notify)
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


def _restore_best(model: PolyModel, checkpoints: Checkpoints) -> dict[str, Tensor]:
    """Puts the best weights into the model; returns all of them under their plain names, the learned ones in fp32.

    What was not learned is the model's own, not a copy.
    """
    weights = plain_weights(model, dict(model.state_dict()) | checkpoints.load_best())
    remove_adapters(model)
    model.load_state_dict(weights)
    model.eval()
    return weights


@contextmanager
def _checkpoint_folder(
    config: Config, schema: Schema, rows_hash: str, *, out: Path | None, devices: Devices, notify: Notify
) -> Iterator[Path]:
    """Beside the model folder, so that saving the model never touches it; in the cache when nothing is to be kept, or,
    where the same run has that or it cannot be written, among the temporary files.
    """
    folder = cache_dir() / "runs" / _fingerprint(config, schema, rows_hash, "")[:24]
    with ExitStack() as stack:
        if out is not None:
            folder = checkpoint_of(out)
        elif devices.is_first:
            try:
                stack.enter_context(held(folder.with_suffix(".lock"), what=f"the checkpoint in {str(folder)!r}"))
            except SaveError as error:
                notify(f"{error.message.removesuffix('.')}: this run keeps its checkpoint elsewhere, for itself")
                folder = Path(tempfile.mkdtemp(prefix="polydetr-"))
        yield devices.agree(folder)


def _hash_rows(records: Sequence[Record]) -> str:
    digest = hashlib.sha256()
    for record in records:
        row = [record.document, record.row]
        try:
            text = json.dumps(row, sort_keys=True, default=_content, ensure_ascii=False)
        except (TypeError, ValueError):  # names that are no text, an object within itself
            text = repr(row)
        digest.update(text.encode(errors="surrogatepass"))
    return digest.hexdigest()


def _content(value: object) -> str:
    """A value that JSON does not know, as text that differs where the value does: pixels, dates, decimals."""
    if hasattr(value, "tobytes"):  # NumPy and PIL
        value = value.tobytes() + repr(getattr(value, "shape", None) or getattr(value, "size", None)).encode()  # type: ignore[attr-defined]
    return hashlib.sha256(value).hexdigest() if isinstance(value, (bytes, bytearray, memoryview)) else str(value)


def _fingerprint(config: Config, schema: Schema, rows_hash: str, frozen: str) -> str:
    """The same for calls that give the same model: places of files and tracking do not matter."""
    settings = config.model_dump(exclude={"out", "test", "train", "valid", "unlabelled", "track"})
    content = json.dumps([settings, schema.to_dict(), rows_hash, frozen], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


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
