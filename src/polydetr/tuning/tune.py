"""A study from its rows to its model: open it, read the rows once, train trial by trial, choose, report, save.

The default has to be beaten: the best trial is kept where it is the better one in ``BETTER`` of the resamples of
validation rows that chose nothing (neither weights nor settings). Otherwise the default is.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polydetr.config.loading import config_error, for_tasks, is_given
from polydetr.config.sections import Config
from polydetr.core.clock import began
from polydetr.core.databases import read_address
from polydetr.core.studies import Gain, StudyRecord, TrialRecord
from polydetr.errors import ConfigError, Interrupted, PolydetrError, RowError, StudyError, first_of
from polydetr.inference.folder import read_manifest
from polydetr.model.build import build_model
from polydetr.model.folder import reserved
from polydetr.reports.tuning_page import write_study
from polydetr.reports.tuning_words import verdict
from polydetr.schema.spec import Schema
from polydetr.tasks.options import read_options
from polydetr.training.budget import Budget
from polydetr.training.callbacks import Display
from polydetr.training.encode import Splits
from polydetr.training.few_rows import has_few_rows
from polydetr.training.gain import gain
from polydetr.training.limited import open_budget
from polydetr.training.places import tracking_folder
from polydetr.training.read import read_splits
from polydetr.training.refit import refit
from polydetr.training.tracking import check_installed
from polydetr.training.trial_settings import check_settings
from polydetr.training.trials import SharedRows
from polydetr.tuning.default_space import default_space
from polydetr.tuning.identity import identity_of
from polydetr.tuning.metric import by_metric
from polydetr.tuning.places import Place
from polydetr.tuning.reading import all_keys, read_space
from polydetr.tuning.saving import save_model
from polydetr.tuning.space import Space
from polydetr.tuning.study import KeptStudy, Studies
from polydetr.tuning.times import Times
from polydetr.tuning.work import Steps, Wanted, Work

BETTER = 0.95
"""Share of the resamples in which the best trial has to be better than the default, to be kept (decision 14)."""
TRIALS = 20
"""Where neither a number of trials nor a time limit is given."""


def check_call(config: Config, wanted: Wanted) -> None:
    """All faults of a call that can be seen before anything is read.

    Raises:
        ConfigError: with every fault found, each on a line of its own.
    """
    for kind in config.track:
        check_installed(kind)
    lines = []
    if wanted.trials is not None and wanted.trials < 1:
        lines.append(f"trials = {wanted.trials}: expected at least 1, which is the default; 20 are a good number")
    if wanted.keep < 1:
        lines.append(f"keep = {wanted.keep}: expected at least 1, the best trial, whose model is wanted")
    if config.training.devices > 1:
        lines.append(f"training.devices = {config.training.devices}: a trial trains on one; start several processes")
    if config.search:
        try:
            check_settings(config, [dimension.key for dimension in read_space(config.search, config).dimensions])
        except ConfigError as error:
            lines += [line.removeprefix("  - ") for line in error.message.splitlines()[1:]]
    if lines:
        raise config_error(lines)


def tune(
    config: Config, given: Mapping[str, Any], wanted: Wanted, place: Place, *, resume: bool, overwrite: bool,
    display: Display,
) -> StudyRecord:  # fmt: skip
    """The whole study, or this process's part of it.

    config: as it is where nothing is varied; its time limit is the whole command's. given: rows of each part, None
    where the configuration names them.

    Raises:
        ConfigError, InputError, StudyError, SaveError: before the first trial. Interrupted: by the user. PolydetrError:
            no trial ended well.
    """
    check_call(config, wanted)
    since = began()
    with (
        place.taken(resume=resume, overwrite=overwrite) as keep,
        closing(Studies(read_address(place.address))) as studies,
    ):
        reading = _found(studies, place, resume=resume, overwrite=overwrite, display=display)
        budget = open_budget(config, out=None, resume=False)
        if reading is not None:  # the rows of the study, whatever time there is now
            budget = Budget(float("inf"), since, kept=reading)
        splits, schema = read_splits(config, **given, display=display, budget=budget)
        space = _space(config, wanted, schema, splits, display)
        rows = SharedRows(space.config, schema, splits, notify=display.note)
        decided = {} if budget is None else budget.decided
        study = studies.open(place.name, space, identity_of(space, schema, splits), reading=decided)
        keep()
        _say_what_is_varied(space, display)
        if config.track:
            where = str(tracking_folder(place.folder / "trials"))
            display.note(f"the trials are tracked by {', '.join(config.track)} in {where!r}")
        work = Work(study, rows, wanted, Times(config.time_limit, since, wanted.refit), place.folder, display)
        with _resumable(study, place):
            work.run()
            with study.ending(), reserved(place.out):
                record = _record(work, _choose(work), splits)
                _report(record, place, display)
                model = work.model_of(record.kept)
                if wanted.refit:
                    model = _refitted(work, record, model)
                save_model(record, model, place.out, rows, until=work.times.ends(), notify=display.note)
    return record


def _found(studies: Studies, place: Place, *, resume: bool, overwrite: bool, display: Display) -> dict[str, Any] | None:
    """What a time limit decided about the rows when the study was begun; None for one that is begun now.

    Raises:
        StudyError: there is one of this name, and it is not to be gone on with. OutputError: nor to be replaced yet.
    """
    found = studies.reading(place.name)
    if found is not None and not (resume or overwrite):
        raise StudyError(
            f"{studies.address.shown} holds a study {place.name!r} already.",
            hint="Go on with it, or join it: --resume (resume=True). Or name another one, or replace it: --overwrite.",
        )
    if found is not None and not resume:
        studies.remove(place.name)
        place.clear()
        found = None
    if found is None and resume:
        display.note(f"there is no study {place.name!r} in {studies.address.shown}: it is begun")
    display.note(f"the study {place.name!r} is kept in {studies.address.shown}; go on with it by {place.how_to_resume}")
    return found


def _of_trials(config: Config) -> Config:
    """What the trials change: the limit and the search are the study's."""
    return config.model_copy(update={"search": {}, "time_limit": None, "out": None})


def _space(config: Config, wanted: Wanted, schema: Schema, splits: Splits, display: Display) -> Space:
    """The space that the configuration describes, or else the one that suits its rows; with the configuration that the
    trials vary.

    Raises:
        ConfigError: faults of the search; a metric that no target has.
    """
    varied = for_tasks(_of_trials(config), [target.task for target in schema.targets])
    options = read_options(varied, schema)
    built, names_metric = None, bool(wanted.metric) or any(one.metric for one in options.values())
    with suppress(RowError):  # with on_error: skip, which the trials see to
        if names_metric or not config.search:
            built = build_model(varied, schema, splits.train, notify=display.note)
    if built is not None and names_metric:
        varied = by_metric(varied, wanted.metric, built.engine, splits.valid)
    if config.search:
        return read_space(config.search, varied, schema)
    modalities = {} if built is None else built.engine.encoder.modalities
    pretrained = {name for name, modality in modalities.items() if modality.is_pretrained}
    few = built is not None and has_few_rows(varied, built, splits)
    given = frozenset(key for key in all_keys() if is_given(config, key))
    return default_space(varied, schema, pretrained=pretrained, rows=len(splits.train), few_rows=few, given=given)


def _say_what_is_varied(space: Space, display: Display) -> None:
    display.note(f"varies {'; '.join(map(str, space.dimensions))}")
    if again := check_settings(space.config, [dimension.key for dimension in space.dimensions]):
        display.note(
            f"the rows are encoded anew for each value of {', '.join(again)}: once, for all trials that have it"
        )


@dataclass(frozen=True)
class _Found:
    best: int
    kept: int
    gain: Gain | None


def _choose(work: Work) -> _Found:
    """Which trial did best, and which one's model is saved.

    Raises:
        PolydetrError: every trial failed, with the reasons counted.
    """
    records = work.study.records()
    ended = [record for record in records if record.score is not None]
    if not ended:
        raise PolydetrError(f"no trial ended well: {_counted(records)}.", hint="Nothing was saved.")
    best = work.best_of(records)[0].number
    if best == 0 or records[0].score is None:
        return _Found(best, best, None)
    # Half of what is left: the test rows are to be answered, too.
    now = time.monotonic()
    until = now + max(0.0, work.times.ends() - now) / 2
    measured = gain(work.model_of(0), work.model_of(best), work.rows, until=until)
    # Where no rows are left that chose nothing, there is only the score that chose it.
    return _Found(best, best if measured is None or measured.share_better >= BETTER else 0, measured)


def _refitted(work: Work, record: StudyRecord, model: Path) -> Path:
    """The folder of a model that learned from the validation rows too; that of the trial where it had seen all rows."""
    again = work.folder / "refit"
    settings = record.trials[record.kept].settings
    return again if refit(settings, model, work.rows, out=again, display=Steps(work.display)) else model


def _counted(records: Sequence[TrialRecord]) -> str:
    """The reasons, the most frequent first; numbers in them do not part them."""
    reasons = [record.reason or record.state for record in records]
    kinds = Counter(re.sub(r"[\d.]+", "#", reason) for reason in reasons)
    example = {re.sub(r"[\d.]+", "#", reason): reason for reason in reversed(reasons)}
    return "; ".join(first_of(f"{count} × {example[kind]}" for kind, count in kinds.most_common()))


def _record(work: Work, found: _Found, splits: Splits) -> StudyRecord:
    manifest = read_manifest(work.model_of(found.kept))
    records = work.study.records()
    return StudyRecord(
        name=work.study.name, metric=work.rows.metric, trials=records, space=work.study.space.to_list(),
        importances=work.study.importances(), best=found.best, kept=found.kept, gain=found.gain,
        cross_validated=work.rows.is_cross_validated or bool(manifest["training"].get("cross_validated")),
        rows={"train": len(splits.train), "valid": len(splits.valid)}, seed=work.study.seed,
        seconds=sum(record.seconds for record in records),
    )  # fmt: skip


def _report(record: StudyRecord, place: Place, display: Display) -> None:
    said = verdict(record)
    display.note(f"{said.head} {said.text}")
    write_study(record, place.folder)


@contextmanager
def _resumable(study: KeptStudy, place: Place) -> Iterator[None]:
    """Whatever the user stops is told as what is kept and how to go on."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt):
        ended = sum(record.state != "running" for record in study.records())
        count = f"{ended} trial{'' if ended == 1 else 's'}"
        raise Interrupted(
            f"stopped; {count} of the study {study.name!r} {'is' if ended == 1 else 'are'} kept.",
            hint=f"Go on with the same call and {place.how_to_resume}.",
        ) from None
