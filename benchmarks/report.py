"""Writes docs/benchmarks.md from benchmarks/results/*.jsonl: every figure there comes from a command here.

    python benchmarks/report.py [--check]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"

ARTICLE_F1 = {
    "B-LOC": 0.914, "I-LOC": 0.838, "B-MISC": 0.863, "I-MISC": 0.801, "B-ORG": 0.903, "I-ORG": 0.896, "B-PER": 0.961,
    "I-PER": 0.984, "O": 0.995, "macro avg": 0.919, "weighted avg": 0.970,
}  # fmt: skip
"""F1 of the token table that the product is held against; the row "weighted avg" is its headline."""

QUALITY: list[tuple[str, str, str, Callable[[dict[str, float]], float], float]] = [
    ("conll2003", "CoNLL-2003 test, token table, weighted F1", "tags", lambda m: m["weighted_f1"], 0.980),
    ("conll2003", "CoNLL-2003 test, token table, macro F1", "tags", lambda m: m["macro_f1"], 0.900),
    ("conll2003", "CoNLL-2003 test, entity F1", "tags", lambda m: m["entity_f1"], 0.900),
    ("banking77", "BANKING77 test accuracy", "category", lambda m: m["accuracy"], 0.93),
    ("clinc150", "CLINC150 test, in-scope accuracy", "intent", lambda m: m["accuracy"], 0.96),
    ("cluener", "CLUENER dev entity F1", "entities", lambda m: m["entity_f1"], 0.76),
    ("tnews", "TNEWS dev accuracy", "label", lambda m: m["accuracy"], 0.55),
    ("chnsenticorp", "ChnSentiCorp test accuracy", "label", lambda m: m["accuracy"], 0.93),
]


def load(name: str) -> list[dict[str, Any]]:
    path = HERE / "results" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def latest(rows: Iterable[dict[str, Any]], key: str) -> dict[str, dict[str, Any]]:
    """The newest line of each kind."""
    return {row[key]: row for row in rows}


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows])


def verdict(value: float, goal: float, *, at_most: bool = False) -> str:
    met = value <= goal if at_most else value >= goal
    return "reached" if met else f"**short by {abs(goal - value):.3g}**"


def quality_section(runs: dict[str, dict[str, Any]]) -> str:
    rows = []
    for name, title, target, pick, goal in QUALITY:
        if name not in runs:
            rows.append([title, f"≥ {goal}", "not measured yet", ""])
            continue
        run = runs[name]
        value = pick(run["metrics"]["test"][target])
        rows.append([title, f"≥ {goal}", f"{value:.4f}", verdict(value, goal)])
    folds = [run["metrics"]["test"]["label"] for name, run in sorted(runs.items()) if name.startswith("phrasebank-")]
    for title, key, goal in (("accuracy", "accuracy", 0.85), ("macro F1", "macro_f1", 0.83)):
        name = f"PhraseBank (≥ 50 % agreement), 5 folds, mean {title}"
        if len(folds) == 5:
            value = statistics.mean(f[key] for f in folds)
            rows.append([name, f"≥ {goal}", f"{value:.4f}", verdict(value, goal)])
        else:
            rows.append([name, f"≥ {goal}", f"{len(folds)} of 5 folds measured", ""])
    for name, title in (("squad", "SQuAD v1.1 by article"), ("cmrc2018", "CMRC2018 dev")):
        found = runs.get(name)
        metrics = found["metrics"]["test"]["answers"] if found else {}
        shown = f"F1 {metrics['f1']:.4f}, EM {metrics['exact_match']:.4f}" if found else "not measured yet"
        rows.append([title, "reported", shown, ""])
    return table(["what", "goal", "measured", ""], rows)


def article_section(runs: dict[str, dict[str, Any]]) -> str:
    tokens = runs.get("conll2003", {}).get("tables", {}).get("tags", {}).get("tokens")
    if not tokens:
        return "Not measured yet."
    found = {label: row["f1"] for label, row in tokens["labels"].items()}
    found |= {f"{name} avg": tokens["averages"][f"{name} avg"]["f1"] for name in ("macro", "weighted")}
    rows = [
        [label, f"{goal:.3f}", f"{found[label]:.3f}", "reached" if round(found[label], 3) >= goal else f"{found[label] - goal:+.3f}"]
        for label, goal in ARTICLE_F1.items()
    ]  # fmt: skip
    return table(["label", "the article's F1", "ours", ""], rows)


def runs_section(runs: dict[str, dict[str, Any]]) -> str:
    rows = []
    for name, run in sorted(runs.items()):
        training = run["training"]
        rows.append([
            name, run["settings"]["backbone"], f"{run['rows']['train']:,}", f"{training['seconds']:.0f}",
            f"{training['tokens_per_second']:,}", f"{run['peak_memory_mb']:,}", str(run["seed"]), run["date"], run["machine"],
        ])  # fmt: skip
    return table(["data", "backbone", "training rows", "seconds", "tokens/s", "peak MB", "seed", "date", "machine"], rows)


def speed_section(runs: dict[str, dict[str, Any]]) -> str:
    rows: list[list[str]] = []

    def add(what: str, goal: str, value: str, met: str) -> None:
        rows.append([what, goal, value, met])

    if run := runs.get("training"):
        for key, name, goal in (("ratio_default", "its defaults", 5), ("ratio_best", "its best (bf16, batch 32)", 3)):
            add(f"training against transformers.Trainer, {name}", f"≥ {goal}×", f"{run[key]:.2f}×", verdict(run[key], goal))
        f1 = (statistics.median(r["entity_f1"] for r in run[k]) for k in ("ours", "peer_default", "peer_best"))
        add("entity F1 of those runs: ours, its defaults, its best", "ours no lower", ", ".join(f"{v:.3f}" for v in f1), "")
    if run := runs.get("prediction"):
        add("prediction against its pipeline at its best batch size", "≥ 4×", f"{run['ratio']:.2f}×", verdict(run["ratio"], 4))
    if run := runs.get("latency"):
        shown = f"{run['ratio']:.2f}× ({run['predict_ms']:.2f} ms against {run['forward_ms']:.2f} ms)"
        add("one short text, warm, against the bare forward pass", "≤ 1.3×", shown, verdict(run["ratio"], 1.3, at_most=True))
    if run := runs.get("memory"):
        peak = run["training"]["peak_mb"]
        add("peak memory, training minilm on CoNLL-2003", "≤ 2,500 MB", f"{peak:,.0f} MB", verdict(peak, 2500, at_most=True))
        streamed = run["streaming_by_rows"]
        add(
            "peak memory, rows streamed through tagging: 1,000 and 10,000 rows", "equal",
            ", ".join(f"{s['peak_mb']:,.0f} MB" for s in streamed.values()), "",
        )  # fmt: skip
    if run := runs.get("start"):
        add("import polydetr", "≤ 0.3 s", f"{run['import_s']:.3f} s", verdict(run["import_s"], 0.3, at_most=True))
        add("polydetr --help", "≤ 0.5 s", f"{run['help_s']:.3f} s", verdict(run["help_s"], 0.5, at_most=True))
    if run := runs.get("out_of_scope"):
        add("CLINC150 out-of-scope AUROC, one forward pass", "≥ 0.965", f"{run['test']:.4f}", verdict(run["test"], 0.965))
    return table(["what", "goal", "measured", ""], rows) if rows else "Not measured yet."


def page() -> str:
    quality, speed = latest(load("quality"), "data"), latest(load("speed"), "job")
    dates = sorted({f"{r['machine']} ({r['date']})" for r in speed.values()})
    return f"""# Benchmarks

Every figure here was written by `python benchmarks/report.py` from `benchmarks/results/`, where `benchmarks/quality.py` and
`benchmarks/speed.py` put what they measured. Test rows were measured once; settings were chosen on development rows.

## Quality

{quality_section(quality)}

The runs behind it (`python benchmarks/quality.py NAME`):

{runs_section(quality)}

## The article's table, row by row

CoNLL-2003 test, F1 of every token label.

{article_section(quality)}

## Speed and memory

`python benchmarks/speed.py training|prediction|latency|memory|start`; ratios are medians of pairs run in turn.

{speed_section(speed)}

Machines: {"; ".join(dates) or "none yet"}.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail where the page is not what the results say")
    text = page()
    if parser.parse_args().check:
        sys.exit(PAGE.read_text(encoding="utf-8") != text)
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
