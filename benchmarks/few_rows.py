"""Few rows per class: ours as it comes, ours in the usual way, a logistic regression on the same frozen encoder, and
SetFit by its own library.

    python benchmarks/few_rows.py ours banking77 --per-class 8 --draws 0 1 2 --test 1000
    python benchmarks/few_rows.py usual banking77 --per-class 8          # training.few_rows: false
    python benchmarks/few_rows.py regression banking77 --per-class 8
    /path/to/a/setfit/venv/bin/python benchmarks/few_rows.py setfit banking77 --per-class 8 --encoder FOLDER

Each draw takes the same rows for every side. The regression is scikit-learn's, on the mean of the encoder's tokens, its
C chosen by cross-validation, as a careful user would do it. SetFit reads an encoder that sentence-transformers can load,
with its defaults (one epoch over all pairs that it samples), and needs packages of its own: ``pip install setfit``.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from queue import Empty
from typing import Any

import data
import recording

ENCODERS = {"banking77": "minilm", "clinc150": "minilm", "tnews": "e5-multilingual", "chnsenticorp": "e5-multilingual"}
SETFIT_MINUTES = 20.0


def draw(rows: data.Rows, target: str, per_class: int, seed: int) -> data.Rows:
    """``per_class`` rows of every class."""
    by_class: dict[str, data.Rows] = defaultdict(list)
    for record in rows:
        by_class[str(record.row[target])].append(record)
    rng = random.Random(seed)
    return [record for label in sorted(by_class) for record in rng.sample(by_class[label], per_class)]


def ours(
    train: data.Rows, test: data.Rows, split: data.Split, name: str, seed: int, *, few_rows: bool | None = None
) -> dict[str, Any]:
    from polydetr import Predictor

    began, cpu = time.monotonic(), time.process_time()
    predictor = Predictor.fit(
        [r.row for r in train], split.target, inputs=split.inputs, backbone=ENCODERS[name], seed=seed,
        settings={"training": {"few_rows": few_rows}},
    )  # fmt: skip
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    (target,) = split.target
    found = predictor.predict([{k: v for k, v in r.row.items() if k != target} for r in test])
    right = sum(str(p[target]) == str(r.row[target]) for p, r in zip(found, test, strict=True))
    valid, history = predictor.info["metrics"]["valid"][target], predictor.info["history"]
    return {
        "accuracy": right / len(test),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "training_seconds": predictor.info["training"]["seconds"],
        "epochs": next((e["epoch"] for e in history if e["step"] == predictor.info["training"]["best_step"]), None),
        "precision": predictor.info["training"]["precision"],
        "cross_validated": [round(valid[k], 4) for k in ("accuracy", "accuracy_low", "accuracy_high") if k in valid],
    }


def usual(train: data.Rows, test: data.Rows, split: data.Split, name: str, seed: int) -> dict[str, Any]:
    """A tenth held out, then all of the model tuned."""
    return ours(train, test, split, name, seed, few_rows=False)


def regression(train: data.Rows, test: data.Rows, split: data.Split, name: str, seed: int) -> dict[str, Any]:
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    from polydetr.config.loading import load_config
    from polydetr.model.build import build_model
    from polydetr.schema.infer import infer_schema
    from polydetr.training.head_start import pooled_features

    config = load_config(target=split.target, inputs=split.inputs, backbone=ENCODERS[name])
    schema = infer_schema([r.row for r in train], targets=config.target, inputs=config.inputs)
    assembly = build_model(config, schema, train, notify=lambda message: None)
    (target,) = split.target

    def features(rows: data.Rows) -> np.ndarray:
        parts = [document.examples for document in assembly.engine.encode(rows)]  # type: ignore[union-attr]
        flat = pooled_features(assembly.runner, [window for windows in parts for window in windows])
        starts = np.cumsum([0, *[len(windows) for windows in parts[:-1]]])
        return np.add.reduceat(flat, starts) / np.array([len(windows) for windows in parts])[:, None]

    began = time.monotonic()
    x, y = features(train), np.array([str(r.row[target]) for r in train])
    center, scale = x.mean(0), x.std()
    folds = StratifiedKFold(4, shuffle=True, random_state=seed)
    grid = {"C": [0.01, 0.03, 0.1, 0.3, 1, 3, 10]}
    search = GridSearchCV(LogisticRegression(max_iter=1000), grid, cv=folds).fit((x - center) / scale, y)
    seconds = time.monotonic() - began
    found = search.predict((features(test) - center) / scale)
    right = float(np.mean(found == np.array([str(r.row[target]) for r in test])))
    return {"accuracy": right, "seconds": round(seconds, 1), "C": search.best_params_["C"]}


def setfit(
    train: data.Rows, test: data.Rows, split: data.Split, name: str, seed: int, *, encoder: str, most: float
) -> dict[str, Any]:
    """In a process that is ended after ``most`` seconds; where it had not finished, how far it had come."""
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    queue: Any = context.Queue()
    arguments = ([r.row for r in train], [r.row for r in test], split.target, split.inputs, seed, encoder, queue)
    process = context.Process(target=_setfit, args=arguments)
    process.start()
    began, told = time.monotonic(), dict[str, Any](steps_done=0)
    try:
        while "accuracy" not in told:
            told |= queue.get(timeout=max(0.0, most - (time.monotonic() - began)))
    except Empty:
        told |= {"accuracy": None, "reason": f"not finished in {most / 60:g} minutes"}
    finally:
        process.terminate()
    return told


def _setfit(
    train: list[dict], test: list[dict], targets: Any, inputs: Any, seed: int, encoder: str, queue: Any
) -> None:
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments
    from transformers import TrainerCallback

    class Telling(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            queue.put({"steps_done": state.global_step, "steps": state.max_steps})

    (target,) = targets
    (text,) = inputs or {"text": "text"}
    labels = sorted({str(row[target]) for row in train})
    rows = Dataset.from_dict(
        {"text": [row[text] for row in train], "label": [labels.index(str(row[target])) for row in train]}
    )
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        model = SetFitModel.from_pretrained(_as_they_load_it(Path(encoder), Path(folder)))
    arguments = TrainingArguments(batch_size=16, num_epochs=1, seed=seed)
    Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[Telling()]).train()
    seconds = time.monotonic() - began
    found = model.predict([row[text] for row in test])
    right = sum(labels[int(p)] == str(row[target]) for p, row in zip(found, test, strict=True))
    queue.put({"accuracy": right / len(test), "seconds": round(seconds, 1)})


def _as_they_load_it(encoder: Path, folder: Path) -> str:
    """A packaged encoder with what transformers wants to be told of its tokenizer."""
    if (encoder / "tokenizer_config.json").exists() or not encoder.is_dir():
        return str(encoder)
    shutil.copytree(encoder, folder, dirs_exist_ok=True)
    known = {t["content"] for t in json.loads((encoder / "tokenizer.json").read_text())["added_tokens"]}
    names = {"unk_token": ("<unk>", "[UNK]"), "pad_token": ("<pad>", "[PAD]"), "cls_token": ("<s>", "[CLS]"),
             "sep_token": ("</s>", "[SEP]"), "mask_token": ("<mask>", "[MASK]")}  # fmt: skip
    said = {name: next(t for t in tokens if t in known) for name, tokens in names.items() if known & {*tokens}}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512, **said}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return str(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=("ours", "usual", "regression", "setfit"))
    parser.add_argument("set", choices=ENCODERS)
    parser.add_argument("--per-class", type=int, required=True)
    parser.add_argument("--draws", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--test", type=int, help="test rows, the same random ones for every side")
    parser.add_argument("--encoder", help="for setfit: a folder or name that sentence-transformers loads")
    parser.add_argument("--minutes", type=float, default=SETFIT_MINUTES, help="for setfit: it is ended after so many")
    given = parser.parse_args()
    split = data.fewer(data.SETS[given.set](), None, given.test)
    (target,) = split.target
    sides = {"ours": ours, "usual": usual, "regression": regression}
    for seed in given.draws:
        train = draw(split.train, target, given.per_class, seed)
        if given.side == "setfit":
            found = setfit(train, split.test, split, given.set, seed, encoder=given.encoder, most=60 * given.minutes)
        else:
            found = sides[given.side](train, split.test, split, given.set, seed)
        line = {
            "set": given.set, "per_class": given.per_class, "draw": seed, "side": given.side, "rows": len(train),
            "test": len(split.test), "encoder": Path(given.encoder or ENCODERS[given.set]).name, **found,
        }  # fmt: skip
        print(recording.keep("few_rows", line), flush=True)


if __name__ == "__main__":
    main()
