"""Token classification by transformers, in the variants that its users would try for speed. Prints JSON; called by speed.py.

    python benchmarks/ner_peer.py training   --backbone DIR --sentences 3000 [--batch 8] [--grouped] [--bf16] [--lr 5e-5]
    python benchmarks/ner_peer.py prediction --backbone DIR --texts 1000 [--batch 32] [--bf16]

The Trainer's own defaults are batches of 8, shuffled rows, float32 and 5e-5. ``--grouped`` puts rows of like length together (``group_by_length``).
Prediction is the token-classification pipeline over texts sorted by length, on an untrained head: only its pace is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    Trainer,
    TrainingArguments,
    pipeline,
    set_seed,
)

from data import conll2003
from polydetr import Span
from polydetr.metrics.entities import entity_report
from polydetr.values.tags import iob2_to_word_spans, to_iob2

IGNORED = -100
"""The label of what takes no part in the loss: special tokens, and all of a word's subwords but the first."""


def in_iob2(record: Any) -> dict[str, Any]:
    return {"tokens": list(record.row["tokens"]), "tags": to_iob2(record.row["tags"])}


def encoded(tokenizer: Any, row: Any, labels: list[str]) -> dict[str, Any]:
    """A sentence as the Trainer takes it."""
    found = tokenizer(row["tokens"], is_split_into_words=True, truncation=True, max_length=256)
    words = found.word_ids()
    first = [word is not None and (i == 0 or words[i - 1] != word) for i, word in enumerate(words)]
    marks = [labels.index(row["tags"][word]) if new else IGNORED for word, new in zip(words, first, strict=True)]
    return {"input_ids": found["input_ids"], "attention_mask": found["attention_mask"], "labels": marks}


def training(given: argparse.Namespace) -> dict[str, Any]:
    """One epoch; the entity F1 of the test rows, to show that it learned."""
    set_seed(0)
    split = conll2003()
    rows = [in_iob2(record) for record in split.train[: given.sentences]]
    labels = sorted({tag for row in rows for tag in row["tags"]})
    tokenizer = AutoTokenizer.from_pretrained(given.backbone)
    examples = [encoded(tokenizer, row, labels) for row in rows]
    model = AutoModelForTokenClassification.from_pretrained(given.backbone, num_labels=len(labels))
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            out, num_train_epochs=1, per_device_train_batch_size=given.batch, learning_rate=given.lr, bf16=given.bf16,
            train_sampling_strategy="group_by_length" if given.grouped else "random", use_cpu=True, report_to=[],
            save_strategy="no", disable_tqdm=True, logging_steps=10**9,
        )  # fmt: skip
        trainer = Trainer(model, arguments, DataCollatorForTokenClassification(tokenizer), examples)
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
    tokens = sum(len(example["input_ids"]) for example in examples)
    f1 = entity_f1(model.eval(), tokenizer, [in_iob2(record) for record in split.test], labels)
    return {"tokens_per_s": round(tokens / seconds, 1), "entity_f1": round(f1, 4)}


def entity_f1(model: Any, tokenizer: Any, rows: list[Any], labels: list[str]) -> float:
    gold, predicted = [], []
    for start in range(0, len(rows), 64):
        part = rows[start : start + 64]
        batch = tokenizer([row["tokens"] for row in part], is_split_into_words=True, truncation=True, max_length=256,
                          padding=True, return_tensors="pt")  # fmt: skip
        with torch.inference_mode():
            best = model(**batch).logits.argmax(-1).tolist()
        for i, row in enumerate(part):
            tags: dict[int, str] = {}
            for place, word in enumerate(batch.word_ids(i)):
                if word is not None:
                    tags.setdefault(word, labels[best[i][place]])
            gold.append(spans(row["tags"]))
            predicted.append(spans([tags.get(word, "O") for word in range(len(row["tags"]))]))
    return entity_report(gold, predicted).micro.f1


def spans(tags: list[str]) -> list[Span]:
    return [Span(first, last, label) for first, last, label in iob2_to_word_spans(tags)]


def prediction(given: argparse.Namespace) -> dict[str, Any]:
    """Texts per second."""
    split = conll2003()
    texts = sorted((" ".join(record.row["tokens"]) for record in split.test[: given.texts]), key=len)
    labels = sorted({tag for record in split.train[:3000] for tag in in_iob2(record)["tags"]})
    model = AutoModelForTokenClassification.from_pretrained(
        given.backbone, num_labels=len(labels), dtype=torch.bfloat16 if given.bf16 else torch.float32
    )
    tokenizer = AutoTokenizer.from_pretrained(given.backbone)
    pipe = pipeline("token-classification", model, tokenizer=tokenizer, aggregation_strategy="simple", device="cpu")
    list(pipe(texts[:32], batch_size=given.batch))
    started = time.perf_counter()
    count = sum(1 for _ in pipe(texts, batch_size=given.batch))
    return {"texts_per_s": round(count / (time.perf_counter() - started), 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=("training", "prediction"))
    parser.add_argument("--backbone", required=True, help="a folder as transformers saves a model")
    parser.add_argument("--sentences", type=int, default=3000)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--grouped", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    given = parser.parse_args()
    print(json.dumps({"training": training, "prediction": prediction}[given.job](given)))


if __name__ == "__main__":
    main()
