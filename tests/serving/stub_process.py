"""A model process without models, for tests of what becomes of processes: ``python stub_process.py ... FD``.

What happens when a folder is loaded stands in its file ``does``: "ends" (the process), "fails" (by an error of no known
kind), "lacks" (there is no model), "odd" (what is told of it is not whole). A row {"text": "end"} ends the process. An
answer is the folder's name; beside it stands whether a shadow would be asked.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

from polydetr.serving import frames

SCHEMA = {
    "inputs": [{"name": "text", "modality": "text"}],
    "targets": [{"name": "label", "task": "classification"}],
}


def told_of(folder: Path) -> dict[str, Any]:
    does = (folder / "does").read_text() if (folder / "does").exists() else ""
    if does == "ends":
        os._exit(9)
    if does == "fails":
        return {"failed": {"kind": "", "message": "the model cannot be loaded (OSError).", "hint": None}}
    if does == "lacks":
        return {"failed": {"kind": "ModelFolderError", "message": f"there is no model {folder}.", "hint": None}}
    known = {"description": {"schema": SCHEMA}, "columns": {}, "answers": {}, "runtime": "stub", "draws": False}
    return {"loaded": known if does == "odd" else {"seal": folder.name, **known}}


def main(descriptor: int) -> None:
    sock = socket.socket(fileno=descriptor)
    hello, _ = frames.receive(sock)
    codec = frames.RowCodec(hello["mark"])
    held: dict[int, str] = {}
    shadows: dict[int, int] = {}
    while True:
        try:
            message, parts = frames.receive(sock)
        except frames.Closed:
            os._exit(0)
        match message["do"]:
            case "load":
                told = told_of(folder := Path(message["folder"]))
                if "loaded" in told:
                    held[message["handle"]] = folder.name
                sock.sendall(frames.pack({"id": message["id"], **told}, codec.pack({"text": "a"}, 1)))
            case "drop":
                held.pop(message["handle"], None)
            case "shadows":
                shadows = dict(message["pairs"])
            case "answer":
                rows = list(codec.rows(message["images"], parts))
                if {"text": "end"} in rows:
                    os._exit(9)
                handle = message["handle"]
                label = held.get(handle, "no model")
                replies = [
                    {"row": number, "prediction": {"label": label}, "shadowed": handle in shadows}
                    for number, _ in enumerate(rows, message["first"])
                ]
                seconds = {"encode": 0.0, "forward": 0.0, "decode": 0.0}
                answer = {"id": message["id"], "replies": replies, "seconds": seconds, "tokens": 1, "reasons": {}}
                sock.sendall(frames.pack(answer))


if __name__ == "__main__":
    main(int(sys.argv[-1]))
