"""Writes docs/benchmarks.md and the result tables of both READMEs from benchmarks/results/*.jsonl.

    python benchmarks/report.py [--check]

Every figure there comes from a command here; what has not been measured says so.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
PAGE = ROOT / "docs" / "benchmarks.md"
MARKS = re.compile(r"(<!-- results -->\n).*?(<!-- end of results -->)", re.DOTALL)

ARTICLE_F1 = {
    "B-LOC": 0.914, "I-LOC": 0.838, "B-MISC": 0.863, "I-MISC": 0.801, "B-ORG": 0.903, "I-ORG": 0.896, "B-PER": 0.961,
    "I-PER": 0.984, "O": 0.995, "macro avg": 0.919, "weighted avg": 0.970,
}  # fmt: skip
"""F1 of the token table that the product is held against; the row "weighted avg" is its headline."""

Runs = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Results:
    """The newest line of every data set and of every speed job."""

    quality: Runs
    speed: Runs

    def test(self, name: str, target: str, metric: str) -> float | None:
        run = self.quality.get(name)
        return run["metrics"]["test"][target][metric] if run else None

    def folds(self, metric: str) -> float | None:
        found = [self.test(f"phrasebank-{fold}", "label", metric) for fold in range(5)]
        return statistics.mean(v for v in found if v is not None) if None not in found else None

    def job(self, name: str, *keys: str) -> float | None:
        value: Any = self.speed.get(name)
        for key in keys:
            value = value[key] if value else None
        return value


@dataclass(frozen=True)
class Figure:
    """One line of the tables, in both languages. unit: "", "×", "MB" or "s"; a goal of None is only reported."""

    data: str
    measure: str
    data_zh: str
    measure_zh: str
    goal: float | None
    value: Callable[[Results], float | None]
    unit: str = ""
    at_most: bool = False

    def printed(self, value: float | None) -> str:
        if value is None:
            return "–"
        if self.unit == "":
            return f"{value:.4f}"
        return f"{value:,.0f} MB" if self.unit == "MB" else f"{value:.2f} {self.unit}".replace(" ×", "×")

    def printed_goal(self) -> str:
        if self.goal is None:
            return "–"
        number = (
            f"{self.goal:,.0f} MB" if self.unit == "MB" else f"{self.goal:g} {self.unit}".strip().replace(" ×", "×")
        )
        return f"{'≤' if self.at_most else '≥'} {number}"

    def verdict(self, value: float | None) -> str:
        if value is None:
            return "not measured yet"
        if self.goal is None:
            return ""
        met = value <= self.goal if self.at_most else value >= self.goal
        return "reached" if met else f"**short by {abs(self.goal - value):.3g}**"


def _test(name: str, target: str, metric: str) -> Callable[[Results], float | None]:
    return lambda results: results.test(name, target, metric)


def _folds(metric: str) -> Callable[[Results], float | None]:
    return lambda results: results.folds(metric)


def _job(name: str, *keys: str) -> Callable[[Results], float | None]:
    return lambda results: results.job(name, *keys)


# fmt: off
FIGURES = [
    Figure("CoNLL-2003, test", "token table, weighted F1", "CoNLL-2003 测试集", "词元级加权 F1", 0.98, _test("conll2003", "tags", "weighted_f1")),
    Figure("CoNLL-2003, test", "token table, macro F1", "CoNLL-2003 测试集", "词元级宏平均 F1", 0.9, _test("conll2003", "tags", "macro_f1")),
    Figure("CoNLL-2003, test", "entity F1", "CoNLL-2003 测试集", "实体级 F1", 0.9, _test("conll2003", "tags", "entity_f1")),
    Figure("BANKING77, test", "accuracy", "BANKING77 测试集", "准确率", 0.93, _test("banking77", "category", "accuracy")),
    Figure("CLINC150, test", "accuracy in scope", "CLINC150 测试集", "域内准确率", 0.96, _test("clinc150", "intent", "accuracy")),
    Figure("CLINC150, test", "AUROC out of scope, one pass", "CLINC150 测试集", "域外检测 AUROC，一次前向计算", 0.965, _job("out_of_scope", "test")),
    Figure("CLUENER, dev", "entity F1", "CLUENER 开发集", "实体级 F1", 0.76, _test("cluener", "entities", "entity_f1")),
    Figure("TNEWS, dev", "accuracy", "TNEWS 开发集", "准确率", 0.55, _test("tnews", "label", "accuracy")),
    Figure("ChnSentiCorp, test", "accuracy", "ChnSentiCorp 测试集", "准确率", 0.93, _test("chnsenticorp", "label", "accuracy")),
    Figure("Financial PhraseBank, 5 folds", "mean accuracy", "Financial PhraseBank 五折", "平均准确率", 0.85, _folds("accuracy")),
    Figure("Financial PhraseBank, 5 folds", "mean macro F1", "Financial PhraseBank 五折", "平均宏平均 F1", 0.83, _folds("macro_f1")),
    Figure("CMRC2018, dev", "F1", "CMRC2018 开发集", "F1", None, _test("cmrc2018", "answers", "f1")),
    Figure("SQuAD 1.1, split by article", "F1", "SQuAD 1.1 按文章划分", "F1", None, _test("squad", "answers", "f1")),
    Figure("training, against `transformers.Trainer`", "tokens a second, its defaults", "训练速度，对比 `transformers.Trainer`", "每秒词元数，对方默认设置", 5, _job("training", "ratio_default"), "×"),
    Figure("training, against `transformers.Trainer`", "tokens a second, its best", "训练速度，对比 `transformers.Trainer`", "每秒词元数，对方最佳设置", 3, _job("training", "ratio_best"), "×"),
    Figure("prediction, against the `transformers` pipeline", "texts a second, its best batch", "预测速度，对比 `transformers` 的 pipeline", "每秒文本数，对方取最佳批大小", 4, _job("prediction", "ratio"), "×"),
    Figure("one short text, warm", "time over the bare forward pass", "预热后处理一条短文本", "与单纯前向计算的耗时之比", 1.3, _job("latency", "ratio"), "×", at_most=True),
    Figure("training `minilm` on CoNLL-2003", "peak memory", "用 `minilm` 在 CoNLL-2003 上训练", "内存峰值", 2500, _job("memory", "training", "peak_mb"), "MB", at_most=True),
    Figure("1,000 rows tagged as a stream", "peak memory", "流式标注 1,000 行", "内存峰值", None, _job("memory", "streaming_by_rows", "1000", "peak_mb"), "MB"),
    Figure("10,000 rows tagged as a stream", "peak memory", "流式标注 10,000 行", "内存峰值", None, _job("memory", "streaming_by_rows", "10000", "peak_mb"), "MB"),
    Figure("`import polydetr`", "time", "`import polydetr`", "耗时", 0.3, _job("start", "import_s"), "s", at_most=True),
    Figure("the help page of the command line", "time", "命令行帮助页", "耗时", 0.5, _job("start", "help_s"), "s", at_most=True),
]
# fmt: on


def load(name: str, key: str) -> Runs:
    path = HERE / "results" / f"{name}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {row[key]: row for row in map(json.loads, lines)}


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows])


def figures_table(results: Results) -> str:
    rows = []
    for f in FIGURES:
        value = f.value(results)
        rows.append([f.data, f.measure, f.printed_goal(), f.printed(value), f.verdict(value)])
    return table(["data", "measure", "goal", "measured", ""], rows)


def readme_table(results: Results, *, chinese: bool) -> str:
    head = ["数据", "指标", "结果", "目标"] if chinese else ["data", "measure", "result", "aim"]
    rows = [
        [f.data_zh if chinese else f.data, f.measure_zh if chinese else f.measure, f.printed(f.value(results)), f.printed_goal()]
        for f in FIGURES
    ]  # fmt: skip
    return table(head, rows)


def article_table(results: Results) -> str:
    tokens = results.quality.get("conll2003", {}).get("tables", {}).get("tags", {}).get("tokens")
    if not tokens:
        return "Not measured yet."
    found = {label: row["f1"] for label, row in tokens["labels"].items()}
    found |= {f"{name} avg": tokens["averages"][f"{name} avg"]["f1"] for name in ("macro", "weighted")}
    rows = []
    for label, goal in ARTICLE_F1.items():
        ours = round(found[label], 3)
        rows.append([label, f"{goal:.3f}", f"{ours:.3f}", "reached" if ours >= goal else f"**{ours - goal:+.3f}**"])
    return table(["label", "the article's F1", "ours", ""], rows)


def runs_table(results: Results) -> str:
    rows = []
    for name, run in sorted(results.quality.items()):
        training = run["training"]
        rows.append([
            name, run["settings"]["backbone"], f"{run['settings']['epochs']:g}", f"{run['rows']['train']:,}", f"{training['seconds']:.0f}",
            f"{training['tokens_per_second']:,}", f"{run['peak_memory_mb']:,}", str(run["seed"]), run["date"],
        ])  # fmt: skip
    head = ["data", "backbone", "epochs", "training rows", "seconds", "tokens/s", "peak MB", "seed", "date"]
    return table(head, rows)


def machines(results: Results) -> str:
    return "; ".join(sorted({r["machine"] for r in (*results.quality.values(), *results.speed.values())})) or "none yet"


def details(results: Results) -> str:
    """What the ratios are made of."""
    lines = []
    if run := results.speed.get("training"):
        speed = [statistics.median(r[k] for r in run[side]) for side, k in (
            ("ours", "tokens_per_s"), ("peer_default", "train_tokens_per_s"), ("peer_best", "train_tokens_per_s"))]  # fmt: skip
        f1 = [statistics.median(r["entity_f1"] for r in run[side]) for side in ("ours", "peer_default", "peer_best")]
        lines.append(
            f"Training `minilm` for one epoch on the same sentences: {speed[0]:,.0f} tokens/s at entity F1 {f1[0]:.3f}; "
            f"`transformers.Trainer` by its defaults {speed[1]:,.0f} at {f1[1]:.3f}, with bf16 and batches of 32 {speed[2]:,.0f} at {f1[2]:.3f}."
        )
    if run := results.speed.get("prediction"):
        ours, peer = statistics.median(run["ours"]), statistics.median(run["peer"])
        lines.append(f"Prediction: {ours:,.0f} texts/s; the pipeline at its best batch size {peer:,.0f}.")
    if run := results.speed.get("latency"):
        lines.append(f"One text: {run['predict_ms']:.2f} ms, of which the forward pass {run['forward_ms']:.2f} ms.")
    return "\n\n".join(lines) or "Not measured yet."


def page(results: Results) -> str:
    notes = (HERE / "notes.md").read_text(encoding="utf-8").strip()
    return f"""# Benchmarks

Written by `python benchmarks/report.py` from `benchmarks/results/`, where `benchmarks/quality.py` and `benchmarks/speed.py` put what they
measured. Settings were chosen on development rows; how often the test rows were looked at is said at the end.

Machines: {machines(results)}.

{figures_table(results)}

## The runs

`python benchmarks/quality.py NAME --seed 0`

{runs_table(results)}

## The article's table, row by row

CoNLL-2003 test, F1 of every token label.

{article_table(results)}

## Speed

`python benchmarks/speed.py training|prediction|latency|memory|start|out_of_scope`; ratios are medians of pairs run in turn.

{details(results)}

{notes}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail where a page is not what the results say")
    check = parser.parse_args().check
    results = Results(load("quality", "data"), load("speed", "job"))
    texts = {PAGE: page(results)}
    for name, chinese in (("README.md", False), ("README.zh-CN.md", True)):
        rows = readme_table(results, chinese=chinese)
        old = (ROOT / name).read_text(encoding="utf-8")
        texts[ROOT / name] = MARKS.sub(lambda m, rows=rows: f"{m[1]}{rows}\n{m[2]}", old)
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if check:
        sys.exit("stale: " + ", ".join(p.name for p in stale) if stale else 0)
    for path in stale:
        path.write_text(texts[path], encoding="utf-8")


if __name__ == "__main__":
    main()
