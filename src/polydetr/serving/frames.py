"""Messages between the front process and the model processes: JSON, and beside it parts of raw bytes.

    u32 length of the JSON, u32 number of parts, u64 length of each part, the JSON, the parts

Nothing is unpickled: what a caller sent is JSON or bytes on both sides. Lengths are those of this program's own
processes; what a caller may send is bounded before (``waiting.Waiting``).
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from polydetr.data.readers.shapes import check_values
from polydetr.errors import Location, RowError, row_fault

_HEAD = struct.Struct(">II")
_LENGTH = struct.Struct(">Q")
Message = dict[str, Any]


class Closed(Exception):
    """The other side is gone."""


def pack(message: Mapping[str, Any], parts: Sequence[bytes] = ()) -> bytes:
    text = json.dumps(message).encode()
    lengths = b"".join(_LENGTH.pack(len(part)) for part in parts)
    return b"".join((_HEAD.pack(len(text), len(parts)), lengths, text, *parts))


def receive(sock: socket.socket) -> tuple[Message, list[bytes]]:
    """The next message; blocks. Raises Closed."""
    size, count = _HEAD.unpack(_exactly(sock, _HEAD.size))
    lengths = [n for (n,) in _LENGTH.iter_unpack(_exactly(sock, _LENGTH.size * count))]
    text = _exactly(sock, size)
    return json.loads(text), [bytes(_exactly(sock, length)) for length in lengths]


async def read(stream: asyncio.StreamReader) -> tuple[Message, list[bytes]]:
    """The same for the event loop. Raises Closed."""
    try:
        size, count = _HEAD.unpack(await stream.readexactly(_HEAD.size))
        lengths = [n for (n,) in _LENGTH.iter_unpack(await stream.readexactly(_LENGTH.size * count))]
        text = await stream.readexactly(size)
        return json.loads(text), [await stream.readexactly(length) for length in lengths]
    except (asyncio.IncompleteReadError, OSError) as error:
        raise Closed from error


def _exactly(sock: socket.socket, size: int) -> bytearray:
    buffer = bytearray(size)
    view, have = memoryview(buffer), 0
    while have < size:
        try:
            got = sock.recv_into(view[have:])
        except InterruptedError:
            continue
        except OSError as error:
            raise Closed from error
        if not got:
            raise Closed
        have += got
    return buffer


# -- rows -------------------------------------------------------------------------------------------------------------


class RowCodec:
    """Rows as JSON with their bytes beside it. In the JSON an image stands as ``{mark: its number}``; the mark is drawn
    at random by the front process, so that no caller can write one.
    """

    def __init__(self, mark: str | None = None) -> None:
        self.mark = mark or f"bytes {secrets.token_hex(12)}"

    def pack(self, row: Any, number: int) -> list[bytes]:
        """The JSON of a row, and each of its images. number: of the row, for the error.

        Raises:
            RowError: it cannot be written as JSON.
        """
        images: list[bytes] = []

        def other(value: Any) -> Any:
            if isinstance(value, bytes | bytearray | memoryview):
                images.append(bytes(value))
                return {self.mark: len(images) - 1}
            if hasattr(value, "isoformat"):  # dates, of files with types
                return value.isoformat()
            if hasattr(value, "tolist"):
                return value.tolist()
            raise TypeError(f"{type(value).__name__} is no value of JSON")

        try:
            return [json.dumps(row, default=other).encode(), *images]
        except Exception as error:
            where = Location(row=number)
            try:
                check_values(row if isinstance(row, Mapping) else {"": row})
            except RowError as fault:
                raise fault.at(where) from None
            raise row_fault(error, where) from None

    def unpack(self, text: bytes, images: Sequence[bytes]) -> Any:
        """The inverse of ``pack``."""
        if not images:
            return json.loads(text)

        def restored(value: dict[str, Any]) -> Any:
            return images[value[self.mark]] if self.mark in value else value

        return json.loads(text, object_hook=restored)

    def rows(self, counts: Sequence[int], parts: Sequence[bytes]) -> Iterator[Any]:
        """The rows of a message; counts: of the images of each."""
        begin = 0
        for count in counts:
            yield self.unpack(parts[begin], parts[begin + 1 : begin + 1 + count])
            begin += 1 + count
