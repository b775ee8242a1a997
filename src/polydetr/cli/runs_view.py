"""Runs as lines of text and as JSON, for the verbs of ``cli.runs``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from polydetr.errors import shown
from polydetr.inference.run_comparison import (
    UNSET,
    changed_settings,
    curves_beside,
    differing_settings,
    is_like,
    scores_beside,
    settings_of,
)
from polydetr.inference.saved_run import SavedRun, score_of
from polydetr.metrics.classification import display_width
from polydetr.reports.tuning_words import settings_yaml, state_counts, value_text, verdict

_WIDEST = 60
_MOST_EVALUATIONS = 20


def list_lines(runs: Sequence[SavedRun]) -> list[str]:
    """One line per run, and beneath it what is wrong with it."""
    heads = ("run", "date", "target", "valid", "test", "steps", "minutes", "state")
    rows = [
        (
            run.name, run.created, ", ".join(run.targets), *_list_scores(run),
            "" if run.steps is None else f"{run.steps:,}", _minutes(run.seconds), run.state,
        )
        for run in runs
    ]  # fmt: skip
    lines = _table(heads, rows, right=(5, 6)) if rows else []
    found = lines[:1]
    for run, line in zip(runs, lines[1:], strict=True):
        found.append(line)
        if run.reason:
            found.append(f"    {shown(run.reason, 200)}")
    return found


def _list_scores(run: SavedRun) -> tuple[str, str]:
    if run.study is not None:
        best = next((trial for trial in run.study.trials if trial.number == run.study.best), None)
        score = "" if best is None or best.score is None else f"{run.study.metric} {best.score:.4f}"
        return score, ""
    valid, test = (
        ", ".join(f"{metric} {value:.4f}" for _, metric, value in run.first_metrics(split))
        for split in ("valid", "test")
    )
    return valid, test


def _minutes(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds / 60:.1f}" if seconds >= 60 else f"{seconds / 60:.2f}"


# -- one run -----------------------------------------------------------------------------------------------------------


def show_lines(runs: Sequence[SavedRun]) -> Iterator[str]:
    """Everything that is known of each run."""
    for i, run in enumerate(runs):
        if i:
            yield ""
        yield from (_study_lines(run) if run.state == "study" else _run_lines(run))


def _head(run: SavedRun) -> Iterator[str]:
    yield f"{run.name}: {run.state}, {run.created}"
    yield f"  {run.folder}"
    if run.reason:
        yield f"  {shown(run.reason, 300)}"


def _run_lines(run: SavedRun) -> Iterator[str]:
    yield from _head(run)
    inputs = [one for one in run.found("schema", "inputs", kind=list) or [] if isinstance(one, dict)]
    reads = ", ".join(f"{one.get('name')} ({one.get('modality')})" for one in inputs)
    if reads or run.targets:
        predicts = ", ".join(f"{target} ({task})" for target, task in run.targets.items())
        yield f"  reads {reads or '?'}; predicts {predicts or '?'}"
    rows = run.found("rows", kind=dict) or {}
    if rows:
        yield "  rows: " + ", ".join(f"{name} {count:,}" for name, count in rows.items() if isinstance(count, int))
    if facts := _facts(run):
        yield f"  {facts}"
    for (split, target, metric), (value,) in scores_beside([run]).items():
        first = (target, metric) in {(t, m) for t, m, _ in run.first_metrics(split)}
        if first:
            yield ""
        if value is not None:
            yield f"  {split} {shown(target)} {metric}: {value:.4f}"
    yield from _changed_lines(run)
    yield from _curve_lines(run)


def _facts(run: SavedRun) -> str:
    machine = run.found("machine", kind=dict) or {}
    where = ", ".join(str(machine[key]) for key in ("system", "device") if key in machine)
    threads = machine.get("threads")
    polydetr = run.found("versions", "polydetr", kind=str)
    parameters = run.found("parameters", kind=int)
    parts = [
        "" if run.steps is None else f"{run.steps:,} steps",
        "" if run.seconds is None else f"{_minutes(run.seconds)} minutes",
        "" if parameters is None else f"{parameters:,} parameters",
        where, f"{threads} threads" if threads else "", f"polydetr {polydetr}" if polydetr else "",
    ]  # fmt: skip
    return ", ".join(filter(None, parts))


def _changed_lines(run: SavedRun) -> Iterator[str]:
    changed = changed_settings(run)
    if not settings_of(run):
        return
    yield ""
    if not changed:
        yield "  all settings are the defaults"
        return
    yield "  settings that differ from the defaults"
    rows = [(key, _value(value), _value(default)) for key, (value, default) in changed.items()]
    yield from (f"    {line}" for line in _table(("setting", "this run", "default"), rows))


def _curve_lines(run: SavedRun) -> Iterator[str]:
    history = [entry for entry in run.history if isinstance(entry.get("step"), int)]
    if not history:
        return
    best = run.found("training", "best_step", kind=int)
    kept = _thinned(history, best)
    rows = [
        (
            f"{entry['step']:,}{' kept' * (entry['step'] == best)}", *(_number(entry.get(k)) for k in _COLUMNS),
            _number(score_of(entry)),
        )
        for entry in kept
    ]  # fmt: skip
    left = f", {len(kept)} of {len(history)} evaluations" if len(kept) < len(history) else ""
    yield ""
    yield f"  curve{left}"
    heads = ("step", "epoch", "train loss", "valid loss", "score")
    yield from (f"    {line}" for line in _table(heads, rows, right=(1, 2, 3, 4)))


_COLUMNS = ("epoch", "train_loss", "valid_loss")


def _thinned(history: list[Any], best: int | None) -> list[Any]:
    """At most so many evaluations, evenly taken, the best one and the last one among them."""
    if len(history) <= _MOST_EVALUATIONS:
        return history
    count = _MOST_EVALUATIONS - 1
    places = {round(i * (len(history) - 1) / (count - 1)) for i in range(count)}
    return [e for i, e in enumerate(history) if i in places or e["step"] == best]


def _study_lines(run: SavedRun) -> Iterator[str]:
    yield from _head(run)
    record = run.study
    if record is None:
        return
    said = verdict(record)
    yield f"  {said.head}"
    yield f"  {said.text}"
    yield f"  {state_counts(record.trials)}; {_minutes(record.seconds)} minutes"
    kept = next((trial for trial in record.trials if trial.number == record.kept), None)
    if kept is not None and kept.settings:
        yield ""
        yield "  settings of the trial that was kept"
        yield from (f"    {line}" for line in settings_yaml(kept.settings).splitlines())
    if (run.folder / "report.html").exists():
        yield f"  report: {run.folder / 'report.html'}"


# -- several runs ------------------------------------------------------------------------------------------------------


def compare_lines(runs: Sequence[SavedRun]) -> Iterator[str]:
    """Scores, settings and curves, a column per run."""
    numbers = [f"({i})" for i in range(1, len(runs) + 1)]
    for number, run in zip(numbers, runs, strict=True):
        steps = "" if run.steps is None else f", {run.steps:,} steps"
        minutes = "" if run.seconds is None else f", {_minutes(run.seconds)} minutes"
        yield f"{number} {run.name}: {run.state}, {run.created}{steps}{minutes}"
    right = range(1, len(runs) + 1)
    scores = [(" ".join(key), *map(_number, values)) for key, values in scores_beside(runs).items()]
    if scores:
        yield ""
        yield from _table(("scores", *numbers), scores, right=right)
    yield ""
    differing = [(key, *map(_value, values)) for key, values in differing_settings(runs).items()]
    if differing:
        yield from _table(("settings that differ", *numbers), differing)
    else:
        yield "their settings are the same"
    curves = [(f"{step:,}", *map(_number, values)) for step, values in curves_beside(runs).items()]
    if curves:
        yield ""
        yield from _table((f"step: {metric_of(runs)}", *numbers), curves, right=right)


def metric_of(runs: Sequence[SavedRun]) -> str:
    """What the curves show: the one metric that all runs have first, or else the mean of each one's first metrics."""
    firsts = runs[0].first_metrics("valid") if runs else []
    if not is_like(runs) or len(firsts) != 1:
        return "score"
    target, metric, _ = firsts[0]
    turned = any(score < 0 for run in runs for _, score in run.curve)
    return f"{shown(target, 30)} {metric}" + ", higher is better" * turned


# -- JSON --------------------------------------------------------------------------------------------------------------


def run_json(run: SavedRun, *, whole: bool = False) -> dict[str, Any]:
    """whole: as ``runs show`` has it."""
    found: dict[str, Any] = {
        "run": run.name, "folder": str(run.folder), "state": run.state, "reason": run.reason, "date": run.created,
        "targets": run.targets, "metrics": run.metrics, "steps": run.steps, "seconds": run.seconds,
    }  # fmt: skip
    if run.study is not None:
        said = verdict(run.study)
        found |= {"trials": len(run.study.trials), "best": run.study.best, "kept": run.study.kept, "verdict": said.head}
    if whole:
        found |= {
            "rows": run.found("rows", kind=dict) or {},
            "machine": run.found("machine", kind=dict) or {},
            "versions": run.found("versions", kind=dict) or {},
            "settings": {
                key: {"value": value, "default": None if default is UNSET else default}
                for key, (value, default) in changed_settings(run).items()
            },
            "curve": run.curve,
        }
    return found


def compare_json(runs: Sequence[SavedRun]) -> dict[str, Any]:
    names = [str(run.folder) for run in runs]
    return {
        "runs": [run_json(run) for run in runs],
        "scores": [
            {"split": split, "target": target, "metric": metric, "values": dict(zip(names, values, strict=True))}
            for (split, target, metric), values in scores_beside(runs).items()
        ],
        "settings": {
            key: {name: None if value is UNSET else value for name, value in zip(names, values, strict=True)}
            for key, values in differing_settings(runs).items()
        },
        "curves": dict(zip(names, (run.curve for run in runs), strict=True)),
    }


# -- tables ------------------------------------------------------------------------------------------------------------


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] | range = ()) -> list[str]:
    """Aligned lines, the first one with the ``heads``; wide characters take two columns. right: of numbers."""
    cells = [[shown(cell, _WIDEST) for cell in row] for row in (heads, *rows)]
    widths = [max(display_width(row[i]) for row in cells) for i in range(len(heads))]
    lines = []
    for row in cells:
        padded = []
        for i, (cell, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - display_width(cell))
            padded.append(space + cell if i in right else cell + space)
        lines.append("  ".join(padded).rstrip())
    return lines


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) and not isinstance(value, bool) else "-"


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "-" if value is UNSET else "none" if value is None else value_text(value)
