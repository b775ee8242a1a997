"""Training and prediction beside other programs: pace alone, beside one busy process and beside two, and its ratio.

    python benchmarks/busy.py                     # ours as it is: threads that wait sleep
    python benchmarks/busy.py --wait active       # as it was: threads that wait spin
    python benchmarks/busy.py --threads 1 --keep

A busy process counts in a loop, as ``python -c "while True: pass"`` does; this script starts and ends them itself. Each figure is
the pace of its own process, which trains MiniLM on BANKING77 sentences for a while and then answers them; the rounds take turns
(alone, beside one, beside two, alone, …), and a ratio is of the medians. Run it on a machine that nobody else uses.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

BUSY = (0, 1, 2)


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """``count`` processes that compute all the time, until the block ends."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(seconds: float) -> dict[str, float]:
    """Tokens per second in training and rows per second in prediction, in this process."""
    import polydetr
    from data import banking77
    from polydetr.training.callbacks import Display
    from polydetr.training.loop import Loop

    split, steps = banking77(), []
    count_step = Loop._count_step

    def counted(loop: Loop, loss: float, tokens: int, rows: int, started: float, began: float) -> float:
        steps.append((tokens, time.monotonic() - began))
        if sum(took for _, took in steps[WARM:]) > seconds:
            raise Enough
        return count_step(loop, loss, tokens, rows, started, began)

    Loop._count_step = counted  # type: ignore[method-assign]
    rows, valid = [r.row for r in split.train], [r.row for r in split.valid[:100]]
    given: dict[str, Any] = {"valid": valid, "backbone": "minilm", "display": Display(),
                             "settings": {"training": {"head_start": False}}}  # fmt: skip
    with suppress(Enough):
        polydetr.Predictor.fit(rows, "category", epochs=100, **given)
    Loop._count_step = count_step  # type: ignore[method-assign]
    trained = sum(tokens for tokens, _ in steps[WARM:]) / sum(took for _, took in steps[WARM:])
    model = polydetr.Predictor.fit(rows[:400], "category", epochs=0.1, **given)
    asked = [{"text": r.row["text"]} for r in split.test[:500]]
    model.predict(asked)
    began, done = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        model.predict(asked)
        done += len(asked)
    return {"tokens_per_second": trained, "rows_per_second": done / (time.monotonic() - began)}


WARM = 5
"""Steps that do not count: they bring kernels and memory."""


class Enough(Exception):
    """The time for one figure is over."""


def in_process(seconds: float, *, wait: str, threads: int | None) -> dict[str, float]:
    """``measure`` in a process of its own, as its threads' waiting is settled when PyTorch is loaded."""
    environment = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    if wait == "active":
        environment["OMP_WAIT_POLICY"] = "ACTIVE"
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    call = [sys.executable, __file__, "--measure", str(seconds)]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="for one figure")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--wait", choices=("ours", "active"), default="ours", help="how threads wait")
    parser.add_argument("--threads", type=int, help="OMP_NUM_THREADS; default: as many as there are cores")
    parser.add_argument("--keep", action="store_true", help="append the line to results/busy.jsonl")
    parser.add_argument("--measure", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure)))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # through the blocks that end the processes
    found: dict[int, list[dict[str, float]]] = {count: [] for count in BUSY}
    for turn in range(given.rounds):
        for count in BUSY:
            with busy_processes(count):
                found[count].append(in_process(given.seconds, wait=given.wait, threads=given.threads))
            print(f"round {turn + 1}, beside {count}: {found[count][-1]}", file=sys.stderr, flush=True)
    line: dict[str, Any] = {"wait": given.wait, "threads": given.threads, "rounds": given.rounds}
    for name in ("tokens_per_second", "rows_per_second"):
        medians = [statistics.median(one[name] for one in found[count]) for count in BUSY]
        line[name] = [round(m) for m in medians]
        line[f"{name.partition('_')[0]}_ratio"] = [round(m / medians[0], 3) for m in medians[1:]]
    if given.keep:
        from recording import keep

        line = keep("busy", line)
    print(json.dumps(line))


if __name__ == "__main__":
    main()
