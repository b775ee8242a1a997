"""Model folders as a malicious or careless stranger might hand them on: changed at random, with checksums that fit.

    python benchmarks/fuzz_folder.py [--count 2000] [--seed 0]

Each mutation changes one saved model (every task and modality, ``tests/model/saved_by_old``): a value, key or type in
one of its JSON files, bytes anywhere, weights that are no numbers, links, pipes and folders in place of files, names
that lead out of the folder. It is loaded, and where that succeeds it is asked for answers. What must hold, for each:

- an answer, or an error of polydetr's own tree: no other exception, no panic of a library;
- at most ``SECONDS``, and at most ``MEGABYTES`` beyond what the process had;
- no file outside of the folder is opened by Python, and nothing is fetched.

Prints what was found, one line each with the number of the mutation (``--only NUMBER`` repeats it), and exits with 1
where there is any.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from polydetr import LoadedModel, PolydetrError
from polydetr.inference.folder import MANIFEST, SEAL, WEIGHTS, seal_of

SAVED = Path(__file__).parents[1] / "tests" / "model" / "saved_by_old"
SECONDS = 10
MEGABYTES = 400
_DEEP: Any = []
for _ in range(300):
    _DEEP = [_DEEP]
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 3, 257, 10**6, 10**9, 10**30, -(10**9), 0.5, -0.5, 1e308, float("nan"), float("inf"),
    "", "x", "text", "../../private.txt", "/etc/hostname", "\ud800", "a" * 5000, [], {}, [1], [[]], {"a": 1}, _DEEP,
    {"type": "Precompiled", "precompiled_charsmap": "AAAA"}, {"type": "Replace", "pattern": {"Regex": "("}},
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values below ``value``."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in items:
        yield (*path, key)
        yield from places(below, (*path, key))


class TooLate(BaseException):
    """No ``Exception``, which somebody could catch."""


class Mutation:
    """One changed folder. Everything that happens is a function of ``number`` and ``seed``."""

    def __init__(self, number: int, seed: int, work: Path) -> None:
        self.random = random.Random(f"{seed}/{number}")
        self.name = self.random.choice(sorted(p.name for p in SAVED.iterdir() if (p / "model").is_dir()))
        self.folder = work / "model"
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(SAVED / self.name / "model", self.folder)
        kinds: list[Callable[[], str]] = [self.json_value] * 14 + [self.bytes_of_a_file, self.weights, self.file_system]
        kinds += [self.names_in_the_list]
        self.what = self.random.choice(kinds)()

    @property
    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink())

    def json_value(self) -> str:
        path = self.random.choice([p for p in self.files if p.suffix == ".json"])
        document = json.loads(path.read_text(encoding="utf-8"))
        keys = list(places(document))
        # A vocabulary has thousands of entries: the shallow places are tried as often.
        keys = self.random.choice([keys, [key for key in keys if len(key) <= 3]]) or keys
        *above, last = [*self.random.choice(keys)]
        inside = document
        for key in above:
            inside = inside[key]
        value = self._other(inside[last], document)
        if value is KeyError:
            del inside[last]
        else:
            inside[last] = value
        path.write_text(json.dumps(document), encoding="utf-8")
        self.reseal()
        return f"{path.name} {'.'.join(map(str, [*above, last]))} = {str(value)[:60]}"

    def _other(self, value: Any, document: Any) -> Any:
        how = self.random.randrange(6)
        if how == 0:
            return KeyError
        if how == 1 and isinstance(value, int | float) and not isinstance(value, bool):
            return self.random.choice([value + 1, value - 1, -value, value * 1000, value * 10**6, float(value)])
        if how == 1 and isinstance(value, list) and value:
            return self.random.choice([value * 2, value[:-1], value[::-1], value * 2000, [value]])
        if how == 1 and isinstance(value, str):
            return self.random.choice([value.upper(), value + "x", [value], value * 100])
        if how == 2:
            *above, last = self.random.choice(list(places(document)))
            for key in above:
                document = document[key]
            return json.loads(json.dumps(document[last]))
        return self.random.choice(VALUES)

    def bytes_of_a_file(self) -> str:
        path = self.random.choice(self.files)
        content = bytearray(path.read_bytes())
        for _ in range(self.random.choice([1, 1, 4, 64])):
            at = self.random.randrange(min(len(content), self.random.choice([9, 400, len(content)])))
            content[at] = self.random.randrange(256)
        if self.random.random() < 0.3:
            content = content[: self.random.randrange(len(content))]
        path.write_bytes(content)
        self.reseal()
        return f"bytes of {path.name}"

    def weights(self) -> str:
        tensors = load_file(self.folder / WEIGHTS)
        name = self.random.choice(sorted(tensors))
        value = self.random.choice([np.nan, np.inf, 1e38, -1e38, 0.0, "half", "gone", "integers"])
        if value == "gone":
            del tensors[name]
        elif value == "half":
            tensors[name] = tensors[name][: len(tensors[name]) // 2] if tensors[name].ndim else tensors[name]
        elif value == "integers":
            tensors[name] = tensors[name].astype(np.int64)
        else:
            tensors[name] = np.full_like(tensors[name], value)
        save_file(tensors, self.folder / WEIGHTS)
        self.reseal()
        return f"{name} is {value}"

    def file_system(self) -> str:
        path = self.random.choice(self.files)
        path.unlink()
        how = self.random.choice(["gone", "empty", "folder", "pipe", "link out", "link to zeros", "link to itself"])
        if how == "empty":
            path.touch()
        elif how == "folder":
            path.mkdir()
        elif how == "pipe":
            os.mkfifo(path)
        elif how != "gone":
            path.symlink_to({"link out": "/etc/hostname", "link to zeros": "/dev/zero"}.get(how, path.name))
        self.reseal()
        return f"{path.name}: {how}"

    def names_in_the_list(self) -> str:
        path = self.folder / MANIFEST
        manifest = json.loads(path.read_text(encoding="utf-8"))
        entry = self.random.choice(list(manifest["files"].values()))
        names = [
            "../private.txt",
            "/etc/hostname",
            "a/../../b",
            "",
            ".",
            "reports/../../private.txt",
            "a\0b",
            "n" * 300,
        ]
        name = self.random.choice(names)
        manifest["files"][name] = entry
        path.write_text(json.dumps(manifest), encoding="utf-8")
        self.reseal()
        return f"lists {name!r}"

    def reseal(self) -> None:
        """Makes all checksums fit, as an author would; one in ten is left as it is."""
        path = self.folder / MANIFEST
        if self.random.random() < 0.1 or not path.is_file():
            return
        manifest: Any = None
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            for name, entry in manifest["files"].items():
                file = self.folder / name
                if file.is_file() and not file.is_symlink() and isinstance(entry, dict) and ".." not in name:
                    content = file.read_bytes()
                    entry |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError):
            pass
        try:
            manifest.pop(SEAL, None)
            manifest[SEAL] = seal_of(manifest)
            path.write_text(json.dumps(manifest), encoding="utf-8")
        except (TypeError, AttributeError, ValueError, RecursionError):
            pass


def ask(folder: Path, rows: list[dict[str, Any]]) -> str:
    """Loads the model and asks it; what came of it, in a word."""
    loaded = LoadedModel.load(folder)
    answers = list(loaded.stream(rows))
    json.dumps(answers)
    return "answered" if any("error" not in answer for answer in answers) else "rejected"


class Guard:
    """Notes what Python opens and fetches while it is ``watching`` a folder."""

    def __init__(self) -> None:
        self.watching: Path | None = None
        self.outside: list[str] = []
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.watching is None:
            return
        if event in ("socket.connect", "subprocess.Popen", "os.system"):
            self.outside.append(event)
        if event == "open" and str(arguments[0]).endswith(("private.txt", "/hostname", "/zero")):
            self.outside.append(str(arguments[0]))


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(count: int, seed: int, *, only: int | None) -> int:
    """Returns how many mutations failed."""
    outcomes: collections.Counter[str] = collections.Counter()
    slowest, failed, guard = 0.0, 0, Guard()
    warnings.simplefilter("ignore")

    def late(*_: Any) -> None:
        raise TooLate(f"more than {SECONDS} s")

    signal.signal(signal.SIGALRM, late)
    with tempfile.TemporaryDirectory() as base:
        (Path(base) / "private.txt").write_text("secret")
        for name in sorted(
            p.name for p in SAVED.iterdir() if (p / "model").is_dir()
        ):  # what loading imports, is imported
            os.chdir(SAVED / name)
            ask(SAVED / name / "model", json.loads((SAVED / name / "rows.json").read_text(encoding="utf-8"))[:2])
        for number in range(count) if only is None else [only]:
            mutation = Mutation(number, seed, Path(base))
            rows = json.loads((SAVED / mutation.name / "rows.json").read_text(encoding="utf-8"))[:2]
            os.chdir(SAVED / mutation.name)
            before, started, fault = peak_megabytes(), time.monotonic(), ""
            guard.watching, guard.outside = mutation.folder, []
            signal.alarm(SECONDS)
            try:
                outcome = ask(mutation.folder, rows)
            except PolydetrError as error:
                outcome = type(error).__name__
                fault = f"a message of {len(str(error))} characters" if len(str(error)) > 1024 else ""
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                outcome = fault = f"{type(error).__name__}: {error!s:.200}"
                if only is not None:
                    traceback.print_exc()
            signal.alarm(0)
            guard.watching = None
            seconds = time.monotonic() - started
            slowest = max(slowest, seconds)
            if peak_megabytes() - before > MEGABYTES:
                fault = fault or f"{peak_megabytes() - before:.0f} MB more"
            fault = fault or ", ".join(guard.outside)
            outcomes[outcome.partition(":")[0]] += 1
            if fault or only is not None:
                failed += bool(fault)
                print(f"{number} {mutation.name}: {mutation.what} -> {fault or outcome}", flush=True)
        os.chdir("/")
    counts = ", ".join(f"{outcome} {times}" for outcome, times in outcomes.most_common())
    print(f"{sum(outcomes.values())} mutations (seed {seed}): {counts}")
    print(f"slowest {slowest:.1f} s, peak {peak_megabytes():.0f} MB; {failed} failed")
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="one mutation alone, with its traceback")
    given = parser.parse_args()
    sys.exit(bool(run(given.count, given.seed, only=given.only)))
