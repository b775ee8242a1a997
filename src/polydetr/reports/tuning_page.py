"""A study as files: the record itself, a table of its trials, images, and one HTML page that begins with the answer.

No outside host and no script; the images are inside the page, a second time upright for a telephone.
"""

from __future__ import annotations

import csv
import io
import math
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from html import escape
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from polydetr.core.files import json_text, save_json, save_text
from polydetr.core.studies import RECORD_FILE, StudyRecord, TrialRecord
from polydetr.core.tables import distinct_names
from polydetr.errors import InputError, escaped, shown
from polydetr.reports.evaluation import expendable
from polydetr.reports.html import page
from polydetr.reports.tuning_plots import PAGE, PHONE, curves_png, history_png, importances_png, parallel_png
from polydetr.reports.tuning_words import (
    duration_text,
    failure_reasons,
    rank,
    score_of,
    settings_yaml,
    state_counts,
    trial_name,
    value_text,
    verdict,
)
from polydetr.values.formulas import without_formula

TRIALS, PAGE_FILE = "trials.csv", "report.html"
_DRAWN: Mapping[str, tuple[Callable[..., None], str]] = {
    "importances": (importances_png, "how much of the scores' variance each setting explains"),
    "parallel": (parallel_png, "the settings and scores of the completed trials, as parallel coordinates"),
    "history": (history_png, "the score of each trial and the best so far"),
    "curves": (curves_png, "the score of each trial while it trained"),
}
_STATES = {"complete": "●", "pruned": "▼", "failed": "✕", "running": "■"}
_SHOWN_TRIALS = 100
_ENOUGH = 8
"""Completed trials from which on the best quarter of them says something about a setting."""


def write_study(record: StudyRecord, folder: Path) -> list[Path]:
    """``study.json``, ``trials.csv``, ``history.png``, ``importances.png``, ``parallel.png``, ``curves.png`` and
    ``report.html`` in ``folder``; the files written. An image for which the study has too few trials is left out.

    Raises:
        SaveError: a file cannot be written.
    """
    written = [save_json(folder / RECORD_FILE, asdict(record)), save_text(folder / TRIALS, trials_csv(record))]
    images: dict[str, str] = {}
    for name, (draw, meaning) in _DRAWN.items():
        with expendable(f"{name}.png"):
            try:
                images[name] = _image(record, folder / f"{name}.png", draw, meaning)
            except InputError:  # too few trials
                (folder / f"{name}.png").unlink(missing_ok=True)  # of the study before it went on
                continue
            written.append(folder / f"{name}.png")
    return [*written, save_text(folder / PAGE_FILE, study_html(record, images))]


def _image(record: StudyRecord, path: Path, draw: Callable[..., None], meaning: str) -> str:
    """Draws it, and again for a telephone; both as one element. Raises InputError."""
    draw(record, path, width=PAGE)
    with TemporaryDirectory() as scratch:
        upright = Path(scratch) / path.name
        draw(record, upright, width=PHONE)
        small = _data_url(upright)
    return (
        f'<figure><picture><source media="(max-width: 640px)" srcset="{small}">'
        f'<img src="{_data_url(path)}" alt="{escape(meaning, quote=True)}" width="864"></picture></figure>'
    )


def _data_url(path: Path) -> str:
    return f"data:image/png;base64,{b64encode(path.read_bytes()).decode()}"


# -- the table of trials -----------------------------------------------------------------------------------------------


def trials_csv(record: StudyRecord) -> str:
    """A row per trial: what became of it, its scores, and what it varied; empty where a trial did not vary it. What a
    spreadsheet may take for a formula is made harmless.
    """
    metrics = dict.fromkeys((t, m) for trial in record.trials for t, by in trial.metrics.items() for m in by)
    settings = dict.fromkeys(key for trial in record.trials for key in trial.settings)
    own = ["trial", "state", "score", "steps", "seconds", "reason"]
    measured = distinct_names([f"{target} {metric}" for target, metric in metrics], own)
    heads = [*own, *measured, *distinct_names(list(settings), [*own, *measured])]
    rows = [
        [
            trial.number, trial.state, trial.score, trial.steps, round(trial.seconds, 1), trial.reason,
            *(trial.metrics.get(target, {}).get(metric) for target, metric in metrics),
            *(trial.settings.get(key) for key in settings),
        ]
        for trial in record.trials
    ]  # fmt: skip
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([_cell(value) for value in row] for row in [heads, *rows])
    return text.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value) if math.isfinite(value) else ""
    return without_formula(" ".join(value.split()) if isinstance(value, str) else json_text(value))


# -- the page ----------------------------------------------------------------------------------------------------------


def study_html(record: StudyRecord, images: Mapping[str, str]) -> str:
    """The whole document. images: name → the element that shows it, see ``write_study``."""
    css = resources.files("polydetr.reports").joinpath("tuning.css").read_text(encoding="utf-8")
    parts = [
        f"<style>\n{css}</style>",
        _answer(record),
        _settings(record),
        f"<h2>What mattered</h2>\n{_importances(record)}{images.get('importances', '')}",
        images.get("parallel", ""),
        f"<h2>Trials</h2>\n{_facts(record)}{images.get('history', '')}{images.get('curves', '')}",
        _failures(record),
        _trials(record),
    ]
    return page(f"Better settings? {record.name}", "\n".join(filter(None, parts)))


def _answer(record: StudyRecord) -> str:
    said = verdict(record)
    kind = {"yes": "good", "no": "unknown", "unknown": "unknown"}[said.gained]
    mark = {"yes": "▲", "no": "=", "unknown": "?"}[said.gained]
    text = f"<p>{_text(said.text)}</p>" if said.text else ""
    return f'<div class="check {kind}"><strong>{mark} {_text(said.head)}</strong>{text}</div>'


def _settings(record: StudyRecord) -> str:
    by_number = {trial.number: trial for trial in record.trials}
    kept, best = by_number.get(record.kept), by_number.get(record.best)
    parts = ["<h2>Settings to write into a YAML file</h2>"]
    if kept is not None and kept.settings:
        parts.append(_yaml(kept))
    else:
        parts.append("<p>None: what the configuration says already was kept.</p>")
    if best is not None and best.settings and best.number != record.kept:
        parts.append(
            f"<details><summary>Those of trial {best.number}, which was not kept</summary>{_yaml(best)}</details>"
        )
    return "\n".join(parts)


def _yaml(trial: TrialRecord) -> str:
    return f'<pre tabindex="0"><code>{_text(settings_yaml(trial.settings))}</code></pre>'


def _importances(record: StudyRecord) -> str:
    """What each setting could be, what it is in the best trial, and in the best quarter of them."""
    by_number = {trial.number: trial for trial in record.trials}
    best = by_number.get(record.best)
    offered = {str(one["key"]): one for one in record.space}
    keys = sorted({**offered, **record.importances}, key=lambda key: (-record.importances.get(key, -1.0), key))
    if not keys:
        return "<p>Nothing was varied.</p>"
    cells_of = {}
    for key in keys:
        share = record.importances.get(key)
        of_best = best.settings.get(key) if best is not None else None
        cells_of[key] = [
            ("share", "" if share is None else f"{share:.0%}", "number"),
            ("searched:", _searched(offered.get(key, {})), ""),
            ("best trial:", "" if of_best is None else value_text(of_best), ""),
            ("best quarter:", _best_quarter(record.trials, key), ""),
        ]
    note = "" if record.importances else "<p>Too few completed trials to say which setting mattered.</p>"
    columns = [i for i in range(4) if any(cells[i][1] for cells in cells_of.values())]
    rows = [
        f'<tr><th scope="row"><code>{_text(key)}</code></th>{_cells([cells[i] for i in columns])}</tr>'
        for key, cells in cells_of.items()
    ]
    heads = ["setting", *(("share", "searched", "best trial", "best quarter")[i] for i in columns)]
    return f"{note}{_table(heads, rows, numbers={'share'})}"


def _searched(one: Mapping[str, Any]) -> str:
    only = "; ".join(
        f"where {shown(str(key), 60)} is {' or '.join(map(value_text, values))}"
        for key, values in (one.get("when") or {}).items()
    )
    if "low" in one and "high" in one:
        more = (", by the logarithm" * bool(one.get("log"))) + (f", step {one['step']:g}" if one.get("step") else "")
        what = f"{value_text(one['low'])} to {value_text(one['high'])}{more}"
    else:
        what = ", ".join(value_text(value) for value in one.get("values", ()))
    return ", ".join(filter(None, (what, only)))


def _best_quarter(trials: Sequence[TrialRecord], key: str) -> str:
    """The values of ``key`` in the quarter of completed trials that scored highest; "" where there are too few."""
    done = [t for t in trials if t.number and t.state == "complete" and score_of(t) is not None]
    if len(done) < _ENOUGH:
        return ""
    top = sorted(done, key=rank)[: max(2, len(done) // 4)]
    values = [t.settings[key] for t in top if key in t.settings]
    if values and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        low, high = min(values), max(values)
        return value_text(low) if low == high else f"{value_text(low)} to {value_text(high)}"
    named = [value_text(v) for v in values]
    counted = sorted({name: named.count(name) for name in named}.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{name} ({count})" for name, count in counted[:4])


def _facts(record: StudyRecord) -> str:
    rows = ", ".join(f"{name} {count:,}" for name, count in record.rows.items())
    how = "cross-validated" if record.cross_validated else "on the validation rows that choose"
    turned = any((score_of(trial) or 0.0) < 0 for trial in record.trials)
    better = "the higher the better" + ", an error with its sign turned" * turned
    parts = [
        state_counts(record.trials), duration_text(record.seconds), f"rows: {rows}" if rows else "",
        f"score: {record.metric}, {how}, {better}", f"seed {record.seed}",
    ]  # fmt: skip
    return f'<p class="facts">{_text(" · ".join(filter(None, parts)))}</p>'


def _failures(record: StudyRecord) -> str:
    reasons = failure_reasons(record.trials).most_common()
    if not reasons:
        return ""
    items = "".join(f"<li>{count:,} × {_text(reason)}</li>" for reason, count in reasons)
    return f"<h2>Why trials failed</h2>\n<ul>{items}</ul>"


def _trials(record: StudyRecord) -> str:
    """All trials, the highest score first; of many the later ones are folded away."""
    ranked = sorted(record.trials, key=lambda t: (t.state != "complete", rank(t), t.number))
    if not ranked:
        return ""
    heads = ["trial", "state", "score", "steps", "time", "settings"]
    rows = [_trial(trial, kept=trial.number == record.kept) for trial in ranked]
    numbers = {"score", "steps", "time"}
    first = _table(heads, rows[:_SHOWN_TRIALS], numbers=numbers)
    if len(rows) <= _SHOWN_TRIALS:
        return first
    more = _table(heads, rows[_SHOWN_TRIALS:], numbers=numbers)
    return f"{first}<details><summary>{len(rows) - _SHOWN_TRIALS:,} more trials</summary>{more}</details>"


def _trial(trial: TrialRecord, *, kept: bool) -> str:
    settings = "".join(
        f"<span><b>{_text(shown(key, 60))}</b> {_text(value_text(value))}</span>"
        for key, value in trial.settings.items()
    )
    reason = f'<span class="reason">{_text(shown(trial.reason, 200))}</span>' if trial.reason else ""
    score = "" if score_of(trial) is None else f"{trial.score:.4f}"
    state = f'<span class="state"><i aria-hidden="true">{_STATES[trial.state]}</i>{trial.state}</span>'
    cells = [
        ("score", score, "number"), ("steps", f"{trial.steps:,}", "number"),
        ("time", duration_text(trial.seconds), "number"),
    ]  # fmt: skip
    name = trial_name(trial) + (", kept" if kept else "")
    empty = "" if settings or reason else " empty"
    return (
        f'<tr class="{trial.state}{" kept" if kept else ""}"><th scope="row">{name}</th><td>{state}</td>{_cells(cells)}'
        f'<td class="settings{empty}">{settings}{reason}</td></tr>'
    )


def _cells(cells: Sequence[tuple[str, str, str]]) -> str:
    """(its name where the table is shown as cards, its text, its class) → ``<td>`` elements."""
    parts = []
    for label, text, kind in cells:
        kinds = " ".join(filter(None, (kind, "" if text else "empty")))
        parts.append(f'<td data-label="{escape(label, quote=True)}" class="{kinds}">{_text(text)}</td>')
    return "".join(parts)


def _table(heads: Sequence[str], rows: Sequence[str], *, numbers: set[str]) -> str:
    head = "".join(f'<th scope="col"{" class=number" * (name in numbers)}>{name}</th>' for name in heads)
    return f'<table class="cards"><thead><tr>{head}</tr></thead>\n<tbody>\n' + "\n".join(rows) + "\n</tbody></table>"


def _text(text: str) -> str:
    return escape(escaped(text))
