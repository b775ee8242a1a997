"""The tables under the figures: runs, the article's table, speed, mixed rows, tables, detection, search, generation."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from report_results import Line, Results, at, mean

ARTICLE_F1 = {
    "B-LOC": 0.914, "I-LOC": 0.838, "B-MISC": 0.863, "I-MISC": 0.801, "B-ORG": 0.903, "I-ORG": 0.896, "B-PER": 0.961,
    "I-PER": 0.984, "O": 0.995, "macro avg": 0.919, "weighted avg": 0.970,
}  # fmt: skip
"""F1 of the token table that the product is held against; the row "weighted avg" is its headline."""

MISSING = "Not measured yet."


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, or a sentence where it would have no row."""
    if not rows:
        return MISSING
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows])


def spread(values: Sequence[float]) -> str:
    """ "0.912 ± 0.004": mean and standard deviation of several runs; of one, its value."""
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def seeds_of(lines: Sequence[Line]) -> str:
    return ", ".join(str(line["seed"]) for line in sorted(lines, key=lambda line: line["seed"]))


def backbone_of(run: Line) -> str:
    name = run["settings"].get("backbone", "–")
    return ", ".join(name.values()) if isinstance(name, dict) else str(name)


# -- text -------------------------------------------------------------------------------------------------------------


def runs(results: Results) -> str:
    rows = []
    for name, run in sorted(results.newest_by("quality", "data").items()):
        training = run["training"]
        rows.append([
            name, backbone_of(run), f"{run['settings']['epochs']:g}", f"{run['rows']['train']:,}", f"{training['seconds']:.0f}",
            f"{training['tokens_per_second']:,}", f"{run['peak_memory_mb']:,}", str(run["seed"]), run["date"],
        ])  # fmt: skip
    return table(
        ["data", "backbone", "epochs", "training rows", "seconds", "tokens/s", "peak MB", "seed", "date"], rows
    )


def article(results: Results) -> str:
    tokens = at(results.newest("quality", data="conll2003"), "tables", "tags", "tokens")
    if not tokens:
        return MISSING
    found = {label: row["f1"] for label, row in tokens["labels"].items()}
    found |= {f"{name} avg": tokens["averages"][f"{name} avg"]["f1"] for name in ("macro", "weighted")}
    rows = []
    for label, goal in ARTICLE_F1.items():
        ours = round(found[label], 3)
        rows.append([label, f"{goal:.3f}", f"{ours:.3f}", "reached" if ours >= goal else f"**{ours - goal:+.3f}**"])
    return table(["label", "the article's F1", "ours", ""], rows)


def speed(results: Results) -> str:
    """What the ratios are made of."""
    lines = []

    def median(run: Line, side: str, what: str) -> float:
        return statistics.median(found[what] for found in run[side])

    run = results.newest("speed", job="training")
    if run and "peer_like" in run:
        sides = ("ours", "peer_like", "peer_default")
        pace, f1 = ([median(run, side, what) for side in sides] for what in ("tokens_per_s", "entity_f1"))
        lines.append(
            f"Training `minilm` for one epoch on the same sentences: {pace[0]:,.0f} tokens/s at entity F1 {f1[0]:.3f}; "
            f"`transformers.Trainer` in bf16 with rows of like length together {pace[1]:,.0f} at {f1[1]:.3f}, by its "
            f"defaults {pace[2]:,.0f} at {f1[2]:.3f}."
        )
    run = results.newest("speed", job="prediction")
    if run and "ours_auto" in run:
        ours = ", ".join(
            f"{kind} {median(run, f'ours_{kind}', 'texts_per_s'):,.0f}" for kind in ("auto", "bf16", "fp32")
        )
        peer = ", ".join(f"{kind} {median(run, f'peer_{kind}', 'texts_per_s'):,.0f}" for kind in ("bf16", "fp32"))
        lines.append(f"Prediction, texts/s: ours {ours}; the pipeline at its better batch size {peer}.")
    if run := results.newest("speed", job="latency"):
        lines.append(f"One text: {run['predict_ms']:.2f} ms, of which the forward pass {run['forward_ms']:.2f} ms.")
    return "\n\n".join(lines) or MISSING


def answers(results: Results) -> str:
    """Question answering, and the same backbone under the settings of the transformers example."""
    rows = []
    for run in results.newest_by("qa_peer", "label").values():
        rows.append([
            run["data"], run["model"], f"{run['rows']['train']:,}", f"{run['rows']['test']:,}",
            f"{run['metrics']['exact_match']:.3f}", f"{run['metrics']['f1']:.3f}", f"{run['seconds']:.0f}",
            str(run["seed"]), run["date"],
        ])  # fmt: skip
    head = ["data", "model", "training questions", "questions asked", "exact match", "F1", "seconds", "seed", "date"]
    return table(head, rows)


# -- mixed rows -------------------------------------------------------------------------------------------------------


def ablation(results: Results, withheld: float) -> str:
    rows = []
    for (modalities, fusion, share), found in results.ablation(withheld).items():
        rows.append([
            modalities, fusion, share, spread([run["accuracy"]["test"] for run in found]),
            spread([run["accuracy"]["valid"] for run in found]), f"{found[0]['parameters']:,}",
            f"{statistics.median(run['training_seconds'] for run in found):.0f}", str(len(found)),
        ])  # fmt: skip
    return table(["modalities", "fusion", "sharing", "test", "validation", "parameters", "seconds", "seeds"], rows)


def hidden(results: Results) -> str:
    """One model, asked with a modality left out, beside the best model that reads one of the others alone."""
    rows = []
    for withheld in (0.0, 0.5):
        newest = results.newest_by("multimodal", "seed", what="missing", withheld=withheld)
        found: dict[str, list[float]] = {}
        for line in newest.values():
            for run in line["runs"]:
                found.setdefault(run["hidden"], []).append(run["test"])
        alone = results.alone(withheld)
        for name, scores in found.items():
            rest = max((score for other, score in alone.items() if other != name), default=None)
            rows.append([
                "half the titles withheld" if withheld else "everything present", name, spread(scores), str(len(scores)),
                "–" if rest is None else f"{rest:.3f}",
            ])  # fmt: skip
    return table(["rows", "hidden when asked", "test accuracy", "seeds", "the best of the others alone"], rows)


def tables(results: Results) -> str:
    names = ("breast_cancer", "wine", "diabetes")
    newest = {name: results.newest_by("tables", "model", data=name) for name in names}
    models = list(dict.fromkeys(model for lines in newest.values() for model in lines))
    rows = [
        [model, *(f"{at(newest[n].get(model), 'mean') or 0:.4f}" if model in newest[n] else "–" for n in names)]
        for model in models
    ]
    default = results.newest_by("small_tables", "data", model="polydetr")
    cells = (f"{default[n]['mean']:.4f}" if n in default else "–" for n in names)
    rows = [["polydetr, tuned" if row[0] == "polydetr" else row[0], *row[1:]] for row in rows]
    rows.append(["polydetr, nothing said", *cells])
    return table(["model", "breast cancer, accuracy", "wine, accuracy", "diabetes, R²"], rows)


def automm(results: Results) -> str:
    rows = []
    for line in {(line["columns"], line["who"]): line for line in results.all("automm")}.values():
        name = {"automm": "AutoGluon-Multimodal 1.6.3"}.get(line["who"], line["who"])
        rows.append([line["columns"], name, str(line["epochs"]), f"{line['accuracy']:.3f}", f"{line['fit_cpu_seconds']:.0f}",
                     f"{line['one_row_ms']:.1f}", str(line["seed"]), line["date"]])  # fmt: skip
    return table(["columns", "model", "epochs", "test accuracy", "CPU seconds", "one row, ms", "seed", "date"], rows)


def search(results: Results) -> str:
    rows = []
    for run in results.all("retrieval"):
        m = run["metrics"]
        rows.append([
            run["data"], run["model"], *(f"{m[k]:.3f}" for k in ("recall@1", "recall@10", "mrr", "ndcg@10")),
            f"{run['queries']:,}", f"{run['candidates']:,}",
        ])  # fmt: skip
    return table(["data", "model", "recall@1", "recall@10", "MRR", "nDCG@10", "queries", "candidates"], rows)


def generation(results: Results) -> str:
    run = results.newest("generation")
    if not run:
        return MISSING
    m = run["metrics"]
    f = m["features"]
    return (
        f"{run['samples']:,} digits, painted after {run['train_seconds']:.0f} s of training on one half of scikit-learn's digits "
        f"({run['parameters']:,} parameters, seed {run['seed']}, {run['date']}). A classifier trained on the other half reads "
        f"{m['accuracy']:.3f} of them as what was asked for, and {run['judge_accuracy']:.3f} of the real ones. In its feature space the "
        f"Fréchet distance to that half is {f['frechet']:.3g}; of the real training half it is {f['real_frechet']:.3g} ({f['ratio']:.2f}×). "
        f"The mean distance to the nearest training image is {f['nearest']:.3g}, for real held-out ones {f['real_nearest']:.3g}: "
        "copies would be nearer."
    )


def pipeline(results: Results) -> str:
    rows = []
    for run in results.newest_by("image_pipeline", "data", what=None).values():
        pace = run["pictures_per_second"]
        keys = ("read_2_threads", "read_2_processes", "augment", "train_step", "predict")
        rows.append([run["data"], run["backbone"], str(run["size"]), *(f"{pace[k]:,.0f}" for k in keys), run["date"]])
    head = [
        "images",
        "backbone",
        "pixels",
        "read, 2 threads",
        "read, 2 processes",
        "augment",
        "training step",
        "predict",
        "date",
    ]
    return table(head, rows)


# -- sets -------------------------------------------------------------------------------------------------------------


def detection(results: Results) -> str:
    rows = []
    for name, lines in results.detectors().items():
        scores = [[line["metrics"]["test"]["objects"][k] for line in lines] for k in ("map_50", "map")]
        minutes = mean(line["cpu_seconds"] / 60 for line in lines)
        steps = mean(line["training"]["steps"] for line in lines)
        rows.append([name, *(spread(s) for s in scores), f"{minutes:.0f}", f"{steps:,.0f}",
                     f"{lines[0]['parameters']:,}", seeds_of(lines), lines[-1]["date"]])  # fmt: skip
    return table(["model", "mAP50", "mAP", "CPU minutes", "steps", "parameters", "seeds", "date"], rows)


def rounding(results: Results) -> str:
    """A trained detector in float32 and in bfloat16."""
    line = results.newest("detection_precision")
    if not line:
        return MISSING
    scores = ", ".join(
        f"{name} {line['fp32'][key]:.4f} and {line['bf16'][key]:.4f}"
        for key, name in (("map", "mAP"), ("map_50", "mAP50"))
    )
    photos = line["coco256"]
    return (
        f"A trained `{line['model']}` in float32 and in bfloat16, BCCD test: {scores}. On {photos['pictures']} photographs of coco256, which are "
        f"nothing like its training images, the {photos['objects']:,} objects that float32 scores at 0.3 or more change their score by {photos['median_score']:.3f} "
        f"(median; at most {photos['largest_score']:.2f}) and their box by {photos['median_side']:.4f} of the image (at most {photos['largest_side']:.3f})."
    )


def entities(results: Results) -> str:
    rows = []
    newest = {
        (line["data"], line["model"]): line for line in results.all("entities") if "entity_f1" in line.get("test", {})
    }
    for line in newest.values():
        test, ceiling = line["test"], at(line, "ceilings", line["model"])
        rows.append([
            line["data"], line["model"], f"{test['entity_f1']:.3f}", f"{ceiling:.3f}" if ceiling else "–",
            f"{test['nested_recall']:.3f}" if test.get("nested_recall") is not None else "–", f"{line['rows']['train']:,}",
            f"{line['parameters']:,}", str(line["seed"]), line["date"],
        ])  # fmt: skip
    return table(
        [
            "data",
            "model",
            "entity F1",
            "the most a flat one could reach",
            "recall of nested ones",
            "training rows",
            "parameters",
            "seed",
            "date",
        ],
        rows,
    )


def joint(results: Results) -> str:
    """Spans in a sentence and boxes in its image, by one decoder or by two."""
    rows = []
    for line in results.newest_by("entities", "model", data="joint").values():
        test = line["test"]
        rows.append([line["model"], f"{line['parameters']:,}", f"{test['entities']['entity_f1']:.3f}", f"{test['objects']['map_50']:.3f}",
                     f"{line['cpu_seconds'] / 60:.0f}", str(line["seed"]), line["date"]])  # fmt: skip
    return table(["decoder", "parameters", "entity F1", "mAP50", "CPU minutes", "seed", "date"], rows)


EARLIER = ", with denoising"


def mechanisms(results: Results) -> str:
    """The ablation at a fixed number of steps, each line with one mechanism switched."""
    newest = {(line["label"], line["seed"]): line for line in results.all("detection") if line.get("ablation")}
    again = {label for label, _ in newest}
    # An earlier ablation had denoising on; of what was switched again without it, that one counts.
    newest = {
        (label, seed): line
        for (label, seed), line in newest.items()
        if not (label.endswith(EARLIER) and label.removesuffix(EARLIER) in again)
    }
    rows: list[list[str]] = []
    for label in sorted(
        {label for label, _ in newest}, key=lambda label: (EARLIER in label, label != "as shipped", label)
    ):
        lines = [line for (name, _), line in newest.items() if name == label]
        scores = (
            spread([line["metrics"][split]["objects"][metric] for line in lines])
            for split in ("valid", "test") for metric in ("map_50", "map")
        )  # fmt: skip
        rows.append([label, *scores, f"{mean(line['cpu_seconds'] / 60 for line in lines):.1f}", seeds_of(lines)])
    head = ["", "validation mAP50", "validation mAP", "test mAP50", "test mAP", "CPU minutes", "seeds"]
    return table(head, rows)


def set_speed(results: Results) -> str:
    newest: dict[tuple[Any, ...], Line] = {}
    for line in results.all("detr_speed"):
        if {"times_faster", "times_faster_bf16"} & line.keys():
            keys = ("part", "kind", "layers", "gradients", "size", "queries")
            newest[tuple(line.get(k) for k in keys)] = line
    rows = []
    for line in newest.values():
        what = line["part"] + "".join(
            f", {word}" for key, word in (
                ("kind", line.get("kind")), ("layers", f"{line.get('layers')} layers"), ("size", f"{line.get('size')} pixels"),
                ("gradients", "with gradients"),
            ) if line.get(key)
        )  # fmt: skip
        limit = f"{line['limit_ms']:.1f}" if "limit_ms" in line else "–"
        pairs = (
            ("polydetr", "transformers", "times_faster", ""),
            ("polydetr_bf16", "transformers_bf16", "times_faster_bf16", ", both bfloat16"),
            ("polydetr_fp32", "transformers_fp32", "times_faster_fp32", ", both float32"),
        )
        for ours, theirs, times, words in pairs:
            if ours in line and theirs in line:
                pair = (f"{line[who]['cpu_ms']:.1f}" for who in (ours, theirs))
                rest = limit, str(line["threads"]), line["date"]
                rows.append([what + words, *pair, f"{line[times]:.2f}×", *rest])
    return table(["part", "CPU ms", "`transformers`, CPU ms", "", "products alone, ms", "threads", "date"], rows)
