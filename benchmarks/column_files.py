"""A file of Chinese characters trains at the pace of a file of English words: neither says where a document ends.

    python benchmarks/column_files.py [--tokens 30000] [--epochs 1] [--backbone e5-multilingual] [--pairs 1] [--label note]

Chinese: CLUENER, a character and its BMES tag per line. English: CoNLL-2003 without its -DOCSTART- lines, a word and its IOB2 tag
per line. Both are cut after as many words or characters, a blank line ends a sentence, and both are trained with nothing else said
by processes of their own, in turn. Tokens per second are those of training; F1 is of the entities of a quarter as many words of the
development part (CLUENER, whose test part has no labels) or the test part. "load" is what else the machine did: the ratio of a pair
stands where its paces do not. Appends a JSON line per pair to benchmarks/results/column_files.jsonl.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from data import cluener, conll2003
from recording import keep
from speed import child

Sentence = Sequence[tuple[str, str]]
"""Words or characters with their tags."""

TRAIN = """
import json, sys
from polydetr import Predictor
folder, backbone, epochs = sys.argv[1:]
p = Predictor.fit(f"{folder}/train.txt", "tags:tagging", valid=f"{folder}/valid.txt", backbone=backbone, epochs=float(epochs))
e = p.evaluate(f"{folder}/test.txt")["tags"]
print(json.dumps({"tokens_per_s": round(p.info["training"]["tokens_per_second"]), "entity_f1": round(e["entity_f1"], 4)}))
"""


def characters(rows: Iterable[Any]) -> Iterator[Sentence]:
    """Spans as one BMES tag per character."""
    for record in rows:
        text, tags = record.row["text"], ["O"] * len(record.row["text"])
        for span in record.row["entities"]:
            start, end, label = span["start"], span["end"], span["label"]
            inner = ["S"] if end - start == 1 else ["B", *"M" * (end - start - 2), "E"]
            tags[start:end] = [f"{tag}-{label}" for tag in inner]
        yield [(character, tag) for character, tag in zip(text, tags, strict=True) if not character.isspace()]


def words(rows: Iterable[Any]) -> Iterator[Sentence]:
    for record in rows:
        yield list(zip(record.row["tokens"], record.row["tags"], strict=True))


def write(path: Path, sentences: Iterable[Sentence], *, tokens: int) -> int:
    """Whole sentences, until there are as many words; the count."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for sentence in sentences:
            if count >= tokens:
                break
            file.writelines(f"{word} {tag}\n" for word, tag in sentence)
            file.write("\n")
            count += len(sentence)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=30_000, help="words or characters of training")
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--backbone", default="e5-multilingual")
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--label", default="")
    arguments = parser.parse_args()
    sources = {"chinese": (cluener(), characters), "english": (conll2003(), words)}
    with tempfile.TemporaryDirectory() as name:
        for language, (split, as_sentences) in sources.items():
            folder = Path(name) / language
            folder.mkdir()
            for part in ("train", "valid", "test"):
                limit = arguments.tokens if part == "train" else arguments.tokens // 4
                write(folder / f"{part}.txt", as_sentences(getattr(split, part)), tokens=limit)
        for number in range(arguments.pairs):
            order = list(sources) if number % 2 == 0 else list(sources)[::-1]
            found = {
                language: child(TRAIN, str(Path(name) / language), arguments.backbone, str(arguments.epochs))
                for language in order
            }
            ratio = found["chinese"]["tokens_per_s"] / found["english"]["tokens_per_s"]
            line = {
                **found, "ratio": round(ratio, 2), "tokens": arguments.tokens, "epochs": arguments.epochs,
                "backbone": arguments.backbone, "load": round(os.getloadavg()[0], 1), "label": arguments.label,
            }  # fmt: skip
            print(keep("column_files", line))


if __name__ == "__main__":
    main()
