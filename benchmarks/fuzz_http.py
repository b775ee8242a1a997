"""Fuzz of the service: requests drawn from its own description, and bodies that were mutated; no fault, no hang.

    python benchmarks/fuzz_http.py --cases 2000 --bodies 100000      # as it counts; takes some minutes
    python benchmarks/fuzz_http.py --cases 200 --bodies 2000         # a first look
    python benchmarks/fuzz_http.py --model my-model --runtime onnx   # of a model of yours; else one is trained first
    python benchmarks/fuzz_http.py --seed 17 --bodies 1              # one body again

Schemathesis draws requests that fit ``/openapi.json`` and ones that do not, and compares each answer with what is
described there: its status, its content type, its schema. Body number i is the same for the same seed + i: a good body
of some content type, mutated; addresses, options and headers are drawn with it. It fails where anything is answered
with a status from 500 on, where an answer takes more than ``SECONDS``, where a connection ends without an answer, or
where the service does not answer a good request afterwards.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

SECONDS = 10.0
TOKENS = [b"\x00", b"\r\n", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"null", b"NaN", b"-Infinity", b"1e999", b"9" * 5_000,
          b"[" * 3_000, b'{"a":' * 3_000, b"\xff", b"\xef\xbb\xbf", b"\\ud83d", b"\xf0\x9f\x98\x80", b'"rows"', b'{"base64":"AAAA"}',
          b"data:image/png;base64,", b"/etc/passwd", b"../", b"<script>", b"=1+1", b"\t", b"\n", b"--b", b"x" * 50_000, b"true"]  # fmt: skip
KINDS = ["application/json", "application/x-ndjson", "text/csv", "text/tab-separated-values", "multipart/form-data; boundary=b",
         "application/vnd.apache.parquet", "image/png", "text/plain", "", "application/json; charset=utf-16"]  # fmt: skip
ACCEPTS = ["*/*", "application/json", "text/csv", "application/x-ndjson", "text/html", ""]
QUERIES = ["", "", "", "?probabilities=1", "?min_confidence=0.5", "?strictness=lenient", "?strictness=strict", "?seed=-1", "?accuracy=2",
           "?x=%00", "?min_confidence=NaN", "?target=%3Cscript%3E", "?explain=x", "?" + "a" * 2_000]  # fmt: skip


def cells(rng: random.Random) -> Any:
    return rng.choice([None, True, 0, -1.5, 10**30, "", "a lovely evening", "\ud83d", "x" * 2_000, [], {}, [[]], ["a", 1],
                       {"base64": "AAAA"}, {"path": "/etc/passwd"}, "data:image/png;base64,AAAA", "http://127.0.0.1:1/a.png", "=1+1"])  # fmt: skip


def good_body(rng: random.Random, kind: str, columns: list[str]) -> bytes:
    """A body as its content type has it."""
    names = [*columns, "other", "image"][: rng.randint(1, len(columns) + 2)]
    rows = [{name: cells(rng) for name in names} for _ in range(rng.randint(0, 4))]
    if kind.startswith("multipart"):
        parts = [
            f'--b\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{cells(rng)}\r\n'.encode("utf-8", "replace")
            for n in names
        ]
        return b"".join(parts) + b"--b--\r\n"
    if kind == "image/png":
        return base64.b64decode(
            "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
        )
    if kind == "application/vnd.apache.parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        file = io.BytesIO()
        pq.write_table(
            pa.table({name: [str(row[name])[:50].encode("utf-8", "replace") for row in rows] for name in names}), file
        )
        return file.getvalue()
    if kind.startswith("text/"):
        mark = "\t" if "tab" in kind else ","
        return "\n".join([mark.join(names), *(mark.join(str(row[n]) for n in names) for row in rows)]).encode(
            "utf-8", "replace"
        )
    if "ndjson" in kind:
        return "\n".join(map(json.dumps, rows)).encode()
    return json.dumps({"rows": rows}).encode()


def mutated(rng: random.Random, body: bytes) -> bytes:
    for _ in range(rng.choice([0, 1, 1, 2, 5])):
        at = rng.randint(0, len(body))
        way = rng.randrange(5)
        if way == 0:
            body = body[:at] + rng.choice(TOKENS) + body[at:]
        elif way == 1:
            body = body[:at]
        elif way == 2:
            body = body[:at] + rng.randbytes(rng.randint(1, 8)) + body[at + 4 :]
        elif way == 3:
            body = body[:at] + body[at + rng.randint(1, 40) :]
        else:
            body = body + body[:at]
    return body[:2_000_000]


def paths(rng: random.Random, models: list[str]) -> str:
    name = rng.choice(models)
    return rng.choice(
        [f"v1/models/{name}/predict"] * 12
        + [f"label-studio/{name}/predict", f"label-studio/{name}/setup", f"v1/jobs?model={name}", "v1/models/%2e%2e/predict",
           f"v1/models/{name}%00/predict", f"v1/admin/models/{name}", "v1/jobs/x/result"]
    )  # fmt: skip


def request(rng: random.Random, models: dict[str, list[str]]) -> dict[str, Any]:
    """Address, headers and body of one request."""
    path = paths(rng, list(models))
    kind = rng.choice(KINDS[:6] if rng.random() < 0.8 else KINDS)
    columns = next((c for name, c in models.items() if name in path), ["text"])
    body = mutated(rng, good_body(rng, kind, columns))
    if path.startswith("label-studio") and rng.random() < 0.7:
        body = mutated(
            rng,
            json.dumps(
                {"tasks": [{"data": {name: cells(rng) for name in columns}}], "label_config": "<View/>"}
            ).encode(),
        )
    headers = {"content-type": kind, "accept": rng.choice(ACCEPTS)}
    if rng.random() < 0.05:
        headers["content-encoding"] = rng.choice(["gzip", "identity", "br"])
    query = rng.choice(QUERIES) if "?" not in path else ""
    return {"url": path + query, "headers": headers, "content": body}


def send_bodies(url: str, models: dict[str, list[str]], *, seed: int, bodies: int) -> tuple[Counter[int], list[str]]:
    """Statuses, and what was wrong."""
    statuses, wrong = Counter[int](), []
    local, clients = threading.local(), list[httpx.Client]()

    def one(number: int) -> None:
        if not hasattr(local, "client"):
            local.client = httpx.Client(base_url=url, timeout=SECONDS)
            clients.append(local.client)
        try:
            answer = local.client.post(**request(random.Random(seed + number), models))
            statuses[answer.status_code] += 1
            if answer.status_code >= 500:
                wrong.append(f"seed {seed + number}: {answer.status_code} {answer.text[:200]}")
        except httpx.HTTPError as error:
            wrong.append(f"seed {seed + number}: {type(error).__name__}: {error}")

    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(one, range(bodies)):
            pass
    for client in clients:
        client.close()
    return statuses, wrong


def draw_cases(url: str, *, cases: int, seed: int) -> tuple[int, list[str]]:
    """How many requests Schemathesis drew, and what was wrong."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from hypothesis.errors import Unsatisfiable
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks as of

    checks = [
        not_a_server_error,
        of.status_code_conformance,
        of.content_type_conformance,
        of.response_schema_conformance,
    ]
    operations = [found.ok() for found in schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations()]
    asking = [one for one in operations if one.method.upper() == "POST"]
    each = max(1, cases // (len(operations) + 5 * len(asking)))
    drawn, wrong = [0], []

    def run(operation: Any, mode: Any, examples: int) -> None:
        @seeded(seed)
        @settings(
            max_examples=examples,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: Any) -> None:
            drawn[0] += 1
            case.validate_response(case.call(timeout=SECONDS), checks=checks)

        try:
            check()
        except Unsatisfiable:
            pass  # nothing that is sent to this address can fail to fit its description
        except Exception as error:
            wrong.append(f"{operation.label} ({mode.name.lower()}): {str(error)[:1500]}")

    good, bad = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
    while drawn[0] < cases and not wrong:
        for operation in operations:
            run(operation, good, each * (3 if operation in asking else 1))
            if operation in asking:  # hardly anything that is sent to the others can fail to fit
                run(operation, bad, 3 * each)
        seed += 1
    return drawn[0], wrong


def columns_of(url: str) -> dict[str, list[str]]:
    """Model → the columns that it reads."""
    told = httpx.get(f"{url}/v1/models").json()["models"]
    return {model["name"]: list(model["columns"]) or ["text"] for model in told}


@contextmanager
def service(model: Path, runtime: str | None) -> Iterator[str]:
    """The address of a service of this model, started for this."""
    command = [sys.executable, "-m", "polydetr", "serve", str(model), "--port", "0", "--max-body", "4"]
    command += ["--runtime", runtime] if runtime else []
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with (
        tempfile.TemporaryDirectory() as place,
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen([*command, "--store", f"{place}/s.db"], stderr=log, env=environment) as process,
    ):
        try:
            while not (found := re.search(r"answering at (\S+);", _all(log))):
                if process.poll() is not None:
                    raise SystemExit(_all(log))
                time.sleep(0.2)
            yield found[1]
            if process.poll() is not None:
                raise SystemExit(f"the service ended: {_all(log)[-2000:]}")
        finally:
            process.terminate()


def _all(file: Any) -> str:
    file.seek(0)
    return file.read()


def small_model(folder: Path) -> Path:
    """A model of a few weights, trained for a moment."""
    from polydetr import Predictor

    rows = [
        {"text": f"scene {i} of a {('lovely', 'dull')[i % 2]} evening", "label": ("good", "bad")[i % 2]}
        for i in range(60)
    ]
    Predictor.fit(rows, target="label", out=folder, backbone="none", epochs=1, seed=0)
    return folder


def main(tell: Callable[[str], None] = print) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2_000, help="requests drawn from the description")
    parser.add_argument("--bodies", type=int, default=100_000, help="mutated bodies")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", type=Path, help="a model folder")
    parser.add_argument("--runtime", help="torch or onnx")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or small_model(Path(folder, "film"))
        with service(model, arguments.runtime) as url:
            began = time.monotonic()
            drawn, wrong = draw_cases(url, cases=arguments.cases, seed=arguments.seed) if arguments.cases else (0, [])
            tell(f"{drawn:,} cases in {time.monotonic() - began:.0f} s, {len(wrong)} wrong")
            began = time.monotonic()
            statuses, more = send_bodies(url, columns_of(url), seed=arguments.seed, bodies=arguments.bodies)
            told = ", ".join(f"{status}: {count:,}" for status, count in sorted(statuses.items()))
            tell(f"{statuses.total():,} bodies in {time.monotonic() - began:.0f} s, {len(more)} wrong; statuses {told}")
            name = next(iter(columns_of(url)))
            alive = httpx.post(f"{url}/v1/models/{name}/predict", json={"rows": []}, timeout=SECONDS)
            if alive.status_code != 200:
                more.append(f"afterwards a good request is answered with {alive.status_code}")
    for line in [*wrong, *more][:20]:
        tell(line)
    return 1 if wrong or more else 0


if __name__ == "__main__":
    sys.exit(main())
