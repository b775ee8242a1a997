"""A run under a time limit: which rows, which layers, how much is measured; nothing of this happens without one."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from polydetr.config.loading import PRESETS
from polydetr.config.sections import Config
from polydetr.core.clock import began
from polydetr.core.records import Record
from polydetr.modalities.base import Notify
from polydetr.model.build import Assembly
from polydetr.schema.spec import Schema
from polydetr.tasks.capabilities import Conforms, CountsSteps, HasLabels, Judged, Tunes
from polydetr.training.budget import Budget
from polydetr.training.calibrate import MAX_ROWS
from polydetr.training.checkpoint import Checkpoints, checkpoint_of
from polydetr.training.encode import EncodedRows, MeasuredRows, Splits
from polydetr.training.loop import LEAST_EVALUATED
from polydetr.training.optimizer import num_layers
from polydetr.training.pilot import backbone_groups, may_freeze, measure_paces, spread
from polydetr.training.plan import Mode, Open, Plan, Sizes, make_plan

READING_SHARE, PREPARING_SHARE, PILOT_SHARE = 0.2, 0.04, 0.05
"""Shares of the limit: for reading rows, for splitting and comparing them, for measuring paces."""
REPORT_SECONDS = 2.5
"""Drawing and saving what a run leaves, on an idle machine."""
SAFETY = 1.25
"""The measuring is given so many times what the paces say it takes."""
LINEAR_LR = 1e-2
"""Peak learning rate of a head that stands on frozen features alone and is trained for hundreds of steps:
after 105 steps on 300 rows of TNEWS 5e-3 has an accuracy of 0.42 and 2e-2 0.48, where the usual 1e-3 has 0.22.
"""
LEAST_SECONDS = 6.0
"""Where preparing took nearly all of a short limit, so much is planned for all the same: a model must come of it."""
_PILOT = 1000


def open_budget(config: Config, *, out: Path | None, resume: bool) -> Budget | None:
    """The budget of a run, which begins when its command did; None without a time limit."""
    if config.time_limit is None:
        return None
    given = frozenset(
        f"{name}.{key}" for name in ("image", "training") for key in getattr(config, name).model_fields_set
    )
    kept = Checkpoints(checkpoint_of(out)).header().get("budget", {}) if resume and out is not None else {}
    return Budget(config.time_limit, began(), given, kept)


def sample(
    records: list[Record], budget: Budget, name: str, prepare: Callable[[list[Record]], object], *, by: str | None,
    seed: int, notify: Notify,
) -> list[Record]:  # fmt: skip
    """As many of the rows as ``prepare`` takes a small share of the limit for, by its pace on some; in their order.

    by: the column of which each value keeps two rows. name: of the split.
    """
    some = spread(records, _PILOT)
    if len(some) == len(records):
        return records
    began = time.monotonic()
    prepare(some)
    pace = (time.monotonic() - began) / len(some)
    share = PREPARING_SHARE * budget.limit
    count = budget.choose(f"sampled {name}", max(_PILOT, int(share / max(pace, 1e-9))))
    if count >= len(records):
        return records
    notify(f"time limit: a sample of {count:,} of {len(records):,} {name} rows is used")
    return chosen(records, count, by=by, seed=seed)


def chosen(records: Sequence[Record], count: int, *, by: str | None, seed: int) -> list[Record]:
    """``count`` rows at random, in their order, rows of one document together, and two rows of each value of ``by``
    where there are as many; so a few more than ``count`` at most.
    """
    if count >= len(records):
        return list(records)
    if any(record.document is not None for record in records):
        documents: dict[Hashable, list[int]] = {}
        for i, record in enumerate(records):
            documents.setdefault(i if record.document is None else ("document", record.document), []).append(i)
        order: Sequence[Sequence[int]] = list(documents.values())
    else:
        order = [(i,) for i in range(len(records))]
    order = random.Random(seed).sample(order, len(order))
    first: list[Sequence[int]] = []
    if by is not None:
        met: dict[str, int] = {}
        for members in order:
            value = str(records[members[0]].row.get(by))
            met[value] = met.get(value, 0) + 1
            if met[value] <= 2:
                first.append(members)
    taken: set[int] = set()
    for members in [*first, *order]:
        if len(taken) >= count:
            break
        taken.update(members)
    return [records[i] for i in sorted(taken)]


def plan_run(
    config: Config, schema: Schema, splits: Splits, assembly: Assembly, budget: Budget, *, built: float, notify: Notify
) -> tuple[Config, Plan | None]:
    """The plan, shown, and the configuration with what it decides; the splits keep the rows that it chose.

    built: seconds that building the model took.
    """
    whole = Sizes(len(splits.train), len(splits.valid), len(splits.test or ()))
    plan = _planned(config, splits, assembly, budget, whole, built=built)
    if plan is None:
        return config, None
    for line in plan.lines(whole, spent=budget.spent()):
        notify(line)
    if budget.decided["threads"] is not None:
        notify(f"trains with {budget.decided['threads']} threads, measured to be faster than all: the machine is busy")
    by = _class_column(schema)
    splits.train = chosen(splits.train, plan.rows.train, by=by, seed=config.seed)
    splits.valid = chosen(splits.valid, plan.rows.valid, by=by, seed=config.seed)
    if splits.test:
        splits.test = chosen(splits.test, plan.rows.test, by=None, seed=config.seed)
    return _with(config, plan, assembly, budget), plan


def _planned(
    config: Config, splits: Splits, assembly: Assembly, budget: Budget, whole: Sizes, *, built: float
) -> Plan | None:
    kept = budget.kept.get("plan")
    if kept is None:
        found = measure_paces(
            assembly, splits.train, config, seconds=PILOT_SHARE * budget.limit, left=0.6 * budget.left()
        )
        if found is None:
            return None
        paces, budget.decided["threads"] = found
        what = _open(config, assembly, budget, whole, built=built, batch=paces.batch)
        left = max(budget.left(), min(LEAST_SECONDS, 0.3 * budget.limit))
        kept = make_plan(left, whole, paces, what).to_dict()
    budget.choose("threads", budget.decided.get("threads"))
    budget.decided["plan"] = kept
    plan = Plan.from_dict(kept)
    budget.pace = plan.answer
    return plan


def _open(config: Config, assembly: Assembly, budget: Budget, rows: Sizes, *, built: float, batch: float) -> Open:
    """What the plan may decide, and what it costs."""
    settings, tasks = config.training, assembly.engine.tasks.values()
    fixed_by_user = {"training.freeze_backbones", "training.freeze_layers"} & budget.given or settings.lora.rank
    modes: list[Mode] = ["all"]
    if settings.freeze_backbones:
        modes = ["frozen"]
    elif not fixed_by_user and backbone_groups(assembly):
        if num_layers(assembly.model) >= 2:
            modes.append("upper")
        if may_freeze(assembly):
            modes.append("frozen")
    assert config.epochs is not None
    epochs = config.epochs
    counts_steps = any(isinstance(task, CountsSteps) for task in tasks)
    if counts_steps:
        epochs = max(epochs, (config.steps or 0) * batch / max(1, rows.train))
    return Open(
        modes,
        _image_sizes(config, assembly, budget),
        epochs=epochs,
        lengthens=epochs == PRESETS[config.preset]["epochs"],
        enough_passes=10.0 if counts_steps else 2.0,
        passes=passes(assembly),
        rebuild=built,
        least=min(200, 2 * max((len(task.labels) for task in tasks if isinstance(task, HasLabels)), default=0)),
        fixed=_report_seconds(budget),
    )


def _image_sizes(config: Config, assembly: Assembly, budget: Budget) -> list[int]:
    """Pixels per side, the wanted ones first; none where no image is read, or the user chose the size."""
    if "image" not in assembly.engine.encoder.modalities or "image.size" in budget.given:
        return []
    wanted = config.image.size
    return [wanted, *(size for size in (320, 256, 128, 96) if wanted / 2.5 < size < wanted)]


def passes(assembly: Assembly) -> float:
    """How often validation rows are answered after the training (``calibrate``, and the proof of a precision)."""
    tasks = assembly.engine.tasks.values()
    tunes = any(isinstance(task, Tunes) and task.tunes_answers for task in tasks)
    conforms = any(isinstance(task, Conforms) or (isinstance(task, Judged) and task.rescales) for task in tasks)
    return 2.0 + tunes + conforms


def _class_column(schema: Schema) -> str | None:
    return next((target.name for target in schema.targets if target.task == "classification"), None)


def _with(config: Config, plan: Plan, assembly: Assembly, budget: Budget) -> Config:
    """The configuration that the plan stands for."""
    training: dict[str, Any] = {}
    if plan.mode == "frozen":
        training["freeze_backbones"] = True
        if not list(assembly.model.encoder.parameters()) and "training.head_lr" not in budget.given:
            training["head_lr"] = LINEAR_LR
    elif plan.mode == "upper":
        training["freeze_layers"] = num_layers(assembly.model) // 2
    changed: dict[str, Any] = {"training": config.training.model_copy(update=training), "epochs": plan.epochs}
    if any(isinstance(task, CountsSteps) for task in assembly.engine.tasks.values()):
        del changed["epochs"]
    if plan.image_size is not None:
        changed["image"] = config.image.model_copy(update={"size": plan.image_size})
    return config.model_copy(update=changed)


def after_training(budget: Budget, assembly: Assembly, rows: EncodedRows, *, proves: bool) -> Callable[[float], float]:
    """Seconds that the loop leaves for all that comes after it, by measured seconds per document that is answered. At
    most two fifths of the limit: later fewer rows are measured (``fitting``).
    """
    each = _answered(assembly, rows, proves=proves)

    def reserve(pace: float) -> float:
        budget.pace = pace or budget.pace
        return min(SAFETY * budget.pace * each, 0.4 * budget.limit) + _report_seconds(budget)

    return reserve


def _report_seconds(budget: Budget) -> float:
    """For drawing and saving; of a short limit no more than a third, which it outlasts by seconds then."""
    return min(REPORT_SECONDS * budget.slowness(), budget.limit / 3)


def _answered(assembly: Assembly, rows: EncodedRows, *, proves: bool) -> float:
    """Documents that are answered after the training, counted as often as they are."""
    valid = len(rows.valid.documents)
    test = len(rows.test.documents) if rows.test is not None else 0
    return valid * passes(assembly) + test + (2 * min(valid, MAX_ROWS) if proves else 0)


def fitting(
    budget: Budget, assembly: Assembly, rows: EncodedRows, *, proves: bool, notify: Notify
) -> tuple[EncodedRows, bool]:
    """The rows that are still measured in what is left, by the pace of the evaluations so far, and whether they prove
    another precision.
    """
    left = max(budget.left() - _report_seconds(budget), 0.05 * budget.limit)

    def share(proves: bool) -> float:
        return SAFETY * budget.pace * _answered(assembly, rows, proves=proves) / left

    proves = proves and share(proves) <= 1
    if share(proves) <= 1:
        return rows, proves
    step = int(share(proves)) + 1
    step += 1 - step % 2  # odd: halves of the rows that choose and calibrate stay apart
    valid = _every(rows.valid, step)
    test = _every(rows.test, step) if rows.test is not None else None
    if valid is not rows.valid or test is not rows.test:
        counts = f"{len(valid.documents):,} of {len(rows.valid.documents):,} validation rows"
        if test is not None and rows.test is not None:
            counts += f" and {len(test.documents):,} of {len(rows.test.documents):,} test rows"
        notify(f"answering is slower than planned: {counts} are measured")
    return replace(rows, valid=valid, test=test), proves


def draws_reports(budget: Budget, *, notify: Notify) -> bool:
    """Whether there is time for the pictures of the report, with most of what a limit may be outlasted by."""
    tolerance = 0.8 * max(0.1 * budget.limit, 10.0)
    if budget.left() + tolerance >= REPORT_SECONDS * budget.slowness():
        return True
    notify("the time limit is over: the pictures of the report are not drawn; the model and its figures are saved")
    return False


def _every(rows: MeasuredRows, step: int) -> MeasuredRows:
    """Every so many, but ``LEAST_EVALUATED`` where there are as many."""
    most = max(1, len(rows.documents) // LEAST_EVALUATED)
    step = min(step, most - (1 - most % 2))
    return rows.every(step) if step > 1 else rows
