"""Reads the file of a W&B run, which is a log of protocol buffers in LevelDB's format."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

BLOCK, HEADER = 32768, 7


def payloads(data: bytes):
    """The records: each in chunks of (checksum, length, whole / first / middle / last) within blocks."""
    assert data[:4] == b":W&B"
    place, record = HEADER, b""
    while place + HEADER <= len(data):
        left = BLOCK - place % BLOCK
        if left < HEADER:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + HEADER])
        record += data[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (1, 4):
            yield record
            record = b""


def read_run(path: Path) -> dict[str, Any]:
    """id, name, group, project, config, history (a mapping per step), summary, exit code."""
    from wandb.proto import wandb_internal_pb2

    found: dict[str, Any] = {"config": {}, "history": {}, "summary": {}, "exit": None}
    for payload in payloads(path.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(payload)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
            found |= {"id": run.run_id, "name": run.display_name, "group": run.run_group, "project": run.project}
            found["config"] |= {item.key: json.loads(item.value_json) for item in run.config.update}
        if kind == "history":
            items = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
            found["history"].setdefault(items.get("_step", record.history.step.num), {}).update(items)
        if kind == "summary":
            for item in record.summary.update:
                found["summary"]["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
        if kind == "exit":
            found["exit"] = record.exit.exit_code
    return found


def runs_in(folder: Path) -> list[dict[str, Any]]:
    return [read_run(path) for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))]
