"""A run under a time limit: which rows, which layers, how much is measured; nothing of this happens without one."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

from polydetr.config.loading import PRESETS
from polydetr.config.sections import Config
from polydetr.core.clock import began
from polydetr.core.records import Record
from polydetr.modalities.base import Notify
from polydetr.model.build import Assembly
from polydetr.schema.spec import Schema
from polydetr.tasks.capabilities import CountsSteps, HasLabels
from polydetr.training.budget import Budget
from polydetr.training.cautions import STEPS_FOR_SETS
from polydetr.training.checkpoint import Checkpoints, checkpoint_of
from polydetr.training.encode import EncodedRows, InTime, Splits
from polydetr.training.ending import passes, report_seconds
from polydetr.training.optimizer import num_layers
from polydetr.training.pilot import backbone_groups, may_freeze, measure_paces, spread
from polydetr.training.plan import (
    ENOUGH_STEPS,
    LEAST_MEASURED,
    LEAST_TRAINED,
    Mode,
    Open,
    Paces,
    Plan,
    Sizes,
    make_plan,
)

READING_SHARE, PREPARING_SHARE, PILOT_SHARE = 0.2, 0.04, 0.05
"""Shares of the limit: for reading rows, for splitting and comparing them, for measuring paces."""
LINEAR_LR = 1e-2
"""Peak learning rate of a head that stands on frozen features alone and is trained for hundreds of steps:
after 105 steps on 300 rows of TNEWS 5e-3 has an accuracy of 0.42 and 2e-2 0.48, where the usual 1e-3 has 0.22.
"""
HEADROOM, SLACK, LEAST_ENCODING = 2.0, 2.0, 0.02
"""So many times the planned training rows are drawn, of which those are read that there is time for; so many times its
planned seconds, and such a share of the limit at least, the encoding of rows may take where none are to spare.
"""
FEW_SHARE, MEASURED_SHARE = 0.5, 0.15
"""Of the seconds left, what few rows may take before their backbone is tuned; what measuring rows may take there."""
REGRESSION_SECONDS = 1.3e-7
"""Of choosing a regression on features, for each row, class and feature: some 2,600 passes on one core."""
LEAST_STARTED = 500
"""Rows of a table that are encoded however short the time is: from them it begins, in a second or two."""
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
    count = budget.choose(f"sampled {name}", max(_PILOT, int(min(len(records), share / max(pace, 1e-9)))))
    if count >= len(records):
        return records
    notify(f"time limit: a sample of {count:,} of {len(records):,} {name} rows is used")
    return chosen(records, count, by=by, seed=seed)


def chosen(records: Sequence[Record], count: int, *, by: str | None, seed: int, as_drawn: bool = False) -> list[Record]:
    """``count`` rows at random, in their order, rows of one document together, and two rows of each value of ``by``
    where there are as many; so a few more than ``count`` at most. as_drawn: in the order of the draw, with those two
    first, so that however many of them are read, they are a sample.
    """
    if count >= len(records) and not as_drawn:
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
    taken: dict[int, None] = {}
    for members in [*first, *order]:
        if len(taken) >= count:
            break
        taken.update(dict.fromkeys(members))
    return [records[i] for i in (taken if as_drawn else sorted(taken))]


def plan_run(
    config: Config, schema: Schema, splits: Splits, assembly: Assembly, budget: Budget, *, built: float, notify: Notify
) -> tuple[Config, Plan | None]:
    """The plan, shown, and the configuration with what it decides; the splits keep the rows that it chose.

    built: seconds that building the model took.
    """
    whole = Sizes(len(splits.train), len(splits.valid), len(splits.test or ()))
    plan = _planned(config, splits, assembly, budget, whole, built=built, notify=notify)
    if plan is None:
        return config, None
    for line in plan.lines(whole, spent=budget.spent()):
        notify(line)
    by = _class_column(schema)

    def drawn(records: list[Record], count: int, *, by: str | None = None) -> list[Record]:
        return chosen(records, count, by=by, seed=config.seed, as_drawn=True)

    splits.train = drawn(splits.train, math.ceil(HEADROOM * plan.rows.train), by=by)
    splits.valid = drawn(splits.valid, plan.rows.valid, by=by)
    if splits.test:
        splits.test = drawn(splits.test, plan.rows.test)
    return _with(config, plan, assembly, budget), plan


def encoded_in_time(budget: Budget, plan: Plan | None) -> InTime | None:
    """The rows of a split that are read and encoded in the seconds that the plan has for them: of the training rows
    more than planned where the machine has become faster, of all of them fewer where it is slower. None without a plan.
    """
    if plan is None:
        return None

    def in_time(records: Sequence[Record], split: str) -> Iterator[Record]:
        planned = {"training": plan.rows.train, "validation": plan.rows.valid, "test": plan.rows.test}[split]
        least = LEAST_TRAINED if split == "training" else LEAST_MEASURED
        slack = 1.0 if split == "training" and len(records) > planned else SLACK
        seconds = max(slack * plan.encode * planned, LEAST_ENCODING * budget.limit)
        return budget.within(records, f"encoded {split}", seconds=seconds, least=least)

    return in_time


def told_in_time(budget: Budget, plan: Plan | None, rows: EncodedRows, *, notify: Notify) -> None:
    """Says how many rows there came to be, where they are not as many as planned."""
    if plan is None:
        return
    read = {"training": len(rows.train), "validation": len(rows.valid.documents)}
    planned = {"training": plan.rows.train, "validation": plan.rows.valid}
    kinds = [f"{n:,} {kind} rows" for kind, n in read.items() if abs(n - planned[kind]) > 0.1 * planned[kind]]
    if kinds:
        notify(f"time limit: {' and '.join(kinds)} were read in the time planned")


def _planned(
    config: Config, splits: Splits, assembly: Assembly, budget: Budget, whole: Sizes, *, built: float, notify: Notify
) -> Plan | None:
    kept = budget.kept.get("plan")
    if kept is None:
        paces = _paces(config, splits, assembly, budget, notify=notify)
        if paces is None:
            return None
        what = _open(config, assembly, budget, whole, built=built, batch=paces.batch)
        left = max(budget.left(), min(LEAST_SECONDS, 0.3 * budget.limit))
        kept = make_plan(left, whole, paces, what).to_dict()
    budget.choose("threads", budget.decided.get("threads"))
    budget.decided["plan"] = kept
    plan = Plan.from_dict(kept)
    budget.pace = plan.answer
    return plan


def _paces(config: Config, splits: Splits, assembly: Assembly, budget: Budget, *, notify: Notify) -> Paces | None:
    """Measured once; the number of threads to compute with is decided with them."""
    if budget.paces is not None:
        return budget.paces
    found = measure_paces(
        assembly, splits.train, config, seconds=PILOT_SHARE * budget.limit, left=0.6 * budget.left(),
        slowness=budget.slowness(),
    )  # fmt: skip
    if found is None:
        return None
    budget.paces, threads, budget.precision = found
    budget.decided["threads"] = threads
    if threads is not None:
        notify(f"computes with {threads} of the threads, as other programs are busy on this machine")
    return budget.paces


def few_in_time(config: Config, splits: Splits, assembly: Assembly, budget: Budget, *, notify: Notify) -> bool:
    """Whether a run on few rows (``few_rows``) has the time to read all of them, to compute their features and to
    choose a regression on these; the splits then keep the rows that can be measured in time, and the unlabelled ones
    that can be read.
    """
    paces = _paces(config, splits, assembly, budget, notify=notify)
    if paces is None:
        return bool(budget.choose("few", True))
    rows, left = len(splits.given), budget.left()
    classes = max(
        (len(task.labels) for task in assembly.engine.tasks.values() if isinstance(task, HasLabels)), default=1
    )
    regression = rows * classes * assembly.model.embed_dim * REGRESSION_SECONDS * budget.slowness()
    if not budget.choose("few", rows * (2 * paces.encode + paces.answer) + regression <= FEW_SHARE * left):
        return False
    budget.pace = paces.answer

    def fewer(records: list[Record], name: str, each: float) -> list[Record]:
        most = max(LEAST_MEASURED, int(MEASURED_SHARE * left / max(paces.encode + each, 1e-9)))
        count = budget.choose(f"few {name}", most)
        if count < len(records):
            verb = "used" if name == "unlabelled" else "measured"
            notify(f"time limit: {count:,} of {len(records):,} {name} rows are {verb}")
        return chosen(records, count, by=None, seed=config.seed)

    if splits.unlabelled:  # which are read, answered once at least, and may be left aside
        splits.unlabelled = fewer(splits.unlabelled, "unlabelled", paces.answer)
    if splits.test:
        splits.test = fewer(splits.test, "test", paces.answer)
    if not splits.is_held_out:
        splits.valid = fewer(splits.valid, "validation", passes(assembly) * paces.answer)
    return True


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
    starts = bool(assembly.model.additive) and not backbone_groups(assembly)
    return Open(
        modes,
        _image_sizes(config, assembly, budget),
        epochs=epochs,
        lengthens=epochs == PRESETS[config.preset]["epochs"],
        enough_passes=10.0 if counts_steps else 2.0,
        enough_steps=STEPS_FOR_SETS if counts_steps else ENOUGH_STEPS,
        passes=passes(assembly),
        rebuild=built,
        least=LEAST_STARTED
        if starts
        else min(200, 2 * max((len(t.labels) for t in tasks if isinstance(t, HasLabels)), default=0)),
        starts=starts,
        fixed=report_seconds(budget),
    )


def _image_sizes(config: Config, assembly: Assembly, budget: Budget) -> list[int]:
    """Pixels per side, the wanted ones first; none where no image is read, or the user chose the size."""
    if "image" not in assembly.engine.encoder.modalities or "image.size" in budget.given:
        return []
    wanted = config.image.size
    return [wanted, *(size for size in (320, 256, 128, 96) if wanted / 2.5 < size < wanted)]


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
