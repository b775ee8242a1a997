"""A whole run: read, build, train, calibrate, measure, save."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from polydetr.backbones.cache import cache_dir
from polydetr.batch import Batch, Example
from polydetr.building import build_engine
from polydetr.config import Config
from polydetr.data.records import Record
from polydetr.data.store import ExampleStore, trim_cache
from polydetr.errors import RowError, SchemaError
from polydetr.inference import Engine, Outputs, RowResult
from polydetr.metrics.calibration import fit_temperature
from polydetr.model import PolyModel
from polydetr.schema import Schema
from polydetr.tasks.base import Evaluation
from polydetr.training.checkpoint import Checkpoints
from polydetr.training.loop import Loop, StepInfo, evaluate_results
from polydetr.training.optimizer import MasterAdamW, parameter_groups
from polydetr.training.precision import BF16_TOLERANCE, bf16_agrees, choose_precision

class Display:
    """What a run tells while it works; silent here, drawn by ``training.display``."""

    def note(self, message: str) -> None: ...
    def step(self, info: StepInfo) -> None: ...
    def evaluation(self, entry: Mapping[str, Any]) -> None: ...
    def close(self) -> None: ...


@dataclass
class Splits:
    """The rows of a run."""

    train: list[Record]
    valid: list[Record]
    test: list[Record] | None = None
    rejected: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Trained:
    """A finished run. ``info`` is what the model folder keeps; ``evaluations`` by split and target."""

    engine: Engine
    weights: Mapping[str, Tensor]
    info: dict[str, Any]
    evaluations: Mapping[str, Mapping[str, Evaluation]]
    before_calibration: Mapping[str, Evaluation]
    history: Sequence[Mapping[str, Any]]
    checkpoints: Checkpoints


def fit(config: Config, schema: Schema, splits: Splits, *, out: Path | None, resume: bool, display: Display) -> Trained:
    """Trains one model.

    Raises:
        InputError, ConfigError, BackboneError, SaveError: before or between steps, naming what is wrong.
        Interrupted: stopped by the user; the checkpoint is kept.
    """
    started = time.monotonic()
    # Imported here: the rest of the package does without its two seconds.
    from lightning_fabric import Fabric

    torch.set_flush_denormal(True)
    engine = build_engine(config, schema, splits.train, note=display.note)
    data_hash = _hash_rows(splits.train)
    store = encode_training_rows(engine, splits, config, data_hash, note=display.note)
    fabric = Fabric(accelerator="cuda" if torch.cuda.is_available() else "cpu", devices="auto" if torch.cuda.is_available() else 1)
    fabric.launch()
    engine.model.to(fabric.device)
    set_precision(engine, config, store, note=display.note)
    torch.manual_seed(config.seed)
    settings = config.training
    groups = parameter_groups(
        engine.model,
        lr=settings.lr,
        head_lr=settings.head_lr,
        layer_decay=settings.layer_decay,
        weight_decay=settings.weight_decay,
        freeze_embeddings=settings.freeze_embeddings,
        freeze_layers=settings.freeze_layers,
    )
    optimizer = MasterAdamW(groups, clip_norm=settings.clip_norm, ema_decay=settings.ema_decay or None)
    checkpoints = Checkpoints(checkpoint_folder(out, data_hash))
    loop = Loop(
        engine,
        optimizer,
        config,
        fabric=fabric,
        checkpoints=checkpoints,
        fingerprint=_fingerprint(config, schema, data_hash),
        on_step=display.step,
        on_evaluation=display.evaluation,
    )
    progress = loop.run(store, splits.valid, resume=resume and checkpoints.exists())
    weights = checkpoints.load_best()
    before, valid = calibrate(engine, splits.valid, note=display.note)
    evaluations = {"valid": valid}
    if splits.test:
        evaluations["test"] = evaluate_results(engine, list(engine.run(splits.test)))
    info = {
        "versions": {name: version(name) for name in ("polydetr", "torch", "numpy", "tokenizers", "safetensors")},
        "python": platform.python_version(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "schema": schema.to_dict(),
        "config": config.model_dump(),
        "model": config.model.model_dump(),
        "rows": {"train": len(splits.train), "valid": len(splits.valid), "test": len(splits.test or ()), "rejected": len(splits.rejected)},
        "data_sha256": data_hash,
        "parameters": sum(p.numel() for p in engine.model.parameters()),
        "training": {
            "steps": progress.step,
            "seconds": round(progress.seconds, 1),
            "tokens_per_second": round(progress.tokens / max(progress.seconds, 1e-9)),
            "best_step": progress.best_step,
            "total_seconds": round(time.monotonic() - started, 1),
        },
        "metrics": {split: {t: dict(e.metrics) for t, e in found.items()} for split, found in evaluations.items()},
        "ece_before_calibration": {t: e.metrics["ece"] for t, e in before.items() if "ece" in e.metrics},
        "temperature": {t: task.temperature for t, task in engine.tasks.items()},
        "history": progress.history,
    }
    return Trained(engine, weights, info, evaluations, before, progress.history, checkpoints)


def encode_training_rows(
    engine: Engine, splits: Splits, config: Config, data_hash: str, *, note: Callable[[str], None]
) -> ExampleStore:
    """The training rows as tokens in an Arrow file, made once for the same rows, tokenizer and settings."""
    state = {
        "data": data_hash,
        "modalities": {n: m.state() for n, m in engine.encoder.modalities.items()},
        "tasks": {t: task.state() for t, task in engine.tasks.items()},
        "context": engine.encoder.context,
        "version": version("polydetr"),
        "tokenizer": [m.fingerprint() for m in engine.encoder.modalities.values()],
    }
    key = hashlib.sha256(json.dumps(state, sort_keys=True, default=str).encode()).hexdigest()[:24]
    path = cache_dir() / "encoded" / f"{key}.arrow"
    if path.exists() and not splits.rejected:
        path.touch()
        return ExampleStore(path)
    warnings: list[str] = []

    def examples() -> Any:
        for group in engine.encoder.documents(splits.train):
            yield from _encode_group(engine, group, splits, config, warnings)

    store = ExampleStore.write(examples(), path)
    if not len(store):
        raise SchemaError("no training row is left after rejecting the unreadable ones")
    if warnings:
        note(f"{len(warnings)} rows were read with a warning, for example: {warnings[0]}")
    trim_cache(path.parent, keep=path)
    return store


def _encode_group(engine: Engine, group: list[Record], splits: Splits, config: Config, warnings: list[str]) -> Sequence[Example]:
    try:
        encoded = engine.encoder.encode(group, with_targets=True)
    except RowError as error:
        if config.on_error == "raise":
            raise
        if len(group) == 1:
            splits.rejected.append({"location": str(group[0].location), "reason": str(error), "row": dict(group[0].row)})
            return []
        return [e for record in group for e in _encode_group(engine, [record], splits, config, warnings)]
    warnings += encoded.warnings
    return encoded.examples


def set_precision(engine: Engine, config: Config, store: ExampleStore, *, note: Callable[[str], None]) -> None:
    """bf16 weights where this machine gains from them and the model's own outputs agree; otherwise fp32."""
    device = next(engine.model.parameters()).device
    precision = choose_precision(config.training.precision, device)
    if precision.name == "fp32":
        note(f"precision: fp32 ({precision.reason})")
        return
    batch = Batch.collate([store[i] for i in range(min(8, len(store)))]).to(device)
    mask = torch.cat([group.mask for group in batch.groups.values()], 1)
    difference = bf16_agrees(_TokenOutputs(engine.model), {"batch": batch, "mask": mask})
    if difference > BF16_TOLERANCE and config.training.precision == "auto":
        note(f"precision: fp32 (in bf16 this model's outputs differ by {difference:.1%})")
        return
    engine.model.to(torch.bfloat16)
    note(f"precision: bf16 with fp32 master weights ({precision.reason}; the outputs differ by at most {difference:.1%})")


class _TokenOutputs(nn.Module):
    """All groups' attended tokens side by side, (B, L, D): what ``bf16_agrees`` compares."""

    def __init__(self, model: PolyModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, mask: Tensor) -> Tensor:
        return torch.cat(list(self.model.encode(batch).tokens.values()), 1)


def calibrate(
    engine: Engine, valid: Sequence[Record], *, note: Callable[[str], None]
) -> tuple[dict[str, Evaluation], dict[str, Evaluation]]:
    """Fits each task's temperature (Guo et al. 2017, arXiv 1706.04599) and thresholds; evaluations before and after."""
    pairs: dict[str, list[tuple[Tensor, Tensor]]] = {target: [] for target in engine.tasks}

    def collect(outputs: Outputs, batch: Batch) -> None:
        for target, task in engine.tasks.items():
            found = task.calibration_pairs(outputs[target], batch.targets[target])
            if found is not None:
                pairs[target].append((found[0].cpu(), found[1].cpu()))

    results = list(engine.run(valid, with_targets=True, on_batch=collect))
    before = evaluate_results(engine, results)
    for target, task in engine.tasks.items():
        if sum(len(labels) for _, labels in pairs[target]) >= 20:
            logits = _stack([logits for logits, _ in pairs[target]])
            task.temperature = fit_temperature(logits.numpy(), torch.cat([labels for _, labels in pairs[target]]).numpy())
    results = list(engine.run(valid))
    for target, task in engine.tasks.items():
        golds = [task.gold(r.record.row, r.text) for r in results]
        for line in task.tune([r.predictions[target] for r in results], golds):
            note(line)
    after = evaluate_results(engine, list(engine.run(valid)) if any(t.tunes for t in engine.tasks.values()) else results)
    for target, task in engine.tasks.items():
        if "ece" in before[target].metrics:
            ece = before[target].metrics["ece"], after[target].metrics["ece"]
            note(f"calibration of {target!r}: temperature {task.temperature:.3f}, ECE {ece[0]:.4f} → {ece[1]:.4f} (validation rows)")
    return before, after


def _stack(logits: Sequence[Tensor]) -> Tensor:
    """(N, C) from batches whose C may differ (positions in windows): missing columns are impossible answers."""
    width = max(t.shape[1] for t in logits)
    return torch.cat([torch.nn.functional.pad(t, (0, width - t.shape[1]), value=-1e4) for t in logits])


def checkpoint_folder(out: Path | None, data_hash: str) -> Path:
    """Beside the model folder, so that saving the model never touches it; in the cache when nothing is to be kept."""
    return out.with_name(f"{out.name}.checkpoint") if out else cache_dir() / "runs" / f"{data_hash[:12]}-{time.time_ns()}"


def _hash_rows(records: Sequence[Record]) -> str:
    digest = hashlib.sha256()
    for record in records:
        digest.update(json.dumps([record.document, record.row], sort_keys=True, default=str, ensure_ascii=False).encode())
    return digest.hexdigest()


def _fingerprint(config: Config, schema: Schema, data_hash: str) -> str:
    same = config.model_dump(exclude={"out", "test", "train", "valid"})
    return hashlib.sha256(json.dumps([same, schema.to_dict(), data_hash], sort_keys=True, default=str).encode()).hexdigest()


def _machine() -> dict[str, Any]:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {"system": platform.system(), "device": device, "threads": torch.get_num_threads(), "python": sys.version.split()[0]}
