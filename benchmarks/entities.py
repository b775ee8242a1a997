"""Entities as a set: nested ones against a flat tagger, flat ones against the same tagger, and beside objects.

    python benchmarks/entities.py gum MODEL [--every 1] [--epochs 4] [--seed 0] [--set training.lr=1e-4] [--label note]
    python benchmarks/entities.py conll MODEL ...
    python benchmarks/entities.py joint MODEL ...
    python benchmarks/entities.py ceiling

gum    nested English of 16 genres; entities (the set), proposals (without the decoder), outermost or innermost: what
       tagging reaches that is taught the spans inside no other, or around no other. All are measured on all spans.
conll  CoNLL-2003, flat; entities, proposals or tagging
joint  images of blood cells (BCCD), each with a sentence of gum; shared (one decoder) or separate

--every N trains on every Nth document (conll: Nth block of 200 sentences). Thresholds and weights are chosen on the
development rows, the test rows are measured once. Appends one JSON line to benchmarks/results/entities.jsonl.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from data import ROOT, Rows, Split, conll2003, gum_nested
from polydetr import Predictor
from polydetr.config.loading import merge, parse_settings
from polydetr.data.readers import read_records
from polydetr.metrics.entities import entity_report, nested_recall
from polydetr.values.spans import Span, go_together
from recording import keep

SETTINGS: dict[str, Any] = {"backbone": "minilm", "epochs": 4, "training": {"batch_tokens": 512, "patience": 0}}
JOINT: dict[str, Any] = {
    "backbone": {"text": "minilm", "image": "mobilenet-v2"}, "image": {"size": 224},
    "model": {"embed_dim": 192, "num_layers": 1},
    "training": {"batch_tokens": 1024, "patience": 0, "evaluations_per_epoch": 1},
    "tasks": {"objects": {"num_queries": 60, "deformable": False}},
}  # fmt: skip
VALID_EVERY = 3
"""Every such document of the development rows: enough to choose weights and a threshold by."""
MODELS = {
    "gum": ("entities", "proposals", "outermost", "innermost"),
    "conll": ("entities", "proposals", "tagging"),
    "joint": ("shared", "separate"),
}


# -- rows ---------------------------------------------------------------------------------------------------------------


def spans_of(rows: Rows) -> list[list[Span]]:
    return [[Span(s["start"], s["end"], s["label"]) for s in row.row["entities"]] for row in rows]


def kept(spans: Sequence[Span], which: str) -> list[Span]:
    """The outermost spans, which lie inside no other, or the innermost, which no other lies inside."""

    def inside(a: Span, b: Span) -> bool:
        return a is not b and b.start <= a.start and a.end <= b.end

    if which == "outermost":
        return [a for a in spans if not any(inside(a, b) for b in spans)]
    return [a for a in spans if not any(inside(b, a) for b in spans)]


def flattened(rows: Rows, which: str) -> Rows:
    """Rows that a tagger can learn from."""
    flat = [[span._asdict() for span in kept(spans, which)] for spans in spans_of(rows)]
    return [replace(row, row={**row.row, "entities": spans}) for row, spans in zip(rows, flat, strict=True)]


def most_apart(spans: Sequence[Span]) -> int:
    """How many spans a flat answer can hold at most: of those that go together, the one that ends first, always."""
    taken: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.end, -s.start)):
        if not taken or go_together(taken[-1][:2], span[:2], "none"):
            taken.append(span)
    return len(taken)


def ceilings(rows: Rows) -> dict[str, float]:
    """F1 of flat answers without a mistake: the best there are, all outermost spans, all innermost ones."""
    gold = spans_of(rows)
    total = sum(map(len, gold))
    found = {"best": sum(map(most_apart, gold))}
    found |= {which: sum(len(kept(spans, which)) for spans in gold) for which in ("outermost", "innermost")}
    return {name: round(2 * hits / (hits + total), 4) for name, hits in found.items()}


def every(rows: Rows, step: int) -> Rows:
    """The rows of every ``step``-th document, in their order; of blocks of 200 rows where there are no documents."""
    owner = [row.document or str(i // 200) for i, row in enumerate(rows)]
    wanted = set(list(dict.fromkeys(owner))[::step])
    return [row for row, document in zip(rows, owner, strict=True) if document in wanted]


def pairs(*, every_picture: int) -> Split:
    """Images of blood cells, each with a sentence of gum that holds an entity; the splits of both are kept."""
    lists, text = ROOT / "bccd/BCCD/ImageSets/Main", gum_nested()
    made = []
    for name, sentences, step in (("train", text.train, every_picture), ("val", text.valid, 1), ("test", text.test, 1)):
        pictures = list(read_records(str(lists / f"{name}.txt")))[::step]
        chosen = [row.row for row in sentences if row.row["entities"]]
        chosen = chosen[:: len(chosen) // len(pictures)][: len(pictures)]
        made.append([replace(p, row={**p.row, **row}, document=None) for p, row in zip(pictures, chosen, strict=True)])
    return Split(
        *made, target={"entities": "entities", "objects": "detection"}, inputs={"tokens": "text", "image": "image"}
    )


# -- runs ---------------------------------------------------------------------------------------------------------------


def measured(predictor: Predictor, rows: Rows) -> dict[str, float]:
    """Scores on all spans, of whatever kind the model answers; each row is read by itself."""
    answers = predictor.predict([row.row for row in rows])
    found = [[Span(e["start"], e["end"], e["label"]) for e in answer["entities"]] for answer in answers]
    gold = spans_of(rows)
    report, inner = entity_report(gold, found), nested_recall(gold, found)
    scores = {"entity_f1": report.entity_f1, "precision": report.micro.precision, "recall": report.micro.recall}
    if inner.possible:
        # The other side of nesting, which a tagger of innermost spans cannot have.
        around = [set(spans).difference(kept(spans, "innermost")) for spans in gold]
        hits = sum(len(a.intersection(b)) for a, b in zip(around, found, strict=True))
        scores |= {"nested_recall": inner.recall, "around_recall": hits / sum(map(len, around))}
    return scores


def gum(model: str, split: Split, config: dict[str, Any], seed: int) -> dict[str, Any]:
    task = "tagging" if model in ("outermost", "innermost") else "entities"
    train, valid = split.train, split.valid
    if task == "tagging":
        train, valid = flattened(train, model), flattened(valid, model)
    predictor = Predictor.fit(train, {"entities": task}, valid=valid, inputs=split.inputs, seed=seed, config=config)
    scores = {"valid": measured(predictor, split.valid), "test": measured(predictor, split.test)}
    if task == "entities":
        for table in predictor.evaluation(split.test)["entities"].tables.values():
            print(table)
    return {**scores, "ceilings": ceilings(split.test), **_told(predictor)}


def conll(model: str, split: Split, config: dict[str, Any], seed: int) -> dict[str, Any]:
    task = "tagging" if model == "tagging" else "entities"
    predictor = Predictor.fit(split.train, {"tags": task}, valid=split.valid, test=split.test, seed=seed, config=config)
    return {name: found["tags"] for name, found in predictor.metrics.items()} | _told(predictor)


def joint(model: str, split: Split, config: dict[str, Any], seed: int) -> dict[str, Any]:
    predictor = Predictor.fit(
        split.train, split.target, valid=split.valid, test=split.test, inputs=split.inputs, seed=seed, config=config
    )
    owned = {
        name: sum(p.numel() for p in part.parameters())
        for name, part in predictor._engine.runner.model.named_children()
    }
    return {**predictor.metrics, "parameters_by_part": owned, **_told(predictor)}


def _told(predictor: Predictor) -> dict[str, Any]:
    info = predictor.info
    return {key: info[key] for key in ("parameters", "training", "history", "rows")}


def run(data: str, model: str, *, step: int, given: dict[str, Any], seed: int, label: str) -> dict[str, Any]:
    """Trains and measures one model."""

    split = {"gum": gum_nested, "conll": conll2003}[data]() if data != "joint" else pairs(every_picture=step)
    if data != "joint":
        split = replace(split, train=every(split.train, step), valid=every(split.valid, VALID_EVERY))
    config = merge(JOINT if data == "joint" else SETTINGS, given)
    if model == "proposals":
        (target,) = split.target
        config = merge(config, {"tasks": {target: {"decoder_layers": 0}}})
    if model == "shared":
        config = merge(config, {"model": {"share_decoder": True}})
    started = time.perf_counter()
    found = {"gum": gum, "conll": conll, "joint": joint}[data](model, split, config, seed)
    return {
        "data": data,
        "model": model,
        "label": label,
        **found,
        "every": step,
        "settings": config,
        "seed": seed,
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time(), 1),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=[*MODELS, "ceiling"])
    parser.add_argument("model", nargs="?")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--epochs", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--label", default="")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    arguments = parser.parse_args()
    if arguments.data == "ceiling":
        split = gum_nested()
        for name in ("train", "valid", "test"):
            print(name, ceilings(getattr(split, name)))
        return
    if arguments.model not in MODELS[arguments.data]:
        parser.error(f"{arguments.data} takes one of {', '.join(MODELS[arguments.data])}")
    given = parse_settings(arguments.settings)
    if arguments.epochs:
        given["epochs"] = arguments.epochs
    result = run(
        arguments.data, arguments.model, step=arguments.every, given=given, seed=arguments.seed, label=arguments.label
    )
    keep("entities", result)
    shown = ("data", "model", "valid", "test", "ceilings", "parameters", "seconds", "cpu_seconds")
    print(json.dumps({key: result[key] for key in shown if key in result}))


if __name__ == "__main__":
    main()
