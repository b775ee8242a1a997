"""Writes docs/benchmarks.md and the result tables of both READMEs and of the guide from benchmarks/results/*.jsonl.

    python benchmarks/report.py [--check]

Every figure there comes from a command here; what has not been measured says so.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import report_tables as tables
import report_use as use
from report_figures import FIGURES
from report_results import Results

HERE = Path(__file__).parent
ROOT = HERE.parent
PAGE = ROOT / "docs" / "benchmarks.md"
MARKS = re.compile(r"(<!-- results -->\n).*?(<!-- end of results -->)", re.DOTALL)


def figures_table(results: Results) -> str:
    rows = []
    for f in FIGURES:
        value = f.value(results)
        rows.append([f.data, f.measure, f.settings or "–", f.printed_goal(), f.printed(value), f.verdict(value)])
    return tables.table(["data", "measure", "settings", "goal", "measured", ""], rows)


SETTINGS_ZH = {"": "–", "default": "默认", "tuned": "调优"}


def readme_table(results: Results, *, chinese: bool) -> str:
    """The figures that a newcomer looks for first; all others stand on the page."""
    shown = [(f, f.printed(f.value(results))) for f in FIGURES if f.headline]
    if chinese:
        rows = [[f.data_zh, f.measure_zh, SETTINGS_ZH[f.settings], value, f.printed_goal()] for f, value in shown]
        return tables.table(["数据", "指标", "设置", "结果", "目标"], rows)
    rows = [[f.data, f.measure, f.settings or "–", value, f.printed_goal()] for f, value in shown]
    return tables.table(["data", "measure", "settings", "result", "aim"], rows)


def machines(results: Results) -> str:
    found = {line[k] for lines in results.files.values() for line in lines for k in ("machine", "cpu") if k in line}
    return "; ".join(sorted(found)) or "none yet"


def page(results: Results) -> str:
    notes = (HERE / "notes.md").read_text(encoding="utf-8").strip()
    return f"""# Benchmarks

Written by `python benchmarks/report.py` from `benchmarks/results/`, where the other commands in `benchmarks/` put what they
measured. "Tuned" settings are those of the scripts, chosen for these data on development rows; a user who says nothing gets others. "–" says that
there is nothing to tune, or that the script leaves it open. How often the test rows were looked at is said at the end.

Machines: {machines(results)}.

{figures_table(results)}

## Text

`python benchmarks/quality.py NAME --seed 0`

{tables.runs(results)}

### The article's table, row by row

CoNLL-2003 test, F1 of every token label.

{tables.article(results)}

### Question answering beside the `transformers` example

`python benchmarks/qa_peer.py`: the same backbone, training questions and questions asked, under the settings of the example script.

{tables.answers(results)}

### Speed

`python benchmarks/speed.py training|prediction|latency|memory|start|out_of_scope`; ratios are medians of pairs run in turn.

{tables.speed(results)}

## Mixed rows

`python benchmarks/multimodal.py ablation [--withheld 0.5]`: fashion products, 24 article types; the title as text, the photo, and five
table columns; frozen `minilm` and an ImageNet backbone. Accuracy; everything present:

{tables.ablation(results, 0.0)}

Half the titles withheld, of every split:

{tables.ablation(results, 0.5)}

The models that were trained on all three (`--only text+image+table`), asked with a modality left out.

{tables.hidden(results)}

`python benchmarks/automm.py`: beside AutoGluon-Multimodal, the article type from the same rows.

{tables.automm(results)}

## Tables alone

`python benchmarks/tables.py`, and `small_tables.py` with nothing said: five folds, the same for all; scikit-learn's models by their defaults.

{tables.tables(results)}

## Images

`python benchmarks/image_pipeline.py NAME`: images per second, each part alone.

{tables.pipeline(results)}

`python benchmarks/generation.py`: {tables.generation(results)}

## Search and recommendation

`python benchmarks/retrieval.py bankfaqs|fashion|films`

{tables.search(results)}

## Objects in images

`python benchmarks/detection.py --steps N --seed S`, and `detection_peer.py` for `transformers`: BCCD test, 72 images.

{tables.detection(results)}

`python benchmarks/detection.py --ablation --steps 2000`: one mechanism switched at a time; its table stands in the
[guide](guide/detection.md#what-each-mechanism-is-worth).

`python benchmarks/detection_precision.py MODEL`: {tables.rounding(results)}

`python benchmarks/detr_speed.py`; "products alone": the model's multiplications at the pace of this machine's large bfloat16 matrix products.

{tables.set_speed(results)}

## Entities as a set

`python benchmarks/entities.py gum|conll entities|tagging|innermost|outermost`; `innermost` and `outermost` are flat taggers of nested data.

{tables.entities(results)}

`python benchmarks/entities.py joint shared|separate`: each image of BCCD with a sentence of GUM, a short training that shows that both are
learned, not how well they could be.

{tables.joint(results)}

## Confidence

`python benchmarks/confidence.py accuracy DATA`: train, validation and test rows drawn anew per split; an accuracy is asked for, and the rows answered
with it are counted. `intervals`: five folds.

{use.stated(results)}

{use.intervals(results)}

## Time limits

`python benchmarks/time_limit.py --limits 30s 2m 10m [--busy 2] --keep`, on two cores; the promise is the limit and a tenth, or ten seconds.

{use.limits(results)}

`python benchmarks/busy.py --keep`: the pace beside programs that compute all the time; a fair share is 0.67 and 0.50.

{use.beside(results)}

`python benchmarks/mixed.py --data SHARED/data/clothing_small --seed N`: 375 rows of four numbers and four photos, a number to predict, five minutes; R² on
as many other rows.

{use.mixed(results)}

## Few rows

`python benchmarks/few_rows.py ours|usual|regression|setfit DATA --per-class N --draws 0 1 2`.

{use.few(results)}

## Studies and trackers

`python benchmarks/tuning.py`, `python benchmarks/tracking.py`.

{use.studies(results)}

## Exported models, and the runtime without PyTorch

`python benchmarks/runtime.py`, on one core and with the same weights; `python benchmarks/install.py --keep`.

{use.runtimes(results)}

## The service

`python benchmarks/service.py`, over real HTTP, MiniLM, short texts of 5 to 60 words; one core for the model, the other for HTTP and the client.

{use.service(results)}

## The pages

`python benchmarks/studio.py`, in Chromium on the machine of the service, a classifier of texts on MiniLM; `benchmarks/correction_kills.py`.

{use.pages(results)}

{notes}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail where a page is not what the results say")
    check = parser.parse_args().check
    results = Results()
    texts = {PAGE: page(results)}
    shown = {
        "README.md": readme_table(results, chinese=False),
        "README.zh-CN.md": readme_table(results, chinese=True),
        "docs/guide/detection.md": tables.mechanisms(results),
    }
    for name, rows in shown.items():
        old = (ROOT / name).read_text(encoding="utf-8")
        texts[ROOT / name] = MARKS.sub(lambda m, rows=rows: f"{m[1]}{rows}\n{m[2]}", old)
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if check:
        sys.exit("stale: " + ", ".join(p.name for p in stale) if stale else 0)
    for path in stale:
        path.write_text(texts[path], encoding="utf-8")


if __name__ == "__main__":
    main()
