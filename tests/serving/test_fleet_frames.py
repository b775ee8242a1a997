"""Messages between the processes of a service."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polydetr.errors import RowError
from polydetr.serving.frames import Closed, RowCodec, pack, read, receive

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=50),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@given(row=st.dictionaries(st.text(max_size=9), VALUES, max_size=5))
def test_rows_come_back_as_they_were_sent(row: dict[str, Any]) -> None:
    codec = RowCodec()
    packed = codec.pack(row, 1)
    assert codec.unpack(packed[0], packed[1:]) == row
    assert list(codec.rows([len(packed) - 1] * 2, packed * 2)) == [row, row]


def test_no_caller_can_write_what_stands_for_an_image() -> None:
    codec, other = RowCodec(), RowCodec()
    assert codec.mark != other.mark
    row = {"photo": {other.mark: 0, "bytes 0": 0}, "second": b"png"}
    packed = codec.pack(row, 1)
    assert packed[1:] == [b"png"]
    assert codec.unpack(packed[0], packed[1:]) == row


def test_values_of_files_with_types_become_json() -> None:
    codec = RowCodec()
    row = {"day": dt.date(2024, 1, 31), "n": np.float32(0.5), "list": np.arange(3)}
    assert codec.unpack(codec.pack(row, 1)[0], []) == {"day": "2024-01-31", "n": 0.5, "list": [0, 1, 2]}


@pytest.mark.parametrize("value", [object(), 1j, {1, 2}, {("a",): 1}])
def test_what_is_no_json_is_an_error_of_the_row(value: Any) -> None:
    with pytest.raises(RowError) as error:
        RowCodec().pack({"x": value}, 7)
    assert error.value.location is not None
    assert error.value.location.row == 7


def test_messages_of_any_size_arrive_whole() -> None:
    sent = [({"n": i, "text": "\ud800é" * i}, [b"", b"x" * (i * 100_000)]) for i in range(5)]
    ours, theirs = socket.socketpair()

    def send() -> None:
        for message, parts in sent:
            ours.sendall(pack(message, parts))
        ours.close()

    thread = threading.Thread(target=send)
    thread.start()
    with theirs:
        for message, parts in sent:
            assert receive(theirs) == (message, parts)
        with pytest.raises(Closed):
            receive(theirs)
    thread.join()


def test_the_event_loop_reads_the_same_messages() -> None:
    async def run() -> None:
        stream = asyncio.StreamReader()
        stream.feed_data(pack({"a": 1}, [b"part", b""]) + pack({"b": None})[:-1])
        stream.feed_eof()
        assert await read(stream) == ({"a": 1}, [b"part", b""])
        with pytest.raises(Closed):
            await read(stream)

    asyncio.run(run())
