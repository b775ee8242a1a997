"""The figures that are published, in both languages: what was measured, what was aimed at, where the value is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from report_results import Results, Value, at


@dataclass(frozen=True)
class Figure:
    """One line of the tables, in both languages. unit: "", "×", "MB", "s", "ms" or "points"; a goal of None is only reported.

    settings: whether ours had the "default" ones, or "tuned" ones for these data (chosen on development rows); "" where
    nothing says so, or there are none. headline: stands in the READMEs too.
    """

    data: str
    measure: str
    data_zh: str
    measure_zh: str
    goal: float | None
    value: Value
    unit: str = ""
    at_most: bool = False
    settings: Literal["", "default", "tuned"] = ""
    headline: bool = False

    def printed(self, value: float | None) -> str:
        if value is None:
            return "–"
        form = {
            "": "{:.4f}",
            "points": "{:.1f}",
            "MB": "{:,.0f} MB",
            "ms": "{:.0f} ms",
            "s": "{:.2f} s",
            "×": "{:.2f}×",
        }
        return form[self.unit].format(value)

    def printed_goal(self) -> str:
        if self.goal is None:
            return "–"
        number = f"{self.goal:,.0f}" if self.goal >= 1000 else f"{self.goal:g}"
        unit = {"": "", "points": "", "×": "×"}.get(self.unit, f" {self.unit}")
        return f"{'≤' if self.at_most else '≥'} {number}{unit}"

    def verdict(self, value: float | None) -> str:
        if value is None:
            return "not measured yet"
        if self.goal is None:
            return ""
        met = value <= self.goal if self.at_most else value >= self.goal
        return "reached" if met else f"**short by {abs(self.goal - value):.3g}**"


def test(name: str, target: str, metric: str) -> Value:
    return lambda results: results.test(name, target, metric)


def folds(metric: str) -> Value:
    return lambda results: results.folds(metric)


def job(name: str, *keys: str) -> Value:
    return lambda results: results.job(name, *keys)


def first(values: Sequence[Any] | None) -> Any:
    return values[0] if values else None


# fmt: off
FIGURES = [
    Figure("CoNLL-2003, test", "token table, weighted F1", "CoNLL-2003 测试集", "词元级加权 F1", 0.98, test("conll2003", "tags", "weighted_f1"), settings="tuned"),
    Figure("CoNLL-2003, test", "token table, macro F1", "CoNLL-2003 测试集", "词元级宏平均 F1", 0.9, test("conll2003", "tags", "macro_f1"), settings="tuned"),
    Figure("CoNLL-2003, test", "entity F1", "CoNLL-2003 测试集", "实体级 F1", 0.9, test("conll2003", "tags", "entity_f1"), settings="tuned", headline=True),
    Figure("BANKING77, test", "accuracy", "BANKING77 测试集", "准确率", 0.93, test("banking77", "category", "accuracy"), settings="tuned", headline=True),
    Figure("CLINC150, test", "accuracy in scope", "CLINC150 测试集", "域内准确率", 0.96, test("clinc150", "intent", "accuracy"), settings="tuned"),
    Figure("CLINC150, test", "AUROC out of scope, one pass", "CLINC150 测试集", "域外检测 AUROC，一次前向计算", 0.965, job("out_of_scope", "test"), settings="tuned"),
    Figure("CLUENER, dev", "entity F1", "CLUENER 开发集", "实体级 F1", 0.76, test("cluener", "entities", "entity_f1"), settings="tuned", headline=True),
    Figure("TNEWS, dev", "accuracy", "TNEWS 开发集", "准确率", 0.55, test("tnews", "label", "accuracy"), settings="tuned"),
    Figure("ChnSentiCorp, test", "accuracy", "ChnSentiCorp 测试集", "准确率", 0.93, test("chnsenticorp", "label", "accuracy"), settings="tuned", headline=True),
    Figure("Financial PhraseBank, 5 folds", "mean accuracy", "Financial PhraseBank 五折", "平均准确率", 0.85, folds("accuracy"), settings="tuned"),
    Figure("Financial PhraseBank, 5 folds", "mean macro F1", "Financial PhraseBank 五折", "平均宏平均 F1", 0.83, folds("macro_f1"), settings="tuned"),
    Figure("CMRC2018, few training questions", "F1 above `transformers` by its example", "CMRC2018，少量训练问题", "F1 高出 `transformers` 示例设置的差值", 0, lambda r: r.answers_gain("cmrc2018")),
    Figure("SQuAD 1.1, few training questions", "F1 above `transformers` by its example", "SQuAD 1.1，少量训练问题", "F1 高出 `transformers` 示例设置的差值", 0, lambda r: r.answers_gain("squad")),
    Figure("training, against `transformers.Trainer`", "tokens per second, both in bf16 and by length", "训练速度，对比 `transformers.Trainer`", "每秒词元数，双方均为 bf16 并按长度分批", None, job("training", "times_peer_like"), "×", headline=True),
    Figure("training, against `transformers.Trainer`", "tokens per second, its defaults", "训练速度，对比 `transformers.Trainer`", "每秒词元数，对方默认设置", 5, job("training", "times_peer_default"), "×"),
    Figure("prediction, against the `transformers` pipeline", "texts per second, both in bf16", "预测速度，对比 `transformers` 的 pipeline", "每秒文本数，双方均为 bf16", None, job("prediction", "times_peer_bf16"), "×", headline=True),
    Figure("prediction, against the `transformers` pipeline", "texts per second, both in fp32", "预测速度，对比 `transformers` 的 pipeline", "每秒文本数，双方均为 fp32", None, job("prediction", "times_peer_fp32"), "×"),
    Figure("prediction, against the `transformers` pipeline", "texts per second, each by default", "预测速度，对比 `transformers` 的 pipeline", "每秒文本数，双方默认设置", 4, job("prediction", "times_by_default"), "×"),
    Figure("one short text, warm", "time over the bare forward pass", "预热后处理一条短文本", "与单纯前向计算的耗时之比", 1.3, job("latency", "ratio"), "×", at_most=True),
    Figure("training `minilm` on CoNLL-2003", "peak memory", "用 `minilm` 在 CoNLL-2003 上训练", "内存峰值", 2500, job("memory", "training", "peak_mb"), "MB", at_most=True),
    Figure("1,000 rows tagged as a stream", "peak memory", "流式标注 1,000 行", "内存峰值", None, job("memory", "streaming_by_rows", "1000", "peak_mb"), "MB"),
    Figure("10,000 rows tagged as a stream", "peak memory", "流式标注 10,000 行", "内存峰值", None, job("memory", "streaming_by_rows", "10000", "peak_mb"), "MB"),
    Figure("`import polydetr`", "time", "`import polydetr`", "耗时", 0.3, job("start", "import_s"), "s", at_most=True),
    Figure("the help page of the command line", "time", "命令行帮助页", "耗时", 0.5, job("start", "help_s"), "s", at_most=True),
    Figure("fashion products, half the titles withheld", "points above the best single modality", "fashion products，隐去一半标题", "高出最佳单一模态的百分点", 2, lambda r: r.fashion_gain(0.5, over_pairs=False), "points", settings="tuned", headline=True),
    Figure("fashion products, everything present", "points above every modality and pair (within noise)", "fashion products，全部输入", "高出任一模态和任一组合的百分点（在噪声之内）", 0, lambda r: r.fashion_gain(0.0, over_pairs=True), "points", settings="tuned"),
    Figure("clothing, test", "accuracy", "clothing 测试集", "准确率", 0.82, test("clothing", "label", "accuracy"), settings="tuned", headline=True),
    Figure("breast cancer table, nothing said, 5 folds", "points behind the best of linear, boosting and MLP", "breast cancer 表格，不设任何参数，五折", "落后于线性模型、提升树和 MLP 最佳者的百分点", 1, lambda r: r.table_gap("breast_cancer"), "points", at_most=True, settings="default"),
    Figure("wine table, nothing said, 5 folds", "points behind the best of linear, boosting and MLP", "wine 表格，不设任何参数，五折", "落后于线性模型、提升树和 MLP 最佳者的百分点", 1, lambda r: r.table_gap("wine"), "points", at_most=True, settings="default", headline=True),
    Figure("diabetes table, nothing said, 5 folds", "points of R² behind the best of linear, boosting and MLP", "diabetes 表格，不设任何参数，五折", "R² 落后于线性模型、提升树和 MLP 最佳者的百分点", 1, lambda r: r.table_gap("diabetes"), "points", at_most=True, settings="default"),
    Figure("digits painted", "accuracy of an independent classifier on them", "绘制的数字", "独立分类器在其上的准确率", 0.95, lambda r: r.digits("accuracy"), settings="tuned"),
    Figure("digits painted", "Fréchet distance over real against real", "绘制的数字", "Fréchet 距离与真实样本间距离之比", 3, lambda r: r.digits("features", "ratio"), "×", at_most=True, settings="tuned"),
    Figure("an epoch on frozen backbones", "time recomputed over time with kept features", "冻结编码器时的一轮训练", "重新计算与使用缓存特征的耗时之比", 10, lambda r: at(first(at(r.cached(num_layers=2), "runs")), "ratio"), "×", settings="tuned"),
    Figure("images read and augmented", "pace over that of a training step", "图片读取与增强", "与训练一步的速度之比", 1, Results.pipeline, "×"),
    Figure("1,000 images prepared", "peak memory", "准备 1,000 张图片", "内存峰值", None, lambda r: at(r.newest("image_pipeline", what="memory"), "peak_anonymous_mb", "1000"), "MB"),
    Figure("4,000 images prepared", "peak memory", "准备 4,000 张图片", "内存峰值", None, lambda r: at(r.newest("image_pipeline", what="memory"), "peak_anonymous_mb", "4000"), "MB"),
    Figure("table columns, against AutoGluon-Multimodal", "CPU time to fit, at no lower accuracy", "表格列，对比 AutoGluon-Multimodal", "训练 CPU 耗时之比，准确率不低于对方", 2, lambda r: r.automm("table", "fit_cpu_seconds"), "×", settings="tuned"),
    Figure("table columns, against AutoGluon-Multimodal", "time for one row", "表格列，对比 AutoGluon-Multimodal", "单行预测耗时之比", 5, lambda r: r.automm("table", "one_row_ms"), "×", settings="tuned"),
    Figure("title and table columns, against AutoGluon-Multimodal", "CPU time to fit, at no lower accuracy", "标题与表格列，对比 AutoGluon-Multimodal", "训练 CPU 耗时之比，准确率不低于对方", 2, lambda r: r.automm("title and table", "fit_cpu_seconds"), "×", settings="tuned"),
    Figure("title and table columns, against AutoGluon-Multimodal", "time for one row", "标题与表格列，对比 AutoGluon-Multimodal", "单行预测耗时之比", 5, lambda r: r.automm("title and table", "one_row_ms"), "×", settings="tuned"),
    Figure("BCCD, test, `detr-fast`", "mAP at IoU 0.50, mean of three seeds", "BCCD 测试集，`detr-fast`", "IoU 0.50 处的 mAP，三个随机种子的均值", 0.88, lambda r: r.bccd("detr-fast", "map_50"), settings="tuned", headline=True),
    Figure("BCCD, test, `detr-fast`", "mAP, mean of three seeds", "BCCD 测试集，`detr-fast`", "mAP，三个随机种子的均值", 0.55, lambda r: r.bccd("detr-fast", "map"), settings="tuned"),
    Figure("`detr-fast` at 416 pixels, one image", "time of the model", "`detr-fast`，416 像素，单张图片", "模型耗时", 50, lambda r: at(r.newest("detr_speed", part="detr-fast", precision="bfloat16"), "model_ms"), "ms", at_most=True),
    Figure("`detr`, R50 at 800 pixels, both in bfloat16, against `transformers`", "CPU time, same weights", "`detr`，R50，800 像素，双方均为 bfloat16，对比 `transformers`", "CPU 耗时之比，权重相同", 4, lambda r: r.set_speed("times_faster_bf16", part="inference", size=800), "×"),
    Figure("matching 300 queries × 54 targets, against `transformers`", "CPU time, same assignments", "匹配 300 个查询与 54 个目标，对比 `transformers`", "CPU 耗时之比，结果相同", 5, lambda r: r.set_speed(part="matcher", layers=1), "×"),
    Figure("deformable attention of the decoder, against `transformers`", "CPU time, training", "解码器的可变形注意力，对比 `transformers`", "CPU 耗时之比，训练", 1, lambda r: r.set_speed(part="deformable", kind="decoder", gradients=True), "×"),
    Figure("GUM, nested names, test", "points of entity F1 above the best flat tagger", "GUM 嵌套实体测试集", "实体级 F1 高出最佳扁平标注的百分点", 5, lambda r: r.entities_gain("gum"), "points", settings="tuned"),
    Figure("GUM, nested names, test", "recall of nested ones", "GUM 嵌套实体测试集", "嵌套实体的召回率", 0.5, lambda r: at(r.newest("entities", data="gum", model="entities"), "test", "nested_recall"), settings="tuned"),
    Figure("CoNLL-2003, test, a part of the rows", "points of entity F1 of `entities` above `tagging`", "CoNLL-2003 测试集，部分训练数据", "`entities` 的实体级 F1 高出 `tagging` 的百分点", -0.5, lambda r: r.entities_gain("conll"), "points", settings="tuned"),
]
# fmt: on
