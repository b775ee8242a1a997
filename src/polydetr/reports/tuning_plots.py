"""The images of a study, as PNG: its history, what mattered, parallel coordinates, and the curves of its trials.

Each is drawn for a page (``width`` in inches of about 96 pixels) or, upright and narrower, for a telephone. States
differ by their marks, not by color alone: a point is a completed trial, a triangle a pruned one, a cross a failed one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polydetr.core.studies import StudyRecord, TrialRecord
from polydetr.errors import InputError
from polydetr.reports.label_names import label_names
from polydetr.reports.style import BAD, BLUE, FAINT, INK, ORANGE, canvas, quiet_grid, shorten
from polydetr.reports.tuning_words import score_of, value_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAGE, PHONE = 9.0, 4.2
"""Widths, in inches."""
_MOST_AXES = 12
_MOST_NAMED = 8
"""Choices of a dimension that are named at its axis."""
_ABSENT = "not set"
_BOX: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6}
"""Behind what is written over lines."""


def history_png(record: StudyRecord, path: str | Path, *, width: float = PAGE) -> None:
    """The score of every trial, and the best so far.

    Raises:
        InputError: no trial has a score.
    """
    from matplotlib.ticker import MaxNLocator

    scored = {trial.number: value for trial in record.trials if (value := _last_score(trial)) is not None}
    if not scored:
        raise InputError("A history needs a trial with a score; the study has none.")
    complete = [scored[t.number] for t in record.trials if t.state == "complete" and t.number in scored]
    low, high = min(complete or scored.values()), max(scored.values())
    room = (high - low) * 0.1 or abs(high) * 0.05 or 0.05
    floor = low - 4 * room  # a trial that was pruned early would press the others together: it is drawn at the edge
    with canvas(width, 3.6 if width > PHONE else 3.4, path=path) as figure:
        axes = figure.add_subplot()
        axes.set_title("Score per trial", fontsize=12)
        _draw_best_so_far(axes, record.trials)
        for state, marker, color, name in _MARKS:
            points = [(trial.number, max(scored[trial.number], floor)) for trial in record.trials
                      if trial.state == state and trial.number in scored]  # fmt: skip
            if points:
                face = color if state == "complete" else "white"
                axes.plot(*zip(*points, strict=True), ls="", marker=marker, ms=6, color=color, mfc=face, label=name)
        failed = [trial.number for trial in record.trials if trial.state == "failed"]
        if failed:
            axes.plot(failed, [floor] * len(failed), ls="", marker="x", ms=7, mew=2, color=BAD, label="failed")
        if 0 in scored:
            axes.axhline(scored[0], color=INK, lw=1, ls="--", label=f"default: {scored[0]:.4f}", zorder=0)
        axes.set(xlabel="trial", ylabel=shorten(record.metric, 40))
        axes.set_ylim(floor - room, high + room)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        quiet_grid(axes)
        _legend_below(figure, columns=6 if width > PHONE else 2)


_MARKS = (
    ("complete", "o", BLUE, "complete"),
    ("pruned", "v", FAINT, "pruned, at its last score"),
    ("running", "s", FAINT, "running"),
)


def _draw_best_so_far(axes: Axes, trials: Sequence[TrialRecord]) -> None:
    points: list[tuple[int, float]] = []
    for trial in sorted(trials, key=lambda trial: trial.number):
        if trial.state == "complete" and (score := _last_score(trial)) is not None:
            points.append((trial.number, max(score, points[-1][1]) if points else score))
    if points:
        points.append((max(trial.number for trial in trials), points[-1][1]))
        axes.step(*zip(*points, strict=True), where="post", color=ORANGE, lw=1.8, label="best so far", zorder=1)


def importances_png(record: StudyRecord, path: str | Path, *, width: float = PAGE) -> None:
    """The share of the scores' variance that each setting explains, the largest on top.

    Raises:
        InputError: no importance is known.
    """
    ranked = sorted(record.importances.items(), key=lambda pair: (-pair[1], pair[0]))[:20]
    if not ranked:
        raise InputError("Importances need completed trials with different scores; the study has too few.")
    names = _names([key for key, _ in ranked], narrow=width <= PHONE)
    with canvas(width, 1.2 + 0.34 * len(ranked), path=path) as figure:
        axes = figure.add_subplot()
        axes.set_title("What mattered", fontsize=12)
        bars = axes.barh(range(len(ranked)), [share for _, share in ranked], color=BLUE, height=0.62)
        axes.bar_label(bars, [f"{share:.0%}" for _, share in ranked], padding=4)
        axes.set_yticks(range(len(ranked)), [names[key] for key, _ in ranked])
        axes.set(xlabel="share of the variance", xlim=(0, max(0.05, ranked[0][1]) * 1.18))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        quiet_grid(axes, "x")


def curves_png(record: StudyRecord, path: str | Path, *, width: float = PAGE) -> None:
    """The score of each trial while it trained; a pruned one ends in a triangle.

    Raises:
        InputError: no trial was evaluated while it trained.
    """
    drawn = [trial for trial in record.trials if trial.curve]
    if not drawn:
        raise InputError("Curves need trials that were evaluated while they trained; the study has none.")
    special = {0: ("default", INK, "--"), record.best: (f"best: trial {record.best}", ORANGE, "-")}
    if record.best == 0:
        special = {0: ("default, the best", ORANGE, "-")}
    said: set[str] = set()
    with canvas(width, 3.8 if width > PHONE else 3.6, path=path) as figure:
        axes = figure.add_subplot()
        axes.set_title("Trials while they trained", fontsize=12)
        for trial in drawn:
            x, y = zip(*trial.curve, strict=True)
            end = {"pruned": "v", "failed": "x"}.get(trial.state, "")
            if trial.number in special:
                label, color, dash = special[trial.number]
                axes.plot(x, y, color=color, lw=2.2, ls=dash, marker="o", ms=4, label=label, zorder=4)
                continue
            label = f"{trial.state} trials"
            style = {"color": BLUE if trial.state == "complete" else FAINT, "alpha": 0.45, "lw": 1.1}
            dots = "o" if len(x) == 1 else ""
            name = None if label in said else label
            if end:
                axes.plot(x, y, **style)
                axes.plot(x[-1:], y[-1:], ls="", marker=end, ms=5, color=style["color"], mfc="white", label=name)
            else:
                axes.plot(x, y, marker=dots, ms=3, label=name, **style)
            said.add(label)
        axes.set(xlabel="optimizer step", ylabel=shorten(record.metric, 40))
        quiet_grid(axes)
        _legend_below(figure, columns=5 if width > PHONE else 2)


# -- parallel coordinates ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dimension:
    """One axis: where each value stands on it, 0 … 1, and what is written beside it, as (place, text)."""

    key: str
    places: Mapping[int, float]
    marks: Sequence[tuple[float, str]]


def dimensions(record: StudyRecord) -> list[Dimension]:
    """An axis per setting that completed trials varied, the most important first, then one of the scores. A trial that
    lacks a setting, which another one switched off, is given a place of its own below the others.
    """
    trials = [t for t in record.trials if t.number and t.state == "complete" and score_of(t) is not None]
    kinds = {str(one["key"]): one for one in record.space}
    varied = dict.fromkeys(key for trial in trials for key in trial.settings)
    ranked = sorted(varied, key=lambda key: -record.importances.get(key, 0.0))[: _MOST_AXES - 1]
    axes = [_dimension(key, kinds.get(key, {}), trials) for key in ranked]
    scores = {trial.number: score for trial in trials if (score := score_of(trial)) is not None}
    return [*axes, _numeric("score", scores, log=False)] if axes else []


def _dimension(key: str, kind: Mapping[str, Any], trials: Sequence[TrialRecord]) -> Dimension:
    values = {trial.number: trial.settings[key] for trial in trials if key in trial.settings}
    absent = [trial.number for trial in trials if key not in trial.settings]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values.values())
    if numeric and kind.get("kind", "range") == "range":
        ends = [float(kind[end]) for end in ("low", "high") if end in kind]
        found = _numeric(key, {n: float(v) for n, v in values.items()}, log=bool(kind.get("log")), ends=ends)
    else:
        offered = [value_text(value) for value in kind.get("values", ())]
        found = _named(key, {n: value_text(v) for n, v in values.items()}, offered)
    if not absent:
        return found
    places = {n: 0.15 + 0.85 * place for n, place in found.places.items()} | dict.fromkeys(absent, 0.0)
    return Dimension(key, places, [(0.0, _ABSENT), *((0.15 + 0.85 * place, text) for place, text in found.marks)])


def _numeric(key: str, values: Mapping[int, float], *, log: bool, ends: Sequence[float] = ()) -> Dimension:
    log = log and min([*values.values(), *ends]) > 0
    scale = math.log if log else float
    low, high = min([*values.values(), *ends]), max([*values.values(), *ends])
    span = scale(high) - scale(low)
    places = {n: (scale(value) - scale(low)) / span if span else 0.5 for n, value in values.items()}
    middle = math.sqrt(low * high) if log else (low + high) / 2
    marks = [(0.0, low), (0.5, middle), (1.0, high)] if span else [(0.5, low)]
    return Dimension(key, places, [(place, f"{value:.3g}") for place, value in marks])


def _named(key: str, values: Mapping[int, str], offered: Sequence[str]) -> Dimension:
    names = list(dict.fromkeys([*offered, *values.values()]))
    place = {name: i / (len(names) - 1) if len(names) > 1 else 0.5 for i, name in enumerate(names)}
    shown = label_names(names, limit=14)
    step = max(1, math.ceil(len(names) / _MOST_NAMED))
    marks = [(place[name], shown.get(name, name)) for name in names[::step]]
    return Dimension(key, {n: place[value] for n, value in values.items()}, marks)


def parallel_png(record: StudyRecord, path: str | Path, *, width: float = PAGE) -> None:
    """Completed trials as lines over one axis per setting; the higher the score, the darker. On a telephone's width the
    axes lie one below the other.

    Raises:
        InputError: no two completed trials differ in a setting.
    """
    from matplotlib.colors import LinearSegmentedColormap

    found = dimensions(record)
    if len(found) < 2 or len(found[-1].places) < 2:
        raise InputError("Parallel coordinates need two completed trials that differ; the study has too few.")
    upright = width <= PHONE
    names = _names([one.key for one in found], narrow=False) if upright else _last_parts([one.key for one in found])
    shades = LinearSegmentedColormap.from_list("score", ["#b3cbe6", BLUE, "#123a66"])
    scores = found[-1].places
    height = 1.0 + 0.72 * len(found) if upright else 4.2
    with canvas(width, height, path=path) as figure:
        axes = figure.add_subplot()
        axes.set_title("Settings and scores of the completed trials", fontsize=12, pad=14)
        for number in sorted(scores, key=lambda n: scores[n]):
            line = [one.places[number] for one in found]
            best = number == record.best
            style = {"color": ORANGE if best else shades(scores[number]), "lw": 2.6 if best else 1.2}
            style |= {"alpha": 1.0 if best else 0.8, "zorder": 5 if best else 2 + scores[number]}
            mark = {"marker": "o" if best else "", "ms": 5, "label": f"best: trial {number}" if best else None}
            axes.plot(*((line, range(len(found))) if upright else (range(len(found)), line)), **style, **mark)
        for i, one in enumerate(found):
            _draw_axis(axes, i, one, upright=upright)
        labels = [names[one.key] for one in found]
        if upright:
            axes.set_yticks([])
            axes.set(xlim=(-0.06, 1.06), ylim=(len(found) - 0.55, -0.75))
            for i, label in enumerate(labels):
                axes.text(-0.04, i - 0.36, label, fontsize=9, fontweight="bold", va="center", zorder=6, bbox=_BOX)
            axes.set_xticks([])
        else:
            axes.set_xticks(range(len(found)), labels, rotation=20, ha="right", rotation_mode="anchor")
            axes.set(xlim=(-0.3, len(found) - 0.4), ylim=(-0.05, 1.05))
            axes.set_yticks([])
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        if any(number == record.best for number in scores):
            _legend_below(figure, columns=1)


def _draw_axis(axes: Axes, place: int, dimension: Dimension, *, upright: bool) -> None:
    ends = ((0, 1), (place, place)) if upright else ((place, place), (0, 1))
    axes.plot(*ends, color=FAINT, lw=1, zorder=1)
    for at, text in dimension.marks:
        if upright:
            side = "left" if at < 0.1 else "right" if at > 0.9 else "center"
            axes.text(at, place + 0.2, text, ha=side, va="center", fontsize=8, zorder=6, bbox=_BOX)
        else:
            axes.text(place + 0.05, at, text, ha="left", va="center", fontsize=8, zorder=6, bbox=_BOX)


# -- shared ------------------------------------------------------------------------------------------------------------


def _last_score(trial: TrialRecord) -> float | None:
    """Its score; of one that was pruned or runs, the last that is known."""
    score = trial.score if trial.score is not None else (trial.curve[-1][1] if trial.curve else None)
    return score if score is not None and math.isfinite(score) and trial.state != "failed" else None


def _names(keys: Sequence[str], *, narrow: bool, limit: int = 34) -> dict[str, str]:
    return {key: key for key in keys} | label_names(keys, limit=20 if narrow else limit)


def _legend_below(figure: Figure, *, columns: int) -> None:
    figure.legend(loc="outside lower left", ncols=columns, fontsize=9, columnspacing=1.2)


def _last_parts(keys: Sequence[str]) -> dict[str, str]:
    """Key → what stands after its last dot, where no other key ends so."""
    last = {key: key.rpartition(".")[2] for key in keys}
    ends = list(last.values())
    short = {key: end if ends.count(end) == 1 else key for key, end in last.items()}
    names = label_names(short.values(), limit=18)
    return {key: names.get(end, end) for key, end in short.items()}
