"""A model process: ``python -m polydetr.serving.worker FD``, with a socket to the front process as its file FD.

Three threads: one takes messages in, one encodes rows and computes turns (``turns.Pool``) and sends replies, one does
what may take long: loading, explaining, and asking a shadow. Encoding and computing stand in one thread, as two would
wait for the interpreter's lock at every operation of the network. It ends when the front process ends, however that
happens: the socket is then closed. Signals of a terminal are the front process's affair.
"""

from __future__ import annotations

import math
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

from polydetr.core.ahead import cores
from polydetr.errors import PolydetrError
from polydetr.inference.optimized import OptimizedWarning
from polydetr.serving import frames
from polydetr.serving.contract import Ask
from polydetr.serving.parcels import Parcel, Piece, ServedModel, computed
from polydetr.serving.shadow import MOST_WAITING, compare
from polydetr.serving.turns import Arrival, Pool

_TOLD_ROWS, _TOLD_S = 128, 1.0
_SWITCH_S = 0.001
"""After so long a thread that explains lets the one that answers go on."""


class Worker:
    """Answers the messages of one front process. budget: tokens per turn."""

    def __init__(self, sock: socket.socket, *, budget: int, mark: str) -> None:
        from polydetr.serving.loaded import Models

        self._sock, self._codec = sock, frames.RowCodec(mark)
        self._sending = threading.Lock()
        self._pool = Pool(budget=budget * cores())  # a runner computes one batch per core, side by side
        self.models = Models()
        self._slow: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._explaining: dict[int, Parcel] = {}
        self._shadows: dict[int, int] = {}
        self._told_at = 0.0

    def serve(self) -> None:
        """Until the front process is gone."""
        for work in (self._work, self._do_slow_work):
            threading.Thread(target=_or_end, args=(work,), daemon=True).start()
        while True:
            self._heed(*frames.receive(self._sock))

    def _heed(self, message: dict[str, Any], parts: Sequence[bytes]) -> None:
        match message["do"]:
            case "answer":
                self._pool.arrive(Arrival(message, parts, message["deadline"]))
            case "forget":
                self._pool.forget(message["request"])
                for parcel in list(self._explaining.values()):
                    parcel.gone = parcel.gone or parcel.request == message["request"]
            case "load":
                self._slow.put(lambda: self._load(message))
            case "shadows":
                self._shadows = dict(message["pairs"])
            case "drop":
                self._slow.put(lambda: self.models.drop(message["handle"]))

    def send(self, message: dict[str, Any], parts: Sequence[bytes] = ()) -> None:
        data = frames.pack(message, parts)
        with self._sending:
            self._sock.sendall(data)

    # -- rows ---------------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            self._do_next()  # in between nothing is held, so that a model that is dropped is freed

    def _do_next(self) -> None:
        work = self._pool.take()
        for id in work.late:
            self.send({"id": id, "late": True})
        if work.encode is not None:
            self._encode(work.encode)
        if work.compute:
            self._compute(work.compute)

    def _encode(self, arrival: Arrival) -> None:
        message = arrival.message
        try:
            rows = list(self._codec.rows(message["images"], arrival.parts))
            parcel = Parcel.read(
                rows,
                id=message["id"],
                request=message["request"],
                served=self.models[message["handle"]],
                ask=Ask(**message["ask"]),
                first=message["first"],
                deadline=arrival.deadline,
                checked=message["checked"],
            )
        except Exception as fault:
            self.send({"id": message["id"], "failed": failure(fault)})
            return
        if parcel.served.handle in self._shadows:
            parcel.rows = rows
        self._tell_columns(parcel.served)
        if pieces := parcel.hand_over():
            self._pool.add(pieces, tag=arrival.tag)
        else:
            self._finish(parcel)

    def _compute(self, pieces: Sequence[Piece]) -> None:
        computed(pieces)
        self.send({"turn": {"rows": len(pieces), "tokens": sum(piece.tokens for piece in pieces)}})
        for parcel in {id(piece.parcel): piece.parcel for piece in pieces}.values():
            if parcel.left:
                continue
            if parcel.twin is not None:
                self._compared(parcel.twin, parcel.replies)
            else:
                self._finish(parcel)

    def _tell_columns(self, served: ServedModel) -> None:
        """What was counted in the columns, now and then."""
        now = time.monotonic()
        if served.counted.rows >= _TOLD_ROWS or now - self._told_at > _TOLD_S:
            self._told_at = now
            self.send({"columns": {"handle": served.handle, "counts": served.counted.take()}})

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
        if parcel.rows:
            self._slow.put(lambda: self._ask_shadow(parcel))

    def _ask_shadow(self, parcel: Parcel) -> None:
        """The same rows for the shadow, where there is time."""
        handle = self._shadows.get(parcel.served.handle)
        if handle is None:
            return
        if self._pool.spare + len(parcel.rows) > MOST_WAITING:
            self._compared(parcel, [None] * len(parcel.replies), skipped=len(parcel.replies))
            return
        try:
            shadow = Parcel.read(
                parcel.rows, id=0, request=0, served=self.models[handle], ask=parcel.ask, first=parcel.first,
                deadline=math.inf, checked=True,
            )  # fmt: skip
        except Exception:  # columns are the same, so that it is this shadow that cannot read them
            self._compared(parcel, [None] * len(parcel.replies), skipped=len(parcel.replies))
            return
        shadow.twin, parcel.rows = parcel, ()
        if pieces := shadow.hand_over():
            self._pool.add_spare(pieces)
        else:
            self._compared(parcel, shadow.replies)

    def _compared(self, parcel: Parcel, replies: Sequence[Any], *, skipped: int = 0) -> None:
        targets = compare(parcel.replies, replies)
        self.send({"compared": {"handle": parcel.served.handle, "targets": targets, "skipped": skipped}})

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

    def warned(self, message: Warning | str, *_: Any) -> None:
        """In place of ``warnings.showwarning``: for the service's log."""
        self.send({"warned": str(message)})

    def _load(self, message: dict[str, Any]) -> None:
        try:
            info = self.models.load(message["handle"], Path(message["folder"]), runtime=message["runtime"])
        except Exception as fault:
            self.send({"id": message["id"], "failed": failure(fault, said="the model cannot be loaded")})
            return
        example = self._codec.pack(info.pop("example"), 1)
        self.send({"id": message["id"], "loaded": info}, example)

    def _do_slow_work(self) -> None:
        while True:
            self._slow.get()()


def failure(fault: Exception, *, said: str = "the request failed within the model") -> dict[str, Any]:
    """An error as a message; of one that was not raised on purpose nothing but its kind."""
    if isinstance(fault, PolydetrError):
        column = fault.location.column if fault.location else None
        return {"kind": type(fault).__name__, "message": fault.message, "hint": fault.hint, "column": column}
    return {"kind": "", "message": f"{said} ({type(fault).__name__}).", "hint": None}


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
    sys.setswitchinterval(_SWITCH_S)
    warnings.simplefilter("ignore")  # they quote rows, and rows are the callers'
    warnings.simplefilter("always", OptimizedWarning)  # of a model's folder alone
    sock = socket.socket(fileno=descriptor)
    try:
        hello, _ = frames.receive(sock)
        worker = Worker(sock, budget=hello["budget"], mark=hello["mark"])
        warnings.showwarning = worker.warned
        worker.serve()
    except (frames.Closed, OSError):
        pass
    finally:
        os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
