"""The service as benchmarks run it: begun by the command line, its processes measured from outside, ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

COLUMN, TARGET, NAME = "text", "label", "model"
HERE = Path(__file__).parent


def environment(threads: int) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": str(threads)}


def make_model(folder: Path, *, backbone: str, seed: int, runtime: str) -> Path:
    """A classifier of texts over the backbone, trained for a moment on texts of this module's own. Without a backbone
    it is so small that a soak wears out the service and not the model.
    """
    rows = folder.parent / "rows.csv"
    lines = [f"a {word} thing, number {i}; we saw it,{label}" for i in range(200) for word, label in _WORDS]
    rows.write_text("\n".join([f"{COLUMN},{TARGET}", *(line.replace("; we saw it", " we saw") for line in lines)]).replace(
        "thing, number", "thing number"), encoding="utf-8")  # fmt: skip
    polydetr = [sys.executable, "-m", "polydetr"]
    settings = ["--set", "training.few_rows=false", "--set", "training.freeze_backbones=true", "--epochs", "1"]
    if backbone == "none":
        settings += ["--set", "model.embed_dim=32", "--set", "model.num_layers=1"]
    training = ["train", "--train", str(rows), "--target", TARGET, "--backbone", backbone, "--seed", str(seed)]
    trained = folder.with_name(f"{folder.name}-trained") if runtime == "onnx" else folder
    subprocess.run([*polydetr, *training, *settings, "--out", str(trained)], check=True, capture_output=True)
    if runtime == "onnx":
        export = [*polydetr, "export", str(trained), "--out", str(folder)]
        subprocess.run(export, check=True, capture_output=True)
    return folder


_WORDS = (("good", "yes"), ("fine", "yes"), ("bad", "no"), ("awful", "no"))


class Service:
    """A running ``polydetr serve``."""

    def __init__(self, models: Sequence[str], *, runtime: str, threads: int, options: Sequence[str] = ()) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        store = f"/tmp/polydetr-service-{self.port}.db"
        command = ["serve", *models, "--port", str(self.port), "--runtime", runtime, "--store", store, *options]
        began = time.perf_counter()
        self.log = Path(f"/tmp/polydetr-service-{self.port}.log")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "polydetr", *command],
            stdout=subprocess.DEVNULL, stderr=self.log.open("w"), env=environment(threads), start_new_session=True,
        )  # fmt: skip
        self.wait_until_ready()
        self.start_s = time.perf_counter() - began

    def get(self, path: str, *, timeout_s: float = 5.0) -> tuple[int, str]:
        """Status and body; (0, reason) where nobody answers."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s) as sock:
                sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
                content = b"".join(iter(lambda: sock.recv(1 << 16), b""))
            head, _, body = content.decode("utf-8", "replace").partition("\r\n\r\n")
            return int(head.split(" ", 2)[1]), body
        except (OSError, IndexError, ValueError) as error:
            return 0, str(error)

    def wait_until_ready(self, *, most_s: float = 120.0) -> None:
        end = time.perf_counter() + most_s
        while self.get("/readyz")[0] != 200:
            if self.process.poll() is not None or time.perf_counter() > end:
                self.process.kill()
                raise SystemExit(f"the service did not start: {self.log.read_text()[-2000:]}")
            time.sleep(0.01)

    @property
    def workers(self) -> list[int]:
        """Process ids of the model processes."""
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError, ValueError, IndexError):
                stat = (entry / "stat").read_text()
                if (
                    int(stat.rpartition(")")[2].split()[1]) == self.process.pid
                    and stat.rpartition(")")[2].split()[0] != "Z"
                ):
                    found.append(int(entry.name))
        return found

    def measured(self) -> dict[str, dict[str, float]]:
        """Of the front process and of all model processes together: MB in memory, files, threads, CPU seconds."""
        told = {}
        for name, pids in (("front", [self.process.pid]), ("workers", self.workers)):
            each = [_of_process(pid) for pid in pids]
            told[name] = {key: round(sum(one[key] for one in each), 2) for key in ("mb", "files", "threads", "cpu_s")}
        return told

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(60)
        self.process.kill()
        self.log.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _of_process(pid: int) -> dict[str, float]:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
    return {
        "mb": int(status["VmRSS"].split()[0]) / 1024, "threads": int(status["Threads"]), "cpu_s": ticks,
        "files": len(os.listdir(f"/proc/{pid}/fd")),
    }  # fmt: skip


def pinned(pid: int, cores: Sequence[int]) -> None:
    """Every thread of the process on these cores."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), cores)


def load(service: Service, **how: Any) -> dict[str, Any]:
    """What a client in a process of its own measures; how: as ``service_client`` takes it."""
    with loading(service, **how) as client:
        return client()


@contextmanager
def loading(service: Service, cores: Sequence[int] = (), **how: Any) -> Iterator[Any]:
    """The same in the background: what it gives waits for the result."""
    how = {"host": "127.0.0.1", "port": service.port, "path": f"/v1/models/{NAME}/predict", "column": COLUMN, **how}
    client = subprocess.Popen(
        [sys.executable, str(HERE / "service_client.py"), json.dumps(how)], stdout=subprocess.PIPE, text=True
    )
    if cores:
        os.sched_setaffinity(client.pid, cores)
    try:
        yield lambda: json.loads(client.communicate()[0])
    finally:
        client.kill()
        client.wait()


BARE = """
import json, sys, time
from itertools import islice
sys.path.insert(0, sys.argv[1])
from service_client import texts
from polydetr.inference.model import LoadedModel

folder, runtime, count, column = sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]
model = LoadedModel.load(folder, runner=runtime)
rows = [{column: text} for text in islice(texts(0), count)]
list(model.stream(rows[:200]))
began, spent = time.perf_counter(), time.process_time()
answered = sum("prediction" in answer for answer in model.stream(rows))
pace, per_cpu = answered / (time.perf_counter() - began), answered / (time.process_time() - spent)
each = []
for row in rows[:300]:
    began = time.perf_counter()
    list(model.stream([row]))
    each.append(1000 * (time.perf_counter() - began))
each.sort()
paces = {"rows_s": round(pace, 1), "rows_per_cpu_s": round(per_cpu, 1)}
row_ms = {"p50": round(each[150], 2), "p99": round(each[297], 2)}
print(json.dumps({**paces, "row_ms": row_ms, "each_ms": each}))
"""


def bare(folder: Path, *, runtime: str, rows: int, threads: int, cores: Sequence[int] = ()) -> dict[str, Any]:
    """The model alone in a process, batched: rows per second, and milliseconds of one row after the other, each too."""
    process = subprocess.Popen(
        [sys.executable, "-c", BARE, str(HERE), str(folder), runtime, str(rows), COLUMN],
        stdout=subprocess.PIPE, text=True, env=environment(threads),
    )  # fmt: skip
    if cores:
        os.sched_setaffinity(process.pid, cores)
    return json.loads(process.communicate()[0])
