"""Fuzz of every reader: files of each format, mutated; reading gives rows or one of polydetr's own errors.

    python benchmarks/fuzz_readers.py                        # 20,000 files, as it counts; takes some minutes
    python benchmarks/fuzz_readers.py --files 2000           # as .ci/run does
    python benchmarks/fuzz_readers.py --seed 17 --files 1    # one file again, with its traceback

File number i is the same for the same seed + i: a seed of its own chooses the format, the mutations and their places.
Each is read as ``read_records`` reads it, stopping at a bad row and passing over it, and every tenth is inspected. It
fails where anything but a PolydetrError comes out, where reading takes more than 2 s (of processor time), or where it
needs more than 500 MB beside what the process had before.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polydetr.core.reading import ReadOptions
from polydetr.core.records import ReadReport
from polydetr.data.inspect import inspect_data
from polydetr.data.readers import read_records
from polydetr.errors import PolydetrError

SECONDS, BYTES = 2.0, 500 * 2**20
TOKENS = [b"\x00", b"\r", b"\n", b"\r\n", b'"', b"'", b",", b"\t", b";", b"\xef\xbb\xbf", b"\xff\xfe", b"\xff", b"\xed\xa0\xbd",
          b"\\ud83d", b"NaN", b"Infinity", b"-1", b"1e999", b"9" * 5000, b"null", b"true", b"[]", b"{}", b"[" * 3000, b"{\"a\":" * 3000,
          b"\xe3\x80\x80", b"sep=;", b"#", b"-DOCSTART-", b"../", b"/etc/passwd", b"<!ENTITY a 'b'>", b"&a;", b"&a", b"*a",
          b" " * 100_000, b"x" * 100_000]  # fmt: skip


def odd_value(rng: random.Random) -> Any:
    """A value of another kind than any format says; a new one each time, as it may be changed in its turn."""
    deep: Any = None
    for _ in range(500):
        deep = [deep]
    return rng.choice(
        [None, True, False, 0, -1, 10**30, 10**400, 1e308, float("nan"), float("inf"), 0.5, "", " ", "x", "24", "NaN",
         "\ud83d", "\x00", "a\rb", [], {}, [[]], [None], [1, 2], [{}], {"a": None}, {"": 1}, deep, "y" * 100_000,
         ["a"] * 1000]
    )  # fmt: skip


# -- whole files of every format --------------------------------------------------------------------------------------


def table(separator: str, *, quoted: bool = False) -> bytes:
    texts = [
        '"well, then"' if quoted else "well then",
        "天气很好",
        "two\nlines" if quoted else "plain",
        "12,5" if quoted else "12.5",
    ]
    cells = [f'"{t.strip(chr(34))}"' if quoted else t for t in texts]
    lines = [f"{cell}{separator}{i}{separator}{'good' if i % 2 else 'bad'}" for i, cell in enumerate(cells * 6)]
    return "\n".join([f"text{separator}number{separator}label", *lines]).encode() + b"\n"


ROWS: list[dict[str, Any]] = [
    {"text": "Anna lives in Oslo", "entities": [{"start": 0, "end": 4, "label": "PER"}], "tags": ["a", "b"], "n": 1.5},
    {"text": "安娜住在上海", "label": {"name": {"安娜": [[0, 1]]}, "address": {"上海": [[4, 5]]}}},
    {"context": "It is warm.", "question": "How?", "answers": {"text": ["warm"], "answer_start": [6]}},
    {"tokens": ["Oslo", "."], "tags": ["B-CITY", "O"], "seen": [{"id": 1, "title": "x"}], "when": "2020-01-02"},
]
SQUAD = {"version": "1", "data": [{"title": "t", "paragraphs": [{"context": "It is warm.", "qas": [
    {"id": "1", "question": "How is it?", "answers": [{"text": "warm", "answer_start": 6}]},
    {"id": "2", "question": "Why?", "answers": [], "is_impossible": True}]}]}]}  # fmt: skip
COCO = {
    "images": [{"id": 1, "file_name": "a.png", "width": 8, "height": 6}, {"id": 2, "file_name": "b.png", "width": 8, "height": 6}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 2], "area": 6, "iscrowd": 0},
                    {"id": 2, "image_id": 2, "category_id": 2, "segmentation": [[1, 1, 4, 1, 4, 4]]}],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
}  # fmt: skip
LABEL_STUDIO = [
    {"id": 1, "data": {"text": "Ann lives in Oslo"}, "annotations": [
        {"result": [{"from_name": "label", "to_name": "text", "type": "labels",
                     "value": {"start": 0, "end": 3, "text": "Ann", "labels": ["PER"]}},
                    {"from_name": "mood", "type": "choices", "value": {"choices": ["good"]}}],
         "was_cancelled": False, "updated_at": "2024-01-01"}]},
    {"id": 2, "data": {"text": "b"}, "annotations": [{"result": [], "was_cancelled": True}], "predictions": []},
]  # fmt: skip
LABEL_STUDIO_BOXES = [
    {"id": 1, "data": {"image": "/data/upload/1/0a1b2c3d-a.png"}, "annotations": [
        {"result": [{"from_name": "box", "to_name": "image", "type": "rectanglelabels", "original_width": 8, "original_height": 6,
                     "value": {"x": 1, "y": 2, "width": 30, "height": 40, "rotation": 15, "rectanglelabels": ["cat"]}},
                    {"from_name": "p", "type": "polygonlabels", "value": {"points": [[1, 1], [9, 1], [5, 50]], "polygonlabels": ["dog"]}}]}]},
    {"id": 2, "data": {"image": "b.png"}, "annotations": [{"result": [{"type": "choices", "value": {"choices": ["x"]}}]}]},
]  # fmt: skip
LABEL_STUDIO_MIN = [
    {"id": 1, "text": "Ann lives", "label": [{"start": 0, "end": 3, "labels": ["PER"]}], "mood": "good", "annotator": 1, "annotation_id": 4},
    {"id": 1, "text": "Ann lives", "mood": {"choices": ["good", "bad"]}, "annotator": 2, "annotation_id": 5, "updated_at": "2024"},
]  # fmt: skip
PRODIGY: list[dict[str, Any]] = [
    {"text": "Ann ran", "tokens": [], "spans": [{"start": 0, "end": 3, "label": "PER"}], "answer": "accept", "_task_hash": 1},
    {"text": "b", "options": [], "accept": ["x"], "config": {"choice_style": "single"}, "answer": "accept"},
    {"image": "a.png", "spans": [{"label": "cat", "points": [[1, 2], [3, 4]]}], "answer": "accept"},
    {"text": "c", "spans": [], "answer": "reject"},
    {"filename": "a.png", "bbox": [{"x": 1, "y": 2, "width": 3, "height": 4, "label": "cat"}], "Comments": []},
    {"text": "Bo", "entities": [{"start_offset": 0, "end_offset": 2, "label": "PER"}], "relations": []},
]  # fmt: skip
INFO = {
    "features": {
        "label": {"names": ["bad", "good"], "_type": "ClassLabel"},
        "ner_tags": {"feature": {"names": ["O", "B-X"]}},
    }
}
CVAT = (b'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n<meta><task><original_size><width>8</width>'
        b'<height>6</height></original_size></task></meta>\n<image id="0" name="a.png" width="8" height="6">\n'
        b'<box label="cat" xtl="1" ytl="1" xbr="4" ybr="4" rotation="30.0"><attribute name="x">y</attribute></box>\n'
        b'<polygon label="dog" points="1,1;4,1;4,4"/><ellipse label="dog" cx="4" cy="3" rx="1" ry="2"/><tag label="day"/></image>\n'
        b'<image id="1" name="b.png" width="8" height="6"><mask label="cat" left="1" top="1" width="2" height="2" rle="1"/></image>\n'
        b'<track id="0" label="cat"><box frame="0" outside="0" xtl="1" ytl="1" xbr="4" ybr="4"/><box frame="1" outside="1" xtl="1" '
        b'ytl="1" xbr="4" ybr="4"/></track>\n</annotations>\n')  # fmt: skip
COLUMNS = (
    b"-DOCSTART- O\n\nOslo B-CITY\nis O\nwarm O\n. O\n\nAnna B-PER\nBell I-PER\n\n# a comment\nBonn B-CITY\n\n" * 3
)
BOXES = b"path,xmin,ymin,xmax,ymax,label\na.png,1,1,4,4,cat\nb.png,2,1,5,4,dog\na.png,0,0,2,2,dog\nb.png,,,,,\n"
VOC = (b"<annotation><filename>a.png</filename><size><width>8</width><height>6</height></size><object><name>cat</name><bndbox>"
       b"<xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>4</ymax></bndbox></object></annotation>")  # fmt: skip
YAML = b"path: .\ntrain: images\nval: list.txt\nnames:\n  0: cat\n  1: dog\n"


def image_bytes() -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (8, 6), (200, 30, 30)).save(out, "PNG")
    return out.getvalue()


def parquet_bytes() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"text": f"row {i}", "n": i / 2, "tags": ["a"] * (i % 3), "label": "ab"[i % 2]} for i in range(50)]
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


def jsonl() -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in ROWS * 3)


def sources() -> dict[str, dict[str, bytes]]:
    """Format → its files by path; the first of them is mutated, and read, unless "." stands there: the folder."""
    image = image_bytes()
    pictures = {"a.png": image, "b.png": image}
    yolo = {
        "images/a.png": image,
        "images/b.png": image,
        "labels/b.txt": b"1 0.5 0.5 0.2 0.2\n",
        "list.txt": b"images/a.png\n",
    }
    label = b"0 0.5 0.5 0.25 0.5\n1 0.1 0.1 0.4 0.1 0.4 0.4\n"
    return {
        "csv": {"a.csv": table(",", quoted=True)},
        "semicolons": {"a.csv": b"sep=;\r\n" + table(";")},
        "tsv": {"a.tsv": table("\t")},
        "returns": {"a.csv": table(",").replace(b"\n", b"\r")},
        "utf-16": {"a.csv": table(",").decode().encode("utf-16")},
        "gb18030": {"a.csv": table(",").decode().encode("gb18030")},
        "no name": {"a": table(",")},
        "jsonl": {"a.jsonl": jsonl()},
        "json": {"a.json": json.dumps(ROWS * 2).encode()},
        "squad": {"a.json": json.dumps(SQUAD).encode()},
        "conll": {"a.conll": COLUMNS},
        "txt": {"a.txt": COLUMNS.replace(b" ", b"\t")},
        "parquet": {"a.parquet": parquet_bytes()},
        "coco": {"a.json": json.dumps(COCO).encode(), **pictures},
        "label studio": {"a.json": json.dumps(LABEL_STUDIO).encode()},
        "label studio boxes": {"a.json": json.dumps(LABEL_STUDIO_BOXES).encode(), **pictures},
        "label studio min": {"a.json": json.dumps(LABEL_STUDIO_MIN).encode()},
        "prodigy": {"a.jsonl": b"".join(json.dumps(row).encode() + b"\n" for row in PRODIGY), **pictures},
        "class names": {"dataset_info.json": json.dumps(INFO).encode(), "a.csv": b"text,label\nwarm,1\ncold,0\n"},
        "cvat": {"a.xml": CVAT, "frame_000000.png": image, **pictures},
        "cvat folder": {"annotations.xml": CVAT, "images/a.png": image, "images/b.png": image},
        "boxes": {"a.csv": BOXES, **pictures},
        "voc": {"Annotations/a.xml": VOC, "JPEGImages/a.png": image, "ImageSets/Main/train.txt": b"a\n"},
        "voc list": {"ImageSets/Main/train.txt": b"a\n", "Annotations/a.xml": VOC, "JPEGImages/a.png": image},
        "yolo labels": {"labels/a.txt": label, "data.yaml": YAML, **yolo},
        "yolo yaml": {"data.yaml": YAML, "labels/a.txt": label, **yolo},
        "yolo names": {"labels/classes.txt": b"cat\ndog\n", "labels/a.txt": label, **yolo},
        "images": {"cats/a.png": image, "dogs/b.png": image},
    }  # fmt: skip


FOLDERS = ("voc", "yolo labels", "yolo names", "images", "cvat folder")
READ = {"class names": "a.csv"}
"""Where not the changed file is read, but one that it is about."""
TREES: dict[str, Any] = {
    "json": ROWS, "squad": SQUAD, "coco": COCO, "jsonl": ROWS, "rows": ROWS, "label studio": LABEL_STUDIO, "class names": INFO,
    "label studio boxes": LABEL_STUDIO_BOXES, "label studio min": LABEL_STUDIO_MIN, "prodigy": PRODIGY,
}  # fmt: skip
"""Formats whose values, not only their bytes, are changed."""


# -- mutations --------------------------------------------------------------------------------------------------------


def mutated(content: bytes, rng: random.Random) -> bytes:
    """One to six changes: bytes flipped, cut, doubled, moved, or odd ones put in."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.choice((1, 1, 2, 8, 64)))
        kind = rng.randrange(6)
        if kind == 0:
            data[start:end] = bytes(rng.randrange(256) for _ in range(end - start))
        elif kind == 1:
            del data[start:end]
        elif kind == 2:
            data[start:start] = data[start:end] * rng.choice((1, 3, 50))
        elif kind == 3:
            data = data[:start] if rng.random() < 0.3 else data[start:] + data[:start]
        else:
            data[start : start if kind == 4 else end] = rng.choice(TOKENS)
    return bytes(data)


def with_odd_values(tree: Any, rng: random.Random) -> Any:
    """The same tree with one to three of its values (or keys) replaced or left out."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(tree))
        if not places:  # all was left out
            break
        holder, key = rng.choice(places)
        if isinstance(holder, dict) and rng.random() < 0.25:
            value = holder.pop(key)
            if rng.random() < 0.5:
                holder[rng.choice(("", "text", "label", "id", "答", "x" * 5000))] = value
        else:
            holder[key] = odd_value(rng)
    return tree


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    waiting = [tree]
    while waiting:
        holder = waiting.pop()
        for key, value in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
            yield holder, key
            if isinstance(value, (dict, list)) and value:
                waiting.append(value)


# -- one file ---------------------------------------------------------------------------------------------------------


class TooSlow(BaseException):
    """No Exception, so that no reader takes it for a row's fault."""


@contextmanager
def limited() -> Iterator[None]:
    """Bounds processor time and, beside what the process has, memory."""

    def stop(number: int, frame: Any) -> None:
        raise TooSlow(f"more than {SECONDS} s")

    signal.signal(signal.SIGPROF, stop)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + BYTES, hard))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def made(seed: int, folder: Path, known: dict[str, dict[str, bytes]]) -> tuple[str, Any]:
    """The format of file number ``seed``, and what is to be read: a path, or rows in memory."""
    rng = random.Random(seed)
    kind = rng.choice([*known, "rows"])
    tree = TREES.get(kind)
    changed = with_odd_values(tree, rng) if tree is not None and (kind == "rows" or rng.random() < 0.6) else None
    if kind == "rows":
        return kind, changed
    shutil.rmtree(folder, ignore_errors=True)
    for number, (name, content) in enumerate(known[kind].items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if number == 0 and changed is not None:
            rows = changed if kind in ("jsonl", "prodigy") else [changed]
            content = b"\n".join(json.dumps(row).encode() for row in rows)
        elif number == 0:
            content = mutated(content, rng)
        path.write_bytes(content)
    return kind, folder if kind in FOLDERS else folder / READ.get(kind, next(iter(known[kind])))


def ways(source: Any, seed: int) -> Iterator[Callable[[], Any]]:
    """The ways in which one file is read."""
    encoding = ReadOptions(encoding=random.Random(seed).choice((None, None, "gb18030", "latin-1", "utf-16")))
    for on_error in ("skip", "raise"):
        report = ReadReport()
        yield lambda on_error=on_error, report=report: sum(
            1 for _ in read_records(source, reading=encoding, on_error=on_error, report=report)
        )
        yield lambda report=report: (json.dumps(report.to_dict()), report.lines())
    if seed % 10 == 0:
        yield lambda: inspect_data(source, suspicious=False).to_text()


def fault_of(seed: int, source: Any) -> str:
    """What is wrong with how a file is read; "" where nothing is."""
    for way in ways(source, seed):
        began = time.process_time()
        try:
            with limited(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                way()
        except PolydetrError:
            pass
        except (Exception, TooSlow):
            return traceback.format_exc()
        if time.process_time() - began > SECONDS:
            return f"took {time.process_time() - began:.1f} s"
    return ""


def read_part(seeds: range) -> None:
    """Reads these files; prints a line of JSON before each, and one for each that is read wrongly."""
    sys.setrecursionlimit(1000)
    known = sources()
    with tempfile.TemporaryDirectory() as scratch:
        for seed in seeds:
            kind, source = made(seed, Path(scratch) / "files", known)
            print(json.dumps({"seed": seed, "kind": kind}), flush=True)
            if fault := fault_of(seed, source):
                print(json.dumps({"seed": seed, "kind": kind, "fault": fault}), flush=True)


def faults_in(seeds: range) -> list[dict[str, Any]]:
    """What ``read_part`` finds, in a process of its own: one that dies is a fault of the file that it was reading, and
    the files after it are read by another.
    """
    found: list[dict[str, Any]] = []
    while seeds:
        command = [sys.executable, "-X", "faulthandler", __file__, "--part", str(seeds.start), str(len(seeds))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        found += [line for line in lines if "fault" in line]
        if done.returncode == 0:
            break
        if not lines:
            raise SystemExit(done.stderr)
        found.append({**lines[-1], "fault": f"{done.stderr}\nthe process ended with {done.returncode}"})
        seeds = range(lines[-1]["seed"] + 1, seeds.stop)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first file; the next ones follow")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--part", type=int, nargs=2, metavar=("SEED", "FILES"), help="read these in this process")
    arguments = parser.parse_args()
    if arguments.part:
        start, count = arguments.part
        read_part(range(start, start + count))
        return 0
    seeds = range(arguments.seed, arguments.seed + arguments.files)
    parts = [seeds[i : i + 500] for i in range(0, len(seeds), 500)]
    with ThreadPoolExecutor(arguments.processes) as pool:
        found = [fault for part in pool.map(faults_in, parts) for fault in part]
    for one in found[:20]:
        print(f"--- file {one['seed']} ({one['kind']})\n{one['fault']}")
    kinds = Counter(f"{one['kind']}: {one['fault'].strip().splitlines()[-1][:100]}" for one in found)
    for line, count in kinds.most_common():
        print(f"{count:5}  {line}")
    print(f"{len(found)} of {len(seeds):,} files (seeds {seeds.start} to {seeds.stop - 1}) were read wrongly")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
