"""Speed against transformers on the same machine, backbone and data, in turn, in one run; medians of the pairs.

    python benchmarks/speed.py training   [--sentences 3000] [--pairs 3]   against transformers.Trainer, by its defaults and at its best
    python benchmarks/speed.py prediction [--texts 1000] [--pairs 3]       against its pipeline, in fp32 and in bf16, at its best batch size
    python benchmarks/speed.py latency                                     one short text against the bare forward pass
    python benchmarks/speed.py memory                                      peak memory of training, of streaming prediction
    python benchmarks/speed.py out_of_scope --model FOLDER                AUROC of a CLINC150 model (quality.py clinc150 --out)
    python benchmarks/speed.py start                                       import and --help

The peer is ner_peer.py (needs the extra ``bench``). Each side is a process of its own. Like is compared with like: the same precision, and rows
of like length together on both sides; the peer's defaults are told apart. Appends JSON lines to benchmarks/results/speed.jsonl.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recording import keep

PEER = Path(__file__).with_name("ner_peer.py")
BATCHES = (8, 32)
"""Of the peer, of which the faster one counts."""


def child(code: str, *arguments: str) -> dict[str, Any]:
    """Runs Python code in a fresh process; its last line of output is JSON."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=Path(__file__).parent, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout.strip().splitlines()[-1])


def peer(job: str, *options: str) -> dict[str, Any]:
    """The transformers side."""
    from polydetr.fetch.backbones import fetch_backbone

    command = [sys.executable, str(PEER), job, "--backbone", str(fetch_backbone("minilm")), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout.strip().splitlines()[-1])


def best(measured: Iterable[dict[str, Any]], pace: str) -> dict[str, Any]:
    return max(measured, key=lambda found: found[pace])


TRAIN = """
import json, sys
from data import conll2003
from polydetr import Predictor
split = conll2003()
p = Predictor.fit(split.train[: int(sys.argv[1])], split.target, valid=split.valid[:200], backbone="minilm", epochs=float(sys.argv[2]),
    out=sys.argv[3] if len(sys.argv) > 3 else None, settings={"text": {"context": False}, "training": {"batch_tokens": 1024, "lr": 3e-4}})
e = p.evaluate(split.test)
print(json.dumps({"tokens_per_s": p.info["training"]["tokens_per_second"], "entity_f1": e["tags"]["entity_f1"]}))
"""

PREDICT = """
import json, sys, time
from data import conll2003
from polydetr import Predictor
p = Predictor.load(sys.argv[1], precision=sys.argv[3])
texts = [" ".join(r.row["tokens"]) for r in conll2003().test[: int(sys.argv[2])]]
rows = [{"tokens": t} for t in texts]
p.predict(rows[:32])
t = time.perf_counter()
n = sum(1 for _ in p.stream(rows))
print(json.dumps({"texts_per_s": n / (time.perf_counter() - t)}))
"""

LATENCY = """
import json, statistics, sys, time
import torch
from polydetr import Predictor
from polydetr.nn.batch import Batch
from polydetr.core.records import Record
from polydetr.errors import Location
p = Predictor.load(sys.argv[1])
row = {"tokens": "Angela Merkel met the president of France in Paris on Monday ."}
engine = p._engine
document = engine.encoder.encode([Record(row, Location())], with_targets=False)
batch = Batch.collate(document.examples)
def bare():
    with torch.inference_mode():
        engine.runner.model(batch)
def ours():
    p.predict([row])
def once(f):
    t = time.perf_counter(); f(); return time.perf_counter() - t
engine.runner.model.eval()
for f in (bare, ours) * 20: f()
pairs = [(once(ours), once(bare)) for _ in range(300)]
print(json.dumps({"predict_ms": 1e3 * statistics.median(a for a, _ in pairs), "forward_ms": 1e3 * statistics.median(b for _, b in pairs),
    "ratio": statistics.median(a for a, _ in pairs) / statistics.median(b for _, b in pairs)}))
"""

TRAIN_MEMORY = """
import json, resource
from data import conll2003
from polydetr import Predictor
split = conll2003()
Predictor.fit(split.train, split.target, valid=split.valid[:500], backbone="minilm", epochs=0.3)
print(json.dumps({"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""

STREAM_MEMORY = """
import json, resource, sys
from polydetr import Predictor
p = Predictor.load(sys.argv[1])
p.predict([{"tokens": "warm up"}])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
with open(sys.argv[3], "w") as out:
    for answer in p.stream(sys.argv[2]):
        out.write(json.dumps(answer) + chr(10))
print(json.dumps({"before_mb": before, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def training(a: argparse.Namespace) -> dict[str, Any]:
    """Both sides learn the same sentences once, in bf16: the peer with rows of like length together, at the better of two
    batch sizes; beside it the peer by its defaults.
    """
    sides: dict[str, list[dict[str, Any]]] = {"ours": [], "peer_like": [], "peer_default": []}
    sentences = ("--sentences", str(a.sentences))
    for _ in range(a.pairs):
        sides["ours"].append(child(TRAIN, str(a.sentences), "1"))
        tried = [peer("training", *sentences, "--grouped", "--bf16", "--batch", str(b)) for b in BATCHES]
        sides["peer_like"].append(best(tried, "tokens_per_s"))
        sides["peer_default"].append(peer("training", *sentences))
    return {**sides, **ratios(sides, "tokens_per_s", ours="ours")}


def ratios(sides: Mapping[str, Sequence[dict[str, Any]]], pace: str, *, ours: str) -> dict[str, float]:
    """Medians over the pairs of our pace over that of each other side, as "times_SIDE"."""
    return {
        f"times_{name}": statistics.median(o[pace] / t[pace] for o, t in zip(sides[ours], found, strict=True))
        for name, found in sides.items()
        if name != ours
    }


def with_model(sentences: int) -> str:
    """A model folder to predict with, kept beside the results of this process."""
    folder = Path(tempfile.gettempdir()) / "polydetr-speed-model"
    if not (folder / "polydetr.json").exists():
        child(TRAIN, str(sentences), "1", str(folder))
    return str(folder)


def prediction(a: argparse.Namespace) -> dict[str, Any]:
    """Texts per second over the test sentences, on both sides in fp32 and in bf16; ours also as it is by default, in 8-bit
    integers where the validation rows allowed them. Both sides take texts of like length together.
    """
    model, texts = with_model(3000), str(a.texts)
    kinds = ("auto", "bf16", "fp32")
    sides: dict[str, list[dict[str, Any]]] = {f"{side}_{kind}": [] for side in ("ours", "peer") for kind in kinds}
    del sides["peer_auto"]
    for _ in range(a.pairs):
        for kind in kinds:
            sides[f"ours_{kind}"].append(child(PREDICT, model, texts, kind))
        for kind, option in (("bf16", ["--bf16"]), ("fp32", [])):
            tried = [peer("prediction", "--texts", texts, "--batch", str(b), *option) for b in BATCHES]
            sides[f"peer_{kind}"].append(best(tried, "texts_per_s"))
    like = {
        kind: ratios(
            {name: sides[name] for name in (f"ours_{kind}", f"peer_{kind}")}, "texts_per_s", ours=f"ours_{kind}"
        )
        for kind in ("bf16", "fp32")
    }
    default = ratios({name: sides[name] for name in ("ours_auto", "peer_fp32")}, "texts_per_s", ours="ours_auto")
    return {**sides, **like["bf16"], **like["fp32"], "times_by_default": default["times_peer_fp32"]}


def latency(a: argparse.Namespace) -> dict[str, Any]:
    """One warm text through the public face against the model alone on the encoded text."""
    return child(LATENCY, with_model(3000))


def memory(a: argparse.Namespace) -> dict[str, Any]:
    """Peak resident memory; streaming must not grow with the number of rows."""
    model, found = with_model(3000), {}
    with tempfile.TemporaryDirectory() as folder:
        for count in (1_000, 10_000):
            source = Path(folder) / f"{count}.jsonl"
            words = [f"word{i % 977} Berlin" for i in range(10)]
            with source.open("w", encoding="utf-8") as file:
                for i in range(count):
                    file.write(json.dumps({"tokens": " ".join(words[i % 10 :] + words[: i % 10])}) + "\n")
            found[str(count)] = child(STREAM_MEMORY, model, str(source), str(Path(folder) / "out.jsonl"))
    return {"training": child(TRAIN_MEMORY), "streaming_by_rows": found}


def out_of_scope(a: argparse.Namespace) -> dict[str, Any]:
    """AUROC of the energy, one forward pass: CLINC150's texts of no known intent against those of a known one."""
    from data import clinc150, clinc150_out_of_scope
    from polydetr import Predictor
    from polydetr.metrics.separation import auroc

    predictor = Predictor.load(a.model)
    split = clinc150()
    found = {}
    for name, known, unknown in zip(("valid", "test"), (split.valid, split.test), clinc150_out_of_scope(), strict=True):
        energies = [p["intent"].details.energy for p in predictor.predictions([*known, *unknown])]
        found[name] = auroc(energies, [False] * len(known) + [True] * len(unknown))
    return found


def start(a: argparse.Namespace) -> dict[str, Any]:
    """Seconds until Python is ready, over an empty interpreter's."""

    def seconds(*command: str) -> float:
        runs = []
        for _ in range(9):
            begun = time.perf_counter()
            subprocess.run([sys.executable, *command], capture_output=True, check=True)
            runs.append(time.perf_counter() - begun)
        return statistics.median(runs)

    empty = seconds("-c", "pass")
    return {
        "import_s": seconds("-c", "import polydetr") - empty,
        "help_s": seconds("-m", "polydetr", "--help"),
        "python_s": empty,
    }


def main() -> None:
    jobs = {f.__name__: f for f in (training, prediction, latency, memory, start, out_of_scope)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=jobs)
    parser.add_argument("--sentences", type=int, default=3000)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--model", help="a model folder, for out_of_scope")
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    result = {"job": arguments.job, **jobs[arguments.job](arguments)}
    print(json.dumps(keep("speed", result), indent=1))


if __name__ == "__main__":
    main()
