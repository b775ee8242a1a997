"""The service over real HTTP: how much of the bare model's pace is left, how long answers take, and what it survives.

    python benchmarks/service.py saturation [--seconds 20] [--pairs 3]   rows per second, 1 and 32 a request, against the bare model
    python benchmarks/service.py latency    [--seconds 60]               p99 at half of saturation, against one bare row, and a queue without cost
    python benchmarks/service.py overload   [--seconds 60]               five times saturation
    python benchmarks/service.py soak       [--requests 200000]          mixed lengths, 1 % malformed, 20 swaps: memory, files, threads
    python benchmarks/service.py swaps      [--swaps 20]                 under load
    python benchmarks/service.py kill       [--times 3]                  kill -9 of a model process, and of the service, under load

All take --runtime torch|onnx, --threads (of the model process), --backbone, --keep (appends a line to results/service.jsonl). The
client is a process of its own, and its CPU time is told apart from that of the front process and of the model process. With two
cores or more, model and bare model run on the last --threads of them, the front process and the client on the others.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from recording import keep
from service_client import Connection, body_of, texts
from service_process import COLUMN, NAME, Service, bare, load, loading, make_model, pinned


def saturation(wanted: argparse.Namespace, folder: Path) -> dict[str, Any]:
    pairs = []
    for _ in range(wanted.pairs):
        alone = bare(folder, runtime=wanted.runtime, rows=wanted.rows, threads=wanted.threads, cores=wanted.model_on)
        del alone["each_ms"]
        pair: dict[str, Any] = {"bare": alone}
        with running(wanted, folder) as service:
            for rows, clients in ((32, 8), (1, 64)):
                before = service.measured()
                found = load(
                    service, way="closed", rows=rows, clients=clients, seconds=wanted.seconds, cores=wanted.rest_on
                )
                found["share_of_bare"] = round(found["rows_s"] / pair["bare"]["rows_s"], 3)
                found["cpu_s"] = {
                    part: round(values["cpu_s"] - before[part]["cpu_s"], 2)
                    for part, values in service.measured().items()
                }
                # Of all requests, those before and after the time that is measured among them.
                found["rows_per_model_cpu_s"] = round(found["asked_rows"] / found["cpu_s"]["workers"], 1)
                pair[f"rows_{rows}"] = found
        pairs.append(pair)
    shares = {name: statistics.median(pair[name]["share_of_bare"] for pair in pairs) for name in ("rows_32", "rows_1")}
    return {"share_of_bare": shares, "reached": shares["rows_32"] >= 0.8 and shares["rows_1"] >= 0.4, "pairs": pairs}


def latency(wanted: argparse.Namespace, folder: Path) -> dict[str, Any]:
    alone = bare(folder, runtime=wanted.runtime, rows=400, threads=wanted.threads, cores=wanted.model_on)
    with running(wanted, folder) as service:
        most = load(
            service, way="closed", rows=1, clients=64, seconds=max(2.0, wanted.seconds / 6), cores=wanted.rest_on
        )
        half = load(
            service, way="open_loop", rows=1, rate=most["rows_s"] / 2, seconds=wanted.seconds, connections=200,
            cores=wanted.rest_on,
        )  # fmt: skip
    least = round(_p99_of_a_queue(alone.pop("each_ms"), rate=half["offered_s"] / 1000) / alone["row_ms"]["p50"], 2)
    ratio = round(half["ms"]["p99"] / alone["row_ms"]["p50"], 2)
    of_p99 = round(half["ms"]["p99"] / alone["row_ms"]["p99"], 2)
    told = {"p99_of_one_bare_row": ratio, "of_a_queue_alone": least, "p99_of_p99_of_bare_rows": of_p99}
    return {**told, "reached": ratio <= 3, "bare": alone, "saturation": most, "half": half}


def _p99_of_a_queue(each_ms: Sequence[float], *, rate: float, count: int = 200_000) -> float:
    """Milliseconds: rows that come at random, ``rate`` per millisecond, and are computed one after another in the times
    that the bare model took, with nothing else that costs time: what remains where a service is free of cost.
    """
    dice, waited, all_ms = random.Random(0), 0.0, []
    for _ in range(count):
        took = dice.choice(each_ms)
        all_ms.append(waited + took)
        waited = max(0.0, waited + took - dice.expovariate(rate))
    return sorted(all_ms)[int(0.99 * count)]


def overload(wanted: argparse.Namespace, folder: Path) -> dict[str, Any]:
    deadline = 5.0
    with running(wanted, folder, "--timeout", str(deadline)) as service:
        most = load(
            service, way="closed", rows=1, clients=64, seconds=max(2.0, wanted.seconds / 10), cores=wanted.rest_on
        )
        before, samples = service.measured(), []
        how = {"rate": 5 * most["rows_s"], "seconds": wanted.seconds, "connections": 900}
        with loading(service, way="open_loop", rows=1, cores=wanted.rest_on, **how) as client:
            end = time.perf_counter() + wanted.seconds
            while time.perf_counter() < end:
                time.sleep(max(0.1, wanted.seconds / 30))
                samples.append(service.measured())
            found = client()
        alive = service.get("/readyz")[0] == 200 and service.process.poll() is None
        peak = {part: max(sample[part]["mb"] for sample in samples) for part in ("front", "workers")}
    answers = found["statuses"]
    all_told = set(answers) <= {"200", "429", "503", "504"}
    told = {
        "all_answered_or_refused": all_told,
        "alive": alive,
        "p99_s": found["ms"]["p99"] / 1000,
        "deadline_s": deadline,
    }
    return {
        **told,
        "saturation": most,
        "load": found,
        "mb_before": {p: v["mb"] for p, v in before.items()},
        "mb_peak": peak,
    }


ROWS = (*(1 for _ in range(14)), 4, 16)
"""Per request of the soak, each as likely."""
MALFORMED = (
    b"",
    b"{",
    b"[" * 10_000,
    b'{"rows": 3}',
    b'{"rows": [{"text": NaN}]}',
    b'{"rows": [{"text": 5}]}',
    b"\xff\xfe",
    b"null",
)


def soak(wanted: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Sequences of requests over 16 connections; samples of memory, files and threads along the way."""
    with running(wanted, folder, *admin(wanted, folder)) as service:
        found = asyncio.run(_soak(wanted, service, wanted.requests, wanted.swaps))
    samples = found.pop("samples")
    warm = samples[max(1, len(samples) // 5)]
    grown = {part: round(samples[-1][part]["mb"] / warm[part]["mb"] - 1, 4) for part in ("front", "workers")}
    more = {
        f"{part}_{what}": samples[-1][part][what] - warm[part][what]
        for part in ("front", "workers")
        for what in ("files", "threads")
    }
    held = max(grown.values()) <= 0.05 and max(more.values()) <= 2 and not found["unexpected"]
    return {
        "memory_growth": grown,
        "more": more,
        "reached": held,
        **found,
        "samples": samples[:: max(1, len(samples) // 12)],
    }


async def _soak(wanted: argparse.Namespace, service: Service, requests: int, swaps: int) -> dict[str, Any]:
    statuses: dict[str, int] = {}
    unexpected: dict[str, int] = {}
    samples, numbers, began = [service.measured()], iter(range(requests)), time.perf_counter()
    swapped, done = 0, 0

    async def client(seed: int) -> None:
        nonlocal done
        connection, source, dice = Connection("127.0.0.1", service.port), texts(seed), random.Random(seed)
        for _ in numbers:
            bad = dice.random() < 0.01
            body = dice.choice(MALFORMED) if bad else body_of(list(islice(source, dice.choice(ROWS))), COLUMN)
            try:
                status = str((await connection.post(f"/v1/models/{NAME}/predict", body, key=wanted.key))[0])
            except (OSError, asyncio.IncompleteReadError, ValueError) as error:
                status = type(error).__name__
            statuses[status] = statuses.get(status, 0) + 1
            if not (status == "200" or (bad and status.startswith("4"))):
                unexpected[status] = unexpected.get(status, 0) + 1
            done += 1
        connection.close()

    async def watch() -> None:
        nonlocal swapped
        while done < requests:
            await asyncio.sleep(0.2)
            if done >= len(samples) * requests / 60:
                samples.append(service.measured())
            if swapped < swaps and done >= (swapped + 1) * requests / (swaps + 1):
                unexpected.update(await _swap(wanted, service, swapped))
                swapped += 1
        samples.append(service.measured())

    await asyncio.gather(watch(), *(client(seed) for seed in range(16)))
    seconds = round(time.perf_counter() - began, 1)
    return {
        "requests": requests,
        "seconds": seconds,
        "statuses": statuses,
        "unexpected": unexpected,
        "swaps": swapped,
        "samples": samples,
    }


async def _swap(wanted: argparse.Namespace, service: Service, number: int) -> dict[str, int]:
    """Exchanges the model; {} where that was done."""
    connection = Connection("127.0.0.1", service.port)
    body = json.dumps({"folder": ("second", "first")[number % 2]}).encode()
    status, answer = await connection.post(f"/v1/admin/models/{NAME}", body, key=wanted.key)
    connection.close()
    return {} if status == 200 else {f"swap {status} {answer[:200]!r}": 1}


def swaps(wanted: argparse.Namespace, folder: Path) -> dict[str, Any]:
    with running(wanted, folder, *admin(wanted, folder)) as service:
        found = asyncio.run(_swaps(wanted, service))
    return {"reached": not found["failed"], **found}


async def _swaps(wanted: argparse.Namespace, service: Service) -> dict[str, Any]:
    ending, counts, took = [False], {"answered": 0, "failed": 0}, []
    before = service.measured()

    async def client(seed: int) -> None:
        connection, source = Connection("127.0.0.1", service.port), texts(seed)
        while not ending[0]:
            body = body_of(list(islice(source, 1 + seed)), COLUMN)
            status, _ = await connection.post(f"/v1/models/{NAME}/predict", body, key=wanted.key)
            counts["answered" if status == 200 else "failed"] += 1
        connection.close()

    async def exchange() -> None:
        for number in range(wanted.swaps):
            began = time.perf_counter()
            counts["failed"] += len(await _swap(wanted, service, number))
            took.append(round(time.perf_counter() - began, 2))
        ending[0] = True

    await asyncio.gather(exchange(), *(client(seed) for seed in range(8)))
    return {**counts, "swaps": len(took), "swap_s": took, "before": before, "after": service.measured()}


def kill(wanted: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Seconds from kill -9 to the next answer: of a model process; and of the whole service, begun again at once."""
    worker_s, service_s, orphans = [], [], list[int]()
    for _ in range(wanted.times):
        service = running(wanted, folder)
        with loading(service, way="closed", rows=1, clients=16, seconds=3600):
            time.sleep(1)
            began = time.perf_counter()
            os.kill(service.workers[0], signal.SIGKILL)
            while service.get("/readyz")[0] == 200 and time.perf_counter() < began + 2:
                time.sleep(0.005)
            service.wait_until_ready()
            worker_s.append(round(time.perf_counter() - began, 2))
            left = service.workers
            os.kill(service.process.pid, signal.SIGKILL)
            service.process.wait()
            began = time.perf_counter()
            with running(wanted, folder):
                service_s.append(round(time.perf_counter() - began, 2))
            orphans += [pid for pid in left if Path(f"/proc/{pid}").exists()]
        service.stop()
    most = 3.0 if wanted.runtime == "onnx" else 8.0
    held = max(worker_s + service_s) <= most and not orphans
    return {"reached": held, "limit_s": most, "worker_s": worker_s, "service_s": service_s, "orphans": len(orphans)}


def running(wanted: argparse.Namespace, folder: Path, *options: str) -> Service:
    service = Service([f"{NAME}={folder}"], runtime=wanted.runtime, threads=wanted.threads, options=options)
    if wanted.model_on:
        pinned(service.process.pid, wanted.rest_on)
        for pid in service.workers:
            pinned(pid, wanted.model_on)
    return service


def admin(wanted: argparse.Namespace, folder: Path) -> list[str]:
    """The options by which models may be exchanged; makes a second model, and a key, which the requests then need."""
    second = folder.with_name("second")
    if not second.exists():
        make_model(second, backbone=wanted.backbone, seed=1, runtime=wanted.runtime)
    keys = folder.with_name("keys.json")
    if not keys.exists():
        command = [sys.executable, "-m", "polydetr", "keys", "add", "bench", "--admin", "--keys", str(keys)]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        wanted.key = max(told.split(), key=len)
    return ["--root", str(folder.parent), "--keys", str(keys), "--rate", "100000"]


PARTS = {one.__name__: one for one in (saturation, latency, overload, soak, swaps, kill)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--runtime", default="torch", choices=("torch", "onnx"))
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--rows", type=int, default=2000, help="that the bare model answers")
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--keep", action="store_true")
    wanted = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    apart = len(cores) > wanted.threads
    wanted.model_on = cores[-wanted.threads :] if apart else []
    wanted.rest_on = cores[: -wanted.threads] if apart else []
    wanted.key = ""
    place = Path(tempfile.mkdtemp(prefix="polydetr-service-"))
    try:
        folder = make_model(place / "first", backbone=wanted.backbone, seed=0, runtime=wanted.runtime)
        found = PARTS[wanted.part](wanted, folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    about = {"part": wanted.part, "runtime": wanted.runtime, "backbone": wanted.backbone, "threads": wanted.threads}
    line = {**about, **found}
    print(json.dumps(keep("service", line) if wanted.keep else line, indent=1))


if __name__ == "__main__":
    main()
