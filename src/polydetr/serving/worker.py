"""A model process: ``python -m polydetr.serving.worker FD``, with a socket to the front process as its file FD.

Three threads: one reads messages and encodes rows, one computes turns (``turns.Pool``) and sends replies, one does what
may take long: loading, explaining, and asking a shadow. It ends when the front process ends, however that happens: the
socket is then closed. Signals of a terminal are the front process's affair.
"""

from __future__ import annotations

import gc
import os
import queue
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from polydetr.errors import PolydetrError
from polydetr.serving import frames
from polydetr.serving.contract import Ask
from polydetr.serving.parcels import Parcel, computed


class Worker:
    """Answers the messages of one front process. budget: tokens per turn."""

    def __init__(self, sock: socket.socket, *, budget: int, mark: str) -> None:
        from polydetr.serving.loaded import Models
        from polydetr.serving.turns import Pool

        self._sock, self._codec = sock, frames.RowCodec(mark)
        self._sending = threading.Lock()
        self._pool = Pool(budget=budget)
        self.models = Models()
        self._slow: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._explaining: dict[int, Parcel] = {}

    def serve(self) -> None:
        """Until the front process is gone or says so."""
        for work in (self._compute, self._do_slow_work):
            threading.Thread(target=_or_end, args=(work,), daemon=True).start()
        while True:
            message, parts = frames.receive(self._sock)
            match message["do"]:
                case "answer":
                    self._answer(message, parts)
                case "forget":
                    self._pool.forget(message["request"])
                    for parcel in list(self._explaining.values()):
                        parcel.gone = parcel.gone or parcel.request == message["request"]
                case "load":
                    self._slow.put(lambda message=message: self._load(message))
                case "drop":
                    self._slow.put(lambda handle=message["handle"]: self._drop(handle))

    def send(self, message: dict[str, Any], parts: Sequence[bytes] = ()) -> None:
        data = frames.pack(message, parts)
        with self._sending:
            self._sock.sendall(data)

    # -- rows ---------------------------------------------------------------------------------------------------------

    def _answer(self, message: dict[str, Any], parts: Sequence[bytes]) -> None:
        id = message["id"]
        try:
            parcel = Parcel.read(
                list(self._codec.rows(message["images"], parts)),
                id=id,
                request=message["request"],
                served=self.models[message["handle"]],
                ask=Ask(**message["ask"]),
                first=message["first"],
                deadline=time.monotonic() + message["left"],
                checked=message["checked"],
            )
        except Exception as fault:
            self.send({"id": id, "failed": failure(fault)})
            return
        if parcel.pieces:
            self._pool.add(parcel.pieces)
        else:
            self._finish(parcel)

    def _compute(self) -> None:
        while pieces := self._pool.take():
            if pieces[0].parcel.gone:
                for parcel in {id(piece.parcel): piece.parcel for piece in pieces}.values():
                    self.send({"id": parcel.id, "late": True})
                continue
            computed(pieces)
            self.send({"turn": {"rows": len(pieces), "tokens": sum(piece.tokens for piece in pieces)}})
            for parcel in {id(piece.parcel): piece.parcel for piece in pieces}.values():
                if not parcel.left and not parcel.gone:
                    self._finish(parcel)

    def _finish(self, parcel: Parcel) -> None:
        if parcel.ask.explain and parcel.records:
            self._explaining[parcel.id] = parcel
            self._slow.put(lambda: self._explain(parcel, iter(list(parcel.records))))
        else:
            self._reply(parcel)

    def _reply(self, parcel: Parcel) -> None:
        self.send(
            {
                "id": parcel.id,
                "replies": parcel.replies,
                "seconds": parcel.seconds,
                "tokens": parcel.tokens,
                "reasons": parcel.reasons,
            }
        )

    def _explain(self, parcel: Parcel, places: Any) -> None:
        """One row at a time, so that the explanations of several requests take turns."""
        place = next(places, None)
        if parcel.gone or parcel.is_late or place is None:
            del self._explaining[parcel.id]
            if place is None:
                self._reply(parcel)
            else:
                self.send({"id": parcel.id, "late": True})
            return
        parcel.explain(place)
        self._slow.put(lambda: self._explain(parcel, places))

    # -- models -------------------------------------------------------------------------------------------------------

    def _load(self, message: dict[str, Any]) -> None:
        try:
            info = self.models.load(message["handle"], Path(message["folder"]), runtime=message["runtime"])
        except Exception as fault:
            self.send({"id": message["id"], "failed": failure(fault)})
            return
        example = self._codec.pack(info.pop("example"), 1)
        self.send({"id": message["id"], "loaded": info}, example)

    def _drop(self, handle: int) -> None:
        self.models.drop(handle)
        gc.collect()

    def _do_slow_work(self) -> None:
        while True:
            self._slow.get()()


def failure(fault: Exception) -> dict[str, Any]:
    """An error as a message; of one that was not raised on purpose nothing but its kind."""
    if isinstance(fault, PolydetrError):
        column = fault.location.column if fault.location else None
        return {"kind": type(fault).__name__, "message": fault.message, "hint": fault.hint, "column": column}
    return {"kind": "", "message": f"the request failed within the model ({type(fault).__name__}).", "hint": None}


def _or_end(work: Callable[[], None]) -> None:
    """A thread that cannot go on ends the process: the front process starts another."""
    try:
        work()
    except BaseException as fault:
        if not isinstance(fault, OSError):
            sys.stderr.write(f"a model process ends: {type(fault).__name__}\n")
        os._exit(1)


def main(descriptor: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # they quote rows, and rows are the callers'
    sock = socket.socket(fileno=descriptor)
    try:
        hello, _ = frames.receive(sock)
        worker = Worker(sock, budget=hello["budget"], mark=hello["mark"])
        worker.serve()
    except (frames.Closed, OSError):
        pass
    finally:
        os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
