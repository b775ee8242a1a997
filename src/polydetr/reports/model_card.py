"""The model card of a saved model: its data, scores, calibration, limits and license (Mitchell et al. 2019)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from polydetr.core.files import json_text
from polydetr.errors import shown

Facts = Mapping[str, Any]


def model_card(
    *,
    name: str,
    description: str = "An attention model trained on labeled rows.",
    polydetr_version: str = "",
    date: str = "",
    data: Mapping[str, Facts] | None = None,
    schema: Facts | None = None,
    metrics: Mapping[str, Mapping[str, Facts]] | None = None,
    run: Facts | None = None,
    calibration: Mapping[str, Facts] | None = None,
    limits: Sequence[str] = (),
    backbone: Facts | None = None,
    example: Facts | None = None,
    reports: Sequence[str] = (),
) -> str:
    """Markdown from the given facts; a section without facts says "Not recorded."

    data: {split: {"rows": 14041, "source": "train.conll", "sha256": "..."}}.
    schema: {"inputs": {field: modality}, "targets": {target: {"task": "tagging", "labels": [...]}}}.
    metrics: {split: {target: {metric: number or None}}}.
    run: {"seed": 0, "machine": "...", "epochs": 4, "seconds": 840, ...}: any facts of the training run.
    calibration: {target: {"temperature": 1.3, "ece_before": 0.06, "ece_after": 0.01}}.
    limits: sentences.
    backbone: {"name": "minilm", "license": "Apache-2.0", "source": "...", "sha256": "..."}; None: random weights.
    example: one row of inputs, for the loading example.
    reports: the files beside the card, by their paths from its folder; the pictures among them are shown.
    """
    written_by = f"polydetr {polydetr_version}".strip() + (f" on {date}" if date else "")
    parts = [
        f"# {_inline(name)}\n\n{description}\n\nMade with {written_by}.\n",
        _section("Data", _table(data, "split")),
        _section("Inputs and targets", _schema(schema)),
        _section("Metrics", _metrics(metrics, run or {}, date)),
        *([_section("Reports", _reports(reports))] if reports else []),
        _section("Calibration", _table(calibration, "target")),
        _section("Training run", _facts(run)),
        _section("Limits", _limits(limits)),
        _section("Backbone and license", _backbone(backbone)),
        _section("How to load it", _loading(example or {"text": "..."})),
    ]
    return "\n".join(parts)


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body or 'Not recorded.'}\n"


def _table(rows: Mapping[str, Facts] | None, first: str) -> str:
    """One line per key of ``rows``, one column per key of their values."""
    if not rows:
        return ""
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [[first, *columns], ["---", *["---:" if _numeric(rows, name) else "---" for name in columns]]]
    lines += [[key, *(row.get(name) for name in columns)] for key, row in rows.items()]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _numeric(rows: Mapping[str, Facts], name: str) -> bool:
    return all(isinstance(row.get(name), (int, float, type(None))) for row in rows.values())


def _schema(schema: Facts | None) -> str:
    if not schema:
        return ""
    inputs = {field: {"modality": modality} for field, modality in schema.get("inputs", {}).items()}
    targets = {}
    for name, target in schema.get("targets", {}).items():
        labels = target.get("labels")
        targets[name] = {"task": target.get("task"), "labels": _labels(labels) if labels else None}
    return "\n\n".join(part for part in (_table(inputs, "input"), _table(targets, "target")) if part)


def _labels(labels: Sequence[Any]) -> str:
    first = ", ".join(shown(str(label), 60) for label in labels[:20])
    return f"{len(labels)}: {first}" + (", …" if len(labels) > 20 else "")


def _metrics(metrics: Mapping[str, Mapping[str, Facts]] | None, run: Facts, date: str) -> str:
    if not metrics:
        return ""
    facts = {"date": date or run.get("date"), "seed": run.get("seed"), "machine": run.get("machine")}
    measured = "; ".join(f"{name}: {_inline(value)}" for name, value in facts.items() if value is not None)
    rows: dict[str, dict[str, Any]] = {}
    for split, targets in metrics.items():
        for target, scores in targets.items():
            for metric, value in scores.items():
                rows.setdefault(f"{target}: {metric}", {})[split] = value
    return _table(rows, "metric") + (f"\n\nMeasured with {measured}." if measured else "")


def _reports(files: Sequence[str]) -> str:
    """A link to each file, what the pictures show below."""
    pictures = [file for file in files if file.endswith(".png")]
    links = [f"- [{_link_text(file)}]({quote(file)}){_meaning(file)}" for file in files if file not in pictures]
    shown = [f"![{_link_text(Path(file).stem)}]({quote(file)})" for file in pictures]
    return "\n\n".join(filter(None, ("\n".join(links), *shown)))


def _link_text(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>])", r"\\\1", text)


def _meaning(file: str) -> str:
    """What a file holds, where its name alone does not say it."""
    ends = {
        "-mistakes.html": "the worst mistakes, one by one",
        "history.json": "what was measured while it trained, and the loss of the steps",
        "rejected.jsonl": "the rows that were left out",
        "-labels.txt": "what the diagrams call by a number",
    }
    return next((f": {text}" for end, text in ends.items() if file.endswith(end)), "")


def _facts(facts: Facts | None) -> str:
    return "\n".join(f"- {_inline(name)}: {_cell(value)}" for name, value in facts.items()) if facts else ""


def _limits(limits: Sequence[str]) -> str:
    general = "Measured on the data named above; expect lower scores on text of another kind, period or language."
    return "\n".join(f"- {_inline(line)}" for line in (*limits, general))


def _backbone(backbone: Facts | None) -> str:
    if backbone is None:
        return "None: the weights began at random."
    body = _facts(backbone)
    if not backbone.get("license"):
        body += "\n- license: not recorded; ask the source before passing this model on."
    return body


def _loading(example: Facts) -> str:
    row = json_text(example)
    return (
        "```python\nfrom polydetr import Predictor\n\n"
        'predictor = Predictor.load("path/to/this/folder")\n'
        f"print(predictor.predict([{row}]))\n```"
    )


_MARKUP = re.compile(r"[\\`*\[\]<>~&#$!@]|(?<!\w)_|_(?!\w)|://|www\.", re.IGNORECASE)
"""What Markdown or HTML may read as more than text."""


def _inline(value: Any) -> str:
    """Text on one line; as code where a viewer might find markup or a link in it."""
    text = shown(" ".join(str(value).split()), 300)
    if not _MARKUP.search(text):
        return text
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _cell(value: Any) -> str:
    """One table cell: four decimals, thousands apart, a bar in the text escaped, nothing as a dash."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:.4f}" if math.isfinite(value) else "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{_inline(k)} {_cell(v)}" for k, v in value.items())
    return _inline(value).replace("|", "\\|")
