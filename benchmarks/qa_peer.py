"""Question answering by polydetr, and by transformers under the settings of its own example.

    python benchmarks/qa_peer.py squad|cmrc2018 [--rows 1000] [--test-rows 500] [--seed 0] [--only polydetr|transformers] [--fp32]

polydetr's settings are those of `quality.py`. The others are those of transformers' examples/pytorch/question-answering (README, run_qa.py, utils_qa.py): learning rate 3e-5, two epochs,
batches of 12, windows of 384 tokens that share 128, AdamW with linear decay and no warm-up, answers of at most 30 tokens, the best of 20 starts
and ends. Two things differ, neither of which changes what is learned or answered, only the time: a batch is padded to its longest window and not
to 384, and products run in bfloat16 under autocast unless --fp32 is given. Both sides get the same rows, the same pretrained file and the same scores
(`polydetr.metrics.qa`). Appends one JSON line per side to benchmarks/results/qa_peer.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModelForQuestionAnswering,
    DataCollatorWithPadding,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)

import quality
from data import SETS, Rows, fewer
from polydetr.fetch.backbones import fetch_backbone
from polydetr.metrics.qa import qa_report
from quality import SETTINGS
from recording import keep

MAX_LENGTH, STRIDE, MAX_ANSWER_TOKENS, N_BEST = 384, 128, 30, 20


def tokenizer_of(folder: str) -> PreTrainedTokenizerFast:
    """The backbone's own tokenizer, with the template of BERT or XLM-R around question and passage."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=f"{folder}/tokenizer.json")
    vocabulary = tokenizer.get_vocab()
    first, last, pad, unknown = (
        ("[CLS]", "[SEP]", "[PAD]", "[UNK]") if "[CLS]" in vocabulary else ("<s>", "</s>", "<pad>", "<unk>")
    )
    tokenizer.add_special_tokens({"cls_token": first, "sep_token": last, "pad_token": pad, "unk_token": unknown})
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{first} $A {last}", pair=f"{first} $A {last} $B:1 {last}:1",
        special_tokens=[(first, vocabulary[first]), (last, vocabulary[last])],
    )  # fmt: skip
    return tokenizer


def windows(tokenizer: PreTrainedTokenizerFast, rows: Rows) -> dict[str, Any]:
    return tokenizer(
        [str(r.row["question"]).lstrip() for r in rows], [r.row["context"] for r in rows], truncation="only_second",
        max_length=MAX_LENGTH, stride=STRIDE, return_overflowing_tokens=True, return_offsets_mapping=True,
        return_token_type_ids=True,
    )  # fmt: skip


def training_features(tokenizer: PreTrainedTokenizerFast, rows: Rows) -> list[dict[str, Any]]:
    """As ``prepare_train_features`` of run_qa.py: an answer that a window does not hold whole is at [CLS]."""
    found = windows(tokenizer, rows)
    features = []
    for i, offsets in enumerate(found["offset_mapping"]):
        answer = rows[found["overflow_to_sample_mapping"][i]].row["answers"][0]
        begin, finish = int(answer["start"]), int(answer["start"]) + len(answer["text"])
        inside = [k for k, part in enumerate(found.sequence_ids(i)) if part == 1]
        start = end = 0
        if inside and offsets[inside[0]][0] <= begin and offsets[inside[-1]][1] >= finish:
            start = max(k for k in inside if offsets[k][0] <= begin)
            end = min(k for k in inside if offsets[k][1] >= finish)
        features.append({**_inputs(found, i), "start_positions": start, "end_positions": end})
    return features


def _inputs(found: dict[str, Any], i: int) -> dict[str, list[int]]:
    return {name: found[name][i] for name in ("input_ids", "token_type_ids", "attention_mask")}


def answers(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, rows: Rows, collate: Any) -> list[str]:
    """As ``postprocess_qa_predictions`` of utils_qa.py."""
    found = windows(tokenizer, rows)
    best = [(-np.inf, "")] * len(rows)
    order = sorted(range(len(found["input_ids"])), key=lambda i: len(found["input_ids"][i]))
    model.eval()
    for begin in range(0, len(order), 16):
        part = order[begin : begin + 16]
        with torch.inference_mode():
            logits = model(**collate([_inputs(found, i) for i in part]))
        for i, starts, ends in zip(part, logits.start_logits.tolist(), logits.end_logits.tolist(), strict=True):
            row = found["overflow_to_sample_mapping"][i]
            score, (a, b) = _best_span(starts, ends, found.sequence_ids(i), found["offset_mapping"][i])
            if score > best[row][0]:
                best[row] = score, rows[row].row["context"][a:b]
    return [text for _, text in best]


def _best_span(starts: list[float], ends: list[float], parts: list[int | None], offsets: list[Any]) -> Any:
    best = -np.inf, (0, 0)
    for s in np.argsort(starts[: len(parts)])[::-1][:N_BEST]:
        for e in np.argsort(ends[: len(parts)])[::-1][:N_BEST]:
            if parts[s] == parts[e] == 1 and s <= e < s + MAX_ANSWER_TOKENS and starts[s] + ends[e] > best[0]:
                best = starts[s] + ends[e], (offsets[s][0], offsets[e][1])
    return best


def ours(name: str, given: argparse.Namespace) -> dict[str, Any]:
    found = quality.run(name, argparse.Namespace(**vars(given), out=None, settings=[], label=""))
    metrics = found["metrics"]["test"]["answers"]
    scores = {name: metrics[name] for name in ("exact_match", "f1")}
    return {"metrics": scores, "settings": found["settings"], "rows": found["rows"], "seconds": found["seconds"]}


def theirs(name: str, given: argparse.Namespace) -> dict[str, Any]:
    split = fewer(SETS[name](), given.rows, given.test_rows)
    set_seed(given.seed)
    folder = str(fetch_backbone(SETTINGS[name]["backbone"]))
    tokenizer = tokenizer_of(folder)
    model = AutoModelForQuestionAnswering.from_pretrained(folder, dtype=torch.float32)
    features = training_features(tokenizer, split.train)
    collate = DataCollatorWithPadding(tokenizer)
    settings = {"learning_rate": 3e-5, "num_train_epochs": 2, "per_device_train_batch_size": 12}
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            out, **settings, seed=given.seed, bf16=not given.fp32, use_cpu=True, report_to=[], save_strategy="no",
            disable_tqdm=True, logging_steps=20,
        )  # fmt: skip
        Trainer(model=model, args=arguments, train_dataset=features, data_collator=collate).train()  # type: ignore[arg-type]
    seconds = time.perf_counter() - started
    report = qa_report(
        [[a["text"] for a in r.row["answers"]] for r in split.test], answers(model, tokenizer, split.test, collate)
    )
    return {
        "metrics": {"exact_match": report.exact_match, "f1": report.f1},
        "settings": {**settings, "max_length": MAX_LENGTH, "stride": STRIDE, "bf16": not given.fp32},
        "rows": {"train": len(split.train), "test": len(split.test)},
        "seconds": round(seconds, 1),
    }


SIDES = {"polydetr": ours, "transformers": theirs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=["squad", "cmrc2018"])
    parser.add_argument("--rows", type=int)
    parser.add_argument("--test-rows", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=SIDES)
    parser.add_argument("--fp32", action="store_true")
    given = parser.parse_args()
    for side in [given.only] if given.only else SIDES:
        line = {
            "data": given.data,
            "model": f"{side}, {SETTINGS[given.data]['backbone']}",
            "label": f"{given.data}, {side}",
        }
        line |= SIDES[side](given.data, given)
        line |= {"seed": given.seed}
        print(json.dumps({k: line[k] for k in ("data", "model", "metrics", "seconds", "rows")}))
        keep("qa_peer", line)


if __name__ == "__main__":
    main()
